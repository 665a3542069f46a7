"""Records against the work-around: the same text as prose, with its separators as ordinary characters.

    python bench/records.py fortunes.txt --split % --minutes 1 --seeds 1,2,3
    python bench/records.py tunes.abc --split blank --samples 1000

For each seed, a tenth of the records is held out, the same for both. Prints the loss of a held-out record in
nats, its end included: of the prose model, all that it pays for a record's characters and the separator after
them. With --samples, the records model writes so many; those are whole that end by themselves.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

HELD_OUT = 0.1
SEPARATORS = {"blank": (r"\n(?:[ \t]*\n)+", "\n\n"), "nul": (r"\0", "\0")}


def charrnn(*arguments: str | Path) -> str:
    """What a command of charrnn prints."""
    command = [sys.executable, "-m", "charrnn", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def cut(text: str, split: str) -> tuple[list[str], str]:
    """The records of a text, and what stands between them."""
    pattern, separator = SEPARATORS.get(split, (rf"(?m)^{re.escape(split)}\n", f"{split}\n"))
    records = [record.strip("\n") for record in re.split(pattern, text)]
    end = "" if split in SEPARATORS else "\n"
    return [record + end for record in records if record], separator


def loss_of_a_record(model: Path, text: Path, records: int) -> float:
    """Nats."""
    found = json.loads(charrnn("eval", model, text, "--json"))
    return float(found["loss"] * found["characters"] / records)


def main() -> None:
    """The command line; see --help."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path)
    parser.add_argument("--split", required=True)
    parser.add_argument("--minutes", default="1")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--samples", type=int, default=0)
    a = parser.parse_args()
    records, separator = cut(a.text.read_text(encoding="utf-8"), a.split)
    print(
        f"{len(records):,} records, {a.minutes} minutes\n\n| seed | as records | as prose |\n|---:|---:|---:|"
    )
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in a.seeds.split(","):
            shuffled = records[:]
            random.Random(int(seed)).shuffle(shuffled)
            count = max(1, round(HELD_OUT * len(records)))
            held_out, training = folder / "held-out.txt", folder / "training.txt"
            held_out.write_text(separator.join(shuffled[:count]) + separator, encoding="utf-8")
            training.write_text(separator.join(shuffled[count:]) + separator, encoding="utf-8")
            row = []
            for kind, options in (("records", ["--split", a.split]), ("prose", [])):
                model = folder / f"{kind}.safetensors"
                budget = "--minutes", a.minutes, "--seed", seed, "--val", held_out, "--force", "-o", model
                charrnn("train", training, *options, *budget)
                row.append(loss_of_a_record(model, held_out, count))
            rows.append(row)
            print(f"| {seed} | {row[0]:.1f} | {row[1]:.1f} |", flush=True)
        print(f"| median | {median(r for r, _ in rows):.1f} | {median(p for _, p in rows):.1f} |")
        if a.samples:
            written = charrnn(
                "sample", "-m", folder / "records.safetensors", "--count", str(a.samples), "--json"
            )
            texts = [json.loads(line) for line in written.splitlines()]
            whole = sum(not text.get("cut") for text in texts)
            print(f"\n{whole:,} of {len(texts):,} samples are whole records")


if __name__ == "__main__":
    main()
