"""The interface of a module: names and sizes as data and, bound to the buffers of a window, its passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from charrnn.nn.modules.program import Character, Program

if TYPE_CHECKING:
    import numpy as np

    from charrnn.nn.modules.program import Value
    from charrnn.nn.modules.stream import Stream
    from charrnn.nn.operands import Rows, Share
    from charrnn.nn.parameters import Array
    from charrnn.nn.window import Window

Shapes = dict[str, tuple[int, ...]]


class Bound:
    """A module in a window of T x B: from `x` to `y` and back, columns b0 to b1, steps t0 to t1.

    Threads work side by side, each on its own columns, and then each on its share of the parameters'
    gradients, which are sums over all rows. The next module may change `y` and its gradient in place, so
    `backward` must not read `y`.
    """

    inner: tuple[Bound, ...] = ()  # its parts
    own_inputs: Sequence[Rows] = ()  # those of the window that it has added, with its parts

    def __init__(self, x: Stream, y: Stream) -> None:
        self.x, self.y = x, y

    def connect(self) -> None:
        """Called once, when all modules are bound and have chosen their buffers."""

    def prepare(self) -> None:
        """Compute what depends on characters and parameters alone: once a pass, in one thread."""

    def prepare_share(self, share: Share) -> None:
        """Then compute a share of the same, in all threads."""

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        """Compute `y` from `x`; the steps before t0 are done."""

    def backward(self, b0: int, b1: int) -> None:
        """Compute the gradient of `x` from that of `y`, for all steps."""

    def parameter_gradients(self, share: Share) -> None:
        """Compute a share of the parameters' gradients, after all columns."""

    def late_gradients(self, share: Share) -> None:
        """Compute a share of the gradients that depend on those."""

    def flat(self) -> Iterator[Bound]:
        """The module and all its parts, in order."""
        yield self
        for bound in self.inner:
            yield from bound.flat()


class Stateful(Bound):
    """A module with a state, whose parts are (B, width), of these `widths`."""

    widths: tuple[int, ...]
    reverse = False  # it reads from the end of a text to its beginning
    goes_on = False  # it keeps its state behind a whole text

    def start(self, state: tuple[Array, ...], restart_rows: Any, restarts: tuple[Array, ...]) -> None:
        """Set the initial state; where restart_rows (T, B) is not -1, that row of `restarts`."""
        raise NotImplementedError

    def state(self) -> tuple[Array, ...]:
        """The state after the last step."""
        raise NotImplementedError

    def states_after(self, places: Array) -> tuple[Array, ...]:
        """The states after the positions t * B + b, (n, width) each."""
        raise NotImplementedError

    def state_gradient(self) -> tuple[Array, ...]:
        """The gradient of the initial state, after `backward`."""
        raise NotImplementedError


class Module:
    """A part of a network."""

    widths: tuple[int, ...] = ()  # of the parts of its state, if it has one
    by_row: tuple[str, ...] = ()  # matrices of which single rows are read, without a product
    reads_characters = False  # accepts `Characters`; other modules get a row for each position

    def flat(self) -> Iterator[Module]:
        """The module or, if it consists of others, these, in order."""
        yield self

    def shapes(self) -> Shapes:
        """Names and shapes of the parameters: PyTorch's, where PyTorch has such a module."""
        return {}

    def initial(self, random: np.random.Generator) -> dict[str, Array]:
        """Initial parameters, drawn in the order of `shapes`."""
        return {}

    def bind(self, window: Window, x: Stream) -> Bound:
        """The passes over a window, with the input `x`."""
        raise NotImplementedError

    def step(self, program: Program, x: Any) -> Any:
        """Append what it computes when text is written, one character after another, from the value `x`.

        Modules with `reads_characters` may get a `Character` instead. Returns the value that it passes on.
        """
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

    def stages(self) -> list[slice]:
        """The modules, cut before each one with a state but the first."""
        cuts = [n for n, module in enumerate(self.modules) if any(part.widths for part in module.flat())]
        return [slice(*ends) for ends in pairwise([0, *cuts[1:], len(self.modules)])]

    @property
    def states(self) -> tuple[tuple[int, ...], ...]:
        """For each module with a state, the widths of its parts."""
        return tuple(module.widths for module in self.flat() if module.widths)

    def shapes(self) -> Shapes:
        """All parameters, in the order of files."""
        return {name: shape for module in self.flat() for name, shape in module.shapes().items()}

    def initial(self, random: np.random.Generator) -> dict[str, Array]:
        """All initial parameters."""
        return {name: value for module in self.flat() for name, value in module.initial(random).items()}

    def bind(self, window: Window, x: Stream) -> BoundSequential:
        """All modules, each with the output of the one before as its input, and in the window of that."""
        bounds, y = [], x
        for module in self.modules:
            first = len(window.inputs)
            bounds.append(module.bind(y.window, y if module.reads_characters else y.rows_of_all()))
            bounds[-1].own_inputs = window.inputs[first:]
            y = bounds[-1].y
        return BoundSequential(x, y, tuple(bounds))

    def step(self, program: Program, x: Value | Character) -> Value | Character:
        for module in self.modules:
            x = module.step(program, x if module.reads_characters else program.row(x))
        return x

    def program(self, V: int) -> Program:
        """The step from one of V characters to the logits of the next."""
        program = Program(self.shapes())
        self.step(program, Character(V))
        return program


class BoundSequential(Bound):
    """The passes of modules in a row."""

    def __init__(self, x: Stream, y: Stream, inner: tuple[Bound, ...]) -> None:
        super().__init__(x, y)
        self.inner = inner

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        """From the first module to the last."""
        for bound in self.inner:
            bound.forward(b0, b1, t0, t1)

    def backward(self, b0: int, b1: int) -> None:
        """From the last module to the first."""
        for bound in reversed(self.inner):
            bound.backward(b0, b1)
