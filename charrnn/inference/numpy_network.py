"""A network that reads one character after another, in NumPy alone: it writes before Numba is even imported.

inference.writing_loop takes over in long texts, and must write exactly the same. So all arithmetic here has
one order, which the compiled loop repeats bit for bit: every product of a sum is rounded before it is added
(no fused multiply-add), and sums run from the first term to the last.

Axes: H hidden, V vocabulary, O outputs of the network, G gates, K inputs and N outputs of a matrix, L layers,
S numbers of a layer's state.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import WeightPrecision
from charrnn.counts.mixing import Mixing
from charrnn.kernels.coefficients import (
    EXP_LEAST,
    EXP_SERIES,
    LN2,
    LOG2E,
    LOG_LEAST,
    LOG_SERIES,
    NORM_EPSILON,
    NORM_LANES,
    TANH_P,
    TANH_Q,
)
from charrnn.nn.cell import Cell
from charrnn.nn.modules import program
from charrnn.recall.attending import Attending
from charrnn.recall.recalling import Layout, Recalling
from charrnn.recall.remembering import Remembering

Floats = npt.NDArray[np.float32]
NEVER = np.float32(-1e30)  # the logit of what is never written: its probability is 0 at every temperature

# From the highest power down, each row one coefficient of P and one of Q: (5, 2, 1).
_TANH = np.array([TANH_P, TANH_Q], np.float32).T[::-1, :, None].copy()
_LEAST, _LOG2E, _LN2_HIGH, _LN2_LOW = map(np.float32, (EXP_LEAST, LOG2E, *LN2))
_E6, *_SERIES = map(np.float32, EXP_SERIES)
number = np.float32  # see kernels.activations
_NINE, _ONE, _HALF, _ZERO = map(np.float32, (9, 1, 0.5, 0))


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
    return np.where(x > 0, x, _ZERO)


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


def log(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """log(x) of normal positive numbers, to 5e-13."""
    bits = x.view(np.int64)
    exponent = (bits - LOG_LEAST) >> 52
    m = (bits - (exponent << 52)).view(np.float64)
    f = (m - 1.0) / (m + 1.0)
    square = f * f
    series = LOG_SERIES[0] * square
    for coefficient in LOG_SERIES[1:-1]:
        series += coefficient
        series *= square
    series += LOG_SERIES[-1]
    logarithms: npt.NDArray[np.float64] = exponent.astype(np.float64) * (1 / LOG2E) + (f + f) * series
    return logarithms


def row_sums(x: Floats) -> Floats:
    """The sum of each row of (n, m), from the first term to the last: (n,)."""
    sums: Floats = np.add.accumulate(x, axis=1)[:, -1]  # unlike reduce, it adds in order
    return sums


# sigmoid(x) = tanh(x/2)/2 + 1/2: one call of tanh for gates of both kinds. To -0, anything adds up to itself.
_SCALE, _SHIFT = {"sigmoid": 0.5, "tanh": 1.0}, {"sigmoid": 0.5, "tanh": -0.0}


@functools.cache
def cell_step(cell: Cell, H: int) -> Callable[[Floats, Floats, Floats, Floats], Floats]:
    """A function that does a step of a cell of H units.

    From u = W_ih x + b_ih and w = W_hh h + b_hh, both (G*H,), and the state (S,), to the new one. Returns h.
    Its source is generated: to look each name up would take a fifth of a step.
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
    exec("\n    ".join(["def step(u, w, state, new):", *lines, f"return new[:{H}]"]), names)
    step: Callable[[Floats, Floats, Floats, Floats], Floats] = names["step"]
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


class Connections:
    """The sums of a `Connect`, in its order, and behind them zeros."""

    def __init__(self, weights: Floats, places: npt.NDArray[np.int64], width: int) -> None:
        self._weights, self._places, self._width = weights, places, width

    def __call__(self, x: Floats) -> Floats:
        y, S = np.zeros(self._width, np.float32), self._weights.shape[1]
        y[:S] = np.add.reduce(self._weights * x[self._places], axis=0, initial=np.float32(-0.0))
        return y


