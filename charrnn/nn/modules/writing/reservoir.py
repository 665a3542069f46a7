"""A reservoir (Jaeger 2001): layers of units that echo what they read, by weights that nobody trains.

All weights follow from a seed, in arithmetic that is the same on every machine: no file needs them.

Axes: V characters, L layers of N units, S = L N, K connections of a unit to its layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from charrnn import kernels
from charrnn.labels import places_of
from charrnn.nn.cell import Cell
from charrnn.nn.modules.module import Module
from charrnn.nn.modules.recurrent import Carried
from charrnn.nn.modules.stream import Characters, Stream

if TYPE_CHECKING:
    from charrnn.nn.modules.program import Character, Program, Value
    from charrnn.nn.parameters import Array
    from charrnn.nn.window import Window

BIAS = 0.3  # the largest bias
LEAST_READ = 4  # units of its layer that a unit reads, if there are so many
LABEL = 1.0  # the largest weight of a label: 0.1, 0.3 and 2 are worse on surnames of 18 languages
POWER = 6  # the spectral radius is taken from 2**POWER steps
_INPUT, _BIAS, _RECURRENT, _BELOW, _SHIFT = range(5)  # what random numbers are for
_LABEL = 2**32  # and from there on, those of each label


@dataclass(frozen=True)
class Echo:
    """What makes a reservoir what it is."""

    spectral_radius: float  # of each layer's recurrent weights
    leak: float  # the share of a state that is new after a step
    density: float  # the share of a layer that a unit reads
    input_scale: float  # the largest weight of a character
    seed: int


class Reservoir(Module):
    """L layers of N units, which all read the character, and whose states, side by side, are the output.

    They read the labels of the text, too: `labels` are the numbers of labels, by column. `given` are those
    that all texts have, by their places among all.
    """

    reads_characters = True

    def __init__(
        self, cell: Cell, V: int, N: int, L: int, echo: Echo,
        labels: tuple[int, ...] = (), given: tuple[int, ...] = (),
    ) -> None:  # fmt: skip
        self.cell, self.V, self.N, self.L, self.echo = cell, V, N, L, echo
        self.labels, self.given = labels, given
        self.S, self.K = L * N, min(max(LEAST_READ, round(echo.density * N)), N)
        self.widths = (self.S,)

    def __repr__(self) -> str:
        return f"Reservoir({self.V} -> {self.L} x {self.N}, {self.K} connections each)"

    def bind(self, window: Window, x: Stream) -> BoundReservoir:
        """Passes over a window."""
        return BoundReservoir(self, window, x)

    def step(self, program: Program, x: Value | Character) -> Value:
        """Rows of characters, sums over connections, and the cell's equation."""
        leak = np.full(self.S, self.echo.leak, np.float32)
        rows = np.concatenate([self.table, np.broadcast_to(leak, self.table.shape)], axis=1)
        u = program.rows(rows)
        w = program.connect(program.hidden(self.widths), self.weights, self.places, 2 * self.S)
        return program.advance(self.cell, u, w)

    @cached_property
    def table(self) -> Array:
        """W_in x + b for each character, and at last b for START: (V + 1, S)."""
        echo, S = self.echo, self.S
        table = np.tile(np.float32(BIAS) * uniform(echo.seed, _BIAS, S), (self.V + 1, 1))
        inputs = uniform(echo.seed, _INPUT, self.V * S).reshape(self.V, S)
        table[: self.V] += np.float32(echo.input_scale) * inputs
        for place in self.given:
            table += self.label(place)
        return table

    def label(self, place: int) -> Array:
        """What a label adds to the table, (S,)."""
        weights: Array = np.float32(LABEL) * uniform(self.echo.seed, _LABEL + place, self.S)
        return weights

    @cached_property
    def shifts(self) -> Array:
        """How far after a unit those stand that it reads: (K, L) or, with a layer below, (2 K, L)."""
        layers = [self._shifts(layer) for layer in range(self.L)]
        return np.array(layers, np.int64).T.copy()

    def _shifts(self, layer: int) -> list[int]:
        found: list[int] = []
        for part in range(1 + (self.L > 1)):
            purpose = _SHIFT + 2 * layer + part
            numbers = uniform(self.echo.seed, purpose, 64 * self.K + 1024).astype(np.float64)
            bits = (numbers + 1) * 2.0**23  # exactly
            drawn: list[int] = (bits.astype(np.int64) % self.N).tolist()
            different = dict.fromkeys([1 % self.N, *drawn, *range(self.N)])
            found += [*different][: self.K]
        return found

    @cached_property
    def places(self) -> Array:
        """The units that a unit reads, (K, S) or (2 K, S); below the first layer there is none: itself."""
        own = np.arange(self.S)
        layer, unit = np.divmod(own, self.N)
        below = np.arange(len(self.shifts))[:, None] >= self.K
        base = np.where(below, np.maximum(layer - 1, 0), layer) * self.N
        places: Array = base + (unit + self.shifts[:, layer]) % self.N
        return np.where(below & (layer == 0), own, places)

    @cached_property
    def weights(self) -> Array:
        """The weights of these connections, in the same shape, float32."""
        echo, K, S = self.echo, self.K, self.S
        scale = np.float32(math.sqrt(3.0 / K))  # such random numbers have a spectral radius of about 1
        weights = scale * uniform(echo.seed, _RECURRENT, K * S).reshape(K, S)
        for layer in range(self.L):
            part = np.s_[:, layer * self.N : (layer + 1) * self.N]
            places = self.places[:K][part] - layer * self.N
            weights[part] *= np.float32(echo.spectral_radius / spectral_radius(weights[part], places))
        if self.L == 1:
            return weights
        below = scale * uniform(echo.seed, _BELOW, K * S).reshape(K, S)
        below[:, : self.N] = 0
        return np.concatenate([weights, below])

    def matrix(self) -> Array:
        """The weights as the matrix (S, S) that they stand for."""
        matrix = np.zeros((self.S, self.S), np.float32)
        np.add.at(matrix, (np.broadcast_to(np.arange(self.S), self.places.shape), self.places), self.weights)
        return matrix


