"""The network for one character after another, in NumPy alone: text is there before Numba is imported.

inference.writing_loop takes over long texts and must write the very same one. So all arithmetic here has
one order, which the compiled loop repeats bit for bit: every product of a sum is rounded before it is added
(no fused multiply-add), and sums run from the first term to the last.

Axes: H hidden, D width of the embedding, V vocabulary, G gates, N = G*H padded, L layers,
S numbers of a layer's state.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import WeightPrecision
from charrnn.kernels.coefficients import (
    EXP_LEAST,
    EXP_SERIES,
    LN2,
    LOG2E,
    NORM_EPSILON,
    NORM_LANES,
    TANH_P,
    TANH_Q,
)
from charrnn.nn.cell import Cell

Floats = npt.NDArray[np.float32]
NEVER = np.float32(-1e30)  # the logit of what is never written: its probability is 0 at every temperature

# From the highest power down, each row one coefficient of P and one of Q: (5, 2, 1).
_TANH = np.array([TANH_P, TANH_Q], np.float32).T[::-1, :, None].copy()
_LEAST, _LOG2E, _LN2_HIGH, _LN2_LOW = map(np.float32, (EXP_LEAST, LOG2E, *LN2))
_E6, *_SERIES = map(np.float32, EXP_SERIES)
number = np.float32  # see kernels.activations
_NINE, _ONE, _HALF = np.float32(9), np.float32(1), np.float32(0.5)


def tanh(x: Floats) -> Floats:
    """Hyperbolic tangent, (n,)."""
    x = np.minimum(np.maximum(x, -_NINE), _NINE)
    square = x * x
    ratio = _TANH[0] * square  # P and Q in one go, (2, n)
    for coefficients in _TANH[1:-1]:
        ratio += coefficients
        ratio *= square
    ratio += _TANH[-1]
    x *= ratio[0]
    x /= ratio[1]
    return x


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), through tanh: it cannot overflow."""
    return _HALF * tanh(_HALF * x) + _HALF


def relu(x: Floats) -> Floats:
    """max(0, x)."""
    return np.where(x > 0, x, np.float32(0))


def blend(a: Floats, b: Floats, z: Floats) -> Floats:
    """(1 - z) a + z b."""
    return (_ONE - z) * a + z * b


def exp(x: Floats) -> Floats:
    """exp(x) for x <= 0."""
    x = np.maximum(x, _LEAST)
    n = np.floor(x * _LOG2E + _HALF)
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    y: Floats = _E6 * np.ones_like(x)
    for coefficient in _SERIES:
        y = y * r + coefficient
    power: Floats = ((n.astype(np.int32) + np.int32(127)) << np.int32(23)).view(np.float32)
    return y * power


def row_sums(x: Floats) -> Floats:
    """The sum of each row of (n, m), from the first term to the last: (n,)."""
    sums: Floats = np.add.accumulate(x, axis=1)[:, -1]  # unlike reduce, it adds in order
    return sums


# sigmoid(x) = tanh(x/2)/2 + 1/2: one call of tanh for gates of both kinds. To -0, anything adds up to itself.
_SCALE, _SHIFT = {"sigmoid": 0.5, "tanh": 1.0}, {"sigmoid": 0.5, "tanh": -0.0}


