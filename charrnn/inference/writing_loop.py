"""The loop that reads and writes characters of several texts at a time, with the filters of sampling.

Each text is bit for bit what numpy_network writes, however many there are: products.exact_gemm and
charrnn.kernels.exact_layers repeat its order of arithmetic.

Several threads can write the same texts, as a team: each runs the whole loop with a state of its own, and
computes its share of the columns of every matrix product, which goes into memory that they share. At a
barrier they wait until all columns are there. What is not a product is too little to be shared out.

Axes: B texts, T characters, H hidden, V vocabulary, N gates * H padded to panels, L layers,
S numbers of a layer's state, h first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import overload

from charrnn.inference import constrained_step, filters, sampling
from charrnn.inference.filter_code import register
from charrnn.kernels.exact_layers import add, copy
from charrnn.kernels.machine.barrier import break_through, counters, pass_through
from charrnn.kernels.machine.emitted import DOUBLE, NUMBER, emitted
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.machine.native_calls import call
from charrnn.kernels.products.exact_gemm import product
from charrnn.text import rolling_hash

_ONE = np.float32(1)


@emitted(types.float64(types.float64))
def _shifted_into_the_exponent(builder: Any, rounded: Any) -> Any:
    return builder.bitcast(builder.shl(builder.bitcast(rounded, NUMBER), NUMBER(52)), DOUBLE)


@overload(sampling.power_of_two)
def _power_of_two(rounded):  # type: ignore[no-untyped-def]  # Numba compares the signatures
    return lambda rounded: _shifted_into_the_exponent(rounded)


@overload(sampling.exponentials)
def _exponentials(p):  # type: ignore[no-untyped-def]
    def loop(p):  # type: ignore[no-untyped-def]
        for i in range(len(p)):
            x = p[i]
            y = sampling.exp(x if x > sampling.LEAST_EXPONENT else sampling.LEAST_EXPONENT)
            p[i] = 0.0 if x < sampling.LEAST_EXPONENT else y

    return loop


for _function in (
    filters.argmax,
    filters.greatest,
    filters.total,
    sampling.exp,
    sampling.probabilities,
    sampling.choose,
    sampling.sample,
    sampling.log_probabilities,
    sampling.add_to_mixture,
    sampling.lead_away,
    sampling.logarithms,
    constrained_step.mask,
    constrained_step.log_sum,
    rolling_hash.contains,
    constrained_step.hash_begun,
    constrained_step.is_copied,
    constrained_step.keep_new,
    constrained_step.step,
):
    register(_function)


class Network(NamedTuple):
    """Weights in C-contiguous, writable arrays of float32; panels may hold bfloat16, see exact_gemm."""

    # Addresses of machine code, see charrnn.kernels.machine.native_calls.
    product: int  # panel_product
    cell: int  # equations.writing of the cell
    widths: Any  # of the parts of its state
    norm: int  # layer_norm, or 0 for none
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
    """Several networks whose predictions are mixed; see inference.mixture. M networks, V characters."""

    networks: Any  # M of Network
    weights: Any  # (M,) float64, of sum 1
    # (M, V + 1): what each network reads for a character, START last; -1: nothing, it does not know it.
    ids: Any
    strength: float  # 1, or the mixture is led away from the last network, whose weight is 0


class Scratch(NamedTuple):
    """What a step of one member of a team writes and nobody keeps; see `scratch`."""

    worker: int
    workers: int
    barrier: Any  # shared
    u: Any  # (2, B, N) shared, the layers take turns; (1, B, N) for one thread
    w: Any  # likewise
    gates: Any  # (N,) of one text
    logits: Any  # (B, padded V) shared
    out: Any  # (2, B, H) what a layer makes of its h, if anything; the layers take turns
    p: Any  # (V,) float64
    keys: Any  # (V,) float64
    row: Any  # (V,) float64
    heap: Any  # (V,) int64


class MixtureScratch(NamedTuple):
    """The same for a Mixture."""

    worker: int
    parts: Any  # M of Scratch
    characters: Any  # (M, B) what each network reads
    kept: Any  # M of (L, B, S): states of texts whose character a network does not know
    logits: Any  # (B, V) float64: log p
    p: Any  # (V,) float64
    keys: Any  # (V,) float64
    row: Any  # (V,) float64
    heap: Any  # (V,) int64


def scratch(network: Network | Mixture, B: int, workers: int = 1) -> list[Any]:
    """Scratch space for B texts, for each member of a team of so many threads."""
    if isinstance(network, Mixture):
        return _mixture_scratch(network, B, workers)
    N, H, V = network.bias_hh.shape[1], network.norms.shape[2], len(network.known) - 1
    barrier = counters()
    # Who is done with a layer may write the next one's while others still read: they meet before the third.
    u, w = (np.empty((min(workers, 2), B, N), np.float32) for _ in range(2))
    logits = np.empty((B, len(network.decoder_bias)), np.float32)

    def member(worker: int) -> Scratch:
        out = np.empty((2, B, H), np.float32)
        p, keys, row = np.empty((3, V))
        gates = np.empty(N, np.float32)
        return Scratch(
            worker, workers, barrier, u, w, gates, logits, out, p, keys, row, np.empty(V, np.int64)
        )

    return [member(worker) for worker in range(workers)]


def _mixture_scratch(mixture: Mixture, B: int, workers: int) -> list[MixtureScratch]:
    M, V = mixture.ids.shape[0], mixture.ids.shape[1] - 1
    teams = [scratch(network, B, workers) for network in mixture.networks]
    return [
        MixtureScratch(
            worker,
            parts=tuple(team[worker] for team in teams),
            characters=np.zeros((M, B), np.int64),
            kept=tuple(
                np.empty((len(network.norms), B, network.widths.sum()), np.float32)
                for network in mixture.networks
            ),
            logits=np.empty((B, V)),
            p=np.empty(V),
            keys=np.empty(V),
            row=np.empty(V),
            heap=np.empty(V, np.int64),
        )
        for worker in range(workers)
    ]


def break_up(scratch: Scratch | MixtureScratch) -> None:
    """Let nobody of the team wait any longer for the others: `write` returns -1."""
    for part in scratch.parts if isinstance(scratch, MixtureScratch) else (scratch,):
        break_through(part.barrier)


@njit()
def _own_product(network: Any, C: Any, A: Any, B: Any, bias: Any, rows: int, scratch: Any) -> None:
    """This thread's columns of C = A B + bias."""
    n, workers = B.shape[0], scratch.workers
    first, last = n * scratch.worker // workers, n * (scratch.worker + 1) // workers
    product(network.product, C, A, B, bias, rows, first, last)


