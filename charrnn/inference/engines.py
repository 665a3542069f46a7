"""The two ways to write text, which write the same, bit for bit: at once in NumPy, or soon and fast.

The plain path writes a character at a time. The compiled one writes many characters of many texts in one
call, on all threads; a thread of its own imports it while the plain path is already at work. Several texts
are shared out among the threads; of a single one, if the network is large, each step is.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
import weakref
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

# Seconds that the plain path would need, from which on help pays. An LSTM of 2 x 128 writes 6,500 characters
# a second plainly, half as many while the thread is at work, and 110,000 compiled. To import the loop takes
# 0.6 s, and to compile it, when it is in no cache yet, 6 s.
WORTH_IMPORTING = 0.6
WORTH_COMPILING = 6.0
MEASURED = 20  # characters, before their speed says anything
LONGEST_PIECE = 1024  # characters of a text from one call of the compiled loop
# Texts that a thread writes at a time: from 32 on, more are no faster.
TEXTS_A_THREAD = 32
# Weights that one call may pass over, so that Ctrl-C is answered within a fraction of a second. Texts side by
# side read them together: one of many costs a quarter as much as one alone.
WEIGHTS_A_CALL = 2**28
SIDE_BY_SIDE = 4
# Weights of a network for each thread that writes one text: with fewer, to meet takes longer than it saves.
# Two threads write 1.1 times as much as one alone with an LSTM of 1 x 128, and 1.5 times with one of 2 x 128.
WEIGHTS_A_THREAD = 2**15


@dataclass(slots=True)
class Cursor:
    """Where a text stands: its last character, and the network's state before that is read.

    Once track.stopped is ENDED or STUCK, the text has stopped, and `last` says nothing.
    """

    last: int
    state: Any
    track: Track = Track()  # noqa: RUF009 (frozen) - what steers it


class Kind(NamedTuple):
    """What the loop is compiled for. Each kind is loaded by itself: what is not used is not compiled."""

    networks: int = 1  # that are mixed
    predicts: bool = False  # `predict` is wanted, too
    steered: bool = False
    filters: tuple[Setting, ...] = ()  # that are on

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
        """`steered` says what the texts may be, and `account` is told how long it takes to write them."""
        self._network = network
        self._chain = sampling.chain(config)
        self._steered = steered
        self._account = account
        V = network.vocab_size
        self._space = sampling.Space([0.0] * V, [0] * V, [0.0] * V)

    def longest(self, texts: int) -> int:
        """Characters that one call should write of each of so many texts."""
        return 1

    def read(self, cursor: Cursor, characters: Ids) -> None:
        """The text goes on with characters (n,), which are given."""
        started = time.perf_counter()
        for character in characters.tolist():
            _, cursor.state = self._network.step(cursor.last, cursor.state)
            cursor.last = character
        self._account(time.perf_counter() - started, len(characters))

    def predict(self, cursors: Sequence[Cursor]) -> LogProbabilities:
        """Each text reads its last character: log p of the next, (texts, V). Its state has then read it."""
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
        """What each text goes on with: a character for each of its uniforms (n,), up to `end`.

        What has read nothing but START is not ended: no text is empty. Steered texts may stop before, see
        Cursor; `weighing` is by the rules of Control.weighing.
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


def _rules(steered: Control | None, weighing: bool) -> Control | None:
    return steered.weighing if steered is not None and weighing else steered


# The arguments of CompiledPath._loop: what one thread does.
_Part = tuple[Sequence[Cursor], Sequence[Uniforms], int, Ids, Control | None, Any]


class _BrokenUpError(Exception):
    """Another thread of the team has failed."""


