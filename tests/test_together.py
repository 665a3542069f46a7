"""Texts that come and go, written side by side: each is what it would be alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.compiled_loop import compiled_only
from support.toy_models import log_probabilities, toy

from charrnn import api
from charrnn.config import SampleConfig
from charrnn.errors import SamplingError, VocabularyError
from charrnn.generation import together
from charrnn.generation.together import Order, Place, Together
from charrnn.vocabulary import END

pytestmark = pytest.mark.timeout(120)

LINES, PROSE, RECORDS = toy(1), toy(2, "\n .ab", lines=False), toy(3, "\nab", split="blank")
TURN = 0.002


def finish(group: Together, each_turn: Callable[[], None] = lambda: None) -> None:
    while not group.is_empty:
        group.advance(TURN)
        each_turn()


def text_of(place: Place) -> str:
    pieces, done = place.take()
    assert done
    assert place.error is None
    return "".join(piece.text for piece in pieces)


def alone(model: Any, prompt: str, count: int, **settings: Any) -> list[str]:
    return ["".join(text) for text in api.sample(model, prompt, count=count, **settings)]


@pytest.mark.parametrize("model", [LINES, PROSE, RECORDS], ids=["lines", "prose", "records"])
@pytest.mark.parametrize(
    "settings",
    [
        {"length": 30},
        {"length": 0},
        {"length": 25, "temperature": 1.5, "top_k": 3},
        {"length": 25, "until": ("ba", "bb"), "drop_until": True},
        {"length": 25, "ban": ("ab",)},
        {"length": 25, "match": "a*b[ab]{3}"},
        {"length": 25, "dry": 2.0, "dry_length": 2},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_each_text_is_the_one_that_the_command_writes(model: Any, settings: dict[str, Any]) -> None:
    group = Together(model, SampleConfig(**settings), 2)
    orders = [Order(p, SampleConfig(seed=s, **settings), range(3)) for p in ("", "ab") for s in (1, 2)]
    places = [group.join(order) for order in orders]
    finish(group)
    for order, those in zip(orders, places, strict=True):
        assert order.config.seed is not None
        assert [text_of(place) for place in those] == alone(
            model, order.prompt, 3, seed=order.config.seed, **settings
        )


@compiled_only
def test_a_text_joins_while_others_are_written_and_changes_none_of_them() -> None:
    group = Together(PROSE, SampleConfig(), 2)
    group.load()
    orders = [Order("ab", SampleConfig(seed=seed, length=400 + 50 * seed)) for seed in range(8)]
    coming, places = list(orders), []

    def one_more() -> None:
        if coming:
            places.append(group.join(coming.pop(0))[0])

    one_more()
    finish(group, one_more)
    while coming:
        one_more()
        finish(group)
    for order, place in zip(orders, places, strict=True):
        seed, length = order.config.seed, order.config.length
        assert [text_of(place)] == alone(PROSE, "ab", 1, seed=seed, length=length)


def test_more_texts_than_are_written_at_a_time_all_come_to_their_end() -> None:
    group = Together(LINES, SampleConfig(), 1)
    places = group.join(Order("a", SampleConfig(seed=5, length=12), range(150)))
    finish(group)
    assert [text_of(place) for place in places] == alone(LINES, "a", 150, seed=5, length=12)


def test_who_leaves_has_no_place_after_the_next_turn() -> None:
    group = Together(PROSE, SampleConfig(), 1)
    (leaver,) = group.join(Order("a", SampleConfig(seed=1, length=10**6)))
    (other,) = group.join(Order("a", SampleConfig(seed=2, length=50)))
    group.advance(TURN)
    leaver.leave()
    group.advance(TURN)
    assert leaver.done
    finish(group)
    assert len(text_of(other)) == 50


def test_who_leaves_while_the_prompt_is_read_is_not_written_for() -> None:
    group = Together(PROSE, SampleConfig(), 1)
    (place,) = group.join(Order("ab" * 5000, SampleConfig(seed=1)))
    group.advance(0.0)
    place.leave()
    group.advance(TURN)
    assert group.is_empty
    assert place.done


def test_who_leaves_before_the_first_turn_has_no_place_after_it() -> None:
    group = Together(PROSE, SampleConfig(), 1)
    places = group.join(Order("a", SampleConfig(seed=1), range(2)))
    for place in places:
        place.leave()
    group.advance(TURN)
    assert group.is_empty
    assert all(place.done for place in places)


def test_a_text_waits_while_its_reader_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "MOST_WAITING", 100)
    group = Together(PROSE, SampleConfig(), 1)
    (place,) = group.join(Order("a", SampleConfig(seed=1, length=5000)))
    while group.is_busy:
        group.advance(TURN)
    assert place.waiting >= 100
    assert place.waiting < 3000
    found = ""
    while not group.is_empty:
        group.advance(TURN)
        found += "".join(piece.text for piece in place.take()[0])
    assert [found + "".join(piece.text for piece in place.take()[0])] == alone(
        PROSE, "a", 1, seed=1, length=5000
    )


def test_after_its_time_a_text_is_cut_where_it_is() -> None:
    group = Together(PROSE, SampleConfig(), 1)
    order = Order("a", SampleConfig(seed=1, length=10**9), until=time.monotonic() + 0.05)
    (place,) = group.join(order)
    finish(group, lambda: None if place.waiting < together.MOST_WAITING // 2 else place.take())
    assert place.done
    assert place.cut


def test_what_is_wrong_with_an_order_is_told_at_its_place_and_harms_no_other() -> None:
    group = Together(LINES, SampleConfig(match="aaa"), 1)
    strange = group.join(Order("z", SampleConfig(seed=1)))
    short = group.join(Order("", SampleConfig(seed=1, length=2)))
    (good,) = group.join(Order("", SampleConfig(seed=1)))
    finish(group)
    assert all(isinstance(place.error, VocabularyError) for place in strange)
    assert all(isinstance(place.error, SamplingError) for place in short)
    assert text_of(good).rstrip("\n") == "aaa"


@pytest.mark.parametrize("model", [LINES, PROSE, RECORDS], ids=["lines", "prose", "records"])
def test_likelihoods_are_those_of_the_reference(model: Any) -> None:
    group = Together(model, SampleConfig(), 1)
    order = Order("ab", SampleConfig(seed=3, length=20), rated=2, rates_prompt=True)
    (place,) = group.join(order)
    finish(group)
    pieces, _ = place.take()
    text = "".join(piece.text for piece in pieces)
    rows = log_probabilities(model, "", "ab" + text)
    told = [*place.prompt_likelihoods, *(one for piece in pieces for one in piece.likelihoods)]
    ids = model.vocabulary.encode("ab" + text).tolist()
    if model.text.records:  # no text is empty, and so neither begins with its end
        rows[0, model.vocabulary.find(model.text.end)] = -np.inf
    for character, row, one in zip(ids, rows, told, strict=False):
        assert one is not None
        assert one.log_probability == pytest.approx(row[character], abs=1e-5)
        best = sorted(range(len(row)), key=lambda n: -row[n])[:2]
        assert [name for name, _ in one.best] == [model.vocabulary.characters[n] for n in best]
        assert [value for _, value in one.best] == pytest.approx([row[n] for n in best], abs=1e-5)
    assert len(told) == len(ids)


@pytest.mark.parametrize("model", [LINES, PROSE, RECORDS], ids=["lines", "prose", "records"])
def test_the_loss_of_a_text_is_that_by_which_the_best_is_chosen(model: Any) -> None:
    settings: dict[str, Any] = {"length": 15, "until": ("bb",), "drop_until": True}
    group = Together(model, SampleConfig(**settings), 1)
    places = group.join(Order("a", SampleConfig(seed=9, **settings), range(6), rated=0))
    finish(group)
    rated = []
    for text in api.sample(model, "a", count=6, seed=9, rated=True, **settings):
        assert "".join(text) == text_of(places[len(rated)])
        rated.append(text.loss)
    assert [place.loss for place in places] == rated


def test_the_likelihood_of_the_end_of_a_record_is_told_among_the_best() -> None:
    group = Together(RECORDS, SampleConfig(), 1)
    (place,) = group.join(Order("ab", SampleConfig(seed=3, length=5), rated=4))
    finish(group)
    (first, *_), _ = place.take()
    assert END in dict(first.likelihoods[0].best)


def test_who_listens_hears_once_there_is_something_and_at_once_if_there_is() -> None:
    group = Together(PROSE, SampleConfig(), 1)
    (place,) = group.join(Order("a", SampleConfig(seed=1, length=3)))
    heard: list[int] = []
    place.listen(lambda: heard.append(1))
    assert heard == []
    finish(group)
    assert heard == [1]
    place.listen(lambda: heard.append(2))
    assert heard == [1, 2]
