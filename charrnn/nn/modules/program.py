"""A step of a network when it writes: a list of operations, which modules append and both engines carry out.

Operation n computes value n, a row of numbers for each text; a value is named by its number. Parameters are
named as in `Module.shapes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from charrnn.nn.cell import Cell

Value = int
Equation = Callable[..., Any]


class Character(NamedTuple):
    """The character that is read: a row of the matrix `embedding` or, without one, one-hot. START is zero."""

    width: int
    embedding: str | None = None


class LookUp(NamedTuple):
    """W x + b of a character x, or x itself, from a table with a row for each character."""

    width: int
    x: Character
    weight: str | None
    bias: str | None


class Product(NamedTuple):
    """W x + b."""

    width: int
    x: Value
    weight: str
    bias: str


class Rows(NamedTuple):
    """A fixed row for each character (V + 1, width), of which the last is START's and an end's."""

    width: int
    rows: Any


class Connect(NamedTuple):
    """Sums over K connections, y[i] = sum of weights[k, i] x[places[k, i]], and behind them zeros."""

    width: int
    x: Value
    weights: Any  # (K, S)
    places: Any  # (K, S)


class Hidden(NamedTuple):
    """The first part of a layer's state before the step, to be read before `Advance`."""

    width: int
    layer: int


class Advance(NamedTuple):
    """A layer's state anew, from W_ih x + b_ih and W_hh h + b_hh; the value is its first part."""

    width: int
    layer: int
    cell: Cell
    input: Value
    recurrent: Value


class Norm(NamedTuple):
    """Layer norm."""

    width: int
    x: Value
    weight: str
    bias: str


class Sum(NamedTuple):
    """x + y."""

    width: int
    x: Value
    y: Value


class Join(NamedTuple):
    """[x; y]."""

    width: int
    x: Value
    y: Value


class Elementwise(NamedTuple):
    """An equation of other values; see `Program.elementwise`."""

    width: int
    equation: Equation
    inputs: tuple[Value, ...]


class Mix(NamedTuple):
    """Logits become log-probabilities, mixed with those of counts, whose context is a layer's state."""

    width: int
    x: Value
    layer: int


class Recall(NamedTuple):
    """The same with those of a cache (charrnn.recall), which is the state of the layers from `layer` on."""

    width: int
    x: Value
    hidden: Value
    layer: int


class Attend(NamedTuple):
    """A mean of past values `hidden`, see charrnn.nn.modules.writing.retrospection.

    The state of the layers from `layer` on has these behind their keys, `each` in a layer, and then a layer
    of numbers: the place of the key whose value is yet to come, plus 1, or 0; and how many are whole.
    """

    width: int
    hidden: Value
    query: Value
    key: Value
    lag: str
    layer: int
    each: int

    def layers(self, span: int) -> int:
        """How many layers the state has."""
        return -(-span // self.each) + 1


class Remember(NamedTuple):
    """What a memory tells, after a step that its heads were `told`; see charrnn.nn.modules.writing.memory.

    The layer's state is the memory's.
    """

    width: int
    told: Value
    layer: int
    rows: int


Operation = (
    LookUp | Rows | Product | Connect | Hidden | Advance | Norm | Sum | Join | Elementwise | Mix | Recall
    | Attend | Remember
)  # fmt: skip


class Program:
    """The operations in order, and the widths of the parts of each layer's state.

    `shapes` are those of the parameters. The last operation computes the logits, or what takes their place.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = shapes
        self.operations: list[Operation] = []
        self.states: list[tuple[int, ...]] = []

    def _append(self, operation: Operation) -> Value:
        self.operations.append(operation)
        return len(self.operations) - 1

    def product(self, x: Value | Character, weight: str, bias: str) -> Value:
        """W x + b."""
        width = self.shapes[weight][0]
        if isinstance(x, Character):
            return self._append(LookUp(width, x, weight, bias))
        return self._append(Product(width, x, weight, bias))

    def row(self, x: Value | Character) -> Value:
        """The value itself; of characters, their rows."""
        return self._append(LookUp(x.width, x, None, None)) if isinstance(x, Character) else x

    def rows(self, rows: Any) -> Value:
        """The row of the character that is read, of these."""
        return self._append(Rows(rows.shape[1], rows))

    def connect(self, x: Value, weights: Any, places: Any, width: int) -> Value:
        """Sums over the connections to x, and zeros up to the width; see Connect."""
        return self._append(Connect(width, x, weights, places))

    def hidden(self, widths: tuple[int, ...]) -> Value:
        """The first part of the state of a new layer, before the step."""
        self.states.append(widths)
        return self._append(Hidden(widths[0], len(self.states) - 1))

    def advance(self, cell: Cell, input: Value, recurrent: Value) -> Value:
        """The same of the layer that was last begun, after the step."""
        layer = len(self.states) - 1
        return self._append(Advance(self.states[layer][0], layer, cell, input, recurrent))

    def norm(self, x: Value, weight: str, bias: str) -> Value:
        """Layer norm with these factors and summands."""
        return self._append(Norm(self.shapes[weight][0], x, weight, bias))

    def sum(self, x: Value, y: Value) -> Value:
        """x + y."""
        return self._append(Sum(self.operations[x].width, x, y))

    def join(self, x: Value, y: Value) -> Value:
        """[x; y]."""
        return self._append(Join(self.operations[x].width + self.operations[y].width, x, y))

    def elementwise(self, equation: Equation, *inputs: Value) -> Value:
        """equation(of)(*inputs), where `of` has the functions that equations of cells may use, see nn.cell.

        It is a function of a module, since its file identifies its machine code.
        """
        return self._append(Elementwise(self.operations[inputs[0]].width, equation, inputs))

    def mix(self, logits: Value, context: int) -> Value:
        """log p under these logits and under counts, whose contexts have at most so many characters."""
        self.states.append((context,))
        return self._append(Mix(self.operations[logits].width, logits, len(self.states) - 1))

    def attend(self, hidden: Value, query: Value, key: Value, lag: str) -> Value:
        """A mean of as many past values `hidden` as `lag` has biases, by their keys."""
        wide = self.operations[hidden].width + self.operations[key].width
        width, first = max(*map(sum, self.states), wide), len(self.states)
        found = Attend(self.operations[hidden].width, hidden, query, key, lag, first, width // wide)
        self.states += [(width,)] * found.layers(*self.shapes[lag])
        return self._append(found)

    def remember(self, told: Value, before: Value, rows: int) -> Value:
        """What a memory of so many rows tells, of which `before` was the hidden part of the state."""
        hidden = self.operations[before]
        assert isinstance(hidden, Hidden)
        return self._append(Remember(hidden.width, told, hidden.layer, rows))

    def recall(self, logits: Value, hidden: Value, layers: tuple[int, ...]) -> Value:
        """log p under these logits and under a cache of `hidden`, whose state has layers of these widths."""
        first = len(self.states)
        self.states += [(width,) for width in layers]
        return self._append(Recall(self.operations[logits].width, logits, hidden, first))
