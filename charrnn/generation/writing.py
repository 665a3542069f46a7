"""Checkpoint + prompt -> texts, piece by piece as they are written.

The NumPy engine writes the first characters at once; the compiled engine takes over in mid-text. It writes
several texts side by side: the one that is asked for, and those after it.
"""

from __future__ import annotations

import math
import threading
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import SampleConfig
from charrnn.constraints import rules
from charrnn.errors import CharrnnError, SamplingError, VocabularyError
from charrnn.generation.beginning import Ids, beginning, longest, new_text
from charrnn.generation.rejection import Rules, Text
from charrnn.inference.constrained_step import ENDED, STUCK
from charrnn.inference.engines import CompiledPath, Cursor, Paths, PlainPath
from charrnn.inference.mixture import Blend, network_of

if TYPE_CHECKING:
    from charrnn.counts.growing import GrowingCounts
    from charrnn.generation.learning import LearningNetwork

# Characters a call where texts may end at any character, so that the next text soon takes the place of one
# that has ended.
SHORT_PIECE = 16
# The most that is written ahead of the text that is asked for, and kept in memory.
CHARACTERS_AHEAD = 2**25
TEXTS_AHEAD = 4096
# Where each text has its own prompt, so many times more texts are begun than are written side by side: when
# one ends, another takes its place.
TEXTS_FROM_PROMPTS = 4


class Prompt(NamedTuple):
    """A prompt; if it has a seed of its own, its texts are numbered from 0.

    `label` is for models of texts with labels: the label or, by the names of columns, several.
    """

    text: str
    seed: int | None = None
    label: str | Mapping[str, str] | None = None


class Begun(NamedTuple):
    """What was written before in the same run, for prompts of other models."""

    prompts: int = 0
    numbered: int = 0  # of these, those without a seed of their own
    seen: set[bytes] | None = None  # hashes of texts that may not be repeated, to which new ones are added
    counts: GrowingCounts | None = None  # which go on counting the prompts


@dataclass(eq=False)
class Written(Iterator[str]):
    """A text that is being written, as an iterator of its pieces. It is numbered by the index of its run."""

    index: int
    seed: int | None
    pieces: Iterator[str]
    label: str | Mapping[str, str] | None = None  # of its prompt
    # Once all pieces were taken:
    closed: bool = False  # END came after them
    cut: bool = False  # the text had not ended when it reached its greatest length
    loss: float | None = None  # nats a character, END included, under the model, if that was asked for

    def __next__(self) -> str:
        return next(self.pieces)

    @property
    def bits_per_character(self) -> float | None:
        """The loss in bits."""
        return None if self.loss is None else self.loss / math.log(2)


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
) -> Iterator[Written]:
    """The texts number `first` to `first + count - 1` of the run with the seed `config.seed`.

    Each comes in pieces of one or more characters, and goes on from the prompt, which comes first with `echo`
    (without the unknown characters that "skip" drops). Without a prompt, prose begins with a sentence, see
    `beginning.lead`. For a model of lines, each line is a text of its own: it goes on from the prompt's last
    line, and stops at its own end, "\\n" included. A model of other records goes on from the whole prompt,
    and END, which is no character, is not among the pieces.

    Each character takes one number from a random stream with the text's own seed and index. So a text depends
    on nothing else: not on its length, on how many there are, or on which engine writes it.

    The texts are written side by side where that is quicker, on all CPUs or so many threads, but never far
    ahead of the one whose pieces are taken. They can be taken in any order.

    Raises:
        VocabularyError: the prompt holds a character that the model has never seen.
        ConfigError, SamplingError, CheckpointError: the constraints cannot be prepared; see rules.prepare.
            SamplingError also while texts are taken: every draft was rejected.
    """
    read = checkpoint.vocabulary.encode(prompt, on_unknown).astype(np.int64)
    return _Run(checkpoint, read, config, range(first, first + count), echo, threads).texts()


