"""Updates of the flat parameter vector: AdamW, and the step of dynamic evaluation."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from charrnn.kernels.machine.jit import njit
from charrnn.kernels.reductions import total_of_products

BLOCK = 4096  # elements of one partial sum of the gradient's norm


@njit()
def squared_norms(partial: Any, gradient: Any, n0: int, n1: int) -> None:
    """partial[n] = the sum of squares of the gradient's block n, for n0 <= n < n1."""
    for n in range(n0, n1):
        block = gradient[n * BLOCK : (n + 1) * BLOCK]
        partial[n] = total_of_products(block, block, gradient.dtype.type(0), len(block))


class AdamWStep(NamedTuple):
    """The coefficients of one step."""

    scale: float  # of the gradient: clipping
    learning_rate: float
    beta1: float
    beta2: float
    correction1: float  # 1 - beta1^steps
    correction2: float  # 1 - beta2^steps
    epsilon: float
    weight_decay: float
    l1: float


@njit()
def adamw(parameters: Any, gradient: Any, m: Any, v: Any, n0: int, n1: int, step: Any) -> None:
    """AdamW in place (Kingma & Ba 2015; Loshchilov & Hutter 2019), on elements n0 to n1 of flat vectors.

    g = scale g
    p = p - rate decay p
    m = beta1 m + (1 - beta1) g,    v = beta2 v + (1 - beta2) g^2
    p = p - rate (m / correction1) / (sqrt(v / correction2) + epsilon)
    p = sign(p) max(|p| - rate l1, 0)
    """
    number = parameters.dtype.type
    parameters, gradient, m, v = parameters[n0:n1], gradient[n0:n1], m[n0:n1], v[n0:n1]
    one, zero = number(1), number(0)
    keep = one - number(step.learning_rate * step.weight_decay)
    b1, b2, factor = number(step.beta1), number(step.beta2), number(step.scale)
    rate = number(step.learning_rate / step.correction1)
    root = number(1.0 / math.sqrt(step.correction2))
    small, shrink = number(step.epsilon), number(step.learning_rate * step.l1)
    for j in range(len(parameters)):
        g = gradient[j] * factor
        m[j] = b1 * m[j] + (one - b1) * g
        v[j] = b2 * v[j] + (one - b2) * g * g
        p = parameters[j] * keep - rate * m[j] / (math.sqrt(v[j]) * root + small)
        parameters[j] = p
    if step.l1 > 0:
        for j in range(len(parameters)):
            p = parameters[j]
            size = abs(p) - shrink
            size = size if size > zero else zero
            parameters[j] = -size if p < zero else size


@njit()
def average(mean: Any, parameters: Any, n0: int, n1: int, weight: float) -> None:
    """mean = mean + weight (parameters - mean), on elements n0 to n1 of flat vectors."""
    mean, parameters, factor = mean[n0:n1], parameters[n0:n1], parameters.dtype.type(weight)
    for j in range(len(mean)):
        mean[j] += factor * (parameters[j] - mean[j])


@njit()
def adapt(
    parameters: Any, trained: Any, gradient: Any, squares: Any, count: int, rate: float, decay: float,
    epsilon: float,
) -> None:  # fmt: skip
    """Update number `count`, in place (Krause et al. 2018); `squares` sums the squares of all gradients.

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
