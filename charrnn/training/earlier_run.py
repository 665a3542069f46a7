"""What earlier runs left at the place of a model file, and how the next run starts there.

An interrupted run is looked at first, before a long text is read (`look`):

    interrupted             nothing asked   --resume          --force
    never                   start           start             start
    before its first step   start           go on             start
    at a later step         refuse          go on             start

Where none goes on, the model file decides, once the new run is known (`settle`). Other settings, another text
or --init-from make another run:

    model file              nothing asked   --resume          --force
    none                    start           start             start
    of this very run        start again     is complete       start
    of another run          refuse          refuse            start
    something else          refuse          refuse            start

With --resume and --force, --force counts where --resume finds nothing of this run.
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
    """A run that was interrupted: the contents of its resume file."""

    tensors: dict[str, Array]
    record: dict[str, Any]
    step: int
    run: str  # its fingerprint
    init: str
    text: TextConfig
    model: ModelConfig
    train: TrainConfig
    vocabulary: Vocabulary

    @classmethod
    def load(cls, path: Path) -> Interrupted:
        """The run of a resume file. CheckpointError: it cannot be read, or holds no run."""
        tensors, record = model_file.load_resume(path)
        try:
            # The normal form is found anew, and changes nothing of the corpus.
            text = replace(TextConfig(**record["text"]), normal_form=None)
            model, train = ModelConfig.from_dict(record["model"]), TrainConfig(**record["train"])
            step, vocabulary = int(record["position"]["step"]), Vocabulary(record["vocabulary"])
            init = str(record["init"])
            return cls(tensors, record, step, record["run"], init, text, model, train, vocabulary)
        except (KeyError, TypeError, ValueError, AttributeError, CharrnnError) as error:
            raise CheckpointError(f"{path} does not hold a run", "remove it to start anew") from error

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
    """How a run starts where something lies."""

    ANEW = auto()  # whatever lies there is replaced
    AGAIN = auto()  # the model there is its own: only a better one replaces it
    GOES_ON = auto()
    COMPLETE = auto()


@dataclass(frozen=True)
class Earlier:
    """The remains of earlier runs at `out`."""

    out: Path
    there: Checkpoint | Path | None  # the model; the path itself where it holds something else
    interrupted: Interrupted | None  # which is to go on

    @property
    def model(self) -> Checkpoint | None:
        """The model, where there is one."""
        return self.there if isinstance(self.there, Checkpoint) else None

    def notes(self, target: Target) -> tuple[str, ...]:
        """A line for people where --resume finds nothing to go on with."""
        if not target.resume or self.interrupted is not None or self.there is not None:
            return ()
        return (f"there is no interrupted run of {self.out}: starting from the beginning",)

    def settle(self, run: str, target: Target) -> Start:
        """The start of the run that was asked for, by its fingerprint.

        Raises:
            TrainingError: another run was interrupted, or none.
            CheckpointError: it would overwrite another model, or something else.
        """
        if self.interrupted is not None:
            if self.interrupted.run != run:
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
        """Give the run its own model and resume file. TrainingError: they do not fit it."""
        model = self.model
        if model is not None and model.run == run.model.run and start is not Start.ANEW:
            run.keep(model)
            if start is Start.COMPLETE:
                run.set_complete(model)
        if self.interrupted is not None:
            run.resume(self.interrupted.tensors, self.interrupted.record)

    def another_corpus(self) -> TrainingError:
        """The error where the interrupted run has read something else."""
        tune = f", or learn the new text from what it has learned, with --init-from {self.out} and another -o"
        return TrainingError(
            "the corpus is not the one that the interrupted run read",
            "give the same text, or start anew with --force" + (tune if self.model is not None else ""),
        )


def look(out: Path, target: Target) -> Earlier:
    """The remains at `out`.

    Raises:
        TrainingError: an interrupted run would be forgotten.
        CheckpointError: its resume file cannot be read.
    """
    there, resume = _model_at(out), model_file.resume_path(out)
    old = None
    if (target.resume or not target.force) and _exists(resume):
        old = Interrupted.load(resume)
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


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # not taken for "no": what is there would be overwritten
        raise CheckpointError(*why_unreadable(path, error)) from error
