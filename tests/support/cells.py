"""All cells of the package, and cells that it does not have: their states have other parts."""

from __future__ import annotations

from typing import Any

from charrnn.nn import cells
from charrnn.nn.cell import Cell, Stage

CELLS = [(cell.kind, cell.nonlinearity or "tanh") for cell in cells.CELLS.values()]


def remember(of: Any) -> tuple[Stage, ...]:
    """Nobody's cell: a matrix of H x H numbers, and one number a row, over whole rows.

    n' = n / 2 + sum(f)
    C' = diag(f) C + v k^T
    h' = C' q / (1 + n'^2)
    """
    half, one, row_sums = of.number(0.5), of.number(1), of.row_sums

    def equation(f: Any, k: Any, v: Any, q: Any, n: Any, C: Any) -> Any:
        H = len(k)
        after_n = n * half + row_sums(f.reshape(1, H))
        after_C = C.reshape(H, H) * f.reshape(H, 1) + v.reshape(H, 1) * k
        h = row_sums(after_C * q) / (one + after_n * after_n)
        return after_n, after_C.reshape(H * H), h

    return (Stage(equation, ("n", "C", "h"), rows=True),)


def through_memory(of: Any) -> Stage:
    half, one, row_sums = of.number(0.5), of.number(1), of.row_sums

    def gradients(f: Any, k: Any, v: Any, q: Any, n: Any, C: Any, d_h: Any, d_n: Any, d_C: Any) -> Any:
        H = len(k)
        after_n, before = n * half + row_sums(f.reshape(1, H)), C.reshape(H, H)
        after_C = before * f.reshape(H, 1) + v.reshape(H, 1) * k
        scale = one / (one + after_n * after_n)
        d_scale = row_sums((d_h * row_sums(after_C * q)).reshape(1, H))
        d_n = d_n - d_scale * (after_n + after_n) * scale * scale
        d = d_C.reshape(H, H) + (d_h * scale).reshape(H, 1) * q
        # Sums over columns are those over the rows of the transposed matrix.
        d_k, d_q = row_sums((d * v.reshape(H, 1)).T), row_sums((after_C * (d_h * scale).reshape(H, 1)).T)
        d_f = row_sums(d * before) + d_n
        return d_f, d_k, row_sums(d * k), d_q, d_n * half, (d * f.reshape(H, 1)).reshape(H * H)

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
