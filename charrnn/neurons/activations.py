"""A text as a model reads it, in bounded memory, and the values of all units after each character.

Axes: T steps, B columns, N characters, H units of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import TextConfig
from charrnn.inference.mixed_model import AnyNetwork, model_of
from charrnn.neurons.units import is_bounded, part
from charrnn.nn.network import Model, State
from charrnn.nn.parameters import Array
from charrnn.text.files.lines import read_texts
from charrnn.text.files.normalization import Normaliser
from charrnn.vocabulary import END, OnUnknown, code_points, positions, unknown_character

Ids = npt.NDArray[np.int32]

COLUMNS = 32  # at the most, side by side
LEAST = 4096  # steps of a column where there are several: a shorter text is read as it stands
BEFORE = 256  # steps that a column reads before those whose values count
T = 256  # steps of a window
BLOCK = COLUMNS * LEAST  # characters that are cut into columns
PIECE = 1 << 16  # characters of a text at a time


class Piece(NamedTuple):
    """A part of a file's text, in the model's form and characters."""

    file: str
    text: str
    begins: bool  # it is the first part of its file


class Reading:
    """The texts of files, in pieces, up to so many characters.

    Raises, while it is iterated:
        VocabularyError: a character is unknown, and is not to be skipped; it says in which line.
        CorpusError: a file cannot be read.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        paths: Sequence[str | Path],
        text: TextConfig,
        *,
        on_unknown: OnUnknown,
        most: int | None,
        before_waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self._checkpoint, self._paths, self._text = checkpoint, paths, text
        self._on_unknown, self._most, self._before_waiting = on_unknown, most, before_waiting
        self.characters = 0  # so far
        self.cut = False  # there was more than `most`

    def __iter__(self) -> Iterator[Piece]:
        normaliser, line, begins = Normaliser(self._checkpoint.text.form), 1, True
        for file, read in read_texts(self._paths, self._text, PIECE, self._before_waiting):
            text = normaliser.add(read or "", last=read is None)
            if text:
                known = self._known(file, text, line)
                line += text.count("\n") + text.count(END)
                if self._most is not None and self.characters + len(known) > self._most:
                    self.cut, known = True, known[: self._most - self.characters]
                self.characters += len(known)
                if known:
                    yield Piece(file, known, begins)
                    begins = False
                if self.cut:
                    return
            if read is None:
                normaliser, line, begins = Normaliser(self._checkpoint.text.form), 1, True

    def _known(self, file: str, text: str, line: int) -> str:
        """The text in the model's characters."""
        vocabulary = self._checkpoint.vocabulary
        ids = positions(vocabulary.code_points, code_points(text))
        ids[ids < 0] = vocabulary.unknown
        unknown = np.flatnonzero(ids < 0)
        if len(unknown) and self._on_unknown == "error":
            first = int(unknown[0])
            number = line + text.count("\n", 0, first) + text.count(END, 0, first)
            raise unknown_character(text[first], f"in line {number:,} of {file}")
        return vocabulary.decode(ids[ids >= 0])


class Steps(NamedTuple):
    """What is read, step by step, (M,) each."""

    x: Ids
    reset: Array  # whether a text begins
    places: Array  # of the characters that have been read then; -1: none


