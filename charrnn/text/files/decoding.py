"""Bytes -> code points -> ids, chunk by chunk, in the memory of the ids plus a constant."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.config import TextConfig
from charrnn.errors import ConfigError, CorpusError
from charrnn.ranks import arrays
from charrnn.text.files.detection import likely_encoding
from charrnn.text.files.normalization import Normaliser
from charrnn.vocabulary import (
    END,
    RARE,
    IdArray,
    OnUnknown,
    Vocabulary,
    code_points,
    id_dtype,
    unknown_character,
)

CodePoints = npt.NDArray[np.uint8] | npt.NDArray[np.uint32]
Ids = IdArray | arrays.SharedArray
CHUNK, BLOCK = 1 << 18, 1 << 14  # characters worked on at a time; indices at a time, for the cache
BYTE_ORDER_MARK = "\ufeff"
NEWLINE = ord("\n")
MARK = 0xFF  # END in pieces of ASCII, which would take four times the memory with END itself


def check_encoding(name: str) -> None:
    """Raises ConfigError unless Python knows a text encoding of this name."""
    try:
        codecs.getincrementaldecoder(name)
        b"?".decode(name)  # LookupError for codecs from bytes to bytes, such as "hex"
    except UnicodeError:
        pass  # a text encoding in which "?" alone is invalid, such as UTF-16
    except LookupError as error:
        raise ConfigError(
            f"the encoding {name!r} is not known", "give one such as utf-8, utf-16 or latin-1"
        ) from error


# Error handlers for decoding.
KEEP_BYTES = "charrnn-keep-bytes"  # each undecodable byte becomes U+DC80 .. U+DCFF (PEP 383)
_TO_SURROGATE = "charrnn-surrogate"  # each undecodable sequence becomes one lone surrogate
_SURROGATES = re.compile("[\ud800-\udfff]")
OTHER_SURROGATES = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # those that KEEP_BYTES never makes


def _keep_bytes(error: Any) -> tuple[str, int]:
    bad = error.object[error.start : error.end]
    return "".join(chr(0xDC00 + byte) if byte >= 0x80 else "\ufffd" for byte in bad), error.end


def _to_surrogate(error: Any) -> tuple[str, int]:
    return "\udc80", error.end


codecs.register_error(KEEP_BYTES, _keep_bytes)
codecs.register_error(_TO_SURROGATE, _to_surrogate)


class Cleaner:
    """Normalises line ends and drops byte order marks in the text of one file.

    CRLF and CR become LF, unless the configuration keeps them. Byte order marks are dropped at the start of
    every line, since `cat` leaves those of joined files in the middle. With `bytes` nothing is changed.
    In records, U+10FFFF, which marks their end, becomes U+FFFD.
    """

    def __init__(self, text: TextConfig) -> None:
        self._keeps_marks = text.bytes
        self._has_records = text.split is not None
        keeps_line_ends = text.bytes or text.keep_newlines
        self._newlines = None if keeps_line_ends else io.IncrementalNewlineDecoder(None, translate=True)
        self._at_start, self._at_line_start = True, True
        self.marks = 0  # byte order marks dropped, apart from the usual one at the start of the file

    def clean(self, piece: str, *, last: bool = False) -> str:
        """The next piece, cleaned; a CR at its end waits for the next call, unless this is the `last`."""
        if self._newlines is not None:
            piece = self._newlines.decode(piece, last)
        if not self._keeps_marks and piece:
            piece = self._without_marks(piece)
        if self._has_records and not piece.isascii():
            piece = piece.replace(END, "\ufffd")
        return piece

    @property
    def line_ends(self) -> set[str]:
        """The line ends that were replaced by "\\n": "\\r\\n", "\\r"."""
        seen = self._newlines.newlines if self._newlines is not None else None
        return {seen} - {"\n"} if isinstance(seen, str) else set(seen or ()) - {"\n"}

    def _without_marks(self, piece: str) -> str:
        result = piece
        if not piece.isascii() and BYTE_ORDER_MARK in piece:
            if self._at_line_start:
                result = result.lstrip(BYTE_ORDER_MARK)
            result = _MARKS.sub("\n", result)
            self.marks += len(piece) - len(result) - (self._at_start and piece[0] == BYTE_ORDER_MARK)
        self._at_start = False
        if result:
            self._at_line_start = result.endswith("\n")
        return result


_MARKS = re.compile(f"\n{BYTE_ORDER_MARK}+")


class Decoder:
    """Bytes of one file after another -> code points, cleaned by `Cleaner`.

    With `bytes`, each byte is a character and nothing is changed. If the configuration has a normal form,
    the text is converted to it.
    """

    def __init__(self, text: TextConfig, expected: str | None = None) -> None:
        """`expected` is the encoding that errors suggest for bytes invalid in the configured one."""
        if not text.bytes:
            check_encoding(text.encoding)
        self.text = text
        self.line_ends: set[str] = set()  # those replaced by "\n": "\r\n", "\r"
        self.marks = 0  # byte order marks dropped within files
        self.bad = 0  # undecodable sequences that were skipped or replaced
        self.normalised = False  # whether normalisation changed anything
        self._expected = expected

    def decode(self, chunks: Iterable[bytes], name: str) -> Iterator[CodePoints]:
        """The code points of one file, called `name` in errors, in non-empty pieces (n,).

        The chunks must not be empty either.

        Raises:
            CorpusError: the bytes are invalid in the encoding; it gives the offset and a likely encoding.
        """
        if self.text.bytes:
            for chunk in chunks:
                yield np.frombuffer(chunk, np.uint8)
            return
        yield from self.points(self.texts(chunks, name))

    def points(self, texts: Iterable[str]) -> Iterator[CodePoints]:
        """The same from what `texts` gives."""
        normaliser = Normaliser(self.text.form)
        for piece in chain(texts, [""]):
            if result := normaliser.add(piece, last=not piece):
                yield points_of(result)
        self.normalised = self.normalised or normaliser.changed

    def texts(self, chunks: Iterable[bytes], name: str) -> Iterator[str]:
        """The same as text, and not yet in the form of the configuration."""
        strict = self.text.encoding_errors == "strict"
        decoder = codecs.getincrementaldecoder(self.text.encoding)("strict" if strict else _TO_SURROGATE)
        cleaner = Cleaner(self.text)
        fed, lines, last = 0, 0, ""  # bytes decoded; line ends seen; the last character
        for chunk in chain(chunks, [b""]):
            final = not chunk
            fed += len(chunk)
            try:
                piece = decoder.decode(chunk, final)
            except UnicodeError as error:
                raise self._undecodable(name, fed, lines, last, error) from error
            lines += _line_ends(piece, last)
            last = piece[-1:] or last
            if not piece.isascii() and (halves := _SURROGATES.findall(piece)):
                # Some codecs, such as unicode_escape, produce lone surrogates themselves.
                if strict:
                    raise CorpusError(
                        f"{name} holds half of a surrogate pair, which is no character",
                        "try another --encoding, or --bytes",
                    )
                self.bad += len(halves)
                replacement = "" if self.text.encoding_errors == "skip" else "\ufffd"
                piece = _SURROGATES.sub(replacement, piece)
            if piece := cleaner.clean(piece, last=final):
                yield piece
        self.line_ends |= cleaner.line_ends
        self.marks += cleaner.marks

    def _undecodable(self, name: str, fed: int, lines: int, last: str, error: UnicodeError) -> CorpusError:
        encoding = self.text.encoding
        if not isinstance(error, UnicodeDecodeError):
            return CorpusError(
                f"{name} is not {encoding.upper()} text ({error})", "try another --encoding, or --bytes"
            )
        # error.object holds what the decoder kept of earlier chunks, and this chunk: the last of `fed` bytes.
        offset = fed - len(error.object) + error.start
        bad = error.object[error.start : error.end][:4].hex(" ").upper()
        before = error.object[: error.start].decode(encoding, "ignore")
        line = lines + _line_ends(before, last) + 1
        return CorpusError(
            f"{name} is not {encoding.upper()} text: byte offset {offset} holds {bad} ({error.reason}), "
            f"in line {line:,}",
            what_to_try(error.object, encoding, self._expected),
        )


def points_of(text: str) -> CodePoints:
    """The code points of a text, in the smaller type if it is ASCII."""
    return np.frombuffer(text.encode("ascii"), np.uint8) if text.isascii() else code_points(text)


FEW = 3  # undecodable sequences: so few may be mere damage


def _line_ends(piece: str, last: str) -> int:
    """The number of line ends, LF, CR or CRLF, in a piece of text that follows the character `last`."""
    if "\r" not in piece and last != "\r":
        if piece.isascii():  # many times as fast as str.count
            return int(np.count_nonzero(np.frombuffer(piece.encode(), np.uint8) == NEWLINE))
        return piece.count("\n")
    halves = piece.count("\r\n") + (last == "\r" and piece.startswith("\n"))
    return piece.count("\n") + piece.count("\r") - halves


def what_to_try(data: bytes, encoding: str, expected: str | None = None) -> str:
    """A hint about bytes that are invalid in `encoding`: try another, first the `expected` one."""
    text = data.decode(encoding, _TO_SURROGATE)
    bad = len(_SURROGATES.findall(text))
    good = len(text) - len(text.encode("ascii", "ignore")) - bad  # decodable characters beyond ASCII
    hints = []
    if good <= bad:
        if expected is not None and not same_encoding(expected, encoding):
            hints.append(f"try --encoding {expected}, as that of the model's own text")
        elif (found := likely_encoding(data)) is not None and not same_encoding(found, encoding):
            hints.append(f"it looks like {found}: --encoding {found}")
    if good > bad or 0 < bad <= FEW:
        hints.append("--encoding-errors skip leaves bad bytes out")
    return ", or ".join(hints) or "try another --encoding, or --bytes"


def same_encoding(encoding: str, other: str) -> bool:
    """Whether these names, both known to Python, mean one encoding."""
    return codecs.lookup(encoding).name == codecs.lookup(other).name


class Encoder:
    """Code points -> ids of a given vocabulary, or of one that grows with the text.

    A growing vocabulary numbers characters by first appearance; `finish` sorts them by code point.
    """

    UNKNOWN = np.uint32(0xFFFFFFFF)

    def __init__(
        self, vocabulary: Vocabulary | None = None, on_unknown: OnUnknown = "error", *, marks: bool = False
    ) -> None:
        """`marks`: whether MARK stands for END in pieces of bytes, which then hold ASCII alone."""
        self.vocabulary = vocabulary
        self.on_unknown = on_unknown
        self.skipped = 0  # unknown characters that were left out
        self.rare = self.made_rare = 0  # different characters that became RARE, and how often
        self._points: list[int] = []  # id -> code point
        unknown = -1 if vocabulary is None else vocabulary.unknown
        self._table = np.full(0x110000, self.UNKNOWN if unknown < 0 else unknown, np.uint32)  # point -> id
        self._narrow = self._table[:256].copy()  # the same for pieces of bytes
        self._marks = marks
        if vocabulary is not None:
            self.add_ids(vocabulary.code_points.tolist())

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The smallest integer type for the ids assigned so far."""
        return id_dtype(len(self._points))

    def add_ids(self, points: list[int]) -> None:
        """Assigns the next ids to these new code points."""
        self._table[points] = np.arange(len(self._points), len(self._points) + len(points), dtype=np.uint32)
        self._points += points
        self._narrow[:] = self._table[: len(self._narrow)]
        if self._marks:
            self._narrow[MARK] = self.id_of(ord(END))

    def id_of(self, point: int) -> int:
        """The id of a known code point."""
        return int(self._table[point])

    def encode(self, points: CodePoints, where: Callable[[int], str]) -> npt.NDArray[np.uint32]:
        """The ids (n,) of code points (n,); with "skip", of the known ones.

        `where` gives the place of a point, for the error.

        Raises:
            VocabularyError: the given vocabulary lacks a character, and `on_unknown` is "error".
        """
        ids: npt.NDArray[np.uint32] = np.empty(len(points), np.uint32)
        look_up(self._narrow if points.dtype == np.uint8 else self._table, points, ids)
        if not len(ids) or ids.max() != self.UNKNOWN:
            return ids
        unknown = ids == self.UNKNOWN  # (n,)
        if self.vocabulary is None:
            self.add_ids(np.unique(points[unknown]).tolist())
            return self.encode(points, where)
        if self.on_unknown == "error":
            first = int(unknown.argmax())
            raise unknown_character(chr(points[first]), where(first))
        ids = ids[~unknown]
        self.skipped += len(points) - len(ids)
        return ids

    def finish(self, ids: Ids, text: TextConfig = TextConfig()) -> Vocabulary:  # noqa: B008 (frozen)
        """The vocabulary; renumbers `ids`, as `encode` returned them, to its ids in place.

        Of a new one, characters that occur less often than `text` demands become RARE.
        """
        if self.vocabulary is not None:
            return self.vocabulary
        points = np.array(self._points)
        if text.min_count > 1 or text.max_chars is not None:  # with longer records, characters were left out
            counts = tally(ids, len(points))
            rare = (counts < text.min_count) & (counts > 0) & (points != ord(text.end or RARE))
            self.rare, self.made_rare = int(np.count_nonzero(rare)), int(counts[rare].sum())
            points[rare] = ord(RARE)
            characters = np.unique(points[counts > 0])
        else:
            characters = np.unique(points)
        renumbered = np.searchsorted(characters, points).astype(ids.dtype)
        arrays.each(ids, renumber, renumbered)
        return Vocabulary.of_text("".join(map(chr, characters.tolist())), text)


