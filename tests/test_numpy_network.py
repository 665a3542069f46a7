"""The plain network against the naive reference, PyTorch's recorded values, and its promised order."""

from __future__ import annotations

import itertools

import naive
import numpy as np
import pytest
from naive import CELLS
from support import torch_recordings as recorded

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import ModelConfig, TextConfig
from charrnn.inference.numpy_network import (
    PlainNetwork,
    bfloat16,
    layer_norm,
    padded,
    product,
    sigmoid,
    tanh,
    transposed,
)
from charrnn.vocabulary import Vocabulary

V = 7
# Hidden and embedding size: embedding (0: one-hot) as wide as a layer, where it is skipped around, or not.
SIZES = [(7, 7), (5, 3), (7, 0), (5, 0)]


def checkpoint(config: ModelConfig, tensors: dict[str, np.ndarray]) -> Checkpoint:
    characters = "".join(chr(ord("A") + i) for i in range(config.vocab_size))
    return Checkpoint(config, Vocabulary(characters), TextConfig(), tensors)


def random_tensors(rng, config, scale=1.0):
    return {
        name: (scale * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in config.parameter_shapes().items()
    }


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize(("norm", "residual"), list(itertools.product((False, True), repeat=2)))
@pytest.mark.parametrize("num_layers", [1, 3])
def test_logits_and_state_are_those_of_the_naive_network(
    cell, nonlinearity, sizes, norm, residual, num_layers
):
    H, D = sizes
    config = ModelConfig(V, cell, nonlinearity, H, num_layers, D, norm, residual)
    rng = np.random.default_rng(num_layers + 10 * H)
    tensors = random_tensors(rng, config, 0.4)
    text = [V, *rng.integers(0, V, 12).tolist(), V, 3]  # START, and once more in mid-text
    expected, expected_state, _ = naive.forward(
        tensors, cell, nonlinearity, num_layers, norm, residual, np.array(text)[:, None]
    )
    network = PlainNetwork(checkpoint(config, tensors))
    state = network.initial_state()
    for t, character in enumerate(text):
        logits, state = network.step(character, state)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected[t, 0], rtol=0, atol=2e-5)
    for ours, theirs in zip(state, expected_state, strict=True):
        np.testing.assert_allclose(ours, np.concatenate([part[0] for part in theirs]), rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", recorded.names())
def test_logits_are_pytorchs(name):
    r = recorded.load(name)
    network = PlainNetwork(checkpoint(ModelConfig(**r.config), r.tensors))
    for b in range(r.x.shape[1]):
        state = np.array([np.concatenate([part[b] for part in layer]) for layer in r.state], np.float32)
        for t, character in enumerate(r.x[:, b].tolist()):
            logits, state = network.step(character, state)
            np.testing.assert_allclose(logits, r.logits[t, b], rtol=0, atol=1e-5)


def test_a_step_leaves_the_state_it_was_given():
    config = ModelConfig(V, hidden_size=4, embedding_size=4)
    network = PlainNetwork(checkpoint(config, random_tensors(np.random.default_rng(1), config)))
    _, state = network.step(V, network.initial_state())
    before = state.copy()
    first, _ = network.step(2, state)
    again, _ = network.step(2, state)
    np.testing.assert_array_equal(state, before)
    np.testing.assert_array_equal(first, again)


def test_arrays_for_the_compiled_loop_are_writable_copies():
    config = ModelConfig(V, hidden_size=4, embedding_size=4)
    tensors = random_tensors(np.random.default_rng(2), config)
    for tensor in tensors.values():
        tensor.flags.writeable = False  # as those of a mapped file
    network = PlainNetwork(checkpoint(config, tensors))
    network.step(0, network.initial_state())
    arrays = [network.matrices, network.vectors, network.tables, {"": network.known}]
    for array in (array for some in arrays for array in some.values()):
        assert array.flags.writeable
        assert not any(np.shares_memory(array, tensor) for tensor in tensors.values())


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
def test_weights_that_overflow_do_so_silently(cell, nonlinearity):
    config = ModelConfig(V, cell, nonlinearity, hidden_size=4, embedding_size=4)
    network = PlainNetwork(checkpoint(config, random_tensors(np.random.default_rng(3), config, 1e38)))
    state = network.initial_state()
    for character in (V, 0, 1, 2):
        logits, state = network.step(character, state)  # pytest makes errors of warnings
    assert not np.isfinite(logits).all()


@pytest.mark.parametrize("outputs", [1, 2, 15, 16, 17, 64, 65, 512, 1000, 9000])
@pytest.mark.parametrize("K", [1, 2, 3, 8, 9, 17, 128, 129, 300])
def test_a_product_adds_up_from_the_first_term_to_the_last(outputs, K):
    rng = np.random.default_rng(K)
    # Terms of all sizes and signs: in any other order the rounding would be different.
    weight = (rng.standard_normal((outputs, K)) * 10.0 ** rng.uniform(-3, 3, (outputs, K))).astype(np.float32)
    x = rng.standard_normal(K).astype(np.float32)
    total = weight[:, 0] * x[0]
    for k in range(1, K):
        total = total + weight[:, k] * x[k]
    result = product(transposed(weight), x)
    assert result.shape == (padded(outputs),)
    assert result[:outputs].tobytes() == total.tobytes()


def test_padding_is_to_whole_vectors():
    assert [padded(n) for n in (1, 15, 16, 17, 512, 513)] == [16, 16, 16, 32, 512, 528]


def test_tanh_and_sigmoid_are_close():
    x = np.concatenate([np.linspace(-12, 12, 100_001), np.logspace(-30, 30, 1001)]).astype(np.float32)
    x = np.concatenate([x, -x, np.array([np.inf, -np.inf], np.float32)])
    wide = x.astype(np.float64)
    np.testing.assert_allclose(tanh(x), np.tanh(wide), rtol=0, atol=4e-7)
    np.testing.assert_allclose(sigmoid(x), 0.5 + 0.5 * np.tanh(wide / 2), rtol=0, atol=4e-7)


def test_nan_stays_nan():
    x = np.array([np.nan], np.float32)
    assert np.isnan(tanh(x)).all()
    assert np.isnan(sigmoid(x)).all()


@pytest.mark.parametrize("H", [1, 2, 7, 300])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_layer_norm_is_that_of_its_definition(H, offset):
    rng = np.random.default_rng(H)
    h = (rng.standard_normal(H) + offset).astype(np.float32)
    weight, bias = rng.standard_normal((2, H)).astype(np.float32)
    expected, _ = naive.layer_norm(h.astype(np.float64), weight, bias)
    before = h.copy()
    np.testing.assert_allclose(layer_norm(h, weight, bias), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(h, before)


def test_bfloat16_is_the_nearest_of_two_halves_the_even_one():
    upper = np.arange(0x0080, 0x7F7F, 37, dtype=np.uint32)  # normal numbers, the largest left out
    below, above = ((upper + n) << 16 for n in (0, 1))
    even = np.where(upper % 2 == 0, below, above)
    for lower, expected in ((0, below), (1, below), (0x7FFF, below), (0x8000, even), (0x8001, above)):
        for sign in (0, 0x80000000):
            numbers = (below | np.uint32(lower) | np.uint32(sign)).view(np.float32)
            np.testing.assert_array_equal(bfloat16(numbers).view(np.uint32), expected | np.uint32(sign))
    assert bfloat16(np.array([0.1], np.float32))[0] == 0.10009765625


def test_bfloat16_rounds_the_matrices_that_each_character_reads():
    config = ModelConfig(V, hidden_size=4, embedding_size=4)
    tensors = random_tensors(np.random.default_rng(4), config)
    matrices = ("rnn.weight_hh", "rnn.weight_ih_l1", "decoder.weight")
    rounded = {
        name: bfloat16(tensor) if name.startswith(matrices) else tensor for name, tensor in tensors.items()
    }
    network = PlainNetwork(checkpoint(config, tensors), "bfloat16")
    expected = PlainNetwork(checkpoint(config, rounded))
    logits, state = network.step(2, network.initial_state())
    expected_logits, expected_state = expected.step(2, expected.initial_state())
    assert logits.tobytes() == expected_logits.tobytes()
    assert state.tobytes() == expected_state.tobytes()
    assert network.matrices.keys() == {name for name in tensors if name.startswith(matrices)}
    assert all((matrix.view(np.uint32) & 0xFFFF == 0).all() for matrix in network.matrices.values())
