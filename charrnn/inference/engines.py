"""The two engines that write text, the same to the last bit: NumPy, at once, and the compiled loop, faster.

The plain path writes a character at a time. The compiled path writes many characters of many texts in one
call, on all threads; a background thread imports it while the plain path is already writing. The threads
share several texts among them, or each step of a single text if the network is large.
"""

from __future__ import annotations

import functools
import itertools
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.config import SampleConfig
from charrnn.inference import constrained_step, sampling, tracking
from charrnn.inference.filters import Setting, active
from charrnn.inference.mixture import MixedNetwork
from charrnn.inference.numpy_network import PlainNetwork
from charrnn.inference.thread_tuner import Pace
from charrnn.inference.tracking import Control, Track

Network = PlainNetwork | MixedNetwork
Ids = npt.NDArray[np.int64]
Uniforms = npt.NDArray[np.float64]
LogProbabilities = npt.NDArray[np.float64]

# The seconds that the plain path would need from which on the loop is worth importing, or compiling. An LSTM
# of 2 x 128 writes 6,500 characters a second plainly, half as many while the thread imports, and 110,000
# compiled. Importing the loop takes 0.6 s, and compiling it 6 s if it is not in the cache yet.
WORTH_IMPORTING = 0.6
WORTH_COMPILING = 6.0
MEASURED = 20  # characters to be timed before their speed is used
LONGEST_PIECE = 1024  # characters of a text from one call of the compiled loop
# Texts that a thread writes at a time: more than 32 are no faster.
TEXTS_A_THREAD = 32
# Weights that one call may read, so that Ctrl-C is answered within a fraction of a second. Texts side by side
# share the reading: one text of many costs a quarter as much as a text alone.
WEIGHTS_A_CALL = 2**28
SIDE_BY_SIDE = 4
# Weights of a network for each thread of a team: with fewer, synchronising costs more than it saves.
# Two threads write 1.1 times as much as one alone with an LSTM of 1 x 128, and 1.5 times with one of 2 x 128.
WEIGHTS_A_THREAD = 2**15


@dataclass(slots=True)
class Cursor:
    """The position in a text: its last character, and the network's state before reading it.

    Once track.stopped is ENDED or STUCK, the text has stopped, and `last` has no meaning.
    """

    last: int
    state: Any
    track: Track = Track()  # noqa: RUF009 (frozen) - under constraints


class Kind(NamedTuple):
    """A specialisation of the compiled loop. Each is loaded separately, so only what is used is compiled."""

    networks: int = 1  # in a mixture
    predicts: bool = False  # with `predict`
    steered: bool = False  # under constraints
    filters: tuple[Setting, ...] = ()  # the active ones

    @property
    def name(self) -> str:
        """generate, generate-2-predicts-steered-top_k, .."""
        parts = [str(self.networks)] if self.networks > 1 else []
        parts += [part for part in ("predicts", "steered") if getattr(self, part)]
        parts += [line.name for line in self.filters]
        return "-".join(["generate", *parts])


