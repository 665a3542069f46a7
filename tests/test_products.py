"""What a matrix product prefetches, and what a row of numbers comes to."""

from __future__ import annotations

import itertools
import math
from itertools import accumulate
from typing import Any

import numpy as np
import pytest

from charrnn.kernels import reductions
from charrnn.kernels.machine import jit, prefetch
from charrnn.kernels.machine.aligned import LINE, aligned
from charrnn.kernels.machine.prefetch import NOTHING
from charrnn.kernels.products import gemm
from charrnn.nn.operands import additions, middle

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


@pytest.mark.parametrize("counts", [(5,), (40, 7), (3, 520, 1), (9, 8, 7, 6, 5)])
@pytest.mark.parametrize("ks", [(0, 20), (3, 17), (5, 5)])
def test_a_sum_of_outer_products_is_that_of_a_tree_over_parts(counts, ks):
    unit, rng = gemm.unit("float32"), np.random.default_rng(len(counts))
    K, N, R, zero = 20, 70, sum(counts), np.zeros(gemm.PANEL, np.float32)
    A, G = aligned((R, gemm.padded(K)), np.float32), aligned((R, gemm.padded(N)), np.float32)
    A[:, :K], G[:, :N] = rng.standard_normal((R, K)), rng.standard_normal((R, N))
    ends, part = np.array([0, *accumulate(counts)], np.intp), (1, 3, *ks)

    def tree(low: int, high: int) -> Any:
        if high - low > 1:
            return tree(low, middle(low, high)) + tree(middle(low, high), high)
        some, C = slice(ends[low], ends[high]), np.full((gemm.panels(N), K, gemm.PANEL), 7, np.float32)
        gemm.outer_product(unit, C, zero, A[some], G[some], counts[low], part)
        return C

    C = np.full((gemm.panels(N), K, gemm.PANEL), 7, np.float32)
    computed, tree_of_all = (slice(1, 3), slice(*ks)), (ends, additions(len(counts)))
    columns = np.array(list(itertools.pairwise(ends)))
    gemm.sum_of_outer_products(unit, C, zero, A, G[None], columns, tree_of_all, part)
    np.testing.assert_array_equal(C[computed], tree(0, len(counts))[computed])
    C[computed] = 7
    assert (C == 7).all()


def test_a_part_of_outer_products_are_columns_with_zeros_behind_them():
    T, B, K, zero = 5, 4, 20, np.zeros(gemm.PANEL, np.float32)
    G = np.random.default_rng(1).standard_normal((T, B, 64)).astype(np.float32)
    ends, columns = np.array([0, 16, 28], np.intp), np.array([(0, 3), (1, 3)], np.intp)
    A = np.random.default_rng(2).standard_normal((28, K)).astype(np.float32)
    C = np.zeros((2, K, gemm.PANEL), np.float32)
    parts = ends, additions(2)
    gemm.sum_of_outer_products(gemm.unit("float32"), C, zero, A, G, columns, parts, (0, 2, 0, K))
    exact = A[:15].astype(float).T @ G[:, :3].reshape(15, 64) + A[16:26].T @ G[:, 1:3].reshape(10, 64)
    np.testing.assert_allclose(C.transpose(1, 0, 2).reshape(K, 64), exact, atol=1e-5)


def test_a_sum_of_outer_products_takes_transposes_too():
    counts, K = (16, 1040, 48), 20
    A, G = (np.random.default_rng(n).standard_normal((1104, 64)).astype(np.float32) for n in range(2))
    A[:, K:] = 0
    transposed = gemm.unit("float32")
    flags = np.eye(len(transposed), dtype=np.intp)
    transposed[[gemm.wants_transposed(flag) for flag in flags].index(True)] = True
    tree, found = (np.array([0, *accumulate(counts)], np.intp), additions(3)), []
    for unit, a in ((gemm.unit("float32"), A), (transposed, np.ascontiguousarray(A.T))):
        found.append(np.zeros((2, K, gemm.PANEL), np.float32))
        zero, columns = np.zeros(gemm.PANEL, np.float32), np.array(list(itertools.pairwise(tree[0])))
        gemm.sum_of_outer_products(unit, found[-1], zero, a, G[None], columns, tree, (0, 2, 0, K))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("K", [gemm.MOST_ROWS + 1, 1100])
def test_a_large_sum_of_outer_products_is_computed_in_blocks(K):
    A = np.random.default_rng(1).standard_normal((9, K)).astype(np.float32)
    G, C = A[:, :64].copy(), np.zeros((2, K, gemm.PANEL), np.float32)
    ends, columns = np.array([0, 4, 9], np.intp), np.array([(0, 4), (4, 9)], np.intp)
    part, zero = (0, 2, 0, K), np.zeros(gemm.PANEL, np.float32)
    gemm.sum_of_outer_products(gemm.unit("float32"), C, zero, A, G[None], columns, (ends, additions(2)), part)
    exact = A.astype(float).T @ G
    np.testing.assert_allclose(C.transpose(1, 0, 2).reshape(K, -1), exact, atol=1e-5)


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
