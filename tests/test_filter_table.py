"""A filter is a line of the table and its function: filters of our own are added here, and nowhere else."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from charrnn import config as configuration
from charrnn.config import SampleConfig
from charrnn.errors import ConfigError
from charrnn.inference.filters import setting, table

V = 4


def keep_top_a(p: Any, top_a: float) -> None:
    """Keep those at least A times the best, squared (top-a, BlinkDL 2022)."""
    greatest = 0.0
    for i in range(len(p)):
        greatest = max(greatest, p[i])
    for i in range(len(p)):
        if p[i] < top_a * greatest * greatest:
            p[i] = 0.0


def _best(logits: Any) -> int:
    best = 0
    for i in range(len(logits)):
        if logits[i] > logits[best]:
            best = i
    return best


def calm_down(logits: Any, memory: float, calm: int, calm_by: float) -> None:
    """Prefer the best, once N surprising characters have come in a row."""
    if memory >= calm:
        logits[_best(logits)] += calm_by


def count_surprises(memory: float, probability: float) -> float:
    """So many have come, this one included."""
    return memory + 1.0 if probability < 0.5 else 0.0


@dataclass(frozen=True, slots=True)
class Own(SampleConfig):
    top_a: float = setting(0.0, 0, 1, "A", "Only what has A of the best, squared", apply=keep_top_a)
    calm: int = setting(
        0, 0, 100, "N", "Calm down after N surprises", apply=calm_down, follow=count_surprises
    )
    calm_by: float = setting(2.5, 0, 10, "X", "By so much")


def register() -> None:
    """Have charrnn use the table with these lines."""
    configuration.SampleConfig = Own  # type: ignore[misc]


SETTINGS: list[dict[str, Any]] = [
    {"top_a": 0.7},
    {"calm": 1},
    {"calm": 2, "calm_by": 9.0, "top_a": 0.3, "top_k": 3, "dry": 0.8, "mirostat": 1.5, "typical": 0.9},
]


def charrnn(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    """The command, with the filters of this module."""
    from support.environment import environment

    program = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}]\n"
        "import test_filter_table\n"
        "test_filter_table.register()\n"
        "from charrnn.cli import main\n"
        "main()"
    )
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, env=environment(COLUMNS="80"), capture_output=True, timeout=100)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.toy_models import toy

    from charrnn.checkpoint import model_file

    path = tmp_path_factory.mktemp("filters") / "m.safetensors"
    model_file.save(toy(3, "\nabc", lines=False, ending=0.0), path)
    return path


def written(model: Path, config: SampleConfig) -> str:
    from support.texts import generate

    from charrnn.checkpoint.model_file import load

    return "".join(generate(load(model), "ab", config))


def test_settings_take_it_and_check_its_bounds() -> None:
    assert [line.name for line in table(Own)][-3:] == ["top_a", "calm", "calm_by"]
    assert replace(Own(top_a=0.5), temperature=1.0).top_a == 0.5
    for name, value, hint in (
        ("top_a", 1.5, "give a number from 0 to 1"),
        ("top_a", math.nan, "give a number from 0 to 1"),
        ("calm", 1.0, "give a whole number from 0 to 100"),
        ("calm_by", -1, "give a number from 0 to 10"),
    ):
        with pytest.raises(ConfigError, match=f"^{name.replace('_', '-')} is ") as caught:
            Own(**{name: value})
        assert caught.value.hint == hint
    with pytest.raises(ConfigError, match="--exact"):
        Own(exact=True, match="a", top_a=0.5)


def test_the_command_line_offers_it_and_writes_with_it(model: Path) -> None:
    help_ = charrnn("sample", "--help").stdout.decode()
    assert "--top-a A                  Only what has A of the best, squared [0: off]." in help_
    assert "--calm N                   Calm down after N surprises [0: off]." in help_
    assert "--calm-by X                By so much [2.5]." in help_
    wrong = charrnn("sample", "-m", model, "--calm", 101)
    assert wrong.stderr.startswith(b"charrnn: error: calm is 101: give a whole number from 0 to 100")
    options = ("sample", "-m", model, "--seed", 1, "--prompt", "ab", "-n", 60)
    done = charrnn(*options, "--top-a", 0.7, "--calm", 1)
    expected = written(model, Own(seed=1, length=60, top_a=0.7, calm=1))
    assert done.stdout.decode() == expected.removesuffix("\n") + "\n"
    assert done.stdout != charrnn(*options).stdout


@pytest.mark.compiled
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(settings))
def test_both_engines_write_the_same_with_it(
    model: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from charrnn.inference import engines, filters
    from charrnn.kernels.machine import jit

    if jit.JIT_DISABLED:
        pytest.skip("there is one engine")
    config = Own(seed=1, length=200, **settings)
    plain = written(model, config)
    assert plain != written(model, Own(seed=1, length=200))

    steered = any(line.follows_text for line in filters.active(config))
    kind = engines.Kind(steered=steered, filters=tuple(filters.active(config)))
    loader = engines.Loader(kind)
    loader._expected = math.inf
    from charrnn.checkpoint.model_file import load
    from charrnn.inference.numpy_network import PlainNetwork

    loader._load(PlainNetwork(load(model)))
    assert loader.kernels is not None  # it has compiled them without an error
    asked = []
    monkeypatch.setattr(engines, "loader_of", lambda kind: asked.append(kind) or loader)
    assert written(model, config) == plain
    assert asked == [kind]
