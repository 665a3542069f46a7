"""The plan for a corpus: sane from eleven characters to two gigabytes, on slow machines and on fast ones."""

from __future__ import annotations

import itertools
import re
import runpy
from pathlib import Path

import pytest

from charrnn.config import ModelConfig, TrainConfig
from charrnn.nn.modules.residual import Residual
from charrnn.training.planning.writing import (
    FEW_EPOCHS,
    LARGEST_WINDOW,
    MOST_EPOCHS,
    SHORT,
    SIZES,
    SMALL_SIZES,
    SMALLEST_VALIDATED,
    TRAINING_SHARE,
    by_speed,
    plan,
)

DOCS = Path(__file__).parent.parent / "docs"
LENGTHS = (2, 11, 500, 2_000, 10**4, 10**5, 10**6, 10**7, 10**8, 2 * 10**9)


def machine(flops):
    """The speed of a machine that does so many products a second, and nothing else."""
    return lambda network, batch, window: flops / (6.0 * network.num_parameters)


def configs(settings, vocab_size):
    names = set(ModelConfig.__dataclass_fields__) - {"vocab_size"}
    model = ModelConfig(vocab_size, **{n: v for n, v in settings.items() if n in names})
    return model, TrainConfig(**{n: v for n, v in settings.items() if n not in names})


@pytest.mark.parametrize("flops", [1e9, 3e11, 1e13])
@pytest.mark.parametrize("characters", LENGTHS)
def test_a_plan_suits_any_corpus(characters, flops):
    budgets = ({}, {"minutes": 0.1}, {"minutes": 5}, {"minutes": 600}, {"epochs": 3}, {"steps": 100})
    for vocab_size, given in itertools.product((2, 65, 5_000, 200_000), budgets):
        made = plan(characters, vocab_size, given, machine(flops))
        model, train = configs(made.settings, vocab_size)
        assert 64 <= model.hidden_size <= SIZES[-1]
        assert isinstance(model.network().modules[1], Residual)  # what follows the embedding
        assert (train.val_fraction == 0) == (characters < SMALLEST_VALIDATED)
        assert train.val_fraction * characters <= 200_001
        assert train.batch_size * train.seq_len * vocab_size <= LARGEST_WINDOW or train.batch_size == 1
        assert train.learning_rate <= 0.0105
        assert len({"minutes", "epochs", "steps"} & made.settings.keys()) == 1
        assert made.reason
        assert "\n" not in made.reason


GIVEN = (
    {},
    {"dropout": 0.1},
    {"hidden_size": 512},
    {"hidden_size": 512, "dropout": 0.1},
    {"hidden_size": 512, "dropout": 0.1, "weight_decay": 0.1},
)


@pytest.mark.parametrize("flops", [1e9, 3e11, 1e13])
@pytest.mark.parametrize("characters", [*LENGTHS, 1_100_000])
def test_the_reason_says_how_often_the_text_is_read(characters, flops):
    budgets = ({}, {"minutes": 0.05}, {"minutes": 5}, {"minutes": 600}, {"epochs": 3}, {"steps": 100})
    for vocab_size, budget, given in itertools.product((65, 5_000), budgets, GIVEN):
        made = plan(characters, vocab_size, {**budget, **given}, machine(flops))
        model, train = configs(made.settings, vocab_size)
        text = characters * (1 - train.val_fraction)
        times, most = train.epochs, train.most_epochs
        if train.steps is not None:
            times = train.steps * train.batch_size * train.seq_len / text
        elif train.minutes is not None:
            speed = machine(flops)(model, train.batch_size, train.seq_len)
            times = min(60 * TRAINING_SHARE * train.minutes * speed / text, most)
        if characters > SHORT and "weight_decay" not in given:
            assert train.weight_decay == (0.2 if times < FEW_EPOCHS else 0.3)
        if made.reason:
            assert _says(made.reason.rpartition(f"{characters:,} characters, ")[2], times, most)


def _says(words, times, most):
    if match := re.fullmatch(r"read at most ([\d,]+) times", words):
        return float(match[1].replace(",", "")) == most
    if match := re.fullmatch(r"of which about (\d+) % is read", words):
        return abs(float(match[1]) - 100 * times) <= 0.5
    if match := re.fullmatch(r"read about ([\d,]+) times", words):
        return abs(float(match[1].replace(",", "")) - times) <= 0.5
    return {"of which less than 1 % is read": times < 0.01, "read about once": 0.95 <= times < 1.5}[words]


