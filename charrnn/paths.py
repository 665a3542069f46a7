"""The two ways to write text, which write the same, bit for bit: at once in NumPy, or soon and fast.

The plain path writes a character at a time. The compiled one writes many characters of many texts in one
call, on all threads; a thread of its own imports it while the plain path is already at work.
"""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn import control, steering
from charrnn.config import SampleConfig
from charrnn.control import Control, Track
from charrnn.plain import Floats, PlainNetwork

Ids = npt.NDArray[np.int64]
Uniforms = npt.NDArray[np.float64]

# Seconds that the plain path would need, from which on help pays. An LSTM of 2 x 128 writes 6,500 characters
# a second plainly, half as many while the thread is at work, and 110,000 compiled. To import the loop takes
# 0.6 s, and to compile it, when it is in no cache yet, 6 s.
WORTH_IMPORTING = 0.6
WORTH_COMPILING = 6.0
MEASURED = 20  # characters, before their speed says anything
LONGEST_PIECE = 256  # characters of a text from one call of the compiled loop
# Texts that a thread writes at a time: from 32 on, more are no faster.
TEXTS_A_THREAD = 32
# Weights that one call may pass over, so that Ctrl-C is answered within a fraction of a second.
WEIGHTS_A_CALL = 2**28


@dataclass(slots=True)
class Cursor:
    """Where a text stands: its last character, and the state before that is read, (L, 1 or 2, H).

    Once track.stopped is ENDED or STUCK, the text has stopped, and `last` says nothing.
    """

    last: int
    state: Floats
    track: Track = field(default_factory=Track)  # what steers it


class PlainPath:
    """Writes with NumPy alone, a character of one text at a time."""

    most_texts = 1

    def __init__(self, network: PlainNetwork, config: SampleConfig) -> None:
        self._network = network
        self._filters = control.filters(config)
        V = network.config.vocab_size
        self._scratch = [0.0] * V, [0] * V, [0.0] * V
        self._free = control.free(V)

    def longest(self, texts: int) -> int:
        """Characters that one call should write of each of so many texts."""
        return 1

    def read(self, cursor: Cursor, characters: Ids) -> None:
        """The text goes on with characters (n,), which are given."""
        started = time.perf_counter()
        for character in characters.tolist():
            _, cursor.state = self._network.step(cursor.last, cursor.state)
            cursor.last = character
        loader.account(time.perf_counter() - started, len(characters))

    def write(
        self,
        cursors: Sequence[Cursor],
        uniforms: Sequence[Uniforms],
        end: int,
        steered: Control | None = None,
    ) -> list[Ids]:
        """What each text goes on with: a character for each of its uniforms (n,), up to `end`.

        `steered` says what the texts may be; where their tracks stop, there may be fewer.
        """
        started, steps = time.perf_counter(), 0
        rules = (steered or self._free).lists
        written: list[Ids] = []
        for cursor, numbers in zip(cursors, uniforms, strict=True):
            ids: list[int] = []
            tracks = control.listed(cursor.track, len(numbers))
            for u in numbers.tolist():
                logits, cursor.state = self._network.step(cursor.last, cursor.state)
                steps += 1
                cursor.last = steering.step(
                    logits.tolist(), self._filters, u, *self._scratch, rules, tracks, 0, len(ids)
                )
                if cursor.last < 0:
                    break
                ids.append(cursor.last)
                if cursor.last == end:
                    break
            if steered is not None:
                (cursor.track,) = control.moved([cursor.track], tracks, [len(ids)], [cursor.last])
            written.append(np.array(ids, np.int64))
        loader.account(time.perf_counter() - started, steps)
        return written


