"""A network's program as instructions for the compiled loop: tables of addresses, sizes and functions.

The threads of a team compute shares of each product, in memory that they share, and meet before it is read.
All else is too little to be shared out: each thread computes it in memory of its own.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from charrnn.inference import writing_loop as loop
from charrnn.inference.mixture import MixedNetwork
from charrnn.inference.numpy_network import PlainNetwork
from charrnn.kernels.exact_layers import layer_norm
from charrnn.kernels.loops import equations
from charrnn.kernels.machine.aligned import LINE
from charrnn.kernels.machine.native_calls import address_of
from charrnn.kernels.products.exact_gemm import PANEL, in_panels, padded, panel_product
from charrnn.nn.modules import program

_Word = tuple[int, int, int]  # of an instruction, see `Network`
_FLOATS = LINE // 4  # of a cache line
# What is assembled of a network, and the arrays to which it has addresses.
_assembled: weakref.WeakKeyDictionary[PlainNetwork | MixedNetwork, tuple[Any, Any]] = (
    weakref.WeakKeyDictionary()
)


def assembled(network: PlainNetwork | MixedNetwork) -> Any:
    """The network for the compiled loop, assembled once for all texts; valid as long as `network` lives."""
    if network not in _assembled:
        if isinstance(network, MixedNetwork):
            parts = tuple(map(assembled, network.parts))
            _assembled[network] = loop.Mixture(parts, network.mixing, network.ids), parts
        else:
            assembler = _Assembler(network)
            _assembled[network] = assembler.network(), assembler.arrays
    return _assembled[network][0]


class _Assembler:
    def __init__(self, network: PlainNetwork) -> None:
        half = network.precision == "bfloat16"
        self._plain, self._operations = network, network.program.operations
        self.arrays = {name: in_panels(matrix, half) for name, matrix in network.matrices.items()}
        self.arrays |= {name: padded(vector) for name, vector in network.vectors.items()}
        self._layers, self._state = network.initial_state().shape
        self._kept = {loop.OWN: self._layers * self._state, loop.SHARED: 0}  # floats of each text
        # Of each value, and of the state of each layer, the address of the first row, and the width of a row.
        self._values: list[tuple[_Word, int]] = []
        self._states = [((0, k * self._state, loop.OWN), self._state) for k in range(self._layers)]
        self._unmet: set[int] = set()  # products of which this thread has its own columns alone
        self._code: list[list[_Word]] = []

    def network(self) -> loop.Network:
        """All instructions; the last computes the logits."""
        logits = self._keep(self._operations[-1].width, loop.SHARED)  # before all else
        for operation in self._operations[:-1]:
            self._values.append(self._assemble(operation))
        last = self._operations[-1]
        assert isinstance(last, program.Product)
        self._multiply(last, logits)
        self._meet()
        code = np.zeros((3, len(self._code), max(map(len, self._code))), np.int64)
        for n, words in enumerate(self._code):
            code[:, n, : len(words)] = np.array(words).T
        return loop.Network(
            address_of(panel_product), self._plain.known, code, self._layers, self._state,
            self._kept[loop.OWN], self._kept[loop.SHARED], last.width,
        )  # fmt: skip

    def _keep(self, width: int, memory: int) -> tuple[_Word, int]:
        """Memory for a value."""
        width, before = -(-width // PANEL) * PANEL, -(-self._kept[memory] // _FLOATS) * _FLOATS
        self._kept[memory] = before + width
        return (0, before, memory), width

    def _emit(self, *words: int | _Word | tuple[_Word, int]) -> None:
        """Append an instruction, from numbers, words and values."""
        row: list[_Word] = []
        for word in words:
            match word:
                case int():
                    row.append((word, 0, loop.CONSTANT))
                case (tuple() as address, int() as width):
                    row += [address, (width, 0, loop.CONSTANT)]
                case _:
                    row.append(word)
        self._code.append(row)

    def _meet(self) -> None:
        self._emit(loop.MEET)
        self._unmet.clear()

    def _read(self, *inputs: program.Value) -> list[tuple[_Word, int]]:
        """Where values are, which are read next."""
        if self._unmet & {*inputs}:
            self._meet()
        return [self._values[n] for n in inputs]

    def _at(self, name: str) -> int:
        return int(self.arrays[name].ctypes.data)

    def _multiply(self, operation: program.Product, y: tuple[_Word, int]) -> None:
        panels, (x,) = self.arrays[operation.weight], self._read(operation.x)
        bias, weight, (P, K, wide) = self._at(operation.bias), self._at(operation.weight), panels.shape
        self._emit(loop.PRODUCT, P, y, bias, x, weight, K * wide, K, int(wide < PANEL))

    def _assemble(self, operation: program.Operation) -> tuple[_Word, int]:
        """Append the instruction of an operation. Returns where its value is."""
        width = operation.width
        match operation:
            case program.Hidden(_, layer):
                return self._states[layer]
            case program.Product():
                y = self._keep(width, loop.SHARED)
                self._multiply(operation, y)
                self._unmet.add(len(self._values))
                return y
            case program.Advance(_, layer, cell, u, w):
                gates, _ = self._keep(len(cell.gates) * width, loop.OWN)
                state, products = self._states[layer], self._read(u, w)
                function = address_of(equations.writing(cell))
                self._emit(loop.CALL, function, *self._plain.program.states[layer], state, *products, gates)
                return state
        y = self._keep(width, loop.OWN)
        match operation:
            case program.LookUp():
                table = self._plain.tables[len(self._values)]
                self._emit(loop.LOOK_UP, width, y, table.ctypes.data, table.shape[1])
            case program.Norm(_, x, weight, bias):
                function = address_of(layer_norm)
                self._emit(loop.CALL, function, width, y, *self._read(x), self._at(weight), self._at(bias))
            case program.Sum(_, a, b):
                self._emit(loop.ADD, width, y, *self._read(a, b))
            case program.Elementwise(_, equation, inputs):
                function = address_of(equations.elementwise(equation))
                self._emit(loop.CALL, function, width, y, *self._read(*inputs))
        return y
