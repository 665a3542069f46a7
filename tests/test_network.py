"""The compiled network against PyTorch's recorded values, the naive reference and its own promises."""

from __future__ import annotations

import itertools

import naive
import numpy as np
import pytest
from naive import CELLS
from support import torch_recordings as recorded
from support.central_differences import check_gradients, own_places

from charrnn.config import ModelConfig
from charrnn.nn.network import Model, State, initial_tensors
from charrnn.nn.workers import Workers


@pytest.fixture(scope="module")
def workers() -> Workers:
    return Workers(2)


def random_window(rng, V, T, B, *, starts=True):
    """x with START where a document begins, y, and where it begins."""
    reset = rng.random((T, B)) < 0.2 if starts else np.zeros((T, B), bool)
    x = np.where(reset, V, rng.integers(0, V, (T, B))).astype(np.int32)
    return x, rng.integers(0, V, (T, B)).astype(np.int32), reset


def random_state(rng, config, B, dtype):
    zero = State.zero(config.network().states, B, dtype)
    return State(
        tuple(tuple(0.5 * rng.standard_normal(a.shape).astype(dtype) for a in k) for k in zero.layers)
    )


def random_tensors(rng, config):
    # Small enough that recurrence is not chaotic, where float32 could agree with nothing.
    return {n: rng.standard_normal(s) * min(0.4, s[-1] ** -0.5) for n, s in config.parameter_shapes().items()}


def make(config, tensors, workers, dtype):
    model = Model(config, workers=workers, dtype=dtype)
    model.load_tensors(tensors)
    return model


def outputs(window):
    """What each layer passed on, as dropout left it."""
    return [dropout.y.values for dropout in window.dropouts]


def as_state(layers, dtype):
    return State(tuple(tuple(np.asarray(a, dtype) for a in layer) for layer in layers))


