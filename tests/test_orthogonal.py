"""Orthogonal matrices, to the same bits everywhere."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from charrnn.kernels import orthogonal


def made(H: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Numbers in -1 .. 1 that need no generator of a library."""
    values, state = np.empty(H * H), 1
    for n in range(H * H):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        values[n] = (state >> 11) / 2.0**52 - 1.0
    return values.reshape(H, H)


@pytest.mark.parametrize("H", [1, 2, 3, 15, 16, 17, 33, 80, 130])
def test_it_is_the_orthogonal_part_of_the_matrix(H: int) -> None:
    a = made(H)
    q, r = np.linalg.qr(a)
    orthogonal.orthogonalize(a)
    np.testing.assert_allclose(a, q * np.where(np.diag(r) < 0, -1.0, 1.0), atol=1e-9)
    np.testing.assert_allclose(a.T @ a, np.eye(H), atol=1e-9)


def test_its_bits_are_the_same_on_every_machine() -> None:
    """Recorded on x86-64 with AVX2; nothing in it depends on a library, on vectors or on threads."""
    a = made(70)
    orthogonal.orthogonalize(a)
    digest = hashlib.sha256(a.astype("<f8").tobytes()).hexdigest()
    assert digest == "534b4ed8bb63ee3c1da025a4361d6cdb16b7c88acd7c453ea7a955e7873b1982"