def renumbered(ids: IdArray, table: IdArray) -> IdArray:
    """table[ids]."""
    return _renumbered(ids, table, np.empty(len(ids), table.dtype))


def renumber(ids: IdArray, table: IdArray) -> None:
    """ids[:] = table[ids]."""
    _renumbered(ids, table, ids)


def _renumbered(ids: IdArray, table: IdArray, out: IdArray) -> IdArray:
    for start in range(0, len(ids), CHUNK):  # in chunks, so that Ctrl-C takes effect
        look_up(table, ids[start : start + CHUNK], out[start : start + CHUNK])
    return out


def tally(ids: Ids, size: int) -> npt.NDArray[np.int64]:
    """How often each of the ids 0 .. size-1 occurs."""
    counts: npt.NDArray[np.int64] = np.sum(arrays.each(ids, _tally, size), axis=0)
    return counts


def _tally(ids: IdArray, size: int) -> npt.NDArray[np.int64]:
    counts = np.zeros(size, np.int64)
    for start in range(0, len(ids), CHUNK):
        counts += np.bincount(ids[start : start + CHUNK], minlength=size)
    return counts


def look_up(table: npt.NDArray[Any], values: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """out[:] = table[values], (n,) each, several times as fast; `out` may be `values`."""
    indices = np.empty(min(len(values), BLOCK), np.intp)
    for start in range(0, len(values), BLOCK):
        part = values[start : start + BLOCK]
        indices[: len(part)] = part
        np.take(table, indices[: len(part)], out=out[start : start + len(part)], mode="clip")


def empty_lines(ids: npt.NDArray[np.integer], newline: int, at_line_start: bool) -> npt.NDArray[np.bool_]:
    """A mask of the ids (n,) that end empty lines; `at_line_start`: whether the first id begins a line."""
    ends = ids == newline
    begins = np.concatenate(([at_line_start], ends[:-1]))
    empty: npt.NDArray[np.bool_] = ends & begins[: len(ids)]
    return empty


class LineEnds:
    """Drops empty lines and ends the last line of each file, working on ids.

    A line is what ends with the id `newline`, which may be that of any record's end.
    """

    def __init__(self, newline: int) -> None:
        self.newline = newline
        self.empty_lines = 0
        self._at_line_start = True

    def clean(self, ids: IdArray, *, whole: bool = False) -> IdArray:
        """The ids (n,) without the "\\n" of empty lines; none is empty if they are `whole`."""
        if not len(ids):
            return ids
        at_line_start, self._at_line_start = self._at_line_start, bool(ids[-1] == self.newline)
        if whole:
            return ids
        empty = empty_lines(ids, self.newline, at_line_start)
        self.empty_lines += int(np.count_nonzero(empty))
        return ids[~empty] if empty.any() else ids

    def kept(self, ids: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
        """For each line end among the next ids whether `clean` keeps it."""
        empty = empty_lines(ids, self.newline, self._at_line_start)
        kept: npt.NDArray[np.bool_] = ~empty[ids == self.newline]
        return kept

    def finish_file(self) -> npt.NDArray[np.uint32]:
        """The "\\n" that the file's last line lacks, (1,), or nothing, (0,)."""
        missing = [] if self._at_line_start else [self.newline]
        self._at_line_start = True
        return np.array(missing, np.uint32)
