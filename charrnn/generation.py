"""Checkpoint + prompt -> text, piece by piece as it is written.

The first characters come from charrnn.plain, at once. When that would take long, a thread imports the
compiled loop meanwhile, which then takes over in mid-text. Both write the same text, bit for bit.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from charrnn import sampling
from charrnn.checkpoint import Checkpoint
from charrnn.config import DEFAULT_SAMPLE_LENGTH, MAX_LINE_LENGTH, SampleConfig
from charrnn.plain import Floats, PlainNetwork

Ids = npt.NDArray[np.int64]
Uniforms = npt.NDArray[np.float64]

# Seconds that the plain path would need, from which on help pays. An LSTM of 2 x 128 writes 6,500 characters
# a second plainly, half as many while the thread is at work, and 100,000 compiled. To import the loop takes
# 0.6 s, and to compile it, when it is in no cache yet, 10 s.
WORTH_IMPORTING = 0.6
WORTH_COMPILING = 10.0
MEASURED = 20  # characters, before their speed says anything
LARGEST_PIECE = 256  # characters from one call of the compiled loop
# Weights that one call may pass over, so that Ctrl-C is answered within a fraction of a second.
WEIGHTS_A_CALL = 2**28


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
    read = checkpoint.vocabulary.encode(prompt, on_unknown).astype(np.int64)
    return _pieces(checkpoint, read, config, index, echo)


def _pieces(
    checkpoint: Checkpoint, prompt: Ids, config: SampleConfig, index: int, echo: bool
) -> Iterator[str]:
    vocabulary, lines = checkpoint.vocabulary, checkpoint.text.lines
    if echo and len(prompt):
        yield vocabulary.decode(prompt)
    left = config.length
    if left is None:
        left = MAX_LINE_LENGTH if lines else DEFAULT_SAMPLE_LENGTH
    if left == 0:
        return

    random = np.random.default_rng(None if config.seed is None else [config.seed, index])
    network = _network(checkpoint)
    paths = _Paths(network, config)
    state = network.initial_state()
    newline = vocabulary.characters.find("\n")
    document = _document(prompt, len(vocabulary), newline, lines)
    unread, last = document[:-1], int(document[-1])

    ahead = 0 if lines else left  # how long a line becomes, nobody knows
    while len(unread):
        path = paths.best(len(unread) + ahead)
        state = path.read(unread[: path.at_once], state)
        unread = unread[path.at_once :]

    ending = _Ending(lines, config.until)
    while left > 0:
        path = paths.best(0 if lines else left)
        uniforms = random.random(min(path.at_once, left))
        written, state = path.write(last, state, uniforms, newline if lines else -1)
        last = int(written[-1])
        left -= len(written)
        piece, ended = ending.cut(vocabulary.decode(written))
        yield piece
        if ended:
            return


def _document(prompt: Ids, start: int, newline: int, lines: bool) -> Ids:
    """What the network reads before it writes: START, then the prompt or what stands for it."""
    if lines:
        ends = np.flatnonzero(prompt == newline)
        prompt = prompt[ends[-1] + 1 :] if len(ends) else prompt
    elif not len(prompt) and newline >= 0:
        # Prose begins like a new line, not like the corpus's first.
        prompt = np.array([newline], np.int64)
    return np.concatenate([np.array([start], np.int64), prompt])


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


class _PlainPath:
    """Reads and writes with NumPy alone, a character at a time."""

    at_once = 1

    def __init__(self, network: PlainNetwork, config: SampleConfig) -> None:
        self._network = network
        self._filters = _filters(config)
        V = network.config.vocab_size
        self._p, self._heap = [0.0] * V, [0] * V

    def read(self, characters: Ids, state: Floats) -> Floats:
        """The state (L, 1 or 2, H) after characters (n,)."""
        started = time.perf_counter()
        for character in characters.tolist():
            _, state = self._network.step(character, state)
        _loader.account(time.perf_counter() - started, len(characters))
        return state

    def write(self, last: int, state: Floats, uniforms: Uniforms, end: int) -> tuple[Ids, Floats]:
        """A character for each of uniforms (n,), up to `end`; `last` is read first.

        Returns the characters and the state, which has read all but the last of them.
        """
        started = time.perf_counter()
        written: list[int] = []
        for u in uniforms.tolist():
            logits, state = self._network.step(last, state)
            last = sampling.sample(logits.tolist(), *self._filters, u, self._p, self._heap)
            written.append(last)
            if last == end:
                break
        _loader.account(time.perf_counter() - started, len(written))
        return np.array(written, np.int64), state


class _CompiledPath:
    """The same with the compiled loop; see _PlainPath."""

    def __init__(self, network: PlainNetwork, config: SampleConfig, kernels: ModuleType) -> None:
        self._network = network
        self._kernels = kernels
        self._filters = kernels.Filters(*_filters(config))
        self._arrays = _arrays(network, kernels)
        self._logits = np.empty(len(network.decoder_bias), np.float32)
        weights = network.recurrent.size + network.inputs.size + network.decoder.size
        self.at_once = min(max(WEIGHTS_A_CALL // weights, 1), LARGEST_PIECE)

    def read(self, characters: Ids, state: Floats) -> Floats:
        state = state.copy()
        done = 0
        while done < len(characters):
            self._network.learn(int(characters[done]))
            done += self._kernels.read(self._arrays, state, characters[done:])
        return state

    def write(self, last: int, state: Floats, uniforms: Uniforms, end: int) -> tuple[Ids, Floats]:
        state = state.copy()
        written = np.empty(len(uniforms), np.int64)
        done = 0
        while done == 0 or (done < len(uniforms) and last != end):
            self._network.learn(last)  # the loop comes back where it meets a character for the first time
            done += self._kernels.write(
                self._arrays, state, last, uniforms[done:], self._filters, end, written[done:], self._logits
            )
            last = int(written[done - 1])
        return written[:done], state


class _Paths:
    """The plain path, then the compiled one as soon as it is there."""

    def __init__(self, network: PlainNetwork, config: SampleConfig) -> None:
        self._network = network
        self._config = config
        self._path: _PlainPath | _CompiledPath = _PlainPath(network, config)

    def best(self, left: int) -> _PlainPath | _CompiledPath:
        """The quickest path that there is now. So many characters are `left` at least, as far as known."""
        if isinstance(self._path, _PlainPath):
            _loader.consider(left, self._network)
            if _loader.kernels is not None:
                self._path = _CompiledPath(self._network, self._config, _loader.kernels)
        return self._path


def _filters(config: SampleConfig) -> tuple[float, int, float, float]:
    return float(config.temperature), config.top_k, float(config.top_p), float(config.min_p)


def _arrays(network: PlainNetwork, kernels: Any) -> Any:
    """The network as the compiled loop takes it."""
    config = network.config
    cells = {"lstm": kernels.LSTM, "gru": kernels.GRU}
    simple = kernels.RNN_TANH if config.nonlinearity == "tanh" else kernels.RNN_RELU
    return kernels.Network(
        cell=cells.get(config.cell, simple),
        norm=config.norm,
        skips=np.array(network.skips),
        table=network.table,
        known=network.known,
        embedding=network.embedding,
        inputs=network.inputs,
        bias_ih=network.bias_ih,
        recurrent=network.recurrent,
        bias_hh=network.bias_hh,
        norms=network.norms,
        decoder=network.decoder,
        decoder_bias=network.decoder_bias,
    )


class _Loader:
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
            # Calls that do nothing, so that what must be compiled, or read from the cache, is.
            arrays, state = _arrays(network, kernels), network.initial_state()
            nothing = np.empty(0, np.int64)
            filters, logits = kernels.Filters(1.0, 0, 1.0, 0.0), np.empty(0, np.float32)
            kernels.write(arrays, state, 0, np.empty(0), filters, -1, nothing, logits)
            kernels.read(arrays, state, nothing)
            self.kernels = kernels
            if done is not None:
                done.touch()
        except Exception:
            # Numba is missing or does not work here: the plain path writes the same text, slowly.
            return


_loader = _Loader()
_networks: weakref.WeakKeyDictionary[Checkpoint, PlainNetwork] = weakref.WeakKeyDictionary()


def _network(checkpoint: Checkpoint) -> PlainNetwork:
    """The checkpoint's network, arranged once for all texts."""
    network = _networks.get(checkpoint)
    if network is None:
        network = _networks[checkpoint] = PlainNetwork(checkpoint)
    return network