@njit()
def _meet(scratch: Any) -> bool:
    """Wait for the columns of the others; False: they will not come."""
    return scratch.workers == 1 or pass_through(scratch.barrier, scratch.workers)


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
def _look_up(network: Any, u: Any, characters: Any, rows: int, scratch: Any) -> None:
    """This thread's columns of what layer 0 makes of the characters."""
    gates = min(network.table.shape[1], u.shape[1])
    first, last = gates * scratch.worker // scratch.workers, gates * (scratch.worker + 1) // scratch.workers
    for b in range(rows):
        # From 0 on: where an index might be negative, there is no vector code.
        row, u_b = network.table[characters[b], first:last], u[b, first:last]
        for j in range(len(u_b)):
            u_b[j] = row[j]


@njit()
def _step(network: Any, characters: Any, state: Any, scratch: Any, rows: int) -> bool:
    """Each text reads its character: the state anew, and scratch.logits. False: the team has broken up."""
    y = scratch.out[0]  # what the layer before has put out
    for k in range(network.recurrent.shape[0]):
        turn = k % len(scratch.u)
        u, w, h, x = scratch.u[turn], scratch.w[turn], state[k], y
        if k == 0:
            _look_up(network, u, characters, rows, scratch)
        else:
            _own_product(network, u, x, network.inputs[k - 1], network.bias_ih[k], rows, scratch)
        _own_product(network, w, h, network.recurrent[k], network.bias_hh[k], rows, scratch)
        if not _meet(scratch):
            return False
        table, gates = network.widths.ctypes.data, scratch.gates
        operands = h.ctypes.data, u.ctypes.data, w.ctypes.data, gates.ctypes.data
        call(network.cell, (table, *operands, len(gates), rows))
        y = h
        if network.norm != 0 or network.skips[k]:
            y = scratch.out[k % 2]
            copy(y, h, rows)
        if network.norm != 0:
            weight, bias = network.norms[k, 0], network.norms[k, 1]
            call(network.norm, (y.ctypes.data, weight.ctypes.data, bias.ctypes.data, len(bias), rows))
        if network.skips[k]:
            if k == 0:
                _skip_first(network, y, characters, rows)
            else:
                add(y, x, rows)
    _own_product(network, scratch.logits, y, network.decoder, network.decoder_bias, rows, scratch)
    return _meet(scratch)


@njit()
def _swap(state: Any, a: int, b: int) -> None:
    for k in range(state.shape[0]):
        for j in range(state.shape[2]):
            state[k, a, j], state[k, b, j] = state[k, b, j], state[k, a, j]


@njit()
def _swap_mixture(states: Any, a: int, b: int) -> None:
    for m in range(len(states)):
        state, logits = states[m]
        _swap(state, a, b)
        for i in range(logits.shape[1]):
            logits[a, i], logits[b, i] = logits[b, i], logits[a, i]


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
def _copy_state(out: Any, state: Any, b: int) -> None:
    for k in range(state.shape[0]):
        for j in range(state.shape[2]):
            out[k, b, j] = state[k, b, j]


