"""Texts that come and go, written side by side: one joins when it is asked for, and leaves when it is done.

This is continuous batching (Yu et al. 2022, "Orca"). Each text is the one that `writing` gives for the same
prompt, seed and settings, whatever is written beside it.

One thread calls `Together`; another may take a Place's pieces meanwhile.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import SampleConfig
from charrnn.constraints import rules
from charrnn.errors import CharrnnError
from charrnn.generation.beginning import beginning, longest, new_text
from charrnn.generation.rejection import Rules, Text
from charrnn.inference.engines import CompiledPath, Cursor, Paths, PlainPath
from charrnn.inference.mixture import Blend, network_of
from charrnn.vocabulary import OnUnknown

Ids = npt.NDArray[np.int64]

ENDLESS = 10**9  # characters to come: the compiled loop is always worth its loading
MOST_WAITING = 2**14  # characters that nobody has taken yet, from which on a text waits
FIRST_CHARACTERS = 4  # of a new text, which somebody waits for
FIRST_STEPS = 8  # characters of each text in the first call, which shows how long one takes
# A call that takes long has mostly waited for a CPU. If the next one were as much shorter, it would wait as
# long: on a busy machine calls would become ever shorter, and nearly all of their time waiting.
SLOWER = 1.1  # the most by which a character is taken to be slower than the one before
LEAST_SHARE = 3  # of the longest call that an engine allows, no call is shorter than one of so many parts
# Characters of a text that may be written before their log-probabilities are known.
MOST_UNRATED = 64


class Likelihood(NamedTuple):
    """How probable a character was, in nats, at temperature 1 and without filters."""

    log_probability: float
    best: tuple[tuple[str, float], ...] = ()  # the most probable characters in its place, with theirs


class Piece(NamedTuple):
    """Some characters of a text, and the likelihood of each, if that was asked for."""

    text: str
    likelihoods: tuple[Likelihood, ...] = ()


@dataclass(frozen=True)
class Order:
    """Texts that go on from one prompt.

    Of `config`, the seed, the length and the stop texts count; the rest is that of all texts together.
    """

    prompt: str
    config: SampleConfig
    indices: range = range(1)  # of the texts in their run
    on_unknown: OnUnknown = "error"
    rated: int | None = None  # with the likelihoods of characters, and so many of the best in each place
    rates_prompt: bool = False
    until: float = math.inf  # by time.monotonic: when they are cut, wherever they are


class Place:
    """A text in the hands of a reader: what it has come to so far.

    All but `take`, `listen` and `leave` is for the thread that writes.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        # Once `done`:
        self.error: CharrnnError | None = None
        self.cut = False  # the text had not ended when it reached its greatest length
        self.loss = math.nan  # nats a character, END included, if likelihoods were asked for
        self.prompt = ""  # what was read of the prompt; set before the first piece
        self.prompt_likelihoods: list[Likelihood | None] = []
        self.done = self.gone = False
        self.given = 0  # characters
        self._taken = 0
        self._pieces: deque[Piece] = deque()
        self._heard: Callable[[], None] | None = None
        self._least = 1

    def take(self) -> tuple[list[Piece], bool]:
        """The pieces since the last call, and whether they are the last ones."""
        done = self.done  # before the pieces: none comes after it
        found = []
        while self._pieces:
            found.append(self._pieces.popleft())
        self._taken += sum(len(piece.text) for piece in found)
        return found, done

    def listen(self, heard: Callable[[], None], least: int = 1) -> None:
        """Call `heard` once, on any thread, as soon as so many characters wait, or the text is done."""
        self._least, self._heard = least, heard
        self.tell()

    def leave(self) -> None:
        """Nobody wants the text any more."""
        self.gone = True

    @property
    def waiting(self) -> int:
        return self.given - self._taken

    def put(self, piece: Piece) -> None:
        self._pieces.append(piece)
        self.given += len(piece.text)

    def end(self, error: CharrnnError | None = None, *, cut: bool = False) -> None:
        if not self.done:
            self.error, self.cut, self.done = error, cut, True
        self.tell()

    def tell(self) -> None:
        if self.done or self.waiting >= self._least:
            heard, self._heard = self._heard, None
            if heard is not None:
                heard()


