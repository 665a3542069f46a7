"""A memory of N rows of M numbers that a controller reads and writes over a window.

A neural Turing machine (Graves, Wayne & Danihelka 2014). Of h_t, the controller's state, W h_t + b has for
each of two heads, the one that reads and the one that writes, a key k, its strength beta = softplus(..), a
gate g = sigmoid(..), shifts s = softmax(..) and a sharpness gamma = 1 + softplus(..); and for what is
written, what is erased, e = sigmoid(..), and what is added, a = tanh(..). Of memory m and the weights w of a
head, both before the step:

    K_i  = k . m_i / (|k| |m_i|)
    c    = softmax(beta K)                            by content
    u    = g c + (1 - g) w
    v_i  = s_0 u_(i-1) + s_1 u_i + s_2 u_(i+1)        in a circle
    w'_i = v_i^gamma / (the sum of the v_j^gamma)
    r'   = the sum of the w'_i m_i                    of the head that reads
    m'_i = m_i (1 - w'_i e) + w'_i a                  of the head that writes

The controller reads [x_t; r], and what follows [h_t; r']. A text begins with r = 0, both heads at row 0, and
a memory of BEGUN (Collier & Beel 2018).

Axes: T time, B batch, H hidden, D input, N rows, M numbers of a row, P numbers that the heads are told, S
numbers of a memory's state. Arrays are (T, B, padded), unless noted. A memory is stored by columns, (M, N).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from charrnn.kernels.activations import exp, log, sigmoid, tanh
from charrnn.kernels.coefficients import BEGUN, FOCUS_LEAST, HEADS, LENGTH_EPSILON, SHIFTS
from charrnn.kernels.exact_layers import _row
from charrnn.kernels.loops import recurrent
from charrnn.kernels.loops.attention import _add_scaled
from charrnn.kernels.loss import _exponentials, _scale
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.machine.native_calls import WORD, word_at
from charrnn.kernels.products.gemm import product
from charrnn.kernels.reductions import largest, total, total_of_products
from charrnn.kernels.rows import _add, _clear, _copy, _restart

READS, WRITES = range(HEADS)


def told_size(M: int) -> int:
    """P: for each head M + 6 numbers, and then what is erased and added."""
    return HEADS * (M + 6) + 2 * M


def state_size(M: int, N: int) -> int:
    """S: r, the weights of both heads, the memory, and whether the text has begun."""
    return M + HEADS * N + M * N + 1


_told_size, _state_size = njit()(told_size), njit()(state_size)


def kept_size(N: int) -> int:
    """What backward needs: 1 / |m_i|, and for each head K, c and w', for a text may begin behind the step."""
    return N + HEADS * 3 * N


class Memory(NamedTuple):
    """The memories of B texts."""

    states: Any  # (T + 1, B, padded S), between the steps
    # (T, B); where it is not -1, a text begins, and its state is that row of the next.
    restart_rows: Any
    restarts: Any  # (.., S)
    heads: Any  # (T, B, padded P): W h + b, then what the heads are told, then the gradient of W h + b
    kept: Any  # (T, B, padded)
    M: int
    N: int


class Machine(NamedTuple):
    """The controller and what it tells the heads; the first five are arguments of recurrent.forward."""

    prefetches: Any
    inputs: Any
    gates: Any
    states: Any
    loops: Any
    weight_heads: Any  # (panels of P, H, 32)
    bias_heads: Any  # (padded P,)
    y: Any  # (T, B, padded H + M)


class Through(NamedTuple):
    """The arguments of recurrent.backward, and the other gradients."""

    prefetches: Any
    gates: Any
    d_h: Any
    d_rest: Any
    restart_rows: Any
    loops: Any
    weight_ih_t: Any  # (panels of D + M, G H, 32)
    d_x: Any  # (T, B, padded D + M)
    weight_heads_t: Any  # (panels of H, P, 32)
    d_hidden: Any  # (T, B, padded H)
    d_y: Any  # (T, B, padded H + M)
    d_state: Any  # (1, B, padded S): the gradient of the state before the step that is next
    zero: Any