class CompiledPath:
    """The same with the compiled loop, the texts shared out among the threads; see PlainPath."""

    def __init__(
        self, network: PlainNetwork, config: SampleConfig, kernels: ModuleType, threads: int | None = None
    ) -> None:
        from charrnn.workers import available_threads

        self._network = network
        self._kernels = kernels
        self._filters = control.filters(config)
        self._free = control.free(network.config.vocab_size)
        self._arrays = _arrays(network, kernels)
        self._threads = available_threads() if threads is None else threads
        # Not charrnn.workers, whose threads take denormal numbers as zero, and would write other texts.
        self._pool = ThreadPoolExecutor(max(1, self._threads - 1), "charrnn-sample")
        self._weights = network.recurrent.size + network.inputs.size + network.decoder.size
        self.most_texts = TEXTS_A_THREAD * self._threads

    def longest(self, texts: int) -> int:
        weights = self._weights * -(-texts // self._threads)
        return min(max(WEIGHTS_A_CALL // weights, 1), LONGEST_PIECE)

    def read(self, cursor: Cursor, characters: Ids) -> None:
        for done in range(0, len(characters), self.longest(1)):
            given = characters[done : done + self.longest(1)]
            self._write([cursor], [np.empty(len(given))], -1, given, None)

    def write(
        self,
        cursors: Sequence[Cursor],
        uniforms: Sequence[Uniforms],
        end: int,
        steered: Control | None = None,
    ) -> list[Ids]:
        B, shares = len(cursors), min(self._threads, len(cursors))
        cuts = [B * n // shares for n in range(shares + 1)]
        nothing = np.empty(0, np.int64)
        others = [
            self._pool.submit(self._write, cursors[low:high], uniforms[low:high], end, nothing, steered)
            for low, high in itertools.pairwise(cuts[1:])
        ]
        written = self._write(cursors[: cuts[1]], uniforms[: cuts[1]], end, nothing, steered)
        for other in others:
            written += other.result()
        return written

    def _write(
        self,
        cursors: Sequence[Cursor],
        uniforms: Sequence[Uniforms],
        end: int,
        given: Ids,
        steered: Control | None,
    ) -> list[Ids]:
        """A thread's share of the texts."""
        B = len(cursors)
        limits = np.array([len(numbers) for numbers in uniforms])
        table = np.zeros((B, limits.max()))  # (B, T) of uniform numbers
        for row, numbers in zip(table, uniforms, strict=True):
            row[: len(numbers)] = numbers
        state = np.stack([cursor.state for cursor in cursors], axis=2)  # (L, 1 or 2, B, H)
        texts = np.arange(B)
        last = np.array([cursor.last for cursor in cursors])
        written, counts = np.zeros(table.shape, np.int64), np.zeros(B, np.int64)
        rules = (steered or self._free).arrays
        tracks = control.gathered([cursor.track for cursor in cursors], table.shape[1])
        scratch = self._kernels.scratch(self._arrays, B)
        running = B
        while running:
            for character in set(last[:running].tolist()):
                self._network.learn(character)  # the loop comes back where it meets a new one
            running = self._kernels.write(
                self._arrays, state, texts, last, table, limits, given, self._filters, rules, tracks, end,
                written, counts, scratch,
            )  # fmt: skip
        for row, text in enumerate(texts.tolist()):
            cursors[text].last = int(last[row])
            cursors[text].state = state[:, :, row].copy()
        if steered is not None:
            stops = [cursor.last for cursor in cursors]
            after = control.moved([cursor.track for cursor in cursors], tracks, counts.tolist(), stops)
            for cursor, track in zip(cursors, after, strict=True):
                cursor.track = track
        return [written[text, : counts[text]] for text in range(B)]


class Paths:
    """The plain path, then the compiled one as soon as it is there."""

    def __init__(self, network: PlainNetwork, config: SampleConfig, threads: int | None = None) -> None:
        self._network = network
        self._config = config
        self._threads = threads
        self._path: PlainPath | CompiledPath = PlainPath(network, config)

    def best(self, left: int) -> PlainPath | CompiledPath:
        """The quickest path that there is now. So many characters are `left` at least, as far as known."""
        if isinstance(self._path, PlainPath):
            loader.consider(left, self._network)
            if loader.kernels is not None:
                self._path = CompiledPath(self._network, self._config, loader.kernels, self._threads)
        return self._path


def _arrays(network: PlainNetwork, kernels: Any) -> Any:
    """The network as the compiled loop takes it, arranged once for all texts."""
    if network in _arranged:
        return _arranged[network]
    config = network.config
    cells = {"lstm": kernels.LSTM, "gru": kernels.GRU}
    simple = kernels.RNN_TANH if config.nonlinearity == "tanh" else kernels.RNN_RELU
    half = network.precision == "bfloat16"
    _arranged[network] = kernels.Network(
        cell=cells.get(config.cell, simple),
        norm=config.norm,
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

    def __init__(self) -> None:
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

    def consider(self, left: int, network: PlainNetwork) -> None:
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

    def _load(self, network: PlainNetwork) -> None:
        try:
            from charrnn.kernels import generate as kernels
            from charrnn.kernels.jit import CACHE_DIR, JIT_DISABLED

            if JIT_DISABLED:
                return
            done = None if CACHE_DIR is None else CACHE_DIR / "generate.compiled"  # an empty file
            if (done is None or not done.exists()) and self._expected < WORTH_COMPILING:
                self._must_compile, self._thread = True, None
                return
            # A call that does little, so that what must be compiled, or read from the cache, is.
            path = CompiledPath(network, SampleConfig(), kernels, threads=1)
            path.write([Cursor(network.config.vocab_size, network.initial_state())], [np.zeros(1)], -1)
            self.kernels = kernels
            if done is not None:
                done.touch()
        except Exception:
            # Numba is missing or does not work here: the plain path writes the same text, slowly.
            return


loader = Loader()
_arranged: weakref.WeakKeyDictionary[PlainNetwork, Any] = weakref.WeakKeyDictionary()
