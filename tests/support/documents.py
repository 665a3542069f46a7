"""Small texts as documents, and what is in them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from charrnn.config import TextConfig
from charrnn.text.corpus import Corpus
from charrnn.text.documents import Documents
from charrnn.text.reading import read
from charrnn.vocabulary import Vocabulary

LINES = TextConfig(lines=True)
BYTES = TextConfig(bytes=True)


def read_bytes(data: bytes, text: TextConfig | None = None, **options: object) -> Corpus:
    return read(["-"], text or TextConfig(), stdin=io.BytesIO(data), **options)  # type: ignore[arg-type]


def read_text(text: str, config: TextConfig | None = None, **options: object) -> Corpus:
    return read_bytes(text.encode(), config, **options)


def content(corpus: Corpus) -> str:
    return corpus.vocabulary.decode(corpus.documents.ids)


def start_positions(documents: Documents) -> list[int]:
    _, _, reset = documents.look_up(np.arange(len(documents)))
    return np.flatnonzero(reset).tolist()


def all_ids(documents: Documents) -> np.ndarray[Any, Any]:
    return documents.at(np.arange(len(documents)))


def make(ids: object, starts: object = (0,), end: int = -1, vocab_size: int = 0) -> Documents:
    array = np.array(ids, np.uint16)
    size = vocab_size or int(array.max(initial=0)) + 1
    return Documents(array, size, np.array(starts, np.int64), end)


def make_lines(text: str) -> tuple[Documents, Vocabulary]:
    corpus = read_text(text, LINES)
    return corpus.documents, corpus.vocabulary
