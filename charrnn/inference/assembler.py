"""A network's program as instructions for the compiled loop: tables of addresses, sizes and functions.

The threads of a team compute shares of each product, in memory that they share, and meet before it is read.
They meet at least twice a step, for the products of the layers and for the logits; so a product is not
written again before all have read it. All else each thread computes for itself, in memory of its own.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np

from charrnn.counts.compiled import CompiledLookup
from charrnn.inference import writing_loop as loop
from charrnn.inference.mixture import MixedNetwork
from charrnn.inference.numpy_network import PlainNetwork
from charrnn.kernels.exact_layers import connect, join, layer_norm
from charrnn.kernels.loops import equations
from charrnn.kernels.loops.beside.attending import attend
from charrnn.kernels.loops.beside.mixing import mixing
from charrnn.kernels.loops.beside.recall import recall
from charrnn.kernels.loops.memory import remember
from charrnn.kernels.machine.aligned import LINE
from charrnn.kernels.machine.native_calls import address_of
from charrnn.kernels.products.exact_gemm import PANEL, in_panels, padded, panel_product
from charrnn.nn.modules import program

_Address = tuple[int, int, int]  # of an instruction, relative to memory: see `Network`
_Word = int | _Address
_Place = tuple[_Address, int]  # of a value: the address of the first row, and the width of the rows
_FLOATS = LINE // 4  # of a cache line
# What is assembled of a network, and the arrays to which it has addresses.
_assembled: weakref.WeakKeyDictionary[PlainNetwork | MixedNetwork, tuple[Any, Any]] = (
    weakref.WeakKeyDictionary()
)


def assembled(network: PlainNetwork | MixedNetwork) -> Any:
    """The network as the compiled loop takes it, valid as long as `network` lives; assembled only once."""
    if network not in _assembled:
        if isinstance(network, MixedNetwork):
            parts = tuple(map(assembled, network.parts))
            _assembled[network] = loop.Mixture(parts, network.mixing, network.ids, network.strength), parts
        else:
            assembler = _Assembler(network)
            _assembled[network] = assembler.network(), assembler.arrays
    return _assembled[network][0]


class _Assembler:
    def __init__(self, network: PlainNetwork) -> None:
        half = network.precision == "bfloat16"
        self._plain = network
        self.arrays = {name: in_panels(matrix, half) for name, matrix in network.matrices.items()}
        self.arrays |= {name: padded(vector) for name, vector in network.vectors.items()}
        self._layers, self._state = network.initial_state().shape
        self._kept = {loop.OWN: self._layers * self._state, loop.SHARED: 0}  # floats of each text
        self._places: list[_Place] = []  # of each value
        self._unmet: set[int] = set()  # products since the last meeting
        self._code: list[list[_Word]] = []

    def network(self) -> loop.Network:
        """All instructions; the last but one computes the logits."""
        for operation in self._plain.program.operations:
            self._places.append(self._assemble(operation))
        self._code.append([loop.MEET])
        code = np.zeros((3, len(self._code), max(map(len, self._code))), np.int64)
        for n, words in enumerate(self._code):
            for m, word in enumerate(words):
                code[:, n, m] = (word, 0, 0) if isinstance(word, int) else word
        (_, logits, memory), _ = self._places[-1]
        return loop.Network(
            address_of(panel_product), self._plain.known, code, self._layers, self._state,
            self._kept[loop.OWN], self._kept[loop.SHARED], logits, memory, self._plain.vocab_size,
        )  # fmt: skip

    def _keep(self, width: int, memory: int) -> _Place:
        """Memory for a value."""
        width, before = -(-width // PANEL) * PANEL, -(-self._kept[memory] // _FLOATS) * _FLOATS
        self._kept[memory] = before + width
        return (0, before, memory), width

    def _read(self, *inputs: program.Value) -> Iterator[_Word]:
        """The places of values that the next instruction reads."""
        if self._unmet & {*inputs}:
            self._code.append([loop.MEET])
            self._unmet.clear()
        return chain.from_iterable(self._places[n] for n in inputs)

    def _at(self, name: str) -> int:
        return int(self.arrays[name].ctypes.data)

    def _assemble(self, operation: program.Operation) -> _Place:
        """Append the instruction of an operation. Returns the place of its value."""
        width, shared = operation.width, isinstance(operation, program.Product)
        if isinstance(operation, program.Hidden | program.Advance):
            y: _Place = (0, operation.layer * self._state, loop.OWN), self._state
        else:
            y = self._keep(width, loop.SHARED if shared else loop.OWN)
        match operation:
            case program.LookUp():
                table = self._plain.tables[len(self._places)]
                words: list[_Word] = [loop.LOOK_UP, width, *y, table.ctypes.data, table.shape[1]]
            case program.Rows(_, rows):
                table = self._plain.all_rows(len(self._places), rows)
                words = [loop.LOOK_UP, width, *y, table.ctypes.data, table.shape[1]]
            case program.Connect(_, x, weights, places):
                name = f"connections.{len(self._places)}"
                self.arrays |= {name: weights, f"{name}.places": np.ascontiguousarray(places, np.intp)}
                words = [loop.CALL, address_of(connect), *weights.shape, *y, *self._read(x)]
                words += [self._at(name), self._at(f"{name}.places"), width]
            case program.Product(_, x, weight, bias):
                P, K, wide = self.arrays[weight].shape
                words = [loop.PRODUCT, P, *y, self._at(bias), *self._read(x), self._at(weight)]
                words += [K * wide, K, int(wide < PANEL)]
                self._unmet.add(len(self._places))
            case program.Hidden():
                return y
            case program.Advance(_, layer, cell, u, w):
                function, (gates, _) = equations.writing(cell), self._keep(len(cell.gates) * width, loop.OWN)
                widths = self._plain.program.states[layer]
                words = [loop.CALL, address_of(function), *widths, *y, *self._read(u, w), gates]
            case program.Norm(_, x, weight, bias):
                words = [loop.CALL, address_of(layer_norm), width, *y, *self._read(x)]
                words += [self._at(weight), self._at(bias)]
            case program.Sum(_, a, b):
                words = [loop.ADD, width, *y, *self._read(a, b)]
            case program.Join(_, a, b):
                parts = (self._plain.program.operations[n].width for n in (a, b))
                words = [loop.CALL, address_of(join), *parts, *y, *self._read(a, b)]
            case program.Elementwise(_, equation, inputs):
                function = equations.elementwise(equation)
                words = [loop.CALL, address_of(function), width, *y, *self._read(*inputs)]
            case program.Mix(_, x, layer):
                context = (0, layer * self._state, loop.OWN), self._state
                words = [*self._mixing(), *y, *self._read(x), *context]
            case program.Attend(_, hidden, query, key, lag, layer, each):
                A, span = self._plain.program.operations[key].width, len(self._plain.vectors[lag])
                words = [loop.CALL, address_of(attend), width, A, span, each]
                words += [(0, self._state, loop.CONSTANT), self._at(lag), *y, *self._read(hidden, query, key)]
                words += [(0, layer * self._state, loop.OWN), self._state]
            case program.Remember(_, told, layer, N):
                words = [loop.CALL, address_of(remember), width, N, *y, *self._read(told)]
                words += [(0, layer * self._state, loop.OWN), self._state]
            case program.Recall(_, x, hidden, layer):
                words = [*self._recalling(), *y, *self._read(x, hidden)]
                words += [(0, layer * self._state, loop.OWN), self._state]
        self._code.append(words)
        return y

    def _recalling(self) -> list[_Word]:
        """The beginning of the instruction that mixes logits with those of a cache."""
        cache = self._plain.cache
        assert cache is not None
        self.arrays["cache"] = cache.settings
        between = (0, self._state, loop.CONSTANT)  # layers
        sizes = [self._plain.vocab_size, self._plain.never, cache.N, cache.H, self._state]
        return [loop.MIX, address_of(recall), *sizes, between, self._at("cache")]

    def _mixing(self) -> list[_Word]:
        """The beginning of the instruction that mixes logits with counts."""
        counts = self._plain.counts
        assert counts is not None
        tree = CompiledLookup(counts.counts).tree
        names = ("places", "links", "following", "codes", "own", "rows")
        self.arrays |= {f"counts.{name}": getattr(tree, name) for name in names}
        self.arrays["gate"] = counts.gate.numbers
        self.arrays["labels"] = np.array(counts.labels or (), np.uint32)
        own_rows, codes = tree.own.shape
        sizes = [self._plain.vocab_size, tree.order, self._plain.never]
        sizes += [len(tree.places), len(tree.rates), codes, len(tree.rows), tree.factor, own_rows]
        sizes.append(len(self.arrays["labels"]))
        places = [self._at(name) for name in (*(f"counts.{name}" for name in names), "gate", "labels")]
        return [loop.MIX, address_of(mixing(tree.following.dtype)), *sizes, *places]