@njit()
def _begin(state: Any, M: int, N: int) -> None:
    """Where nothing has begun, a state is that of a text's beginning."""
    last = M + HEADS * N + M * N
    if state[last] == 0:
        _clear(state)
        state[M] = state[M + N] = 1
        for j in range(M + HEADS * N, last):
            state[j] = BEGUN


@njit()
def _softplus(x: Any, zero: Any, one: Any) -> Any:
    return (x if x > zero else zero) + log(one + exp(x if x < zero else -x))


@njit()
def _tell(p: Any, M: int) -> None:
    """What the heads are told, in place of W h + b."""
    zero, one = p.dtype.type(0), p.dtype.type(1)
    for head in range(HEADS):
        q = p[head * (M + 6) :]
        q[M], q[M + 1] = _softplus(q[M], zero, one), sigmoid(q[M + 1])
        shifts = q[M + 2 : M + 2 + SHIFTS]
        _exponentials(shifts, largest(shifts, SHIFTS), SHIFTS)
        _scale(shifts, one / total(shifts, SHIFTS), SHIFTS)
        q[M + 5] = one + _softplus(q[M + 5], zero, one)
    for j in range(HEADS * (M + 6), HEADS * (M + 6) + M):
        p[j] = sigmoid(p[j])
    for j in range(HEADS * (M + 6) + M, HEADS * (M + 6) + 2 * M):
        p[j] = tanh(p[j])


@njit()
def _through_telling(d: Any, p: Any, M: int) -> None:
    """The gradient of W h + b in place of that, d, of what the heads are told, p."""
    kind = p.dtype.type
    zero, one = kind(0), kind(1)
    for head in range(HEADS):
        d_q, q = d[head * (M + 6) :], p[head * (M + 6) :]
        d_q[M] *= one - exp(-q[M])
        d_q[M + 1] *= q[M + 1] * (one - q[M + 1])
        mean = total_of_products(d_q[M + 2 :], q[M + 2 :], zero, SHIFTS)
        for j in range(M + 2, M + 2 + SHIFTS):
            d_q[j] = q[j] * (d_q[j] - mean)
        d_q[M + 5] *= one - exp(one - q[M + 5])
    for j in range(HEADS * (M + 6), HEADS * (M + 6) + M):
        d[j] *= p[j] * (one - p[j])
    for j in range(HEADS * (M + 6) + M, HEADS * (M + 6) + 2 * M):
        d[j] *= one - p[j] * p[j]


@njit()
def _lengths(inverse: Any, memory: Any, M: int, N: int) -> None:
    """1 / |m_i|."""
    kind = memory.dtype.type
    one = kind(1)
    for i in range(N):
        inverse[i] = kind(LENGTH_EPSILON)
    for m in range(M):
        column = memory[m * N :]
        for i in range(N):
            inverse[i] += column[i] * column[i]
    for i in range(N):
        inverse[i] = one / np.sqrt(inverse[i])


@njit()
def _inverse_length(key: Any, M: int) -> Any:
    kind = key.dtype.type
    return kind(1) / np.sqrt(kind(LENGTH_EPSILON) + total_of_products(key, key, kind(0), M))


@njit()
def _interpolate(u: Any, content: Any, before: Any, g: Any, N: int) -> None:
    one = u.dtype.type(1)
    for i in range(N):
        u[i] = g * content[i] + (one - g) * before[i]


@njit()
def _shift(v: Any, u: Any, left: Any, stay: Any, right: Any, N: int) -> None:
    """v_i = left u_(i-1) + stay u_i + right u_(i+1), in a circle."""
    for i in range(1, N - 1):
        v[i] = left * u[i - 1] + stay * u[i] + right * u[i + 1]
    v[0] = left * u[N - 1] + stay * u[0] + right * u[1 % N]
    v[N - 1] = left * u[(N - 2) % N] + stay * u[N - 1] + right * u[0]


@njit()
def _logarithms(x: Any, N: int) -> None:
    least = x.dtype.type(FOCUS_LEAST)
    for i in range(N):
        x[i] = log(x[i] if x[i] > least else least)


