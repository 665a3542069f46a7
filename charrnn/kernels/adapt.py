"""A step of dynamic evaluation (Krause et al. 2018) on the flat parameter vector."""

from __future__ import annotations

import math
from typing import Any

from charrnn.kernels.jit import njit


@njit()
def adapt(
    parameters: Any, trained: Any, gradient: Any, squares: Any, count: int, rate: float, decay: float,
    epsilon: float,
) -> None:  # fmt: skip
    """One update in place, the `count`-th; `squares` sums those of all gradients so far.

    s = s + g^2
    p = p + decay (trained - p) - rate g / (sqrt(s / count) + epsilon)
    """
    number = parameters.dtype.type
    root, small = number(1.0 / math.sqrt(count)), number(epsilon)
    step, back = number(rate), number(decay)
    for j in range(len(parameters)):
        g = gradient[j]
        s = squares[j] + g * g
        squares[j] = s
        p = parameters[j]
        parameters[j] = p + back * (trained[j] - p) - step * g / (math.sqrt(s) * root + small)
