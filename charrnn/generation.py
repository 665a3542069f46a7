"""Checkpoint + prompt -> texts, piece by piece as they are written.

The first characters come from charrnn.paths's plain path, at once; in mid-text the compiled one takes over.
It writes several texts side by side: the one that is asked for, and those that come after it.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint import Checkpoint
from charrnn.config import DEFAULT_SAMPLE_LENGTH, MAX_LINE_LENGTH, SampleConfig, WeightPrecision
from charrnn.errors import VocabularyError
from charrnn.mixture import Blend, MixedNetwork
from charrnn.paths import Cursor, Network, Paths
from charrnn.plain import PlainNetwork
from charrnn.vocabulary import Vocabulary

Ids = npt.NDArray[np.int64]

# Characters from one call where texts may end at any moment: one that has ended makes room for the next.
SHORT_PIECE = 16
# What may be written ahead of the text that is asked for, and is kept in memory.
CHARACTERS_AHEAD = 2**25
TEXTS_AHEAD = 4096


def generate(
    checkpoint: Checkpoint | Blend,
    prompt: str = "",
    config: SampleConfig = SampleConfig(),  # noqa: B008 (frozen)
    *,
    index: int = 0,
    on_unknown: Literal["error", "skip"] = "error",
    echo: bool = False,
) -> Iterator[str]:
    """Text number `index` of the run with the seed `config.seed`, in pieces of one or more characters.

    The text goes on from the prompt, which comes first with `echo` (without the unknown characters that
    "skip" drops). Without a prompt, prose begins as after a line's end. To a model of lines, each line is a
    text of its own: it goes on from the prompt's last line, and stops at the end of its own, "\\n" included.

    Each character takes one number from a random stream of its own seed and index. So a text depends on
    nothing else: not on its length, on how many there are, or on which path writes it.

    Raises:
        VocabularyError: the prompt holds a character that the model has never seen.
    """
    return next(generate_all(checkpoint, prompt, config, first=index, on_unknown=on_unknown, echo=echo))


def generate_all(
    checkpoint: Checkpoint | Blend,
    prompt: str = "",
    config: SampleConfig = SampleConfig(),  # noqa: B008 (frozen)
    *,
    first: int = 0,
    count: int = 1,
    on_unknown: Literal["error", "skip"] = "error",
    echo: bool = False,
    threads: int | None = None,
) -> Iterator[Iterator[str]]:
    """The texts number `first` to `first + count - 1`, as `generate` writes them.

    They are written side by side where that is quicker, on all CPUs or so many threads, but never far ahead
    of the one whose pieces are taken. They can be taken in any order.

    Raises:
        VocabularyError: the prompt holds a character that the model has never seen.
    """
    read = checkpoint.vocabulary.encode(prompt, on_unknown).astype(np.int64)
    return _Run(checkpoint, read, config, range(first, first + count), echo, threads).texts()


class _Run:
    """All texts of one request."""

    def __init__(
        self,
        checkpoint: Checkpoint | Blend,
        prompt: Ids,
        config: SampleConfig,
        indices: range,
        echo: bool,
        threads: int | None,
    ) -> None:
        self._vocabulary = checkpoint.vocabulary
        self._lines = checkpoint.text.lines
        self._config = config
        self._echo = self._vocabulary.decode(prompt) if echo else ""
        default = MAX_LINE_LENGTH if self._lines else DEFAULT_SAMPLE_LENGTH
        self._length = default if config.length is None else config.length
        self._newline = self._vocabulary.characters.find("\n")
        document = opening(prompt, len(self._vocabulary), self._newline, self._lines)
        network = network_of(checkpoint, config.precision)
        self._paths = Paths(network, config, threads)
        self._start = Cursor(int(document[0]), network.initial_state())
        self._unread = document[1:]  # of what each text goes on from
        self._indices = indices  # of the texts to come
        self._ahead: deque[_Text] = deque()  # are being written, and nobody has asked for them yet
        self._taken: weakref.WeakSet[_Text] = weakref.WeakSet()  # those that somebody has
        self._ended, self._ended_characters = 0, 0
        self._lock = threading.Lock()  # a program may take its texts on several threads

    def texts(self) -> Iterator[Iterator[str]]:
        while self._ahead or self._indices:
            with self._lock:
                if not self._ahead:
                    self._add_text()
                text = self._ahead.popleft()
                self._taken.add(text)
            yield self._pieces(text)

    def _add_text(self) -> None:
        ending = _Ending(self._lines, self._config.until)
        self._ahead.append(_Text(self._indices[0], ending, self._length))
        self._indices = self._indices[1:]

    def _pieces(self, text: _Text) -> Iterator[str]:
        if self._echo:
            yield self._echo
        while text.pieces or text.left:
            with self._lock:
                if not text.pieces:
                    self._write(text)
            yield text.take()

    def _write(self, text: _Text) -> None:
        """Write more of this text, and of others beside it."""
        path = self._paths.best(len(self._unread) + self._to_come(text))
        while len(self._unread):
            path.read(self._start, self._unread[: path.longest(1)])
            self._unread = self._unread[path.longest(1) :]
            path = self._paths.best(len(self._unread) + self._to_come(text))
        group = self._group(text, path.most_texts)
        longest = path.longest(len(group))
        if len(group) > 1 and (self._lines or self._config.until):
            longest = min(longest, SHORT_PIECE)
        for member in group:
            member.start(self._start, self._config.seed)
        written = path.write(
            [member.cursor for member in group],
            [member.numbers(longest) for member in group],
            self._newline if self._lines else -1,
        )
        for member, ids in zip(group, written, strict=True):
            member.add(self._vocabulary.decode(ids))
            if not member.left:
                self._ended += 1
                self._ended_characters += member.written

    def _to_come(self, text: _Text) -> int:
        """Characters still to be written, as far as known: a line's length is that of those before."""
        if self._lines:
            return len(self._indices) * self._ended_characters // max(1, self._ended)
        return text.left + len(self._indices) * self._length

    def _group(self, text: _Text, most: int) -> list[_Text]:
        """The text, and others to be written with it."""
        if most == 1:
            return [text]
        others = [other for other in (*self._taken, *self._ahead) if other is not text]
        if sum(other.waiting for other in others) > CHARACTERS_AHEAD:
            return [text]
        group = [text, *(other for other in others if other.left)][:most]
        while len(group) < most and self._indices and len(self._ahead) < TEXTS_AHEAD:
            self._add_text()
            group.append(self._ahead[-1])
        return group


