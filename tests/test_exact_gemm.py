"""The compiled products add up in the order of numpy_network.product, however many rows there are."""

from __future__ import annotations

import numpy as np
import pytest

from charrnn.inference import numpy_network
from charrnn.kernels.machine import jit
from charrnn.kernels.machine.native_calls import address_of, call
from charrnn.kernels.products.exact_gemm import PANEL, Operands, in_panels, padded, panel_product

pytestmark = pytest.mark.skipif(jit.JIT_DISABLED, reason="the tile is machine code")


@jit.njit()
def product(address, C, A, B, bias, rows, first, last):
    """C[:rows] = A[:rows] B + bias in panels `first` to `last`."""
    operands = Operands(
        C.ctypes.data, C.shape[1], bias.ctypes.data, A.ctypes.data, A.shape[1], B.ctypes.data,
        B.shape[1] * B.shape[2], B.shape[1], B.shape[2] < PANEL,
    )  # fmt: skip
    call(address, (operands, rows, first, last))


@pytest.fixture(scope="module")
def address():
    return address_of(panel_product)


@pytest.mark.parametrize("outputs", [1, 32, 33, 130, 256])
@pytest.mark.parametrize("K", [1, 2, 9, 128])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_a_product_is_that_of_the_plain_network(address, outputs, K, half):
    rng = np.random.default_rng(K)
    # Terms of all sizes and signs: in any other order the rounding would be different.
    weight = (rng.standard_normal((outputs, K)) * 10.0 ** rng.uniform(-3, 3, (outputs, K))).astype(np.float32)
    weight = numpy_network.bfloat16(weight) if half else weight
    bias = rng.standard_normal(outputs).astype(np.float32)
    matrix = numpy_network.transposed(weight)
    panels = in_panels(matrix, half)
    width = len(panels) * PANEL
    assert panels.shape == (-(-outputs // PANEL), K, PANEL // 2 if half else PANEL)
    x = rng.standard_normal((40, K)).astype(np.float32)
    expected = np.array([numpy_network.product(matrix, row)[:outputs] + bias for row in x])
    for rows in (*range(1, 14), 23, 24, 31, 32, 33, 39):
        result = np.full((40, width), 7, np.float32)
        product(address, result, x, panels, padded(bias), rows, 0, len(panels))
        assert result[:rows, :outputs].tobytes() == expected[:rows].tobytes()
        assert (result[:rows, outputs:] == 0).all()
        assert (result[rows:] == 7).all()


def test_the_sign_of_zero_is_that_of_the_first_term(address):
    matrix = np.zeros((1, 16), np.float32)
    result, x = np.empty((1, PANEL), np.float32), np.array([[-1.0]], np.float32)
    product(address, result, x, in_panels(matrix), np.full(PANEL, -0.0, np.float32), 1, 0, 1)
    assert np.signbit(result[0, :16]).all()
    assert np.signbit(numpy_network.product(matrix, x[0])).all()


@pytest.mark.parametrize("rows", [1, 3])
def test_a_product_can_be_cut_at_any_panel(address, rows):
    rng = np.random.default_rng(1)
    x, matrix = rng.standard_normal((rows, 5), np.float32), rng.standard_normal((5, 11 * PANEL), np.float32)
    panels, bias = in_panels(matrix), rng.standard_normal(11 * PANEL).astype(np.float32)
    whole = np.empty((rows, 11 * PANEL), np.float32)
    product(address, whole, x, panels, bias, rows, 0, 11)
    for first in range(12):
        for last in range(first, 12):
            part = np.full_like(whole, 7)
            product(address, part, x, panels, bias, rows, first, last)
            own = slice(first * PANEL, last * PANEL)
            assert part[:, own].tobytes() == whole[:, own].tobytes()
            assert (part[:, : own.start] == 7).all()
            assert (part[:, own.stop :] == 7).all()


def test_panels_hold_32_columns_row_by_row():
    matrix = np.arange(2 * 3 * 40, dtype=np.float32).reshape(2, 3, 40)
    panels = in_panels(matrix)
    assert panels.shape == (2, 2, 3, PANEL)
    np.testing.assert_array_equal(panels[1, 0], matrix[1, :, :32])
    np.testing.assert_array_equal(panels[1, 1, :, :8], matrix[1, :, 32:])
    assert not panels[:, 1, :, 8:].any()
