"""What a run has written is never lost: not by a kill between two saves, nor by a disk that is full."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import resume_path
from charrnn.errors import CheckpointError, SaveError, TrainingError
from charrnn.events import Evaluated, Event, Finished, Saved, Unsaved
from charrnn.training import run_files
from charrnn.training.locking import exclusive, lock_path

TEXT = "she sells sea shells by the sea shore, and the shells she sells are sea shells.\n" * 20
SMALL: dict[str, Any] = {
    "hidden_size": 8, "num_layers": 1, "embedding_size": 4, "batch_size": 4, "seq_len": 10, "steps": 12,
    "evaluations": 4, "threads": 1,
}  # fmt: skip
FULL = SaveError("m cannot be written: No space left on device", "free some space")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "shells.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture
def expected(corpus: Path, tmp_path: Path) -> bytes:
    """What a run writes that nothing happens to."""
    out = tmp_path / "straight.safetensors"
    list(api.train(corpus, out=out, **SMALL))
    content = out.read_bytes()
    out.unlink()
    return content


@pytest.fixture(autouse=True)
def save_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charrnn.training.run.REPORT_SECONDS", 0.0)
    monkeypatch.setattr("charrnn.training.run.SAVE_SECONDS", 0.0)


class Disk:
    """Is full while `full` says so of a file's name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full: Callable[[str], bool] = lambda name: False
        for function in ("save", "save_resume"):
            monkeypatch.setattr(run_files, function, self._checked(getattr(run_files, function)))

    def _checked(self, save: Callable[..., None]) -> Callable[..., None]:
        def checked(*arguments: Any) -> None:
            (path,) = (a for a in arguments if isinstance(a, Path))
            if self.full(path.name):
                raise FULL
            save(*arguments)

        return checked


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def snapshots(events: Iterator[Event], out: Path, to: Path) -> Iterator[tuple[Event, Path]]:
    """Each event, with a copy of the files as they are then, as a kill would leave them."""
    for number, event in enumerate(events):
        folder = to / str(number)
        folder.mkdir(parents=True)
        for path in (out, resume_path(out)):
            if path.exists():
                shutil.copy(path, folder / path.name)
        yield event, folder / out.name


def test_a_run_that_is_killed_after_any_event_resumes_to_the_same_bytes(
    corpus: Path, tmp_path: Path, expected: bytes
) -> None:
    out = tmp_path / "m.safetensors"
    left = list(snapshots(api.train(corpus, out=out, **SMALL), out, tmp_path / "killed"))
    assert out.read_bytes() == expected
    for event, killed in left[1:]:
        finished = list(api.train(corpus, out=killed, resume=True, **SMALL))[-1]
        assert isinstance(finished, Finished)
        assert finished.step == SMALL["steps"], f"killed after {event}"
        assert killed.read_bytes() == expected, f"killed after {event}"
        assert [path.name for path in killed.parent.iterdir()] == ["m.safetensors"]


def test_a_run_that_is_killed_before_it_stops_early_stops_there(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    settings = {**SMALL, "steps": 400, "evaluations": 100, "learning_rate": 0.5, "patience": 1}
    left = list(snapshots(api.train(corpus, out=out, **settings), out, tmp_path / "killed"))
    assert isinstance(left[-1][0], Finished)
    assert left[-1][0].reason == "early-stop"
    killed = next(killed for event, killed in reversed(left) if isinstance(event, Saved))
    finished = list(api.train(corpus, out=killed, resume=True))[-1]
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.step) == ("early-stop", left[-1][0].step)
    assert killed.read_bytes() == out.read_bytes()


def test_an_evaluated_model_is_not_replaced_by_one_that_is_not(corpus: Path, tmp_path: Path) -> None:
    """Killed between its first model and the resume file, then resumed and stopped at once."""
    out = tmp_path / "m.safetensors"
    saved = (
        killed
        for event, killed in snapshots(api.train(corpus, out=out, **SMALL), out, tmp_path / "killed")
        if isinstance(event, Evaluated)
    )
    killed = next(saved)
    before = model_file.load(killed)
    assert before.best_val_loss is not None
    assert model_file.load_resume(resume_path(killed))[1]["position"]["best_val_loss"] is None
    asked: list[bool] = []
    for event in api.train(corpus, out=killed, resume=True, stop=lambda: "stop" if asked else None):
        asked.append(not isinstance(event, Finished))
    assert model_file.load(killed).best_val_loss == before.best_val_loss


def test_the_same_command_again_keeps_the_better_model(corpus: Path, tmp_path: Path, expected: bytes) -> None:
    out = tmp_path / "m.safetensors"
    out.write_bytes(expected)
    asked: list[bool] = []
    for event in api.train(corpus, out=out, stop=lambda: "stop" if asked else None, **SMALL):
        if isinstance(event, Evaluated):
            asked.append(True)
    assert out.read_bytes() == expected
    assert list(api.train(corpus, out=out, resume=True))[-1].best_val_loss == (  # type: ignore[union-attr]
        model_file.load(out).best_val_loss
    )
    assert out.read_bytes() == expected