def cell_step(cell: Cell, H: int) -> Callable[[Floats, Floats, Floats, Floats], None]:
    """A function that does a step of a cell of H units.

    From u = W_ih x + b_ih and w = W_hh h + b_hh, both (G*H,), and the state (S,), into the new one. It is
    written out as source: to look each name up would take a fifth of a step.
    """
    active, gates = cell.activated, list(cell.gates)
    kinds = [kind for kind in cell.gates.values() if kind]
    scale, shift = (np.array([[row.get(kind, 1)] for kind in kinds], np.float32) for row in (_SCALE, _SHIFT))
    rows = [f"{n * H}:{(n + 1) * H}" for n in range(len(gates))]
    some = f"[:{len(active) * H}]" if len(active) < len(gates) else ""
    lines = [f"a = u{some} + w{some}"] if active else []
    if len(active) > 1 and {*kinds} == {*_SCALE}:
        lines.append(f"a = scale * tanh((scale * a.reshape(-1, {H})).ravel()).reshape(-1, {H}) + shift")
        lines.append(f"{', '.join(f'value_{gate}' for gate in active)} = a")
    elif len({*kinds}) == 1:
        lines.append(f"a = {kinds[0]}(a)")
        lines += [f"value_{gate} = a[{row}]" for gate, row in zip(active, rows, strict=False)]
    else:
        lines += [f"value_{g} = {k}(a[{row}])" for g, k, row in zip(active, kinds, rows, strict=False)]
    for gate, row in list(zip(gates, rows, strict=True))[len(active) :]:
        if cell.separate_hidden_bias:
            lines.append(f"value_{gate}, value_{gate}_h = u[{row}], w[{row}]")
        else:
            lines.append(f"value_{gate} = u[{row}] + w[{row}]")
    names: dict[str, Any] = {**globals(), "scale": scale, "shift": shift}
    ends = list(accumulate(cell.state_widths(H), initial=0))
    places = {part: f"[{a}:{b}]" for part, (a, b) in zip(cell.state, pairwise(ends), strict=True)}
    known = {part: f"state{place}" for part, place in places.items()}
    for n, stage in enumerate(cell.forward(sys.modules[__name__])):
        names[f"stage_{n}"] = stage.equation
        reads = ", ".join(known.get(name, f"value_{name}") for name in stage.reads)
        for name in stage.writes:
            known.pop(name, None)
        lines.append(f"{', '.join(f'value_{name}' for name in stage.writes)} = stage_{n}({reads})")
    lines += [f"new{place} = {known.get(part, f'value_{part}')}" for part, place in places.items()]
    exec("\n    ".join(["def step(u, w, state, new):", *lines]), names)
    step: Callable[[Floats, Floats, Floats, Floats], None] = names["step"]
    return step