class CompiledPath:
    """The same with the compiled loop, on several threads; see PlainPath."""

    def __init__(
        self,
        network: Network,
        config: SampleConfig,
        kernels: ModuleType,
        threads: int | None = None,
        steered: Control | None = None,
    ) -> None:
        from charrnn.nn.workers import available_threads

        self._network = network
        self._kernels = kernels
        self._chain = kernels.chain(config)
        self._steered = steered
        self._arrays = compiled_arrays(network, kernels)
        mixed = isinstance(network, MixedNetwork)
        self._either = (None, self._arrays) if mixed else (self._arrays, None)
        self._threads = available_threads() if threads is None else threads
        # Not charrnn.nn.workers, whose threads take denormal numbers as zero, and would write other texts.
        self._pool = ThreadPoolExecutor(max(1, self._threads - 1), "charrnn-sample")
        self._weights = network.weights
        self.most_texts = TEXTS_A_THREAD * self._threads
        self._pace = Pace(min(self._threads, max(1, self._weights // WEIGHTS_A_THREAD)))

    def longest(self, texts: int) -> int:
        weights = self._weights * max(1.0, -(-texts // self._threads) / SIDE_BY_SIDE)  # a character of each
        longest = min(max(int(WEIGHTS_A_CALL / weights), 1), LONGEST_PIECE)
        return self._pace.longest(longest) if texts == 1 else longest

    def read(self, cursor: Cursor, characters: Ids) -> None:
        while len(characters):
            given = characters[: self.longest(1)]
            self._write_one(cursor, np.empty(len(given)), -1, given, self._steered)
            characters = characters[len(given) :]

    def write(
        self, cursors: Sequence[Cursor], uniforms: Sequence[Uniforms], end: int, *, weighing: bool = False
    ) -> list[Ids]:
        nothing, rules = np.empty(0, np.int64), _rules(self._steered, weighing)
        if len(cursors) == 1:
            return [self._write_one(cursors[0], uniforms[0], end, nothing, rules)]
        B, shares = len(cursors), min(self._threads, len(cursors))
        cuts = [B * n // shares for n in range(shares + 1)]
        scratches = [
            self._kernels.scratch(self._arrays, high - low)[0] for low, high in itertools.pairwise(cuts)
        ]
        parts = [
            (cursors[low:high], uniforms[low:high], end, nothing, rules, scratch)
            for (low, high), scratch in zip(itertools.pairwise(cuts), scratches, strict=True)
        ]
        return list(itertools.chain.from_iterable(self._side_by_side(parts)))

    def _write_one(
        self, cursor: Cursor, numbers: Uniforms, end: int, given: Ids, rules: Control | None
    ) -> Ids:
        """Go on with one text, a team of threads at once."""
        started = time.perf_counter()
        members = self._pace.members
        parts = [
            # Each member has a cursor of its own. All come to the same.
            ([cursor if scratch.worker == 0 else replace(cursor)], [numbers], end, given, rules, scratch)
            for scratch in self._kernels.scratch(self._arrays, 1, members)
        ]
        ((ids,), *_) = self._side_by_side(parts)
        self._pace.account(members, len(ids), time.perf_counter() - started)
        return ids

    def _side_by_side(self, parts: Sequence[_Part]) -> list[list[Ids]]:
        """What `_write` returns for each part; the first is written by this thread."""
        others = []
        try:
            others = [self._pool.submit(self._write, part) for part in parts[1:]]
            return [self._write(parts[0]), *(other.result() for other in others)]
        except _BrokenUpError:
            for other in others:
                other.result()  # raises what has happened there
            raise
        except BaseException:  # Ctrl-C, before or after a call of the loop
            for *_, scratch in parts:
                self._kernels.break_up(scratch)
            raise

    def _write(self, part: _Part) -> list[Ids]:
        """A thread's texts."""
        *_, scratch = part
        try:
            return self._loop(*part)
        except BaseException:
            self._kernels.break_up(scratch)  # the rest of its team need not wait
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
        state: Any = self._network.side_by_side([cursor.state for cursor in cursors])
        texts = np.arange(B)
        last = np.array([cursor.last for cursor in cursors])
        written, counts = np.zeros(table.shape, np.int64), np.zeros(B, np.int64)
        batch = self._kernels.Batch(state, texts, last, table, limits, given, end, written, counts)
        arrays = None if rules is None else rules.arrays
        before = [cursor.track for cursor in cursors]
        tracks = None if rules is None else tracking.gathered(before, table.shape[1])
        running = B
        while running:
            for character in set(last[:running].tolist()):
                self._network.fill_table(character)  # the loop comes back where it meets a new one
            running = self._kernels.write(*self._either, batch, self._chain, arrays, tracks, scratch)
            if running < 0:
                raise _BrokenUpError
        for row, text in enumerate(texts.tolist()):
            cursors[text].last = int(last[row])
            cursors[text].state = self._network.one_of(state, row)
        if tracks is not None and not len(given):
            stops = [cursor.last for cursor in cursors]
            after = tracking.moved(before, tracks, counts.tolist(), stops)
            for cursor, track in zip(cursors, after, strict=True):
                cursor.track = track
        return [written[text, : counts[text]] for text in range(B)]

    def predict(self, cursors: Sequence[Cursor]) -> LogProbabilities:
        """See PlainPath."""
        B = len(cursors)
        found = np.empty((B, self._network.vocab_size))
        shares = max(1, min(self._threads, B))
        cuts = [B * n // shares for n in range(shares + 1)]
        others = [
            self._pool.submit(self._predict, cursors, found, low, high)
            for low, high in itertools.pairwise(cuts[1:])
        ]
        self._predict(cursors, found, 0, cuts[1])
        for other in others:
            other.result()
        return found

    def _predict(self, cursors: Sequence[Cursor], found: LogProbabilities, low: int, high: int) -> None:
        """A thread's share of the texts, so many at a time that their states stay in the cache."""
        for first in range(low, high, TEXTS_A_THREAD):
            some = cursors[first : min(first + TEXTS_A_THREAD, high)]
            last = np.array([cursor.last for cursor in some])
            for character in set(last.tolist()):
                self._network.fill_table(character)
            state: Any = self._network.side_by_side([cursor.state for cursor in some])
            (scratch,) = self._kernels.scratch(self._arrays, len(some))
            out = found[first : first + len(some)]
            self._kernels.log_probabilities(*self._either, last, state, scratch, out)
            for row, cursor in enumerate(some):
                cursor.state = self._network.one_of(state, row)


class Paths:
    """The plain path, then the compiled one as soon as it is there."""

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
        self._config = config
        self._threads = threads
        self._steered = steered
        networks = len(network.parts) if isinstance(network, MixedNetwork) else 1
        self._loader = loader_of(Kind(networks, predicts, steered is not None, tuple(active(config))))
        self._path: PlainPath | CompiledPath = PlainPath(network, config, steered, self._loader.account)

    def best(self, left: int) -> PlainPath | CompiledPath:
        """The quickest path that there is now. So many characters are `left` at least, as far as known."""
        if isinstance(self._path, PlainPath):
            self._loader.consider(left, self._network)
            if self._loader.kernels is not None:
                self._path = CompiledPath(
                    self._network, self._config, self._loader.kernels, self._threads, self._steered
                )
        return self._path


def compiled_arrays(network: Network, kernels: Any) -> Any:
    """The network as the compiled loop takes it, arranged once for all texts."""
    if network in _arranged:
        return _arranged[network]
    if isinstance(network, MixedNetwork):
        parts = tuple(compiled_arrays(part, kernels) for part in network.parts)
        _arranged[network] = kernels.Mixture(parts, network.mixing, network.ids)
        return _arranged[network]
    config = network.config
    half = network.precision == "bfloat16"
    _arranged[network] = kernels.Network(
        product=kernels.address_of(kernels.panel_product),
        cell=kernels.address_of(kernels.writing(config.recurrence)),
        widths=np.array(network.widths),
        norm=kernels.address_of(kernels.layer_norm) if config.norm else 0,
        skips=np.array(network.skips),
        table=network.table,
        known=network.known,
        embedding=network.embedding,
        inputs=kernels.in_panels(network.inputs, half),
        bias_ih=kernels.padded(network.bias_ih),
        recurrent=kernels.in_panels(network.recurrent, half),
        bias_hh=kernels.padded(network.bias_hh),
        norms=network.norms,
        decoder=kernels.in_panels(network.decoder, half),
        decoder_bias=kernels.padded(network.decoder_bias),
    )
    return _arranged[network]


class Loader:
    """The compiled loop, imported by a thread of its own once that is worth while."""

    def __init__(self, kind: Kind = Kind()) -> None:  # noqa: B008 (frozen)
        self._kind = kind
        self.kernels: ModuleType | None = None  # set when it is ready
        self._seconds, self._characters = 0.0, 0  # of the plain path, in all texts so far
        self._expected = 0.0  # those seconds, and those ahead
        self._must_compile = False  # what is wanted is in no cache
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def account(self, seconds: float, characters: int) -> None:
        """The plain path took so long for so many characters."""
        if self._thread is None:  # a thread at work slows it down
            self._seconds += seconds
            self._characters += characters

    def consider(self, left: int, network: Network) -> None:
        """Start the thread if the plain path is slow, with `left` characters to come."""
        if self._thread is not None or self._characters < MEASURED:
            return
        self._expected = self._seconds * (1 + left / self._characters)
        if self._expected < (WORTH_COMPILING if self._must_compile else WORTH_IMPORTING):
            return
        with self._lock:
            if self._thread is None:
                # A daemon: a program that has its text need not wait for it.
                self._thread = threading.Thread(
                    target=self._load, args=(network,), name="charrnn-generate", daemon=True
                )
                self._thread.start()

    def _load(self, network: Network) -> None:
        try:
            from charrnn.inference import writing_loop as kernels
            from charrnn.kernels.machine.jit import CACHE_DIR, JIT_DISABLED

            if JIT_DISABLED:
                return
            # An empty file says that it has been compiled.
            done = None if CACHE_DIR is None else CACHE_DIR / f"{self._kind.name}.compiled"
            if (done is None or not done.exists()) and self._expected < WORTH_COMPILING:
                self._must_compile, self._thread = True, None
                return
            # A call that does little, so that what must be compiled, or read from the cache, is.
            V = network.vocab_size
            steered = tracking.free(V) if self._kind.steered else None
            path = CompiledPath(network, SampleConfig(), kernels, 1, steered)
            path.write([Cursor(V, network.initial_state())], [np.zeros(1)], -1)
            for line in self._kind.filters:
                kernels.code(line)
            if self._kind.predicts:
                path.predict([Cursor(V, network.initial_state())])
            self.kernels = kernels
            if done is not None:
                done.touch()
        except Exception:
            # Numba is missing or does not work here: the plain path writes the same text, slowly.
            return


_loaders: dict[Kind, Loader] = {}
_arranged: weakref.WeakKeyDictionary[Network, Any] = weakref.WeakKeyDictionary()


def loader_of(kind: Kind) -> Loader:
    """The loader of the loop, one for all texts of a kind."""
    return _loaders.setdefault(kind, Loader(kind))
