"""From what a user asks for to a training run: settings, fine-tuning, resuming, what may be overwritten."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from charrnn import checkpoint as files
from charrnn.checkpoint import Checkpoint
from charrnn.compilation import Helper, compile_kernels
from charrnn.config import ModelConfig, SampleConfig, TextConfig, TrainConfig, TrainPrecision
from charrnn.corpus import Corpus, corpus_name, read
from charrnn.errors import CharrnnError, CheckpointError, ConfigError, TrainingError, VocabularyError
from charrnn.events import Compiling, Started
from charrnn.generation import generate
from charrnn.locking import exclusive
from charrnn.model import initial_tensors
from charrnn.parameters import Array
from charrnn.planning import Plan, needs_speed, plan
from charrnn.precision import choose, require
from charrnn.sources import find
from charrnn.speed import characters_per_second
from charrnn.training import Run, fingerprint
from charrnn.unreadable import why_unreadable
from charrnn.unwritable import refuse_overwriting
from charrnn.vocabulary import Vocabulary
from charrnn.workers import Workers

PREVIEW = SampleConfig(seed=1, length=200)
PREVIEW_LINES = 5  # of a model of lines
# Fine-tuning starts from good weights, which the usual peak would first unlearn.
FINE_TUNING_RATE = 2e-3

_MODEL_SETTINGS = {f.name for f in fields(ModelConfig)} - {"vocab_size"}
_TRAIN_SETTINGS = {f.name for f in fields(TrainConfig)}
_BUDGETS = {"minutes", "epochs", "steps"}
_MODELS = Path("checkpoints")


@dataclass(frozen=True)
class _Interrupted:
    """What an interrupted run left behind."""

    tensors: dict[str, Array]
    record: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.record["position"]["step"])

    @property
    def text(self) -> TextConfig:
        return TextConfig(**self.record["text"])

    @property
    def model(self) -> ModelConfig:
        return ModelConfig.from_dict(self.record["model"])

    @property
    def train(self) -> TrainConfig:
        return TrainConfig(**self.record["train"])

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.record["vocabulary"])


def model_path(paths: Sequence[str | Path], out: Path | None, folder: Path = _MODELS) -> Path:
    """The file that a run on a corpus writes: `out`, or one in `folder` that is called as the corpus."""
    return folder / f"{corpus_name(paths[0])}.safetensors" if out is None else out


def corpus_files(paths: Sequence[str | Path]) -> list[tuple[str, Path | int]]:
    """What a run reads; for `refuse_overwriting`.

    Raises:
        CorpusError: a path names nothing that can be read.
    """
    return [("a file of the corpus", source.file) for source in find(paths)]


def prepare(
    paths: Sequence[str | Path],
    out: Path | None,
    text: TextConfig,
    settings: dict[str, Any],
    *,
    resume: bool,
    init_from: str | Path | None,
    force: bool,
    threads: int | None,
    stop: Callable[[], str | None],
    previews: bool,
    helper: Helper,
    held: ExitStack,
) -> Generator[Compiling, None, tuple[Run, Started]]:
    """The run that was asked for, ready to start; see `charrnn.api.train`.

    Yields events while kernels are compiled, which is before the plan where that depends on their speed.

    `held` lets go of the model file when the run is over.
    """
    if unknown := settings.keys() - _MODEL_SETTINGS - _TRAIN_SETTINGS:
        raise TypeError(f"train() has no settings named {', '.join(sorted(unknown))}")
    began = time.monotonic()
    given = {name: value for name, value in settings.items() if value is not None}
    if len(budgets := sorted(given.keys() & _BUDGETS)) > 1:
        raise ConfigError(
            f"the budget is given as {' and as '.join(budgets)}",
            "give one of --minutes, --epochs and --steps",
        )
    if resume and init_from is not None:
        raise ConfigError("--resume and --init-from contradict each other", "give one of them")
    # What is out of range is said before a long text is read.
    ModelConfig(1, **_only(given, _MODEL_SETTINGS))
    TrainConfig(**({} if budgets else {"steps": 1}) | _only(given, _TRAIN_SETTINGS))
    out = model_path(paths, out)
    if os.path.isdir(out):
        raise ConfigError(f"{out} is a folder", f"name the model file: -o {model_path(paths, None, out)}")
    corpora = corpus_files(paths)
    for path in (out, files.resume_path(out)):
        refuse_overwriting(path, corpora)

    held.enter_context(exclusive(out))
    notes: tuple[str, ...] = ()
    there = _model_at(out)
    old = None if force and not resume else _interrupted(out)
    if resume and old is None and there is None:
        notes = (f"there is no interrupted run of {out}: starting from the beginning",)
    if old is not None and not resume and not old.step:
        old = None  # killed before it had saved a step: nothing is lost
    if old is not None and not resume:
        raise TrainingError(
            f"{out} belongs to a run that was interrupted at step {old.step}",
            "--resume goes on with it, --force starts anew",
        )

    initial = files.load(init_from) if init_from is not None else None
    workers = Workers(threads)
    planned = ""
    if old is not None:
        _refuse_changes(old, given, text)
        require(old.train.precision, "go on with the run on a CPU that has, or start anew with --force")
        helper.start(old.model, threads, old.train.precision == "bfloat16")
        corpus = _recoded(read(paths, old.text), old.vocabulary)
        model, train, init = old.model, old.train, str(old.record["init"])
    else:
        if initial is not None:
            given = _with_network_of(initial, given)
        guess = ModelConfig(1, **_only(given, _MODEL_SETTINGS))
        wanted = given.get("precision", "auto")
        helper.start(guess, threads, choose(wanted, guess) == "bfloat16")
        corpus, init = read(paths, text), ""
        if initial is not None:
            corpus = corpus.with_vocabulary(initial.vocabulary.merged(corpus.vocabulary))
            init = _digest(initial)
        before = _same_plan(there, given, corpus, init)
        if before is not None:
            model, train = before
            planned = f"as {out} was trained"
        else:
            if needs_speed(len(corpus.documents), given):
                for compiled in compile_kernels(guess, choose(wanted, guess) == "bfloat16"):
                    yield Compiling(*compiled)
            chosen = _planned(corpus, given, wanted, workers)
            planned = chosen.reason
            model = ModelConfig(len(corpus.vocabulary), **_only(chosen.settings, _MODEL_SETTINGS))
            train = TrainConfig(**_only(chosen.settings, _TRAIN_SETTINGS))
            train = replace(train, precision=choose(train.precision, model))
    identity = fingerprint(corpus, model, train, init)
    same = isinstance(there, Checkpoint) and there.run == identity
    # Killed between its last save and its end, a run is complete: to resume it is no error.
    complete = resume and old is None and same
    if resume and old is None and there is not None and not (complete or force):
        raise TrainingError(
            f"the run that wrote {out} is complete",
            "train it further with --init-from, or anew with --force",
        )
    if old is not None and old.record["run"] != identity:
        raise _another_corpus()
    if there is not None and not (force or same or old is not None):
        raise CheckpointError(
            f"{out} holds {'another model' if isinstance(there, Checkpoint) else 'something else'}",
            "choose another file with -o, or overwrite it with --force",
        )

    tensors = initial_tensors(model, train.seed)
    if initial is not None:
        tensors = _grown(initial, corpus.vocabulary, tensors)
    run = Run(
        corpus, model, train, out=out, tensors=tensors, init=init, fingerprint=identity,
        workers=workers, began=began, stop=stop, preview=_preview if previews else None,
    )  # fmt: skip
    run.outputs.clean()
    if same and (resume or not force):
        assert isinstance(there, Checkpoint)
        run.keep(there)
    if old is not None:
        run.resume(old.tensors, old.record)
    if complete and isinstance(there, Checkpoint):
        run.set_complete(there)
    started = Started(
        corpus, model, train, len(run.text), len(run.validation), workers.size, out,
        run.position.step, (*corpus.notes, *notes), planned,
    )  # fmt: skip
    return run, started


def _planned(corpus: Corpus, given: dict[str, Any], precision: TrainPrecision, workers: Workers) -> Plan:
    def speed(network: ModelConfig, batch_size: int, seq_len: int) -> float:
        bfloat16 = choose(precision, network) == "bfloat16"
        return characters_per_second(network, batch_size, seq_len, bfloat16=bfloat16, workers=workers)

    return plan(len(corpus.documents), len(corpus.vocabulary), given, speed)


def _same_plan(
    there: Checkpoint | Path | None, given: dict[str, Any], corpus: Corpus, init: str
) -> tuple[ModelConfig, TrainConfig] | None:
    """What the model in the file was planned as, if the same was asked for.

    A plan that depends on the machine's speed is not made twice: to repeat a command repeats the run.
    """
    if not isinstance(there, Checkpoint):
        return None
    try:
        train = TrainConfig(**there.settings)
    except (TypeError, ConfigError):
        return None  # of another version
    chosen = {**asdict(there.config), **asdict(train)}
    asked = {name: value for name, value in given.items() if (name, value) != ("precision", "auto")}
    if any(chosen[name] != value for name, value in asked.items()) or (
        not given.keys() & _BUDGETS and train.steps is not None
    ):
        return None
    return (there.config, train) if fingerprint(corpus, there.config, train, init) == there.run else None


def _model_at(out: Path) -> Checkpoint | Path | None:
    """The model in the file; the path itself when it holds something else; None when there is nothing."""
    if not _exists(out):
        return None
    try:
        return files.load(out)
    except CheckpointError:
        return out


def _interrupted(out: Path) -> _Interrupted | None:
    path = files.resume_path(out)
    if not _exists(path):
        return None
    found = _Interrupted(*files.load_resume(path))
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


def _refuse_changes(old: _Interrupted, given: dict[str, Any], text: TextConfig) -> None:
    """A resumed run keeps its settings: one that was given anew must be the same."""
    if text not in (TextConfig(), old.text):
        raise ConfigError(
            "the interrupted run read its corpus with other options", "leave them out with --resume"
        )
    for name, value in given.items():
        if (name, value) == ("precision", "auto"):
            continue  # it was settled when the run began
        before = getattr(old.model if name in _MODEL_SETTINGS else old.train, name)
        if value != before:
            raise ConfigError(
                f"{name.replace('_', '-')} {value} is not what the interrupted run has, {before}",
                "leave it out with --resume, or start anew with --force",
            )


def _recoded(corpus: Corpus, vocabulary: Vocabulary) -> Corpus:
    try:
        return corpus.with_vocabulary(vocabulary)
    except VocabularyError as error:
        raise _another_corpus() from error


def _another_corpus() -> TrainingError:
    return TrainingError(
        "the corpus is not the one that the interrupted run read",
        "give the same text, or start anew with --force",
    )


def _with_network_of(initial: Checkpoint, given: dict[str, Any]) -> dict[str, Any]:
    """The settings for fine-tuning: the network is the model's, but for dropout."""
    network = initial.config.to_dict()
    del network["vocab_size"]
    for name, value in network.items():
        if name != "dropout" and given.get(name, value) != value:
            raise ConfigError(
                f"{name.replace('_', '-')} {given[name]} is not that of the model to start from, {value}",
                "leave it out with --init-from",
            )
    return {"learning_rate": FINE_TUNING_RATE, **network, **given}


def _only(settings: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name in names}


def _digest(checkpoint: Checkpoint) -> str:
    digest = hashlib.sha256()
    for name, tensor in checkpoint.tensors.items():
        digest.update(name.encode() + tensor.tobytes())
    return digest.hexdigest()


def _grown(initial: Checkpoint, vocabulary: Vocabulary, fresh: dict[str, Array]) -> dict[str, Array]:
    """The model's weights, with the rows of characters that it has not seen taken from `fresh`."""
    ids = initial.vocabulary.positions_in(vocabulary)
    tensors = {}
    for name, value in fresh.items():
        known = initial.tensors[name]
        if name in ("embedding.weight", "decoder.weight", "decoder.bias"):
            value[ids] = known
        elif name == "rnn.weight_ih_l0" and not initial.config.embedding_size:  # one-hot: by column
            value[:, ids] = known
        else:
            value = known
        tensors[name] = value
    return tensors


def _preview(checkpoint: Checkpoint) -> str:
    """What the network writes by now: the same draws each time, so that what changes is the network."""
    count = PREVIEW_LINES if checkpoint.text.lines else 1
    return "".join("".join(generate(checkpoint, "", PREVIEW, index=n)) for n in range(count))
