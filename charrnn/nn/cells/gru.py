"""The GRU (Cho et al. 2014, in PyTorch's and cuDNN's form).

    r, z = sigma of (W_i x + b_i + W_h h + b_h)
    n = tanh(W_in x + b_in + r (W_hn h + b_hn))
    h' = (1 - z) n + z h

The reset gate acts after the recurrent product, so that b_in and b_hn cannot be merged.
"""

from __future__ import annotations

from typing import Any

from charrnn.nn.cell import OPEN, Cell, Stage


def forward(of: Any) -> tuple[Stage, ...]:
    """n and h'."""
    tanh, blend = of.tanh, of.blend

    def renew(r: Any, z: Any, n: Any, n_h: Any, h: Any) -> Any:
        n = tanh(n + r * n_h)
        return n, blend(n, h, z)

    return (Stage(renew, ("n", "h")),)


def backward(of: Any) -> Stage:
    """Gradients of the gates and of h."""
    through_tanh, complement = of.through_tanh, of.complement

    def gradients(r: Any, z: Any, n: Any, n_h: Any, h: Any, d_h: Any) -> Any:
        d_n = through_tanh(d_h * complement(z), n)
        return d_n * n_h, d_h * (h - n), d_n, d_n * r, d_h * z

    return Stage(gradients, ("r", "z", "n", "n_h", "h"))


CELL = Cell(
    kind="gru",
    place=1,
    gates={"r": "sigmoid", "z": "sigmoid", "n": None},
    separate_hidden_bias=True,
    keeps={"z": OPEN},
    forward=forward,
    backward=backward,
)
