"""The remains of earlier runs at a model file's path, and how the next run starts there.

An interrupted run is considered first, before a long text is read (`look`):

    interrupted             no option       --resume          --force
    never                   start           start             start
    before its first step   start           resume            start
    at a later step         refuse          resume            start

If none is resumed, the model file decides, once the new run is known (`settle`). Other settings, another text
or --init-from make it another run:

    model file              no option       --resume          --force
    none                    start           start             start
    of this very run        start again     is complete       start
    of another run          refuse          refuse            start
    something else          refuse          refuse            start

With both options, --force applies if --resume finds nothing of this run.
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
from charrnn.labels import Columns, from_record
from charrnn.nn.parameters import Array
from charrnn.system.file_errors import why_unreadable
from charrnn.training.request import MODEL_SETTINGS, Request, Target
from charrnn.training.run import Run
from charrnn.vocabulary import Vocabulary


@dataclass(frozen=True)
class Interrupted:
    """An interrupted run: the contents of its resume file."""

    tensors: dict[str, Array]
    record: dict[str, Any]
    step: int
    run: str  # its fingerprint
    init: str
    text: TextConfig
    model: ModelConfig
    train: TrainConfig
    vocabulary: Vocabulary
    columns: Columns

    @classmethod
    def load(cls, path: Path) -> Interrupted:
        """Read a resume file. CheckpointError: it cannot be read, or holds no run."""
        tensors, record = model_file.load_resume(path)
        try:
            text = TextConfig(**record["text"])
            model, train = ModelConfig.from_dict(record["model"]), TrainConfig(**record["train"])
            step, vocabulary = int(record["position"]["step"]), Vocabulary.of_text(record["vocabulary"], text)
            run, init = record["run"], str(record["init"])
            columns = from_record(record.get("labels", []))
            return cls(tensors, record, step, run, init, text, model, train, vocabulary, columns)
        except (KeyError, TypeError, ValueError, AttributeError, CharrnnError) as error:
            raise CheckpointError(f"{path} does not hold a run", "remove it to start anew") from error

    def refuse_changes(self, given: dict[str, Any], request: Request) -> None:
        """ConfigError: a given setting differs from the run's."""
        apart = bool(self.train.val_text)
        if apart != request.assignment.judged_apart:
            by = "a text of its own" if apart else "a part of its corpus"
            raise ConfigError(
                f"the interrupted run was judged by {by}",
                "give it again, as --val FILE" if apart else "leave out --val with --resume",
            )
        # A normal form that was not asked for is that of the corpus.
        asked = replace(request.text, normal_form=request.text.normal_form or self.text.normal_form)
        if request.text != TextConfig() and asked != self.text:
            raise ConfigError(
                "the interrupted run read its corpus with other options", "leave them out with --resume"
            )
        for name, value in given.items():
            if (name, value) == ("precision", "auto"):
                continue  # which was settled at the start of the run
            before = getattr(self.model if name in MODEL_SETTINGS else self.train, name)
            if name == "val_split":
                before = split_of(before, lines=self.text.records)
            if value != before:
                raise ConfigError(
                    f"{name.replace('_', '-')} {value} is not what the interrupted run has, {before}",
                    "leave it out with --resume, or start anew with --force",
                )


class Start(Enum):
    """How a run starts at a path where there may be a model."""

    ANEW = auto()  # any existing file is replaced
    AGAIN = auto()  # the existing model is its own: only a better one replaces it
    GOES_ON = auto()
    COMPLETE = auto()


@dataclass(frozen=True)
class Earlier:
    """The remains of earlier runs at `out`."""

    out: Path
    there: Checkpoint | Path | None  # the model; the path itself if the file is not a model
    interrupted: Interrupted | None  # the run to resume

    @property
    def model(self) -> Checkpoint | None:
        """The model, if there is one."""
        return self.there if isinstance(self.there, Checkpoint) else None

    def notes(self, target: Target) -> tuple[str, ...]:
        """A message if --resume finds nothing to resume."""
        if not target.resume or self.interrupted is not None or self.there is not None:
            return ()
        return (f"there is no interrupted run of {self.out}: starting from the beginning",)

    def settle(self, run: str, target: Target) -> Start:
        """How the run with this fingerprint starts.

        Raises:
            TrainingError: the interrupted run is another one, or --resume finds another run's model.
            CheckpointError: it would overwrite another model or another file.
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
        """Give the run its own model and resume file. TrainingError: these do not fit it."""
        model = self.model
        if model is not None and model.run == run.model.run and start is not Start.ANEW:
            run.keep(model, complete=start is Start.COMPLETE)
        if self.interrupted is not None:
            run.resume(self.interrupted.tensors, self.interrupted.record)

    def another_corpus(self) -> TrainingError:
        """The error if the interrupted run has read another corpus."""
        tune = f", or learn the new text from what it has learned, with --init-from {self.out} and another -o"
        return TrainingError(
            "the corpus is not the one that the interrupted run read",
            "give the same text, or start anew with --force" + (tune if self.model is not None else ""),
        )


def look(out: Path, target: Target) -> Earlier:
    """The remains at `out`.

    Raises:
        TrainingError: an interrupted run would be lost.
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
    except OSError as error:  # rather than "no", which might overwrite a file
        raise CheckpointError(*why_unreadable(path, error)) from error
