"""Checkpoint + prompt -> texts, piece by piece as they are written.

The first characters come from charrnn.paths's plain path, at once; in mid-text the compiled one takes over.
It writes several texts side by side: the one that is asked for, and those that come after it.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from charrnn import control
from charrnn.checkpoint import Checkpoint
from charrnn.config import DEFAULT_SAMPLE_LENGTH, MAX_LINE_LENGTH, SampleConfig, WeightPrecision
from charrnn.errors import SamplingError
from charrnn.novelty import Novelty
from charrnn.paths import Cursor, Paths
from charrnn.plain import PlainNetwork
from charrnn.steering import ENDED, STUCK

Ids = npt.NDArray[np.int64]

# Characters from one call where texts may end at any moment: one that has ended makes room for the next.
SHORT_PIECE = 16
# What may be written ahead of the text that is asked for, and is kept in memory.
CHARACTERS_AHEAD = 2**25
TEXTS_AHEAD = 4096
# Texts drawn anew in a row before the model is said to write nothing else.
MOST_REDRAWS = 1000
# Texts drawn freely in a row, none of which fits, before particles are sent out.
FREE_DRAWS = 1000


def generate(
    checkpoint: Checkpoint,
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
    checkpoint: Checkpoint,
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
        checkpoint: Checkpoint,
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
        document = _document(prompt, len(self._vocabulary), self._newline, self._lines)
        network = _network(checkpoint, config.precision)
        self._paths = Paths(network, config, threads)
        before = self._vocabulary.decode(document[1:]) if len(prompt) else ""
        self._control = control.prepare(checkpoint, config, before, self._length)
        self._start = Cursor(int(document[0]), network.initial_state())
        self._start.track = self._control.start
        self._rules = _Rules.of(checkpoint, config, before)
        self._unsettled: deque[_Text] = deque()  # may still be drawn anew, since they stood before
        self._seen: set[str] = set()  # lines of those that may not
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
        self._ahead.append(_Text(self._indices[0], ending, self._length, self._rules, self._seen))
        if self._rules.unique:
            self._unsettled.append(self._ahead[-1])
        self._indices = self._indices[1:]

    def _pieces(self, text: _Text) -> Iterator[str]:
        if self._echo:
            yield self._echo
        while text.pieces or text.left or not text.settled:
            with self._lock:
                if not text.settled:
                    self._settle(text)
                while text.left and not text.pieces:
                    self._write(text)
            if text.pieces:
                yield text.take()

    def _settle(self, text: _Text) -> None:
        """Complete the texts up to this one, in their order: each is another than those before.

        This one itself is not completed where it is written line by line, but those before it are.
        """
        while not text.settled:
            first = self._unsettled[0]
            if first is text and self._rules.by_line and first.left:
                return
            while first.left:
                self._write(first)
            if first.settle():
                self._unsettled.popleft()

    def _write(self, text: _Text) -> None:
        """Write more of this text, and of others beside it."""
        path = self._paths.best(len(self._unread) + self._to_come(text))
        while len(self._unread):
            path.read(self._start, self._unread[: path.longest(1)])
            self._unread = self._unread[path.longest(1) :]
            path = self._paths.best(len(self._unread) + self._to_come(text))
        group = self._group(text, path.most_texts)
        longest = path.longest(len(group))
        short = self._lines or self._config.until or self._config.match is not None or self._rules.holds
        if len(group) > 1 and short:
            longest = min(longest, SHORT_PIECE)
        for member in group:
            member.start(self._start, self._config.seed)
        if self._config.exact:
            for member in group:
                if member.draws > FREE_DRAWS:
                    self._write_with_particles(member)
            group = [member for member in group if member.draws <= FREE_DRAWS and member.left]
            if not group:
                return
        written = path.write(
            [member.cursor for member in group],
            [member.numbers(longest) for member in group],
            self._newline if self._lines or self._rules.by_line else -1,
            self._control if self._control.arrays.active else None,
        )
        for member, ids in zip(group, written, strict=True):
            member.add(self._vocabulary.decode(ids), member.cursor.track.stopped)
            if not member.left:
                self._ended += 1
                self._ended_characters += member.written

    def _write_with_particles(self, text: _Text) -> None:
        """The whole of it: to draw freely what fits would take for ever."""
        from charrnn import particles

        path = self._paths.best(self._length * particles.PARTICLES)
        drawn = particles.draw(
            path,
            self._start,
            self._control.weighing(),
            self._length,
            self._newline if self._lines else -1,
            text.random,
        )
        if drawn is None:
            text.add("", STUCK)
        else:
            text.add(self._vocabulary.decode(drawn[0]), ENDED)

    def _to_come(self, text: _Text) -> int:
        """Characters still to be written, as far as known: a line's length is that of those before."""
        if self._lines:
            return len(self._indices) * self._ended_characters // max(1, self._ended)
        return text.left + len(self._indices) * self._length

    def _group(self, text: _Text, most: int) -> list[_Text]:
        """The text, and others to be written with it."""
        if most == 1 or (self._rules.by_line and self._rules.unique):  # lines before must be known
            return [text]
        others = [other for other in (*self._taken, *self._ahead) if other is not text]
        if sum(other.waiting for other in others) > CHARACTERS_AHEAD:
            return [text]
        group = [text, *(other for other in others if other.left)][:most]
        while len(group) < most and self._indices and len(self._ahead) < TEXTS_AHEAD:
            self._add_text()
            group.append(self._ahead[-1])
        return group


