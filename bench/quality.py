"""What a recipe makes of a text in a given time: loss over time, beside PyTorch's best under the same clock.

Beside both are counts alone (modified Kneser-Ney), and PPMd where there is 7-Zip; they take a second.

    python bench/quality.py shakespeare.txt --minutes 1,3,10 --torch-python ~/torch/bin/python
    python bench/quality.py tiny=shakespeare.txt:first=20000 names.txt:lines stdlib gettext-ru
    python bench/quality.py a.txt --recipe 'default:' --recipe 'wide: --hidden-size 384' --seeds 1,2,3
    python bench/quality.py a.txt --steps 2000 --recipe 'x: --clip 1' --recipe 'y: --clip 0.25' --no-torch
    python bench/quality.py a.txt again=a.txt:earlier              judged by another tenth, too
    python bench/quality.py a.txt --json q.json --read q.json      goes on where it was interrupted
    python bench/quality.py --read q.json --write --curves docs/quality.svg    shows what was measured

A recipe is 'NAME: --option value ...': options of `charrnn train`, or of peer_torch_quality.py after --torch.
See bench/README.md for how texts are named and what the figures mean.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import learned
import machine
import recipes
import texts
from compress import seven_zip
from curves_figure import draw, require
from learning import Learner
from measure import Unavailable
from report import BlockError, narrator, page_with_block, require_same
from speed import BUSY, PAGE

Results = dict[str, Any]  # "machine", "versions", "commands" and "runs", each as learned.Run


def main(argv: list[str]) -> None:
    """The command line; see --help."""
    a = _parser().parse_args(argv)
    try:
        compared = [recipes.parse(text, "charrnn") for text in a.recipe or ["charrnn:"]]
        if not a.no_torch:
            compared += [recipes.parse(text, "PyTorch") for text in a.torch or ["PyTorch:"]]
        if not a.no_counting:
            compared += recipes.COUNTING
        if a.write:
            page_with_block(a.page, "quality", "")  # better now than after some hours
    except (recipes.RecipeError, BlockError) as error:
        sys.exit(str(error))
    if len({recipe.name for recipe in compared}) < len(compared):
        sys.exit("two recipes have the same name")
    if a.curves:
        require()
    results = _read(a)
    if a.texts:
        _measure(a, compared, results)
    elif not results:
        sys.exit("name texts to learn, or give --read")
    runs = [learned.Run(**run) for run in results["runs"]]
    for table in [learned.final(runs), *learned.over_time(runs)]:
        print(f"\n{table.plain()}")
    for line in learned.failed(runs):
        print(line, file=sys.stderr)
    if a.curves:
        draw(runs, ", ".join(results["machine"].values()), a.curves)
    if a.write:
        a.page.write_text(page_with_block(a.page, "quality", block(results)), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="[NAME=]FILE[:lines][:first=N][:earlier]")
    parser.add_argument("--recipe", action="append", metavar="RECIPE", help="of charrnn [its defaults]")
    parser.add_argument("--torch", action="append", metavar="RECIPE", help="of PyTorch [its best]")
    parser.add_argument("--no-torch", action="store_true", help="without PyTorch")
    parser.add_argument("--no-counting", action="store_true", help="without Kneser-Ney and PPMd")
    parser.add_argument(
        "--torch-python", default=sys.executable, metavar="PATH", help="an interpreter with PyTorch"
    )
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=_numbers(float), metavar="M,...", help="of each command [1]")
    budget.add_argument("--steps", type=_numbers(int), metavar="N,...", help="of each run, instead")
    parser.add_argument("--seeds", type=_numbers(int), default=[1], metavar="N,...", help="[1]")
    parser.add_argument("--val-fraction", type=float, default=0.1, help="of each text [0.1]")
    parser.add_argument(
        "--cached",
        action="store_true",
        help="keep compiled kernels from run to run; else each compiles its own",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured, after every run")
    parser.add_argument(
        "--read",
        type=Path,
        metavar="FILE",
        help="begin with what --json wrote, and measure what is not in it",
    )
    parser.add_argument("--write", action="store_true", help="write the table into docs/figures.md")
    parser.add_argument("--curves", type=Path, metavar="FILE", help="draw loss over time, .svg or .png")
    parser.add_argument("--page", type=Path, default=PAGE, help=argparse.SUPPRESS)
    return parser


def _numbers(kind: type[float] | type[int]) -> Any:
    def numbers(text: str) -> list[Any]:
        return [kind(part) for part in text.split(",")]

    return numbers


def _read(a: argparse.Namespace) -> Results:
    """What --read names; nothing where the same command is about to write it for the first time."""
    if a.read is None or (a.read == a.json and not a.read.exists()):
        return {}
    try:
        results: Results = json.loads(a.read.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        sys.exit(f"{a.read}: {error}")
    return results


def budgets(a: argparse.Namespace) -> list[dict[str, float]]:
    """One for each number that was given: {"minutes": 3.0} or {"steps": 2000}."""
    if a.steps:
        return [{"steps": steps} for steps in a.steps]
    return [{"minutes": minutes} for minutes in a.minutes or [1.0]]


def _measure(a: argparse.Namespace, compared: list[recipes.Recipe], results: Results) -> None:
    """Every recipe on every text, in turns, into `results`; the JSON file is written after each run."""
    say, here = narrator(), machine.describe()
    if results:
        require_same(a.read, results["machine"], here)
    with tempfile.TemporaryDirectory(prefix="charrnn-bench-") as name:
        folder = Path(name)
        learner = Learner(folder, a.torch_python, a.cached)
        try:
            learner.look()
            found = [texts.find(spec, folder, a.val_fraction) for spec in a.texts]
        except Unavailable as reason:
            sys.exit(str(reason))
        if len({text.name for text in found}) < len(found):
            sys.exit("two texts have the same name: give NAME=FILE")
        if any(recipe.side == "PyTorch" for recipe in compared) and not learner.torch:
            say(f"without PyTorch: {learner.torch_missing}")
            compared = [recipe for recipe in compared if recipe.side != "PyTorch"]
        if any(recipe.side == "PPMd" for recipe in compared) and not seven_zip():
            say("without PPMd: no 7-Zip (7zz, 7z or 7za) is installed")
            compared = [recipe for recipe in compared if recipe.side != "PPMd"]
        if (load := machine.load()) > BUSY:
            say(f"the machine is busy (load {load:.1f}); what is learnt under a clock will mean little")
        runs: list[dict[str, Any]] = results.get("runs", [])
        commands = list(dict.fromkeys([*results.get("commands", []), command(a)]))
        results |= {"machine": here, "versions": learner.versions, "commands": commands, "runs": runs}
        known = {learned.Run(**run).key for run in runs if run["loss"] is not None}
        for budget in budgets(a):
            for seed in a.seeds:
                for text in found:
                    for recipe in compared:  # side by side in time: what disturbs one disturbs all
                        run = learned.Run(
                            text={k: v for k, v in asdict(text).items() if k != "path"},
                            side=recipe.side, recipe=recipe.name, options=list(recipe.options),
                            budget=budget, seed=seed,
                        )  # fmt: skip
                        if run.key in known:
                            continue
                        learner.learn(run, text, recipe)
                        say(f"{run.what}, seed {seed}: {recipe.name} {run.outcome}")
                        runs[:] = [other for other in runs if learned.Run(**other).key != run.key]
                        runs.append(asdict(run))
                        if a.json:
                            _save(a.json, results)


def _save(path: Path, results: Results) -> None:
    """All of it or nothing: an interrupted session keeps what it had."""
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    new.replace(path)


def command(a: argparse.Namespace) -> str:
    """The command as others would give it: without this machine's paths."""
    parts = ["python", "bench/quality.py", *(str(texts.parse(spec)) for spec in a.texts)]
    for name in ("minutes", "steps", "seeds"):
        values = getattr(a, name)
        if values and values != _parser().get_default(name):
            parts += [f"--{name}", ",".join(f"{value:g}" for value in values)]
    for name in ("recipe", "torch"):
        for text in getattr(a, name) or []:
            parts += [f"--{name}", text]
    if a.no_counting:
        parts.append("--no-counting")
    if a.no_torch:
        parts.append("--no-torch")
    elif a.torch_python != sys.executable:
        parts += ["--torch-python", "PATH"]
    if a.cached:
        parts.append("--cached")
    return shlex.join(parts)


def block(results: Results) -> str:
    """What docs/figures.md shows: the losses at the end, and on what machine they were measured."""
    versions = [f"{name} {version}" for name, version in results["versions"].items() if name != "charrnn"]
    about = ", ".join([*results["machine"].values(), *versions])
    table = learned.final([learned.Run(**run) for run in results["runs"]])
    commands = "\n".join(results["commands"])
    return f"Measured on {about}:\n\n```sh\n{commands}\n```\n\n{table.markdown()}"


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
