"""A text as it was read: documents, vocabulary, labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np

from charrnn.config import TextConfig
from charrnn.errors import VocabularyError
from charrnn.labels import Columns
from charrnn.ranks import arrays
from charrnn.text.documents import Documents
from charrnn.text.files.decoding import CHUNK, renumbered
from charrnn.text.novelty import Novelty
from charrnn.vocabulary import Vocabulary


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
