"""Real texts of many records, for trying out: fortunes, tunes, commit messages and given names.

    python bench/real_texts.py texts/                 # fortunes.txt, tunes.abc, names.tsv, commits.nul
    charrnn train texts/fortunes.txt --split %
    charrnn train texts/tunes.abc --split blank
    charrnn train texts/commits.nul --split nul
    charrnn train texts/names.tsv --labels

Downloads, once, Debian's packages fortunes and fortunes-min (with apt-get and dpkg-deb), and PyPI's music21
and names (with pip); the commit messages are this repository's. What cannot be had is said and left out.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from packages import debian_package, pip_package, run

REPOSITORY = Path(__file__).parents[1]


def fortunes(folder: Path) -> str:
    """Sayings, separated by lines of "%"; those with control characters are drawings and left out."""
    parts = []
    for package in ("fortunes-min", "fortunes"):
        archive = debian_package(folder, package)
        run("dpkg-deb", "-x", archive, folder / "fortunes")
    for path in sorted((folder / "fortunes").glob("usr/share/games/fortunes/*")):
        if not path.suffix and "art" not in path.name:
            text = path.read_text(encoding="utf-8", errors="replace")
            parts += re.split(r"^%\n", text, flags=re.MULTILINE)
    kept = [part for part in parts if part.strip() and not re.search(r"[\x00-\x08\x0b-\x1f\ufffd]", part)]
    return "%\n".join(kept)


def tunes(folder: Path) -> str:
    """Tunes in ABC notation, separated by empty lines."""
    found = []
    with zipfile.ZipFile(pip_package(folder, "music21")) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".abc"):
                text = archive.read(name).decode("utf-8", "replace").replace("\r\n", "\n")
                tunes = re.split(r"\n\s*\n", text)
                found += [tune.strip("\n") for tune in tunes if re.search(r"^X:", tune, re.MULTILINE)]
    return "\n\n".join(found) + "\n"


def names(folder: Path) -> str:
    """Given names with their sex as label; a name that both have stands there twice."""
    rows = []
    with tarfile.open(pip_package(folder, "names")) as archive:
        for sex in ("female", "male"):
            member = next(m for m in archive.getmembers() if m.name.endswith(f"dist.{sex}.first"))
            file = archive.extractfile(member)
            assert file is not None
            rows += [f"{sex}\t{line.split()[0].decode().capitalize()}" for line in file]
    return "\n".join(rows) + "\n"


def commits(folder: Path) -> str:
    """This repository's commit messages, separated by NUL."""
    return run("git", "-C", REPOSITORY, "log", "-z", "--format=%B").decode()


TEXTS: dict[str, Callable[[Path], str]] = {
    "fortunes.txt": fortunes,
    "tunes.abc": tunes,
    "names.tsv": names,
    "commits.nul": commits,
}


def main() -> None:
    """Write the texts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    (folder / "downloads").mkdir(parents=True, exist_ok=True)
    for name, make in TEXTS.items():
        try:
            text = make(folder / "downloads")
        except (OSError, StopIteration, subprocess.CalledProcessError) as error:
            print(f"{name}: left out ({type(error).__name__}: {error})", file=sys.stderr)
            continue
        (folder / name).write_text(text, encoding="utf-8")
        print(f"{name}: {len(text):,} characters")


if __name__ == "__main__":
    main()
