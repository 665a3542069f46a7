"""Texts -> documents of character ids."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt

from charrnn.config import END, TextConfig
from charrnn.errors import CorpusError, VocabularyError
from charrnn.labels import Columns
from charrnn.ranks import arrays
from charrnn.ranks.ranks import ALONE, Ranks
from charrnn.system.memory import total_memory
from charrnn.text.decoding import CHUNK, CodePoints, Decoder, Encoder, Ids, LineEnds, points_of, renumbered
from charrnn.text.normalization import form_of
from charrnn.text.novelty import Novelty
from charrnn.text.records import cutter as cutters
from charrnn.text.records import tables
from charrnn.text.records.cutter import Cutter
from charrnn.text.records.labels import Labelling, Labels
from charrnn.text.records.pairs import Pairs
from charrnn.text.sources import Source, find, why_not_text
from charrnn.vocabulary import IdArray, OnUnknown, Vocabulary

Inputs = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.bool_]]  # x, y, reset
MEMORY_SHARE = 0.75  # the largest share of all memory that a text may take


@dataclass(frozen=True, eq=False, slots=True)
class Pieces:
    """K slices of an array, read as if they were concatenated, without a copy."""

    first: npt.NDArray[np.int64]  # (K,), each slice's start in the concatenation; sorted, from 0
    shift: npt.NDArray[np.int64]  # (K,), what to add to get the position in the array
    total: int  # elements of the concatenation

    @classmethod
    def between(cls, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> Pieces:
        """The slices from `starts` to `ends`, both (K,); empty ones are dropped."""
        kept = starts < ends
        starts, lengths = starts[kept], (ends - starts)[kept]
        first = np.cumsum(lengths) - lengths
        return cls(first, starts - first, int(lengths.sum()))

    def places(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The array indices of these positions, 0 .. total-1, in the concatenation."""
        places: npt.NDArray[np.int64] = np.searchsorted(self.first, positions, side="right")
        places -= 1
        places = self.shift[places]
        places += positions
        return places


