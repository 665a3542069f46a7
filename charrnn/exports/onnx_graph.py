"""A model -> an ONNX graph of T steps of B texts, whose states go in and come out: it can be stepped through.

Axes: T steps, B texts, V characters, O outputs (V, or V + 1 where texts end), H units of a layer, L layers.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.errors import CharrnnError, CheckpointError
from charrnn.nn.modules.dropout import Dropout
from charrnn.nn.modules.embedding import Embedding
from charrnn.nn.modules.layer_norm import LayerNorm
from charrnn.nn.modules.linear import Linear
from charrnn.nn.modules.module import Module, Sequential
from charrnn.nn.modules.recurrent import Recurrent
from charrnn.nn.modules.residual import Residual
from charrnn.nn.parameters import Array

OPSET, IR_VERSION = 17, 8  # the first with LayerNormalization, and what goes with it
# By cell: the operator, its activations, and its gates in its order, by their places in ours, PyTorch's.
OPERATORS: dict[str, tuple[str, list[str], list[int]]] = {
    "lstm": ("LSTM", ["Sigmoid", "Tanh", "Tanh"], [0, 3, 1, 2]),  # i, o, f, c
    "gru": ("GRU", ["Sigmoid", "Tanh"], [1, 0, 2]),  # z, r, h
    "rnn_tanh": ("RNN", ["Tanh"], [0]),
    "rnn_relu": ("RNN", ["Relu"], [0]),
}


def onnx_graph(checkpoint: Checkpoint) -> bytes:
    """The file. Counts, and what is not of the network, are left out.

    Inputs: `ids` (T, B) int64, 0 .. O - 1, or O where a text begins; the state `h` (L, B, H), and of an LSTM
    `c`, zeros at first. Outputs: `logits` (T, B, O), `h_out` and `c_out`. The metadata's "charrnn" is JSON
    with the "characters" by id, "start", the id where a text begins, and "end", that of its end, or null.

    Raises:
        CheckpointError: a part of the network has no counterpart.
        CharrnnError: the library is not installed.
    """
    try:
        from onnx import checker, helper
    except ModuleNotFoundError as missing:
        raise CharrnnError(
            f"charrnn export onnx needs {missing.name}, which is not installed", "pip install 'charrnn[onnx]'"
        ) from None
    config = checkpoint.config
    graph = _Graph(checkpoint)
    x = graph.characters()
    x = graph.walk(config.network(), x)
    graph.add("Identity", [x], ["logits"])
    made = graph.made()
    about = {
        "characters": checkpoint.characters,
        "start": config.outputs,
        "end": checkpoint.vocabulary.find(checkpoint.text.end) if checkpoint.text.records else None,
    }
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="charrnn"
    )
    helper.set_model_props(model, {"charrnn": json.dumps(about)})
    checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


class _Graph:
    """Nodes and constants; a value is known by its name."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint, self._config = checkpoint, checkpoint.config
        self._nodes: list[Any] = []
        self._constants: dict[str, Array] = {}
        self._layer = 0
        self._parts = self._config.recurrence.state  # of the state: h, and of an LSTM c
        self._after: dict[str, list[str]] = {part: [] for part in self._parts}

    def add(self, operator: str, inputs: list[str], outputs: list[str] | None = None, **settings: Any) -> str:
        """Append a node. Returns its first output, which has a name of its own if none is given."""
        from onnx import helper

        outputs = outputs or [f"v{len(self._nodes)}"]
        self._nodes.append(helper.make_node(operator, inputs, outputs, **settings))
        return outputs[0]

    def constant(self, name: str, values: Array) -> str:
        self._constants[name] = values
        return name

    def parameter(self, name: str) -> Array:
        return self._checkpoint.tensors[name]

    def characters(self) -> str:
        """Rows of a table: of the embedding, or one-hot; an end and START are zeros."""
        config, first = self._config, next(self._config.network().flat())
        if isinstance(first, Embedding):
            name, rows = first.weight, self.parameter(first.weight)
        else:
            name, rows = "characters", np.eye(config.vocab_size, dtype=np.float32)
        table = np.zeros((config.outputs + 1, rows.shape[1]), np.float32)
        table[: config.vocab_size] = rows
        return self.add("Gather", [self.constant(name, table), "ids"], axis=0)

    def walk(self, module: Module, x: str) -> str:
        """The value of a module for the input x (T, B, width)."""
        match module:
            case Sequential():
                y = x
                for inner in module.modules:
                    y = self.walk(inner, y)
                return self.add("Add", [x, y]) if isinstance(module, Residual) else y
            case Embedding() | Dropout():
                return x
            case Recurrent() if module.cell.name in OPERATORS:
                return self._recurrent(module, x)
            case LayerNorm():
                names = [self.constant(name, self.parameter(name)) for name in (module.weight, module.bias)]
                return self.add("LayerNormalization", [x, *names], axis=-1, epsilon=1e-5)
            case Linear():
                weight = self.constant(module.weight, self.parameter(module.weight).T.copy())
                bias = self.constant(module.bias, self.parameter(module.bias))
                return self.add("Add", [self.add("MatMul", [x, weight]), bias])
        raise CheckpointError(
            f"ONNX has no operator for {module!r}", "give a model without it: an LSTM, a GRU or a vanilla RNN"
        )

    def _recurrent(self, module: Recurrent, x: str) -> str:
        operator, activations, order = OPERATORS[module.cell.name]
        k, H = self._layer, module.H
        self._layer += 1

        def ordered(name: str) -> Array:
            blocks = self.parameter(name).reshape(len(order), H, -1)
            return blocks[order].reshape(len(order) * H, -1)

        weights = [self.constant(name, ordered(name)[None]) for name in (module.weight_ih, module.weight_hh)]
        biases = np.concatenate([ordered(name)[:, 0] for name in (module.bias_ih, module.bias_hh)])[None]
        before = [f"{part}{k}" for part in self._parts]
        after = [f"{part}{k}_out" for part in self._parts]
        inputs = [x, *weights, self.constant(f"rnn.bias_l{k}", biases), "", *before]
        more = {"linear_before_reset": 1} if operator == "GRU" else {}
        y = f"y{k}"
        self.add(operator, inputs, [y, *after], hidden_size=H, activations=activations, **more)
        for part, name in zip(self._parts, after, strict=True):
            self._after[part].append(name)
        axes = self.constant("one", np.array([1], np.int64))  # of the directions, of which there is one
        return self.add("Squeeze", [y, axes])

    def made(self) -> Any:
        """The graph, its states together."""
        from onnx import TensorProto, helper, numpy_helper

        L, H, outputs = self._layer, self._config.hidden_size, self._config.outputs
        nodes, self._nodes = self._nodes, []
        for part in self._parts:
            parts = [f"{part}{k}" for k in range(L)]
            self.add("Split", [part, self.constant("each", np.ones(L, np.int64))], parts, axis=0)
        nodes = self._nodes + nodes
        self._nodes = []
        for part in self._parts:
            self.add("Concat", self._after[part], [f"{part}_out"], axis=0)

        def tensor(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> Any:
            return helper.make_tensor_value_info(name, kind, shape)

        states = [tensor(part, L, "B", H) for part in self._parts]
        ids = tensor("ids", "T", "B", kind=TensorProto.INT64)
        out = [
            tensor("logits", "T", "B", outputs),
            *(tensor(f"{part}_out", L, "B", H) for part in self._parts),
        ]
        constants = [numpy_helper.from_array(values, name) for name, values in self._constants.items()]
        return helper.make_graph(nodes + self._nodes, "charrnn", [ids, *states], out, constants)