class _Text:
    """One text: where it stands, how it goes on, and the pieces of it that nobody has taken yet."""

    cursor: Cursor
    _random: np.random.Generator

    def __init__(self, index: int, ending: _Ending, length: int) -> None:
        self.left = length  # characters, at the most
        self.written = 0
        self.pieces: deque[str] = deque()
        self.waiting = 0  # characters in them
        self._index = index
        self._ending = ending
        self._started = False

    def start(self, cursor: Cursor, seed: int | None) -> None:
        """It begins after what the cursor has read; later calls do nothing."""
        if not self._started:
            self._started = True
            self.cursor = replace(cursor)
            self._random = np.random.default_rng(None if seed is None else [seed, self._index])

    def numbers(self, n: int) -> npt.NDArray[np.float64]:
        """Uniform ones in [0, 1) for up to n more characters."""
        return self._random.random(min(n, self.left))

    def add(self, piece: str) -> None:
        """What has been written for it, perhaps past its end."""
        self.left -= len(piece)
        piece, ended = self._ending.cut(piece)
        if ended:
            self.left = 0
        self.written += len(piece)
        self.waiting += len(piece)
        self.pieces.append(piece)

    def take(self) -> str:
        piece = self.pieces.popleft()
        self.waiting -= len(piece)
        return piece


class _Ending:
    """Finds where a text ends that comes in pieces."""

    def __init__(self, lines: bool, until: str) -> None:
        self._lines = lines
        self._until = until
        self._tail = ""  # of what has been written: the longest that may be part of `until`

    def cut(self, piece: str) -> tuple[str, bool]:
        """The piece up to the end, and whether the end is in it."""
        ended = False
        if self._lines and (at := piece.find("\n")) >= 0:
            piece, ended = piece[: at + 1], True
        if self._until:
            text = self._tail + piece
            if (at := text.find(self._until)) >= 0:
                return piece[: at + len(self._until) - len(self._tail)], True
            self._tail = text[max(0, len(text) - len(self._until) + 1) :]
        return piece, ended


def opening(prompt: Ids, start: int, newline: int, lines: bool) -> Ids:
    """What the network reads before it writes: START, then the prompt or what stands for it."""
    if lines:
        ends = np.flatnonzero(prompt == newline)
        prompt = prompt[ends[-1] + 1 :] if len(ends) else prompt
    elif not len(prompt) and newline >= 0:
        # Prose begins like a new line, not like the corpus's first.
        prompt = np.array([newline], np.int64)
    return np.concatenate([np.array([start], np.int64), prompt])


_networks: weakref.WeakKeyDictionary[Checkpoint | Blend, dict[str, Network]] = weakref.WeakKeyDictionary()