def padded(n: int) -> int:
    """Columns of a matrix with n outputs: vectors of 16, and never one column, see `product`."""
    return -(-n // 16) * 16


def bfloat16(weight: Floats) -> Floats:
    """The nearest numbers that have the upper 16 bits of a float32 alone, of two equally near the even one.

    They have 8 significant bits: 0.1 (0x3DCCCCCD) becomes 0x3DCD0000, 0.10009765625.
    """
    bits = np.ascontiguousarray(weight).view(np.uint32)
    rounded = bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


def transposed(weight: Floats) -> Floats:
    """(N, K) in PyTorch's layout -> (K, padded N): a product then reads memory from front to end."""
    matrix = np.zeros((weight.shape[1], padded(weight.shape[0])), np.float32)
    matrix[:, : weight.shape[0]] = weight.T
    return matrix


def product(matrix: Floats, x: Floats) -> Floats:
    """x (K,) times matrix (K, N): sum over k = 0, 1, .. K-1, in this order. (N,)

    NumPy adds the rows up in order, but would sum a single column in pairs, and `np.dot` in any order.
    """
    # From -0 on, to which anything is added as it is; NumPy's own 0 would lose the sign of a sum of -0.
    result: Floats = np.add.reduce(matrix * x[:, None], axis=0, initial=np.float32(-0.0))
    return result


def lane_sum(x: npt.NDArray[np.float64]) -> float:
    """The sum of x (n,): every 16th term is added up in order, then these 16 sums are, from 0 on."""
    whole = len(x) // NORM_LANES * NORM_LANES
    lanes = np.add.reduce(x[:whole].reshape(-1, NORM_LANES), axis=0) + 0.0
    lanes[: len(x) - whole] += x[whole:]
    return float(np.cumsum(lanes)[-1])  # cumsum, unlike sum, adds in order


def layer_norm(h: Floats, weight: Floats, bias: Floats) -> Floats:
    """(h - mean) / sqrt(variance + 1e-5) * weight + bias, (H,); sums in float64."""
    wide = h.astype(np.float64)
    centred = wide - lane_sum(wide) / len(h)
    variance = lane_sum(centred * centred) / len(h)
    scale = 1.0 / math.sqrt(variance + NORM_EPSILON)
    out: Floats = (centred * scale).astype(np.float32)
    out *= weight
    out += bias
    return out


class PlainNetwork:
    """A checkpoint's network, its weights arranged for one character at a time.

    With bfloat16, the matrices that each character reads are rounded once. All else is float32.
    """

    def __init__(self, checkpoint: Checkpoint, precision: WeightPrecision = "float32") -> None:
        config, tensors = checkpoint.config, checkpoint.tensors
        V, H, L = config.outputs, config.hidden_size, config.num_layers
        N = padded(config.gates * H)
        self.config = config
        self._width = config.gates * H
        self.widths = config.recurrence.state_widths(H)
        self._cell_step = cell_step(config.recurrence, H)
        self.vocab_size = V
        self.precision = precision
        self.skips = [config.has_skip(k) for k in range(L)]

        def padded_bias(name: str, width: int) -> Floats:
            return np.pad(tensors[name], (0, width - len(tensors[name])))

        def matrix(name: str) -> Floats:
            weight = tensors[name]
            return transposed(bfloat16(weight) if precision == "bfloat16" else weight)

        layers = range(L)
        self.bias_ih = np.stack([padded_bias(f"rnn.bias_ih_l{k}", N) for k in layers])  # (L, N)
        self.bias_hh = np.stack([padded_bias(f"rnn.bias_hh_l{k}", N) for k in layers])  # (L, N)
        self.recurrent = np.empty((L, H, N), np.float32)
        self.inputs = np.empty((L - 1, H, N), np.float32)  # of the layers 1 ..
        self.norms = np.zeros((L, 2, H), np.float32)  # weight and bias
        for k in layers:
            self.recurrent[k] = matrix(f"rnn.weight_hh_l{k}")
            if k > 0:
                self.inputs[k - 1] = matrix(f"rnn.weight_ih_l{k}")
            if config.norm:
                self.norms[k] = tensors[f"norm_l{k}.weight"], tensors[f"norm_l{k}.bias"]
        self.decoder = matrix("decoder.weight")  # (H, padded V)
        self.decoder_bias = padded_bias("decoder.bias", padded(V))
        if checkpoint.vocabulary.unknown >= 0:
            self.decoder_bias[checkpoint.vocabulary.unknown] = NEVER

        # What layer 0 makes of each character, START last: computed when a character first comes.
        self.table = np.zeros((V + 1, N), np.float32)
        self.known = np.zeros(V + 1, np.bool_)
        self._first = tensors["rnn.weight_ih_l0"]  # (G*H, D or V)
        self._first_t = transposed(self._first) if config.embedding_size else None  # (D, N)
        # (V, D), or empty for one-hot input. A copy, since Numba has another type for read-only arrays.
        self.embedding = np.array(tensors.get("embedding.weight", np.zeros((0, 0), np.float32)), order="C")

    @property
    def weights(self) -> int:
        """How many weights each character passes over."""
        return self.recurrent.size + self.inputs.size + self.decoder.size

    def initial_state(self) -> Floats:
        """The state at a document's start: (L, S), in each row its parts side by side, h first."""
        config = self.config
        return np.zeros((config.num_layers, sum(self.widths)), np.float32)

    def side_by_side(self, states: Sequence[Floats]) -> Floats:
        """The states of B texts as the compiled loop takes them, (L, B, S)."""
        return np.stack(states, axis=1)

    def one_of(self, states: Floats, row: int) -> Floats:
        """A copy of the state of one of them."""
        return states[:, row].copy()

    def fill_table(self, character: int) -> None:
        """Fill a character's row, if it is still empty."""
        if self.known[character]:
            return
        row = self.bias_ih[0].copy()
        if character < self.config.vocab_size:
            if self._first_t is None:
                row[: len(self._first)] += self._first[:, character]
            else:
                row = product(self._first_t, self.embedding[character]) + row
        self.table[character] = row
        self.known[character] = True

    def step(self, character: int, state: Floats) -> tuple[Floats, Floats]:
        """Read one character, 0 .. V-1 or V for START: the next one's logits (V,), and the new state."""
        config = self.config
        width, H = self._width, config.hidden_size
        new = np.empty_like(state)
        out: Any = None
        with np.errstate(all="ignore"):  # huge weights overflow, and sampling copes with infinity
            self.fill_table(character)
            for k in range(config.num_layers):
                u = self.table[character] if k == 0 else product(self.inputs[k - 1], out) + self.bias_ih[k]
                w = product(self.recurrent[k], state[k, :H]) + self.bias_hh[k]
                self._cell_step(u[:width], w[:width], state[k], new[k])
                x, out = out, new[k, :H]
                if config.norm:
                    out = layer_norm(out, *self.norms[k])
                if self.skips[k]:
                    out = self._skip(out, x, character, k)
            logits = product(self.decoder, out) + self.decoder_bias
        return logits[: config.outputs], new

    def _skip(self, out: Floats, x: Floats, character: int, k: int) -> Floats:
        """The layer's input is added to its output. START's is the zero vector."""
        out = out.copy()  # it may be the state itself
        if k > 0:
            out += x
        elif character < self.config.vocab_size:
            if self.config.embedding_size:
                out += self.embedding[character]
            else:
                out[character] += _ONE
        return out
