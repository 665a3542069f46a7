"""A model -> what its page needs to know, as JSON, and its numbers, as bytes.

Axes: V vocabulary, N outputs of a matrix, K inputs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import WeightPrecision
from charrnn.errors import CheckpointError, ConfigError, quoted
from charrnn.inference.numpy_network import NEVER, bfloat16
from charrnn.nn.modules import program

Floats = npt.NDArray[np.float32]
PANEL = 32  # columns of a matrix that lie together, as kernels.c reads them
CELLS = ("lstm", "gru", "rnn_tanh", "rnn_relu")  # those that network.js knows
EXACT = 2**53  # up to which JavaScript's numbers are exact
MEGABYTE = 10**6


class Packed(NamedTuple):
    """The two parts of a model on a page."""

    about: dict[str, Any]
    numbers: bytes


def packed(checkpoint: Checkpoint, precision: WeightPrecision, most_counts: float) -> Packed:
    """The model for a page. With bfloat16, the same weights are rounded as by PlainNetwork.

    Raises:
        CheckpointError: the page has no counterpart of a part of the network.
        ConfigError: counts take more than `most_counts` megabytes; 0 leaves them out.
    """
    return _Packing(checkpoint, precision).whole(most_counts)


class _Packing:
    def __init__(self, checkpoint: Checkpoint, precision: WeightPrecision) -> None:
        self._checkpoint, self._precision = checkpoint, precision
        self._arrays: dict[str, dict[str, Any]] = {}
        self._chunks: list[bytes] = []
        self._size = 0
        self._mixed = False  # with counts

    def whole(self, most_counts: float) -> Packed:
        checkpoint = self._checkpoint
        config, text = checkpoint.config, checkpoint.text
        steps = config.network().program(config.vocab_size)
        counts = self._counts(most_counts)
        operations = [self._operation(operation) for operation in steps.operations]
        if counts is not None:
            operations.append(["mix", config.outputs, len(operations) - 1, counts["order"]])
        about = {
            "characters": checkpoint.vocabulary.characters,
            "inputs": config.vocab_size,
            "outputs": config.outputs,
            "rare": checkpoint.vocabulary.unknown,
            "never": checkpoint.vocabulary.unknown if self._mixed else -1,
            "bytes": text.bytes,
            "lowercase": text.lowercase,
            "normal": text.normal_form,
            "split": text.split is not None,
            "end": text.end,
            "separator": text.separator,
            "precision": self._precision,
            "columns": [{"name": column.name, "labels": column.labels} for column in checkpoint.columns],
            "labelled": self._labelled(),
            "operations": operations,
            "states": steps.states,
            "arrays": self._arrays,
            "counts": counts,
        }
        return Packed(about, b"".join(self._chunks))

    def _operation(self, operation: program.Operation) -> list[Any]:
        match operation:
            case program.LookUp(width, (_, embedding), weight, bias):
                if embedding is not None:
                    self._add_rows(embedding, self._checkpoint.tensors[embedding])
                if weight is not None:
                    self._add_look_up(weight, embedding)
                if bias is not None:
                    self._add_vector(bias)
                return ["lookup", width, embedding, weight, bias]
            case program.Product(width, x, weight, bias):
                self._add_matrix(weight, rounded=self._precision == "bfloat16")
                self._add_vector(bias)
                return ["product", width, x, weight, bias]
            case program.Hidden(width, layer):
                return ["hidden", width, layer]
            case program.Advance(width, layer, cell, u, w):
                if cell.name not in CELLS:
                    raise _unknown(f"cell {quoted(cell.name)}")
                return ["advance", width, layer, cell.name, u, w]
            case program.Norm(width, x, weight, bias):
                self._add_vector(weight)
                self._add_vector(bias)
                return ["norm", width, x, weight, bias]
            case program.Sum(width, x, y):
                return ["sum", width, x, y]
            case program.Rows() | program.Connect():
                raise _unknown("reservoir")
            case program.Attend():
                raise _unknown("span of attention")
            case program.Join() | program.Remember():
                raise _unknown("memory")
        raise _unknown("module between its layers")

    def _add_matrix(self, name: str, *, rounded: bool) -> None:
        """A matrix (N, K) in panels, (panels, K, 32), with zeros after the last column."""
        weight = self._checkpoint.tensors[name]
        N, K = weight.shape
        wide = np.zeros((-(-N // PANEL) * PANEL, K), np.float32)
        wide[:N] = bfloat16(weight) if rounded else weight
        self._add(name, wide.reshape(-1, PANEL, K).transpose(0, 2, 1), rounded=rounded)

    def _add_look_up(self, name: str, embedding: str | None) -> None:
        """What is multiplied with rows of an embedding or, where characters are one-hot, its columns."""
        if embedding is None:
            self._add_rows(name, self._checkpoint.tensors[name].T)
        else:
            self._add_matrix(name, rounded=False)

    def _add_rows(self, name: str, rows: Floats) -> None:
        self._add(name, rows)
        self._arrays[name]["width"] = rows.shape[1]

    def _add_vector(self, name: str) -> None:
        """A bias, with zeros up to a whole panel."""
        vector = self._checkpoint.tensors[name]
        wide = np.zeros(-(-len(vector) // PANEL) * PANEL, np.float32)
        wide[: len(vector)] = vector
        never = self._checkpoint.vocabulary.unknown
        if name == "decoder.bias" and never >= 0 and not self._mixed:
            wide[never] = NEVER
        self._add(name, wide)

    def _labelled(self) -> dict[str, list[dict[str, Any]]]:
        """By the name of a bias, what labels add to it: of each column the array, a row for each label."""
        found: dict[str, list[dict[str, Any]]] = {}
        tensors = self._checkpoint.tensors
        for column in range(len(self._checkpoint.columns)):
            for k in range(self._checkpoint.config.num_layers):
                name = f"label.{column}.weight_l{k}"
                self._add_rows(name, tensors[name])
                entry = {"array": name, "width": tensors[name].shape[1]}
                found.setdefault(f"rnn.bias_ih_l{k}", []).append(entry)
        return found

    def _counts(self, most: float) -> dict[str, Any] | None:
        gated = self._checkpoint.counts
        if gated is None or most == 0:
            return None
        counts = gated.counts
        if counts.nbytes > most * MEGABYTE:
            size = -(-counts.nbytes // MEGABYTE)
            raise ConfigError(
                f"the model's counts take {size} MB, and the page {most:g} MB at the most",
                f"--counts {size} takes them in; --counts 0 leaves them out, and the page writes other texts",
            )
        largest = int(counts.count_values.max()) * 4096 + int(counts.mass_values.max())
        if largest * counts.vocab_size >= EXACT:
            raise ConfigError("the model's counts are too large for JavaScript", "leave them out: --counts 0")
        self._mixed, arrays = True, {}
        for name, array in counts.tensors().items():
            at = self._place(np.ascontiguousarray(array).tobytes())
            arrays[name.partition(".")[2]] = {
                "at": at, "numbers": array.size, "bytes": array.dtype.itemsize,
            }  # fmt: skip
        numbers = gated.gate.numbers
        gate = {"at": self._place(numbers.tobytes()), "numbers": numbers.size}
        given = gated.labels or ()
        labels = counts.labels if self._checkpoint.columns else ()
        return {"order": counts.order, "labels": labels, "given": given, "arrays": arrays, "gate": gate}

    def _add(self, name: str, array: Floats, *, rounded: bool = False) -> None:
        """Place an array once; rounded numbers have two bytes each."""
        if name in self._arrays:
            return
        numbers = np.ascontiguousarray(array, "<f4")
        halves = (numbers.view("<u4") >> np.uint32(16)).astype("<u2")
        at = self._place((halves if rounded else numbers).tobytes())
        self._arrays[name] = {"at": at, "numbers": array.size, **({"half": True} if rounded else {})}

    def _place(self, data: bytes) -> int:
        """Where this begins, a multiple of 8."""
        at, self._size = self._size, self._size + -(-len(data) // 8) * 8
        self._chunks.append(data.ljust(self._size - at, b"\0"))
        return at


def _unknown(what: str) -> CheckpointError:
    return CheckpointError(f"the model has a {what}, which pages do not know", "write with charrnn sample")
