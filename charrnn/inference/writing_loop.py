"""The loop that reads and writes characters of several texts at a time, with the filters of sampling.

Each text is bit for bit what numpy_network writes, however many there are: products.exact_gemm and
charrnn.kernels.exact_layers repeat its order of arithmetic.

Several threads can write the same texts, as a team: each runs the whole loop with a state of its own, and
computes its share of the columns of every matrix product, in memory that they share. They meet at a barrier
before a product is read. All else is too little work to be shared out.

Axes: B texts, T characters, V vocabulary, L layers, S numbers of a layer's state, h first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import overload

from charrnn.inference import constrained_step, filters, sampling
from charrnn.inference.filter_code import register
from charrnn.kernels.exact_layers import add, look_up
from charrnn.kernels.machine.aligned import aligned
from charrnn.kernels.machine.barrier import break_through, counters, pass_through
from charrnn.kernels.machine.emitted import DOUBLE, NUMBER, emitted
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.machine.native_calls import WORD, call
from charrnn.kernels.products.exact_gemm import Operands
from charrnn.text import rolling_hash


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


# The kinds of instructions; see `_step` for the words that follow.
PRODUCT, MEET, LOOK_UP, ADD, CALL, MIX = range(6)
CONSTANT, OWN, SHARED = range(3)  # what a word is relative to


class Network(NamedTuple):
    """A network's step as a table, so that one loop is compiled for all networks; see inference.assembler."""

    product: int  # the address of panel_product's machine code
    known: Any  # (V + 1,) bool: the characters whose rows of the tables are filled, START last
    # (3, instructions, words). A word is the sum of a constant, such as the address of a matrix, and a place
    # in one of the memories: how many floats of each text lie before it, and in which memory.
    instructions: Any
    layers: int  # L
    state: int  # S
    own: int  # floats that a thread keeps for each text, the state first
    shared: int  # floats that a team keeps for each text
    logits: int  # how many of the last of these memories lie before the logits, which are its last
    memory: int  # that of the logits: OWN, where each thread mixes them with counts, or SHARED
    outputs: int  # how many logits there are, without padding


class Mixture(NamedTuple):
    """Several networks whose predictions are mixed; see inference.mixture. M networks, V characters."""

    networks: Any  # M of Network
    weights: Any  # (M,) float64, of sum 1
    # (M, V + 1): what each network reads for a character, START last; -1: nothing, it does not know it.
    ids: Any
    strength: float  # 1, or the mixture is led away from the last network, whose weight is 0


class Scratch(NamedTuple):
    """The memory of one member of a team, for B texts; see `scratch`."""

    worker: int
    workers: int
    barrier: Any  # shared
    code: Any  # (instructions, words), with addresses in memory of which these are parts:
    state: Any  # (L, B, S)
    shared: Any  # the memory that the team shares; instructions have addresses in it
    logits: Any  # (B, padded V) in one of these memories
    p: Any  # (V,) float64
    keys: Any  # (V,) float64
    row: Any  # (V,) float64
    heap: Any  # (V,) int64


class MixtureScratch(NamedTuple):
    """The same for a Mixture."""

    worker: int
    parts: Any  # M of Scratch
    characters: Any  # (M, B) what each network reads
    left: Any  # M of (B, V of the network): the logits that each network left
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
    L, S = network.layers, network.state
    constants, before, memories = network.instructions
    barrier, shared = counters(), aligned((network.shared * B,), np.float32)

    def member(worker: int) -> Scratch:
        own = aligned((network.own * B,), np.float32)
        origins = np.array([0, own.ctypes.data, shared.ctypes.data])
        code = constants + origins[memories] + before * (own.itemsize * B)
        logits = (own if network.memory == OWN else shared)[network.logits * B :].reshape(B, -1)
        p, keys, row = np.empty((3, network.outputs))
        state, heap = own[: L * B * S].reshape(L, B, S), np.empty(network.outputs, np.int64)
        return Scratch(worker, workers, barrier, code, state, shared, logits, p, keys, row, heap)

    return [member(worker) for worker in range(workers)]


def _mixture_scratch(mixture: Mixture, B: int, workers: int) -> list[MixtureScratch]:
    M, V = mixture.ids.shape[0], mixture.ids.shape[1] - 1
    teams = [scratch(network, B, workers) for network in mixture.networks]
    return [
        MixtureScratch(
            worker,
            parts=tuple(team[worker] for team in teams),
            characters=np.zeros((M, B), np.int64),
            left=tuple(np.empty((B, network.outputs), np.float32) for network in mixture.networks),
            kept=tuple(np.empty_like(team[worker].state) for team in teams),
            logits=np.empty((B, V)),
            p=np.empty(V),
            keys=np.empty(V),
            row=np.empty(V),
            heap=np.empty(V, np.int64),
        )
        for worker in range(workers)
    ]


