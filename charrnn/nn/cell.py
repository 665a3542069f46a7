"""What a recurrent cell is: equations and data. It imports neither NumPy nor Numba."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Stage(NamedTuple):
    """An equation, elementwise or over `rows`: it reads what its parameters name, and computes `writes`.

    Parameters are, forward: a gate after its activation; of a gate without one, `n`, its W_ih x + b_ih, and
    `n_h`, its W_hh h + b_hh, or, where these have no bias each, `n`, their sum; a part of the state, or what
    an earlier stage has computed.

    Backward: the same, each part of the state as it was before the step; what forward has `kept`; and `d_h`,
    `d_c`, .., the gradients of the state after the step. The writes are then what the gradients are of: gates
    after their activation, `n` and `n_h`, and the parts of the state before the step, without what comes
    through the matrix products. A part that is not written has the gradient 0.
    """

    equation: Callable[..., Any]
    writes: tuple[str, ...]
    rows: bool = False  # it takes and returns vectors: for parts of the state that have not H numbers

    @property
    def reads(self) -> tuple[str, ...]:
        """The names of the parameters."""
        code = self.equation.__code__
        return code.co_varnames[: code.co_argcount]


@dataclass(frozen=True, eq=False)
class Cell:
    """A recurrent cell. Everything in the package that differs from cell to cell is derived from this.

    `forward` and `backward` take a module with the functions of one number or of an array that the equations
    are made of: `sigmoid`, `tanh`, `relu`, `blend(a, b, z)` = (1 - z) a + z b, and for backward
    `complement(z)` = 1 - z and `through_tanh(d, y)`, the gradient of x from that of y = tanh(x). There are
    three such modules, since training, the compiled writing loop and NumPy each have their own:
    `kernels.activations`, `kernels.exact_layers` and `inference.numpy_network`.

    A loop over many arrays at once is no vector code. So each stage of `forward` is a loop of its own, after
    one for the activations of the gates; `kept` is what it leaves to `backward` beside the gates.
    """

    kind: str  # as commands and files call it
    place: int  # among the choices, from the first on; the first is the default
    # From the first on, as PyTorch packs them, each with its activation: sigmoid, tanh or relu. Gates with
    # None, which come last, are left to the equations.
    gates: Mapping[str, str | None]
    forward: Callable[[Any], tuple[Stage, ...]]
    backward: Callable[[Any], Stage]
    nonlinearity: str | None = None  # which of several of the kind
    state: tuple[str, ...] = ("h",)  # its parts; h, which has H numbers, comes first and is also the output
    widths: Callable[[int], tuple[int, ...]] | None = None  # the parts' numbers, by H; None: H each
    kept: tuple[str, ...] = ()  # of H numbers each
    separate_hidden_bias: bool = False  # W_hh h + b_hh is wanted apart from W_ih x + b_ih
    recurrent_identity: bool = False  # recurrent weights begin as that, and not orthogonal
    biases: Mapping[str, float] = field(default_factory=dict)  # of gates, at first, where there is no norm
    rate: float = 1.0  # how large a learning rate suits it, beside an LSTM's

    @property
    def name(self) -> str:
        """One name for each cell."""
        return f"{self.kind}_{self.nonlinearity}" if self.nonlinearity else self.kind

    def label(self, kind: str) -> str:
        """How it is shown, with the kind spelt so: "rnn (tanh)"."""
        return f"{kind} ({self.nonlinearity})" if self.nonlinearity else kind

    def state_widths(self, H: int) -> tuple[int, ...]:
        """How many numbers each part of the state has."""
        return self.widths(H) if self.widths else (H,) * len(self.state)

    @property
    def activated(self) -> tuple[str, ...]:
        """The gates that have an activation; these come first."""
        return tuple(gate for gate, activation in self.gates.items() if activation)