def test_a_disk_that_is_full_for_a_while_is_a_warning(
    corpus: Path, tmp_path: Path, expected: bytes, disk: Disk
) -> None:
    out = tmp_path / "m.safetensors"
    unsaved, saved = [], []
    for event in api.train(corpus, out=out, **SMALL):
        if isinstance(event, Evaluated):
            disk.full = lambda name: True
            if event.step == 9:
                disk.full = lambda name: False
        elif isinstance(event, Unsaved):
            unsaved.append(event)
            assert event.message == str(FULL)
        elif isinstance(event, Saved) and event.kind == "model":
            saved.append(event)
            assert model_file.load(out).history[-1]["step"] == event.step
    assert len(unsaved) > 3
    assert [event.step for event in saved][-1] == SMALL["steps"]
    assert out.read_bytes() == expected


def test_the_files_never_contradict_each_other(
    corpus: Path, tmp_path: Path, expected: bytes, disk: Disk
) -> None:
    """While the model cannot be written, a killed run goes on from the files that were."""
    out = tmp_path / "m.safetensors"
    left = []
    for event, killed in snapshots(api.train(corpus, out=out, **SMALL), out, tmp_path / "killed"):
        left.append((event, killed))
        if isinstance(event, Evaluated) and event.step == 3:
            disk.full = lambda name: name == out.name
        if isinstance(event, Evaluated) and event.step == 9:
            disk.full = lambda name: False
    assert any(isinstance(event, Unsaved) for event, _ in left)
    assert out.read_bytes() == expected
    for event, killed in left[1:]:
        list(api.train(corpus, out=killed, resume=True, **SMALL))
        assert killed.read_bytes() == expected, f"killed after {event}"


@pytest.mark.parametrize("full", ["", "m.safetensors"])
def test_a_model_that_cannot_be_written_at_the_end_is_an_error(
    corpus: Path, tmp_path: Path, expected: bytes, disk: Disk, full: str
) -> None:
    out = tmp_path / "m.safetensors"
    events = []

    def run() -> None:
        for event in api.train(corpus, out=out, **SMALL):
            events.append(event)
            if isinstance(event, Saved):
                disk.full = lambda name: full in ("", name)

    with pytest.raises(SaveError, match="No space left"):
        run()
    assert sum(isinstance(event, Evaluated) for event in events) == 4  # it trained to its end
    assert not out.exists()
    disk.full = lambda name: False
    list(api.train(corpus, out=out, resume=True))
    assert out.read_bytes() == expected


def test_a_disk_that_cannot_be_written_from_the_beginning_is_an_error(
    corpus: Path, tmp_path: Path, disk: Disk
) -> None:
    disk.full = lambda name: True
    with pytest.raises(SaveError):
        list(api.train(corpus, out=tmp_path / "new" / "m.safetensors", **SMALL))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("step", [3, 6, 9, 12])
def test_a_folder_that_vanishes_is_made_again(
    corpus: Path, tmp_path: Path, expected: bytes, step: int
) -> None:
    out = tmp_path / "away" / "m.safetensors"
    for event in api.train(corpus, out=out, **SMALL):
        if isinstance(event, Evaluated) and event.step == step:
            shutil.rmtree(out.parent)
    assert out.read_bytes() == expected


def test_a_second_training_into_the_same_file_is_refused(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    events = api.train(corpus, out=out, **SMALL)
    next(events)
    for options in ({}, {"resume": True}, {"force": True}):
        with pytest.raises(
            TrainingError, match=r"m.safetensors is being trained by process \d+ on .* since 2"
        ):
            list(api.train(corpus, out=out, **SMALL, **options))
    list(events)
    with exclusive(out):
        pass


def test_half_written_files_of_a_killed_run_go(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "m.safetensors"
    out.parent.mkdir()
    for path in (out, resume_path(out)):
        path.with_name(f".{path.name}.tmp").write_bytes(b"half")
    lock_path(out).write_text("process 1 on elsewhere")
    list(api.train(corpus, out=out, **SMALL))
    assert [path.name for path in out.parent.iterdir()] == ["m.safetensors"]


def test_force_starts_anew_whatever_the_resume_file_holds(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    resume_path(out).write_bytes(b"damaged")
    list(api.train(corpus, out=out, force=True, **SMALL))
    assert out.exists()
    assert not resume_path(out).exists()


POSITIONS = [
    ("step", "x"), ("step", -1), ("epoch", -1), ("evaluated_step", -2),
    ("step", 1.5), ("step", True), ("epoch", None), ("window", 10**9), ("window", -1),
    ("seconds", "x"), ("running_loss", []), ("history", None), ("history", [{}]), ("best_val_loss", "x"),
    ("unknown", 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), POSITIONS)
def test_a_resume_file_with_another_position_is_one_clear_error(
    corpus: Path, tmp_path: Path, name: str, value: Any
) -> None:
    out = tmp_path / "m.safetensors"
    for event in api.train(corpus, out=out, **SMALL):
        if isinstance(event, Evaluated):
            break
    tensors, record = model_file.load_resume(resume_path(out))
    record["position"][name] = value
    model_file.save_resume(resume_path(out), tensors, record)
    with pytest.raises((TrainingError, CheckpointError), match="does not"):
        list(api.train(corpus, out=out, resume=True))


def test_a_resume_file_with_numbers_of_another_type_is_one_clear_error(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    for event in api.train(corpus, out=out, **SMALL):
        if isinstance(event, Evaluated):
            break
    tensors, record = model_file.load_resume(resume_path(out))
    for name, tensor in tensors.items():
        changed = {**tensors, name: tensor.astype(np.int64)}
        model_file.save_resume(resume_path(out), changed, record)
        with pytest.raises(TrainingError, match="does not fit"):
            list(api.train(corpus, out=out, resume=True))
