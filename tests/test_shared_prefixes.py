"""How texts that begin alike are read: the plan is followed by a network that remembers all it has read."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.model_files import checkpoint

from charrnn.nn.cells import learning
from charrnn.nn.network import Model
from charrnn.nn.workers import Workers
from charrnn.scoring import shared_prefixes
from charrnn.scoring.shared_prefixes import Plan

START = 3  # the texts are of the ids 0 to 2
TEXTS = st.lists(st.lists(st.integers(0, 2), max_size=8).map(tuple), min_size=1, max_size=25)


def joined(texts):
    ids = np.array([i for text in texts for i in text], np.int32)
    return ids, np.array([len(text) for text in texts], np.int64)


def plan_for(texts, *, columns: int = 4, most_states: int = 1000) -> Plan:
    with mock.patch.multiple(shared_prefixes, WINDOW=12, LEAST_SHARED=0):
        return shared_prefixes.plan(*joined(texts), columns, START, most_states)


def follow(plan: Plan):
    """What each character is predicted from, with itself; and how many steps that took."""
    losses, steps = {}, set()
    states = {0: ()}
    column = [None] * plan.B  # what each has read
    for number, window in enumerate(plan.windows):
        read, begun = {}, set()
        for place, (character, origin) in enumerate(
            zip(window.x.ravel().tolist(), window.restart_rows.ravel().tolist(), strict=True)
        ):
            b = place % plan.B
            if origin >= 0:
                column[b] = states[origin]
                begun.add(place)
            if column[b] is not None:
                column[b] = (*column[b], character)
            read[place] = column[b]
        for loss, place, i in zip(window.losses, window.places.tolist(), window.ids.tolist(), strict=True):
            losses[loss] = read[place], i
            steps.add((number, place))
        for slot, place in zip(window.slots.tolist(), window.kept.tolist(), strict=True):
            assert place + plan.B not in begun  # the state there would be overwritten
            states[slot] = read[place]
    return [losses[loss] for loss in plan.target], len(steps)


def predictions(texts):
    return [((START, *text[:j]), text[j]) for text in texts for j in range(len(text))]


@given(TEXTS, st.integers(1, 9))
@example([(0, 1), (0, 1, 1), (0, 1, 1), (0, 2)], 2)
def test_every_character_is_predicted_from_all_before_it(texts, columns):
    found, _ = follow(plan_for(texts, columns=columns))
    assert found == predictions(texts)


@given(TEXTS)
def test_no_beginning_is_read_twice(texts):
    texts = sorted(set(texts))
    found, steps = follow(plan_for(texts))
    assert found == predictions(texts)
    assert steps == len({before for before, _ in found})


@given(TEXTS, st.integers(0, 3))
def test_no_more_states_are_kept_than_there_is_room_for(texts, most_states):
    plan = plan_for(sorted(texts), most_states=most_states)
    assert plan.slots <= 1 + most_states
    assert follow(plan)[0] == predictions(sorted(texts))


def test_a_text_of_nothing_costs_nothing():
    assert follow(plan_for([(), ()])) == ([], 0)


@pytest.mark.parametrize("cell", learning())
def test_a_network_computes_the_same_bits_as_of_each_text_alone(cell):
    c = checkpoint(3, "abc", cell=cell, hidden_size=20, num_layers=2, embedding_size=20)
    model = Model(c.config, workers=Workers(2))
    model.load_tensors(c.tensors)
    random = np.random.default_rng(4)
    texts = sorted(tuple(random.integers(0, 3, n).tolist()) for n in random.integers(1, 30, 200))
    found = shared_prefixes.losses(model, *joined(texts), 16)
    alone = []
    for text in texts:
        y = np.array(text, np.int32)[:, None]
        x = np.concatenate([[[START]], y[:-1]]).astype(np.int32)
        alone += model.losses(x, y)[0].ravel().tolist()
    assert found.tolist() == alone
