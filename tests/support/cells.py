"""All cells of the package, and cells that it does not have: their states have other parts."""

from __future__ import annotations

from typing import Any

from charrnn.nn import cells
from charrnn.nn.cell import Cell, Stage

CELLS = [(cell.kind, cell.nonlinearity or "tanh") for cell in cells.CELLS.values() if cell.is_layer]


def remember(of: Any) -> tuple[Stage, ...]:
    """Nobody's cell: a matrix of H x H numbers, and one number a row, over whole rows.

    n' = n / 2 + sum(f)
    C' = diag(f) C + v k^T
    h' = C' q / (1 + n'^2)
    """
    half, one, row_sums = of.number(0.5), of.number(1), of.row_sums

    # In loops over single numbers, for which Numba compiles far less than for expressions of arrays.
    def equation(f: Any, k: Any, v: Any, q: Any, n: Any, C: Any) -> Any:
        H = len(k)
        after_n, after_C, read = row_sums(f.reshape(1, H)), C.copy(), C.copy()
        after_n[0] += n[0] * half
        for a in range(H):
            for b in range(H):
                j = a * H + b
                after_C[j] = C[j] * f[a] + v[a] * k[b]
                read[j] = after_C[j] * q[b]
        h = row_sums(read.reshape(H, H))
        for a in range(H):
            h[a] /= one + after_n[0] * after_n[0]
        return after_n, after_C, h

    return (Stage(equation, ("n", "C", "h"), rows=True),)


def through_memory(of: Any) -> Stage:
    half, zero, one = of.number(0.5), of.number(0), of.number(1)

    def gradients(f: Any, k: Any, v: Any, q: Any, n: Any, C: Any, d_h: Any, d_n: Any, d_C: Any) -> Any:
        H = len(k)
        after_n, d_scale = n * half, n * zero
        for a in range(H):
            after_n[0] += f[a]
        scale = one / (one + after_n[0] * after_n[0])
        d_f, d_before = f * zero, C.copy()
        d_k, d_v, d_q = d_f.copy(), d_f.copy(), d_f.copy()
        for a in range(H):
            for b in range(H):
                j = a * H + b
                after_C = C[j] * f[a] + v[a] * k[b]
                d = d_C[j] + d_h[a] * scale * q[b]
                d_f[a] += d * C[j]
                d_k[b] += d * v[a]
                d_v[a] += d * k[b]
                d_q[b] += d_h[a] * scale * after_C
                d_scale[0] += d_h[a] * after_C * q[b]
                d_before[j] = d * f[a]
        d_n = d_n - d_scale * (after_n + after_n) * (scale * scale)
        for a in range(H):
            d_f[a] += d_n[0]
        return d_f, d_k, d_v, d_q, d_n * half, d_before

    return Stage(gradients, ("f", "k", "v", "q", "n", "C"), rows=True)


MATRIX = Cell(
    kind="matrix",
    place=11,
    gates={"f": "sigmoid", "k": "tanh", "v": "tanh", "q": "tanh"},
    state=("h", "n", "C"),
    widths=lambda H: (H, 1, H * H),
    forward=remember,
    backward=through_memory,
)


def slstm(of: Any) -> tuple[Stage, ...]:
    """The sLSTM (Beck et al. 2024), with one head and an exponential forget gate.

    m' = max(f~ + m, i~)     i = exp(i~ - m')     f = exp(f~ + m - m')
    c' = f c + i z     n' = f n + i     h' = o c' / n'
    """
    relu, exp = of.relu, of.exp

    def stabilise(i: Any, f: Any, m: Any) -> Any:
        d = i - (f + m)
        return exp(-relu(-d)), exp(-relu(d)), f + m + relu(d)

    def accumulate(i: Any, f: Any, z: Any, c: Any, n: Any) -> Any:
        return f * c + i * z, f * n + i

    def show(o: Any, c: Any, n: Any) -> Any:
        ratio = c / n
        return ratio, o * ratio

    return (
        Stage(stabilise, ("i", "f", "m")),
        Stage(accumulate, ("c", "n")),
        Stage(show, ("ratio", "h")),
    )


def through_slstm(of: Any) -> Stage:
    through_relu, complement = of.through_relu, of.complement

    def gradients(
        i: Any, f: Any, z: Any, o: Any, c: Any, n: Any, ratio: Any, d_h: Any, d_c: Any, d_n: Any, d_m: Any
    ) -> Any:
        share = d_h * o / (f * n + i)
        d_c, d_n = d_c + share, d_n - share * ratio
        above = through_relu(d_m - (d_c * c + d_n * n) * f, complement(f))
        d = above + through_relu((d_c * z + d_n) * i, complement(i))
        return d_c * i, d_h * ratio, d, d_m - d, d_c * f, d_n * f, d_m - d

    return Stage(gradients, ("z", "o", "i", "f", "c", "n", "m"))


SLSTM = Cell(
    kind="slstm",
    place=12,
    gates={"z": "tanh", "o": "sigmoid", "i": None, "f": None},
    state=("h", "c", "n", "m"),
    kept=("ratio",),
    forward=slstm,
    backward=through_slstm,
)