class Network:
    """A model's network, which shows the values of its units."""

    def __init__(self, checkpoint: Checkpoint, threads: int | None) -> None:
        self._alone = replace(checkpoint, counts=None, cache=None)
        self.checkpoint, self.threads = checkpoint, threads
        self.cell, self.H = checkpoint.config.recurrence, checkpoint.config.hidden_size
        self.start = checkpoint.config.outputs  # the id of START
        self.end = checkpoint.vocabulary.find(checkpoint.text.end) if checkpoint.text.records else -1

    def model(self, *, predicts: bool) -> AnyNetwork:
        """The network; only where it predicts, counts stand beside it."""
        return model_of(self.checkpoint if predicts else self._alone, self.threads)

    def steps(self, ids: Ids) -> Steps:
        """The steps in which these characters are read.

        Where a text ends, the next begins: its state takes the place of the one before, which is that of a
        step for which there is no character.
        """
        begins = (ids == self.end) | (ids == self.start)
        x = np.repeat(np.where(begins, self.start, ids).astype(np.int32), 1 + begins)
        last = np.cumsum(1 + begins) - 1  # the step after which a character has been read
        reset, places = np.zeros(len(x), np.bool_), np.full(len(x), -1)
        reset[last], places[last] = begins, np.where(ids == self.start, -1, np.arange(len(ids)))
        return Steps(x, reset, places)

    def values(self, state: State) -> list[Array]:
        """What is looked at of each layer, (n, H), as it is in the state.

        A reservoir has its layers side by side; attention has a part of the state behind the layers.
        """
        parts = (layer[part(self.cell)] for layer in state.layers)
        each = (values[:, n : n + self.H] for values in parts for n in range(0, values.shape[1], self.H))
        return list(islice(each, self.checkpoint.config.num_layers))

    def shown(self, values: Array) -> Array:
        """The values as they are shown, from -1 to 1."""
        return values if is_bounded(self.cell) else np.tanh(values)


class Block(NamedTuple):
    """Characters of a text, and some that follow."""

    ids: Ids  # (N + a few,); START where a file begins
    N: int
    before: Ids  # (BEFORE,) those before


def blocks(network: Network, texts: Reading, ahead: int) -> Iterator[Block]:
    """The text in blocks of BLOCK characters, each with `ahead` more, as far as there are any."""
    vocabulary, start = network.checkpoint.vocabulary, np.array([network.start], np.int32)
    before = np.full(BEFORE, network.start, np.int32)
    held: list[Ids] = []
    count, first = 0, True
    for piece in chain(texts, [None]):
        if piece is not None:
            if piece.begins and not first:
                held.append(start)
                count += 1
            first = False
            held.append(vocabulary.encode(piece.text).astype(np.int32))
            count += len(piece.text)
        while count >= BLOCK + ahead or (piece is None and count):
            ids, N = np.concatenate(held), min(BLOCK, count)
            yield Block(ids[: N + ahead], N, before)
            before = np.concatenate([before, ids[:N]])[-BEFORE:]
            held, count = [ids[N:]], count - N


def windows(network: Network, model: Model, block: Block) -> Iterator[tuple[Array, list[Array]]]:
    """The places (n,) of characters in a block, and the values of each layer's units after them, (n, H).

    All of them come, in parts, in any order. Each column reads what is before its first character.
    """
    lead, steps = network.steps(block.before), network.steps(block.ids[: block.N])
    M = len(steps.x)
    B = min(COLUMNS, max(1, M // LEAST))
    each = -(-M // (B * T)) * T  # steps of a column
    x = np.full(BEFORE + B * each, network.start, np.int32)
    reset, places = np.zeros(len(x), np.bool_), np.full(len(x), -1)
    own = slice(BEFORE, BEFORE + M)
    x[:BEFORE], x[own] = lead.x[-BEFORE:], steps.x
    reset[:BEFORE], reset[own], places[own] = lead.reset[-BEFORE:], steps.reset, steps.places
    columns = np.arange(B) * each  # the first step of each, BEFORE steps after where it begins to read
    zero, state = model.zero_state(1), model.zero_state(B)
    nothing = np.empty(0, np.int64)
    for first in range(0, BEFORE + each, T):
        at = first + np.arange(T)[:, None] + columns  # (T, B)
        told = places[at].reshape(-1)
        kept = np.flatnonzero(told >= 0) if first >= BEFORE else nothing
        _, after, state = model.read(
            x[at], reset[at].astype(np.int32) - 1, zero, state, nothing, nothing, kept
        )
        yield told[kept], network.values(after)