def test_what_is_given_is_kept_and_not_explained():
    given = {"hidden_size": 31, "steps": 7, "dropout": 0.0, "num_layers": 1}
    made = plan(10**6, 65, given, machine(1e11))
    assert made.settings.items() >= given.items()
    assert made.settings["embedding_size"] == 31
    assert "minutes" not in made.settings
    assert made.reason == ""


def test_more_time_or_a_faster_machine_never_makes_the_network_smaller():
    for characters in LENGTHS[5:]:
        sizes = [
            [
                plan(characters, 65, {"minutes": minutes}, machine(flops)).settings["hidden_size"]
                for flops in (1e9, 1e10, 1e11, 1e12, 1e13)
            ]
            for minutes in (0.2, 1, 5, 30, 300)
        ]
        for row in (*sizes, *zip(*sizes, strict=True)):
            assert list(row) == sorted(row)
        assert sizes[0][0] == SIZES[0]
    assert sizes[-1][-1] == SIZES[-1]  # of the longest text


def test_a_text_that_is_read_more_often_gets_more_dropout():
    rates = [
        configs(plan(10**6, 65, {"epochs": epochs, "hidden_size": 256}).settings, 65)[0].dropout
        for epochs in (0.5, 2, 5, 10, 20, 40)
    ]
    assert rates == sorted(rates)
    assert rates[0] == 0.0
    assert 0.05 <= rates[3] <= 0.15
    assert rates[-1] >= 0.25
    large = plan(2 * 10**9, 65, {"minutes": 30}, machine(3e11))
    assert configs(large.settings, 65)[0].dropout == 0.0


def test_a_short_text_ends_a_long_run_sooner():
    _, train = configs(plan(20_000, 65, {"minutes": 600}, machine(3e11)).settings, 65)
    assert train.most_epochs == MOST_EPOCHS
    assert train.minutes == 600


def test_no_length_of_a_text_is_a_cliff():
    """Where one text is a tenth longer than another, their plans are alike."""
    lengths = [int(2 * 1.1**n) for n in range(120)]
    sizes = [H for _, H in SMALL_SIZES] + list(SIZES)
    for shorter, longer in itertools.pairwise(lengths):
        (a, run), (b, next_run) = (
            configs(plan(n, 65, {"epochs": 40}).settings, 65) for n in (shorter, longer)
        )
        assert abs(a.dropout - b.dropout) < 0.11
        assert a.num_layers == b.num_layers
        assert abs(sizes.index(a.hidden_size) - sizes.index(b.hidden_size)) <= 1
        assert run.weight_decay == next_run.weight_decay
        assert run.learning_rate < 1.6 * next_run.learning_rate
        assert plan(longer, 65, {}, machine(1e11)).settings.get("epochs", 0) <= 40


def test_a_short_list_is_read_few_times_with_much_dropout():
    model, train = configs(plan(1_100, 40, {}).settings, 40)
    assert train.epochs <= 40
    assert train.val_fraction == 0.1
    assert model.dropout >= 0.6
    assert model.hidden_size <= 64


def test_speed_is_asked_for_where_it_decides_and_nowhere_else():
    asked = []

    def speed(network, batch, window):
        asked.append(network.hidden_size)
        return 1e5

    decided = {"hidden_size": 64, "dropout": 0.1, "weight_decay": 0.1}
    for given in ({"epochs": 3}, {"steps": 3}, {"minutes": 1, **decided}):
        assert not by_speed(10**6, given)
        plan(10**6, 65, given, speed)
    plan(1_000, 65, {"minutes": 1}, speed)
    plan(10**4, 65, {}, speed)  # its default is a number of epochs
    assert asked == []
    for given in ({"minutes": 1}, {}, {"minutes": 1, "hidden_size": 64, "dropout": 0.1}):
        assert by_speed(10**6, given)
        asked.clear()
        plan(10**6, 65, given, speed)
        assert asked


def test_the_table_of_plans_is_what_is_planned():
    program = runpy.run_path(str(DOCS / "make_plans.py"))
    text = (DOCS / "quality.md").read_text(encoding="utf-8")
    assert program["page"](text) == text, "run python docs/make_plans.py"