@njit()
def _focus(
    w: Any, before: Any, memory: Any, q: Any, similar: Any, content: Any, inverse: Any, u: Any
) -> None:  # fmt: skip
    """The weights of a head (N,), of what it is told, q, and its weights before; u (N,) is scratch."""
    N = len(u)
    M = len(memory) // N
    one = w.dtype.type(1)
    for i in range(N):
        similar[i] = 0
    for m in range(M):
        _add_scaled(similar, memory[m * N :], q[m], N)
    length = _inverse_length(q, M)
    for i in range(N):
        similar[i] *= length * inverse[i]
    for i in range(N):
        content[i] = q[M] * similar[i]
    _exponentials(content, largest(content, N), N)
    _scale(content, one / total(content, N), N)
    _interpolate(u, content, before, q[M + 1], N)
    _shift(w, u, q[M + 2], q[M + 3], q[M + 4], N)
    _logarithms(w, N)
    _scale(w, q[M + 5], N)
    _exponentials(w, largest(w, N), N)
    _scale(w, one / total(w, N), N)


@njit()
def _write(after: Any, memory: Any, w: Any, e: Any, a: Any) -> None:
    """The memory after the step."""
    N, one = len(w), w.dtype.type(1)
    for m in range(len(e)):
        y, x, erased, added = after[m * N :], memory[m * N :], e[m], a[m]
        for i in range(N):
            y[i] = x[i] * (one - w[i] * erased) + w[i] * added


@njit()
def _remember(memory: Any, t: int, b: int, u: Any) -> None:
    """The state of a memory after step t; its heads have been told."""
    M, N = memory.M, memory.N
    before, after, kept = memory.states[t, b], memory.states[t + 1, b], memory.kept[t, b]
    p, first = memory.heads[t, b], M + HEADS * N
    m, inverse = before[first : first + M * N], kept[:N]
    _tell(p, M)
    _lengths(inverse, m, M, N)
    for head in range(HEADS):
        at, own = M + head * N, kept[N + head * 3 * N :]
        q, w = p[head * (M + 6) : (head + 1) * (M + 6)], own[2 * N : 3 * N]
        _focus(w, before[at : at + N], m, q, own[:N], own[N : 2 * N], inverse, u)
        _copy(after[at:], w, N)
    reading = after[M : M + N]
    for j in range(M):
        after[j] = total_of_products(reading, m[j * N :], u.dtype.type(0), N)
    q = p[HEADS * (M + 6) :]
    _write(after[first : first + M * N], m, after[M + N : first], q[:M], q[M : 2 * M])
    after[first + M * N] = 1


@njit()
def forward(unit: Any, machine: Any, memory: Any, D: int, H: int, columns: Any, steps: Any) -> None:
    """Some steps of the window, after those before them; the first D numbers of x are there."""
    (b0, b1), (t0, t1) = columns, steps
    prefetches, inputs, gates, states, loops, weight_heads, bias_heads, y = machine
    M, N, x = memory.M, memory.N, inputs.x
    u, plan = np.empty(N, y.dtype), np.empty((0, 3), np.intp)
    for t in range(t0, t1):
        _restart(memory.states[t], memory.restarts, memory.restart_rows[t], _state_size(M, N), b0, b1)
        for b in range(b0, b1):
            _begin(memory.states[t, b], M, N)
            _copy(x[t, b, D:], memory.states[t, b], M)
        step = recurrent.Steps(b0, b1, t, t + 1, False)
        recurrent.forward(unit, prefetches, inputs, gates, states, loops, H, step)
        h = states.h[t + 1 : t + 2]
        product(unit, memory.heads[t : t + 1], bias_heads, h, weight_heads, H, (b0, b1), plan)
        for b in range(b0, b1):
            _remember(memory, t, b, u)
            _copy(y[t, b], h[0, b], H)
            _copy(y[t, b, H:], memory.states[t + 1, b], M)


