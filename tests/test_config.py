"""config: every setting is checked, and the tensors are PyTorch's."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.config import ModelConfig, SampleConfig, TextConfig, TrainConfig, format_version, later, to_dict
from charrnn.errors import ConfigError
from charrnn.nn.cells import kinds
from charrnn.nn.modules.recurrent import Recurrent
from charrnn.nn.modules.residual import Residual

NO_NUMBERS = [None, "1", [], {}, True, math.nan, math.inf, -math.inf, 10**400, -(10**400)]


def model(**settings: Any) -> ModelConfig:
    return ModelConfig(**{"vocab_size": 5, **settings})


def train(**settings: Any) -> TrainConfig:
    return TrainConfig(**{"steps": 1, **settings})


MODEL_BOUNDS = {
    "vocab_size": (1, 0x110000),
    "hidden_size": (1, 16384),
    "num_layers": (1, 64),
    "embedding_size": (0, 16384),
}
TRAIN_BOUNDS = {
    "steps": (1, 10**12),
    "batch_size": (1, 65536),
    "seq_len": (1, 65536),
    "evaluations": (1, 10**4),
    "patience": (1, 10**6),
    "seed": (0, 2**63 - 1),
}
TRAIN_RANGES = {  # a value inside, one below and one above
    "learning_rate": (3e-3, 0.0, 1e4),
    "final_learning_rate": (0.0, -0.1, 1.1),
    "warmup": (1.0, -0.1, 1.1),
    "weight_decay": (0.0, -0.1, 1e4),
    "l1": (0.0, -0.1, 1e4),
    "clip": (1, 0.0, 1e10),
    "clip_ratio": (2, 1.0, 1e10),
    "average": (0.1, -0.1, 1.1),
    "beta1": (0.0, -0.1, 1.0),
    "beta2": (0.5, -0.1, 1.0),
    "epsilon": (1e-8, 0.0, 2.0),
    "val_fraction": (0.0, -0.1, 1.0),
}


@pytest.mark.parametrize("name", MODEL_BOUNDS)
def test_model_sizes_are_whole_numbers_in_their_range(name: str) -> None:
    low, high = MODEL_BOUNDS[name]
    for value in (low, high):
        assert getattr(model(**{name: value}), name) == value
    for value in (low - 1, high + 1, 2.0, *NO_NUMBERS):
        with pytest.raises(ConfigError, match=name.replace("_", "-")) as caught:
            model(**{name: value})
        assert caught.value.hint == f"give a whole number from {low} to {high}"


@pytest.mark.parametrize("name", TRAIN_BOUNDS)
def test_training_counts_are_whole_numbers_in_their_range(name: str) -> None:
    low, high = TRAIN_BOUNDS[name]
    for value in (low, high):
        assert getattr(train(**{name: value}), name) == value
    no_numbers = [v for v in NO_NUMBERS if not (name == "steps" and v is None)]
    for value in (low - 1, high + 1, 2.0, *no_numbers):
        with pytest.raises(ConfigError, match=name.replace("_", "-")):
            train(**{name: value})


@pytest.mark.parametrize("name", TRAIN_RANGES)
def test_training_numbers_lie_in_their_range(name: str) -> None:
    inside, *outside = TRAIN_RANGES[name]
    assert getattr(train(**{name: inside}), name) == inside
    shown = "lr" if name == "learning_rate" else name.replace("_", "-")
    for value in (*outside, *NO_NUMBERS):
        with pytest.raises(ConfigError, match=f"^{shown} is "):
            train(**{name: value})


@pytest.mark.parametrize("value", [-0.1, 0.96, *NO_NUMBERS])
def test_dropout_lies_in_its_range(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^dropout is "):
        model(dropout=value)


@pytest.mark.parametrize("name", ["cell", "nonlinearity", "norm", "residual"])
@pytest.mark.parametrize("value", ["LSTM", "", None, 1, 0, [], {}])
def test_choices_are_one_of_their_names(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is "):
        model(**{name: value})


@pytest.mark.parametrize("budgets", [{}, {"steps": 1, "epochs": 1}, {"minutes": 1, "epochs": 1}])
def test_exactly_one_budget_is_given(budgets: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^the budget is given ") as caught:
        TrainConfig(**budgets)
    assert "--minutes" in caught.value.hint


@pytest.mark.parametrize("name", ["minutes", "epochs"])
def test_budgets_of_time_and_epochs_are_positive(name: str) -> None:
    assert getattr(TrainConfig(**{name: 0.5}), name) == 0.5
    for value in (0, -1, *(v for v in NO_NUMBERS if v is not None)):
        with pytest.raises(ConfigError, match=f"^{name} is "):
            TrainConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("temperature", v) for v in (-0.1, 2e6, *NO_NUMBERS)],
        *[("top_k", v) for v in (-1, 0x110001, 1.0, *NO_NUMBERS)],
        *[("top_p", v) for v in (0, 0.0, -0.1, 1.1, *NO_NUMBERS)],
        *[("min_p", v) for v in (-0.1, 1.1, *NO_NUMBERS)],
        *[("seed", v) for v in (-1, 2**63, 1.0, "1")],
        *[("length", v) for v in (-1, 10**13, 1.0, "1")],
        ("until", None),
        ("until", 3),
        ("until", ("a", 3)),
        ("until", ["a"]),
        ("drop_until", 1),
        *[("precision", v) for v in ("float16", "auto", "", None, 32)],
    ],
)
def test_sampling_settings_lie_in_their_range(name: str, value: Any) -> None:
    shown = {"temperature": "temp"}.get(name, name.replace("_", "-"))
    with pytest.raises(ConfigError, match=f"^{shown} is "):
        SampleConfig(**{name: value})


def test_sampling_bounds_are_inside() -> None:
    config = SampleConfig(temperature=0, top_k=0, top_p=1, min_p=1, seed=0, length=0, until="")
    assert config.temperature == 0


@pytest.mark.parametrize("value", [None, 3, "", "utf\n8", "\x1b[31m", "é", "\udc80", "a\0"])
def test_an_encoding_is_a_plain_name(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^encoding is ") as caught:
        TextConfig(encoding=value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["bytes", "lines", "keep_newlines"])
@pytest.mark.parametrize("value", [None, 0, 1, "yes"])
def test_text_switches_are_true_or_false(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match="true or false"):
        TextConfig(**{name: value})


@pytest.mark.parametrize("value", ["x" * 10_000, "a\x1b[31m\nb", [["deep"]] * 1000])
def test_messages_are_one_short_printable_line(value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        model(cell=value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_settings_cannot_be_changed() -> None:
    for config in (model(), train(), SampleConfig(), TextConfig()):
        name = dataclasses.fields(config)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, name, 3)


@given(
    cell=st.sampled_from(kinds()),
    layers=st.integers(1, 5),
    embedding=st.integers(0, 9),
    norm=st.booleans(),
    residual=st.booleans(),
)
def test_a_dictionary_gives_the_same_model_back(
    cell: Any, layers: int, embedding: int, norm: bool, residual: bool
) -> None:
    config = model(cell=cell, num_layers=layers, embedding_size=embedding, norm=norm, residual=residual)
    assert ModelConfig.from_dict(config.to_dict()) == config


def test_a_dictionary_gives_the_same_text_settings_back() -> None:
    config = TextConfig(encoding="latin-1", lines=True)
    assert TextConfig.from_dict(config.to_dict()) == config


@dataclasses.dataclass(frozen=True)
class Grown:
    """A configuration that got settings with later versions of the file format."""

    old: int = 1
    new: int | None = later(None, version=2)
    newer: str = later("", version=3)


def test_a_later_setting_is_written_only_where_it_says_something() -> None:
    assert to_dict(Grown()) == {"old": 1}
    assert to_dict(Grown(new=0)) == {"old": 1, "new": 0}
    assert not {"val_split", "val_text"} & to_dict(train(steps=1)).keys()
    assert to_dict(train(steps=1, val_split="end"))["val_split"] == "end"


def test_the_format_is_the_lowest_that_can_hold_what_is_written() -> None:
    assert format_version(Grown()) == 1
    assert format_version(Grown(old=5, new=3)) == 2
    assert format_version(Grown(newer="x")) == 3
    assert format_version(Grown(), Grown(new=1), Grown()) == 2
    assert format_version(model(), TextConfig(lines=True)) == 1


@pytest.mark.parametrize("cls", [ModelConfig, TextConfig])
def test_a_dictionary_with_other_keys_is_refused(cls: Any) -> None:
    values = (model() if cls is ModelConfig else TextConfig()).to_dict()
    for name in values:
        with pytest.raises(ConfigError, match=f"lacks {name}$"):
            cls.from_dict({k: v for k, v in values.items() if k != name})
    for extra in ("extra\x1b", 3):
        with pytest.raises(ConfigError, match="unknown") as caught:
            cls.from_dict({**values, extra: 1})
        assert str(caught.value).isprintable()
    for no_table in (None, [], "x", 3):
        with pytest.raises(ConfigError, match="not a table"):
            cls.from_dict(no_table)


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3), ("rnn", 1)])
def test_tensors_have_the_names_and_shapes_of_pytorch(cell: Any, gates: int) -> None:
    config = model(cell=cell, hidden_size=3, num_layers=2, embedding_size=2, norm=True)
    rows = gates * 3
    assert config.parameter_shapes() == {
        "embedding.weight": (5, 2),
        "rnn.weight_ih_l0": (rows, 2),
        "rnn.weight_hh_l0": (rows, 3),
        "rnn.bias_ih_l0": (rows,),
        "rnn.bias_hh_l0": (rows,),
        "norm_l0.weight": (3,),
        "norm_l0.bias": (3,),
        "rnn.weight_ih_l1": (rows, 3),
        "rnn.weight_hh_l1": (rows, 3),
        "rnn.bias_ih_l1": (rows,),
        "rnn.bias_hh_l1": (rows,),
        "norm_l1.weight": (3,),
        "norm_l1.bias": (3,),
        "decoder.weight": (5, 3),
        "decoder.bias": (5,),
    }
    assert config.num_parameters == 10 + rows * (2 + 3 + 2) + rows * (3 + 3 + 2) + 4 * 3 + 15 + 5


def test_one_hot_input_is_as_wide_as_the_vocabulary() -> None:
    config = model(hidden_size=3, num_layers=1, embedding_size=0, norm=False)
    shapes = config.parameter_shapes()
    assert "embedding.weight" not in shapes
    assert "norm_l0.weight" not in shapes
    assert shapes["rnn.weight_ih_l0"] == (12, 5)


def skips(config: ModelConfig) -> list[bool]:
    """Whether there is a skip connection around each layer."""
    parts = config.network().modules
    return [isinstance(part, Residual) for part in parts if isinstance(part, Residual | Recurrent)]


def test_a_skip_connection_needs_equal_sizes() -> None:
    same = model(hidden_size=4, embedding_size=4)
    other = model(hidden_size=4, embedding_size=3)
    one_hot = model(hidden_size=5, embedding_size=0)
    assert skips(same) == [True, True]
    assert skips(other) == [False, True]
    assert skips(one_hot) == [True, True]
    assert skips(model(residual=False)) == [False, False]
