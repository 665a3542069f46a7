"""Networks beside the same ones in PyTorch, which take turns: for reading_speed.py and writing_speed.py."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import machine
from measure import Comparison, Workers, compare, facts, python
from report import Table, page_with_block
from serve import CLOCK

PAGE = Path(__file__).parent.parent / "docs" / "figures.md"
CHARRNN, TORCH, TORCH_MALLOC = "charrnn", "PyTorch", "PyTorch, malloc"


class Suite(NamedTuple):
    """Kinds of networks, what is measured of each, and the scripts that serve it."""

    about: str
    script: str  # of charrnn's side: serve KIND MODE
    peer: str  # of PyTorch's: KIND MODE SIZES, or facts
    kinds: tuple[str, ...]
    modes: tuple[str, ...]
    sizes: dict[str, int]
    block: str  # of docs/figures.md
    serve: Callable[[str, str], None]  # charrnn's side of a kind and mode, as a measured process


def main(argv: list[str], suite: Suite) -> None:
    """The command line; see --help."""
    if argv[:1] == ["serve"]:
        suite.serve(argv[1], argv[2])
        return
    parser = argparse.ArgumentParser(
        description=suite.about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch-python", default=sys.executable, metavar="PATH")
    parser.add_argument("--only", nargs="+", choices=suite.kinds, default=suite.kinds)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement [2]")
    parser.add_argument("--rounds", type=int, default=5, help="in which all sides take turns [5]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measured value")
    parser.add_argument("--write", action="store_true", help="write the table into docs/figures.md")
    a = parser.parse_args(argv)
    rows = [measured(kind, mode, suite, a) for kind in a.only for mode in suite.modes]
    shown = table(rows)
    print(shown.plain())
    if a.json:
        a.json.write_text(json.dumps([row.to_dict() for row in rows], indent=1) + "\n", encoding="utf-8")
    if a.write:
        version = facts(python(a.torch_python, suite.peer, "facts"), machine.environment())
        about = ", ".join([*machine.describe().values(), f"PyTorch {version['version']}"])
        clock = ", by CPU time" * (CLOCK is time.process_time)
        head = f"Measured on {about}{clock}; CPUs: {machine.threads()}; load before: {machine.load():.1f}."
        page = page_with_block(PAGE, suite.block, f"{head}\n\n{shown.markdown()}")
        PAGE.write_text(page, encoding="utf-8")


def measured(kind: str, mode: str, suite: Suite, a: argparse.Namespace) -> Comparison:
    """All sides of a kind, in turns."""
    environment, given = machine.environment(), json.dumps(suite.sizes)
    theirs = python(a.torch_python, suite.peer, kind, mode, given)
    commands = {
        CHARRNN: (python(sys.executable, suite.script, "serve", kind, mode), environment),
        TORCH: (theirs, environment),
        TORCH_MALLOC: (theirs, {**environment, **machine.MALLOC}),
    }
    with ExitStack() as stack:
        workers = Workers(stack, a.seconds)
        for name, (command, variables) in commands.items():
            workers.add(name, command, variables)
        for name, reason in workers.missing.items():
            print(f"{kind}, {mode}: no {name}: {reason}", file=sys.stderr)
        return compare(f"{kind}, {mode}", "characters/s", workers.sides, a.rounds)


def table(rows: list[Comparison]) -> Table:
    """A row for each kind and mode."""
    shown = []
    for row in rows:
        values = [row.value(name) for name in (CHARRNN, TORCH, TORCH_MALLOC)]
        ratios = [row.ratio(CHARRNN, name) for name in (TORCH, TORCH_MALLOC)]
        known = [ratio for ratio in ratios if ratio is not None]
        figures = ("" if value is None else f"{value:,.0f}" for value in values)
        shown.append((row.what, *figures, f"{min(known):.2f} x" if known else ""))
    header = ("characters a second", CHARRNN, TORCH, TORCH_MALLOC, "charrnn : PyTorch")
    return Table(header, tuple(shown))
