"""The loop that reads and writes characters of several texts at a time, with the filters of charrnn.sampling.

Each text is bit for bit what charrnn.plain writes, however many there are: charrnn.kernels.ordered and
charrnn.kernels.cells repeat its order of arithmetic.

Axes: B texts, T characters, H hidden, V vocabulary, N gates * H padded to panels, L layers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

from charrnn import sampling
from charrnn.kernels.cells import add, copy, gru, layer_norm, lstm, rnn
from charrnn.kernels.jit import njit
from charrnn.kernels.ordered import in_panels, padded, product

__all__ = [
    "GRU",
    "LSTM",
    "RNN_RELU",
    "RNN_TANH",
    "Filters",
    "Mixture",
    "MixtureScratch",
    "Network",
    "Scratch",
    "in_panels",
    "log_probabilities",
    "padded",
    "scratch",
    "write",
]

LSTM, GRU, RNN_TANH, RNN_RELU = range(4)
_ONE = np.float32(1)

for _function in (
    sampling._precedes,
    sampling._sift_down,
    sampling._fill,
    sampling.argmax,
    sampling.probabilities,
    sampling.keep_top_k,
    sampling.keep_top_p,
    sampling.keep_min_p,
    sampling.choose,
    sampling.sample,
    sampling.log_probabilities,
    sampling.add_to_mixture,
    sampling.logarithms,
):
    register_jitable(_function)  # compiled code that calls it compiles it from its one source


class Network(NamedTuple):
    """Weights; arrays are C-contiguous and writable, float32; the panels may hold bfloat16, see ordered."""

    cell: int  # LSTM, GRU, RNN_TANH or RNN_RELU
    norm: bool
    skips: Any  # (L,) bool: the layer's input is added to its output
    table: Any  # (V + 1, at least gates * H) what layer 0 makes of each character, START last
    known: Any  # (V + 1,) bool: which rows of the table are filled
    embedding: Any  # (V, D), or (0, 0) for one-hot input
    inputs: Any  # (L - 1, panels of N, H, 32)
    bias_ih: Any  # (L, N)
    recurrent: Any  # (L, panels of N, H, 32)
    bias_hh: Any  # (L, N)
    norms: Any  # (L, 2, H)
    decoder: Any  # (panels of V, H, 32)
    decoder_bias: Any  # (padded V,)


class Mixture(NamedTuple):
    """Several networks whose predictions are mixed; see charrnn.mixture. M networks, V characters."""

    networks: Any  # M of Network
    weights: Any  # (M,) float64, of sum 1
    # (M, V + 1): what each network reads for a character, START last; -1: nothing, it does not know it.
    ids: Any


class Filters(NamedTuple):
    """How a character is chosen from its logits; see `sampling.sample`."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float


class Scratch(NamedTuple):
    """What a step writes and nobody keeps; see `scratch`."""

    u: Any  # (B, N)
    w: Any  # (B, N)
    x: Any  # (B, H) a layer's input
    out: Any  # (B, H) a layer's output
    logits: Any  # (B, padded V)
    p: Any  # (V,) float64
    heap: Any  # (V,) int64


class MixtureScratch(NamedTuple):
    """The same for a Mixture."""

    parts: Any  # M of Scratch
    characters: Any  # (M, B) what each network reads
    kept: Any  # M of (L, 1 or 2, B, H): states of texts whose character a network does not know
    logits: Any  # (B, V) float64: log p
    p: Any  # (V,) float64
    heap: Any  # (V,) int64


def scratch(network: Network | Mixture, B: int) -> Any:
    """Scratch space for B texts."""
    if isinstance(network, Mixture):
        M, V = network.ids.shape[0], network.ids.shape[1] - 1
        return MixtureScratch(
            parts=tuple(scratch(part, B) for part in network.networks),
            characters=np.zeros((M, B), np.int64),
            kept=tuple(_state_space(part, B) for part in network.networks),
            logits=np.empty((B, V)),
            p=np.empty(V),
            heap=np.empty(V, np.int64),
        )
    N, H, V = network.bias_hh.shape[1], network.norms.shape[2], len(network.known) - 1
    u, w, x, out, logits = (np.empty((B, n), np.float32) for n in (N, N, H, H, len(network.decoder_bias)))
    return Scratch(u, w, x, out, logits, np.empty(V), np.empty(V, np.int64))


