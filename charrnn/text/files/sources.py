"""Paths -> bytes, from files, folders, .gz files and standard input, with an error for each failure."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import os
import stat
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from charrnn.config import TextConfig
from charrnn.errors import ConfigError, CorpusError, printable
from charrnn.system.file_errors import why_unreadable
from charrnn.text.files.detection import likely_encoding

CHUNK_BYTES = 1 << 18  # read at a time: small beside the ids of a large text
HEAD_BYTES = 8192  # examined to tell text from binary files
MODEL_SUFFIX = ".safetensors"
_STDIN = 0

# Files given by mistake: first bytes -> what it is, and what to do.
SIGNATURES = {
    b"%PDF-": ("a PDF", "turn it into plain text first, for example with pdftotext"),
    b"PK\x03\x04": ("a zip archive or an office document", "save or unpack it as plain text"),
    b"\x1f\x8b": ("gzip-compressed", "end its name in .gz, or unpack it with gzip -dc"),
}
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class Source:
    """One file, or standard input."""

    path: Path | None  # None: standard input
    in_folder: bool = False  # found in a folder: left out instead of refused if it is binary
    packed: bool = False  # do not decompress a .gz
    given: int = 0  # the number of the path that names it, among those given

    @property
    def name(self) -> str:
        """Its name in messages: printable, on one line."""
        return "standard input" if self.path is None else printable(str(self.path))

    @property
    def file(self) -> Path | int:
        """Its path, or the descriptor of standard input."""
        return _STDIN if self.path is None else self.path

    def chunks(self, stdin: BinaryIO | None = None, *, as_they_come: bool = False) -> Iterator[bytes]:
        """Its bytes in non-empty chunks of CHUNK_BYTES, decompressed if it is a .gz and not `packed`.

        With `as_they_come` a chunk is what a pipe holds at the moment, without waiting for more.

        Raises:
            CorpusError: it cannot be opened, read or decompressed, or is an endless device.
        """
        try:
            with self._open(stdin) as stream:
                if _is_endless(stream):
                    raise CorpusError(
                        f"{self.name} is a device that never ends", "pipe a part of it, with head -c"
                    )
                read = stream.read1 if as_they_come else stream.read  # type: ignore[attr-defined]
                while chunk := read(CHUNK_BYTES):
                    yield chunk
                if chunk is None:  # a non-blocking stream that is empty, but not at its end
                    raise BlockingIOError(0, "it does not wait for data")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise CorpusError(
                f"{self.name} is damaged or cut short: it cannot be unpacked",
                "copy it again; if it is not compressed, take .gz off its name",
            ) from error
        except (OSError, ValueError) as error:
            raise CorpusError(*why_unreadable(self.path, error)) from error

    def _open(self, stdin: BinaryIO | None) -> contextlib.AbstractContextManager[BinaryIO]:
        if self.path is None:
            stream = stdin or getattr(sys.stdin, "buffer", None)
            if stream is None:
                raise ValueError("it is closed")
            return contextlib.nullcontext(stream)  # not closed here: the caller owns it
        if self.path.suffix.lower() == ".gz" and not self.packed:
            return gzip.open(self.path, "rb")  # type: ignore[return-value]
        return open(self.path, "rb")


def _is_endless(stream: BinaryIO) -> bool:
    """Whether it is a device such as /dev/zero: any but a terminal and the null device."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # a stream in memory
        return False
    about = os.fstat(descriptor)
    if not stat.S_ISCHR(about.st_mode) or os.isatty(descriptor):
        return False
    return about.st_rdev != os.stat(os.devnull).st_rdev


def find(paths: Sequence[str | Path]) -> list[Source]:
    """The files that `paths` name, in order; "-" is standard input.

    A folder stands for all regular files in and below it, sorted by path, except hidden files, models and
    files behind links to folders.

    Raises:
        ConfigError: a path is empty.
        CorpusError: a path does not exist, may not be read, is a model, or holds no file.
    """
    if not paths:
        raise CorpusError("no corpus was given", "give text files, folders, or - for stdin")
    sources: list[Source] = []
    for number, given in enumerate(paths):
        if given == "":  # Path("") is the current folder
            raise ConfigError("the path of a corpus is empty", "name a file or a folder, or - for stdin")
        if str(given) == "-":
            sources.append(Source(None, given=number))
            continue
        path = Path(given)
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
            files = _files_below(path) if is_folder else []
        except (OSError, ValueError) as error:
            raise CorpusError(
                *why_unreadable(Path(getattr(error, "filename", None) or path), error)
            ) from error
        if is_folder:
            if not files:
                raise CorpusError(
                    f"there is no text file in {printable(str(path))}", "give a folder with some"
                )
            sources += [Source(file, in_folder=True, given=number) for file in files]
        elif path.suffix.lower() == MODEL_SUFFIX:
            raise CorpusError(
                f"{printable(str(path))} is a model, not a text",
                "give the text to learn from, or to measure the model on",
            )
        else:
            sources.append(Source(path, given=number))
    return sources


def why_not_text(head: bytes, text: TextConfig) -> tuple[str, str] | None:
    """If a file that begins with `head` is not text: what it is, and what to do. Else None."""
    encoding = "bytes" if text.bytes else codecs.lookup(text.encoding).name
    if encoding.startswith(("bytes", "utf-16", "utf-32")):
        return None
    for signature, answer in SIGNATURES.items():
        if head.startswith(signature):
            return answer
    if encoding.startswith("utf-8") and head.startswith(UTF_16_MARKS):
        return "UTF-16 text", "read it with --encoding utf-16"
    if b"\0" in head[:HEAD_BYTES] and text.split != "nul":
        if (found := likely_encoding(head[:HEAD_BYTES])) is not None:
            return f"{found.upper()} text", f"read it with --encoding {found}"
        return "binary, as the NUL bytes in it show", "--bytes reads it, each byte a character"
    return None


def _files_below(folder: Path) -> list[Path]:
    """The regular files in and below a folder, except hidden ones and models, sorted by path."""

    def fail(error: OSError) -> None:
        raise error

    files: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=fail, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [
            Path(parent, name)
            for name in names
            if not name.startswith(".") and not name.lower().endswith(MODEL_SUFFIX)
        ]
    return sorted((file for file in files if file.is_file()), key=lambda file: file.parts)
