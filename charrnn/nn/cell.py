"""The interface of a recurrent cell: equations and data. Imports neither NumPy nor Numba."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

OPEN = 100.0  # the input of a sigmoid gate that lets all through: the sigmoid of it is 1 in float32


class Stage(NamedTuple):
    """An equation of numbers or `rows`. The names of its parameters are its inputs, `writes` its results.

    Forward parameters: gates after their activation; for a gate n without one, `n`, its W_ih x + b_ih, and
    `n_h`, its W_hh h + b_hh, or, without `separate_hidden_bias`, `n`, the sum of both; parts of the state;
    and results of earlier stages.

    Backward parameters: the same, with the state before the step; the values `kept` by forward; and `d_h`,
    `d_c`, .., the gradients of the state after the step. `writes` names the values whose gradients are
    returned: gates after their activation, `n` and `n_h`, and parts of the state before the step, where the
    gradient through the matrix products is added elsewhere. A part that is not written has the gradient 0.
    """

    equation: Callable[..., Any]
    writes: tuple[str, ...]
    rows: bool = False  # it takes vectors and returns new ones, for parts of the state of other sizes than H

    @property
    def reads(self) -> tuple[str, ...]:
        """The names of the equation's parameters."""
        code = self.equation.__code__
        return code.co_varnames[: code.co_argcount]


@dataclass(frozen=True, eq=False)
class Cell:
    """A recurrent cell. Everything in the package that depends on the cell is derived from this.

    `forward` and `backward` take a module with the elementwise functions that the equations use: `sigmoid`,
    `tanh`, `relu`, `exp(x)` for x <= 0, `blend(a, b, z)` = (1 - z) a + z b, and for backward `complement(z)`
    = 1 - z and `through_tanh(d, y)`, the gradient of x from that of y = tanh(x). Constants are `number(0.5)`;
    equations of rows use arithmetic on arrays and, since sums have one order, `row_sums(x)` of a matrix.
    There are three such modules: training uses `kernels.activations`, the compiled writing loop
    `kernels.exact_layers`, NumPy `inference.numpy_network`.

    Compilers do not vectorise loops over many arrays, so each stage of `forward` becomes a loop of its own,
    after one for the activations of the gates. `kept` names the values that it saves for `backward` besides
    the gates.
    """

    kind: str  # as commands and files call it
    place: int  # in the order of the choices; 0 is the default
    # In PyTorch's order, each with its activation: sigmoid, tanh or relu. Gates with None come last; their
    # activation is part of the equations.
    gates: Mapping[str, str | None]
    forward: Callable[[Any], tuple[Stage, ...]]
    backward: Callable[[Any], Stage]
    nonlinearity: str | None = None  # distinguishes the cells of a kind
    state: tuple[str, ...] = ("h",)  # its parts; h, of H numbers, comes first and is also the output
    widths: Callable[[int], tuple[int, ...]] | None = None  # of the parts, by H; None: H each
    kept: tuple[str, ...] = ()  # (H,) each
    separate_hidden_bias: bool = False  # the equations need W_hh h + b_hh separate from W_ih x + b_ih
    recurrent_identity: bool = False  # initial recurrent weights: the identity, not orthogonal
    biases: Mapping[str, float] = field(default_factory=dict)  # initial, by gate; without norm only
    learning_rate_scale: float = 1.0  # relative to an LSTM's
    # The inputs of gates with which the last part of a unit's state stays as it is, to the last bit.
    keeps: Mapping[str, float] = field(default_factory=dict)
    is_made: bool = False  # its weights are made from a seed: see modules.writing.reservoir
    controller: str | None = None  # the kind of the cell that has a memory: see modules.writing.memory

    @property
    def name(self) -> str:
        """A unique name."""
        return f"{self.kind}_{self.nonlinearity}" if self.nonlinearity else self.kind

    @property
    def is_layer(self) -> bool:
        """Whether it makes layers that learn, any number of them one above the other."""
        return not self.is_made and self.controller is None

    def label(self, kind: str) -> str:
        """The name for display, with the spelling `kind`: "rnn (tanh)"."""
        return f"{kind} ({self.nonlinearity})" if self.nonlinearity else kind

    def state_widths(self, H: int) -> tuple[int, ...]:
        """How many numbers each part of the state has."""
        return self.widths(H) if self.widths else (H,) * len(self.state)

    @property
    def activated(self) -> tuple[str, ...]:
        """The gates that have an activation; these come first."""
        return tuple(gate for gate, activation in self.gates.items() if activation)