@njit()
def _through_writing(d_m: Any, d_p: Any, d_w: Any, m: Any, w: Any, p: Any, scratch: Any) -> None:
    """The gradients of what was written, of the weights and, in place, of the memory before."""
    N, one, zero = len(w), w.dtype.type(1), w.dtype.type(0)
    M = len(m) // N
    erase, add = HEADS * (M + 6), HEADS * (M + 6) + M
    for j in range(M):
        d, x, erased, added = d_m[j * N :], m[j * N :], p[erase + j], p[add + j]
        for i in range(N):
            scratch[i] = d[i] * w[i]
        d_p[add + j] = total(scratch, N)
        d_p[erase + j] = -total_of_products(scratch, x, zero, N)
        for i in range(N):
            d_w[i] += d[i] * (added - x[i] * erased)
        for i in range(N):
            d[i] *= one - w[i] * erased


@njit()
def _through_reading(d_m: Any, d_w: Any, d_r: Any, m: Any, w: Any, M: int) -> None:
    N = len(w)
    for j in range(M):
        _add_scaled(d_w, m[j * N :], d_r[j], N)
        _add_scaled(d_m[j * N :], w, d_r[j], N)


@njit()
def _through_focus(d_w: Any, d_q: Any, d_m: Any, w: Any, before: Any, m: Any, q: Any, kept: Any) -> None:
    """The gradients of what a head was told, and of the memory, from that of its weights.

    d_w becomes the gradient of its weights before. kept: 1 / |m_i|, K and c.
    """
    N = len(w)
    M, kind = len(m) // N, w.dtype.type
    zero, one, least = kind(0), kind(1), kind(FOCUS_LEAST)
    inverse, similar, content = kept
    u, v = np.empty(N, w.dtype), np.empty(N, w.dtype)
    _interpolate(u, content, before, q[M + 1], N)
    _shift(v, u, q[M + 2], q[M + 3], q[M + 4], N)
    # d_w: of gamma log v
    mean = total_of_products(w, d_w, zero, N)
    for i in range(N):
        d_w[i] = w[i] * (d_w[i] - mean)
    logs = np.empty(N, w.dtype)
    _copy(logs, v, N)
    _logarithms(logs, N)
    d_q[M + 5] = total_of_products(d_w, logs, zero, N)
    for i in range(N):
        d_w[i] = q[M + 5] * d_w[i] / v[i] if v[i] > least else zero
    # d_w: of v; then, in v, of u
    _shift(logs, u, one, zero, zero, N)
    d_q[M + 2] = total_of_products(d_w, logs, zero, N)
    d_q[M + 3] = total_of_products(d_w, u, zero, N)
    _shift(logs, u, zero, zero, one, N)
    d_q[M + 4] = total_of_products(d_w, logs, zero, N)
    _shift(v, d_w, q[M + 4], q[M + 3], q[M + 2], N)
    for i in range(N):
        u[i] = content[i] - before[i]
    d_q[M + 1] = total_of_products(v, u, zero, N)
    for i in range(N):
        d_w[i] = (one - q[M + 1]) * v[i]
    # v: of c, and then of beta K
    _scale(v, q[M + 1], N)
    mean = total_of_products(content, v, zero, N)
    for i in range(N):
        v[i] = content[i] * (v[i] - mean)
    d_q[M] = total_of_products(v, similar, zero, N)
    _scale(v, q[M], N)
    # v: of K. Of k . m_i it is u, and of |m_i| K_i / m_i it is minus `logs`.
    length = _inverse_length(q, M)
    own = length * length * total_of_products(v, similar, zero, N)
    for i in range(N):
        u[i] = v[i] * length * inverse[i]
    for i in range(N):
        logs[i] = v[i] * similar[i] * inverse[i] * inverse[i]
    for j in range(M):
        d, x = d_m[j * N :], m[j * N :]
        d_q[j] = total_of_products(u, x, zero, N) - q[j] * own
        key = q[j]
        for i in range(N):
            d[i] += key * u[i] - x[i] * logs[i]


