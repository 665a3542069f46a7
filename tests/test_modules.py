"""A module is one file: one that charrnn does not have is defined here and stands between two layers."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from support.cells import MATRIX
from support.central_differences import check_gradients, own_places, random_state
from support.compiled_loop import AlwaysTogether, compiled_only
from support.environment import environment
from support.own_parts import check_compression, check_learning, check_mixture, check_numbers

from charrnn import api
from charrnn.checkpoint.model_file import Checkpoint, load, save
from charrnn.config import ModelConfig, SampleConfig, TextConfig, TrainConfig, format_version
from charrnn.errors import CheckpointError, ConfigError
from charrnn.inference.engines import CompiledPath, Cursor, PlainPath
from charrnn.inference.mixture import MixedNetwork, blend
from charrnn.inference.numpy_network import PlainNetwork
from charrnn.nn import modules as table
from charrnn.nn.learning.optimizer import AdamW
from charrnn.nn.modules.dropout import Dropout
from charrnn.nn.modules.embedding import Embedding
from charrnn.nn.modules.layer_norm import LayerNorm
from charrnn.nn.modules.linear import Linear
from charrnn.nn.modules.module import Bound, Module, Sequential, Shapes
from charrnn.nn.modules.program import Program, Value
from charrnn.nn.modules.recurrent import Recurrent
from charrnn.nn.modules.residual import Residual
from charrnn.nn.modules.stream import Stream
from charrnn.nn.network import Model, initial_tensors
from charrnn.nn.operands import Share
from charrnn.nn.window import Window
from charrnn.nn.workers import Workers
from charrnn.vocabulary import Vocabulary

V, H = 5, 4


def gated(of: Any) -> Any:
    """x + sigmoid(g) y."""
    sigmoid = of.sigmoid
    return lambda x, g, y: x + sigmoid(g) * y


class GatedSkip(Module):
    """y = x + sigmoid(W_g x + b_g) (W x + b)."""

    def __init__(self, H: int, name: str = "skip") -> None:
        self.H = H
        self.weights = f"{name}.weight_g", f"{name}.weight"
        self.biases = f"{name}.bias_g", f"{name}.bias"

    def __repr__(self) -> str:
        return f"GatedSkip({self.H})"

    def shapes(self) -> Shapes:
        H = self.H
        return dict.fromkeys(self.weights, (H, H)) | dict.fromkeys(self.biases, (H,))

    def initial(self, random: np.random.Generator) -> dict[str, Any]:
        shapes = self.shapes().items()
        return {name: np.float32(shape[-1] ** -0.5 * random.standard_normal(shape)) for name, shape in shapes}

    def bind(self, window: Window, x: Stream) -> Bound:
        return BoundGatedSkip(self, window, x)

    def step(self, program: Program, x: Value) -> Value:
        g, y = map(program.product, (x, x), self.weights, self.biases)
        return program.elementwise(gated, x, g, y)


class BoundGatedSkip(Bound):
    def __init__(self, module: GatedSkip, window: Window, x: Stream) -> None:
        super().__init__(x, Stream(window, module.H))
        self.window, self.H, self.biases = window, module.H, module.biases
        self.weights = [window.weight(name) for name in module.weights]
        self.gate, self.line = window.array(self.H), window.array(self.H)
        if window.training:
            self.d_gate, self.d_line = window.array(self.H), window.array(self.H)
            self.x_rows = x.rows
            self.d_rows = window.rows(self.d_gate, self.H), window.rows(self.d_line, self.H)

    def forward(self, b0: int, b1: int, t0: int, t1: int) -> None:
        place = np.s_[t0:t1, b0:b1, : self.H]
        for weight, bias, y in zip(self.weights, self.biases, (self.gate, self.line), strict=True):
            weight.forward(y[t0:t1], self.window.parameters[bias], self.x.values[t0:t1], b0, b1)
        self.gate[place] = 1 / (1 + np.exp(-self.gate[place]))
        self.y.values[place] = self.x.values[place] + self.gate[place] * self.line[place]

    def backward(self, b0: int, b1: int) -> None:
        place = np.s_[:, b0:b1, : self.H]
        gate, line, dy = self.gate[place], self.line[place], self.y.gradient
        self.d_gate[place] = dy[place] * line * gate * (1 - gate)
        self.d_line[place] = dy[place] * gate
        dx = self.x.gradient
        self.weights[0].backward(dx, dy, self.d_gate, b0, b1)
        self.weights[1].backward(dx, dx, self.d_line, b0, b1)
        for operand in (self.x_rows, *self.d_rows):
            operand.refresh(b0, b1)

    def parameter_gradients(self, share: Share) -> None:
        for weight, bias, d in zip(self.weights, self.biases, self.d_rows, strict=True):
            weight.sum_outer_products(self.x_rows, d, share)
            self.window.column_sums(self.window.gradient(bias), d.source, *share.of_columns(self.H))


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(table.BETWEEN, "gated_skip", f"{__name__}:GatedSkip")


def recurrent(cell: str, D: int, k: int) -> Recurrent:
    return Recurrent(ModelConfig(V, cell).recurrence, D, H, k, {})


def network(*between: Module) -> Sequential:
    """Two layers with something between them."""
    return Sequential(
        Embedding(V, 3), recurrent("lstm", 3, 0), *between, recurrent("gru", H, 1), Linear(H, V, "decoder")
    )


def make(network: Sequential, workers: Workers, dtype: Any = np.float32) -> Model:
    model = Model(ModelConfig(V, hidden_size=H), workers=workers, dtype=dtype, network=network)
    model.load_tensors(network.initial(np.random.default_rng(2)))
    return model


def window(T: int, B: int) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(7)
    reset = rng.random((T, B)) < 0.2
    x = np.where(reset, V, rng.integers(0, V, (T, B))).astype(np.int32)
    return x, rng.integers(0, V, (T, B)).astype(np.int32), reset


def check(network: Sequential) -> None:
    """Every parameter's gradient, and every initial state's, against central differences."""
    rng = np.random.default_rng(3)
    model = make(network, Workers(2), np.float64)
    x, y, reset = window(4, 3)
    state = random_state(rng, model, 3)
    model.load_tensors({name: 0.6 * rng.standard_normal(shape) for name, shape in network.shapes().items()})
    slopes, used = check_gradients(model, x, y, state, reset), own_places(model)
    assert np.count_nonzero(slopes[used]) > 0.8 * len(used)


@compiled_only
def test_the_gradient_of_a_module_of_ones_own_is_central_differences():
    check(network(GatedSkip(H)))


@compiled_only
def test_a_module_of_ones_own_gives_the_same_bits_on_any_number_of_threads():
    x, y, reset = window(9, 7)
    results = []
    for threads in (1, 2, 3):
        model = make(network(GatedSkip(H), Dropout(0.3)), Workers(threads))
        loss, state = model.gradient(x, y, None, reset, dropout_seed=4)
        losses, _ = model.losses(x, y, state, reset)
        results.append((loss, losses.tobytes(), model.gradients.flat.tobytes()))
    assert results[0] == results[1] == results[2]


@compiled_only
def test_a_module_of_ones_own_is_a_stage_of_the_pipeline_over_layers():
    x, _, reset = window(150, 1)
    one, several = (make(network(GatedSkip(H)), Workers(n)).forward(x, None, reset)[0] for n in (1, 3))
    assert one.tobytes() == several.tobytes()


@compiled_only
def test_training_with_a_module_of_ones_own_lowers_the_loss_and_moves_its_parameters():
    workers = Workers(2)
    model = make(network(GatedSkip(H)), workers)
    before, optimizer = model.tensors(), AdamW(model.parameters, TrainConfig(steps=60), workers)
    text = np.tile(np.array([0, 1, 2, 3, 4, 2, 1], np.int32), 20)
    x, y = text[:-1].reshape(-1, 1), text[1:].reshape(-1, 1)
    losses = []
    for _ in range(60):
        losses.append(model.gradient(x, y)[0])
        optimizer.step(model.gradients, 0.03)
    assert losses[-1] < 0.3 * losses[0]
    after = model.tensors()
    assert all(not np.array_equal(before[name], after[name]) for name in GatedSkip(H).shapes())


@compiled_only
def test_parameters_of_a_module_of_ones_own_are_saved_and_loaded_by_their_names():
    composed, workers = network(GatedSkip(H)), Workers(1)
    x, _, reset = window(6, 2)
    model, other = make(composed, workers), make(composed, workers)
    model.load_tensors({name: tensor + 0.25 for name, tensor in model.tensors().items()})
    tensors = model.tensors()
    assert list(tensors) == list(composed.shapes())
    assert tensors["skip.weight_g"].shape == (H, H)
    other.load_tensors(tensors)
    assert other.forward(x, None, reset)[0].tobytes() == model.forward(x, None, reset)[0].tobytes()


@compiled_only
@pytest.mark.parametrize(
    "between",
    [
        (Residual(GatedSkip(H)),),
        (Residual(LayerNorm(H, "norm"), GatedSkip(H)),),
        (Residual(Linear(H, 6, "up"), Linear(6, H, "down")), LayerNorm(H, "norm")),
        (Residual(Residual(LayerNorm(H, "norm"))), LayerNorm(H, "second")),
        (Residual(Residual(Linear(H, H, "inner")), GatedSkip(H)),),
        (Linear(H, H, "line"), LayerNorm(H, "norm"), LayerNorm(H, "second")),
        (
            Linear(H, 40, "wide"),
            LayerNorm(40, "norm"),
            Residual(recurrent("lstm", 40, 2), Linear(H, 40, "back")),
            Linear(40, H, "narrow"),
        ),
    ],
    ids=repr,
)
def test_modules_may_stand_in_any_order(between):
    check(network(*between))


@compiled_only
@pytest.mark.parametrize(
    "first",
    [
        (Embedding(V, H), GatedSkip(H), recurrent("gru", H, 0)),
        (Embedding(V, H), Residual(LayerNorm(H, "norm"), recurrent("lstm", H, 0))),
        (Embedding(V, H), Residual(recurrent("rnn", H, 0)), LayerNorm(H, "norm")),
        (LayerNorm(V, "norm"), recurrent("gru", V, 0)),
    ],
    ids=repr,
)
def test_what_looks_no_character_up_may_stand_before_the_first_layer(first):
    check(Sequential(*first, Linear(H, V, "decoder")))


@compiled_only
@pytest.mark.parametrize(
    "inside", [(Dropout(0.5), Linear(H, H, "line")), (Linear(H, H, "line"), Dropout(0.5))]
)
def test_dropout_in_a_residual_drops_nothing_of_what_is_added(inside):
    """Where its modules are zero, a residual passes on values and gradients as they are."""
    x, y, reset = window(5, 3)
    plain, other = make(network(), Workers(1)), make(network(Residual(*inside)), Workers(1))
    zeros = {"line.weight": np.zeros((H, H)), "line.bias": np.zeros(H)}
    other.load_tensors({**plain.tensors(), **zeros})
    assert other.gradient(x, y, None, reset, dropout_seed=1)[0] == plain.gradient(x, y, None, reset)[0]
    for name, gradient in plain.gradients.tensors().items():
        np.testing.assert_array_equal(other.gradients.tensors()[name], gradient)


@compiled_only
def test_a_state_may_have_parts_of_any_width():
    composed = Sequential(
        Embedding(V, 3), Recurrent(MATRIX, 3, H, 0, {}), Residual(Recurrent(MATRIX, H, H, 1, {})),
        Linear(H, V, "decoder"),
    )  # fmt: skip
    assert composed.states == ((H, 1, H * H), (H, 1, H * H))
    check(composed)
    x, y, reset = window(9, 7)
    results = []
    for threads in (1, 2):
        model = make(composed, Workers(threads), np.float64)  # whose loops are compiled already
        loss, state = model.gradient(x, y, None, reset)
        again = model.gradient(x, y, state, reset)[0]
        results.append((loss, again, *(part.tobytes() for layer in state.layers for part in layer)))
    assert results[0] == results[1]


def test_a_network_reads_as_the_list_of_its_modules():
    config = ModelConfig(65, embedding_size=32, num_layers=2, dropout=0.2)
    assert str(config.network()).splitlines() == [
        "Embedding(65, 32)",
        "Recurrent(lstm, 32 -> 256)",
        "LayerNorm(256)",
        "Dropout(0.2)",
        "Residual(Recurrent(lstm, 256 -> 256), LayerNorm(256))",
        "Dropout(0.2)",
        "Linear(256 -> 65)",
    ]
    one_hot = ModelConfig(9, "rnn", "relu", 8, 1, 0, norm=False)
    assert repr(one_hot.network()) == "Sequential(Recurrent(rnn_relu, 9 -> 8), Linear(8 -> 9))"


def test_the_initial_tensors_are_those_that_the_shapes_name():
    configs = ModelConfig(7, hidden_size=4), ModelConfig(7, "gru", hidden_size=4, norm=False)
    for composed in (network(GatedSkip(H)), *(config.network() for config in configs)):
        tensors = composed.initial(np.random.default_rng(1))
        assert [(name, tensor.shape) for name, tensor in tensors.items()] == list(composed.shapes().items())
        assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float32)}


def test_to_describe_a_network_needs_no_compiler():
    code = (
        "import sys; from charrnn.config import ModelConfig; ModelConfig(9).parameter_shapes(); "
        "assert 'charrnn.nn.modules.recurrent' in sys.modules; assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True, timeout=60)


# --- a module in a model's file -----------------------------------------------------------------


def untrained(between: tuple[str, ...] = ("gated_skip",), **settings: Any) -> Checkpoint:
    characters = "\nabcdef"
    sizes = {"hidden_size": 18, "num_layers": 3, "embedding_size": 18}
    config = ModelConfig(len(characters), between=between, **(sizes | settings))
    return Checkpoint(config, Vocabulary(characters), TextConfig(), initial_tensors(config, 1))


@compiled_only
@pytest.mark.usefixtures("registered")
def test_a_module_of_ones_own_learns_and_goes_on_after_an_interruption(tmp_path):
    own = {"between": ["gated_skip"]}
    corpus, out = check_learning(tmp_path, own, **own)
    finer = tmp_path / "f.safetensors"
    assert list(api.train(corpus, out=finer, init_from=out, steps=2))[-1].reason == "budget"
    assert load(finer).config.between == ("gated_skip",)


@compiled_only
@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "settings", [{}, {"cell": "gru", "norm": False, "embedding_size": 7, "between": ("gated_skip",) * 2}]
)
def test_a_module_of_ones_own_writes_the_same_bits_on_both_engines_and_any_number_of_threads(
    settings, precision, monkeypatch
):
    from charrnn.inference import engines
    from charrnn.inference import writing_loop as kernels

    monkeypatch.setattr(engines, "WEIGHTS_A_THREAD", 1)
    monkeypatch.setattr(engines, "Pace", AlwaysTogether)
    network = PlainNetwork(untrained(**settings), precision)
    numbers = [np.random.default_rng(1).random(n) for n in (40, 200, 90)]
    config = SampleConfig()
    paths = [PlainPath(network, config), *(CompiledPath(network, config, kernels, n) for n in (1, 2, 3))]
    for texts in (numbers[:1], numbers):
        results = []
        for path in paths:
            cursors = [Cursor(network.vocab_size, network.initial_state()) for _ in texts]
            written = path.write(cursors, texts, -1)
            states = [cursor.state.tobytes() for cursor in cursors]
            results.append(([ids.tolist() for ids in written], states))
        assert all(result == results[0] for result in results)


@compiled_only
@pytest.mark.usefixtures("registered")
def test_writing_with_a_module_of_ones_own_computes_what_training_does():
    check_numbers(untrained(), Workers(2))


@compiled_only
@pytest.mark.usefixtures("registered")
def test_a_mixture_with_a_module_of_ones_own_writes_the_same_on_both_engines():
    check_mixture(MixedNetwork(blend([(untrained(), 1), (untrained((), num_layers=1), 2)])))


@compiled_only
@pytest.mark.usefixtures("registered")
def test_a_module_of_ones_own_compresses_to_the_same_bytes_on_both_engines(monkeypatch):
    check_compression(untrained(), monkeypatch)


@compiled_only
@pytest.mark.usefixtures("registered")
def test_another_composition_compiles_nothing_but_its_own_equations():
    from charrnn.inference import writing_loop as kernels

    compiled = []
    for checkpoint in (untrained(()), untrained(), untrained(norm=False, residual=False, num_layers=2)):
        network = PlainNetwork(checkpoint)
        path = CompiledPath(network, SampleConfig(), kernels, threads=1)
        path.write([Cursor(network.vocab_size, network.initial_state())], [np.zeros(3)], -1)
        compiled.append(len(kernels.write.signatures))
    assert compiled[0] == compiled[1] == compiled[2]


def test_a_model_names_its_modules_and_one_that_lacks_them_is_refused_by_name(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    with monkeypatch.context() as patch:
        patch.setitem(table.BETWEEN, "gated_skip", f"{__name__}:GatedSkip")
        checkpoint = untrained()
        save(checkpoint, path)
        again = load(path)
        assert again.config == checkpoint.config
        assert "between_l1.0.weight_g" in again.tensors
        assert str(again.config.network()).count("GatedSkip(18)") == 2
        plain = untrained(()).config.num_parameters
        assert again.config.num_parameters == plain + 2 * (2 * 18 * 18 + 2 * 18)
    with pytest.raises(CheckpointError, match="between is 'gated_skip'"):
        load(path)


@pytest.mark.usefixtures("registered")
def test_modules_between_layers_are_named_in_the_table_and_have_layers_beside_them():
    with pytest.raises(ConfigError, match="between is 'mystery': give one of gated_skip"):
        ModelConfig(5, between=("mystery",))
    with pytest.raises(ConfigError, match="num-layers is 1"):
        ModelConfig(5, num_layers=1, between=("gated_skip",))
    for wrong in ("gated_skip", 3, None, [["gated_skip"]]):
        with pytest.raises(ConfigError, match="between is"):
            ModelConfig(5, between=wrong)


def test_a_network_without_modules_between_its_layers_is_stored_as_ever():
    assert "between" not in ModelConfig(5).to_dict()
    assert format_version(ModelConfig(5)) == 1
