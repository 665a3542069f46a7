"""Files -> a corpus, in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from charrnn.config import END, TextConfig
from charrnn.errors import CorpusError, VocabularyError
from charrnn.labels import Columns
from charrnn.ranks import arrays
from charrnn.ranks.ranks import ALONE, Ranks
from charrnn.system.memory import total_memory
from charrnn.text.corpus import Corpus, corpus_name
from charrnn.text.documents import Documents
from charrnn.text.files.decoding import CHUNK, CodePoints, Decoder, Encoder, Ids, LineEnds, points_of
from charrnn.text.files.normalization import form_of
from charrnn.text.files.sources import Source, find, why_not_text
from charrnn.text.records import cutter as cutters
from charrnn.text.records import tables
from charrnn.text.records.cutter import Cutter
from charrnn.text.records.labels import Labels
from charrnn.text.records.pairs import Pairs
from charrnn.vocabulary import IdArray, OnUnknown, Vocabulary

MEMORY_SHARE = 0.75  # the largest share of all memory that a text may take


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
