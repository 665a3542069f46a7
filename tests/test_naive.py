"""The reference itself: held against central differences and against PyTorch's recorded values."""

from __future__ import annotations

import itertools
from typing import Any

import naive
import numpy as np
import pytest
from naive import CELLS
from support import torch_recordings as recorded
from support.central_differences import check_slopes

Array = np.ndarray[Any, Any]

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
T, B, H = 3, 2, 3
SHAPES = [  # L, V, D
    pytest.param(1, 4, 3, id="1-embedding"),  # D is H: a skip connection around the first layer
    pytest.param(1, 4, 2, id="1-narrow-embedding"),
    pytest.param(1, 3, 0, id="1-one-hot"),  # V is H: here too
    pytest.param(1, 4, 0, id="1-wide-one-hot"),
    pytest.param(2, 4, 3, id="2-embedding"),
    pytest.param(2, 4, 2, id="2-narrow-embedding"),
    pytest.param(2, 3, 0, id="2-one-hot"),
    pytest.param(2, 4, 0, id="2-wide-one-hot"),
    pytest.param(3, 4, 3, id="3-embedding"),
    pytest.param(3, 4, 0, id="3-wide-one-hot"),
]
ALL_NAMES = recorded.names()
TRAINED_NAMES = recorded.names(trained=True)


def random_parameters(
    rng: np.random.Generator, cell: str, L: int, norm: bool, V: int, D: int
) -> dict[str, Array]:
    G = GATES[cell]
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (V, D)} if D else {}
    for k in range(L):
        shapes[f"rnn.weight_ih_l{k}"] = (G * H, H if k else (D or V))
        shapes[f"rnn.weight_hh_l{k}"] = (G * H, H)
        shapes[f"rnn.bias_ih_l{k}"] = (G * H,)
        shapes[f"rnn.bias_hh_l{k}"] = (G * H,)
        if norm:
            shapes[f"norm_l{k}.weight"] = (H,)
            shapes[f"norm_l{k}.bias"] = (H,)
    shapes |= {"decoder.weight": (V, H), "decoder.bias": (V,)}
    return {name: rng.normal(0.1, 0.7, shape) for name, shape in shapes.items()}


def random_state(rng: np.random.Generator, cell: str, L: int) -> list[tuple[Array, ...]]:
    parts = 2 if cell == "lstm" else 1
    return [tuple(rng.normal(0, 0.5, (B, H)) for _ in range(parts)) for _ in range(L)]


def random_text(rng: np.random.Generator, V: int) -> tuple[Array, Array, Array]:
    """x with START (V), y, and resets: at the window's start, within it, and without START."""
    x, y = rng.integers(0, V, (2, T, B))
    reset = np.zeros((T, B), bool)
    reset[0, 1] = reset[2, 0] = reset[2, 1] = True
    x[0, 1] = x[2, 0] = V
    return x, y, reset


def check_gradients(
    cell: str,
    nonlinearity: str,
    L: int,
    norm: bool,
    residual: bool,
    V: int,
    D: int,
    masks: list[Array] | None = None,
) -> None:
    rng = np.random.default_rng(3)
    parameters = random_parameters(rng, cell, L, norm, V, D)
    state = random_state(rng, cell, L)
    x, y, reset = random_text(rng, V)
    network = (cell, nonlinearity, L, norm, residual)

    def value() -> float:
        return naive.loss(naive.forward(parameters, *network, x, state, reset, masks)[0], y)

    loss, gradients, d_state, _ = naive.loss_and_gradients(parameters, *network, x, y, state, reset, masks)
    assert loss == value()
    assert gradients.keys() == parameters.keys()
    variables = [*parameters.values(), *itertools.chain(*state)]
    for variable, gradient in zip(variables, [*gradients.values(), *itertools.chain(*d_state)], strict=True):
        assert gradient.shape == variable.shape
        check_slopes(variable, gradient, value)


@pytest.mark.parametrize(("L", "V", "D"), SHAPES)
@pytest.mark.parametrize("kind", range(len(CELLS)))
def test_gradients_are_central_differences(kind: int, L: int, V: int, D: int) -> None:
    """Each shape and each cell with norm, residual, both and neither."""
    norm, residual = [(False, False), (False, True), (True, False), (True, True)][(kind + L + V + D) % 4]
    check_gradients(*CELLS[kind], L, norm, residual, V, D)


@pytest.mark.parametrize("norm", [False, True], ids=["", "norm"])
@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
def test_gradients_under_dropout_are_central_differences(cell: str, nonlinearity: str, norm: bool) -> None:
    rng = np.random.default_rng(5)
    masks = [(rng.random((T, B, H)) > 0.4) / 0.6 for _ in range(2)]
    check_gradients(cell, nonlinearity, 2, norm, True, 4, 3, masks)