@dataclass(frozen=True, slots=True)
class _Rules:
    """Which texts are drawn anew, and how much of them at a time."""

    holds: bool  # nothing of a text is handed out before it is known to stay
    by_line: bool  # prose is kept line by line; else a text stays or goes as a whole
    unique: bool  # none of its lines is one that this run has written before
    partial: bool  # the last line counts, though it has no end
    novelty: Novelty | None  # whose lines are not written again
    prompt: str  # its last line, with which the first one begins
    lines: bool
    by_particles: bool  # when free draws have come to nothing

    @classmethod
    def of(cls, checkpoint: Checkpoint, config: SampleConfig, prompt: str) -> _Rules:
        lines = checkpoint.text.lines
        whole = lines or config.exact or config.match is not None
        by_line = not whole and bool(config.novel or config.unique)
        return cls(
            holds=bool(config.exact or config.novel or config.unique),
            by_line=by_line,
            unique=config.unique,
            partial=lines or config.match is not None,
            novelty=checkpoint.novelty if config.novel is True else None,
            prompt=prompt[prompt.rfind("\n") + 1 :],
            lines=lines,
            by_particles=config.exact,
        )

    def accept(self, draft: str, is_first: bool, is_last: bool, seen: set[str]) -> bool:
        """Whether the lines of a draft may stay. Those that do are added to `seen`."""
        lines = (self.prompt + draft if is_first else draft).split("\n")
        if not (is_last and self.partial):
            lines.pop()  # what comes after the last line end
        elif self.lines and lines[-1] == "":
            lines.pop()
        if not self.lines:
            lines = [line for line in lines if line.strip()]  # an empty line is nobody's
        if self.novelty is not None and any(map(self.novelty.has_line, lines)):
            return False
        if self.unique:
            if len(set(lines)) < len(lines) or not seen.isdisjoint(lines):
                return False
            seen.update(lines)
        return True