def generate_each(
    checkpoint: Checkpoint | Blend,
    take: Callable[[int], Sequence[str | Prompt]],
    config: SampleConfig = SampleConfig(),  # noqa: B008 (frozen)
    *,
    begun: Begun = Begun(),  # noqa: B008 (immutable)
    count: int = 1,
    on_unknown: Literal["error", "skip"] = "error",
    echo: bool = False,
    threads: int | None = None,
) -> Iterator[Written]:
    """`count` texts for each of many prompts, in order; the texts are numbered 0, 1, .. across all prompts
    that have no seed of their own.

    `take(n)` returns the next prompts, at most n, and none when there are no more; what was `begun` before
    belongs to the same run.
    The texts of the prompts from one call are written side by side; no others are kept in memory. If counts
    have `begun`, each prompt is learned before its texts are written, and these come in one piece.

    Raises:
        ConfigError, SamplingError, CheckpointError: see `generate_all`.
        VocabularyError: while the texts are taken, a prompt holds a character that the model has never seen;
            the message says which prompt, and where. The texts of the prompts before it come first.
    """
    writer = _Prompted(checkpoint, take, config, count, on_unknown, echo, threads, begun.counts)
    writer.go_on(begun)
    return writer.texts()


class _Writer(ABC):
    """Writes texts side by side, and rejects drafts that break the rules."""

    def __init__(
        self,
        checkpoint: Checkpoint | Blend,
        config: SampleConfig,
        threads: int | None,
        prompt: str | None,
        *,
        predicts: bool = False,
        counts: GrowingCounts | None = None,
    ) -> None:
        """`prompt` is the prompt of all texts; None: each has its own. `counts` are to learn."""
        self._vocabulary = checkpoint.vocabulary
        self._text = checkpoint.text
        self._config = config
        self._length = longest(self._text, config)
        self._network: Any = network_of(checkpoint, config.precision)
        self._learning: LearningNetwork | None = None
        if counts is not None:
            from charrnn.generation.learning import LearningNetwork

            self._network = self._learning = LearningNetwork(self._network, counts)
        self._control = rules.prepare(checkpoint, config, self._length, prompt)
        self._rules = Rules.of(checkpoint, config)
        by_line = "\n" if self._rules.by_line else ""
        self._end = self._vocabulary.find(self._text.end or by_line)  # where the engines stop
        self._paths = self._engines(threads, predicts=predicts)
        self._unsettled: deque[Text] = deque()  # texts that may still be redrawn, in order
        self._ended, self._ended_characters = 0, 0
        self._lock = threading.Lock()  # a program may take its texts on several threads

    def _engines(self, threads: int | None, *, predicts: bool) -> Paths:
        if self._learning is None:
            return Paths(self._network, self._config, threads, self._control, predicts=predicts)
        from charrnn.generation.learning import PlainPaths

        return PlainPaths(self._network, self._config, threads, self._control, predicts=predicts)

    def _begin(self, prompt: Ids) -> tuple[Cursor, Ids, str]:
        """The cursor of a text after the prompt, the ids that it has yet to read, and these as text."""
        cursor, unread, before = beginning(self._network, self._vocabulary, self._text, prompt)
        if self._control is not None:
            cursor.track = self._control.begin(before)
        return cursor, unread, before

    def _new_text(self, index: int, before: str) -> Text:
        """Text number `index`, which continues `before`."""
        text = new_text(self._text, self._config, self._rules, index, before)
        if self._rules.unique:
            self._unsettled.append(text)
        return text

    def _written(self, text: Text, echo: str, seed: int | None) -> Written:
        written = Written(text.index, seed, iter(()))
        written.pieces = self._pieces(text, echo, written)
        return written

    def _pieces(self, text: Text, echo: str, written: Written) -> Iterator[str]:
        if echo:
            yield echo
        while text.pieces or text.left or not text.settled:
            with self._lock:
                if not text.settled:
                    self._settle(text)
                while text.left and not text.pieces:
                    self._write(text)
            if text.pieces:
                yield text.take()
        written.closed, written.cut = text.closed, not text.ended

    def _settle(self, text: Text) -> None:
        """Complete the texts up to this one, in order, so that each differs from those before it."""
        while not text.settled:
            first = self._unsettled[0]
            while first.left:
                self._write(first)
            if first.settle():
                self._unsettled.popleft()

    def _write(self, text: Text) -> None:
        """Write more of this text, and of others beside it."""
        path = self._path(text)
        group = self._group(text, path.most_texts)
        most = path.longest(len(group))
        ends = self._text.records or self._config.stops or self._config.match is not None or self._rules.holds
        if len(group) > 1 and ends:
            most = min(most, SHORT_PIECE)
        if self._config.exact:
            for member in group:
                if member.is_for_particles:
                    self._write_with_particles(member)
            group = [member for member in group if member.left and not member.is_for_particles]
            if not group:
                return
        written = path.write(
            [member.cursor for member in group],
            [member.numbers(most) for member in group],
            self._end,
        )
        for member, ids in zip(group, written, strict=True):
            member.add(self._vocabulary.decode(ids), member.cursor.track.stopped)
            if not member.left:
                self._ended += 1
                self._ended_characters += member.written

    @abstractmethod
    def _path(self, text: Text) -> PlainPath | CompiledPath:
        """The engine that continues this text."""

    @abstractmethod
    def _group(self, text: Text, most: int) -> list[Text]:
        """The text and others to be written beside it, at most `most` in all, each of them started."""

    def _is_alone(self, most: int, others: Iterable[Text]) -> bool:
        """Whether the text is now written alone: the engine writes one at a time, or memory is full."""
        return most == 1 or sum(other.waiting for other in others) > CHARACTERS_AHEAD

    def _write_with_particles(self, text: Text) -> None:
        """Write the whole text at once, where rejection sampling would take too long."""
        from charrnn.generation import particles

        drawn = particles.draw(
            self._paths.best(self._length * particles.PARTICLES),
            text.beginning,
            self._length,
            self._end if self._text.records else -1,
            text.random,
        )
        if drawn is None:
            text.add("", STUCK)
        else:
            text.add(self._vocabulary.decode(drawn), ENDED if len(drawn) < self._length else 0)