class PlainNetwork:
    """A checkpoint's network, its weights arranged for one character at a time.

    With bfloat16, the matrices that each character reads are rounded once. All else is float32.
    """

    def __init__(self, checkpoint: Checkpoint, precision: WeightPrecision = "float32") -> None:
        config, self._tensors = checkpoint.config, checkpoint.tensors
        self.program = config.network().program(config.vocab_size)
        self._V, self.vocab_size, self.precision = config.vocab_size, config.outputs, precision
        self.matrices: dict[str, Floats] = {}  # of products, (K, padded N)
        self.vectors: dict[str, Floats] = {}  # biases of products, (padded N,), and those of norms, (N,)
        # By the number of a LookUp: its rows, (O + 1, padded N), computed when a character first comes.
        self.tables: dict[int, Floats] = {}
        self.rows: dict[int, Floats] = {}  # the same of a `Rows`
        self.known = np.zeros(self.vocab_size + 1, np.bool_)
        self._held = checkpoint.held
        self._transposed: dict[str, Floats] = {}  # matrices that are multiplied with rows of an embedding
        self.counts, self.never = checkpoint.counts, checkpoint.vocabulary.unknown
        logits: Any = self.program.operations[-1]
        last = len(self.program.operations) - 1
        if self.counts is not None:
            last = self.program.mix(last, self.counts.counts.order - 1)
        self.cache: Layout | None = None
        if checkpoint.cache is not None:
            width = max(map(sum, self.program.states))
            self.cache = Layout(checkpoint.cache, config.last_width, width)
            self.program.recall(last, logits.x, self.cache.layers)
        self._step = self._written_out()
        self._mixes = self.counts is not None or self.cache is not None
        if self.never >= 0 and not self._mixes:
            self.vectors[logits.bias][self.never] = NEVER

    @property
    def weights(self) -> int:
        """How many weights, and numbers of states, each character passes over."""
        remembered = 0 if self.cache is None else self.cache.size
        return sum(matrix.size for matrix in self.matrices.values()) + remembered

    def _written_out(self) -> Callable[[int, Floats, Floats], Floats]:
        """The function that carries out the program, generated as source like that of `cell_step`."""
        names: dict[str, Any] = {"product": product, "layer_norm": layer_norm, "join": np.concatenate}
        lines = [f"v{n} = {self._source(n, op, names)}" for n, op in enumerate(self.program.operations)]
        body = ["def step(character, state, new):", *lines, f"return v{len(lines) - 1}"]
        exec("\n    ".join(body), names)
        step: Callable[[int, Floats, Floats], Floats] = names["step"]
        return step

    def _source(self, n: int, operation: program.Operation, names: dict[str, Any]) -> str:
        """The source of value n, which refers to what is added to `names`."""

        def named(kind: str, value: Any) -> str:
            names[f"{kind}_{n}"] = value
            return f"{kind}_{n}"

        width = operation.width
        whole = "" if padded(width) == width else f"[:{width}]"
        match operation:
            case program.LookUp():
                self.tables[n] = np.zeros((len(self.known), padded(width)), np.float32)
                return f"{named('table', self.tables[n])}[character]{whole}"
            case program.Rows(_, rows):
                return f"{named('rows', self.all_rows(n, rows))}[character]{whole}"
            case program.Connect(_, x, weights, places):
                return f"{named('connect', Connections(weights, places, width))}(v{x})"
            case program.Product(_, x, weight, bias):
                matrix, shift = self._matrix(weight), self._vector(bias, padded(width))
                return f"(product({named('matrix', matrix)}, v{x}) + {named('shift', shift)}){whole}"
            case program.Hidden(_, layer):
                return f"state[{layer}, :{width}]"
            case program.Advance(_, layer, cell, u, w):
                step = named("advance", cell_step(cell, width))
                return f"{step}(v{u}, v{w}, state[{layer}], new[{layer}])"
            case program.Norm(_, x, weight, bias):
                scale, shift = self._vector(weight, width), self._vector(bias, width)
                return f"layer_norm(v{x}, {named('scale', scale)}, {named('shift', shift)})"
            case program.Sum(_, x, y):
                return f"v{x} + v{y}"
            case program.Join(_, x, y):
                return f"join((v{x}, v{y}))"
            case program.Elementwise(_, equation, inputs):
                function = named("equation", equation(sys.modules[__name__]))
                return f"{function}({', '.join(f'v{x}' for x in inputs)})"
            case program.Mix(_, x, layer):
                assert self.counts is not None
                mixing = named("mixing", Mixing(self.counts, sys.modules[__name__]))
                return f"{mixing}(v{x}, character, state[{layer}], new[{layer}])"
            case program.Attend(_, hidden, query, key, lag, layer, _):
                lags = self._vector(lag, *self._tensors[lag].shape)
                attending = named("attending", Attending(operation, lags, sys.modules[__name__]))
                part = f"[{layer}:{layer + operation.layers(len(lags))}]"
                return f"{attending}(v{hidden}, v{query}, v{key}, state{part}, new{part})"
            case program.Remember(_, told, layer, N):
                remembering = named("remembering", Remembering(width, N, sys.modules[__name__]))
                return f"{remembering}(v{told}, state[{layer}], new[{layer}])"
            case program.Recall(_, x, hidden, layer):
                assert self.cache is not None
                recalling = named("recalling", Recalling(self.cache, width, sys.modules[__name__]))
                return f"{recalling}(v{x}, v{hidden}, character, state[{layer}:], new[{layer}:])"

    def all_rows(self, n: int, rows: Floats) -> Floats:
        """The rows of a `Rows`, value n, for all characters: (O + 1, padded N)."""
        if n not in self.rows:
            self.rows[n] = np.zeros((len(self.known), padded(rows.shape[1])), np.float32)
            self.rows[n][: self._V, : rows.shape[1]] = rows[: self._V]
            self.rows[n][self._V :, : rows.shape[1]] = rows[self._V]
        return self.rows[n]

    def _matrix(self, name: str) -> Floats:
        if name not in self.matrices:
            weight = self._tensors[name]
            self.matrices[name] = transposed(bfloat16(weight) if self.precision == "bfloat16" else weight)
        return self.matrices[name]

    def _vector(self, name: str, width: int) -> Floats:
        if name not in self.vectors:
            self.vectors[name] = np.pad(self._tensors[name], (0, width - len(self._tensors[name])))
        return self.vectors[name]

    def initial_state(self) -> Floats:
        """The state at a document's start: (L, S), in each row its parts side by side, h first."""
        states = self.program.states
        initial = np.zeros((len(states), max(map(sum, states))), np.float32)
        for layer, place, value in self._held:
            initial[layer, place] = value
        return initial

    def put(self, states: Sequence[Floats], scratch: Any) -> None:
        """Copy the states of B texts into the memory of the compiled loop."""
        np.stack(states, axis=1, out=scratch.state)

    def take(self, scratch: Any, row: int) -> Floats:
        """A copy of the state of one of them."""
        state: Floats = scratch.state[:, row].copy()
        return state

    def fill_table(self, character: int) -> None:
        """Fill a character's rows, if they are still empty; several threads may do so at a time."""
        if self.known[character]:
            return
        with np.errstate(all="ignore"):  # as in a step, also where the compiled loop asks
            for n, table in self.tables.items():
                table[character] = self._looked_up(character, self.program.operations[n])
        self.known[character] = True

    def _looked_up(self, character: int, look_up: Any) -> Floats:
        """A row of a table: W x + b, or x where there is no W. START and ends are the zero vector."""
        (width, (_, embedding), weight, bias), tensors = look_up, self._tensors
        row = np.full(padded(width), -_ZERO)  # to -0, anything is added as it is
        if bias is not None:
            row[:width] = tensors[bias]
        if character >= self._V:
            return row
        if weight is None and embedding is None:
            row[character] = _ONE
        elif weight is None:
            row[:width] = tensors[embedding][character]
        elif embedding is None:
            row[:width] += tensors[weight][:, character]
        else:
            if weight not in self._transposed:
                self._transposed[weight] = transposed(tensors[weight])
            row = product(self._transposed[weight], tensors[embedding][character]) + row
        return row

    def step(self, character: int, state: Floats) -> tuple[Floats, Floats]:
        """Read one character, 0 .. O-1 or O for START: the logits of the next, and the new state."""
        new = np.zeros_like(state)
        with np.errstate(all="ignore"):  # huge weights overflow, and sampling copes with infinity
            self.fill_table(character)
            logits = self._step(character, state, new)
            if self.never >= 0 and self._mixes:
                logits[self.never] = NEVER
            return logits, new
