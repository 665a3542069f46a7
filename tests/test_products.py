"""What a matrix product prefetches, and what a row of numbers comes to."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from charrnn.kernels import reductions
from charrnn.kernels.machine import jit, prefetch
from charrnn.kernels.machine.aligned import LINE, aligned
from charrnn.kernels.machine.prefetch import NOTHING
from charrnn.kernels.products import gemm

pytestmark = pytest.mark.skipif(jit.JIT_DISABLED, reason="needs machine code")


def lines_of(array):
    """The addresses of the cache lines that an array begins in and goes through."""
    first = array.ctypes.data // LINE * LINE
    return set(range(first, array.ctypes.data + array.nbytes, LINE))


@pytest.mark.parametrize("depth", [1, 7, 64])
@pytest.mark.parametrize(("b0", "b1"), [(0, 8), (2, 7)])
@pytest.mark.parametrize("t", [0, 1])
def test_the_last_tiles_of_a_product_prefetch_what_is_worked_on_next_the_soonest_last(depth, b0, b1, t):
    B = 8
    near, far = aligned((3, B, 112), np.float32), aligned((2, B, 48), np.float32)
    table = prefetch.table((near, 1), (np.zeros((0, 0, 0), np.float32), 0), (far, 0))
    plan = np.empty((len(table), 3), np.intp)
    prefetch.plan_step(plan, table, t * B + b0, b1 - b0, depth)
    reached: list[set[int]] = []  # by tile, the last one first
    for left in itertools.count():
        first, step = prefetch.ahead(plan.ctypes.data, len(plan), left, depth, 12345)
        if first == 12345:
            assert step == 0  # a tile that has nothing to prefetch stays where it is
            break
        reached.append({first + k * step for k in range(depth)})
    wanted = [lines_of(near[t + 1, b0:b1]), lines_of(far[t, b0:b1])]
    tiles = [-(-len(lines) // depth) for lines in wanted]
    assert len(reached) == sum(tiles)
    assert set().union(*reached[: tiles[0]]) >= wanted[0]
    assert set().union(*reached[tiles[0] :]) >= wanted[1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_product_is_the_same_whatever_it_prefetches(dtype):
    unit = gemm.unit(np.dtype(dtype).name)
    rng = np.random.default_rng(1)
    K, N, T, B = 40, 70, 3, 9
    A, W = aligned((T, B, gemm.padded(K)), dtype), aligned((gemm.panels(N), K, gemm.PANEL), dtype)
    bias, D = aligned((gemm.padded(N),), dtype), aligned((T, B, gemm.padded(N)), dtype)
    for array in (A, W, bias, D):
        array[:] = rng.standard_normal(array.shape)
    nowhere = np.array([[12, 5, LINE], [-(10**15), 1000, 4096]], np.intp)  # addresses where nothing is
    width = W.shape[0] * gemm.PANEL
    for init in (bias, D):
        for b0, b1 in ((0, B), (2, 7), (3, 3)):
            expected, found = np.zeros((2, *D.shape), dtype)
            gemm.product(unit, expected, init, A, W, K, (b0, b1), NOTHING)
            gemm.product(unit, found, init, A, W, K, (b0, b1), nowhere)
            assert found.tobytes() == expected.tobytes()
            exact = np.einsum("tbk,pkj->tbpj", A[..., :K].astype(float), W).reshape(T, B, width)
            exact += init[..., :width]
            assert np.abs(exact - expected[..., :width])[:, b0:b1].max(initial=0) < 1e-4
            assert not expected[:, :b0].any()
            assert not expected[:, b1:].any()


@pytest.mark.parametrize("rows", [1, 16, 511, 512, 513, 1100])
@pytest.mark.parametrize("ks", [(0, 20), (0, 7), (7, 20), (5, 5)])
def test_the_gradient_of_a_weight_is_the_sum_of_outer_products(rows, ks):
    unit, rng = gemm.unit("float32"), np.random.default_rng(rows)
    K, N = 20, 70
    A, G = aligned((rows, gemm.padded(K)), np.float32), aligned((rows, gemm.padded(N)), np.float32)
    A[:, :K], G[:, :N] = rng.standard_normal((rows, K)), rng.standard_normal((rows, N))
    C = np.full((gemm.panels(N), K, gemm.PANEL), 7, np.float32)
    gemm.outer_product(unit, C, np.zeros(gemm.PANEL, np.float32), A, G, rows, (1, 3, *ks))
    exact = A[:, :K].astype(float).T @ G[:, : len(C) * gemm.PANEL]
    found = C.transpose(1, 0, 2).reshape(K, -1)
    computed = slice(*ks), slice(gemm.PANEL, None)
    assert np.abs(exact - found)[computed].max(initial=0) < 1e-3
    found[computed] = 7
    assert (found == 7).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 64, 65, 100])
def test_the_largest_number_of_a_row(dtype, n):
    rng = np.random.default_rng(n)
    row = rng.standard_normal(n + 5).astype(dtype)
    row[n:] = 99  # beyond the row
    for place in range(n):
        row[place] += 20
        assert reductions.largest(row, n) == row[:n].max() == row[place]
        row[place] -= 20
    row[rng.integers(n)] = math.nan  # is no number
    rest = row[:n][~np.isnan(row[:n])]
    assert reductions.largest(row, n) == (rest.max() if len(rest) else -math.inf)
    row[:n] = math.inf
    assert reductions.largest(row, n) == math.inf