def _state_space(network: Network, B: int) -> Any:
    L, _, H = network.norms.shape
    return np.empty((L, 2 if network.cell == LSTM else 1, B, H), np.float32)


@njit()
def _skip_first(network: Any, out: Any, characters: Any, rows: int) -> None:
    """Layer 0's input is added to its output. START's is the zero vector."""
    V = len(network.known) - 1
    for b in range(rows):
        character = characters[b]
        if character < V:
            if len(network.embedding) > 0:
                row = network.embedding[character]
                for j in range(out.shape[1]):
                    out[b, j] += row[j]
            else:
                out[b, character] += _ONE


@njit()
def _step(network: Any, characters: Any, state: Any, scratch: Any, rows: int) -> None:
    """Each text reads its character: the state anew, and in scratch.out what the decoder sees."""
    u, w, x, out = scratch.u, scratch.w, scratch.x, scratch.out
    gates = min(network.table.shape[1], u.shape[1])
    for k in range(network.recurrent.shape[0]):
        if k == 0:
            for b in range(rows):
                row, u_b = network.table[characters[b]], u[b]
                for j in range(gates):
                    u_b[j] = row[j]
        else:
            product(u, out, network.inputs[k - 1], network.bias_ih[k], rows)
            copy(x, out, rows)
        h = state[k, 0]
        product(w, h, network.recurrent[k], network.bias_hh[k], rows)
        if network.cell == LSTM:
            lstm(h, state[k, state.shape[1] - 1], u, w, rows)
        elif network.cell == GRU:
            gru(h, u, w, rows)
        else:
            rnn(h, u, w, network.cell == RNN_RELU, rows)
        copy(out, h, rows)
        if network.norm:
            layer_norm(out, network.norms[k, 0], network.norms[k, 1], rows)
        if network.skips[k]:
            if k == 0:
                _skip_first(network, out, characters, rows)
            else:
                add(out, x, rows)


@njit()
def _swap(state: Any, a: int, b: int) -> None:
    for k in range(state.shape[0]):
        for part in range(state.shape[1]):
            for j in range(state.shape[3]):
                state[k, part, a, j], state[k, part, b, j] = state[k, part, b, j], state[k, part, a, j]


@njit()
def _swap_mixture(states: Any, a: int, b: int) -> None:
    for m in range(len(states)):
        state, logits = states[m]
        _swap(state, a, b)
        for i in range(logits.shape[1]):
            logits[a, i], logits[b, i] = logits[b, i], logits[a, i]


@njit()
def _knows_network(network: Any, characters: Any, rows: int) -> bool:
    for b in range(rows):  # noqa: SIM110 - Numba compiles no generator within all()
        if not network.known[characters[b]]:
            return False
    return True


@njit()
def _knows_mixture(mixture: Any, characters: Any, rows: int) -> bool:
    for m in range(len(mixture.networks)):
        known = mixture.networks[m].known
        for b in range(rows):
            character = mixture.ids[m, characters[b]]
            if character >= 0 and not known[character]:
                return False
    return True


@njit()
def _predict_network(network: Any, characters: Any, state: Any, scratch: Any, rows: int) -> None:
    _step(network, characters, state, scratch, rows)
    product(scratch.logits, scratch.out, network.decoder, network.decoder_bias, rows)


@njit()
def _copy_state(out: Any, state: Any, b: int) -> None:
    for k in range(state.shape[0]):
        for part in range(state.shape[1]):
            for j in range(state.shape[3]):
                out[k, part, b, j] = state[k, part, b, j]


@njit()
def _predict_mixture(mixture: Any, characters: Any, states: Any, scratch: Any, rows: int) -> None:
    V = len(scratch.p)
    for b in range(rows):
        for i in range(V):
            scratch.logits[b, i] = 0.0
    for m in range(len(mixture.networks)):
        network, part = mixture.networks[m], scratch.parts[m]
        state, logits = states[m]
        kept = scratch.kept[m]
        read = scratch.characters[m]
        for b in range(rows):
            read[b] = mixture.ids[m, characters[b]]
            if read[b] < 0:
                _copy_state(kept, state, b)
                read[b] = 0  # whatever comes of it is dropped below
        _predict_network(network, read, state, part, rows)
        for b in range(rows):
            if mixture.ids[m, characters[b]] < 0:
                _copy_state(state, kept, b)
            else:
                for i in range(logits.shape[1]):
                    logits[b, i] = part.logits[b, i]
            sampling.probabilities(part.p, logits[b], 1.0)
            sampling.add_to_mixture(scratch.logits[b], part.p, mixture.ids[m], mixture.weights[m])
    for b in range(rows):
        sampling.logarithms(scratch.logits[b])


