"""What a module is: names and sizes as data, and, bound to the buffers of a window, its passes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from charrnn.nn.modules.stream import Stream
    from charrnn.nn.operands import Share
    from charrnn.nn.parameters import Array
    from charrnn.nn.window import Window

Shapes = dict[str, tuple[int, ...]]


class Bound:
    """A module in a window of T x B: from `x` to `y` and back, columns b0 to b1, steps t0 to t1.

    Threads work side by side, each on columns of its own, and then each on its share of the parameters'
    gradients, whose sums run over all rows. What comes after may change `y` and its gradient in place, so
    backward must not need what forward has passed on.
    """

    inner: tuple[Bound, ...] = ()  # what it is made of

    def __init__(self, x: Stream, y: Stream) -> None:
        self.x, self.y = x, y

    def connect(self) -> None:
        """Once, when the neighbours are bound: what depends on the buffers that they chose."""

    def prepare(self) -> None:
        """Once a pass, in one thread, before the others: what depends on the characters and parameters."""

    def prepare_share(self, share: Share) -> None:
        """After that, in all threads: a share of the same."""

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        """`y` from `x`; the steps before t0 are done."""

    def backward(self, b0: int, b1: int) -> None:
        """The gradient of `x` from that of `y`, all steps."""

    def parameter_gradients(self, share: Share) -> None:
        """After all columns: a share of the gradients."""

    def late_gradients(self, share: Share) -> None:
        """After all of these: a share of what is made of them."""

    def flat(self) -> Iterator[Bound]:
        """It and all that it is made of, in order."""
        yield self
        for bound in self.inner:
            yield from bound.flat()


class Module:
    """A part of a network."""

    widths: tuple[int, ...] = ()  # of the parts of its state, if it remembers anything
    by_row: tuple[str, ...] = ()  # matrices that are read row by row, and by no product
    reads_characters = False  # knows what to do with `Characters`; others are given their rows

    def flat(self) -> Iterator[Module]:
        """The module, or in its place those that it is made of, in order."""
        yield self

    def shapes(self) -> Shapes:
        """Its parameters: names and shapes, PyTorch's where PyTorch has the like."""
        return {}

    def initial(self, random: np.random.Generator) -> dict[str, Array]:
        """How they begin, drawn in the order of `shapes`."""
        return {}

    def bind(self, window: Window, x: Stream) -> Bound:
        """Its passes over windows, reading `x`."""
        raise NotImplementedError


class Sequential(Module):
    """Modules one after another."""

    reads_characters = True

    def __init__(self, *modules: Module) -> None:
        self.modules = modules

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.modules))})"

    def __str__(self) -> str:
        return "\n".join(map(repr, self.modules))

    def flat(self) -> Iterator[Module]:
        for module in self.modules:
            yield from module.flat()

    @property
    def states(self) -> tuple[tuple[int, ...], ...]:
        """The widths of the states of those that remember something."""
        return tuple(module.widths for module in self.flat() if module.widths)

    def shapes(self) -> Shapes:
        """Of all parameters, in the order of files."""
        return {name: shape for module in self.flat() for name, shape in module.shapes().items()}

    def initial(self, random: np.random.Generator) -> dict[str, Array]:
        """All parameters."""
        return {name: value for module in self.flat() for name, value in module.initial(random).items()}

    def bind(self, window: Window, x: Stream) -> BoundSequential:
        """All modules, each reading what the one before passes on."""
        bounds, y = [], x
        for module in self.modules:
            bounds.append(module.bind(window, y if module.reads_characters else y.rows_of_all()))
            y = bounds[-1].y
        return BoundSequential(x, y, tuple(bounds))


class BoundSequential(Bound):
    """Passes over modules in order, and back."""

    def __init__(self, x: Stream, y: Stream, inner: tuple[Bound, ...]) -> None:
        super().__init__(x, y)
        self.inner = inner

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        """Each module, from the first on."""
        for bound in self.inner:
            bound.forward(b0, b1, t0, t1)

    def backward(self, b0: int, b1: int) -> None:
        """Each module, from the last on."""
        for bound in reversed(self.inner):
            bound.backward(b0, b1)
