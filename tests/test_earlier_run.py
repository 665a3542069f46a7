"""What becomes of what lies where a run is to write: the tables of `charrnn.training.earlier_run`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from charrnn.checkpoint.model_file import Checkpoint, load, resume_path, save, save_resume
from charrnn.config import ModelConfig, TextConfig, TrainConfig, to_dict
from charrnn.errors import CharrnnError, CheckpointError, TrainingError
from charrnn.nn.network import initial_tensors
from charrnn.training.earlier_run import Earlier, Interrupted, Start, look
from charrnn.training.request import Target
from charrnn.vocabulary import Vocabulary

CONFIG = ModelConfig(3, hidden_size=2, embedding_size=2, num_layers=1)
ASKED = {
    "nothing": Target(),
    "--resume": Target(resume=True),
    "--force": Target(force=True),
    "both": Target(resume=True, force=True),
}
# By what lies there; a text is what the refusal says.
INTERRUPTED: dict[int | None, tuple[bool | str, ...]] = {  # at which step; whether that run is to go on
    None: (False, False, False, False),
    0: (False, True, False, True),
    7: ("interrupted at step 7", True, False, True),
}
MODEL_FILE: dict[str, tuple[Start | str, ...]] = {
    "nothing": (Start.ANEW, Start.ANEW, Start.ANEW, Start.ANEW),
    "its own": (Start.AGAIN, Start.COMPLETE, Start.ANEW, Start.COMPLETE),
    "another": ("holds another model", "is complete", Start.ANEW, Start.ANEW),
    "a diary": ("holds something else", "is complete", Start.ANEW, Start.ANEW),
}


def rows(table: dict[str, tuple[Start | str, ...]]) -> list[tuple[str, str, Start | str]]:
    return [
        (there, asked, outcome)
        for there, outcomes in table.items()
        for asked, outcome in zip(ASKED, outcomes, strict=True)
    ]


def interrupt(out: Path, step: int, run: str = "this") -> None:
    record = {
        "run": run, "init": "", "vocabulary": "abc", "model": to_dict(CONFIG), "updates": step,
        "train": to_dict(TrainConfig(steps=9)), "text": to_dict(TextConfig()), "position": {"step": step},
    }  # fmt: skip
    save_resume(resume_path(out), {"parameters": np.zeros(1, np.float32)}, record)


def model(run: str) -> Checkpoint:
    return Checkpoint(CONFIG, Vocabulary("abc"), TextConfig(), initial_tensors(CONFIG, 1), run=run)


@pytest.mark.parametrize(("step", "asked", "goes_on"), rows(INTERRUPTED))  # type: ignore[arg-type]
def test_an_interrupted_run_goes_on_is_left_or_is_not_forgotten(
    tmp_path: Path, step: int | None, asked: str, goes_on: bool | str
) -> None:
    out = tmp_path / "m.safetensors"
    if step is not None:
        interrupt(out, step)
    if isinstance(goes_on, str):
        with pytest.raises(TrainingError, match=goes_on):
            look(out, ASKED[asked])
        return
    found = look(out, ASKED[asked])
    assert (found.interrupted is not None) == goes_on
    assert found.there is None
    begins_in_spite = ASKED[asked].resume and not goes_on
    assert [f"no interrupted run of {out}" in note for note in found.notes(ASKED[asked])] == [True] * (
        begins_in_spite
    )


@pytest.mark.parametrize(("there", "asked", "outcome"), rows(MODEL_FILE))
def test_a_model_file_is_kept_replaced_or_refused(
    tmp_path: Path, there: str, asked: str, outcome: Start | str
) -> None:
    out = tmp_path / "m.safetensors"
    if there == "a diary":
        out.write_text("dear diary")
    elif there != "nothing":
        save(model("this" if there == "its own" else "that"), out)
    found, target = look(out, ASKED[asked]), ASKED[asked]
    if isinstance(outcome, str):
        with pytest.raises(CharrnnError, match=outcome) as refused:
            found.settle("this", target)
        assert isinstance(refused.value, TrainingError if target.resume else CheckpointError)
    else:
        assert found.settle("this", target) is outcome


@pytest.mark.parametrize("there", ["nothing", "this", "that"])
def test_a_run_that_goes_on_must_be_the_one_that_was_interrupted(tmp_path: Path, there: str) -> None:
    out, target = tmp_path / "m.safetensors", Target(resume=True)
    interrupt(out, 3)
    if there != "nothing":
        save(model(there), out)
    found = look(out, target)
    assert found.settle("this", target) is Start.GOES_ON
    with pytest.raises(TrainingError, match="not the one that the interrupted run read") as refused:
        found.settle("that", target)
    assert ("--init-from" in str(refused.value)) == (there != "nothing")


class Told:
    """A run that keeps what it is told."""

    def __init__(self) -> None:
        self.model = model("this")
        self.told: list[str] = []

    def keep(self, model: Checkpoint, *, complete: bool) -> None:
        self.told.append("complete" if complete else "keep")

    def resume(self, tensors: object, record: object) -> None:
        self.told.append("resume")


@pytest.mark.parametrize(
    ("there", "interrupted", "start", "told"),
    [
        (None, False, Start.ANEW, []),
        ("this", False, Start.ANEW, []),
        ("this", False, Start.AGAIN, ["keep"]),
        ("this", False, Start.COMPLETE, ["complete"]),
        ("this", True, Start.GOES_ON, ["keep", "resume"]),
        ("that", True, Start.GOES_ON, ["resume"]),
        (None, True, Start.GOES_ON, ["resume"]),
    ],
)
def test_a_run_is_told_of_its_own_model_and_of_no_other(
    tmp_path: Path, there: str | None, interrupted: bool, start: Start, told: list[str]
) -> None:
    run, old = Told(), None
    if interrupted:
        interrupt(tmp_path / "m.safetensors", 3)
        old = Interrupted.load(resume_path(tmp_path / "m.safetensors"))
    Earlier(Path("m"), model(there) if there else None, old).hand_over(run, start)  # type: ignore[arg-type]
    assert run.told == told


def test_with_force_alone_a_damaged_resume_file_is_not_even_read(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    resume_path(out).write_text("damaged")
    assert look(out, Target(force=True)).interrupted is None
    for target in (Target(), Target(resume=True), Target(resume=True, force=True)):
        with pytest.raises(CheckpointError):
            look(out, target)


def test_what_a_model_file_holds_is_what_is_looked_at(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    save(model("this"), out)
    found = look(out, Target())
    assert found.model is not None
    assert found.model.run == load(out).run == "this"
