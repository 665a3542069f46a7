"""Batches in shards: the sum is that of the batch, and depends neither on ranks nor on threads."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from support.cells import CELLS
from support.shards import READERS, B, T, batch, config
from support.threaded_ranks import ThreadedRanks, led

from charrnn.config import Kind, TrainConfig
from charrnn.errors import TrainingError
from charrnn.nn import precision
from charrnn.nn.learning.compilation import model_of
from charrnn.nn.learning.learner import Learner
from charrnn.nn.learning.learners import learner_of
from charrnn.nn.learning.sums import ShardSum, nodes
from charrnn.nn.learning.together import reading_together, shared
from charrnn.nn.network import Model, initial_tensors
from charrnn.nn.passes import Passes
from charrnn.nn.reader import Reader
from charrnn.nn.workers import Workers
from charrnn.ranks.ranks import ALONE


def trained(
    ranks: Any, kind: Kind, shards: int, *, steps: int = 4, cell: Any = None, threads: int = 1
) -> tuple[list[float], dict[str, bytes]]:
    """The losses and norms of some steps, and all from which training would go on."""
    own = config(kind, **(cell or {}))
    model: Any = model_of(own, workers=Workers(threads, ranks))
    model.load_tensors(initial_tensors(own, 3))
    learner: Any = learner_of(model, TrainConfig(steps=9, seed=4, clip=0.1, shards=shards), B)
    told, carry = [], None
    for step in range(steps):
        *figures, carry = learner.train_step(batch(kind, step), carry, 0.02, step)
        told += figures
    return told, {name: array.tobytes() for name, array in learner.state_dict(carry).items()}


def on(size: int, *arguments: Any, **more: Any) -> Any:
    return led(size, lambda ranks: trained(ranks, *arguments, **more))


@pytest.mark.parametrize("shards", [1, 2, 3, 8, 13])
def test_the_tree_of_shards_is_cut_into_the_largest_nodes_of_each_rank(shards: int) -> None:
    for size in range(1, shards + 1):
        found = [
            node
            for rank in range(size)
            for node in nodes(0, shards, shards * rank // size, shards * (rank + 1) // size)
        ]
        assert [shard for low, high in found for shard in range(low, high)] == list(range(shards))
    assert list(nodes(0, 8, 0, 8)) == [(0, 8)]
    assert list(nodes(0, 8, 2, 5)) == [(2, 4), (4, 5)]


def vectors(shards: int) -> Any:
    return np.random.default_rng(1).standard_normal((shards, 96)).astype(np.float32)


def sum_of(ranks: Any, held: Any, shards: int) -> list[Any]:
    """On each rank, the sum; on the leader, those of all."""
    total = np.zeros(96, np.float32)

    def compute(shard: int) -> None:
        total[:] = vectors(shards)[shard]

    summed = ShardSum(shards, total, ranks, Workers(2))
    summed.add_up(summed.one_by_one(compute))
    return ranks.gather(total)  # type: ignore[no-any-return]


@pytest.mark.parametrize("shards", [1, 2, 5, 8])
def test_the_sum_of_shards_is_that_of_a_tree_on_any_number_of_ranks(shards: int) -> None:
    def tree(low: int, high: int) -> Any:
        middle = (low + high) // 2
        return vectors(shards)[low] if high - low == 1 else tree(low, middle) + tree(middle, high)

    def lead(ranks: ThreadedRanks) -> list[Any]:
        with ranks.asking(sum_of, [(shards,)] * ranks.size):
            return sum_of(ranks, None, shards)

    for size in range(1, 6):
        found = led(size, lead)
        assert len(found) == size
        for total in found:
            np.testing.assert_array_equal(total, tree(0, shards))


@pytest.mark.parametrize("kind", ["writer", *READERS])
def test_the_gradients_of_shards_add_up_to_that_of_the_batch(kind: Kind) -> None:
    own = config(kind, dropout=0.0)
    model: Any = model_of(own, workers=Workers(1), dtype=np.float64)
    model.load_tensors(initial_tensors(own, 3))
    given = batch(kind, 1)
    whole = model.weight_of(given)
    loss, _ = model.learn(given, None, 1, ())
    gradient = model.gradients.flat.copy()
    sums = np.zeros_like(gradient), 0.0
    for b0, b1 in ((0, 2), (2, 6), (6, 7)):
        part, _ = model.learn(model.columns_of(given, b0, b1), None, 1, (), whole)
        sums = sums[0] + model.gradients.flat, sums[1] + part
    assert sums[1] == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(sums[0], gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["writer", *READERS])
def test_shards_give_the_same_bytes_on_any_number_of_ranks(kind: Kind) -> None:
    alone = trained(ALONE, kind, 4)
    for size in (1, 2, 3, 4):
        assert on(size, kind, 4, threads=1 + size % 2) == alone
    assert trained(ALONE, kind, 2) != alone


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
def test_all_cells_give_the_same_bytes_on_two_ranks(cell: str, nonlinearity: str) -> None:
    chosen = {"cell": cell, "nonlinearity": nonlinearity}
    assert on(2, "writer", 3, cell=chosen) == trained(ALONE, "writer", 3, cell=chosen)


def test_a_batch_of_fewer_columns_than_shards_is_cut_into_as_many() -> None:
    alone = trained(ALONE, "writer", 13)
    assert alone == trained(ALONE, "writer", B)
    assert on(3, "writer", 13) == alone


def test_ranks_that_have_no_columns_learn_from_those_of_others() -> None:
    def learned(ranks: Any) -> bytes:
        model = Model(config(), workers=Workers(1, ranks))
        model.load_tensors(initial_tensors(config(), 3))
        learner = learner_of(model, TrainConfig(steps=9, shards=4), 2)
        learner.train_step(model.columns_of(batch("writer", 1)[:3], 0, 2), None, 0.02, 1)
        return model.parameters.flat.tobytes()

    assert led(3, learned) == learned(ALONE)


def test_a_layer_s_gradient_is_exchanged_while_those_below_are_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone, has_come, waited = trained(ALONE, "writer", 4, steps=1), threading.Event(), []
    back, spread = Passes._back, ThreadedRanks.spread

    def waits(self: Any, modules: Any, share: Any) -> None:
        if modules == self.stages[0]:
            waited.append(has_come.wait(20))
        back(self, modules, share)

    def tells(self: Any, whole: Any, counts: Any, channel: int = 0) -> Any:
        is_done = spread(self, whole, counts, channel)

        def is_done_here() -> bool:
            if is_done():
                has_come.set()
                return True
            return False

        return is_done_here

    monkeypatch.setattr(Passes, "_back", waits)
    monkeypatch.setattr(ThreadedRanks, "spread", tells)
    assert led(2, lambda ranks: trained(ranks, "writer", 4, steps=1), are_apart=True) == alone
    assert waited == [True, True]


def test_one_shard_is_what_there_was_before_shards() -> None:
    model = Model(config(), workers=Workers(1))
    assert type(learner_of(model, TrainConfig(steps=1), B)) is Learner


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 2), (2, 1)])
def test_a_run_goes_on_with_another_number_of_ranks(before: int, after: int) -> None:
    def learner(ranks: Any) -> Any:
        model = Model(config(), workers=Workers(1, ranks))
        model.load_tensors(initial_tensors(config(), 3))
        return learner_of(model, TrainConfig(steps=9, seed=4, clip=0.1, shards=4), B)

    def first(ranks: Any) -> Any:
        own, carry = learner(ranks), None
        for step in range(2):
            _, _, carry = own.train_step(batch("writer", step), carry, 0.02, step)
        return {name: array.copy() for name, array in own.state_dict(carry).items()}, own.updates

    def second(ranks: Any) -> Any:
        own = learner(ranks)
        carry = own.load_state_dict(*saved)
        for step in range(2, 4):
            _, _, carry = own.train_step(batch("writer", step), carry, 0.02, step)
        return {name: array.tobytes() for name, array in own.state_dict(carry).items()}

    saved = led(before, first)
    assert led(after, second) == trained(ALONE, "writer", 4)[1]


@pytest.mark.parametrize("more", [{}, {"sync_every": 2}])
def test_all_ranks_evaluate_with_averaged_weights(more: dict[str, Any]) -> None:
    def evaluated(ranks: Any) -> list[bytes]:
        model = Model(config(), workers=Workers(1, ranks))
        model.load_tensors(initial_tensors(config(), 3))
        learner, carry = learner_of(model, TrainConfig(steps=9, shards=4, average=0.5, **more), B), None
        for step in range(4):
            _, _, carry = learner.train_step(batch("writer", step), carry, 0.02, step)
        assert learner.exchange()
        found = []
        for within in (learner.averaged(), nullcontext()):
            with within:
                found.append(learner.model.losses(*batch("writer", 5)[:2])[0].tobytes())
        parts = learner.state_dict(carry), learner.tensors()
        return [*found, *(array.tobytes() for part in parts for array in part.values())]

    alone = evaluated(ALONE)
    assert alone[0] != alone[1]
    for size in (2, 3):
        assert led(size, evaluated) == alone


def test_a_rank_whose_weights_have_changed_is_found_when_the_run_is_saved() -> None:
    def lead(ranks: Any) -> None:
        model = Model(config(), workers=Workers(1, ranks))
        model.load_tensors(initial_tensors(config(), 3))
        learner = learner_of(model, TrainConfig(steps=9, shards=4), B)
        _, _, carry = learner.train_step(batch("writer", 1), None, 0.02, 1)
        with ranks.asking(spoil, [()] * ranks.size):
            pass
        learner.state_dict(carry)

    with pytest.raises(TrainingError, match="rank 1"):
        led(2, lead)


def spoil(ranks: Any, held: Any) -> Any:
    held.model.parameters.flat[3] += 1
    return held


@pytest.mark.parametrize("size", [2, 3])
def test_a_text_is_read_by_several_ranks_to_the_same_losses(size: int) -> None:
    model = Model(config(), workers=Workers(1))
    model.load_tensors(initial_tensors(config(), 3))
    x, y, reset, _ = batch("writer", 1)

    def read(reading: Any) -> list[Any]:
        found, state = [], None
        for _ in range(2):
            doubts = np.zeros((x.size, 2), np.float32)
            nats, state = reading.losses(x, y, state, reset, None, doubts)
            found += [nats.tobytes(), doubts.tobytes()]
        return found

    def lead(ranks: Any) -> Any:
        own = Model(config(), workers=Workers(1))
        own.load_tensors(initial_tensors(config(), 3))
        return read(shared(own, ranks))

    assert led(size, lead) == read(model)


@pytest.mark.parametrize("kind", READERS)
def test_whole_texts_are_read_by_several_ranks_to_the_same_figures(kind: Kind) -> None:
    given = batch(kind, 1)

    def read(reading: Any) -> list[bytes]:
        found = [reading.losses(given)]
        if kind != "rewriter":
            found.append(reading.forward(given.x, given.lengths))
        if kind == "tagger":
            found += reading.best(given.x, given.lengths)
        return [array.tobytes() for array in found]

    def reader() -> Reader:
        own = Reader(config(kind), workers=Workers(1))
        own.load_tensors(initial_tensors(config(kind), 3))
        return own

    assert led(3, lambda ranks: read(shared(reader(), ranks))) == read(reader())


def test_one_process_alone_reads_with_the_model_itself() -> None:
    model = Model(config(), workers=Workers(1))
    assert shared(model, ALONE) is model
    assert reading_together(model).parameters is model.parameters


@pytest.mark.parametrize("kind", ["writer", *READERS])
def test_stages_have_all_that_the_network_has(kind: Kind) -> None:
    own = config(kind, embedding_size=6)  # with a skip connection around the first layer
    model: Any = model_of(own, workers=Workers(1))
    places = sorted(place for stage in model.places_of_stages() for place in stage)
    assert [number for place in places for number in range(*place)] == [*range(len(model.gradients.flat))]
    learned = model.learn(batch(kind, 1), None, 1, ())
    assert learned[0] > 0
    (passes,) = model._windows.values()
    inputs = [rows for stage in passes.stages for bound in stage for rows in bound.own_inputs]
    assert list(map(id, inputs)) == list(map(id, passes.window.inputs))
    assert len(passes.stages) == len(model.places_of_stages()) >= 2


SIDE_BY_SIDE: list[dict[str, Any]] = [
    {},
    {"embedding_size": 0},
    {"embedding_size": 6},  # as wide as a layer: with a skip connection around the first one
    {"norm": False, "residual": False},
    {"num_layers": 1, "dropout": 0.0},
    {"cell": "gru", "labels": (3, 2)},
    {"ends": True},
]


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("more", SIDE_BY_SIDE)
def test_parts_side_by_side_have_the_sum_of_the_gradients_they_have_alone(
    more: dict[str, Any], bfloat16: bool
) -> None:
    if bfloat16 and not precision.HAS_BFLOAT16:
        pytest.skip("this CPU has no bfloat16 instructions")
    own = config(**more)
    random = np.random.default_rng(3)
    labels = random.integers(0, 4, (T, B, len(own.labels))).astype(np.int32) if own.labels else None
    for threads in (1, 3):
        model, alone = (Model(own, workers=Workers(threads), bfloat16=bfloat16) for _ in range(2))
        for one in (model, alone):
            one.windows_kept, one.bytes_kept = 3, 1 << 62
            one.load_tensors(initial_tensors(own, 3))
        columns, carries = ((0, 2), (2, 4), (4, 7)), [None, None, None]
        for step in range(2):  # the second one from the states after the first
            given = (*batch("writer", step)[:3], labels)
            parts = [model.columns_of(given, *some) for some in columns]
            sums, seen = ((2, 3), (1, 3), (0, 1), (0, 3)), [model.gradients.flat * 0 for _ in range(4)]

            def then(stage: int, n: int, seen: Any = seen, model: Any = model) -> Any:
                def keep(share: Any) -> None:
                    for first, last in model.places_of_stages()[stage] if share.worker == 0 else ():
                        seen[n][first:last] = model.gradients.flat[first:last]

                return keep

            told = model.learn_side_by_side(parts, carries, [5, 6, 7], T * B, sums, then)
            found, gradients = [], []
            for n, (loss, state) in enumerate(told):
                expected, after = alone.learn(parts[n], carries[n], 5 + n, (), T * B)
                assert loss == expected
                for name, array in state.tensors().items():
                    np.testing.assert_array_equal(array, after.tensors()[name])
                found.append(after)
                gradients.append(alone.gradients.flat.copy())
            first, second, third = gradients
            added = third, second + third, first, first + (second + third)
            assert [one.tobytes() for one in seen] == [one.tobytes() for one in added]
            carries = found  # type: ignore[assignment]


@pytest.mark.parametrize("more", SIDE_BY_SIDE)
def test_a_window_has_all_its_buffers_before_the_first_pass(more: dict[str, Any]) -> None:
    """Threads that made one at the same time would write into two."""
    own = config(**more)
    model = Model(own, workers=Workers(1))
    x, y, reset, _ = batch("writer", 1)
    before = model._bound(True, *x.shape).window.nbytes
    model.gradient(x, y, None, reset, 3)
    assert model._bound(True, *x.shape).window.nbytes == before