def network_of(checkpoint: Checkpoint | Blend, precision: WeightPrecision) -> Network:
    """The checkpoint's network, arranged once for all texts."""
    networks = _networks.setdefault(checkpoint, {})
    if precision not in networks:
        if isinstance(checkpoint, Blend):
            networks[precision] = MixedNetwork(checkpoint, precision)
        else:
            networks[precision] = PlainNetwork(checkpoint, precision)
    return networks[precision]


TEXTS_FROM_PROMPTS = 4  # times as many as are written side by side, so that those that end have successors


def generate_each(
    checkpoint: Checkpoint | Blend,
    take: Callable[[int], list[str]],
    config: SampleConfig = SampleConfig(),  # noqa: B008 (frozen)
    *,
    count: int = 1,
    on_unknown: Literal["error", "skip"] = "error",
    echo: bool = False,
    threads: int | None = None,
) -> Iterator[Iterator[str]]:
    """`count` texts for each of many prompts, in their order; text n of all has the number n of its seed.

    `take(n)` gives the next prompts, n of them at the most, and none when there are no more. The texts of
    the prompts that one call gave are written side by side; nothing else of them is kept.

    Raises:
        VocabularyError: a prompt holds a character that the model has never seen: which prompt, and where
            in it. The texts of those before it have been given.
    """
    network = network_of(checkpoint, config.precision)
    paths = Paths(network, config, threads)
    vocabulary, lines = checkpoint.vocabulary, checkpoint.text.lines
    newline = vocabulary.characters.find("\n")
    default = MAX_LINE_LENGTH if lines else DEFAULT_SAMPLE_LENGTH
    length = default if config.length is None else config.length
    number = prompts = expected = 0
    while True:
        most = paths.best(expected).most_texts
        taken = take(1 if most == 1 else max(1, most * TEXTS_FROM_PROMPTS // count))
        if not taken:
            return
        problem = None
        starts = []
        for prompt in taken:
            prompts += 1
            try:
                ids = vocabulary.encode(prompt, on_unknown).astype(np.int64)
            except VocabularyError as error:
                problem = VocabularyError(f"line {prompts} of the prompts: {error.message}", error.hint)
                break
            read = opening(ids, len(vocabulary), newline, lines)
            start = Cursor(int(read[0]), network.initial_state())
            starts.append((start, read[1:], vocabulary.decode(ids) if echo else ""))
        _read_prompts(paths, [(start, read) for start, read, _ in starts])
        texts = []
        for start, _, before in starts:
            for _ in range(count):
                text = _Text(number, _Ending(lines, config.until), length)
                text.start(start, config.seed)
                texts.append((text, before))
                number += 1
        end = newline if lines else -1
        batch = _Batch(paths, [text for text, _ in texts], vocabulary, end, bool(config.until))
        for text, before in texts:
            yield batch.pieces(text, before)
        expected += sum(text.written for text, _ in texts)  # as many again
        if problem is not None:
            raise problem


def _read_prompts(paths: Paths, prompts: list[tuple[Cursor, Ids]]) -> None:
    """Each text reads its own prompt, all side by side."""
    for position in range(max((len(read) for _, read in prompts), default=0)):
        group = [(cursor, int(read[position])) for cursor, read in prompts if position < len(read)]
        paths.best(len(group)).predict([cursor for cursor, _ in group])
        for cursor, character in group:
            cursor.last = character


class _Batch:
    """Texts of different beginnings that are written side by side."""

    def __init__(
        self, paths: Paths, texts: list[_Text], vocabulary: Vocabulary, end: int, may_end: bool
    ) -> None:
        self._paths = paths
        self._texts = texts
        self._vocabulary = vocabulary
        self._end = end
        self._may_end = may_end or end >= 0
        self._lock = threading.Lock()

    def pieces(self, text: _Text, before: str) -> Iterator[str]:
        if before:
            yield before
        while text.pieces or text.left:
            with self._lock:
                if not text.pieces:
                    self._write(text)
            yield text.take()

    def _write(self, text: _Text) -> None:
        """Write more of this text, and of others beside it."""
        # How much is still to be written of lines, nobody knows.
        path = self._paths.best(0 if self._end >= 0 else sum(other.left for other in self._texts))
        group = [text]
        if path.most_texts > 1 and sum(other.waiting for other in self._texts) <= CHARACTERS_AHEAD:
            others = [other for other in self._texts if other.left and other is not text]
            group += others[: path.most_texts - 1]
        longest = path.longest(len(group))
        if len(group) > 1 and self._may_end:
            longest = min(longest, SHORT_PIECE)
        numbers = [member.numbers(longest) for member in group]
        written = path.write([member.cursor for member in group], numbers, self._end)
        for member, ids in zip(group, written, strict=True):
            member.add(self._vocabulary.decode(ids))
