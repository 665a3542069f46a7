"""How fast charrnn is on this machine, against PyTorch and plain NumPy, side by side.

    python bench/speed.py                                    everything, as tables
    python bench/speed.py --torch-python ~/torch/bin/python  PyTorch from another environment
    python bench/speed.py --only sampling,start              some of it
    python bench/speed.py --json speed.json --write          also as JSON, and into docs/figures.md

See bench/README.md for what the figures mean.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

import machine
from measure import Comparison, Unavailable
from report import BlockError, Table, narrator, page_with_block, require_same
from sections import SECTIONS, Bench
from tables import TABLES

PAGE = Path(__file__).parent.parent / "docs" / "figures.md"
BUSY = 0.5  # processes on average; PyTorch's threads, which wait for each other, suffer most
Results = dict[str, Any]  # "machine", "versions", "command", and by section a list of comparisons


def main(argv: list[str]) -> None:
    """The command line; see --help."""
    a = _parser().parse_args(argv)
    unknown = set(a.only) - set(SECTIONS)
    if unknown:
        sys.exit(f"--only: there is no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    results: Results = json.loads(a.read.read_text(encoding="utf-8")) if a.read else {}
    wanted = a.only or ([] if a.read else list(SECTIONS))
    if a.write:  # better now than after half an hour
        _page(a, "")
        if absent := set(SECTIONS) - set(wanted) - set(results):
            sys.exit(f"--write needs every section: {', '.join(sorted(absent))} too, from --read or measured")
    if wanted:
        _measure(a, wanted, results)
    for table in tables(results):
        print(f"\n{table.plain()}")
    for line in missing(results):
        print(line, file=sys.stderr)
    if a.write:
        a.page.write_text(_page(a, block(results)), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", nargs="?", type=Path, help="a text to train on [random characters]")
    parser.add_argument(
        "--torch-python", default=sys.executable, metavar="PATH", help="an interpreter with PyTorch"
    )
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=[],
        metavar="SECTION,...",
        help=", ".join(SECTIONS),
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement [2]")
    parser.add_argument("--rounds", type=int, default=5, help="in which all sides take turns [5]")
    parser.add_argument("--megabytes", type=int, default=500, help="of the text that shows the memory [500]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measured value")
    parser.add_argument(
        "--read", type=Path, metavar="FILE", help="begin with what --json wrote; only --only is measured"
    )
    parser.add_argument("--write", action="store_true", help="write the tables into docs/figures.md")
    parser.add_argument("--page", type=Path, default=PAGE, help=argparse.SUPPRESS)
    return parser


def _measure(a: argparse.Namespace, wanted: list[str], results: Results) -> None:
    """Measure sections into `results`, and write the JSON file after each."""
    say, here = narrator(), machine.describe()
    if results:
        require_same(a.read, results["machine"], here)
    with tempfile.TemporaryDirectory(prefix="charrnn-bench-") as folder:
        corpus = a.corpus and a.corpus.resolve()
        bench = Bench(Path(folder), a.seconds, a.rounds, a.megabytes, corpus, a.torch_python, say)
        try:
            bench.look()
            if (load := machine.load()) > BUSY:
                say(f"the machine is busy (load {load:.1f}); its figures will mean little")
            if not bench.torch:
                say(f"without PyTorch: {bench.torch_missing}")
            results |= {
                "machine": here,
                "versions": {**bench.ours["versions"], **({"PyTorch": bench.torch} if bench.torch else {})},
                "rounds": a.rounds,
                "command": command(a),
            }
            for name in wanted:
                results[name] = [row.to_dict() for row in SECTIONS[name](bench)]
                if a.json:
                    a.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        except Unavailable as reason:
            sys.exit(f"{reason}\n(charrnn is measured where it is installed: pip install -e .)")
        say("done")


def command(a: argparse.Namespace) -> str:
    """The command as others would give it: without this machine's paths."""
    parts = ["python", "bench/speed.py"]
    if a.corpus:
        parts.append(a.corpus.name)
    if a.torch_python != sys.executable:
        parts += ["--torch-python", "PATH"]
    for name in ("seconds", "rounds", "megabytes"):
        if getattr(a, name) != _parser().get_default(name):
            parts += [f"--{name}", f"{getattr(a, name):g}"]
    return shlex.join(parts)


def tables(results: Results) -> list[Table]:
    """The table of each section that was measured."""
    return [
        TABLES[name]([Comparison(**row) for row in results[name]]) for name in SECTIONS if name in results
    ]


def missing(results: Results) -> list[str]:
    """A line for each side that could not be measured."""
    return [
        f"{row['what']}: no {side}: {reason}"
        for name in SECTIONS
        for row in results.get(name, [])
        for side, reason in row["missing"].items()
    ]


def block(results: Results) -> str:
    """What docs/figures.md shows: the tables, and on what machine they were measured."""
    versions = [f"{name} {version}" for name, version in results["versions"].items() if name != "charrnn"]
    about = ", ".join([*results["machine"].values(), *versions])
    rounds = f"medians; rounds in which the sides took turns: {results['rounds']}"
    head = f"Measured on {about}: {rounds}.\nCommand: `{results['command']}`."
    return "\n\n".join([head, *(table.markdown() for table in tables(results))])


def _page(a: argparse.Namespace, text: str) -> str:
    try:
        return page_with_block(a.page, "speed", text)
    except BlockError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
