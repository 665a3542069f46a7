"""The activations as kernels compile them: vectors, and what is left over of a row."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest

from charrnn.inference.numpy_network import sigmoid, tanh
from charrnn.kernels import activations
from charrnn.kernels.loss import cross_entropy


def compiled(function):
    @numba.njit(error_model="numpy")
    def apply(x, y):
        for j in range(len(x)):
            y[j] = function(x[j])

    return apply


@pytest.mark.parametrize(
    ("kernel", "plain", "least"),
    [(activations.tanh, tanh, -1.0), (activations.sigmoid, sigmoid, 0.0)],
    ids=["tanh", "sigmoid"],
)
def test_vectors_and_single_numbers_are_those_of_the_plain_network(kernel, plain, least):
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2**32, 400_003, dtype=np.uint64).astype(np.uint32)  # any float32, NaN among them
    x = np.concatenate([bits.view(np.float32), np.linspace(-20, 20, 100_000, dtype=np.float32)])
    x = np.concatenate([x, np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 9.0, -9.0, 18.0], np.float32)])
    apply, y = compiled(kernel), np.empty_like(x)
    with np.errstate(all="ignore"):
        # Backward needs slopes that are not negative: what a last bit leads beyond the limits is cut off.
        expected = np.clip(plain(x), np.float32(least), np.float32(1.0))
    apply(x, y)
    numbers = ~np.isnan(x)
    assert np.isnan(y).tolist() == (~numbers).tolist()
    assert y[numbers].tobytes() == expected[numbers].tobytes()
    for n in range(1, 40):  # rows that are no whole vectors
        row = np.empty(n, np.float32)
        apply(x[-n:], row)
        assert row.tobytes() == y[-n:].tobytes()


@pytest.mark.parametrize("V", [1, 2, 15, 16, 17, 33, 65, 200])
def test_cross_entropy_is_that_of_its_definition(V):
    rng = np.random.default_rng(V)
    logits = np.zeros((3, 4, V + 9), np.float32)
    logits[..., :V] = 8 * rng.standard_normal((3, 4, V))
    logits[0, 0, :V] = -200 * np.arange(V)  # exponentials that are nothing
    targets = rng.integers(0, V, (3, 4)).astype(np.int32)
    wide = logits[..., :V].astype(np.float64)
    losses, gradient = np.zeros((3, 4), np.float32), logits.copy()
    cross_entropy(gradient, targets, np.full_like(losses, 0.5), losses, V, 0, 4)
    for t in range(3):
        for b in range(4):
            row, target = wide[t, b], targets[t, b]
            p = np.exp(row - row.max())
            p /= p.sum()
            loss = math.log(np.exp(row - row.max()).sum()) - (row[target] - row.max())
            assert losses[t, b] == pytest.approx(loss, rel=2e-6, abs=2e-6)
            p[target] -= 1
            np.testing.assert_allclose(gradient[t, b, :V], 0.5 * p, rtol=0, atol=2e-7)
    assert not gradient[..., V:].any()
