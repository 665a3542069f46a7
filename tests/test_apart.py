"""Shards that learn apart: the outer step, the same bytes on any ranks, and runs that go on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.processes import TEXT
from support.shards import READERS, B, batch, config
from support.threaded_ranks import led

import charrnn
from charrnn.config import Kind, ModelConfig, TrainConfig
from charrnn.errors import CharrnnError, ConfigError
from charrnn.events import Evaluated, Finished, Saved, Started, Step
from charrnn.nn.learning.apart import OUTER_MOMENTUM, OUTER_RATE
from charrnn.nn.learning.compilation import model_of
from charrnn.nn.learning.learner import Learner
from charrnn.nn.learning.learners import learner_of
from charrnn.nn.learning.speed import Pace, hidden, pace
from charrnn.nn.network import initial_tensors
from charrnn.nn.workers import Workers
from charrnn.ranks.ranks import ALONE
from charrnn.training.planning import meeting

SHARDS, EVERY, RATE = 3, 2, 0.02


def learner(ranks: Any, kind: Kind = "writer", dropout: float = 0.3, **more: Any) -> Any:
    own = config(kind, dropout=dropout)
    model: Any = model_of(own, workers=Workers(1, ranks))
    model.load_tensors(initial_tensors(own, 3))
    train = TrainConfig(steps=9, seed=4, clip=0.1, shards=SHARDS, sync_every=EVERY, **more)
    return learner_of(model, train, B)


def goes_on(own: Any, carry: Any, kind: Kind, steps: range) -> tuple[list[float], Any]:
    told: list[float] = []
    for step in steps:
        *figures, carry = own.train_step(batch(kind, step), carry, RATE, step)
        told += figures
        if step % EVERY == EVERY - 1:
            assert own.exchange()
    return told, carry


def kept(own: Any, carry: Any) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in own.state_dict(carry).items()}


def trained(ranks: Any, kind: Kind, **more: Any) -> tuple[list[float], dict[str, bytes]]:
    own = learner(ranks, kind, **more)
    told, carry = goes_on(own, None, kind, range(5))
    return told, kept(own, carry)


@pytest.mark.parametrize("kind", ["writer", *READERS])
def test_shards_that_learn_apart_give_the_same_bytes_on_any_number_of_ranks(kind: Kind) -> None:
    alone = trained(ALONE, kind)
    for size in (2, 3):
        assert led(size, lambda ranks: trained(ranks, kind)) == alone


def test_the_mean_of_norms_is_averaged_with_the_moments() -> None:
    told, tensors = trained(ALONE, "writer", clip_ratio=1.5)
    assert led(2, lambda ranks: trained(ranks, "writer", clip_ratio=1.5)) == (told, tensors)
    assert len(np.frombuffer(tensors["adam.mean_norm"], np.float32)) == 1
    own = learner(ALONE, clip_ratio=1.5)
    goes_on(own, None, "writer", range(EVERY))
    each = [float(shard.optimizer.mean_norm[0]) for shard in own._shards]
    assert own.optimizer.mean_norm[0] == pytest.approx(sum(each) / SHARDS, rel=1e-6)


def test_an_exchange_is_a_step_of_nesterov_against_the_mean_of_what_shards_have_moved() -> None:
    own = learner(ALONE, dropout=0.0)
    goes_on(own, None, "writer", range(2 * EVERY))
    common = model_of(config(dropout=0.0), workers=Workers(1))
    common.load_tensors(initial_tensors(config(), 3))
    weights = common.parameters.flat.astype(np.float64)
    momentum, moments, carries = weights * 0, [weights * 0, weights * 0], [None] * SHARDS
    for interval in range(2):
        moved, averages = weights * 0, [weights * 0, weights * 0]
        for shard, columns in enumerate(pairwise(B * n // SHARDS for n in range(SHARDS + 1))):
            model: Any = model_of(config(dropout=0.0), workers=Workers(1))
            model.parameters.flat[:] = weights
            apart = Learner(model, TrainConfig(steps=9, seed=4, clip=0.1), columns[1] - columns[0])
            apart.optimizer.steps = EVERY * interval
            for array, value in zip(apart.optimizer.tensors().values(), moments, strict=True):
                array[:] = value
            for step in range(EVERY * interval, EVERY * (interval + 1)):
                part = model.columns_of(batch("writer", step), *columns)
                _, _, carries[shard] = apart.train_step(part, carries[shard], RATE, step)
            moved += (weights - model.parameters.flat) / SHARDS
            for average, array in zip(averages, apart.optimizer.tensors().values(), strict=True):
                average += array / np.float64(SHARDS)
        momentum = OUTER_MOMENTUM * momentum + moved
        weights, moments = weights - OUTER_RATE * (moved + OUTER_MOMENTUM * momentum), averages
    found = own.state_dict(None)
    for name, expected in zip(("parameters", "adam.m", "adam.v"), (weights, *moments), strict=True):
        np.testing.assert_allclose(found[name], expected, rtol=2e-3, atol=2e-6)


def test_what_is_read_and_saved_between_two_exchanges_is_that_of_the_last_one() -> None:
    own = learner(ALONE)
    _, carry = goes_on(own, None, "writer", range(EVERY))
    before, tensors = kept(own, carry), own.tensors()
    x, y, reset, _ = batch("writer", 9)
    losses = own.model.losses(x, y, None, reset)[0]
    _, carry = goes_on(own, carry, "writer", range(EVERY, EVERY + 1))
    assert kept(own, carry) == before
    np.testing.assert_array_equal(own.model.losses(x, y, None, reset)[0], losses)
    assert own.exchange()
    assert any((own.tensors()[name] != value).any() for name, value in tensors.items())


@pytest.mark.parametrize(("before", "after"), [(1, 3), (2, 1)])
def test_other_ranks_go_on_from_the_last_exchange(before: int, after: int) -> None:
    def first(ranks: Any) -> Any:
        own = learner(ranks)
        _, carry = goes_on(own, None, "writer", range(EVERY + 1))
        return {name: array.copy() for name, array in own.state_dict(carry).items()}, own.updates

    def second(ranks: Any) -> Any:
        own = learner(ranks)
        return kept(own, goes_on(own, own.load_state_dict(*saved), "writer", range(EVERY, 5))[1])

    saved = led(before, first)
    assert saved[1] == EVERY
    assert led(after, second) == trained(ALONE, "writer")[1]


def test_a_shard_of_which_nothing_is_to_be_learned_is_averaged_with_the_others() -> None:
    own = learner(ALONE, "classifier")
    given = batch("classifier", 1)
    given.weights[: B // SHARDS] = 0
    loss, norm, _ = own.train_step(given, None, RATE, 0)
    assert (loss, norm) == (0.0, 0.0)
    assert own.exchange()
    assert own.is_finite()


def test_a_shard_that_diverges_is_found_at_the_exchange() -> None:
    def lead(ranks: Any) -> bool:
        own = learner(ranks)
        own.train_step(batch("writer", 0), None, RATE, 0)
        with ranks.asking(spoil, [()] * ranks.size):
            pass
        own.train_step(batch("writer", 1), None, RATE, 1)
        return own.exchange()  # type: ignore[no-any-return]

    assert not led(2, lead)


def spoil(ranks: Any, held: Any) -> Any:
    held._shards[0].weights[:] = np.inf
    return held


# --- runs -----------------------------------------------------------------------------------------------


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path / "text.txt"


def run(text: Path, **settings: Any) -> Iterator[Any]:
    tiny = {
        "hidden_size": 8,
        "num_layers": 1,
        "embedding_size": 4,
        "threads": 1,
        "batch_size": 8,
        "counts": 0,
    }
    given: dict[str, Any] = {
        "shards": 4,
        "sync_every": 5,
        "steps": 23,
        "evaluations": 9,
        "from_scratch": True,
    }
    return charrnn.train(text, out=text.with_suffix(".safetensors"), **{**tiny, **given, **settings})


@pytest.fixture
def every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charrnn.training.run.REPORT_SECONDS", 0.0)


@pytest.mark.compiled
def test_a_run_is_evaluated_and_saved_at_exchanges_and_at_its_end(text: Path) -> None:
    events = list(run(text))
    assert [event.step for event in events if isinstance(event, Evaluated)] == [5, 10, 15, 20, 23]
    assert {event.step for event in events if isinstance(event, Saved)} <= {0, 5, 10, 15, 20, 23}


@pytest.mark.compiled
def test_a_run_that_is_stopped_between_exchanges_goes_on_to_the_same_bytes(
    text: Path, every_step_is_told: None
) -> None:
    model = text.with_suffix(".safetensors")
    list(run(text))
    straight = model.read_bytes()
    for last in (3, 12):
        model.unlink()
        done = 0
        for event in run(text, force=True, stop=lambda: "told" if done >= last else None):  # noqa: B023
            done = event.step if isinstance(event, Step) else done
        assert isinstance(event, Finished)
        assert event.message == f"--resume goes on from step {last // 5 * 5}, the last exchange of shards"
        assert charrnn.load(model) is not None
        list(run(text, resume=True))
        assert model.read_bytes() == straight


@pytest.mark.compiled
def test_a_run_whose_shards_learn_apart_learns(text: Path) -> None:
    events = list(run(text, steps=60, sync_every=10, evaluations=6))
    losses = [event.val_loss for event in events if isinstance(event, Evaluated)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("step", "exchange", "every"), [(0.2, 0.001, 1), (0.2, 0.02, 1), (0.2, 0.6, 50), (0.2, 20.0, 500)]
)
def test_the_slower_the_network_the_longer_shards_learn_apart(
    step: float, exchange: float, every: int
) -> None:
    assert meeting.sync_every(Pace(step, exchange)) == every


def test_of_a_choice_the_reason_is_told() -> None:
    told = meeting.reason(Pace(0.2123, 0.5321), 50)
    assert told == "shards meet every 50 steps, as an exchange takes 0.53 s and a step 0.21 s"


@pytest.mark.compiled
def test_ranks_of_several_machines_meet_as_often_as_their_network_allows(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def slow(network: ModelConfig, batch_size: int, seq_len: int, **how: Any) -> Pace:
        measured.append(batch_size)
        return Pace(0.1, 1.0)

    monkeypatch.setattr("charrnn.training.run_setup.pace", slow)

    def started(ranks: Any, hosts: list[str], **more: Any) -> Started:
        ranks.hosts = hosts
        events = run(text, ranks=ranks, sync_every=None, force=True, **more)
        return next(event for event in events if isinstance(event, Started))

    one = led(2, lambda ranks: started(ranks, ["a", "a"]))
    assert (one.train.sync_every, measured) == (1, [])
    two = led(2, lambda ranks: started(ranks, ["a", "b"]))
    assert (two.train.sync_every, measured) == (50, [8])
    assert two.planned.endswith("shards meet every 50 steps, as an exchange takes 1 s and a step 0.1 s")


@pytest.mark.compiled
def test_a_step_and_an_exchange_are_measured_on_all_ranks() -> None:
    def measured(ranks: Any) -> Pace:
        return pace(config(), B, 5, bfloat16=False, workers=Workers(1, ranks), shards=SHARDS)

    found = led(2, measured)
    assert 0 < found.step < 60
    assert 0 < found.exchange < 60
    assert 0 < found.hidden < min(found.step, found.exchange)


def test_what_of_an_exchange_is_hidden_behind_a_step_is_what_stages_above_have_and_lower_ones_take() -> None:
    model: Any = model_of(config(num_layers=3), workers=Workers(1))
    lowest = sum(last - first for first, last in model.places_of_stages()[0])
    above = 1 - lowest / len(model.parameters.flat)
    assert hidden(model, 9.0, 0.5) == pytest.approx(0.5 * above)
    assert hidden(model, 0.9, 50.0) == pytest.approx(0.9 * 4 / 9)
    assert hidden(model_of(config("tagger"), workers=Workers(1)), 9.0, 0.5) == 0
    assert Pace(0.9, 0.5, 0.2).with_exchanges(1) == pytest.approx(1.2)
    assert Pace(0.9, 0.5, 0.2).with_exchanges(50) == pytest.approx(0.93)


@pytest.mark.compiled
def test_a_planned_choice_is_kept_when_the_run_goes_on_or_is_repeated(
    text: Path, monkeypatch: pytest.MonkeyPatch, every_step_is_told: None
) -> None:
    monkeypatch.setattr("charrnn.training.run_setup.pace", lambda *_, **__: Pace(0.1, 1.0))

    def first(ranks: Any) -> None:
        ranks.hosts = ["a", "b"]
        list(run(text, ranks=ranks, sync_every=None, steps=60))

    led(2, first)
    model = text.with_suffix(".safetensors")
    assert charrnn.load(model).settings["sync_every"] == 50
    before = model.read_bytes()
    list(run(text, sync_every=None, steps=60))
    assert model.read_bytes() == before


def test_learning_apart_is_for_shards_alone(text: Path) -> None:
    with pytest.raises(ConfigError, match="--sync-every says how long the shards"):
        next(run(text, shards=1))
    with pytest.raises(CharrnnError, match="--cell esn learns from whole batches"):
        next(run(text, cell="esn", shards=None, embedding_size=None, num_layers=None))
