"""The sentence at the end of a run: overfitted, underfitted, or nothing clear."""

from __future__ import annotations

import math

import pytest

from charrnn.config import TrainConfig
from charrnn.diagnosis.losses import advise, after_early_stop, doubts, inflation

MINUTES = TrainConfig(minutes=3)


def history(*losses, epochs=1.0):
    """Evaluations of (training, validation) loss, so many epochs apart."""
    return [
        {"step": n, "epoch": n * epochs, "train_loss": train, "val_loss": val}
        for n, (train, val) in enumerate(losses, start=1)
    ]


def test_a_rising_validation_loss_is_overfitting():
    said = advise(history((2.0, 2.1), (1.5, 1.6), (1.2, 1.7)), MINUTES, 0.2)
    assert said.startswith("it overfitted: after epoch 2.0 the validation loss rose from 1.6000 to 1.7000")
    assert "more --dropout (now 0.2)" in said
    assert "more time would not" in said


def test_much_dropout_is_not_answered_with_more():
    said = advise(history((2.0, 2.1), (1.5, 1.6), (1.2, 1.7)), MINUTES, 0.6)
    assert "a smaller --hidden-size" in said
    assert "more --dropout" not in said


@pytest.mark.parametrize(
    "losses",
    [
        ((1.5, 1.600), (1.4, 1.604), (1.3, 1.602)),  # noise
        ((1.5, 1.6), (1.6, 1.9), (1.7, 2.0)),  # both rise: that is no overfitting
        ((2.0, 2.1), (1.5, 1.7), (1.3, 1.6)),  # as it should be
    ],
)
def test_nothing_is_said_where_nothing_is_clear(losses):
    assert advise(history(*losses), MINUTES, 0.0) == ""


def test_training_hardly_better_than_validation_is_underfitting():
    said = advise(history((2.0, 1.9), (1.70, 1.71)), MINUTES, 0.0)
    assert said.startswith("it could learn more")
    assert said.endswith("Try --minutes 6")


def test_after_many_epochs_the_network_may_be_too_small():
    said = advise(history((2.0, 1.9), (1.70, 1.71), epochs=20), TrainConfig(epochs=40), 0.1)
    assert said.endswith("Try --epochs 80 or a larger --hidden-size or less --dropout (now 0.1)")


def test_dropout_in_the_training_loss_is_not_taken_for_underfitting():
    """With dropout, a training loss as high as validation's says that the network knows its text well."""
    rows = history((2.0, 2.0), (1.60, 1.60))
    assert advise(rows, MINUTES, 0.0) != ""
    assert inflation(0.5) > 0.1
    assert advise(rows, MINUTES, 0.5) == ""


def test_losses_that_were_not_measured_are_left_out():
    assert advise([], MINUTES, 0.0) == ""
    rows = history((2.0, 2.1), (math.nan, 1.0), (1.5, 1.7))
    rows.append({"step": 9, "epoch": 9.0, "train_loss": None, "val_loss": None})
    assert advise(rows, MINUTES, 0.0) == ""


def test_twice_the_budget_is_written_as_it_is_given():
    rows = history((1.7, 1.7))
    assert "--steps 3000000 " in advise(rows, TrainConfig(steps=1_500_000), 0.1) + " "
    assert "--minutes 0.5" in advise(rows, TrainConfig(minutes=0.25), 0.0)


UNLIKE = ((1.9, 3.1), (1.4, 3.2), (1.1, 3.6))
EASIER = ((1.9, 0.4), (1.4, 0.001), (1.3, 0.0005))


@pytest.mark.parametrize(("losses", "said"), [(UNLIKE, "unlike the training text"), (EASIER, "much easier")])
@pytest.mark.parametrize(
    ("settings", "cure"),
    [
        ({"val_split": "end"}, "--val-split scattered"),
        ({"val_split": "scattered"}, "--val FILE names a better one"),
        ({"val_text": "f00d"}, "give another --val"),
    ],
)
def test_a_validation_text_of_another_kind_is_doubted_in_place_of_advice(losses, said, settings, cure):
    train = TrainConfig(minutes=3, **settings)
    for advice in (advise(history(*losses), train, 0.2), after_early_stop(history(*losses), train, 0.2)):
        assert advice.startswith(f"the validation text is {said}")
        assert advice.endswith(cure) or cure in advice
        assert "dropout" not in advice


def test_an_ordinary_validation_text_is_not_doubted():
    for losses in (((2.3, 2.0), (1.6, 1.7)), ((2.0, 2.1), (1.2, 1.7)), ((1.7, 1.5), (1.5, 1.2))):
        assert doubts(history(*losses), MINUTES, 0.3) == ""
    late = [{"step": 1, "epoch": 30.0, "train_loss": 0.2, "val_loss": 2.5}]  # by then it may have overfitted
    assert doubts(late, MINUTES, 0.0) == ""
    assert after_early_stop(late, MINUTES, 0.1).startswith("more text or more --dropout (now 0.1) would help")


def test_beside_counts_the_network_is_judged_by_its_own_loss():
    beside = TrainConfig(minutes=3, counts=1.0)
    rows = history((2.0, 1.5), (1.70, 1.4))
    assert advise([row | {"network_loss": 1.71} for row in rows], beside, 0.0).endswith(
        "hardly better than text that is new to it (1.7100, without counts). Try --minutes 6"
    )
    assert advise([row | {"network_loss": 1.9} for row in rows], beside, 0.0) == ""
    easy = doubts([row | {"network_loss": 0.5} for row in rows], beside, 0.0)
    assert "much easier than the training text (0.5000 against 1.7000)" in easy


def test_a_loss_with_counts_is_not_compared_with_that_of_training_which_has_none():
    beside = TrainConfig(minutes=3, counts=1.0)
    assert advise(history((2.0, 1.4), (1.70, 0.5)), beside, 0.0) == ""
    assert "much easier" in doubts(history((2.0, 1.4), (1.70, 0.5)), MINUTES, 0.0)
    said = advise(history((2.0, 2.1), (1.5, 1.6), (1.2, 1.7)), beside, 0.2)
    assert said.startswith("it overfitted")
