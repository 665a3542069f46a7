"""Files -> lines or records, as they arrive: for filters, which must accept any input.

Unlike `decoding` beside it, which reads training text and rejects invalid bytes, nothing here fails because
of a text file's contents. A byte that is invalid in the encoding becomes one of the code points U+DC80 to
U+DCFF (PEP 383), so that it can be written back unchanged; no model knows these.
"""

from __future__ import annotations

import codecs
import queue
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, groupby
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from charrnn.config import TextConfig
from charrnn.errors import CorpusError
from charrnn.text.files.decoding import (
    KEEP_BYTES,
    OTHER_SURROGATES,
    Cleaner,
    LineEnds,
    check_encoding,
    same_encoding,
    what_to_try,
)
from charrnn.text.files.detection import likely_encoding
from charrnn.text.files.sources import Source, find, why_not_text
from charrnn.text.files.waiting import BeforeWaiting, take
from charrnn.text.records import cutter as records
from charrnn.text.records import tables
from charrnn.vocabulary import END, code_points, text_of

NEAR = 1 << 14  # characters before and after an invalid byte from which its encoding is guessed
FIRST_BURST = 1 << 13  # most characters of the first burst, so that output starts soon; doubled each time
_PATIENCE = 0.1  # seconds between two checks whether the reader has been closed

BYTES = re.compile("[\udc80-\udcff]")  # bytes that are invalid in the encoding


class Lines(NamedTuple):
    """Whole lines of a file, each with its "\\n"; or, if `piece`, part of a line too long to keep whole.

    In a file of other records, these take the place of lines, and END that of "\\n".
    """

    text: str
    file: str  # its name in messages
    number: int  # of the first line in its file, from 1
    piece: bool = False
    last: bool = True  # whether this is the last piece of its line, which alone has the end


def decode(chunks: Iterable[bytes], text: TextConfig) -> Iterator[str]:
    """The text of one file, in non-empty pieces, cleaned by `Cleaner`.

    Invalid bytes are kept, so that lines are written as they were read, unless the configuration skips or
    replaces them.
    """
    if text.bytes:
        for chunk in chunks:
            yield chunk.decode("latin-1")
        return
    decoder = codecs.getincrementaldecoder(text.encoding)(KEEP_BYTES)
    cleaner = Cleaner(text)
    makes_surrogates = not same_encoding(text.encoding, "utf-8")
    for chunk in chain(chunks, [b""]):
        piece = decoder.decode(chunk, not chunk)
        if makes_surrogates:
            piece = OTHER_SURROGATES.sub("\ufffd", piece)
        if text.encoding_errors != "strict" and not piece.isascii():
            piece = BYTES.sub("" if text.encoding_errors == "skip" else "\ufffd", piece)
        if piece := cleaner.clean(piece, last=not chunk):
            yield piece


def cut(pieces: Iterable[str], text: TextConfig) -> Iterator[str]:
    """The records of a file whose text comes in pieces, each with END, as soon as they are certain."""
    # A reader of filters brings texts to the model's form later.
    cutter, ends = records.cutter(replace(text, normal_form=None, lowercase=False)), LineEnds(ord(END))
    for piece in filter(None, records.spelled(pieces, text)):
        yield text_of(ends.clean(cutter.add(code_points(piece))))
    yield text_of(np.append(ends.clean(cutter.finish()), ends.finish_file()))


def read_lines(
    paths: Sequence[str | Path],
    text: TextConfig,
    most: int,
    before_waiting: BeforeWaiting,
    stdin: BinaryIO | None = None,
) -> Iterator[Lines]:
    """The lines of files, folders and "-", as many at a time as have arrived, up to `most` characters.

    With `text.split`, they are cut into other records. `before_waiting` is called before each wait for input;
    see `waiting` beside it. A last line without "\\n" gets one. A line of about `most` characters or more
    comes in pieces.

    Raises:
        CorpusError: a file cannot be read, or is a known binary format, such as PDF.
        ConfigError: the encoding is not known.
    """
    end = END if text.split is not None else "\n"
    file = _File("", most, end)
    for name, piece in _arriving(paths, text, most, before_waiting, stdin):
        if name != file.name:
            file = _File(name, most, end)
        yield from file.add(piece) if piece is not None else file.finish()


def read_texts(
    paths: Sequence[str | Path],
    text: TextConfig,
    most: int,
    before_waiting: BeforeWaiting,
    stdin: BinaryIO | None = None,
) -> Iterator[tuple[str, str | None]]:
    """Files' names with pieces of their texts as they arrive, None at a file's end; see `read_lines`.

    With `text.split`, END takes the place of what separates records.
    """
    for name, piece in _arriving(paths, text, most, before_waiting, stdin):
        yield from ((name, part) for part in _parts(piece, most))


@dataclass(slots=True)
class _File:
    """Cuts a file's text into lines, or into whatever ends with `end`."""

    name: str
    most: int  # characters at a time
    end: str
    number: int = 1  # of the line that comes next
    rest: str = ""  # the text after the last line end
    in_long_line: bool = False

    def add(self, text: str) -> Iterator[Lines]:
        text = self.rest + text
        while True:
            # As many lines as fit; within a long line, its end.
            find = text.find if self.in_long_line else text.rfind
            end = find(self.end, 0, self.most) + 1
            if not end and len(text) < self.most:
                break
            piece = self.in_long_line or not end
            part, text = text[: end or self.most], text[end or self.most :]
            yield Lines(part, self.name, self.number, piece, last=end > 0)
            self.in_long_line = not end
            self.number += part.count(self.end)
        self.rest = text

    def finish(self) -> Iterator[Lines]:
        if self.rest or self.in_long_line:
            yield from self.add(self.end)
        self.number = 1  # the same file may be given again