def _are_among(positions: npt.NDArray[np.int64], some: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """A mask of the positions, of any shape, that occur in the sorted `some` (n,)."""
    if not len(some):
        return np.zeros(positions.shape, np.bool_)
    found: npt.NDArray[np.bool_] = some[np.searchsorted(some, positions, side="right") - 1] == positions
    return found


@dataclass(frozen=True, eq=False, slots=True)
class Documents:
    """N characters, cut into documents. The arrays are read-only.

    A document starts at each of `starts` and after each `end`. At each of `cuts` a document continues after
    characters that belong to the other side of the validation split.
    """

    # (N,), the smallest type that holds 0 .. vocab_size-1; with pieces, the array they index; perhaps shared
    ids: Ids
    vocab_size: int  # V, the end of a record included
    starts: npt.NDArray[np.int64]  # sorted
    end: int = -1  # the id that ends each record, or -1: there are no records
    pieces: Pieces | None = None  # whole lines, or blocks of prose
    # Sorted; if N > 0, position 0 is a start or a cut.
    cuts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    labels: Labelling | None = None

    def __post_init__(self) -> None:
        for name in ("ids", "starts", "cuts"):
            if isinstance(array := getattr(self, name), np.ndarray):
                view = array.view()
                view.flags.writeable = False
                object.__setattr__(self, name, view)

    def __len__(self) -> int:
        return len(self.ids) if self.pieces is None else self.pieces.total

    @property
    def array(self) -> IdArray:
        """The ids, which no ranks share."""
        assert isinstance(self.ids, np.ndarray)
        return self.ids

    def in_epoch(self, epoch: int) -> Documents:
        """The same in every epoch."""
        return self

    def head(self, count: int) -> Documents:
        """The first `count` characters, or all if there are fewer."""
        part = replace(self, starts=self.starts[self.starts < count], cuts=self.cuts[self.cuts < count])
        if self.pieces is None:
            return replace(part, ids=arrays.view(self.ids, 0, count))
        return replace(part, pieces=replace(self.pieces, total=min(count, self.pieces.total)))

    def at(self, positions: npt.NDArray[np.int64]) -> IdArray:
        """The ids at these positions, 0 .. N-1, of any shape."""
        ids: IdArray = self.ids[self._places(positions)]
        return ids

    def look_up(self, positions: npt.NDArray[np.int64]) -> Inputs:
        """Inputs x, targets y and resets at the positions 0 .. N-1, of any shape.

        y is the character at the position, x the one before it or, at a document's start, START = V. A reset
        zeroes the state: at a document's start, and at a cut, whose x comes from the split's other side.
        """
        places = self._places(positions)
        y = self.ids[places].astype(np.int32)
        places -= 1
        x = self.ids[places].astype(np.int32)
        reset = _are_among(positions, self.starts)
        if self.end >= 0:
            reset |= x == self.end  # also at the start of a piece, which follows another line's end
        x[reset] = self.vocab_size
        if len(self.cuts):
            reset |= _are_among(positions, self.cuts)
        return x, y, reset

    def ends(self) -> Iterator[npt.NDArray[np.int64]]:
        """The positions in the array of ids after the ends of records, chunk by chunk."""
        for low in range(0, len(self.ids), CHUNK):
            yield np.flatnonzero(self.ids[low : low + CHUNK] == self.end) + (low + 1)

    def records(self) -> npt.NDArray[np.int64]:
        """Where records start in the array of ids."""
        starts = np.concatenate([np.zeros(1, np.int64), *self.ends()])
        return starts[starts < len(self.ids)]

    def shuffled(self, seed: int) -> Documents:
        """The same records in another order."""
        starts = self.records()
        ends = np.append(starts[1:], len(self.ids))
        if self.pieces is not None:
            first, kept = (
                self.pieces.first + self.pieces.shift,
                np.append(self.pieces.first, self.pieces.total),
            )
            piece = np.searchsorted(first, starts, side="right") - 1
            inside = (piece >= 0) & (starts - first[piece] < np.diff(kept)[piece])
            starts, ends = starts[inside], ends[inside]
        order = np.random.default_rng([seed, 3]).permutation(len(starts))
        return replace(self, pieces=Pieces.between(starts[order], ends[order]))

    def labels_at(
        self, positions: npt.NDArray[np.int64], hidden: float = 0.0, key: int = 0
    ) -> npt.NDArray[np.int32] | None:
        """The labels of the texts at these positions, (.., columns), see Labelling; None: there are none."""
        return None if self.labels is None else self.labels.at(self._places(positions), hidden, key)

    def between(self, low: int, high: int) -> Documents:
        """The characters low .. high - 1 in an array of their own, which also has the one before each piece.

        They have no labels.
        """
        if self.pieces is None:
            first = shift = np.zeros(1, np.int64)
        else:
            inside = slice(
                int(np.searchsorted(self.pieces.first, low, side="right")) - 1,
                int(np.searchsorted(self.pieces.first, high)),
            )
            first, shift = self.pieces.first[inside], self.pieces.shift[inside]
        bounds = np.append(np.maximum(first, low), high)
        begins, lengths = bounds[:-1] + shift, np.diff(bounds)
        ids, places = self._apart(begins, lengths)
        pieces = Pieces(bounds[:-1] - low, places - (bounds[:-1] - low), high - low)
        starts, cuts = (marks[(low <= marks) & (marks < high)] - low for marks in (self.starts, self.cuts))
        return Documents(ids, self.vocab_size, starts, self.end, pieces, cuts)

    def _apart(self, begins: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> tuple[IdArray, Any]:
        """An array with these pieces of the array of ids, each after the one before it, and their places."""
        ends, first = begins + lengths, int(begins[0]) - 1
        if (begins[1:] >= ends[:-1]).all() and ends[-1] - first <= 2 * lengths.sum() + 1:  # all in one read
            ids = self.ids[max(0, first) : ends[-1]]
            return (ids if first >= 0 else np.concatenate([self.ids[-1:], ids])), begins - first
        within = np.arange(lengths.sum() + len(lengths)) + np.repeat(
            begins - np.cumsum(lengths + 1) + lengths, lengths + 1
        )
        return self.ids[within], np.cumsum(lengths + 1) - lengths

    def _places(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The positions' indices in `ids`, as a new array."""
        return positions.copy() if self.pieces is None else self.pieces.places(positions)


@dataclass(frozen=True, eq=False, slots=True)
class Passage:
    """The characters low .. high - 1 of documents, read like an array of ids, of which none is made."""

    documents: Documents
    low: int
    high: int

    def __len__(self) -> int:
        return self.high - self.low

    def __getitem__(self, key: Any) -> IdArray:
        places = np.arange(*key.indices(len(self))) if isinstance(key, slice) else np.asarray(key)
        return self.documents.at(places + self.low)


@dataclass(frozen=True, eq=False, slots=True)
class Corpus:
    """A text as it was read: documents, vocabulary, and how bytes became characters."""

    documents: Documents
    vocabulary: Vocabulary
    text: TextConfig
    name: str  # the first file or folder, without its path and suffix
    notes: tuple[str, ...] = ()  # messages about what reading changed or left out
    columns: Columns = ()  # the labels that its texts have
    parts: tuple[int, ...] = (0,)  # where the text of each path begins

    @property
    def vocab_size(self) -> int:
        """V, the number of characters; the end of a text is none, but see Documents.vocab_size."""
        return len(self.vocabulary) - (self.text.split is not None)

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the ids, the documents' starts, the vocabulary and the text settings.

        It is the same on every machine and does not depend on the corpus's name.
        """
        digest = hashlib.sha256()
        # Without the normal form, which follows from the ids.
        text = replace(self.text, normal_form=None).to_dict()
        settings: dict[str, Any] = {"text": text, "vocabulary": self.vocabulary.characters}
        hashed: list[Any] = [self.documents.starts, self.documents.ids]
        if self.documents.labels is not None:
            settings["labels"] = [column.to_dict() for column in self.columns]
            hashed += [self.documents.labels.starts, self.documents.labels.ids.reshape(-1)]
        digest.update(json.dumps(settings, sort_keys=True).encode())
        for array in hashed:
            little_endian = array.dtype.newbyteorder("<")
            digest.update(f"{little_endian.str}{len(array)}:".encode())
            for start in range(0, len(array), CHUNK):  # in chunks, so that Ctrl-C takes effect
                digest.update(array[start : start + CHUNK].astype(little_endian, copy=False).data)
        return digest.hexdigest()

    def novelty(self) -> Generator[int, None, Novelty]:
        """Builds the novelty index of the whole text, training and validation; see `Novelty.build`."""
        return Novelty.build(self.pieces, end=self.text.end)

    def pieces(self) -> Iterator[str]:
        """The text in pieces, with a line end after each document, since a file's last line may lack one.

        Records end with END instead.
        """
        documents = self.documents
        for start, end in pairwise([*documents.starts.tolist(), len(documents)]):
            for at in range(start, end, CHUNK):
                yield self.vocabulary.decode(documents.ids[at : min(at + CHUNK, end)])
            if self.text.split is None:
                yield "\n"

    def records(self) -> int:
        """The number of records; 0 for prose."""
        return sum(map(len, self.documents.ends()))

    def with_vocabulary(self, vocabulary: Vocabulary) -> Self:
        """The same text with the ids of another vocabulary.

        Raises:
            VocabularyError: the other vocabulary lacks one of the text's characters.
        """
        if vocabulary == self.vocabulary:
            return self
        table = self.vocabulary.positions_in(vocabulary)
        if table.min() < 0:
            raise VocabularyError("the other vocabulary lacks characters of the corpus")
        table = table.astype(vocabulary.dtype)
        old = self.documents
        ids = arrays.made(old.ids, renumbered, table)
        line_end = int(table[old.end]) if old.end >= 0 else -1
        documents = replace(old, ids=ids, vocab_size=len(vocabulary), end=line_end)
        return replace(self, documents=documents, vocabulary=vocabulary)

    def with_columns(self, columns: Columns) -> Self:
        """The same text with the label ids of other columns; labels that these lack become unknown."""
        if columns == self.columns:
            return self
        size = 0 if self.documents.labels is None else len(self.documents.labels.starts)
        ids = np.empty((size, len(columns)), np.int32)
        own = {column.name: n for n, column in enumerate(self.columns)}
        for n, column in enumerate(columns):
            ids[:, n] = len(column.labels)
            if self.documents.labels is not None and column.name in own:
                place = own[column.name]
                table = self.columns[place].positions_in(column)
                ids[:, n] = table[self.documents.labels.ids[:, place]]
        labels = self.documents.labels and replace(self.documents.labels, ids=ids)
        return replace(self, documents=replace(self.documents, labels=labels), columns=columns)


def read(
    paths: Sequence[str | Path],
    text: TextConfig = TextConfig(),  # noqa: B008 (frozen)
    *,
    vocabulary: Vocabulary | None = None,
    on_unknown: OnUnknown = "error",
    stdin: BinaryIO | None = None,
    expected: str | None = None,
    columns: Columns | None = None,
    skips_labels: bool | None = None,
) -> Corpus:
    """Reads files, folders, .gz files and "-" (`stdin`) as one corpus, in one pass.

    Each file is a document or, if the text holds records, each of these is one, including its end. Without a
    given vocabulary, one is built from the text; so are the `columns` of labels, if texts have any. With
    `skips_labels`, labels that the given columns lack count as unknown; None: if characters are skipped.
    `expected` is the encoding that an error suggests for undecodable bytes. Memory: the ids and about 10 MB.

    Raises:
        CorpusError: a file cannot be read or decoded, or is not the table that it should be; the text has
            fewer than two characters, or it would fill the memory; nothing in it separates records.
        ConfigError: the encoding is not known.
        VocabularyError: the given vocabulary lacks a character, and `on_unknown` is "error".

    With `text.targets`, CorpusError: a line is no pair. Of tags, the result says which kind they are of.
    """
    skips = on_unknown == "skip" if skips_labels is None else skips_labels
    labels = Labels(text, columns, skips=skips) if text.label_by else None
    return _Reader(Decoder(text, expected), vocabulary, on_unknown, labels).read(paths, stdin)


def read_together(
    ranks: Ranks,
    paths: Sequence[str | Path],
    text: TextConfig,
    *,
    vocabulary: Vocabulary | None = None,
    columns: Columns | None = None,
) -> Corpus:
    """The same corpus, but of a long text each rank holds a part of the ids; the leader alone reads files.

    Labels that given columns lack count as unknown. Memory of each rank: its part, and about 10 MB.
    """
    labels = Labels(text, columns, skips=columns is not None) if text.label_by else None
    return _Reader(Decoder(text), vocabulary, "error", labels, ranks).read(paths)


class _Reader:
    """Reads one file after another; what they have in common becomes a corpus in the end."""

    def __init__(
        self,
        decoder: Decoder,
        vocabulary: Vocabulary | None,
        on_unknown: OnUnknown,
        labels: Labels | None,
        ranks: Ranks = ALONE,
    ) -> None:
        text = decoder.text
        self._decoder, self._text, self._labels = decoder, text, labels
        self._pairs = Pairs(text) if text.targets else None
        self._builds_vocabulary = vocabulary is None
        self._encoder = Encoder(vocabulary, on_unknown, marks=text.split is not None and not text.bytes)
        self._cutter = cutters.cutter(text)
        self._ends: LineEnds | None = None
        if text.end:
            if vocabulary is None:
                self._encoder.add_ids([ord(text.end)])
            elif text.end not in vocabulary:
                raise VocabularyError(
                    "the model has never seen a line end, so it cannot read lines as documents",
                    "leave out --lines",
                )
            self._ends = LineEnds(self._encoder.id_of(ord(text.end)))
        self._ids = arrays.SharedBuffer(self._encoder.dtype, ranks)
        self._ranks = ranks
        self._max_bytes = MEMORY_SHARE * (total_memory() or math.inf)  # beyond this the machine would swap
        self._starts: list[int] = []  # of documents
        self._parts: list[int] = []  # where the text of each path begins
        self._left_out: list[str] = []  # binary files found in folders

    def read(self, paths: Sequence[str | Path], stdin: BinaryIO | None = None) -> Corpus:
        """The corpus of all files."""
        sources = find(paths)
        for source in sources:
            self._add(source, stdin)
        return self._finish(sources, corpus_name(paths[0]))

    def _add(self, source: Source, stdin: BinaryIO | None) -> None:
        """Read a file, unless it is empty, or a binary one in a folder."""
        if source.given == len(self._parts):
            self._parts.append(len(self._ids))
        chunks = source.chunks(stdin)
        head = next(chunks, b"")
        if not head:
            self._cutter.empty += self._text.split == "file"
            return
        if reason := why_not_text(head, self._text):
            if not source.in_folder:
                raise CorpusError(f"{source.name} is {reason[0]}", reason[1])
            self._left_out.append(f"{source.name} ({reason[0]})")
            return
        start = len(self._ids)
        must = self._builds_vocabulary or bool(self._text.label_fields)
        pieces = _cut(self._decoder, self._cutter, chain([head], chunks), source.name, must=must)
        if self._pairs:
            pieces = self._pairs.checked(pieces)
        for points, where in self._labels.cut(pieces, source, start) if self._labels else pieces:
            self._append(self._encoder.encode(points, where), source)
        if self._ends:
            self._end_file(self._ends, start)
        # The end of the record before a file already marks the start of one.
        if len(self._ids) > start and (self._ends is None or not self._starts):
            self._starts.append(start)

    def _append(self, piece: IdArray, source: Source) -> None:
        """Take the next ids, without the ends of empty records."""
        self._ids.widen(self._encoder.dtype)
        if self._ends:
            if self._labels:
                self._labels.note(self._ends.kept(piece))
            # Records of unknown characters alone are empty if these are skipped.
            whole = self._cutter.leaves_none_empty and not self._encoder.skipped
            whole = whole and self._text.field is None and not self._labels
            piece = self._ends.clean(piece, whole=whole)
        self._ids.append(piece)
        if self._ids.nbytes > self._max_bytes:
            raise CorpusError(
                f"{source.name} has more text than memory holds ({self._ids.nbytes / 1e9:.1f} GB so far)",
                "take a part of it: head -c 1G FILE | charrnn ... -",
            )

    def _end_file(self, ends: LineEnds, start: int) -> None:
        """End the last record of a file, whose ids begin at `start`."""
        missing = ends.finish_file()
        self._ids.append(missing)
        if self._labels:
            self._labels.note(np.ones(len(missing), np.bool_))
            self._labels.finish_file()
        self._cutter.empty += self._text.split == "file" and len(self._ids) == start

    def _finish(self, sources: list[Source], name: str) -> Corpus:
        text, encoder, ends = self._text, self._encoder, self._ends
        _check_length(len(self._ids), sources, self._left_out, encoder.skipped)
        ids, fits = self._ids.finish(), np.ones(1, np.bool_)
        if ends and text.max_chars is not None:
            ids, fits = _without_long(ids, ends.newline, text.max_chars, self._parts, self._ranks)
            if not len(ids):
                raise CorpusError(
                    f"every text has more than {text.max_chars:,} characters", "give --max-chars N"
                )
        vocabulary = encoder.finish(ids, text)
        end = vocabulary.characters.index(text.end) if text.end else -1
        documents = Documents(ids, len(vocabulary), np.array(self._starts, np.int64), end)
        empty = self._cutter.empty + (ends.empty_lines if ends else 0)
        notes = _notes(self._decoder, encoder, empty, int(np.count_nonzero(~fits)), self._left_out)
        if self._pairs:
            text = replace(text, targets="words" if self._pairs.words else "characters")
        corpus = Corpus(documents, vocabulary, text, name, notes, parts=tuple(self._parts))
        if self._labels:
            corpus = _labelled(corpus, self._labels, fits)
        return self._as_model_text(corpus) if self._builds_vocabulary else corpus

    def _as_model_text(self, corpus: Corpus) -> Corpus:
        """A corpus to learn from: with the form of its characters, which later texts are brought to."""
        text = corpus.text
        if text.split not in (None, "file") and text.field is None and not self._cutter.separators:
            raise cutters.never_separated(text.split or "", next(corpus.pieces()).rstrip(END))
        if text.bytes:
            return corpus
        form = text.normal_form or form_of(corpus.vocabulary.characters, corpus.pieces)
        return replace(corpus, text=replace(text, normal_form=form))


def _labelled(corpus: Corpus, labels: Labels, fits: npt.NDArray[np.bool_]) -> Corpus:
    """The corpus with the labels of its texts, of which those are in it that fit."""
    records = corpus.documents.records() if corpus.text.records else np.zeros(0, np.int64)
    found, labelling = labels.finish(records, fits)
    notes = corpus.notes
    if labels.skipped:
        notes = (*notes, _counted(labels.skipped, "label") + " left out that the model has never seen")
    documents = replace(corpus.documents, labels=labelling)
    return replace(corpus, documents=documents, columns=found, notes=notes)


def _cut(
    decoder: Decoder, cutter: Cutter, chunks: Iterator[bytes], name: str, *, must: bool
) -> Iterator[tuple[CodePoints, Callable[[int], str]]]:
    """The code points of a file's records, in pieces (n,), with what gives the place of one of these.

    `must`: whether the file must be a table, if the text is read from tables.
    """
    cutter.start()
    if decoder.text.field is None:
        found = decoder.decode(chunks, name)
    else:
        texts, is_table = tables.opened(decoder.texts(chunks, name), name, decoder.text, must=must)
        if is_table:
            yield from ((points_of(text), lambda n: f"in {name}") for text in texts)
            return
        found = decoder.points(texts)
    for points in chain(found, [None]):
        yield (
            cutter.finish() if points is None else cutter.add(points),
            lambda n: f"in line {cutter.line_of(n)} of {name}",
        )


def _without_long(
    ids: Ids, end: int, most: int, parts: list[int], ranks: Ranks
) -> tuple[Ids, npt.NDArray[np.bool_]]:
    """The records, each ended by the id `end`, of at most `most` characters, and a mask of these among all.

    `parts`, positions where records begin, move with them.
    """
    kept, low = arrays.SharedBuffer(ids.dtype, ranks), 0
    short, begins = [], np.array(parts)
    while low < len(ids):
        high = low
        stops = np.zeros(0, np.int64)
        while not len(stops):  # chunks until a record ends
            high = min(high + CHUNK, len(ids))
            stops = np.flatnonzero(ids[low:high] == end) + 1
        lengths = np.diff(stops, prepend=0)
        fits = lengths <= most + 1
        part = ids[low : low + stops[-1]][np.repeat(fits, lengths)]
        ends_kept = len(kept) + np.append(0, np.cumsum(lengths * fits))
        for n in np.flatnonzero((low <= begins) & (begins <= low + stops[-1])):
            parts[n] = int(ends_kept[np.searchsorted(stops, begins[n] - low, side="right")])
        kept.append(part)
        short.append(fits)
        low += int(stops[-1])
    return kept.finish(), np.concatenate(short)


def _check_length(length: int, sources: list[Source], left_out: list[str], skipped: int) -> None:
    """Raises CorpusError with the reason if there are fewer than two characters."""
    if length >= 2:
        return
    what = sources[0].name if len(sources) == 1 else "the corpus"
    if length == 1:
        raise CorpusError(f"{what} holds a single character", "give at least two")
    if skipped:
        raise CorpusError(f"{what} holds no character that the model knows", "give another text")
    if left_out:
        raise CorpusError(f"there is no text in the folder: {_such_as(left_out)}", "--bytes reads any file")
    raise CorpusError(f"{what} is empty", "give a text of at least two characters")


def _notes(
    decoder: Decoder, encoder: Encoder, empty: int, too_long: int, left_out: list[str]
) -> tuple[str, ...]:
    text, notes = decoder.text, []
    if decoder.line_ends:
        kinds = " and ".join(
            name for end, name in (("\r\n", "CRLF"), ("\r", "CR")) if end in decoder.line_ends
        )
        notes.append(f"{kinds} line ends became LF (--keep-newlines leaves them)")
    if decoder.marks:
        notes.append(_counted(decoder.marks, "byte order mark") + " left out at the start of lines")
    if decoder.bad:
        what = "left out" if text.encoding_errors == "skip" else "replaced by U+FFFD"
        places = f"{decoder.bad:,} places were" if decoder.bad > 1 else "1 place was"
        notes.append(f"{places} no {text.encoding.upper()} text, and {what}")
    if decoder.normalised:
        forms = ["lower case"] * text.lowercase + [text.normal_form] * (text.normal_form is not None)
        own = ", the form of the model's own" if encoder.vocabulary is not None else ""
        notes.append(f"the text was brought to {' and '.join(map(str, forms))}{own}")
    if empty:
        notes.append(_counted(empty, "empty line" if text.lines else "empty text") + " left out")
    if too_long:
        notes.append(_counted(too_long, "text") + f" left out for more than {text.max_chars:,} characters")
    if encoder.rare:
        notes.append(
            f"{encoder.made_rare:,} characters, {encoder.rare:,} different ones that occur less than "
            f"{text.min_count:,} times, became one that stands for all unknown ones and is never written"
        )
    if encoder.skipped:
        notes.append(_counted(encoder.skipped, "character") + " left out that the model has never seen")
    if left_out:
        notes.append(_such_as(left_out))
    return tuple(notes)


def _such_as(left_out: list[str]) -> str:
    """How many files were left out, and the name of the first."""
    such_as = "such as " if len(left_out) > 1 else ""
    return f"{_counted(len(left_out), 'file')} left out: {such_as}{left_out[0]}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}s were" if count > 1 else f"1 {noun} was"


def corpus_name(path: str | Path) -> str:
    """The name for a model of this corpus: "poe" for `texts/poe.txt.gz`, "texts" for `texts/`."""
    if str(path) == "-":
        return "stdin"
    path = Path(path)
    if path.is_dir():
        return path.resolve().name or "corpus"
    if path.suffix.lower() == ".gz":
        path = path.with_suffix("")
    return path.stem