class PlainPath:
    """Writes with NumPy alone, a character of one text at a time."""

    most_texts = 1

    def __init__(
        self,
        network: Network,
        config: SampleConfig,
        steered: Control | None = None,
        account: Callable[[float, int], None] = lambda seconds, characters: None,
    ) -> None:
        """`steered` holds the constraints; `account` takes seconds, and the characters written in them."""
        self._network = network
        self._chain = sampling.chain(config)
        self._steered = steered
        self._account = account
        V = network.vocab_size
        self._space = sampling.Space([0.0] * V, [0] * V, [0.0] * V)

    def longest(self, texts: int) -> int:
        """The number of characters that one call should write of each text, if it writes `texts` of them."""
        return 1

    def read(self, cursor: Cursor, characters: Ids) -> None:
        """Append the characters (n,), at most longest(1), to the text."""
        started = time.perf_counter()
        for character in characters.tolist():
            _, cursor.state = self._network.step(cursor.last, cursor.state)
            cursor.last = character
        self._account(time.perf_counter() - started, len(characters))

    def predict(self, cursors: Sequence[Cursor]) -> LogProbabilities:
        """Let each text read its last character; returns log p of the next one, (texts, V)."""
        started = time.perf_counter()
        found = np.empty((len(cursors), self._network.vocab_size))
        p, _, out = self._space
        for row, cursor in zip(found, cursors, strict=True):
            logits, cursor.state = self._network.step(cursor.last, cursor.state)
            sampling.log_probabilities(out, logits.tolist(), p)
            row[:] = out
        self._account(time.perf_counter() - started, len(cursors))
        return found

    def write(
        self, cursors: Sequence[Cursor], uniforms: Sequence[Uniforms], end: int, *, weighing: bool = False
    ) -> list[Ids]:
        """The continuation of each text: one character for each of its uniforms (n,), up to `end`.

        A text that has read nothing but START does not end yet: no text is empty. Constraints may stop a text
        earlier, see Cursor; with `weighing` they are those of Control.weighing.
        """
        started, steps = time.perf_counter(), 0
        steered = _rules(self._steered, weighing)
        rules = None if steered is None else steered.lists
        written: list[Ids] = []
        for cursor, numbers in zip(cursors, uniforms, strict=True):
            ids: list[int] = []
            tracks = None if rules is None else tracking.listed(cursor.track, len(numbers))
            for u in numbers.tolist():
                values, cursor.state = self._network.step(cursor.last, cursor.state)
                logits = values.tolist()
                if end >= 0 and cursor.last == len(logits):
                    logits[end] = -math.inf
                steps += 1
                if rules is None:
                    cursor.last = sampling.sample(logits, self._chain, u, self._space, sampling.NOTHING)
                else:
                    cursor.last = constrained_step.step(
                        logits, self._chain, u, rules, tracks, 0, len(ids), self._space
                    )
                if cursor.last < 0:
                    break
                ids.append(cursor.last)
                if cursor.last == end:
                    break
            if tracks is not None:
                (cursor.track,) = tracking.moved([cursor.track], tracks, [len(ids)], [cursor.last])
            written.append(np.array(ids, np.int64))
        self._account(time.perf_counter() - started, steps)
        return written