class _Run(_Writer):
    """All texts of one prompt."""

    def __init__(
        self,
        checkpoint: Checkpoint | Blend,
        prompt: Ids,
        config: SampleConfig,
        indices: range,
        echo: bool,
        threads: int | None,
    ) -> None:
        before = checkpoint.vocabulary.decode(prompt)
        if checkpoint.text.records:
            before = before.rpartition(checkpoint.text.end)[2]
        super().__init__(checkpoint, config, threads, before)
        self._echo = self._vocabulary.decode(prompt) if echo else ""
        self._start, self._unread, self._before = self._begin(prompt)
        self._indices = indices  # of the texts to come
        self._ahead: deque[Text] = deque()  # are written, but were not asked for yet
        self._taken: weakref.WeakSet[Text] = weakref.WeakSet()  # were asked for, and are still in use

    def texts(self) -> Iterator[Written]:
        while self._ahead or self._indices:
            with self._lock:
                if not self._ahead:
                    self._add_text()
                text = self._ahead.popleft()
                self._taken.add(text)
            yield self._written(text, self._echo, self._config.seed)

    def _add_text(self) -> None:
        self._ahead.append(self._new_text(self._indices[0], self._before))
        self._indices = self._indices[1:]

    def _path(self, text: Text) -> PlainPath | CompiledPath:
        path = self._paths.best(len(self._unread) + self._to_come(text))
        while len(self._unread):
            read = self._unread[: path.longest(1)]
            path.read(self._start, read)
            self._unread = self._unread[len(read) :]
            path = self._paths.best(len(self._unread) + self._to_come(text))
        return path

    def _to_come(self, text: Text) -> int:
        """An estimate of the characters to come; records to come are as long as those before."""
        if self._text.records:
            return len(self._indices) * self._ended_characters // max(1, self._ended)
        return text.left + len(self._indices) * self._length

    def _group(self, text: Text, most: int) -> list[Text]:
        others = [other for other in (*self._taken, *self._ahead) if other is not text]
        group = [text]
        if not self._is_alone(most, others):
            group += [other for other in others if other.left][: most - 1]
            while len(group) < most and self._indices and len(self._ahead) < TEXTS_AHEAD:
                self._add_text()
                group.append(self._ahead[-1])
        for member in group:
            member.start(self._start, self._config.seed)
        return group