def spectral_radius(weights: Array, places: Array) -> float:
    """That of the matrix with these weights (K, N), by how much it lengthens a vector in many steps.

    Sums are exact, and roots are correctly rounded: it is the same on every machine.
    """
    x, norms = uniform(0, _BIAS, weights.shape[1]).astype(np.float64), []
    for step in range(1, 2 * 2**POWER + 1):
        y = np.zeros_like(x)
        for weight, place in zip(weights.astype(np.float64), places, strict=True):
            y += weight * x[place]
        x = y
        if step % 2**POWER == 0:
            norms.append(math.sqrt(math.fsum((x * x).tolist())))
    if not norms[0] > 0 or not norms[1] > 0:  # a few units may be nilpotent: they echo nothing
        return 1.0
    ratio = norms[1] / norms[0]
    for _ in range(POWER):
        ratio = math.sqrt(ratio)
    return ratio


def uniform(seed: int, purpose: int, count: int) -> Array:
    """`count` random numbers from -1 to 1, float32, exactly: 24 bits of SplitMix64 (Steele et al. 2014)."""
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN) + np.uint64(_key(seed, purpose))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits = (z ^ (z >> np.uint64(31))) >> np.uint64(40)
    numbers: Array = bits.astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    return numbers


_GOLDEN = 0x9E3779B97F4A7C15


def _key(seed: int, purpose: int) -> int:
    return (seed * 0xD1342543DE82EF95 + (purpose + 1) * 0x2545F4914F6CDD1D) & (2**64 - 1)


class BoundReservoir(Carried):
    """The passes of a reservoir; no gradient goes back."""

    def __init__(self, module: Reservoir, window: Window, x: Stream) -> None:
        assert isinstance(x, Characters)
        super().__init__(window, module.widths, x, x)
        self.y = Stream(window, module.S, self.h_between[1:])
        self.y.fixed, self.y.wants_gradient = True, False
        self.ids, dtype = x.ids, window.dtype
        self.sizes, self.first = module.labels, module.V + 1
        self.rows = np.zeros((window.T, window.B, 1 + len(self.sizes)), np.int64)
        self.labels = window.labels
        self.leak = float(module.echo.leak)
        table = np.stack(
            [*module.table, *map(module.label, range(sum(self.sizes))), np.zeros_like(module.table[0])]
        )
        arrays = (table.astype(dtype), module.weights.astype(dtype), module.shifts)
        self.made = kernels.loops.reservoir.Made(*arrays, module.K, module.L, module.N)

    def state_gradient(self) -> tuple[Array, ...]:
        """None: no gradient goes back."""
        return tuple(np.zeros((self.window.B, width)) for width in self.widths)

    def prepare(self) -> None:
        """Note each position's rows of the table: of its character, and of the text's labels."""
        self.rows[..., 0] = self.ids.used[self.ids.index]
        if self.sizes:
            places = places_of(self.labels, self.sizes)
            self.rows[..., 1:] = np.where(places < 0, len(self.made.table) - 1, self.first + places)

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        """The states, step by step."""
        kernels.loops.reservoir.forward(self.states(), self.rows, self.made, self.leak, (b0, b1), (t0, t1))
