"""Blocks of character ids <-> the words of the entropy coder, with a model's network as the predictor.

Two implementations give the same words: plain NumPy, and the compiled loop on several threads.

Axes: B blocks, T characters, V vocabulary, L layers, H hidden units.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.errors import CompressionError
from charrnn.inference.engines import even_ranges
from charrnn.inference.numpy_network import PlainNetwork
from charrnn.scoring import rans

Ids = npt.NDArray[np.int32]
Words = npt.NDArray[np.uint32]

PLAIN = 1 << 17  # frequencies that plain Python computes before the compiled loop is worth importing
WEIGHTS_A_CALL = 2**28  # that one call of the compiled loop may pass over: a fraction of a second

DAMAGED = "it is damaged", "get it anew: nothing from there on can be read"


class BlockCoder:
    """Encodes and decodes blocks of ids with a model's network. `newline` is the id of "\\n", or -1.

    If `adaptive`, it counts what it codes, see charrnn.counts.growing: it codes single blocks, with compiled
    code, and decodes what it encoded in the same order.
    """

    def __init__(self, checkpoint: Checkpoint, threads: int | None, *, adaptive: bool = False) -> None:
        self.adaptive = adaptive
        self._learning: Any = None
        if adaptive:
            from charrnn.counts.growing import GrowingCounts
            from charrnn.scoring.rans_loop import Learning

            counts = GrowingCounts(checkpoint.vocabulary, checkpoint.text)
            self._learning = Learning(counts.grown, counts.nothing())
        self._network = PlainNetwork(checkpoint)
        self._threads = threads
        self.report: Callable[[float], None] = lambda share: None  # takes the share of the frame that is done
        self._V = checkpoint.config.outputs
        self.newline = checkpoint.vocabulary.characters.find("\n")
        self._line_end = self.newline if checkpoint.text.lines else -1
        start = self._V, self._network.initial_state()
        self._openings = [start, start]  # of the first block and of the others: (last character, state)
        if not checkpoint.text.lines and self.newline >= 0:
            self._openings[1] = self.newline, self._network.step(*start)[1]

    def encode(self, blocks: Sequence[Ids], first: bool) -> list[tuple[int, Words]]:
        """Each block's final state, and its words in the order in which `decode` reads them."""
        run = self._run([len(block) for block in blocks], first)
        return run.encode(blocks) if run else [self._encode(*pair) for pair in self._opened(blocks, first)]

    def decode(self, blocks: Sequence[tuple[int, int, Any]], first: bool) -> list[Ids]:
        """The ids of each block, from (length, state, words).

        Raises:
            CompressionError: these are not what `encode` returned.
        """
        if not all(rans.LOWEST <= state < 1 << 63 for _, state, _ in blocks):
            raise CompressionError(*DAMAGED)
        run = self._run([length for length, _, _ in blocks], first)
        return run.decode(blocks) if run else [self._decode(*pair) for pair in self._opened(blocks, first)]

    def _opened(self, blocks: Sequence[Any], first: bool) -> Iterator[tuple[Any, tuple[int, Any]]]:
        for n, block in enumerate(blocks):
            yield block, self._openings[0 if first and n == 0 else 1]

    def _run(self, lengths: list[int], first: bool) -> _CompiledRun | None:
        if sum(lengths) * self._V <= PLAIN and self._learning is None:
            return None
        from charrnn.kernels.machine.jit import JIT_DISABLED

        if JIT_DISABLED and self._learning is None:
            return None
        openings = [opening for _, opening in self._opened(lengths, first)]
        run = _CompiledRun(self._network, self._line_end, lengths, openings, self._threads, self.report)
        run.learning = self._learning
        return run

    def _frequencies(self, opening: tuple[int, Any]) -> Any:
        """A generator of the next character's frequencies (V,), which is sent each character in turn."""
        last, state = opening
        f, p = [0] * self._V, [0.0] * self._V
        while True:
            if last == self._line_end:
                last, state = self._V, self._network.initial_state()
            logits, state = self._network.step(last, state)
            rans.frequencies(f, logits.tolist(), p)
            last = yield f

    def _encode(self, ids: Ids, opening: tuple[int, Any]) -> tuple[int, Words]:
        symbols: list[int] = ids.tolist()
        places = []
        following = self._frequencies(opening)
        f = next(following)
        for symbol in symbols:
            places.append((rans.start_of(f, symbol), f[symbol]))
            f = following.send(symbol)
        words, count, x = [0] * (len(places) + 1), 0, rans.LOWEST
        for start, share in reversed(places):
            x, count = rans.push(x, start, share, words, count)
        return x, np.array(words[:count][::-1], np.uint32)

    def _decode(self, block: tuple[int, int, Any], opening: tuple[int, Any]) -> Ids:
        length, x, words = block[0], block[1], block[2].tolist()
        symbols, place = [], 0
        following = self._frequencies(opening)
        f = next(following)
        for _ in range(length):
            symbol, x, place = rans.pull(x, f, words, place, len(words))
            if x < rans.LOWEST:
                raise CompressionError(*DAMAGED)
            symbols.append(symbol)
            f = following.send(symbol)
        if place < len(words) or x != rans.LOWEST:
            raise CompressionError(*DAMAGED)
        return np.array(symbols, np.int32)