@njit()
def _look_back(d: Any, memory: Any, t: int, b: int, scratch: Any, d_p: Any) -> None:
    """The gradient d (S,) of the state after step t becomes that before it, but for the reads.

    What the heads were told becomes the gradient of W h + b.
    """
    M, N = memory.M, memory.N
    before, kept = memory.states[t, b], memory.kept[t, b]
    p, first = memory.heads[t, b], M + HEADS * N
    m, d_m = before[first : first + M * N], d[first : first + M * N]
    _through_writing(d_m, d_p, d[M + N : first], m, kept[6 * N : 7 * N], p, scratch)
    _through_reading(d_m, d[M : M + N], d, m, kept[3 * N : 4 * N], M)
    for head in range(HEADS):
        at, own, told_at = M + head * N, kept[N + head * 3 * N :], head * (M + 6)
        _through_focus(
            d[at : at + N], d_p[told_at:], d_m, own[2 * N : 3 * N], before[at : at + N], m, p[told_at:],
            (kept[:N], own[:N], own[N : 2 * N]),
        )  # fmt: skip
    _through_telling(d_p, p, M)
    _copy(p, d_p, len(d_p))


@njit()
def backward(unit: Any, through: Any, memory: Any, D: int, H: int, columns: Any) -> None:
    """All steps, from the last to the first."""
    b0, b1 = columns
    d_x, d_y, d_hidden, d_state, zero = (
        through.d_x, through.d_y, through.d_hidden, through.d_state, through.zero,
    )  # fmt: skip
    M, N, T = memory.M, memory.N, len(d_y)
    P, last = _told_size(M), _state_size(M, N) - 1
    scratch, d_p, plan = np.empty(N, d_y.dtype), np.empty(P, d_y.dtype), np.empty((0, 3), np.intp)
    for b in range(b0, b1):
        _clear(d_state[0, b])
    for t in range(T - 1, -1, -1):
        for b in range(b0, b1):
            _add(d_state[0, b], d_y[t, b, H:], M)
            _look_back(d_state[0, b], memory, t, b, scratch, d_p)
        now = d_hidden[t : t + 1]
        product(unit, now, zero, memory.heads[t : t + 1], through.weight_heads_t, P, (b0, b1), plan)
        for b in range(b0, b1):
            _add(now[0, b], d_y[t, b], H)
        recurrent.backward(
            unit, through.prefetches, through.gates, through.d_h, through.d_rest, through.restart_rows,
            through.loops, recurrent.Steps(b0, b1, t, t + 1, False),
        )  # fmt: skip
        gates = through.gates.gates[t : t + 1]
        product(unit, d_x[t : t + 1], zero, gates, through.weight_ih_t, through.gates.N, (b0, b1), plan)
        for b in range(b0, b1):
            _copy(d_state[0, b], d_x[t, b, D:], M)
            if memory.restart_rows[t, b] >= 0 or memory.states[t, b, last] == 0:
                _clear(d_state[0, b])


def remember(table: int, rows: int) -> None:
    """An instruction of the loop that writes: a step of memories, as charrnn.recall.remembering does it.

    The table has M and N, and the addresses and widths of what is read, of W h + b, and of the state.
    """
    M, N = word_at(table), word_at(table + WORD)
    first, size, P = M + HEADS * N, _state_size(M, N), _told_size(M)
    p, w, u = np.empty(P, np.float32), np.empty(N, np.float32), np.empty(N, np.float32)
    similar, content, inverse = np.empty(N, np.float32), np.empty(N, np.float32), np.empty(N, np.float32)
    for b in range(rows):
        y, state = _row(table + 2 * WORD, b, M), _row(table + 6 * WORD, b, size)
        _copy(p, _row(table + 4 * WORD, b, P), P)
        _begin(state, M, N)
        memory = state[first : first + M * N]
        _tell(p, M)
        _lengths(inverse, memory, M, N)
        for head in range(HEADS):
            at = M + head * N
            _focus(w, state[at:], memory, p[head * (M + 6) :], similar, content, inverse, u)
            _copy(state[at:], w, N)
        for j in range(M):
            y[j] = total_of_products(state[M:], memory[j * N :], np.float32(0), N)
        _copy(state, y, M)
        q = p[HEADS * (M + 6) :]
        _write(memory, memory, state[M + N : first], q[:M], q[M:])
        state[size - 1] = np.float32(1)
