"""What earlier runs left where a run is to write, and what becomes of it.

Before a text is read, an interrupted run decides (`look`):

    interrupted             as it is         --resume          --force
    not at all              begin            begin             begin
    before its first step   begin            go on             begin
    at a later step         refuse           go on             begin

Once it is known which run was asked for, and none goes on, the model file does (`settle`). What is asked with
--init-from, or with other settings, is another run.

    model file holds        as it is         --resume          --force
    nothing                 begin            begin             begin
    this very run's model   again            complete          begin
    another                 refuse           refuse            begin
    something else          refuse           refuse            begin

--resume with --force goes on or is complete where --resume is, else it begins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import Any

from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import ModelConfig, TextConfig, TrainConfig, split_of
from charrnn.errors import CharrnnError, CheckpointError, ConfigError, TrainingError
from charrnn.nn.parameters import Array
from charrnn.system.file_errors import why_unreadable
from charrnn.training.request import MODEL_SETTINGS, Request, Target
from charrnn.training.run import Run
from charrnn.vocabulary import Vocabulary


@dataclass(frozen=True)
class Interrupted:
    """What an interrupted run left behind."""

    tensors: dict[str, Array]
    record: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.record["position"]["step"])

    @property
    def text(self) -> TextConfig:
        # The form is found anew, and changes nothing of the corpus.
        return replace(TextConfig(**self.record["text"]), normal_form=None)

    @property
    def model(self) -> ModelConfig:
        return ModelConfig.from_dict(self.record["model"])

    @property
    def train(self) -> TrainConfig:
        return TrainConfig(**self.record["train"])

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.record["vocabulary"])

    def refuse_changes(self, given: dict[str, Any], request: Request) -> None:
        """ConfigError: a setting is given that is not what the run has."""
        apart = bool(self.train.val_text)
        if apart != request.assignment.judged_apart:
            by = "a text of its own" if apart else "a part of its corpus"
            raise ConfigError(
                f"the interrupted run was judged by {by}",
                "give it again, as --val FILE" if apart else "leave out --val with --resume",
            )
        if request.text not in (TextConfig(), self.text):
            raise ConfigError(
                "the interrupted run read its corpus with other options", "leave them out with --resume"
            )
        for name, value in given.items():
            if (name, value) == ("precision", "auto"):
                continue  # it was settled when the run began
            before = getattr(self.model if name in MODEL_SETTINGS else self.train, name)
            if name == "val_split":
                before = split_of(before, lines=self.text.lines)
            if value != before:
                raise ConfigError(
                    f"{name.replace('_', '-')} {value} is not what the interrupted run has, {before}",
                    "leave it out with --resume, or start anew with --force",
                )


class Start(Enum):
    """What a run does with what lies there."""

    ANEW = auto()  # replaces it
    AGAIN = auto()  # has written the model, which only a better one replaces
    GOES_ON = auto()
    COMPLETE = auto()


@dataclass(frozen=True)
class Earlier:
    """What lies at `out`, as far as it matters to a run that is asked for."""

    out: Path
    there: Checkpoint | Path | None  # the model; the path itself where it holds something else
    interrupted: Interrupted | None  # which is to go on

    @property
    def model(self) -> Checkpoint | None:
        """The model, where there is one."""
        return self.there if isinstance(self.there, Checkpoint) else None

    def notes(self, target: Target) -> tuple[str, ...]:
        """What is said of a --resume that begins."""
        if not target.resume or self.interrupted is not None or self.there is not None:
            return ()
        return (f"there is no interrupted run of {self.out}: starting from the beginning",)

    def settle(self, run: str, target: Target) -> Start:
        """How the run of this fingerprint, which was asked for, starts.

        Raises:
            TrainingError: it is not the one that was interrupted, or there is none to go on with.
            CheckpointError: it would overwrite what is not its own.
        """
        if self.interrupted is not None:
            if self.interrupted.record["run"] != run:
                raise self.another_corpus()
            return Start.GOES_ON
        own = self.model is not None and self.model.run == run
        if self.there is not None and not (own or target.force):
            if target.resume:
                raise TrainingError(
                    f"the run that wrote {self.out} is complete",
                    "train it further with --init-from, or anew with --force",
                )
            raise CheckpointError(
                f"{self.out} holds {'something else' if self.model is None else 'another model'}",
                "choose another file with -o, or overwrite it with --force",
            )
        if own and target.resume:  # killed between its last save and its end
            return Start.COMPLETE
        return Start.AGAIN if own and not target.force else Start.ANEW

    def hand_over(self, run: Run, start: Start) -> None:
        """Tell the run what it has of before.

        Raises:
            TrainingError: what was interrupted does not fit the run.
        """
        model = self.model
        if model is not None and model.run == run.model.run and start is not Start.ANEW:
            run.keep(model)
            if start is Start.COMPLETE:
                run.set_complete(model)
        if self.interrupted is not None:
            run.resume(self.interrupted.tensors, self.interrupted.record)

    def another_corpus(self) -> TrainingError:
        """What was interrupted read something else."""
        tune = f", or learn the new text from what it has learned, with --init-from {self.out} and another -o"
        return TrainingError(
            "the corpus is not the one that the interrupted run read",
            "give the same text, or start anew with --force" + (tune if self.model is not None else ""),
        )


def look(out: Path, target: Target) -> Earlier:
    """What lies at `out`.

    Raises:
        TrainingError: a run was interrupted, and it is not said what becomes of it.
        CheckpointError: what lies there cannot be read.
    """
    there = _model_at(out)
    old = None if target.force and not target.resume else _interrupted(out)
    if old is not None and not target.resume:
        if old.step:
            raise TrainingError(
                f"{out} belongs to a run that was interrupted at step {old.step}",
                "--resume goes on with it, --force starts anew",
            )
        old = None  # killed before it had saved a step: nothing is lost
    return Earlier(out, there, old)


def _model_at(out: Path) -> Checkpoint | Path | None:
    if not _exists(out):
        return None
    try:
        return model_file.load(out)
    except CheckpointError:
        return out


def _interrupted(out: Path) -> Interrupted | None:
    path = model_file.resume_path(out)
    if not _exists(path):
        return None
    found = Interrupted(*model_file.load_resume(path))
    try:
        _ = found.text, found.model, found.train, found.vocabulary
        _ = found.record["run"], found.record["init"], found.step
    except (KeyError, TypeError, ValueError, AttributeError, CharrnnError) as error:
        raise CheckpointError(f"{path} does not hold a run", "remove it to start anew") from error
    return found


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # not taken for "no": what is there would be overwritten
        raise CheckpointError(*why_unreadable(path, error)) from error