@pytest.mark.parametrize("name", recorded.names())
def test_logits_and_state_are_pytorchs(name, workers):
    r = recorded.load(name)
    model = make(ModelConfig(**r.config), r.tensors, workers, np.float32)
    logits, state = model.forward(r.x, as_state(r.state, np.float32))
    np.testing.assert_allclose(logits, r.logits, rtol=0, atol=1e-5)
    for ours, theirs in zip(state.layers, r.final_state, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", recorded.names())
def test_loss_and_gradients_are_pytorchs(name, workers):
    r = recorded.load(name)
    model = make(ModelConfig(**r.config), r.tensors, workers, np.float64)
    loss, _ = model.gradient(r.x, r.y, as_state(r.state, np.float64))
    assert loss == pytest.approx(r.loss, abs=1e-12)
    gradients = model.gradients.tensors()
    assert gradients.keys() == r.gradients.keys()
    for key, expected in r.gradients.items():
        np.testing.assert_allclose(gradients[key], expected, rtol=1e-9, atol=1e-12, err_msg=key)
    for ours, theirs in zip(model.state_gradient().layers, r.state_gradient, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
@pytest.mark.parametrize("D", [0, 5, 7, 33])
def test_kernels_agree_with_the_naive_reference(cell, nonlinearity, D, workers):
    """Sizes around the tile's and the panel's, documents that start inside the window."""
    rng = np.random.default_rng(3)
    for H, V, L, T, B, norm, residual in [
        (1, 2, 1, 1, 1, False, True),
        (7, 7, 2, 3, 1, True, True),
        (33, 40, 2, 5, 27, True, True),
        (32, 33, 3, 4, 3, False, True),
        (65, 3, 1, 7, 14, True, False),
        (40, 5, 2, 70, 5, False, False),
    ]:
        config = ModelConfig(V, cell, nonlinearity, H, L, D, norm, residual)
        tensors = random_tensors(rng, config)
        x, y, reset = random_window(rng, V, T, B)
        state = random_state(rng, config, B, np.float64)
        network = (cell, nonlinearity, L, norm, residual)
        expected, gradients, state_gradient, final = naive.loss_and_gradients(
            tensors, *network, x, y, state.layers, reset
        )
        for dtype, tolerance in ((np.float64, 1e-11), (np.float32, 3e-4)):
            model = make(config, tensors, workers, dtype)
            loss, end = model.gradient(x, y, as_state(state.layers, dtype), reset)
            assert loss == pytest.approx(expected, rel=tolerance)
            for key, value in model.gradients.tensors().items():
                scale = np.abs(gradients[key]).max() + 1e-3
                np.testing.assert_allclose(value, gradients[key], rtol=0, atol=tolerance * scale, err_msg=key)
            pairs = zip(model.state_gradient().layers + end.layers, [*state_gradient, *final], strict=True)
            for ours, theirs in pairs:
                for a, b in zip(ours, theirs, strict=True):
                    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * (1 + np.abs(b).max()))


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
@pytest.mark.parametrize(
    ("norm", "residual", "L"), list(itertools.product([False, True], [False, True], [1, 2]))
)
@pytest.mark.parametrize("D", [0, 4])
def test_gradients_are_central_differences(cell, nonlinearity, norm, residual, L, D, workers):
    """Every parameter and the initial state, on the compiled kernels themselves."""
    rng = np.random.default_rng(11)
    config = ModelConfig(4, cell, nonlinearity, 4, L, D, norm, residual)
    tensors = random_tensors(rng, config)
    model = make(config, tensors, workers, np.float64)
    x, y, reset = random_window(rng, 4, 4, 2)
    state = random_state(rng, config, 2, np.float64)

    gradient = check_gradients(model, x, y, state, reset)
    used = own_places(model)
    assert len(used) == config.num_parameters
    assert not np.delete(gradient, used).any(), "padding has a gradient"


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
def test_dropout_scales_and_its_gradient_agrees_with_the_reference(cell, nonlinearity, workers):
    """The masks that the kernels draw, read off the outputs, give the naive reference's gradients."""
    rng = np.random.default_rng(5)
    V, H, T, B, rate = 6, 9, 4, 3, 0.4
    config = ModelConfig(V, cell, nonlinearity, H, 2, 9, True, True, dropout=rate)
    tensors = random_tensors(rng, config)
    x, y, reset = random_window(rng, V, T, B)
    model = make(config, tensors, workers, np.float64)
    loss, _ = model.gradient(x, y, None, reset, dropout_seed=77)
    (window,) = (w for key, w in model._windows.items() if key[2])
    masks = [(out[..., :H] != 0) / (1 - rate) for out in outputs(window)]
    network = (cell, nonlinearity, 2, True, True)
    expected, gradients, *_ = naive.loss_and_gradients(tensors, *network, x, y, None, reset, masks)
    assert loss == pytest.approx(expected, rel=1e-11)
    for key, value in model.gradients.tensors().items():
        np.testing.assert_allclose(value, gradients[key], rtol=1e-9, atol=1e-11, err_msg=key)
    assert model.gradient(x, y, None, reset, dropout_seed=77)[0] == loss
    assert model.gradient(x, y, None, reset, dropout_seed=78)[0] != loss


def test_dropout_keeps_the_asked_share_and_differs_between_layers_and_seeds(workers):
    config = ModelConfig(5, hidden_size=64, embedding_size=64, dropout=0.3)
    model = make(config, initial_tensors(config, 1), workers, np.float32)
    x = np.zeros((20, 30), np.int32)
    masks = []
    for seed in (1, 2):
        model.gradient(x, x, dropout_seed=seed)
        (window,) = (w for key, w in model._windows.items() if key[2])
        masks += [out[..., :64] == 0 for out in outputs(window)]
    for mask in masks:
        # 38,400 draws: five standard deviations are 0.012
        assert mask.mean() == pytest.approx(0.3, abs=0.012)
        assert abs(mask.mean(axis=(0, 1)) - 0.3).max() < 0.1
    for a, b in itertools.combinations(masks, 2):
        assert (a & b).mean() == pytest.approx(0.09, abs=0.01)


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
@pytest.mark.parametrize("D", [0, 16])
def test_any_number_of_threads_gives_the_same_bits(cell, nonlinearity, D):
    rng = np.random.default_rng(8)
    config = ModelConfig(50, cell, nonlinearity, 40, 2, D, dropout=0.2)
    tensors = initial_tensors(config, 4)
    x, y, reset = random_window(rng, 50, 9, 31)
    results = []
    for threads in (1, 2, 3, 5):
        model = make(config, tensors, Workers(threads), np.float32)
        loss, state = model.gradient(x, y, None, reset, dropout_seed=5)
        parts = [model.gradients.flat.tobytes(), *(a.tobytes() for k in state.layers for a in k)]
        results.append((loss, parts))
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
def test_a_pipeline_of_layers_gives_the_same_bits(cell, nonlinearity):
    """With fewer columns than threads, the layers follow each other in time."""
    rng = np.random.default_rng(8)
    for L, norm, D in ((2, True, 0), (3, False, 16), (5, True, 40)):
        config = ModelConfig(40, cell, nonlinearity, 40, L, D, norm)
        x, _, reset = random_window(rng, 40, 150, 1)
        results = set()
        for threads in (1, 2, 3, 8):
            model = make(config, initial_tensors(config, 4), Workers(threads), np.float32)
            logits, state = model.forward(x, None, reset)
            results.add((logits.tobytes(), *(a.tobytes() for k in state.layers for a in k)))
        assert len(results) == 1


def test_an_error_in_the_pipeline_is_raised_and_hangs_nobody(monkeypatch):
    config = ModelConfig(5, hidden_size=8, num_layers=3, embedding_size=8)
    model = make(config, initial_tensors(config, 4), Workers(3), np.float32)
    x = np.zeros((300, 1), np.int32)
    model.forward(x)
    (window,) = model._windows.values()

    def broken(*args):
        raise MemoryError("of layer 1")

    monkeypatch.setattr(window.layers[1], "forward", broken)
    with pytest.raises(MemoryError, match="of layer 1"):
        model.forward(x)


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
def test_state_carried_over_windows_is_one_long_window(cell, nonlinearity, workers):
    rng = np.random.default_rng(9)
    config = ModelConfig(12, cell, nonlinearity, 20, 2, 8)
    model = make(config, initial_tensors(config, 4), workers, np.float32)
    x, _, reset = random_window(rng, 12, 30, 4)
    whole, end = model.forward(x, None, reset)
    state, parts = None, []
    for t in (slice(0, 7), slice(7, 8), slice(8, 30)):
        logits, state = model.forward(x[t], state, reset[t])
        parts.append(logits)
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    for a, b in zip(state.layers, end.layers, strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
def test_a_future_character_never_changes_an_earlier_logit(cell, nonlinearity, workers):
    rng = np.random.default_rng(10)
    config = ModelConfig(12, cell, nonlinearity, 20, 2, 0)
    model = make(config, initial_tensors(config, 4), workers, np.float32)
    x, _, reset = random_window(rng, 12, 12, 3)
    before, _ = model.forward(x, None, reset)
    changed = x.copy()
    changed[6, 1] = (x[6, 1] + 1) % 12
    after, _ = model.forward(changed, None, reset)
    assert before[:6].tobytes() == after[:6].tobytes()
    assert before[:, [0, 2]].tobytes() == after[:, [0, 2]].tobytes()
    assert not np.array_equal(before[6, 1], after[6, 1])


def test_a_start_forgets_all_that_came_before(workers):
    config = ModelConfig(9, hidden_size=10, embedding_size=6)
    model = make(config, initial_tensors(config, 4), workers, np.float32)
    x = np.array([[3], [4], [9], [2], [1]], np.int32)
    reset = x == 9
    whole, _ = model.forward(x, None, reset)
    alone, _ = model.forward(x[2:], None, reset[2:])
    assert whole[2:].tobytes() == alone.tobytes()


def test_tensors_come_back_as_they_went_in():
    rng = np.random.default_rng(12)
    for config in (
        ModelConfig(37, hidden_size=33, embedding_size=5),
        ModelConfig(3, "gru", hidden_size=1, num_layers=1, embedding_size=0, norm=False),
    ):
        tensors = {n: rng.standard_normal(s).astype(np.float32) for n, s in config.parameter_shapes().items()}
        back = make(config, tensors, Workers(1), np.float32).tensors()
        assert list(back) == list(tensors)
        assert all(np.array_equal(back[n], tensors[n]) for n in tensors)


def test_initial_parameters():
    H = 24
    lstm = initial_tensors(ModelConfig(10, hidden_size=H, num_layers=2), 1)
    assert not lstm["rnn.bias_ih_l1"].any()
    assert not lstm["rnn.bias_hh_l1"].any()
    without_norm = initial_tensors(ModelConfig(10, hidden_size=H, num_layers=2, norm=False), 1)
    assert without_norm["rnn.bias_ih_l1"].tolist() == [0] * H + [1] * H + [0] * 2 * H  # the forget gate's
    for gate in lstm["rnn.weight_hh_l0"].reshape(4, H, H):
        np.testing.assert_allclose(gate @ gate.T, np.eye(H), atol=1e-5)
    relu = initial_tensors(ModelConfig(10, "rnn", "relu", H, 1), 1)
    assert np.array_equal(relu["rnn.weight_hh_l0"], np.eye(H))
    other = initial_tensors(ModelConfig(10, hidden_size=H, num_layers=2), 2)
    assert not np.array_equal(lstm["decoder.weight"], other["decoder.weight"])


def test_losses_are_safe_at_extreme_logits(workers):
    config = ModelConfig(3, hidden_size=2, num_layers=1, norm=False, embedding_size=2)
    tensors = initial_tensors(config, 1)
    tensors["decoder.bias"] = np.array([1e30, 0, -1e30], np.float32)
    model = make(config, tensors, workers, np.float32)
    x = np.zeros((1, 2), np.int32)
    losses, _ = model.losses(x, np.array([[0, 2]], np.int32))
    assert losses[0, 0] == 0
    assert losses[0, 1] == pytest.approx(2e30, rel=1e-6)
