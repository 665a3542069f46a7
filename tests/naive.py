"""The reference that the kernels are held against: float64, plain loops, no import of charrnn.

Every equation stands here once, as it stands in a textbook, for one time step of one stream. The
backward pass is written by hand, each function beside the forward one that it mirrors. Central
differences and values recorded from PyTorch prove this file (test_naive.py).

Axes: T time, B batch (streams), H hidden, D input, V vocabulary, G gates.

    parameters   PyTorch's names and layout: rnn.weight_ih_l0 (G*H, D), decoder.weight (V, H), ...
    x, y         (T, B) character ids; x may also hold V, START: the zero vector as input
    state        one tuple a layer: (h, c) for an LSTM, else (h,), each (B, H)
    reset        (T, B) bool: the stream's state is zeroed before this step
    labels       (T, B, columns) ids of the text's labels; ids beyond the last of a column add nothing
    masks        one (T, B, H) array a layer: dropout's multipliers of the layer's output
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Parameters = Mapping[str, Array]
State = Sequence[tuple[Array, ...]]

NORM_EPSILON = 1e-5


def sigmoid(a: Array) -> Array:
    # 1 / (1 + exp(-a)), without an overflow at a << 0
    return 0.5 * (1.0 + np.tanh(0.5 * a))


# --- cells --------------------------------------------------------------------
# A cell sees its input and its state only through two sums, each (G*H,):
#     u = weight_ih @ x + bias_ih        w = weight_hh @ h + bias_hh
# Backward: from the gradient of the new state to those of u, of w, and of the old state, the last
# without the part that flows through w (the network adds it).


def lstm(u: Array, w: Array, state: tuple[Array, ...]) -> tuple[tuple[Array, ...], Any]:
    _, c_before = state
    i, f, g, o = (u + w).reshape(4, -1)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    c = f * c_before + i * g
    h = o * np.tanh(c)
    return (h, c), (i, f, g, o, c, c_before)


def lstm_backward(d_state: tuple[Array, ...], cache: Any) -> tuple[Array, Array, tuple[Array, ...]]:
    dh, dc = d_state
    i, f, g, o, c, c_before = cache
    do = dh * np.tanh(c)
    dc = dc + dh * o * (1 - np.tanh(c) ** 2)
    di, df, dg = dc * g, dc * c_before, dc * i
    da = np.concatenate([di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)])
    return da, da, (np.zeros_like(dh), dc * f)


def gru(u: Array, w: Array, state: tuple[Array, ...]) -> tuple[tuple[Array, ...], Any]:
    (h_before,) = state
    u_r, u_z, u_n = u.reshape(3, -1)
    w_r, w_z, w_n = w.reshape(3, -1)
    r, z = sigmoid(u_r + w_r), sigmoid(u_z + w_z)
    n = np.tanh(u_n + r * w_n)
    h = (1 - z) * n + z * h_before
    return (h,), (r, z, n, w_n, h_before)


def gru_backward(d_state: tuple[Array, ...], cache: Any) -> tuple[Array, Array, tuple[Array, ...]]:
    (dh,) = d_state
    r, z, n, w_n, h_before = cache
    da_n = dh * (1 - z) * (1 - n**2)
    da_z = dh * (h_before - n) * z * (1 - z)
    da_r = da_n * w_n * r * (1 - r)
    return np.concatenate([da_r, da_z, da_n]), np.concatenate([da_r, da_z, da_n * r]), (dh * z,)


def rnn_tanh(u: Array, w: Array, state: tuple[Array, ...]) -> tuple[tuple[Array, ...], Any]:
    h = np.tanh(u + w)
    return (h,), h


def rnn_tanh_backward(d_state: tuple[Array, ...], cache: Any) -> tuple[Array, Array, tuple[Array, ...]]:
    (dh,), h = d_state, cache
    da = dh * (1 - h**2)
    return da, da, (np.zeros_like(dh),)


def rnn_relu(u: Array, w: Array, state: tuple[Array, ...]) -> tuple[tuple[Array, ...], Any]:
    h = np.maximum(u + w, 0.0)
    return (h,), h


def rnn_relu_backward(d_state: tuple[Array, ...], cache: Any) -> tuple[Array, Array, tuple[Array, ...]]:
    (dh,), h = d_state, cache
    da = dh * (h > 0)
    return da, da, (np.zeros_like(dh),)


FUNCTIONS = {
    ("lstm", "tanh"): (lstm, lstm_backward),
    ("gru", "tanh"): (gru, gru_backward),
    ("rnn", "tanh"): (rnn_tanh, rnn_tanh_backward),
    ("rnn", "relu"): (rnn_relu, rnn_relu_backward),
}
CELLS = [*FUNCTIONS]  # that there is a reference for


def cell_functions(cell: str, nonlinearity: str) -> tuple[Any, Any]:
    """The cell's step and its backward pass; `nonlinearity` matters to the rnn alone."""
    return FUNCTIONS[cell, nonlinearity if cell == "rnn" else "tanh"]