@pytest.mark.parametrize("name", ALL_NAMES)
def test_forward_is_pytorchs(name: str) -> None:
    r = recorded.load(name)
    logits, state, _ = naive.forward(r.tensors, *r.network, r.x, r.state)
    np.testing.assert_allclose(logits, r.logits, rtol=0, atol=5e-6)
    for ours, theirs in zip(itertools.chain(*state), itertools.chain(*r.final_state), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-6)


@pytest.mark.parametrize("name", ALL_NAMES)
def test_loss_and_gradients_are_pytorchs(name: str) -> None:
    r = recorded.load(name)
    loss, gradients, d_state, _ = naive.loss_and_gradients(r.tensors, *r.network, r.x, r.y, r.state)
    assert loss == pytest.approx(r.loss, rel=1e-12)
    assert gradients.keys() == r.gradients.keys()
    for key, gradient in gradients.items():
        np.testing.assert_allclose(gradient, r.gradients[key], rtol=1e-9, atol=1e-12, err_msg=key)
    for ours, theirs in zip(itertools.chain(*d_state), itertools.chain(*r.state_gradient), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", TRAINED_NAMES)
def test_ten_training_losses_are_pytorchs(name: str) -> None:
    r = recorded.load(name)
    training = r.training
    assert training is not None
    settings = training.settings
    parameters = naive.as_float64(r.tensors)
    m, v = ({key: np.zeros_like(p) for key, p in parameters.items()} for _ in range(2))
    state, losses, norms = None, [], []
    seq_len = len(r.x)
    for step, start in enumerate(range(0, len(training.text) - 1, seq_len), start=1):
        x, y = (training.text[start + i : start + i + seq_len] for i in (0, 1))
        loss, gradients, _, state = naive.loss_and_gradients(parameters, *r.network, x, y, state)
        norm, gradients = naive.clip(gradients, settings["clip"])
        parameters, m, v = naive.adamw(
            parameters,
            gradients,
            m,
            v,
            step,
            settings["lr"],
            settings["beta1"],
            settings["beta2"],
            settings["eps"],
            settings["weight_decay"],
            0.0,
            naive.matrices(parameters),
        )
        losses.append(loss)
        norms.append(norm)
    # PyTorch divides by norm + 1e-6 when it clips.
    np.testing.assert_allclose(losses, training.losses, rtol=1e-6)
    np.testing.assert_allclose(norms, training.norms, rtol=1e-5)


def test_recordings_cover_what_they_promise() -> None:
    recordings = [recorded.load(name) for name in ALL_NAMES]
    kinds = {r.network[:2] + r.network[3:] for r in recordings}
    assert kinds == {(*c, n, s) for c in CELLS for n in (False, True) for s in (False, True)}
    for cell, nonlinearity in CELLS:
        own = [r for r in recordings if r.network[:2] == (cell, nonlinearity)]
        assert {r.config["num_layers"] for r in own} == {1, 2, 3}
        assert {"embedding.weight" in r.tensors for r in own} == {False, True}
    trained = [recorded.load(name) for name in TRAINED_NAMES]
    assert {r.network[:2] for r in trained} == set(CELLS)
    for r in trained:
        assert r.training is not None
        assert len(r.training.losses) == 10
        assert r.training.losses[-1] < r.training.losses[0]
        assert (r.training.norms > r.training.settings["clip"]).any()


@pytest.mark.parametrize("D", [3, 0], ids=["embedding", "one-hot"])
@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
def test_start_is_a_zero_vector(cell: str, nonlinearity: str, D: int) -> None:
    V = 4
    rng = np.random.default_rng(7)
    parameters = random_parameters(rng, cell, 2, True, V, D)
    # Character 0 becomes a zero vector too.
    if D:
        parameters["embedding.weight"][0] = 0.0
    else:
        parameters["rnn.weight_ih_l0"][:, 0] = 0.0
    zero = np.array([[2, 0], [0, 1], [3, 3]])
    start = np.where(zero == 0, V, zero)
    network = (cell, nonlinearity, 2, True, True)
    expected, _, _ = naive.forward(parameters, *network, zero)
    logits, _, _ = naive.forward(parameters, *network, start)
    np.testing.assert_array_equal(logits, expected)


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
def test_state_carried_over_windows_is_one_long_window(cell: str, nonlinearity: str) -> None:
    rng = np.random.default_rng(11)
    parameters = random_parameters(rng, cell, 2, True, 4, 3)
    x, _, reset = random_text(rng, 4)
    state = random_state(rng, cell, 2)
    network = (cell, nonlinearity, 2, True, True)
    whole, whole_state, _ = naive.forward(parameters, *network, x, state, reset)
    first, carried, _ = naive.forward(parameters, *network, x[:2], state, reset[:2])
    second, last, _ = naive.forward(parameters, *network, x[2:], carried, reset[2:])
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    np.testing.assert_array_equal(last, whole_state)


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
def test_reset_is_a_new_beginning_for_its_stream_alone(cell: str, nonlinearity: str) -> None:
    rng = np.random.default_rng(13)
    parameters = random_parameters(rng, cell, 2, True, 4, 3)
    x = rng.integers(0, 4, (T, B))
    state = random_state(rng, cell, 2)
    reset = np.zeros((T, B), bool)
    reset[2, 0] = True
    network = (cell, nonlinearity, 2, True, True)
    logits, _, _ = naive.forward(parameters, *network, x, state, reset)
    undisturbed, _, _ = naive.forward(parameters, *network, x, state)
    anew, _, _ = naive.forward(parameters, *network, x[2:])
    np.testing.assert_array_equal(logits[:2], undisturbed[:2])
    np.testing.assert_array_equal(logits[:, 1], undisturbed[:, 1])
    np.testing.assert_array_equal(logits[2:, 0], anew[:, 0])
    assert not np.allclose(logits[2:, 0], undisturbed[2:, 0])


def test_mask_multiplies_a_layers_output_after_norm_and_residual() -> None:
    rng = np.random.default_rng(17)
    parameters = random_parameters(rng, "gru", 1, True, 4, 3)
    x = rng.integers(0, 4, (T, B))
    network = ("gru", "tanh", 1, True, True)
    masks = [np.zeros((T, B, H))]
    logits, masked_state, _ = naive.forward(parameters, *network, x, masks=masks)
    np.testing.assert_array_equal(logits, np.tile(parameters["decoder.bias"], (T, B, 1)))
    _, state, _ = naive.forward(parameters, *network, x)
    np.testing.assert_array_equal(masked_state, state)  # the recurrence itself is not masked


def test_nothing_handed_in_is_changed() -> None:
    rng = np.random.default_rng(19)
    parameters = random_parameters(rng, "lstm", 2, True, 4, 3)
    state = random_state(rng, "lstm", 2)
    x, y, reset = random_text(rng, 4)
    arrays = [*parameters.values(), *itertools.chain(*state), x, y, reset]
    before = [a.copy() for a in arrays]
    network = ("lstm", "tanh", 2, True, True)
    _, gradients, _, _ = naive.loss_and_gradients(parameters, *network, x, y, state, reset)
    naive.adamw(
        parameters,
        gradients,
        gradients,
        {k: g**2 for k, g in gradients.items()},
        *(1, 0.1, 0.9, 0.99, 1e-8, 0.1, 0.1),
        naive.matrices(parameters),
    )
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_clip_scales_to_the_largest_norm_and_leaves_smaller_gradients() -> None:
    gradients = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    norm, clipped = naive.clip(gradients, 1.0)
    assert norm == 5.0
    np.testing.assert_allclose(clipped["a"], [0.6, 0.0])
    np.testing.assert_allclose(clipped["b"], [[0.8]])
    norm, clipped = naive.clip(gradients, 6.0)
    assert norm == 5.0
    np.testing.assert_array_equal(clipped["b"], gradients["b"])


def test_adamw_decays_steps_then_shrinks() -> None:
    # The first step of Adam is lr * sign(gradient), whatever the gradient's size.
    # "w": 2 - 0.1*0.5*2 = 1.9 (decay), - 0.1 = 1.8 (Adam), - 0.1*3 = 1.5 (l1); "bias": Adam alone.
    # The small weight goes to zero and not past it: 0.2 -> 0.19 -> 0.09 -> 0.
    parameters = {"w": np.array([[2.0, 0.2]]), "bias": np.array([-2.0])}
    gradients = {"w": np.array([[7.0, 0.01]]), "bias": np.array([-0.5])}
    zeros = {name: np.zeros_like(p) for name, p in parameters.items()}
    after, m, v = naive.adamw(
        parameters,
        gradients,
        zeros,
        zeros,
        step=1,
        lr=0.1,
        beta1=0.9,
        beta2=0.99,
        eps=0.0,
        weight_decay=0.5,
        l1=3.0,
        decayed=naive.matrices(parameters),
    )
    np.testing.assert_allclose(after["w"], [[1.5, 0.0]])
    np.testing.assert_allclose(after["bias"], [-1.9])
    np.testing.assert_allclose(m["w"], 0.1 * gradients["w"])
    np.testing.assert_allclose(v["w"], 0.01 * gradients["w"] ** 2)
