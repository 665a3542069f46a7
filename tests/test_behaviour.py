"""charrnn does what it did: the same bytes of models, the same outputs, and old files that work."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import behaviour
from support.calls import call

COMMANDS: list[dict[str, Any]] = json.loads(behaviour.COMMANDS.read_text(encoding="utf-8"))
MODELS = dict(behaviour.models())


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the texts and the files that were recorded."""
    folder = tmp_path_factory.mktemp("behaviour")
    for name, text in behaviour.TEXTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    for path in behaviour.RECORDINGS.iterdir():
        shutil.copy(path, folder)
    return folder


@pytest.fixture(autouse=True)
def inside(recorded: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(recorded)
    yield
    os.chdir(before)


def recording(name: str) -> bytes:
    return (behaviour.RECORDINGS / name).read_bytes()


@pytest.mark.parametrize("name", MODELS)
def test_training_writes_the_bytes_that_it_wrote(name: str, tmp_path: Path) -> None:
    result = call(*MODELS[name], "-q", "-o", tmp_path / "m.safetensors")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert (tmp_path / "m.safetensors").read_bytes() == recording(f"{name}.safetensors")


def test_every_recorded_command_is_one_of_today() -> None:
    today = [(list(map(str, words)), stdin.decode()) for words, stdin in behaviour.commands()]
    assert [(row["words"], row["stdin"]) for row in COMMANDS] == today
    assert len(COMMANDS) >= 120


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: " ".join(row["words"])[:70])
def test_a_command_prints_what_it_printed(row: dict[str, Any]) -> None:
    result = call(*row["words"], stdin=row["stdin"].encode())
    assert behaviour.text(result.stdout) == row["stdout"]
    assert (result.returncode, result.stderr.decode()) == (row["code"], row["stderr"])


def test_an_old_interrupted_run_goes_on_to_the_bytes_of_the_uninterrupted_one(tmp_path: Path) -> None:
    for path in behaviour.RECORDINGS.glob("interrupted*"):
        shutil.copy(path, tmp_path)
    out = tmp_path / behaviour.INTERRUPTED
    assert call("train", "prose.txt", "--resume", "-o", out, "-q").returncode == 0
    assert out.read_bytes() == recording(f"{behaviour.PROSE}.safetensors")
