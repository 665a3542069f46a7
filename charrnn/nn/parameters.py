"""All parameters of a network as one flat vector with named views.

A matrix W (N, K) is stored as panels, (ceil(N / 32), K, 32): element [p, k, j] is W[32 p + j, k], so that a
product x W^T reads memory in order. Vectors are padded to a multiple of 32; all padding is zero and stays so.
The matrices, on which weight decay acts, come first.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from charrnn.kernels.machine.aligned import aligned
from charrnn.kernels.products.gemm import PANEL, panels

Array = np.ndarray[Any, Any]


def _stored_shape(shape: tuple[int, ...], *, by_row: bool) -> tuple[int, ...]:
    if by_row:
        return shape
    if len(shape) == 2:
        return (panels(shape[0]), shape[1], PANEL)
    return (panels(shape[0]) * PANEL,)


class Parameters:
    """The flat vector `flat` and, by name, views of it as the kernels read them.

    `shapes` are PyTorch's. Matrices named in `by_row` are stored by row instead of as panels.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], by_row: Collection[str] = (), dtype: Any = np.float32
    ) -> None:
        self.shapes = shapes
        names = sorted(shapes, key=lambda name: len(shapes[name]) < 2)  # stable: matrices first
        stored = {name: _stored_shape(shapes[name], by_row=name in by_row) for name in names}
        sizes = {name: -(-math.prod(shape) // PANEL) * PANEL for name, shape in stored.items()}
        self.decayed = sum(sizes[name] for name in names if len(shapes[name]) == 2)
        self.flat = aligned((sum(sizes.values()),), dtype)  # flat[:decayed] are the matrices
        self._places = dict(zip(names, pairwise(accumulate(sizes.values(), initial=0)), strict=True))
        self._views = {
            name: self.flat[self._places[name][0] :][: math.prod(shape)].reshape(shape)
            for name, shape in stored.items()
        }

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def place_of(self, name: str) -> tuple[int, int]:
        """Where a parameter stands in the flat vector: its first number, and that after its last."""
        return self._places[name]

    def load(self, tensors: Mapping[str, Array]) -> None:
        """Copy the values of tensors in PyTorch's layout."""
        for name, shape in self.shapes.items():
            value, view = np.asarray(tensors[name]), self._views[name]
            if value.shape != shape:
                raise ValueError(f"{name} has the shape {value.shape}, not {shape}")
            if view.ndim == 3:
                padded = np.zeros((view.shape[0] * PANEL, shape[1]), view.dtype)
                padded[: shape[0]] = value
                view[:] = padded.reshape(view.shape[0], PANEL, shape[1]).transpose(0, 2, 1)
            else:
                view[: shape[0]] = value

    def tensors(self) -> dict[str, Array]:
        """Copies of all parameters in PyTorch's layout."""
        result = {}
        for name, shape in self.shapes.items():
            view = self._views[name]
            if view.ndim == 3:
                rows = view.transpose(0, 2, 1).reshape(-1, shape[1])
                result[name] = np.ascontiguousarray(rows[: shape[0]])
            else:
                result[name] = np.array(view[: shape[0]])
        return result
