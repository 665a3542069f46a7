"""The texts that quality is measured on: files, and two kinds that most machines have.

A text is named on the command line as [NAME=]WHAT[:lines][:first=N][:earlier]:

    tinyshakespeare.txt              a file
    names=names.txt:lines            every line a text of its own
    tiny=tinyshakespeare.txt:first=20000
    again=tinyshakespeare.txt:earlier
                                     judged by the tenth before the last one, which nobody reads
    stdlib                           Python's own library: source code
    gettext-ru                       the Russian translations of the programs that are installed

Standard library only.
"""

from __future__ import annotations

import gettext
import hashlib
import io
import re
import struct
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from measure import Unavailable

STDLIB_CHARACTERS = 2_000_000
# Parts that some systems do not install, or that differ from machine to machine.
NOT_EVERYWHERE = {
    "test", "tests", "idlelib", "lib2to3", "distutils", "ensurepip", "tkinter", "turtledemo", "pydoc_data",
    "site-packages", "dist-packages", "__pycache__",
}  # fmt: skip
LEAST_TRANSLATED = 100_000  # characters; fewer would be no corpus
LOCALES = (
    "/usr/share/locale",
    "/usr/share/locale-langpack",
    "/usr/share/vim",
    "/usr/local/share/locale",
    "/opt/homebrew/share/locale",
)


@dataclass(frozen=True)
class Text:
    """A text to be trained on, in a file."""

    name: str
    path: Path
    lines: bool  # every line is a text of its own
    characters: int
    sha256: str  # of the file, so that figures of two texts never meet under one name
    held_out: float = 0.1  # the share at its end that judges


@dataclass(frozen=True)
class Spec:
    """What was asked for on the command line."""

    name: str
    source: str
    marks: tuple[str, ...]

    @property
    def lines(self) -> bool:
        return "lines" in self.marks

    @property
    def earlier(self) -> bool:
        return "earlier" in self.marks

    @property
    def first(self) -> int | None:
        """How many characters of it; None: all."""
        numbers = [int(mark.removeprefix("first=")) for mark in self.marks if mark.startswith("first=")]
        return min(numbers, default=None)

    def __str__(self) -> str:
        """As others would give it: without this machine's folders."""
        file = re.split(r"[/\\]", self.source)[-1]
        named = file if self.name == Path(file).stem else f"{self.name}={file}"
        return ":".join([named, *self.marks])


def parse(spec: str) -> Spec:
    """[NAME=]WHAT[:lines][:first=N][:earlier]; a colon elsewhere, as in C:\\texts, belongs to WHAT."""
    what, *marks = re.split(r":(?=(?:lines|first=\d+|earlier)(?::|$))", spec)
    name, _, source = what.rpartition("=")
    return Spec(name or Path(source).stem, source, tuple(marks))


def find(spec: str, folder: Path, val_fraction: float = 0.1) -> Text:
    """The text that `spec` names; what is made or cut is written into `folder`.

    Raises:
        Unavailable: there is no such text here.
    """
    spelled = parse(spec)
    text = _read(spelled.source)[: spelled.first]
    if spelled.earlier:
        if spelled.lines:
            raise Unavailable(f"{spec}: lines are held out by the seed; another --seeds takes others")
        text = text[: len(text) - int(len(text) * val_fraction)]
        val_fraction /= 1 - val_fraction  # of what is left, it is as much
    if len(text) < 100:
        raise Unavailable(f"{spec}: there is no text in it")
    path = folder / f"{spelled.name}.txt"
    content = text.encode()
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return Text(spelled.name, path, spelled.lines, len(text), digest, val_fraction)


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _read(source: str) -> str:
    if source == "stdlib":
        return stdlib(Path(sysconfig.get_path("stdlib")), STDLIB_CHARACTERS)
    if language := re.fullmatch(r"gettext-(\w+)", source):
        return translations([Path(sys.prefix, "share", "locale"), *map(Path, LOCALES)], language[1])
    try:
        return Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(f"{source}: {error}; give a text file, stdlib or gettext-LANGUAGE") from error


def stdlib(root: Path, characters: int) -> str:
    """The first `characters` of Python's own library, its files in an order that follows no alphabet.

    The order is that of their names' hashes: the same on every machine with this Python, and what is cut
    off for validation at the end is no part of its own.
    """
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*.py")}
    wanted = [
        name
        for name in files
        if NOT_EVERYWHERE.isdisjoint(name.split("/")) and not name.startswith(("_sysconfigdata", "config-"))
    ]
    wanted.sort(key=_hash)
    parts, length = [], 0
    for name in wanted:
        parts.append(files[name].read_text(encoding="utf-8"))
        length += len(parts[-1])
        if length >= characters:
            break
    return "".join(parts)[:characters]


def translations(roots: list[Path], language: str) -> str:
    """What the programs under `roots` say in a language: their message catalogues, each message once.

    Messages that have more Latin letters than others are left out.

    Raises:
        Unavailable: that is too little.
    """
    found: dict[str, None] = {}  # in order, each once
    paths = {path for root in roots for path in _catalogues(root, language)}
    for path in sorted(paths, key=lambda path: _hash(path.as_posix())):
        for message in messages(path.read_bytes()) if path.is_file() else []:
            if _is_foreign(message):
                found[message.strip()] = None
    text = "".join(f"{message}\n\n" for message in found)
    if len(text) < LEAST_TRANSLATED:
        raise Unavailable(
            f"gettext-{language}: only {len(text):,} characters of it are installed here; give a text file"
        )
    return text


def _catalogues(root: Path, language: str) -> Iterator[Path]:
    yield from root.glob(f"{language}/LC_MESSAGES/*.mo")
    yield from root.glob(f"*/lang/{language}/LC_MESSAGES/*.mo")  # Vim's


def messages(catalogue: bytes) -> list[str]:
    """The translations in a catalogue, sorted by what they translate; none if it cannot be read."""
    try:
        found = gettext.GNUTranslations(io.BytesIO(catalogue))._catalog  # type: ignore[attr-defined]
    except (OSError, ValueError, LookupError, struct.error):
        return []
    ordered = sorted((item for item in found.items() if item[0]), key=lambda item: str(item[0]))
    return [value for key, value in ordered if isinstance(value, str) and value != key]


def _is_foreign(message: str) -> bool:
    letters = [c for c in message if c.isalpha()]
    return 2 * sum(not c.isascii() for c in letters) > len(letters)