class _Text:
    """One text: where it stands, how it goes on, and the pieces of it that nobody has taken yet.

    What the rules hold is a draft until it is known to stay. Where it may not, it is drawn anew from where it
    began, with the numbers of the next stream: that is the model's distribution, given that it may stay.
    """

    cursor: Cursor
    random: np.random.Generator

    def __init__(self, index: int, ending: _Ending, length: int, rules: _Rules, seen: set[str]) -> None:
        self.left = length  # characters, at the most
        self.written = 0
        self.pieces: deque[str] = deque()
        self.waiting = 0  # characters in them
        self.draws = 1  # of the present draft
        self.settled = not rules.unique
        self._index = index
        self._ending = ending
        self._rules = rules
        self._started = False
        self._unused = np.empty(0)  # numbers that were drawn, but not needed
        self._given = self._unused
        self._draft = ""
        self._seen = seen  # lines of the run
        self._streams = 0

    def start(self, cursor: Cursor, seed: int | None) -> None:
        """It begins after what the cursor has read; later calls do nothing."""
        if not self._started:
            self._started = True
            self._seed = seed
            self.cursor = replace(cursor)
            self._next_stream()
            self._mark()

    def numbers(self, n: int) -> npt.NDArray[np.float64]:
        """Uniform ones in [0, 1) for up to n more characters."""
        n = min(n, self.left)
        new = self.random.random(max(n - len(self._unused), 0))
        self._given = np.concatenate([self._unused, new])
        self._unused = self._given[n:]
        return self._given[:n]

    def add(self, piece: str, stopped: int = 0) -> None:
        """What has been written for it, perhaps past its end; `stopped` may be ENDED or STUCK."""
        self._unused = self._given[len(piece) + (stopped < 0) :]
        self.left -= len(piece)
        piece, ended = self._ending.cut(piece)
        if ended or stopped == ENDED:
            self.left = 0
        if not self._rules.holds and stopped != STUCK:
            self._hand_out(piece)
            return
        self._draft += piece
        if stopped == STUCK:
            self._redraw()
        elif not self.left or (self._rules.by_line and self._draft.endswith("\n")):
            if self._rules.unique and not self._rules.by_line:
                return  # what those before it have written, is yet to be seen
            if self._rules.accept(self._draft, not self.written, not self.left, self._seen):
                self._keep()
            else:
                self._redraw()

    def settle(self) -> bool:
        """Whether it may stay, now that those before it are known; else it is to be written on."""
        if self._rules.by_line:
            self.settled = True  # each of its lines has been seen to
        elif self._rules.accept(self._draft, True, True, self._seen):
            self.settled = True
            self._keep()
        else:
            self._redraw()
        return self.settled

    def take(self) -> str:
        piece = self.pieces.popleft()
        self.waiting -= len(piece)
        return piece

    def _hand_out(self, piece: str) -> None:
        self.written += len(piece)
        self.waiting += len(piece)
        self.pieces.append(piece)

    def _keep(self) -> None:
        self._hand_out(self._draft)
        self._draft = ""
        self.draws = 1
        self._mark()

    def _mark(self) -> None:
        """From here it is drawn anew."""
        self._began = replace(self.cursor, track=self.cursor.track.copy()), self.left, self._ending.tail

    def _redraw(self) -> None:
        if self.draws >= MOST_REDRAWS + (FREE_DRAWS if self._rules.by_particles else 0):
            raise SamplingError(
                f"of {MOST_REDRAWS:,} texts in a row, none was what is asked for",
                "ask for less, raise --temp, or lower --count",
            )
        cursor, self.left, self._ending.tail = self._began
        self.cursor = replace(cursor, track=cursor.track.copy())
        self._draft = ""
        self.draws += 1
        self._next_stream()

    def _next_stream(self) -> None:
        """The numbers of each draft are a stream of its own, so that they depend on nothing else."""
        key = (
            None
            if self._seed is None
            else [self._seed, self._index, *([self._streams] if self._streams else [])]
        )
        self.random = np.random.default_rng(key)
        self._streams += 1
        self._unused = self._given = np.empty(0)


class _Ending:
    """Finds where a text ends that comes in pieces."""

    def __init__(self, lines: bool, until: str) -> None:
        self._lines = lines
        self._until = until
        self.tail = ""  # of what has been written: the longest that may be part of `until`

    def cut(self, piece: str) -> tuple[str, bool]:
        """The piece up to the end, and whether the end is in it."""
        ended = False
        if self._lines and (at := piece.find("\n")) >= 0:
            piece, ended = piece[: at + 1], True
        if self._until:
            text = self.tail + piece
            if (at := text.find(self._until)) >= 0:
                return piece[: at + len(self._until) - len(self.tail)], True
            self.tail = text[max(0, len(text) - len(self._until) + 1) :]
        return piece, ended


def _document(prompt: Ids, start: int, newline: int, lines: bool) -> Ids:
    """What the network reads before it writes: START, then the prompt or what stands for it."""
    if lines:
        ends = np.flatnonzero(prompt == newline)
        prompt = prompt[ends[-1] + 1 :] if len(ends) else prompt
    elif not len(prompt) and newline >= 0:
        # Prose begins like a new line, not like the corpus's first.
        prompt = np.array([newline], np.int64)
    return np.concatenate([np.array([start], np.int64), prompt])


_networks: weakref.WeakKeyDictionary[Checkpoint, dict[str, PlainNetwork]] = weakref.WeakKeyDictionary()


def _network(checkpoint: Checkpoint, precision: WeightPrecision) -> PlainNetwork:
    """The checkpoint's network, arranged once for all texts."""
    networks = _networks.setdefault(checkpoint, {})
    if precision not in networks:
        networks[precision] = PlainNetwork(checkpoint, precision)
    return networks[precision]
