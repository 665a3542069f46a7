"""The loop that reads and writes characters of several texts at a time, with the filters of charrnn.sampling.

Each text is bit for bit what charrnn.plain writes, however many there are: charrnn.kernels.ordered and
charrnn.kernels.cells repeat its order of arithmetic.

Axes: B texts, T characters, H hidden, V vocabulary, N gates * H padded to panels, L layers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from charrnn import sampling, steering
from charrnn.kernels.cells import add, copy, gru, layer_norm, lstm, rnn
from charrnn.kernels.jit import njit
from charrnn.kernels.ordered import in_panels, padded, product
from charrnn.steering import Filters, Rules, Tracks

__all__ = [
    "GRU",
    "LSTM",
    "RNN_RELU",
    "RNN_TANH",
    "Filters",
    "Network",
    "Rules",
    "Scratch",
    "Tracks",
    "in_panels",
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
    sampling.keep_typical,
    sampling.keep_surprise,
    sampling.choose,
    sampling.sample,
    steering.mask,
    steering.log_sum,
    steering.penalize_repeats,
    steering.contains,
    steering.hash_begun,
    steering.is_copied,
    steering.keep_new,
    steering.step,
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


class Scratch(NamedTuple):
    """What a step writes and nobody keeps; see `scratch`."""

    u: Any  # (B, N)
    w: Any  # (B, N)
    x: Any  # (B, H) a layer's input
    out: Any  # (B, H) a layer's output
    logits: Any  # (B, padded V)
    p: Any  # (V,) float64
    keys: Any  # (V,) float64
    row: Any  # (V,) float64
    heap: Any  # (V,) int64


def scratch(network: Network, B: int) -> Scratch:
    """Scratch space for B texts."""
    N, H, V = network.bias_hh.shape[1], network.norms.shape[2], len(network.known) - 1
    u, w, x, out, logits = (np.empty((B, n), np.float32) for n in (N, N, H, H, len(network.decoder_bias)))
    return Scratch(u, w, x, out, logits, np.empty(V), np.empty(V), np.empty(V), np.empty(V, np.int64))


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
def write(
    network: Any, state: Any, texts: Any, last: Any, uniforms: Any, limits: Any, given: Any, filters: Any,
    rules: Any, tracks: Any, end: int, written: Any, counts: Any, scratch: Any,
) -> Any:  # fmt: skip
    """Each of B texts reads its `last` and writes on, a character for each of its uniform numbers.

    Row b of state (L, 1 or 2, B, H), texts (B,) and last (B,) belongs to text n = texts[b], which takes
    uniforms[n, counts[n]], .. up to limits[n], writes to the same places of `written`, and counts on. Where
    characters are `given` (T,), or none, they are written instead of chosen ones: so a prompt is read. A
    text that writes `end` stops, as does one that is steering.ENDED or STUCK, which its `last` then is: its
    row goes behind those that still run.

    Returns how many texts still run: 0, or more when a character's row of the table is not known. A state
    has read all but the last that was written; scratch.logits are those of the last step.
    """
    V = len(network.known) - 1
    rows = len(texts)
    while rows > 0:
        done = counts[texts[rows - 1]]
        stopped = last[rows - 1] < 0 or (done > 0 and last[rows - 1] == end)
        if done < limits[texts[rows - 1]] and not stopped:
            break
        rows -= 1  # it had stopped before
    while rows > 0:
        for b in range(rows):
            if not network.known[last[b]]:
                return rows
        _step(network, last, state, scratch, rows)
        product(scratch.logits, scratch.out, network.decoder, network.decoder_bias, rows)
        for b in range(rows):
            text = texts[b]
            n = counts[text]
            if len(given) > 0:
                last[b] = given[n]
            else:
                # In float64, as Python's numbers: penalties are not rounded to what a float32 holds.
                for i in range(V):
                    scratch.row[i] = scratch.logits[b, i]
                last[b] = steering.step(
                    scratch.row,
                    filters,
                    uniforms[text, n],
                    scratch.p,
                    scratch.heap,
                    scratch.keys,
                    rules,
                    tracks,
                    text,
                    n,
                )
            if last[b] >= 0:
                written[text, n] = last[b]
                counts[text] = n + 1
        for b in range(rows - 1, -1, -1):
            if last[b] < 0 or last[b] == end or counts[texts[b]] == limits[texts[b]]:
                rows -= 1
                if b < rows:
                    _swap(state, b, rows)
                    texts[b], texts[rows] = texts[rows], texts[b]
                    last[b], last[rows] = last[rows], last[b]
    return 0
