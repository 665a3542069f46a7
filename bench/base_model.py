"""The base model of English, of prose out of Debian's packages: the King James Bible, the World English
Bible, the novels of Jane Austen, and the Devil's Dictionary.

    python bench/base_model.py CACHE checkpoints/english.safetensors

All are in the public domain, as the copyright files of the packages say. Packages are downloaded once into
CACHE. Quotes and dashes are those of ASCII. Verses and paragraphs of the Bibles have a line
each; the other lines are broken as printed.
"""

from __future__ import annotations

import gzip
import html
import itertools
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import packages

FEWEST_LINES = 1000  # of a novel
ASCII = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "—": "--", "–": "-", "\u00a0": " "})


def king_james(archive: Path) -> Iterator[str]:
    """A verse a line. The file has windows of text, each compressed by Unix `compress` without its header."""
    data = _member(archive, "bible.data")
    (count,) = struct.unpack_from(">I", data, 0x58)
    bounds = struct.unpack_from(f">{count + 1}I", data, 0x5C)
    text = b"".join(
        subprocess.run(
            ["gzip", "-dc"],
            input=b"\x1f\x9d\x90" + data[low:high],
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
        for low, high in itertools.pairwise(bounds)
    )
    for line in text.decode("latin-1").splitlines():
        if found := re.match(r"\w+?\d+:\d+ (.+)", line):
            yield re.sub(r"[\[\]{}]", "", found[1])


def world_english(archive: Path) -> Iterator[str]:
    """A paragraph a line, of the SWORD module's books, which are OSIS compressed by zlib."""
    files = {path.rsplit("/", 1)[-1]: content for path, content in packages.members(archive)}
    for part in "ot", "nt":
        for start, size, _ in struct.iter_unpack("<III", files[f"{part}.bzs"]):
            book = zlib.decompress(files[f"{part}.bzz"][start : start + size]).decode()
            book = re.sub(r"(?s)<note.*?</note>|<title.*?</title>", "", book)
            for paragraph in re.split(r"<(?:div|l|lg|chapter)\b[^>]*>", book):
                yield html.unescape(re.sub(r"<[^>]*>", "", paragraph))


def novels(archive: Path) -> Iterator[str]:
    """The lines of the novels, which are R's vectors of strings, each serialised and compressed by zlib."""
    data = _member(archive, "Rdata.rdb")
    for found in re.finditer(rb"x[\x01\x5e\x9c\xda]", data):
        try:
            vector = zlib.decompressobj().decompress(data[found.start() :])
        except zlib.error:
            continue  # not where one begins
        if vector.startswith(b"X\n") and len(lines := list(_strings(vector))) > FEWEST_LINES:
            yield from lines


def _strings(vector: bytes) -> Iterator[str]:
    """The character strings of a serialised vector (XDR): each has flags of type 9, its length, its bytes."""
    at = 14
    while at + 8 <= len(vector):
        flags, size = struct.unpack_from(">Ii", vector, at)
        at += 8
        if flags & 0xFF == 9:
            yield vector[at : at + max(size, 0)].decode("utf-8", "replace")
            at += max(size, 0)


def devils_dictionary(archive: Path) -> Iterator[str]:
    """The lines of the definitions."""
    text = gzip.decompress(_member(archive, "devil.dict.dz")).decode("latin-1")
    yield from text[text.index("ABASEMENT, n.") :].splitlines()


def _member(archive: Path, name: str) -> bytes:
    return next(content for path, content in packages.members(archive) if path.endswith(name))


SOURCES = {
    "bible-kjv-text": king_james,
    "sword-text-web": world_english,
    "r-cran-janeaustenr": novels,
    "dict-devil": devils_dictionary,
}


# Three quarters of the text once: 25 minutes of one core of an AMD EPYC (Zen 3). The index of the text,
# for `sample --novel`, is left out: it would nearly double the file.
SETTINGS = {"hidden_size": 256, "num_layers": 2, "epochs": 0.75, "counts": 0, "from_scratch": True}


def prose(cache: Path) -> str:
    """All texts, one after another."""
    parts = []
    for name, read in SOURCES.items():
        archive = packages.debian_package(cache, name)
        lines = [line.translate(ASCII).rstrip() for line in read(archive)]
        print(f"{name} {packages.version(archive)}: {sum(map(len, lines)):,} characters", file=sys.stderr)
        parts.append(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n\n")
    return "".join(parts)


def main() -> None:
    from charrnn import api
    from charrnn.checkpoint.model_file import save
    from charrnn.events import Evaluated

    cache, out = map(Path, sys.argv[1:])
    cache.mkdir(parents=True, exist_ok=True)
    text = cache / "prose.txt"
    text.write_text(prose(cache), encoding="utf-8")
    for event in api.train(text, out=out, force=True, **SETTINGS):
        if isinstance(event, Evaluated):
            print(f"step {event.step}: {event.val_loss:.3f} nats a character", file=sys.stderr)
    save(replace(api.load(out), novelty=None), out)


if __name__ == "__main__":
    main()