def knows(network: Any, characters: Any, rows: int) -> bool:
    """Whether the table has a row for each of the texts' characters (rows,)."""
    known = _knows_mixture if isinstance(network, Mixture) else _knows_network
    return bool(known(network, characters, rows))


def predict(network: Any, characters: Any, state: Any, scratch: Any, rows: int) -> None:
    """Each text reads its character: the state anew, and in scratch.logits what may come next."""
    run = _predict_mixture if isinstance(network, Mixture) else _predict_network
    run(network, characters, state, scratch, rows)


def swap(state: Any, a: int, b: int) -> None:
    """Exchange the states of two texts."""
    (_swap_mixture if isinstance(state, tuple) else _swap)(state, a, b)


# Compiled, one of the two is chosen by the type of what is given. (Strict: annotations would have to agree.)


@overload(knows, strict=False)
def _knows_of(network: Any, characters: Any, rows: Any) -> Any:
    if network.instance_class is Mixture:
        return lambda network, characters, rows: _knows_mixture(network, characters, rows)
    return lambda network, characters, rows: _knows_network(network, characters, rows)


@overload(predict, strict=False)
def _predict_of(network: Any, characters: Any, state: Any, scratch: Any, rows: Any) -> Any:
    if network.instance_class is Mixture:
        return lambda network, characters, state, scratch, rows: _predict_mixture(
            network, characters, state, scratch, rows
        )
    return lambda network, characters, state, scratch, rows: _predict_network(
        network, characters, state, scratch, rows
    )


@overload(swap, strict=False)
def _swap_of(state: Any, a: Any, b: Any) -> Any:
    if isinstance(state, types.BaseTuple):
        return lambda state, a, b: _swap_mixture(state, a, b)
    return lambda state, a, b: _swap(state, a, b)


@njit()
def log_probabilities(network: Any, characters: Any, state: Any, scratch: Any, out: Any) -> None:
    """B texts read their characters (B,), of which the table has a row: out (B, V) = log p of the next."""
    rows = len(characters)
    predict(network, characters, state, scratch, rows)
    for b in range(rows):
        sampling.log_probabilities(out[b], scratch.logits[b, : out.shape[1]])


@njit()
def write(
    network: Any, state: Any, texts: Any, last: Any, uniforms: Any, limits: Any, given: Any, filters: Any,
    end: int, written: Any, counts: Any, scratch: Any,
) -> Any:  # fmt: skip
    """Each of B texts reads its `last` and writes on, a character for each of its uniform numbers.

    Row b of state (L, 1 or 2, B, H), texts (B,) and last (B,) belongs to text n = texts[b], which takes
    uniforms[n, counts[n]], .. up to limits[n], writes to the same places of `written`, and counts on. Where
    characters are `given` (T,), or none, they are written instead of chosen ones: so a prompt is read. A
    text that writes `end` stops: its row goes behind those that still run.

    Returns how many texts still run: 0, or more when a character's row of the table is not known. A state
    has read all but the last that was written; scratch.logits are those of the last step.
    """
    V = len(scratch.p)
    rows = len(texts)
    while rows > 0:
        done = counts[texts[rows - 1]]
        if done < limits[texts[rows - 1]] and not (done > 0 and last[rows - 1] == end):
            break
        rows -= 1  # it had stopped before
    while rows > 0:
        if not knows(network, last, rows):
            return rows
        predict(network, last, state, scratch, rows)
        for b in range(rows):
            text = texts[b]
            n = counts[text]
            if len(given) > 0:
                last[b] = given[n]
            else:
                last[b] = sampling.sample(
                    scratch.logits[b, :V],
                    filters.temperature,
                    filters.top_k,
                    filters.top_p,
                    filters.min_p,
                    uniforms[text, n],
                    scratch.p,
                    scratch.heap,
                )
            written[text, n] = last[b]
            counts[text] = n + 1
        for b in range(rows - 1, -1, -1):
            if last[b] == end or counts[texts[b]] == limits[texts[b]]:
                rows -= 1
                if b < rows:
                    swap(state, b, rows)
                    texts[b], texts[rows] = texts[rows], texts[b]
                    last[b], last[rows] = last[rows], last[b]
    return 0