# --- layer norm ---------------------------------------------------------------


def layer_norm(h: Array, weight: Array, bias: Array) -> tuple[Array, Any]:
    """(H,) -> (H,); the variance is the biased one."""
    centred = h - np.mean(h)
    deviation = np.sqrt(np.mean(centred**2) + NORM_EPSILON)
    normed = centred / deviation
    return normed * weight + bias, (normed, deviation)


def layer_norm_backward(d_out: Array, weight: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients of h, weight and bias, each (H,)."""
    normed, deviation = cache
    d_normed = d_out * weight
    dh = (d_normed - np.mean(d_normed) - normed * np.mean(d_normed * normed)) / deviation
    return dh, d_out * normed, d_out


# --- network ------------------------------------------------------------------


class Step(NamedTuple):
    """What the backward pass needs of one layer at one time step of one stream."""

    x: Array  # (D,)
    h_before: Array  # (H,)
    cell: Any
    norm: Any


class Cache(NamedTuple):
    steps: list[list[list[Step]]]  # [t][b][k]
    outputs: Array  # (T, B, H), what the decoder saw


def layer(parameters: Parameters, k: int | str) -> tuple[Array, Array, Array, Array]:
    """weight_ih (G*H, D), weight_hh (G*H, H), bias_ih (G*H,), bias_hh (G*H,) of layer k."""
    w_ih, w_hh, b_ih, b_hh = (
        parameters[f"rnn.{name}_l{k}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    return w_ih, w_hh, b_ih, b_hh


def zero_state(parameters: Parameters, cell: str, num_layers: int, B: int) -> State:
    H = parameters["decoder.weight"].shape[1]
    return [tuple(np.zeros((B, H)) for _ in range(1 + (cell == "lstm"))) for _ in range(num_layers)]


def label_vectors(parameters: Parameters, k: int, labels: Sequence[int]) -> list[tuple[str, int]]:
    """For each known label of one position, its matrix in layer k, and its row there."""
    named = [(f"label.{column}.weight_l{k}", int(label)) for column, label in enumerate(labels)]
    return [(name, label) for name, label in named if label < len(parameters[name])]


def input_vector(parameters: Parameters, character: int) -> Array:
    """The embedding's row, or one-hot where there is no embedding; zeros for START and END. (D,)"""
    table = parameters.get("embedding.weight", np.eye(parameters["rnn.weight_ih_l0"].shape[1]))
    return table[character] if character < len(table) else np.zeros(table.shape[1])


def as_float64(parameters: Parameters) -> dict[str, Array]:
    return {name: np.asarray(p, np.float64) for name, p in parameters.items()}


def copied(state: State) -> list[tuple[Array, ...]]:
    return [tuple(np.array(part, np.float64) for part in parts) for parts in state]


def forward(
    parameters: Parameters,
    cell: str,
    nonlinearity: str,
    num_layers: int,
    norm: bool,
    residual: bool,
    x: Array,
    state: State | None = None,
    reset: Array | None = None,
    masks: Sequence[Array] | None = None,
    labels: Array | None = None,
) -> tuple[Array, list[tuple[Array, ...]], Cache]:
    """Logits (T, B, V), the state after the window, and what backward needs. No state: zeros."""
    T, B = x.shape
    p = as_float64(parameters)
    V, H = p["decoder.weight"].shape
    step, _ = cell_functions(cell, nonlinearity)
    state = copied(zero_state(p, cell, num_layers, B) if state is None else state)
    logits = np.zeros((T, B, V))
    cache = Cache([[[] for _ in range(B)] for _ in range(T)], np.zeros((T, B, H)))
    for t in range(T):
        for b in range(B):
            values = input_vector(p, int(x[t, b]))
            for k in range(num_layers):
                w_ih, w_hh, b_ih, b_hh = layer(p, k)
                before = tuple(part[b].copy() for part in state[k])
                if reset is not None and reset[t, b]:
                    before = tuple(np.zeros(H) for _ in before)
                u = w_ih @ values + b_ih
                for name, label in label_vectors(p, k, () if labels is None else labels[t, b]):
                    u = u + p[name][label]
                after, cell_cache = step(u, w_hh @ before[0] + b_hh, before)
                for part, new in zip(state[k], after, strict=True):
                    part[b] = new
                out, norm_cache = after[0], None
                if norm:
                    out, norm_cache = layer_norm(out, p[f"norm_l{k}.weight"], p[f"norm_l{k}.bias"])
                if residual and len(values) == H:
                    out = out + values
                if masks is not None:
                    out = out * masks[k][t, b]
                cache.steps[t][b].append(Step(values, before[0], cell_cache, norm_cache))
                values = out
            cache.outputs[t, b] = values
            logits[t, b] = p["decoder.weight"] @ values + p["decoder.bias"]
    return logits, state, cache


def log_softmax(logits: Array) -> Array:
    shifted: Array = logits - np.max(logits, axis=-1, keepdims=True)
    log_sum: Array = np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
    return shifted - log_sum


def loss(logits: Array, y: Array) -> float:
    """Mean nats per character of logits (T, B, V) at targets y (T, B)."""
    T, B = y.shape
    chosen = [log_softmax(logits[t, b])[y[t, b]] for t in range(T) for b in range(B)]
    return -float(np.mean(chosen))


def loss_backward(logits: Array, y: Array) -> Array:
    """The gradient of `loss`: (softmax - one-hot) / (T*B). (T, B, V)"""
    T, B = y.shape
    d_logits: Array = np.exp(log_softmax(logits))
    for t in range(T):
        for b in range(B):
            d_logits[t, b, y[t, b]] -= 1.0
    d_logits /= T * B
    return d_logits


def backward(
    parameters: Parameters,
    cell: str,
    nonlinearity: str,
    num_layers: int,
    norm: bool,
    residual: bool,
    x: Array,
    d_logits: Array,
    cache: Cache,
    reset: Array | None = None,
    masks: Sequence[Array] | None = None,
    labels: Array | None = None,
) -> tuple[dict[str, Array], list[tuple[Array, ...]]]:
    """Gradients of the parameters and of the state before the window, given that of the logits."""
    T, B = x.shape
    p = as_float64(parameters)
    V, H = p["decoder.weight"].shape
    _, step_backward = cell_functions(cell, nonlinearity)
    gradients = {name: np.zeros_like(value) for name, value in p.items()}
    # The gradient of each stream's state, on its way from the last step to the first.
    d_state = copied(zero_state(p, cell, num_layers, B))
    for t in reversed(range(T)):
        for b in range(B):
            gradients["decoder.weight"] += np.outer(d_logits[t, b], cache.outputs[t, b])
            gradients["decoder.bias"] += d_logits[t, b]
            d_out = p["decoder.weight"].T @ d_logits[t, b]
            for k in reversed(range(num_layers)):
                w_ih, w_hh, _, _ = layer(p, k)
                step = cache.steps[t][b][k]
                if masks is not None:
                    d_out = d_out * masks[k][t, b]
                d_skipped = d_out if residual and len(step.x) == H else np.zeros(len(step.x))
                if norm:
                    d_out, d_weight, d_bias = layer_norm_backward(d_out, p[f"norm_l{k}.weight"], step.norm)
                    gradients[f"norm_l{k}.weight"] += d_weight
                    gradients[f"norm_l{k}.bias"] += d_bias
                dh, *rest = (part[b] for part in d_state[k])
                du, dw, d_before = step_backward((dh + d_out, *rest), step.cell)
                d_before = (d_before[0] + w_hh.T @ dw, *d_before[1:])
                gradients[f"rnn.weight_ih_l{k}"] += np.outer(du, step.x)
                gradients[f"rnn.weight_hh_l{k}"] += np.outer(dw, step.h_before)
                gradients[f"rnn.bias_ih_l{k}"] += du
                for name, label in label_vectors(p, k, () if labels is None else labels[t, b]):
                    gradients[name][label] += du
                gradients[f"rnn.bias_hh_l{k}"] += dw
                for part, new in zip(d_state[k], d_before, strict=True):
                    # Nothing flows back through a state that was zeroed.
                    part[b] = 0.0 if reset is not None and reset[t, b] else new
                d_out = w_ih.T @ du + d_skipped
            if "embedding.weight" in p and x[t, b] < V:
                gradients["embedding.weight"][x[t, b]] += d_out
    return gradients, d_state


def loss_and_gradients(
    parameters: Parameters,
    cell: str,
    nonlinearity: str,
    num_layers: int,
    norm: bool,
    residual: bool,
    x: Array,
    y: Array,
    state: State | None = None,
    reset: Array | None = None,
    masks: Sequence[Array] | None = None,
    labels: Array | None = None,
) -> tuple[float, dict[str, Array], list[tuple[Array, ...]], list[tuple[Array, ...]]]:
    """One window of truncated back-propagation through time.

    Returns the loss, the parameters' gradients, the gradient of the state before the window (shaped
    as the state), and the state after it, through which no gradient flows.
    """
    network = (cell, nonlinearity, num_layers, norm, residual)
    logits, new_state, cache = forward(parameters, *network, x, state, reset, masks, labels)
    d_logits = loss_backward(logits, y)
    gradients, d_state = backward(parameters, *network, x, d_logits, cache, reset, masks, labels)
    return loss(logits, y), gradients, d_state, new_state


# --- optimizer ----------------------------------------------------------------


def clip(gradients: Parameters, max_norm: float) -> tuple[float, dict[str, Array]]:
    """The norm of all gradients together, and the gradients scaled so that it is at most max_norm.

    torch.nn.utils.clip_grad_norm_ without the 1e-6 that it adds to the norm.
    """
    norm = float(np.sqrt(sum(np.sum(np.asarray(g, np.float64) ** 2) for g in gradients.values())))
    scale = max_norm / norm if norm > max_norm else 1.0
    return norm, {name: scale * g for name, g in gradients.items()}


def matrices(parameters: Parameters) -> list[str]:
    """The names that decay: weights that multiply, not biases and not norms."""
    return [name for name, p in parameters.items() if np.ndim(p) == 2]


def adamw(
    parameters: Parameters,
    gradients: Parameters,
    m: Parameters,
    v: Parameters,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    l1: float,
    decayed: Sequence[str],
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
    """One step (the first is 1); returns the new parameters, m and v, and changes nothing.

    torch.optim.AdamW's order: decay of the names in `decayed`, then Adam's step; after it, the same
    names are shrunk towards zero by lr*l1.
    """
    new_parameters, new_m, new_v = {}, {}, {}
    for name, p in parameters.items():
        g = gradients[name]
        new_m[name] = beta1 * m[name] + (1 - beta1) * g
        new_v[name] = beta2 * v[name] + (1 - beta2) * g**2
        if name in decayed:
            p = p - lr * weight_decay * p
        m_hat = new_m[name] / (1 - beta1**step)
        v_hat = new_v[name] / (1 - beta2**step)
        p = p - lr * m_hat / (np.sqrt(v_hat) + eps)
        if name in decayed:
            p = np.sign(p) * np.maximum(np.abs(p) - lr * l1, 0.0)
        new_parameters[name] = p
    return new_parameters, new_m, new_v


# --- networks that read whole texts --------------------------------------------
# One text at a time, x (n,); rows are (n, width).


def read_both_ways(
    parameters: Parameters,
    cell: str,
    nonlinearity: str,
    num_layers: int,
    norm: bool,
    residual: bool,
    x: Array,
) -> Array:
    """The outputs of bidirectional layers, (n, 2H)."""
    p = as_float64(parameters)
    step, _ = cell_functions(cell, nonlinearity)
    table = p.get("embedding.weight")
    rows = table[x] if table is not None else np.eye(p["rnn.weight_ih_l0"].shape[1])[x]
    for k in range(num_layers):
        halves = []
        for suffix in (f"{k}", f"{k}_reverse"):
            w_ih, w_hh, b_ih, b_hh = layer(p, suffix)
            state = tuple(np.zeros(w_hh.shape[1]) for _ in range(1 + (cell == "lstm")))
            read = []
            for row in rows[::-1] if suffix.endswith("reverse") else rows:
                state, _ = step(w_ih @ row + b_ih, w_hh @ state[0] + b_hh, state)
                read.append(state[0])
            halves.append(np.array(read[::-1] if suffix.endswith("reverse") else read))
        out = np.concatenate(halves, axis=1)
        if norm:
            weight, bias = p[f"norm_l{k}.weight"], p[f"norm_l{k}.bias"]
            out = np.array([layer_norm(row, weight, bias)[0] for row in out])
        rows = out + rows if residual and out.shape == rows.shape else out
    return rows


def softmax(scores: Array) -> Array:
    return np.exp(log_softmax(scores))


def pool(parameters: Parameters, rows: Array) -> Array:
    """Attention pooling, (n, K) -> (K,)."""
    p = as_float64(parameters)
    scores = [p["pooling.vector"] @ np.tanh(p["pooling.weight"] @ row + p["pooling.bias"]) for row in rows]
    pooled: Array = softmax(np.array(scores)) @ rows
    return pooled


def decode(parameters: Parameters, row: Array) -> Array:
    """The logits of a row."""
    p = as_float64(parameters)
    logits: Array = p["decoder.weight"] @ row + p["decoder.bias"]
    return logits


def class_grams(ids: Sequence[int], vocab_size: int) -> list[int]:
    """The numbers, 20 bits of a hash, of all grams of 1 to 4 symbols of a text between START and END."""
    symbols, numbers = [vocab_size, *map(int, ids), vocab_size + 1], []
    for first in range(len(symbols)):
        h = 0
        for symbol in symbols[first : first + 4]:
            h = (h + symbol + 1) * 0x9E3779B97F4A7C15 % 2**64
            h ^= h >> 29
            numbers.append(h >> 44)
    return numbers


def class_gram_weights(
    texts: Sequence[tuple[Sequence[int], int]], classes: int, vocab_size: int, without: int | None = None
) -> dict[int, Array]:
    """By gram, its weights (classes,), counted in texts of one class each.

    Those of the text `without` are then taken away, but not from how many grams a class has in all.
    """
    counts: dict[int, Array] = {}
    for ids, label in texts:
        for number in class_grams(ids, vocab_size):
            counts.setdefault(number, np.zeros(classes))[label] += 1
    total = sum(counts.values(), np.zeros(classes))
    if without is not None:
        ids, label = texts[without]
        for number in class_grams(ids, vocab_size):
            counts[number][label] -= 1
    return {
        number: np.log(
            (count + 0.1) / (total * (count / np.maximum(total, 1)).sum() / np.count_nonzero(total) + 0.1)
        )
        for number, count in counts.items()
    }


def regressed_grams(
    texts: Sequence[tuple[Sequence[int], int]], classes: int, vocab_size: int
) -> dict[int, Array]:
    """Those of a logistic regression that begins with half of them: four passes of Adagrad, 0.05 and less."""
    weights = {n: own / 2 for n, own in class_gram_weights(texts, classes, vocab_size).items()}
    squares, random = {number: np.full(classes, 0.1) for number in weights}, np.random.default_rng(0)
    for rate in (0.05, 0.0375, 0.025, 0.0125):
        for r in random.permutation(len(texts)):
            ids, label = texts[r]
            found = class_grams(ids, vocab_size)
            root = np.sqrt(len(found))
            p = np.exp(sum(weights[number] for number in found) / root)
            slope = (p / p.sum() - np.eye(classes)[label]) / root
            for number in found:
                squares[number] = squares[number] + slope**2
                weights[number] = weights[number] - rate * slope / np.sqrt(squares[number])
    return weights


def told_by_grams(parameters: Mapping[str, Array], ids: Sequence[int], vocab_size: int) -> Array:
    """What the grams of a text tell of each class."""
    rows = {int(number): n for n, number in enumerate(parameters["grams.numbers"])}
    found = class_grams(ids, vocab_size)
    total = np.zeros(parameters["grams.weights"].shape[1])
    for number in found:
        if number in rows:
            total += (parameters["grams.weights"][rows[number]].astype(float) - 128) / 10
    return total / np.sqrt(len(found))


class Enumerated(NamedTuple):
    scores: dict[tuple[int, ...], float]  # of each sequence of labels
    log_sum: float  # of the exponentials of the scores
    marginals: Array  # (n, N)


def crf_by_enumeration(parameters: Parameters, emissions: Array) -> Enumerated:
    """A linear-chain CRF over emissions (n, N): every sequence of labels, one by one."""
    p, (n, N) = as_float64(parameters), emissions.shape
    scores = {}
    for labels in itertools.product(range(N), repeat=n):
        score = p["crf.start_transitions"][labels[0]] + p["crf.end_transitions"][labels[-1]]
        score += sum(float(emissions[t, label]) for t, label in enumerate(labels))
        score += sum(p["crf.transitions"][pair] for pair in itertools.pairwise(labels))
        scores[labels] = float(score)
    top = max(scores.values())
    log_sum = top + float(np.log(sum(np.exp(score - top) for score in scores.values())))
    marginals = np.zeros((n, N))
    for labels, score in scores.items():
        for t, label in enumerate(labels):
            marginals[t, label] += np.exp(score - log_sum)
    return Enumerated(scores, log_sum, marginals)


def rewrite(
    parameters: Parameters, cell: str, nonlinearity: str, rows: Array, previous: Sequence[int]
) -> list[Array]:
    """The logits of a decoder after each previous character, while it attends to the rows (n, 2H)."""
    p = as_float64(parameters)
    step, _ = cell_functions(cell, nonlinearity)
    table = p["target.embedding.weight"]
    w_ih, w_hh, b_ih, b_hh = (
        p[f"target.rnn.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    H = w_hh.shape[1]
    ends = np.concatenate([rows[-1][: rows.shape[1] // 2], rows[0][rows.shape[1] // 2 :]])
    start = np.tanh(p["target.start.weight"] @ ends + p["target.start.bias"])
    state = tuple(start.reshape(-1, H))
    keys = [p["attention.key.weight"] @ row + p["attention.key.bias"] for row in rows]
    fed, logits = np.zeros(H), []
    for character in previous:
        embedded = table[character] if character < len(table) else np.zeros(table.shape[1])
        state, _ = step(w_ih @ np.concatenate([embedded, fed]) + b_ih, w_hh @ state[0] + b_hh, state)
        if "attention.vector" in p:
            query = p["attention.query.weight"] @ state[0]
            scores = [p["attention.vector"] @ np.tanh(query + key) for key in keys]
        else:
            scores = [state[0] @ key for key in keys]
        context = softmax(np.array(scores)) @ rows
        joined = np.concatenate([context, state[0]])
        fed = np.tanh(p["attention.output.weight"] @ joined + p["attention.output.bias"])
        logits.append(decode(p, fed))
    return logits


# --- counts -------------------------------------------------------------------


class KneserNey:
    """Modified Kneser-Ney smoothing (Chen and Goodman 1999), interpolated; contexts have up to n - 1 symbols.

    stretches: the text's parts, each its characters, 0 .. V-1, and whether a document starts there; if none
    does, what comes before is not known. Grams that occur once and are longer than `once` are left out.
    """

    NOTHING, UNIT = -1, 4096  # discounts are multiples of 1 / UNIT

    def __init__(
        self, stretches: Sequence[tuple[bool, Sequence[int]]], n: int, V: int, once: int = 99
    ) -> None:
        self.n, self.V, self.once = n, V, once
        self.occurrences: dict[tuple[int, ...], dict[int, int]] = {}  # by context, by what follows
        before: dict[tuple[int, ...], set[int]] = {}  # by gram: what precedes it
        for starts, characters in stretches:
            symbols = [V if starts else self.NOTHING, *characters]
            for i in range(1, len(symbols)):
                for k in range(n):
                    context = tuple(symbols[max(i - k, 0) : i])
                    if len(context) < k or self.NOTHING in context:
                        break
                    follow = self.occurrences.setdefault(context, {})
                    follow[symbols[i]] = follow.get(symbols[i], 0) + 1
                    if i - k > 0:
                        before.setdefault((*context, symbols[i]), set()).add(symbols[i - k - 1])
        self.counts = {
            context: {
                w: times if len(context) == n - 1 or context[:1] == (V,) else len(before[(*context, w)])
                for w, times in follow.items()
            }
            for context, follow in self.occurrences.items()
        }
        self.discounts = [self._discounts(k) for k in range(n)]

    def _discounts(self, k: int) -> list[float]:
        """Of the counts 1, 2, and 3 or more after contexts of k symbols."""
        found = [c for context, follow in self.counts.items() if len(context) == k for c in follow.values()]
        n1, n2, n3, n4 = (found.count(j) for j in (1, 2, 3, 4))
        if 0 in (n1, n2, n3, n4):
            return [0.5, 1.0, 1.5]
        y = n1 / (n1 + 2 * n2)
        exact = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
        return [min(max(round(d * self.UNIT) / self.UNIT, 1 / 16), j) for j, d in enumerate(exact, 1)]

    def probability(self, w: int, context: tuple[int, ...], lowest: float = 0.0) -> float:
        """Of w after a context, START being V; one that did not occur says what its end does.

        `lowest` is the probability before anything was counted; 0: 1 / V.
        """
        lowest = lowest or 1 / self.V
        while context not in self.counts:
            if not context:
                return lowest
            context = context[1:]
        shorter = self.probability(w, context[1:], lowest) if context else lowest
        kept, mass = self.told(context)
        total = mass + sum(kept.values())
        return kept.get(w, 0) / total + mass / total * shorter

    def told(self, context: tuple[int, ...]) -> tuple[dict[int, float], float]:
        """Of what follows a context the counts less their discounts, and what is left to the shorter one."""
        follow, kept = self.counts.get(context, {}), {}
        for v, count in follow.items():
            if len(context) < self.once or self.occurrences[context][v] > 1 or not context:
                kept[v] = count - self.discounts[len(context)][min(count, 3) - 1]
        return kept, sum(follow.values()) - sum(kept.values())


def merged(models: Sequence[tuple[float, KneserNey]], w: int, context: tuple[int, ...]) -> float:
    """The probability of w after a context by the counts of several models, each of which has a weight."""
    shorter = merged(models, w, context[1:]) if context else 1 / models[0][1].V
    own, mass, total = 0.0, 0.0, 0.0
    for weight, model in models:
        kept, left = model.told(context)
        own += weight * kept.get(w, 0)
        mass += weight * left
        total += weight * (sum(kept.values()) + left)
    return (own + mass * shorter) / total if total else shorter


class LabelledKneserNey:
    """Of texts with labels: what all of them say, and those with the same label in each column.

    stretches: as KneserNey's, each with the labels of its text; a negative one is unknown.
    """

    SHARE = 0.6  # of what is said by texts with the same label

    def __init__(
        self, stretches: Sequence[tuple[bool, Sequence[int], Sequence[int]]], n: int, V: int, once: int = 99
    ) -> None:
        self.whole = KneserNey([(starts, characters) for starts, characters, _ in stretches], n, V, once)
        known = {key for *_, labels in stretches for key in enumerate(labels) if key[1] >= 0}
        self.own = {
            (column, label): KneserNey([s[:2] for s in stretches if s[2][column] == label], n, V, once)
            for column, label in known
        }
        follows = [list(model.counts.items()) for model in self.own.values()]
        for model in self.own.values():  # counts of counts are those of all labels
            model.counts = {(key, *context): f for key, all_ in enumerate(follows) for context, f in all_}
            discounts = [model._discounts(k + 1) for k in range(n)]
            model.discounts = discounts
        for model, items in zip(self.own.values(), follows, strict=True):
            model.counts = dict(items)

    def probability(self, w: int, context: tuple[int, ...], labels: Sequence[int]) -> float:
        """Of w after a context, in a text with these labels."""
        p = self.whole.probability(w, context)
        for key in enumerate(labels):
            if key in self.own:
                p = (1 - self.SHARE) * p + self.SHARE * self.own[key].probability(w, context, p)
        return p


def gated(
    tensors: Parameters, told: Sequence[float], counts: Sequence[float], logits: Sequence[float]
) -> tuple[float, list[float]]:
    """The weight of the counts, and the probabilities of the mixture.

    told: log(1 + count) of the contexts of 1, 2, .. characters; counts: the counts' probabilities.
    """
    p, q = np.array(counts, np.float64), softmax(np.array(logits, np.float64))
    x = [float(told[k]) if k < len(told) else 0.0 for k in range(9)]
    x += [p.max(), -sum(p * np.log(p)), -np.log(q.max()), -sum(q * np.log(q))]
    hidden = []
    for row, bias in zip(tensors["gate.hidden.weight"], tensors["gate.hidden.bias"], strict=True):
        total = float(bias)
        for weight, value in zip(row, x, strict=True):
            total += float(weight) * value
        hidden.append(np.tanh(total))
    total = float(tensors["gate.output.bias"][0])
    for weight, value in zip(tensors["gate.output.weight"][0], hidden, strict=True):
        total += float(weight) * value
    long_most = float(tensors["gate.most"][0]) if "gate.most" in tensors else 0.2
    most = long_most if x[6] > 0 else 1023 / 1024  # where seven characters occurred
    weight = 1 / 1024 + (most - 1 / 1024) / (1 + np.exp(-total))
    return weight, (weight * p + (1 - weight) * q).tolist()


def attended(parameters: Parameters, outputs: Array) -> Array:
    """The outputs (T, H) of a text from its start, to each of which what it attends to is added.

    A past output is told by the key of the one before it; there are as many lags as `attention.lag` has.
    """
    p = as_float64(parameters)
    keys = [p["attention.key.weight"] @ h + p["attention.key.bias"] for h in outputs]
    found = []
    for t, h in enumerate(outputs):
        query = p["attention.query.weight"] @ h + p["attention.query.bias"]
        weights, context = [1.0], np.zeros(len(h))  # the first is of nothing
        for i in range(max(0, t - len(p["attention.lag"])), t):
            score = query @ keys[i] / np.sqrt(len(query)) + p["attention.lag"][t - i - 1]
            weights.append(np.exp(score))
            context = context + np.exp(score) * outputs[i + 1]
        found.append(h + p["attention.output.weight"] @ (context / sum(weights)) + p["attention.output.bias"])
    return np.stack(found)


def recalled(outputs: Array, x: Sequence[int], p: Array, size: int, how: Sequence[float]) -> Array:
    """The probabilities (T, V) of a model and a cache (Grave et al. 2017) of its last `size` outputs.

    outputs (T, H) of one text from its start, x (T,) what it read, p (T, V) the model's own probabilities of
    what follows. `how` are theta, the most weight of the cache, and how many states give it half of that.
    """
    theta, most, doubt = how
    found = []
    for t in range(len(x)):
        evidence, told = 0.0, np.zeros(p.shape[1])
        for i in range(max(0, t - size), t):
            alike = outputs[t] @ outputs[i] / np.sqrt((outputs[t] @ outputs[t]) * (outputs[i] @ outputs[i]))
            e = np.exp(theta * (alike - 1))
            evidence += e
            told[x[i + 1]] += e
        weight = most * evidence / (evidence + doubt)
        found.append((1 - weight) * p[t] + (weight * told / evidence if evidence else 0.0))
    return np.stack(found)


class GrowingCounts:
    """The decisions and experts of charrnn.kernels.loops.beside.growing, with contexts in place of hashes."""

    def __init__(self, V, letters):
        self.V, self.letters = V, letters
        self.experts = {}  # (expert, context, character) -> [probability of 2^22, how often asked]
        self.weights = {}  # (input, class)

    def contexts(self, document):
        """What each expert goes by after a document's characters."""
        document = list(document)
        characters = [-1] * 7 + document
        word, before = (), ()
        for character in document:
            if character < self.V and self.letters[character]:
                word = (*word, character)
            else:
                word, before = (), word or before
        return [*(tuple(characters[len(characters) - k :]) for k in range(1, 8)), word, (before, word)]

    def decisions(self, logits, document):
        """Each character in order, the probability that it is this one, and the inputs of that decision."""
        logits = np.asarray(logits, np.float64)
        p = np.exp(np.maximum(logits - logits.max(), -87.0))
        p = p / p.sum() + 2.0**-24
        contexts, left = self.contexts(document), p.sum()
        order = sorted(range(self.V), key=lambda c: -p[c])
        for number, character in enumerate(order[: min(256, self.V - 1)]):
            inputs, last = [], 0
            for k, context in enumerate(contexts):
                q, asked = self.experts.get((k, context, character), (0, 0))
                if asked:
                    last = k + 1
                    middle = (q // 1024 + 0.5) / 4096
                    inputs.append((k, min(asked, 9), np.log(middle / (1 - middle))))
            inputs.append((9, last, np.log(p[character] / (left - p[character]))))
            inputs.append((10, min(number, 9), 0.3))
            logit = sum(self.weight(k, n) * x for k, n, x in inputs)
            yield character, 1 / (1 + np.exp(-min(max(logit, -12.0), 12.0))), inputs
            left -= p[character]

    def weight(self, k, n):
        return self.weights.get((k, n), 0.13 if k < 9 else 1 - 0.06 * n if k == 9 else 0.0)

    def probabilities(self, logits, document):
        """Those of all characters after a document's, (V,)."""
        found, chance = np.zeros(self.V), 1.0
        for character, q, _ in self.decisions(logits, document):
            found[character], chance = chance * q, chance * (1 - q)
        p = np.exp(np.maximum(np.asarray(logits, np.float64) - np.max(logits), -87.0))
        p = np.where(found > 0, 0.0, p / p.sum() + 2.0**-24)
        return found + chance * p / p.sum()

    def learn(self, logits, document, character):
        """Learns that the document goes on with the character."""
        contexts = self.contexts(document)
        for guess, q, inputs in list(self.decisions(logits, document)):
            yes = guess == character
            for k, n, x in inputs:
                self.weights[k, n] = self.weight(k, n) + 0.002 * (yes - q) * x
            for k, context in enumerate(contexts):
                was, asked = self.experts.get((k, context, guess), (1 << 21, 0))
                moved = (((1 << 22) - 1 if yes else 0) - was) * int(65536 / (asked + 1.3)) >> 16
                self.experts[k, context, guess] = was + moved, min(asked + 1, 12)
            if yes:
                break


# --- echo-state networks ------------------------------------------------------


def echo(
    table: Array, matrix: Array, leak: float, read_out: Parameters, x: Array, reset: Array
) -> tuple[Array, Array]:
    """Logits (T, B, V) and states (T, B, S); `table` has W_in x + b of each character, and b for START.

    A unit of an upper layer reads the layer below one step before, as it reads its own.
    """
    T, B = x.shape
    table, matrix, p = table.astype(np.float64), matrix.astype(np.float64), as_float64(read_out)
    states = np.zeros((T, B, len(matrix)))
    for t in range(T):
        for b in range(B):
            h = np.zeros(len(matrix)) if t == 0 or reset[t, b] else states[t - 1, b]
            now = np.tanh(table[x[t, b]] + matrix @ h)
            states[t, b] = (1 - leak) * h + leak * now
    return states @ p["decoder.weight"].T + p["decoder.bias"], states


# --- neural Turing machines ---------------------------------------------------


class Turing(NamedTuple):
    """The outputs of a machine (T, B, H + M), and where it looks: the weights of its heads (T, B, 2, N)."""

    outputs: Array
    weights: Array


def turing(parameters: Parameters, x: Array, reset: Array, N: int) -> Turing:
    """A controller with a memory of N rows, from x (T, B, D); where `reset` (T, B) is true, a text begins."""
    p = as_float64(parameters)
    H = p["rnn.weight_hh_l0"].shape[1]
    M = p["rnn.weight_ih_l0"].shape[1] - x.shape[2]
    outputs, weights = [], []
    for b in range(x.shape[1]):
        for t in range(len(x)):
            if t == 0 or reset[t, b]:
                h, c, r, memory = np.zeros(H), np.zeros(H), np.zeros(M), np.full((N, M), 1e-6)
                heads = np.zeros((2, N))
                heads[:, 0] = 1
            z = p["rnn.weight_ih_l0"] @ np.concatenate([x[t, b], r]) + p["rnn.bias_ih_l0"]
            i, f, g, o = np.split(z + p["rnn.weight_hh_l0"] @ h + p["rnn.bias_hh_l0"], 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            told = p["heads.weight"] @ h + p["heads.bias"]
            heads = np.array([_looked(told[n * (M + 6) :][: M + 6], heads[n], memory) for n in range(2)])
            r = heads[0] @ memory
            erase, add = np.split(told[2 * (M + 6) :], 2)
            memory = memory * (1 - np.outer(heads[1], sigmoid(erase))) + np.outer(heads[1], np.tanh(add))
            outputs.append(np.concatenate([h, r]))
            weights.append(heads)
    shape = x.shape[1], len(x)
    return Turing(
        np.array(outputs).reshape(*shape, H + M).swapaxes(0, 1),
        np.array(weights).reshape(*shape, 2, N).swapaxes(0, 1),
    )


def _looked(told: Array, before: Array, memory: Array) -> Array:
    """The weights of a head (N,): by content, then interpolated, shifted and sharpened."""
    M = memory.shape[1]
    key, strength, gate, shifts, sharp = told[:M], told[M], told[M + 1], told[M + 2 : M + 5], told[M + 5]
    lengths = np.sqrt(np.sum(memory**2, axis=1) + 1e-8) * np.sqrt(np.sum(key**2) + 1e-8)
    content = np.exp(log_softmax(np.log1p(np.exp(strength)) * (memory @ key) / lengths))
    now = sigmoid(gate) * content + (1 - sigmoid(gate)) * before
    left, stay, right = np.exp(log_softmax(shifts))
    moved = left * np.roll(now, 1) + stay * now + right * np.roll(now, -1)
    powers = moved ** (1 + np.log1p(np.exp(sharp)))
    return powers / powers.sum()