@dataclass(eq=False)
class _Prompt:
    """A prompt that is being read, and the texts that wait for it."""

    order: Order
    places: list[Place]
    cursor: Cursor
    unread: Ids
    before: str


@dataclass(eq=False)
class _Member:
    """A text that is being written."""

    order: Order
    place: Place
    text: Text
    # With likelihoods: behind the text by what is not rated yet.
    reader: Cursor | None = None
    unrated: deque[int] = field(default_factory=deque)  # ids
    likelihoods: list[Likelihood] = field(default_factory=list)
    unsent: str = ""

    @property
    def writes(self) -> bool:
        """Whether more of it is wanted now."""
        return bool(self.text.left) and self.place.waiting < MOST_WAITING and len(self.unrated) < MOST_UNRATED

    @property
    def wanted(self) -> int:
        """How many likelihoods the text as far as it goes has, END included."""
        return self.place.given + len(self.unsent) + self.text.closed


class Together:
    """Texts of one model, whose characters are chosen in one way.

    Raises:
        ConfigError, SamplingError, CheckpointError: the constraints cannot be prepared; see rules.prepare.
    """

    def __init__(self, checkpoint: Checkpoint | Blend, config: SampleConfig, threads: int | None) -> None:
        self._checkpoint, self._threads = checkpoint, threads
        self._network = network_of(checkpoint, config.precision)
        self._vocabulary, self._text = checkpoint.vocabulary, checkpoint.text
        self._control = rules.prepare(checkpoint, config, longest(self._text, config), None)
        self._rules = Rules.of(checkpoint, config)
        self._end = self._vocabulary.find(self._text.end)
        self._paths = Paths(self._network, config, threads, self._control)
        self._raters: Paths | None = None  # made when a text is to be rated
        self._come: deque[tuple[Order, list[Place]]] = deque()  # any thread may add to it
        self._prompts: deque[_Prompt] = deque()
        self._members: deque[_Member] = deque()
        self.looked = 0.0  # by time.monotonic: the last call of `advance`
        self._read_seconds = 0.0  # a character, and of texts side by side:
        self._step_seconds, self._step_texts = 0.0, 1

    def load(self) -> None:
        """Begin to load the compiled loop."""
        self._paths.load()

    @property
    def is_compiled(self) -> bool:
        return self._paths.is_compiled

    def join(self, order: Order) -> list[Place]:
        """Places for the texts of the order; what is wrong with it is said there. Any thread may call it."""
        places = [Place(index) for index in order.indices]
        self._come.append((order, places))
        return places

    @property
    def is_busy(self) -> bool:
        """Whether something can be done now."""
        return bool(self._come or self._prompts) or any(
            member.writes or member.unrated or member.unsent or not member.text.left
            for member in self._members
        )

    @property
    def is_empty(self) -> bool:
        return not (self._come or self._prompts or self._members)

    def advance(self, seconds: float) -> None:
        """Go on with all texts for about so long."""
        began = self.looked = time.monotonic()
        self._part_with_leavers(began)
        while self._come:
            self._admit(*self._come.popleft())
        # Reading leaves half of the time to the others, so that a long prompt does not stop them.
        self._read(began + (seconds / 2 if self._members else seconds))
        if new := [member for member in self._members if not member.text.written and member.writes]:
            # Their first characters come before the others' next ones.
            path = self._paths.best(ENDLESS)
            for first in range(0, len(new), path.most_texts):
                self._write_some(path, new[first : first + path.most_texts], FIRST_CHARACTERS)
            self._hand_out()
        if self._members:
            rated = any(member.reader is not None for member in self._members)
            self._write(began + (seconds / 4 if rated else seconds))
            self._rate(began + seconds)
            self._hand_out()

    def give_up(self, error: CharrnnError) -> None:
        """End all texts with the error."""
        while self._come:
            for place in self._come.popleft()[1]:
                place.end(error)
        for prompt in self._prompts:
            for place in prompt.places:
                place.end(error)
        for member in self._members:
            member.place.end(error)
        self._prompts.clear()
        self._members.clear()

    def _part_with_leavers(self, now: float) -> None:
        for member in list(self._members):
            if member.place.gone or now > member.order.until:
                member.place.end(cut=True)
                self._members.remove(member)
        for prompt in list(self._prompts):
            if now > prompt.order.until or all(place.gone for place in prompt.places):
                for place in prompt.places:
                    place.end(cut=True)
                self._prompts.remove(prompt)

    def _admit(self, order: Order, places: list[Place]) -> None:
        if all(place.gone for place in places):
            for place in places:
                place.end(cut=True)
            return
        try:
            ids = self._vocabulary.encode(order.prompt, order.on_unknown).astype(np.int64)
            cursor, unread, before = beginning(self._network, self._vocabulary, self._text, ids)
            if self._control is not None:
                left = longest(self._text, order.config)
                control = replace(self._control, start=replace(self._control.start, left=left))
                cursor.track = control.begin(before)
        except CharrnnError as error:
            for place in places:
                place.end(error)
            return
        told = self._vocabulary.decode(ids)
        likelihoods: list[Likelihood | None] = []
        if order.rates_prompt:  # there are none of what lies before the last text in the prompt
            likelihoods = [None] * (len(told) - len(before))
        for place in places:
            place.prompt, place.prompt_likelihoods = told, likelihoods
        self._prompts.append(_Prompt(order, places, cursor, unread, before))

    def _read(self, until: float) -> None:
        while self._prompts and (not len(self._prompts[0].unread) or time.monotonic() < until):
            prompt = self._prompts[0]
            if len(prompt.unread):
                self._read_some(prompt, until)
            else:
                self._prompts.popleft()
                for place in prompt.places:
                    self._begin(prompt, place)

    def _read_some(self, prompt: _Prompt, until: float) -> None:
        began = time.monotonic()
        if prompt.order.rates_prompt:
            character = int(prompt.unread[0])
            (row,) = self._predicted([prompt.cursor])
            if prompt.before:  # what stands in for a missing prompt is none of it
                likelihood = self._likelihood(row, character, prompt.order.rated or 0)
                prompt.places[0].prompt_likelihoods.append(likelihood)
            prompt.cursor.last = character
            prompt.unread = prompt.unread[1:]
            return
        path = self._paths.best(ENDLESS)
        fitting = int((until - began) / self._read_seconds) if self._read_seconds else FIRST_STEPS
        some = prompt.unread[: max(1, min(fitting, path.longest(1)))]
        path.read(prompt.cursor, some)
        prompt.unread = prompt.unread[len(some) :]
        taken = (time.monotonic() - began) / len(some)
        self._read_seconds = min(taken, SLOWER * self._read_seconds) if self._read_seconds else taken

    def _begin(self, prompt: _Prompt, place: Place) -> None:
        order = prompt.order
        text = new_text(self._text, order.config, self._rules, place.index, prompt.before)
        text.start(prompt.cursor, order.config.seed)
        reader = None if order.rated is None else replace(prompt.cursor)
        self._members.appendleft(_Member(order, place, text, reader))  # before those that had their turn

    def _write(self, until: float) -> None:
        writing = [member for member in self._members if member.writes]
        path = self._paths.best(ENDLESS)
        for first in range(0, len(writing), path.most_texts):
            left = until - time.monotonic()
            if first and left <= 0:
                for member in writing[:first]:  # the others come first the next time
                    self._members.remove(member)
                    self._members.append(member)
                break
            group = writing[first : first + path.most_texts]
            steps = self._steps(path, len(group), left * len(group) / (len(writing) - first))
            taken = self._write_some(path, group, steps)
            expected = self._step_seconds * max(1.0, len(group) / self._step_texts)
            self._step_seconds = min(taken, SLOWER * expected) if expected else taken
            self._step_texts = len(group)

    def _steps(self, path: PlainPath | CompiledPath, texts: int, seconds: float) -> int:
        """How many characters of each of so many texts take about so long."""
        longest = path.longest(texts) if path.most_texts > 1 else MOST_UNRATED
        if not self._step_seconds:
            return min(FIRST_STEPS, longest)
        expected = self._step_seconds * max(1.0, texts / self._step_texts)
        return min(max(int(seconds / expected), longest // LEAST_SHARE, 1), longest)

    def _write_some(self, path: PlainPath | CompiledPath, group: list[_Member], steps: int) -> float:
        """Write at most so many characters of each text of the group; returns the seconds that one took."""
        began = time.monotonic()
        if any(member.reader is not None for member in group):
            steps = min(steps, MOST_UNRATED)
        numbers = [member.text.numbers(steps) for member in group]
        written = path.write([member.text.cursor for member in group], numbers, self._end)
        taken = time.monotonic() - began
        text, end = self._vocabulary.decode(np.concatenate(written)), 0
        for member, ids in zip(group, written, strict=True):
            begin, end = end, end + len(ids)
            self._add(member, text[begin:end], ids)
        return taken / max(1, *map(len, written))

    def _add(self, member: _Member, piece: str, ids: Ids) -> None:
        text = member.text
        try:
            text.add(piece, text.cursor.track.stopped)
        except CharrnnError as error:
            member.place.end(error)
            text.left = 0
            return
        while text.pieces:
            member.unsent += text.take()
        if member.reader is not None:
            member.unrated.extend(ids.tolist())
            if not text.left:  # beyond the end, nothing is told
                for _ in range(len(member.likelihoods) + len(member.unrated) - member.wanted):
                    member.unrated.pop()

    def _predicted(self, cursors: Sequence[Cursor]) -> npt.NDArray[np.float64]:
        """Let each text read its last character: log p of the next one, (texts, V). No record is empty."""
        if self._raters is None:
            self._raters = Paths(self._network, SampleConfig(), self._threads, predicts=True)
            self._raters.load()
        begins = [cursor.last == len(self._vocabulary) for cursor in cursors]
        found = self._raters.best(ENDLESS).predict(cursors)
        if self._end >= 0:
            found[begins, self._end] = -np.inf
        return found

    def _rate(self, until: float) -> None:
        while group := [member for member in self._members if member.unrated]:
            cursors = [member.reader for member in group if member.reader is not None]
            for member, row in zip(group, self._predicted(cursors), strict=True):
                character = member.unrated.popleft()
                assert member.reader is not None
                member.reader.last = character
                likelihood = self._likelihood(row, character, member.order.rated or 0)
                member.likelihoods.append(likelihood)
            if time.monotonic() > until:
                break

    def _likelihood(self, row: npt.NDArray[np.float64], character: int, best: int) -> Likelihood:
        order = np.argsort(-row, kind="stable")[:best].tolist() if best else []
        names = self._vocabulary.characters
        return Likelihood(float(row[character]), tuple((names[n], float(row[n])) for n in order))

    def _hand_out(self) -> None:
        for member in list(self._members):
            place = member.place
            if member.reader is None:
                piece = Piece(member.unsent)
            else:
                known = member.likelihoods[place.given : place.given + len(member.unsent)]
                piece = Piece(member.unsent[: len(known)], tuple(known))
            member.unsent = member.unsent[len(piece.text) :]
            if piece.text:
                place.put(piece)
            if not (member.text.left or member.unsent or member.unrated):
                self._members.remove(member)
                if member.reader is not None:
                    place.loss = _loss(member.likelihoods[: member.wanted])
                place.end(cut=not member.text.ended)
            elif piece.text:
                place.tell()


def _loss(likelihoods: Iterable[Likelihood]) -> float:
    """The mean of -log p; see charrnn.search.best_of."""
    found = list(likelihoods)
    total = 0.0
    for one in found:
        total += one.log_probability
    return abs(total) / max(1, len(found))