class _CompiledRun:
    """The compiled coding of one frame's blocks, which are distributed over threads.

    A row is a block; the loop needs them sorted by length, the longest first.
    """

    def __init__(
        self, network: PlainNetwork, line_end: int, lengths: list[int], openings: list[tuple[int, Any]],
        threads: int | None, report: Callable[[float], None],
    ) -> None:  # fmt: skip
        from charrnn.inference import writing_loop
        from charrnn.inference.assembler import assembled
        from charrnn.scoring import rans_loop as compiled
        from charrnn.system.quota import available_threads

        self.learning: Any = None  # rans_loop.Learning, where there is one block
        self._kernels, self._generate = compiled, writing_loop
        self._network = network
        self._arrays = assembled(network)
        self._line_end = line_end
        self._openings = openings
        self._V = network.vocab_size
        self._threads = available_threads() if threads is None else threads
        self._order = np.argsort(-np.array(lengths), kind="stable")  # the block of each row
        self._lengths = np.array(lengths, np.int64)[self._order]
        self._texts = np.zeros((len(lengths), int(self._lengths[0])), np.int32)
        self._report = report
        self._stopped = threading.Event()

    def encode(self, blocks: Sequence[Ids]) -> list[tuple[int, Words]]:
        for row, block in enumerate(self._order.tolist()):
            self._texts[row, : len(blocks[block])] = blocks[block]
        starts, shares = np.zeros_like(self._texts), np.zeros_like(self._texts)
        result: list[Any] = [None] * len(blocks)

        def work(low: int, high: int) -> None:
            rows = slice(low, high)

            def call(blocks: Any, scratch: Any, t0: int, t1: int) -> Any:
                measure = self._kernels.measure
                places = starts[rows], shares[rows]
                return measure(self._arrays, blocks, t0, t1, *places, scratch, self.learning)

            self._advance(low, high, call)
            for row in range(low, high):
                length = int(self._lengths[row])
                words = np.empty(length + 1, np.uint32)
                x, count = self._kernels.encode(starts[row, :length], shares[row, :length], words)
                result[self._order[row]] = int(x), words[:count][::-1].copy()

        self._share(work)
        return result

    def decode(self, blocks: Sequence[tuple[int, int, Any]]) -> list[Ids]:
        ordered = [blocks[block] for block in self._order.tolist()]
        x = np.array([state for _, state, _ in ordered], np.int64)
        words = np.concatenate([words for _, _, words in ordered]).astype(np.uint32)
        ends = np.cumsum([len(words) for _, _, words in ordered])
        places = ends - [len(words) for _, _, words in ordered]

        def work(low: int, high: int) -> None:
            rows = slice(low, high)
            coded = self._kernels.Words(x[rows], words, places[rows], ends[rows])

            def call(blocks: Any, scratch: Any, t0: int, t1: int) -> Any:
                return self._kernels.decode(self._arrays, blocks, t0, t1, coded, scratch, self.learning)

            self._advance(low, high, call)

        self._share(work)
        if np.any(places != ends) or np.any(x != rans.LOWEST):
            raise CompressionError(*DAMAGED)
        return [self._texts[row, : self._lengths[row]] for row in np.argsort(self._order)]

    def _advance(self, low: int, high: int, call: Any) -> None:
        """Code rows low .. high from their first character to their last, in as many calls as it takes."""
        B = high - low
        openings = [self._openings[block] for block in self._order[low:high].tolist()]
        last = np.array([character for character, _ in openings], np.int64)
        rows = slice(low, high)
        blocks = self._kernels.Blocks(
            last, self._texts[rows], self._lengths[rows], self._line_end, np.empty(self._V, np.int64)
        )
        (scratch,) = self._generate.scratch(self._arrays, B)
        self._network.put([state for _, state in openings], scratch)
        self._network.fill_table(self._V)
        steps = max(1, WEIGHTS_A_CALL // (self._network.weights * B))
        t, length = 0, int(self._lengths[low])
        while t < length and not self._stopped.is_set():
            t1 = min(t + steps, length)
            with np.errstate(all="ignore"):
                for character in set(last.tolist()):
                    self._network.fill_table(character)  # the loop returns at a character that has no row
            t = int(call(blocks, scratch, t, t1))
            if t < 0:
                raise CompressionError(*DAMAGED)
            if low == 0:  # one thread speaks for all
                self._report(t / length)

    def _share(self, work: Any) -> None:
        """Call work(low, high) for even ranges of the rows, each on a thread of its own."""
        ranges = even_ranges(len(self._lengths), self._threads)
        # Not nn.workers: its threads flush denormal numbers to zero, which would change frequencies.
        with ThreadPoolExecutor(len(ranges), "charrnn-code") as pool:
            try:
                for future in [pool.submit(work, low, high) for low, high in ranges]:
                    _wait_for(future)
            finally:
                self._stopped.set()


def _wait_for(future: Future[None]) -> None:
    while True:
        try:
            return future.result(timeout=0.2)  # Windows sees Ctrl-C only between waits
        except NotYet:
            if future.done():
                raise