def break_up(scratch: Scratch | MixtureScratch) -> None:
    """Let no thread of the team wait any longer for the others: `write` returns -1."""
    for part in scratch.parts if isinstance(scratch, MixtureScratch) else (scratch,):
        break_through(part.barrier)


@njit()
def _meet(scratch: Any) -> bool:
    """Wait for the columns of the others; False: they will not come."""
    return scratch.workers == 1 or pass_through(scratch.barrier, scratch.workers)


@njit()
def _step(network: Any, characters: Any, scratch: Any, rows: int) -> bool:
    """Each text reads its character: scratch.state and scratch.logits anew. False: the team has broken up."""
    worker, workers = scratch.worker, scratch.workers
    for n in range(len(scratch.code)):
        words = scratch.code[n]
        kind, table = words[0], words[1:].ctypes.data
        if kind == PRODUCT:  # this thread's columns
            panels = words[1]
            first, last = panels * worker // workers, panels * (worker + 1) // workers
            operands = Operands(
                words[2], words[3], words[4], words[5], words[6], words[7], words[8], words[9], words[10]
            )
            call(network.product, (operands, rows, first, last))
        elif kind == MEET:
            if not _meet(scratch):
                return False
        elif kind == LOOK_UP:
            look_up(table, characters, rows)
        elif kind == ADD:
            add(table, rows)
        elif kind == MIX:
            call(words[1], (table + WORD, characters.ctypes.data, rows))
        else:
            call(words[1], (table + WORD, rows))
    return True


@njit()
def _swap(state: Any, a: int, b: int) -> None:
    for k in range(state.shape[0]):
        for j in range(state.shape[2]):
            state[k, a, j], state[k, b, j] = state[k, b, j], state[k, a, j]


@njit()
def _swap_mixture(scratch: Any, a: int, b: int) -> None:
    for m in range(len(scratch.parts)):
        left = scratch.left[m]
        _swap(scratch.parts[m].state, a, b)
        for i in range(left.shape[1]):
            left[a, i], left[b, i] = left[b, i], left[a, i]


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
def _step_mixture(mixture: Any, characters: Any, scratch: Any, rows: int) -> bool:
    """The same for a mixture; scratch.logits are log p."""
    V = len(scratch.p)
    for b in range(rows):
        for i in range(V):
            scratch.logits[b, i] = 0.0
    for m in range(len(mixture.networks)):
        network, part = mixture.networks[m], scratch.parts[m]
        state, left, kept, read = part.state, scratch.left[m], scratch.kept[m], scratch.characters[m]
        for b in range(rows):
            read[b] = mixture.ids[m, characters[b]]
            if read[b] < 0:
                _copy_state(kept, state, b)
                read[b] = 0  # whatever comes of it is dropped below
        if not _step(network, read, part, rows):
            return False
        for b in range(rows):
            if mixture.ids[m, characters[b]] < 0:
                _copy_state(state, kept, b)
            else:
                for i in range(left.shape[1]):
                    left[b, i] = part.logits[b, i]
            sampling.probabilities(part.p, left[b], 1.0)
            sampling.add_to_mixture(scratch.logits[b], part.p, mixture.ids[m], mixture.weights[m])
    for b in range(rows):
        sampling.logarithms(scratch.logits[b])
        if mixture.strength != 1.0:
            last = len(mixture.networks) - 1
            p = scratch.parts[last].p
            sampling.probabilities(p, scratch.left[last][b], 1.0)
            for i in range(V):
                scratch.row[i] = 0.0
            sampling.add_to_mixture(scratch.row, p, mixture.ids[last], 1.0)
            sampling.logarithms(scratch.row)
            sampling.lead_away(scratch.logits[b], scratch.row, mixture.strength)
    return True


# Where a kernel takes a network and a mixture, one of them is None. Numba leaves out the branch of an
# argument that is None, and compiles that of any other; so there is no `else`.


@njit()
def log_probabilities(network: Any, mixture: Any, characters: Any, scratch: Any, out: Any) -> None:
    """B texts read their characters (B,), of which the table has a row: out (B, V) = log p of the next."""
    rows = len(characters)
    if network is not None:
        _step(network, characters, scratch, rows)
    if mixture is not None:
        _step_mixture(mixture, characters, scratch, rows)
    for b in range(rows):
        sampling.log_probabilities(out[b], scratch.logits[b, : out.shape[1]], scratch.p)


class Batch(NamedTuple):
    """B texts that are written, of n; row b is text texts[b]."""

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
    texts, last, limits, counts = batch.texts, batch.last, batch.limits, batch.counts
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
            together = _step(network, last, scratch, rows)
        if mixture is not None:
            if not _knows_mixture(mixture, last, rows):
                return rows
            together = _step_mixture(mixture, last, scratch, rows)
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
                        _swap(scratch.state, b, rows)
                    if mixture is not None:
                        _swap_mixture(scratch, b, rows)
                    texts[b], texts[rows] = texts[rows], texts[b]
                    last[b], last[rows] = last[rows], last[b]
    return 0