def even_ranges(size: int, most: int) -> list[tuple[int, int]]:
    """The range 0 .. size, cut into at most `most` ranges of nearly equal length, and at least one."""
    shares = max(1, min(most, size))
    return list(itertools.pairwise(size * n // shares for n in range(shares + 1)))


def _rules(steered: Control | None, weighing: bool) -> Control | None:
    return steered.weighing if steered is not None and weighing else steered


# The arguments of CompiledPath._loop: the work of one thread.
_Part = tuple[Sequence[Cursor], Sequence[Uniforms], int, Ids, Control | None, Any]


class _BrokenUpError(Exception):
    """Another thread of the team has failed."""


class CompiledPath:
    """Writes with the compiled loop on several threads; see PlainPath."""

    def __init__(
        self,
        network: Network,
        config: SampleConfig,
        kernels: ModuleType,
        threads: int | None = None,
        steered: Control | None = None,
    ) -> None:
        from charrnn.inference import filter_code
        from charrnn.inference.assembler import assembled
        from charrnn.system.quota import available_threads

        self._network = network
        self._kernels = kernels
        self._chain = filter_code.chain(config)
        self._steered = steered
        self._arrays = assembled(network)
        mixed = isinstance(network, MixedNetwork)
        self._either = (None, self._arrays) if mixed else (self._arrays, None)
        self._threads = available_threads() if threads is None else threads
        # Not charrnn.nn.workers: its threads flush denormal numbers to zero, and would write other texts.
        self._pool = ThreadPoolExecutor(max(1, self._threads - 1), "charrnn-sample")
        self._weights = network.weights
        self.most_texts = TEXTS_A_THREAD * self._threads
        self._pace = Pace(min(self._threads, max(1, self._weights // WEIGHTS_A_THREAD)))

    def longest(self, texts: int) -> int:
        weights = self._weights * max(1.0, -(-texts // self._threads) / SIDE_BY_SIDE)  # a character of each
        longest = min(max(int(WEIGHTS_A_CALL / weights), 1), LONGEST_PIECE)
        return self._pace.longest(longest) if texts == 1 else longest

    def read(self, cursor: Cursor, characters: Ids) -> None:
        self._write_one(cursor, np.empty(len(characters)), -1, characters, self._steered)

    def write(
        self, cursors: Sequence[Cursor], uniforms: Sequence[Uniforms], end: int, *, weighing: bool = False
    ) -> list[Ids]:
        nothing, rules = np.empty(0, np.int64), _rules(self._steered, weighing)
        if len(cursors) == 1:
            return [self._write_one(cursors[0], uniforms[0], end, nothing, rules)]
        parts: list[_Part] = []
        for low, high in even_ranges(len(cursors), self._threads):
            (scratch,) = self._kernels.scratch(self._arrays, high - low)
            parts.append((cursors[low:high], uniforms[low:high], end, nothing, rules, scratch))
        return list(itertools.chain.from_iterable(self._side_by_side(parts)))

    def _write_one(
        self, cursor: Cursor, numbers: Uniforms, end: int, given: Ids, rules: Control | None
    ) -> Ids:
        """Continue one text with a team of threads."""
        started = time.perf_counter()
        members = self._pace.members
        parts = [
            # Each member has a cursor of its own, and arrives at the same result.
            ([cursor if scratch.worker == 0 else replace(cursor)], [numbers], end, given, rules, scratch)
            for scratch in self._kernels.scratch(self._arrays, 1, members)
        ]
        ((ids,), *_) = self._side_by_side(parts)
        self._pace.account(members, len(ids), time.perf_counter() - started)
        return ids

    def _side_by_side(self, parts: Sequence[_Part]) -> list[list[Ids]]:
        """The result of `_write` for each part; this thread writes the first."""
        others = []
        try:
            others = [self._pool.submit(self._write, part) for part in parts[1:]]
            return [self._write(parts[0]), *(other.result() for other in others)]
        except _BrokenUpError:
            for other in others:
                other.result()  # raises that thread's error
            raise
        except BaseException:  # Ctrl-C, before or after a call of the loop
            for *_, scratch in parts:
                self._kernels.break_up(scratch)
            raise

    def _write(self, part: _Part) -> list[Ids]:
        """Write the texts of one thread."""
        *_, scratch = part
        try:
            return self._loop(*part)
        except BaseException:
            self._kernels.break_up(scratch)  # so that the rest of its team does not wait
            raise

    def _loop(
        self, cursors: Sequence[Cursor], uniforms: Sequence[Uniforms], end: int, given: Ids,
        rules: Control | None, scratch: Any,
    ) -> list[Ids]:  # fmt: skip
        B = len(cursors)
        limits = np.array([len(numbers) for numbers in uniforms])
        table = np.zeros((B, limits.max()))  # (B, T) of uniform numbers
        for row, numbers in zip(table, uniforms, strict=True):
            row[: len(numbers)] = numbers
        self._network.put([cursor.state for cursor in cursors], scratch)
        texts = np.arange(B)
        last = np.array([cursor.last for cursor in cursors])
        written, counts = np.zeros(table.shape, np.int64), np.zeros(B, np.int64)
        batch = self._kernels.Batch(texts, last, table, limits, given, end, written, counts)
        arrays = None if rules is None else rules.arrays
        before = [cursor.track for cursor in cursors]
        tracks = None if rules is None else tracking.gathered(before, table.shape[1])
        running = B
        while running:
            for character in set(last[:running].tolist()):
                self._network.fill_table(character)  # the loop returns at a character that has no row
            running = self._kernels.write(*self._either, batch, self._chain, arrays, tracks, scratch)
            if running < 0:
                raise _BrokenUpError
        for row, text in enumerate(texts.tolist()):
            cursors[text].last = int(last[row])
            cursors[text].state = self._network.take(scratch, row)
        if tracks is not None and not len(given):
            stops = [cursor.last for cursor in cursors]
            after = tracking.moved(before, tracks, counts.tolist(), stops)
            for cursor, track in zip(cursors, after, strict=True):
                cursor.track = track
        return [written[text, : counts[text]] for text in range(B)]

    def predict(self, cursors: Sequence[Cursor]) -> LogProbabilities:
        """See PlainPath."""
        found = np.empty((len(cursors), self._network.vocab_size))
        own, *rest = even_ranges(len(cursors), self._threads)
        others = [self._pool.submit(self._predict, cursors[i:j], found[i:j]) for i, j in rest]
        self._predict(cursors[slice(*own)], found[slice(*own)])
        for other in others:
            other.result()
        return found

    def _predict(self, cursors: Sequence[Cursor], found: LogProbabilities) -> None:
        """Predict one thread's share of the texts, few enough at a time for their states to stay in cache."""
        for first in range(0, len(cursors), TEXTS_A_THREAD):
            some = cursors[first : first + TEXTS_A_THREAD]
            last = np.array([cursor.last for cursor in some])
            for character in set(last.tolist()):
                self._network.fill_table(character)
            (scratch,) = self._kernels.scratch(self._arrays, len(some))
            self._network.put([cursor.state for cursor in some], scratch)
            self._kernels.log_probabilities(
                *self._either, last, scratch, found[first : first + TEXTS_A_THREAD]
            )
            for row, cursor in enumerate(some):
                cursor.state = self._network.take(scratch, row)


class Paths:
    """The plain path, and the compiled one as soon as it is loaded."""

    def __init__(
        self,
        network: Network,
        config: SampleConfig,
        threads: int | None = None,
        steered: Control | None = None,
        *,
        predicts: bool = False,
    ) -> None:
        """`predicts`: `predict` will be called."""
        self._network = network
        self._compiled = functools.partial(CompiledPath, network, config, threads=threads, steered=steered)
        networks = len(network.parts) if isinstance(network, MixedNetwork) else 1
        self._loader = loader_of(Kind(networks, predicts, steered is not None, tuple(active(config))))
        self._path: PlainPath | CompiledPath = PlainPath(network, config, steered, self._loader.account)

    def best(self, left: int) -> PlainPath | CompiledPath:
        """The fastest path available now; at least about `left` characters are still to come."""
        if isinstance(self._path, PlainPath):
            self._loader.consider(left, self._network)
            if self._loader.kernels is not None:
                self._path = self._compiled(self._loader.kernels)
        return self._path

    def load(self) -> None:
        """Begin to load the compiled path, however little is known to be to come."""
        self._loader.load(self._network)

    @property
    def is_compiled(self) -> bool:
        """Whether the compiled path is there."""
        return self._loader.kernels is not None


# Numba's modules import one another in circles: two threads that import them at once get some half made.
_importing = threading.Lock()


class Loader:
    """Imports the compiled loop in a background thread, once that is worthwhile."""

    def __init__(self, kind: Kind = Kind()) -> None:  # noqa: B008 (frozen)
        self._kind = kind
        self.kernels: ModuleType | None = None  # set when it is ready
        self._seconds, self._characters = 0.0, 0  # of the plain path, over all texts so far
        self._expected = 0.0  # the seconds that it would take in all
        self._must_compile = False  # the loop of this kind is not in the cache
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def account(self, seconds: float, characters: int) -> None:
        """Record the time that the plain path took for so many characters."""
        if self._thread is None:  # while the thread imports, the plain path is slower
            self._seconds += seconds
            self._characters += characters

    def consider(self, left: int, network: Network) -> None:
        """Start the thread if the plain path is slow, with `left` characters to come."""
        if self._thread is not None or self._characters < MEASURED:
            return
        self._expected = self._seconds * (1 + left / self._characters)
        if self._expected >= (WORTH_COMPILING if self._must_compile else WORTH_IMPORTING):
            self._start(network)

    def load(self, network: Network) -> None:
        """Start the thread; it compiles what is not in the cache."""
        if self._thread is None:
            self._expected = math.inf
            self._start(network)

    def _start(self, network: Network) -> None:
        with self._lock:
            if self._thread is None:
                # A daemon, so that a program that has its text can exit without waiting for the thread.
                self._thread = threading.Thread(
                    target=self._load, args=(network,), name="charrnn-generate", daemon=True
                )
                self._thread.start()

    def _load(self, network: Network) -> None:
        try:
            with _importing:
                from charrnn.inference import filter_code
                from charrnn.inference import writing_loop as kernels
                from charrnn.kernels.machine.jit import CACHE_DIR, JIT_DISABLED

            if JIT_DISABLED:
                return
            # An empty file marks a kind that was compiled into the cache.
            done = None if CACHE_DIR is None else CACHE_DIR / f"{self._kind.name}.compiled"
            if (done is None or not done.exists()) and self._expected < WORTH_COMPILING:
                self._must_compile, self._thread = True, None
                return
            # A small call compiles all that this kind needs, or loads it from the cache.
            V = network.vocab_size
            steered = tracking.free(V) if self._kind.steered else None
            path = CompiledPath(network, SampleConfig(), kernels, 1, steered)
            path.write([Cursor(V, network.initial_state())], [np.zeros(1)], -1)
            for line in self._kind.filters:
                filter_code.code(line)
            if self._kind.predicts:
                path.predict([Cursor(V, network.initial_state())])
            self.kernels = kernels
            if done is not None:
                done.touch()
        except Exception:
            # Numba is missing or does not work here: the plain path writes the same text, slowly.
            return


@functools.cache
def loader_of(kind: Kind) -> Loader:
    """The loader of this kind, shared by all texts."""
    return Loader(kind)