class _Prompted(_Writer):
    """The texts of many prompts; those of the prompts taken together are written together."""

    def __init__(
        self,
        checkpoint: Checkpoint | Blend,
        take: Callable[[int], Sequence[str | Prompt]],
        config: SampleConfig,
        count: int,
        on_unknown: Literal["error", "skip"],
        echo: bool,
        threads: int | None,
        counts: GrowingCounts | None = None,
    ) -> None:
        super().__init__(checkpoint, config, threads, None, predicts=True, counts=counts)
        self._take = take
        self._count = count
        self._on_unknown = on_unknown
        self._echo = echo
        self._prompts, self._number = 0, 0  # prompts and texts so far
        self._texts: list[Text] = []  # of the prompts that were taken last

    def go_on(self, begun: Begun) -> None:
        """Count the prompts before the first one, and repeat none of their texts."""
        self._prompts, self._number = begun.prompts, begun.numbered * self._count
        if begun.seen is not None:
            self._rules = replace(self._rules, seen=begun.seen)

    def texts(self) -> Iterator[Written]:
        while True:
            # A guess: as many characters are to come as were written.
            most = self._paths.best(self._ended_characters).most_texts
            taken = self._take(1 if most == 1 else max(1, most * TEXTS_FROM_PROMPTS // self._count))
            if not taken:
                return
            with self._lock:  # texts of the prompts before may still be written
                begun, problem = self._begin_each(taken)
            texts = []
            for start, before, echo, own_seed in begun:
                first = self._number if own_seed is None else 0
                seed = self._config.seed if own_seed is None else own_seed
                for index in range(first, first + self._count):
                    text = self._new_text(index, before)
                    text.start(start, seed)
                    texts.append((text, echo, seed))
                self._number += self._count if own_seed is None else 0
            with self._lock:
                self._texts = [text for text, *_ in texts]
            for text, echo, seed in texts:
                written = self._written(text, echo, seed)
                if self._learning is not None:  # whole, before the next prompts are learned
                    written.pieces = iter(["".join(written.pieces)])
                yield written
            if problem is not None:
                raise problem

    def _begin_each(
        self, prompts: Sequence[str | Prompt]
    ) -> tuple[list[tuple[Cursor, str, str, int | None]], CharrnnError | None]:
        """For each prompt the cursor of its texts, the prompt as text, its echo, and its own seed; and the
        first error."""
        begun, unread = [], []
        problem = None
        for prompt in prompts:
            self._prompts += 1
            told, seed, _ = prompt if isinstance(prompt, Prompt) else Prompt(prompt)
            try:
                ids = self._vocabulary.encode(told, self._on_unknown).astype(np.int64)
                start, left, before = self._begin(ids)
            except (VocabularyError, SamplingError) as error:
                problem = type(error)(f"line {self._prompts} of the prompts: {error.message}", error.hint)
                break
            if self._learning is not None and len(ids):
                document = [start.last, *left.tolist()]
                start.last, start.state, left = document[-1], self._learning.learn(document), left[:0]
            begun.append((start, before, self._vocabulary.decode(ids) if self._echo else "", seed))
            unread.append((start, left))
        for position in range(max((len(left) for _, left in unread), default=0)):  # all side by side
            group = [(cursor, int(left[position])) for cursor, left in unread if position < len(left)]
            self._paths.best(len(group)).predict([cursor for cursor, _ in group])
            for cursor, character in group:
                cursor.last = character
        return begun, problem

    def _path(self, text: Text) -> PlainPath | CompiledPath:
        # The length of a record is not known beforehand.
        return self._paths.best(0 if self._text.records else sum(other.left for other in self._texts))

    def _group(self, text: Text, most: int) -> list[Text]:
        others = [other for other in self._texts if other is not text]
        group = [text]
        if not self._is_alone(most, others):
            group += [other for other in others if other.left][: most - 1]
        return group
