"""Networks that read whole texts of different lengths, and label or rewrite them.

Axes: T time, B batch, V characters. Windows are time-major; a text begins at step 0 and may be shorter than
its window: what is behind its end changes nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from charrnn import kernels
from charrnn.config import ModelConfig
from charrnn.nn.modules.module import Sequential
from charrnn.nn.modules.reading.crf import BoundCRF
from charrnn.nn.modules.reading.decoder import BoundDecoder, Decoder, Encoded, Steps, Written
from charrnn.nn.modules.reading.heads import BoundHead, Classes, Head
from charrnn.nn.network import State
from charrnn.nn.operands import Share
from charrnn.nn.parameters import Array
from charrnn.nn.passes import Parametrized, Passes
from charrnn.nn.window import Window
from charrnn.nn.workers import Phase, Workers


class Batch(NamedTuple):
    """Texts and what is to be learned of them; for targets and weights see the network's head."""

    x: Array  # (T, B) ids
    lengths: Array  # (B,), from 1 to T
    targets: Array
    weights: Array
    previous: Array | None = None  # (T', B) ids of a target: START, then all but the last of `targets`
    beside: Array | None = None  # (B, N), what is added to the logits of whole texts; see Classes


def window_length(longest: int) -> int:
    """The steps of a window for texts of up to this length: one of few, four in each octave."""
    step = max(4, 1 << max(0, (longest - 1).bit_length() - 3))
    return -(-max(longest, 1) // step) * step


def log_softmax(logits: Array) -> Array:
    """The logarithms of probabilities (.., N), in float64."""
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    found: Array = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return found


class _Passes(Passes):
    """A network that reads, bound to a window."""

    head: BoundHead

    def bind_loss(self) -> None:
        head = self.modules.inner[-1]
        assert isinstance(head, BoundHead)
        self.head = head

    @property
    def decoder(self) -> BoundDecoder:
        (found,) = (bound for bound in self.flat if isinstance(bound, BoundDecoder))
        return found

    def forward(self, b0: int, b1: int) -> None:
        """All steps, of which pooling and a decoder put out another number than they read."""
        for bound in self.modules.inner:
            bound.forward(b0, b1, 0, bound.y.window.T)

    def read(self, x: Array, lengths: Array, previous: Array | None) -> None:
        """Load a window's texts and prepare all modules. What is behind a text has the zero state."""
        if previous is not None:
            self.decoder.steps.previous[:] = previous
        window, steps = self.window, np.arange(self.window.T)[:, None]
        window.lengths[:] = lengths
        self.ids.read(np.where(steps < lengths, x, self.ids.V))
        self.characters.fill()
        for layer in self.layers:
            rows = np.where((steps < lengths - layer.reverse) | layer.goes_on, -1, 0)
            zeros = [[np.zeros((n, width), window.dtype) for width in layer.widths] for n in (window.B, 1)]
            layer.start(tuple(zeros[0]), rows, tuple(zeros[1]))
        for bound in self.flat:
            bound.prepare()


class _Step:
    """One step of a decoder and what follows it, bound to R rows."""

    def __init__(self, network: Sequential, window: Window, encoded: Encoded) -> None:
        self.window = window
        (place,) = (n for n, module in enumerate(network.modules) if isinstance(module, Decoder))
        decoder = network.modules[place]
        assert isinstance(decoder, Decoder)
        self.steps = Steps(decoder, window, encoded)
        self.after = Sequential(*network.modules[place + 1 : -1]).bind(window, self.steps.y)
        self.steps.cell.connect()
        for bound in self.after.flat():
            bound.connect()
        self.log_sums = [np.zeros((1, window.B), window.dtype) for _ in range(3)]

    def forward(self, share: Share) -> None:
        b0, b1 = share.of(self.window.B)
        self.steps.forward(b0, b1)
        self.after.forward(b0, b1, 0, 1)
        y = self.after.y
        kernels.loss.log_partitions(y.values, tuple(self.log_sums), y.N, b0, b1)

    def refresh(self, share: Share) -> None:
        for weight in self.window.weights:
            weight.refresh(share)


class Reader(Parametrized[_Passes]):
    """A network that reads whole texts, and ends in a head. See Parametrized."""

    windows_kept = 12  # texts come in as many lengths

    def __init__(
        self,
        config: ModelConfig,
        *,
        workers: Workers | None = None,
        dtype: Any = np.float32,
        bfloat16: bool = False,
        reads_bfloat16: bool = False,
    ) -> None:
        super().__init__(config.network(), workers, dtype, bfloat16, reads_bfloat16)
        self.config = config
        self._steps: dict[int, _Step] = {}  # of a decoder, by the number of rows

    def _bind(self, window: Window, *sizes: int) -> _Passes:
        window.target_steps = sum(sizes)
        return _Passes(self.network, self.config.vocab_size, window)

    def zero_state(self, B: int) -> State:
        """Nothing: texts do not continue from one batch to the next."""
        return State(())

    def gradient(
        self,
        batch: Batch,
        dropout_seed: int | None = None,
        then: tuple[Phase, ...] = (),
        whole: float | None = None,
    ) -> float:
        """Put the gradient of the mean loss into `gradients`; return that loss. See Model.gradient."""
        passes = self._of(True, batch.x, batch.previous)
        passes.read(batch.x, batch.lengths, batch.previous)
        total = self.weight_of(batch) if whole is None else whole
        passes.head.load(batch.targets, batch.weights, total, batch.beside)
        passes.drop(*([] if dropout_seed is None else [(0, batch.x.shape[1], dropout_seed)]))

        def pass_over(share: Share) -> None:
            b0, b1 = share.of(passes.window.B)
            passes.forward(b0, b1)
            passes.modules.backward(b0, b1)

        self.workers.run(passes.prepare_share, pass_over, *passes.after_columns(), *then)
        return passes.head.loss()

    def learn(
        self,
        batch: Batch,
        carry: State | None,
        key: int,
        then: tuple[Phase, ...],
        whole: float | None = None,
    ) -> tuple[float, State]:
        """A gradient as `Learner` asks for it."""
        return self.gradient(batch, key, then, whole), State(())

    def weight_of(self, batch: Batch) -> float:
        head = self.network.modules[-1]
        assert isinstance(head, Head)
        return head.total(batch.weights, batch.lengths)

    def columns_of(self, batch: Batch, b0: int, b1: int) -> Batch:
        some = slice(b0, b1)
        of_texts = batch.weights.ndim == 1  # whose targets are distributions, but for a tagger's
        targets = batch.targets[some] if self.config.kind == "classifier" else batch.targets[:, some]
        weights = batch.weights[some] if of_texts else batch.weights[:, some]
        previous = None if batch.previous is None else batch.previous[:, some]
        beside = None if batch.beside is None else batch.beside[some]
        return Batch(batch.x[:, some], batch.lengths[some], targets, weights, previous, beside)

    def try_out(self) -> None:
        x, lengths = np.zeros((1, 1), np.int32), np.ones(1, np.int64)
        previous = x if self.config.kind == "rewriter" and not self.config.has_memory else None
        head = self._of(True, x, previous).head
        batch = Batch(x, lengths, head.targets, np.ones_like(head.weights), previous)
        self.gradient(batch, dropout_seed=0)
        self.losses(batch)
        if self.config.kind == "rewriter":
            encoded, written = self.encode(x, lengths)
            self.step(encoded, x[0], x[0], written)
        if self.config.kind == "tagger":
            self.best(x, lengths)

    def losses(self, batch: Batch) -> Array:
        """The loss of each text (B,) or position (T, B) in nats, not weighted; 0 where the weight is."""
        return self._compared(batch).losses.copy()

    def loss(self, batch: Batch) -> float:
        """The weighted mean of the losses."""
        return self._compared(batch).loss()

    def _compared(self, batch: Batch) -> BoundHead:
        head = self._of(False, batch.x, batch.previous).head
        head.load(batch.targets, batch.weights, self.weight_of(batch), batch.beside)
        self._forward(batch.x, batch.lengths, batch.previous, head.backward)
        return head

    def forward(self, x: Array, lengths: Array, previous: Array | None = None) -> Array:
        """The logits: (B, N) of whole texts, (T, B, N), or (T', B, N) of a target; see Batch."""
        y = self._forward(x, lengths, previous).modules.y
        logits = y.values[..., : y.N].copy()
        return logits[0] if isinstance(self.network.modules[-1], Classes) else logits

    def best(self, x: Array, lengths: Array) -> tuple[Array, Array]:
        """The most probable labels (T, B) by a CRF, 0 behind a text, and their scores (B,)."""
        labels, scores = np.zeros(x.shape, np.int32), np.zeros(x.shape[1], self.dtype)
        head = self._crf(x)
        self._forward(x, lengths, None, lambda b0, b1: head.best(labels, scores, b0, b1))
        return labels, scores

    def marginals(self, x: Array, lengths: Array) -> Array:
        """The probability of each label at each position (T, B, N) by a CRF; 0 behind a text."""
        y = self._forward(x, lengths, None, self._crf(x).marginals).modules.y
        return y.values[..., : y.N].copy()

    def encode(self, x: Array, lengths: Array) -> tuple[Encoded, Written]:
        """What a decoder attends to of texts x (T, B), and its state before the first character.

        With a memory nothing is attended to, and what the state has been fed is what comes next.
        """
        if self.config.has_memory:
            passes, (T, B) = self._forward(x, lengths, None), x.shape
            y, (memory,), last = passes.modules.y, passes.layers, (lengths - 1) * B + np.arange(B)
            logits = y.values.reshape(T * B, -1)[last, : y.N]
            none = np.zeros((1, B, 0), self.dtype)
            return Encoded(none, none, lengths), Written(memory.states_after(last), log_softmax(logits))
        start = np.full((1, x.shape[1]), np.iinfo(np.int32).max, np.int32)
        decoder = self._forward(x, lengths, start).decoder
        return Encoded(*(array.copy() for array in decoder.encoded)), decoder.initial_state()

    def step(
        self, encoded: Encoded, columns: Array, previous: Array, written: Written
    ) -> tuple[Array, Written, Array]:
        """A step of R rows, each of which attends to the column `columns[r]` of what was encoded.

        `previous` (R,) are the characters before; ids beyond the last: START. Returns the logarithms of the
        probabilities of each character and the end (R, V + 1), the state, and the attention weights (R, S).
        """
        R = len(previous)
        if self.config.has_memory:
            nothing = np.zeros((R, 0), self.dtype)
            if previous[0] <= self.config.targets[0]:
                written = self._answer(written)
            return written.fed, written, nothing
        if R not in self._steps:
            self._make_room(self._steps)
            window = Window(self.parameters, None, 1, R, bfloat16=self.reads_bfloat16)
            self._steps[R] = _Step(self.network, window, encoded)
        step = self._steps[R]
        step.steps.attend(encoded, columns.astype(np.int32))
        step.steps.previous[0] = previous
        step.steps.start(*written)
        self.workers.run(*([step.refresh] if step.window.weights else []), step.forward)
        y, (largest, logs, _) = step.after.y, step.log_sums
        probabilities = y.values[0, :, : y.N] - largest[0, :, None] - logs[0, :, None]
        return probabilities, step.steps.state(), step.steps.weights[0, :, : len(encoded.keys)].copy()

    def _answer(self, written: Written) -> Written:
        """The state of a memory after a step in which it is told nothing."""
        R = len(written.fed)
        passes = self._of(False, np.zeros((1, R)), None)
        passes.ids.read(np.full((1, R), self.config.vocab_size, np.int32))
        passes.characters.fill()
        (memory,) = passes.layers
        memory.start(written.parts, -1, tuple(np.zeros((1, width), self.dtype) for width in memory.widths))
        for bound in passes.flat:
            bound.prepare()
        self.workers.run(passes.prepare_share, lambda share: passes.forward(*share.of(R)))
        y = passes.modules.y
        return Written(memory.state(), log_softmax(y.values[0, :, : y.N]))

    def _crf(self, x: Array) -> BoundCRF:
        head = self._of(False, x, None).head
        assert isinstance(head, BoundCRF)
        return head

    def _of(self, training: bool, x: Array, previous: Array | None) -> _Passes:
        """The passes over a window of these sizes."""
        return self._bound(training, *x.shape, *(() if previous is None else previous.shape[:1]))

    def _forward(self, x: Array, lengths: Array, previous: Array | None, then: Any = None) -> _Passes:
        """The passes with their logits, after which `then` is called for all columns."""
        passes = self._of(False, x, previous)
        passes.read(x, lengths, previous)

        def pass_over(share: Share) -> None:
            columns = share.of(passes.window.B)
            passes.forward(*columns)
            if then is not None:
                then(*columns)

        self.workers.run(passes.prepare_share, pass_over)
        return passes
