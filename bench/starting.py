"""What the counts of a model bring to a text that is learned from it with --init-from.

    python bench/starting.py tinyshakespeare.txt:0:500000 tinyshakespeare.txt:500000:80000
    python bench/starting.py stdlib:0:800000 tinyshakespeare.txt:500000:80000

A text is FILE[:SKIP:CHARACTERS], stdlib or gettext-LANGUAGE. A model learns the first one. Of the second, one
half is learned from that model and the other half judged: with the model's counts, without them, and with no
counts at all.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import texts
from measure import Unavailable
from report import Table


def text_of(spec: str) -> str:
    """The text that a specification names."""
    name, *numbers = spec.split(":")
    with tempfile.TemporaryDirectory() as folder:
        try:
            text = texts.find(name, Path(folder)).path.read_text(encoding="utf-8")
        except Unavailable as reason:
            sys.exit(str(reason))
    skip, count = map(int, numbers) if numbers else (0, len(text))
    return text[skip : skip + count]


def learn(folder: Path, name: str, text: str, **settings: Any) -> Any:
    """Train a model; its best evaluation."""
    from charrnn import api
    from charrnn.events import Evaluated

    path = folder / f"{name}.txt"
    path.write_text(text, encoding="utf-8")
    events = api.train(path, out=folder / f"{name}.safetensors", val_split="end", force=True, **settings)
    return min((e for e in events if isinstance(e, Evaluated)), key=lambda e: e.val_loss)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", metavar="TEXT", help="which the model has learned")
    parser.add_argument("new", metavar="TEXT", help="which is learned from it")
    parser.add_argument("--steps", type=int, default=800, help="of the model, of 2 x 128 [%(default)s]")
    parser.add_argument("--epochs", type=float, default=8, help="of the second text [%(default)s]")
    parser.add_argument("--threads", type=int, help="[as many as there are CPUs]")
    a = parser.parse_args()
    from charrnn import api
    from charrnn.checkpoint.model_file import save

    with tempfile.TemporaryDirectory() as name:
        folder, how = Path(name), {"threads": a.threads}
        size = {"hidden_size": 128, "num_layers": 2, "from_scratch": True}
        learn(folder, "old", text_of(a.old), steps=a.steps, **size, **how)
        old, new, rows = folder / "old.safetensors", text_of(a.new), []
        save(replace(api.load(old), counts=None), folder / "bare.safetensors")
        how |= {"epochs": a.epochs, "val_fraction": 0.5}
        for what, start, more in (
            ("of both texts", old, {}),
            ("of the second", folder / "bare.safetensors", {}),
            ("none", old, {"counts": 0}),
        ):
            found = learn(folder, "new", new, init_from=start, **how, **more)
            gated = api.load(folder / "new.safetensors").counts
            megabytes = gated.counts.nbytes / 1e6 if gated else 0.0
            merged = "merged" if gated and gated.counts.is_merged else ""
            rows.append((what, f"{found.val_loss:.3f}", f"{megabytes:.1f}", merged))
    print(Table(("counts", "nats", "MB", ""), tuple(rows)).plain())


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
