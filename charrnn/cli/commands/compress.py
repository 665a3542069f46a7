"""`charrnn compress` and `charrnn decompress`: any bytes, compressed with a model's predictions."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import typer

from charrnn.cli import models
from charrnn.cli.options import ModelPath, Out, Threads
from charrnn.cli.process import Output, say
from charrnn.cli.views.meter import Meter
from charrnn.cli.wording import count
from charrnn.errors import ConfigError

File = Annotated[str, typer.Argument(metavar="[FILE]", help="Any file, or - for stdin [-].")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")]


def compress(
    file: File = "-",
    model: ModelPath = None,
    label: models.OneLabel = None,
    out: Out = "-",
    adaptive: Annotated[
        bool, typer.Option("--adaptive", help="Learn while reading: smaller, on one thread.")
    ] = False,
    cache: models.Cache = None,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Make a file small by what a model expects of it. `decompress` makes the same bytes again."""
    from charrnn import api

    if _on_screen(out):
        raise ConfigError(
            "stdout is a terminal, and what is compressed is no text", "give -o PATH, or a pipe"
        )
    change = partial(api.compress, adaptive=adaptive, threads=threads)
    sizes = _write(file, (model, label, cache), out, "compressing", change, quiet=quiet)
    if out != "-" and not quiet:
        bits = f": {8 * sizes[1] / sizes[0]:.3f} bits a byte" if sizes[0] else ""
        say(f"{count(sizes[0])} bytes became {count(sizes[1])}{bits}")


def decompress(
    file: File = "-",
    model: ModelPath = None,
    label: models.OneLabel = None,
    out: Out = "-",
    threads: Threads = None,
) -> None:
    """Make the bytes again that `compress` was given, with the model that it used."""
    from charrnn import api

    _write(file, (model, label, None), out, "decompressing", partial(api.decompress, threads=threads))


def _write(
    file: str,
    model: tuple[str | None, list[str] | None, str | None],
    out: str,
    what: str,
    change: Callable[..., Iterator[bytes]],
    *,
    quiet: bool = False,
) -> tuple[int, int]:
    """Write the output of `change` for a file atomically. Returns the numbers of bytes read and written.

    `model` is its path, the labels that were given, and the cache.
    """
    from charrnn import api
    from charrnn.system import atomic
    from charrnn.system.file_errors import refuse_overwriting, writing
    from charrnn.text.files.sources import Source

    source = Source(None if file == "-" else Path(file), packed=True)
    model_path = api.model_path(model[0])
    if out != "-":
        refuse_overwriting(Path(out), [("what is read", source.file), ("the model", model_path)])
    checkpoint = models.of_one_label(api.load(model_path), *model[1:])
    sizes = [0, 0]

    def counted(chunks: Iterable[bytes], which: int) -> Iterator[bytes]:
        for chunk in chunks:
            sizes[which] += len(chunk)
            yield chunk

    with Meter(shown=not quiet and not _on_screen(out)) as meter:
        chunks = source.chunks()
        first = list(islice(chunks, 1))  # raises for an unreadable file before anything is written
        total = _size(source.file)

        def report(done: int) -> None:
            meter(f"{what}  {done / total:.0%}" if total else f"{what}  {count(done)} bytes")

        pieces = counted(change(checkpoint, counted(chain(first, chunks), 0), report=report), 1)
        if out == "-":
            Output(raw_bytes=True).write_all(piece.decode("latin-1") for piece in pieces)
        else:
            with writing(Path(out)):
                atomic.write(Path(out), pieces)
    return sizes[0], sizes[1]


def _on_screen(out: str) -> bool:
    return out == "-" and sys.stdout is not None and sys.stdout.isatty()


def _size(file: Path | int) -> int:
    """The file's size in bytes; 0 for a pipe, whose size is unknown."""
    with contextlib.suppress(OSError):
        about = os.stat(file)
        return about.st_size if stat.S_ISREG(about.st_mode) else 0
    return 0
