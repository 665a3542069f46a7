"""Bytes -> code points -> ids, chunk by chunk: the memory is that of the ids, plus a constant."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
import numpy.typing as npt

from charrnn.config import TextConfig
from charrnn.errors import ConfigError, CorpusError
from charrnn.vocabulary import (
    IdArray,
    OnUnknown,
    Vocabulary,
    code_points,
    id_dtype,
    unknown_character,
)

CodePoints = npt.NDArray[np.uint8] | npt.NDArray[np.uint32]
CHUNK = 1 << 18  # characters worked on at a time
BYTE_ORDER_MARK = "\ufeff"
NEWLINE = ord("\n")


def check_encoding(name: str) -> None:
    """Raises ConfigError unless Python knows a text encoding of this name."""
    try:
        codecs.getincrementaldecoder(name)
        b"?".decode(name)  # LookupError for what turns bytes into bytes, such as "hex"
    except UnicodeError:
        pass  # it is an encoding, "?" alone is just no text in it, as in UTF-16
    except LookupError as error:
        raise ConfigError(
            f"the encoding {name!r} is not known", "give one such as utf-8, utf-16 or latin-1"
        ) from error


class Decoder:
    """Bytes of one file after another -> code points.

    A byte order mark at the start of a file is dropped, and each CRLF and CR becomes LF, unless
    the configuration keeps them. With `bytes`, each byte is a character and nothing is changed.
    """

    def __init__(self, text: TextConfig) -> None:
        if not text.bytes:
            check_encoding(text.encoding)
        self.text = text
        self.line_ends: set[str] = set()  # the kinds that became "\n": "\r\n", "\r"

    def decode(self, chunks: Iterable[bytes], name: str) -> Iterator[CodePoints]:
        """The code points of one file, which errors call `name`, in non-empty pieces (n,).

        The chunks are not empty, either.

        Raises:
            CorpusError: the bytes are no text in the encoding; says at which byte.
        """
        if self.text.bytes:
            for chunk in chunks:
                yield np.frombuffer(chunk, np.uint8)
            return
        decoder = codecs.getincrementaldecoder(self.text.encoding)()
        newlines = io.IncrementalNewlineDecoder(None, translate=True)  # holds a CR between chunks
        fed = 0  # bytes
        at_start = True
        for chunk in chain(chunks, [b""]):
            final = not chunk
            fed += len(chunk)
            try:
                piece = decoder.decode(chunk, final)
            except UnicodeError as error:
                raise self._undecodable(name, fed, error) from error
            if at_start and piece:
                piece = piece.removeprefix(BYTE_ORDER_MARK)
                at_start = False
            if not self.text.keep_newlines:
                piece = newlines.decode(piece, final)
            if piece.isascii():
                points: CodePoints = np.frombuffer(piece.encode("ascii"), np.uint8)
            else:
                points = code_points(piece)
                # Some codecs, such as unicode_escape, make halves of surrogate pairs.
                if np.any((points >= 0xD800) & (points <= 0xDFFF)):
                    raise CorpusError(
                        f"{name} holds half of a surrogate pair, which is no character",
                        "try another --encoding, or --bytes",
                    )
            if len(points):
                yield points
        seen = newlines.newlines
        self.line_ends.update({seen} if isinstance(seen, str) else seen or ())
        self.line_ends.discard("\n")

    def _undecodable(self, name: str, fed: int, error: UnicodeError) -> CorpusError:
        encoding = self.text.encoding.upper()
        utf_8 = codecs.lookup(self.text.encoding).name.startswith("utf-8")
        hint = f"try {'--encoding latin-1' if utf_8 else 'another --encoding'}, or --bytes"
        if not isinstance(error, UnicodeDecodeError):
            return CorpusError(f"{name} is not {encoding} text ({error})", hint)
        # The decoder saw what it had kept of earlier chunks, then this one: the end of all fed.
        offset = fed - len(error.object) + error.start
        bad = error.object[error.start : error.end][:4].hex(" ").upper()
        return CorpusError(
            f"{name} is not {encoding} text: byte offset {offset} holds {bad} ({error.reason})",
            hint,
        )


class Ids:
    """A growing array of ids in one block of memory, at most 1/16 of it spare.

    A list of arrays would need twice the memory when it is joined; this block is enlarged by the
    system in place, or moved, and takes wider ids in place as well.
    """

    def __init__(self, dtype: np.dtype[np.unsignedinteger]) -> None:
        self.dtype = dtype
        self._block = np.empty(0, np.uint8)
        self._length = 0  # ids

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """What they take."""
        return self._length * self.dtype.itemsize

    def append(self, ids: npt.NDArray[np.integer]) -> None:
        """Adds ids (n,), which fit `dtype`."""
        length = self._length + len(ids)
        if length * self.dtype.itemsize > len(self._block):
            self._resize(length + length // 16 + 1)
        self._block.view(self.dtype)[self._length : length] = ids
        self._length = length

    def widen(self, dtype: np.dtype[np.unsignedinteger]) -> None:
        """Makes room for larger ids, in place."""
        narrow, self.dtype = self.dtype, dtype
        if narrow == dtype:
            return
        self._resize(self._length)
        source = self._block.view(narrow)
        target = self._block.view(dtype)
        # From the end, so that a wider id only overwrites ids that have moved already.
        for start in reversed(range(0, self._length, CHUNK)):
            part = slice(start, min(start + CHUNK, self._length))
            target[part] = source[part].copy()

    def finish(self) -> IdArray:
        """All ids (n,), without spare memory; nothing can be added afterwards."""
        self._resize(self._length)
        return self._block.view(self.dtype)

    def _resize(self, length: int) -> None:
        # No other reference to the block outlives a method, so that it may move.
        self._block.resize(length * self.dtype.itemsize, refcheck=False)


class Encoder:
    """Code points -> ids, in a given vocabulary, or in one that grows with the text.

    While it grows, ids are numbered by first appearance; `finish` sorts them by code point.
    """

    UNKNOWN = np.uint32(0xFFFFFFFF)

    def __init__(self, vocabulary: Vocabulary | None, on_unknown: OnUnknown = "error") -> None:
        self.vocabulary = vocabulary
        self.on_unknown = on_unknown
        self.skipped = 0  # unknown characters that were left out
        self._points: list[int] = []  # by id
        self._table = np.full(0x110000, self.UNKNOWN, np.uint32)  # code point -> id
        if vocabulary is not None:
            self.learn(vocabulary.code_points.tolist())

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The smallest integer type for the ids given out so far."""
        return id_dtype(len(self._points))

    def learn(self, points: list[int]) -> None:
        """Gives these code points, which are new, the next ids."""
        self._table[points] = np.arange(len(self._points), len(self._points) + len(points), dtype=np.uint32)
        self._points += points

    def id_of(self, point: int) -> int:
        """The id of a code point that has one."""
        return int(self._table[point])

    def encode(self, points: CodePoints, name: str, line: int) -> npt.NDArray[np.uint32]:
        """The ids (n,) of code points (n,), or of the known ones with "skip".

        `name` is the file and `line` the number of the points' first line, for errors.

        Raises:
            VocabularyError: a given vocabulary lacks a character, and unknown ones are an error.
        """
        ids: npt.NDArray[np.uint32] = self._table[points]
        if not len(ids) or ids.max() != self.UNKNOWN:
            return ids
        unknown = ids == self.UNKNOWN  # (n,)
        if self.vocabulary is None:
            self.learn(np.unique(points[unknown]).tolist())
            return self.encode(points, name, line)
        if self.on_unknown == "error":
            first = int(unknown.argmax())
            line += int(np.count_nonzero(points[:first] == NEWLINE))
            raise unknown_character(chr(points[first]), f"in line {line} of {name}")
        ids = ids[~unknown]
        self.skipped += len(points) - len(ids)
        return ids

    def finish(self, ids: IdArray) -> Vocabulary:
        """The vocabulary; `ids`, which were given out before, become its ids in place."""
        if self.vocabulary is not None:
            return self.vocabulary
        order = np.argsort(self._points)
        renumbered = np.empty(len(order), ids.dtype)
        renumbered[order] = np.arange(len(order), dtype=ids.dtype)
        for start in range(0, len(ids), CHUNK):
            ids[start : start + CHUNK] = renumbered[ids[start : start + CHUNK]]
        return Vocabulary.from_code_points(np.array(self._points)[order])


def empty_lines(ids: npt.NDArray[np.integer], newline: int, at_line_start: bool) -> npt.NDArray[np.bool_]:
    """Which of these ids (n,) are the ends of empty lines; `at_line_start` says what comes before them."""
    ends = ids == newline
    begins = np.concatenate(([at_line_start], ends[:-1]))
    empty: npt.NDArray[np.bool_] = ends & begins[: len(ids)]
    return empty


class LineEnds:
    """Leaves out empty lines, and ends the last line of each file, on ids."""

    def __init__(self, newline: int) -> None:
        self.newline = newline
        self.empty_lines = 0
        self._at_line_start = True

    def clean(self, ids: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        """The ids (n,) without the "\\n" of empty lines."""
        if not len(ids):
            return ids
        empty = empty_lines(ids, self.newline, self._at_line_start)
        self.empty_lines += int(np.count_nonzero(empty))
        self._at_line_start = bool(ids[-1] == self.newline)
        return ids[~empty] if empty.any() else ids

    def finish_file(self) -> npt.NDArray[np.uint32]:
        """What the file's last line lacks: its "\\n" (1,), or nothing (0,)."""
        missing = [] if self._at_line_start else [self.newline]
        self._at_line_start = True
        return np.array(missing, np.uint32)