@njit()
def _step_mixture(mixture: Any, characters: Any, states: Any, scratch: Any, rows: int) -> bool:
    """The same for a mixture; scratch.logits are log p."""
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
        if not _step(network, read, state, part, rows):
            return False
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
        if mixture.strength != 1.0:
            last = len(mixture.networks) - 1
            p, (_, logits) = scratch.parts[last].p, states[last]
            sampling.probabilities(p, logits[b], 1.0)
            for i in range(V):
                scratch.row[i] = 0.0
            sampling.add_to_mixture(scratch.row, p, mixture.ids[last], 1.0)
            sampling.logarithms(scratch.row)
            sampling.lead_away(scratch.logits[b], scratch.row, mixture.strength)
    return True


# Where a kernel takes a network and a mixture, one of them is None. Numba leaves out the branch of an
# argument that is None, and compiles that of any other; so there is no `else`.


@njit()
def log_probabilities(
    network: Any, mixture: Any, characters: Any, state: Any, scratch: Any, out: Any
) -> None:
    """B texts read their characters (B,), of which the table has a row: out (B, V) = log p of the next."""
    rows = len(characters)
    if network is not None:
        _step(network, characters, state, scratch, rows)
    if mixture is not None:
        _step_mixture(mixture, characters, state, scratch, rows)
    for b in range(rows):
        sampling.log_probabilities(out[b], scratch.logits[b, : out.shape[1]], scratch.p)


class Batch(NamedTuple):
    """B texts that are written, of n; row b is text texts[b]."""

    state: Any  # (L, B, S), or those of each network of a mixture: it has read all but `last`
    texts: Any  # (B,)
    last: Any  # (B,) what each reads next
    uniforms: Any  # (n, T) numbers that choose
    limits: Any  # (n,) characters that each text takes
    given: Any  # (T,) what is written instead of chosen, or (0,): so a prompt is read
    end: int  # the character with which texts stop, or -1
    written: Any  # (n, T)
    counts: Any  # (n,) characters so far


@njit()
def _steer(logits: Any, chain: Any, batch: Any, text: int, rules: Any, tracks: Any, scratch: Any) -> int:
    # In float64, as Python's numbers: penalties are not rounded to what a float32 holds.
    for i in range(len(logits)):
        scratch.row[i] = logits[i]
    n = batch.counts[text]
    return constrained_step.step(scratch.row, chain, batch.uniforms[text, n], rules, tracks, text, n, scratch)


@njit()
def write(network: Any, mixture: Any, batch: Any, chain: Any, rules: Any, tracks: Any, scratch: Any) -> Any:
    """Each of B texts reads its `last` and writes on, a character for each of its uniform numbers.

    A text that writes `end`, which is never the first character after START, stops, as does one that is
    ENDED or STUCK, which its `last` then is: its row goes behind those that still run. Where nothing
    steers the texts, rules and tracks are None.

    All of a team call it with arrays of their own and the same numbers, and write the same.

    Returns how many texts still run: 0, or more when a character's row of the table is not known; -1 if the
    team has broken up. A state has read all but the last that was written; scratch.logits are those of the
    last step.
    """
    state, texts, last, limits, counts = batch.state, batch.texts, batch.last, batch.limits, batch.counts
    V, end = len(scratch.p), batch.end
    nothing = sampling.Past(scratch.row[:0], scratch.row[:0], scratch.row[:0])
    rows = len(texts)
    while rows > 0:
        done = counts[texts[rows - 1]]
        stopped = last[rows - 1] < 0 or (done > 0 and last[rows - 1] == end)
        if done < limits[texts[rows - 1]] and not stopped:
            break
        rows -= 1  # it had stopped before
    while rows > 0:
        together = True
        if network is not None:
            for b in range(rows):
                if not network.known[last[b]]:
                    return rows
            together = _step(network, last, state, scratch, rows)
        if mixture is not None:
            if not _knows_mixture(mixture, last, rows):
                return rows
            together = _step_mixture(mixture, last, state, scratch, rows)
        if not together:
            return -1
        for b in range(rows):
            text = texts[b]
            n = counts[text]
            if last[b] == V and end >= 0:
                scratch.logits[b, end] = -np.inf
            logits = scratch.logits[b, :V]
            if len(batch.given) > 0:
                last[b] = batch.given[n]
            elif rules is None:
                last[b] = sampling.sample(logits, chain, batch.uniforms[text, n], scratch, nothing)
            else:
                last[b] = _steer(logits, chain, batch, text, rules, tracks, scratch)
            if last[b] >= 0:
                batch.written[text, n] = last[b]
                counts[text] = n + 1
        for b in range(rows - 1, -1, -1):
            if last[b] < 0 or last[b] == end or counts[texts[b]] == limits[texts[b]]:
                rows -= 1
                if b < rows:
                    if network is not None:
                        _swap(state, b, rows)
                    if mixture is not None:
                        _swap_mixture(state, b, rows)
                    texts[b], texts[rows] = texts[rows], texts[b]
                    last[b], last[rows] = last[rows], last[b]
    return 0