Chunk = tuple[str, str | None]  # a file's name and a piece of its text; None: end of the file


def _chunks(sources: list[Source], text: TextConfig, stdin: BinaryIO | None) -> Iterator[Chunk]:
    if not text.bytes:
        check_encoding(text.encoding)
    for source in sources:
        chunks = source.chunks(stdin, as_they_come=True)
        head = next(chunks, b"")
        # NUL bytes, of which UTF-16 text is full, are no reason for refusal: just unknown characters.
        if reason := why_not_text(head.replace(b"\0", b""), text):
            if source.in_folder:
                continue
            raise CorpusError(f"{source.name} is {reason[0]}", reason[1])
        for piece in _texts(decode(chain([head] if head else [], chunks), text), source.name, text):
            yield source.name, piece
        yield source.name, None


def _texts(pieces: Iterator[str], name: str, text: TextConfig) -> Iterator[str]:
    """The texts of a file, in non-empty pieces: those of a table, or those that separators end; or prose."""
    if text.field is not None:
        unlabelled = replace(text, label_by=None, label_fields=())
        pieces, is_table = tables.opened(pieces, name, unlabelled, must=False, as_they_come=True)
        if is_table:
            yield from (piece for piece in pieces if piece not in ("", END))  # no empty records
            return
    yield from pieces if text.split is None else filter(None, cut(pieces, text))


def _parts(text: str | None, size: int) -> Sequence[str | None]:
    return [None] if text is None else [text[at : at + size] for at in range(0, len(text), size)]


def _arriving(
    paths: Sequence[str | Path],
    text: TextConfig,
    most: int,
    before_waiting: BeforeWaiting,
    stdin: BinaryIO | None,
) -> Iterator[Chunk]:
    """The files' chunks; those of one file that arrive together are joined."""
    for burst in Ahead(_chunks(find(paths), text, stdin), most, before_waiting).bursts():
        for (name, is_end), chunks in groupby(burst, lambda chunk: (chunk[0], chunk[1] is None)):
            if is_end:
                yield from chunks
            else:
                yield name, "".join(piece or "" for _, piece in chunks)


class Ahead:
    """Reads an iterator ahead on its own thread, and hands over in bursts what has arrived meanwhile.

    An idle consumer gets each chunk at once, as `tail -f` writes it; while it is busy, chunks accumulate to
    the large bursts that batches need. Neither requires a timer.
    """

    def __init__(self, chunks: Iterator[Chunk], most: int, before_waiting: BeforeWaiting) -> None:
        self._most = most
        self._before_waiting = before_waiting
        self._queue: queue.Queue[Chunk | BaseException | None] = queue.Queue(2 * -(-most // FIRST_BURST))
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._take, args=(chunks,), name="charrnn-read", daemon=True)

    def bursts(self) -> Iterator[list[Chunk]]:
        """The chunks that have arrived, at least one and up to about `most` characters.

        Raises:
            what the iterator raised, after all chunks before it.
        """
        self._thread.start()
        limit = min(FIRST_BURST, self._most)
        try:
            while True:
                item = take(self._queue, self._before_waiting)
                burst: list[Chunk] = []
                characters = 0
                while isinstance(item, tuple):
                    burst.append(item)
                    characters += len(item[1] or "")
                    if characters >= limit:
                        break
                    try:
                        item = self._queue.get_nowait()
                    except queue.Empty:
                        break
                if burst:
                    yield burst
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                limit = min(2 * limit, self._most)
        finally:
            self._closed.set()

    def _take(self, chunks: Iterator[Chunk]) -> None:
        try:
            for name, piece in chunks:
                for part in _parts(piece, FIRST_BURST):
                    self._put((name, part))
                if self._closed.is_set():
                    return
            self._put(None)
        except BaseException as error:
            self._put(error)

    def _put(self, item: Chunk | BaseException | None) -> None:
        while not self._closed.is_set():
            with suppress(queue.Full):
                self._queue.put(item, timeout=_PATIENCE)
                return


def what_to_try_with(text: str, config: TextConfig, expected: str) -> str | None:
    """The hint of `what_to_try` for a text that was read with KEEP_BYTES; None if no byte was invalid."""
    if config.bytes or (text.isascii() and "\0" not in text):
        return None
    if found := BYTES.search(text):
        near = text[max(0, found.start() - NEAR) : found.start() + NEAR]
        return what_to_try(_bytes_of(near, config.encoding), config.encoding, expected)
    # UTF-16 text often is valid UTF-8, full of NULs.
    likely = likely_encoding(_bytes_of(text[:NEAR], config.encoding)) if "\0" in text else None
    return None if likely is None else f"it looks like {likely}: --encoding {likely}"


def _bytes_of(text: str, encoding: str) -> bytes:
    """The bytes from which this text was decoded, except those that became U+FFFD."""
    return b"".join(
        bytes([ord(c) - 0xDC00]) if BYTES.match(c) else c.encode(encoding, "replace") for c in text
    )
