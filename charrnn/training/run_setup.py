"""From what a user asks for to a training run: settings, fine-tuning, resuming, what may be overwritten."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from charrnn.checkpoint import model_file as files
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import (
    ModelConfig,
    SampleConfig,
    TextConfig,
    TrainConfig,
    TrainPrecision,
    ValSplit,
    canonical,
    split_of,
)
from charrnn.errors import CharrnnError, CheckpointError, ConfigError, TrainingError, VocabularyError
from charrnn.events import Compiling, Started
from charrnn.generation.writing import generate
from charrnn.nn.compilation import Helper, compile_kernels
from charrnn.nn.network import initial_tensors
from charrnn.nn.parameters import Array
from charrnn.nn.precision import choose, require
from charrnn.nn.workers import Workers
from charrnn.system.file_errors import refuse_overwriting, why_unreadable
from charrnn.text.corpus import Corpus, corpus_name, read
from charrnn.text.sources import find
from charrnn.text.validation import unseen
from charrnn.training.locking import exclusive
from charrnn.training.planning import Plan, by_speed, needs_speed, plan
from charrnn.training.run import Run, fingerprint
from charrnn.training.throughput import characters_per_second
from charrnn.vocabulary import Vocabulary, describe

PREVIEW = SampleConfig(seed=1, length=200)
PREVIEW_LINES = 5  # of a model of lines
# Fine-tuning starts from good weights, which the usual peak would first unlearn.
FINE_TUNING_RATE = 2e-3

_MODEL_SETTINGS = {f.name for f in fields(ModelConfig)} - {"vocab_size"}
_TRAIN_SETTINGS = {f.name for f in fields(TrainConfig)}
MOST_KEPT = 10_000  # evaluated models beside the best
MUCH_UNLEARNED = 0.002  # share of a validation text that training does not explain
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


def model_path(paths: Sequence[str | Path], out: Path | None, folder: Path = _MODELS) -> Path:
    """The file that a run on a corpus writes: `out`, or one in `folder` that is called as the corpus."""
    return folder / f"{corpus_name(paths[0])}.safetensors" if out is None else out


def corpus_files(paths: Sequence[str | Path], val: Sequence[str | Path] = ()) -> list[tuple[str, Path | int]]:
    """What a run reads; for `refuse_overwriting`.

    Raises:
        CorpusError: a path names nothing that can be read.
    """
    validation = find(val) if val else []
    return [
        *(("a file of the corpus", source.file) for source in find(paths)),
        *(("a text for validation", source.file) for source in validation),
    ]


@dataclass(frozen=True)
class Request:
    """What a user asks `train` for; see `charrnn.api.train`."""

    paths: Sequence[str | Path]
    out: Path | None
    text: TextConfig
    settings: dict[str, Any]  # of ModelConfig (but vocab_size) and TrainConfig; None: what suits the corpus
    val: Sequence[str | Path] = ()
    resume: bool = False
    init_from: str | Path | None = None
    force: bool = False
    threads: int | None = None
    keep_models: int = 0
    previews: bool = False

    def checked(self) -> dict[str, Any]:
        """The settings that were given.

        Raises:
            ConfigError: one is out of range or contradicts another, which is said before a long text is read.
            TypeError: there is no such setting.
        """
        if unknown := self.settings.keys() - _MODEL_SETTINGS - (_TRAIN_SETTINGS - {"val_text"}):
            raise TypeError(f"train() has no settings named {', '.join(sorted(unknown))}")
        given = {name: value for name, value in self.settings.items() if value is not None}
        if len(budgets := sorted(given.keys() & _BUDGETS)) > 1:
            raise ConfigError(
                f"the budget is given as {' and as '.join(budgets)}",
                "give one of --minutes, --epochs and --steps",
            )
        if self.resume and self.init_from is not None:
            raise ConfigError("--resume and --init-from contradict each other", "give one of them")
        for name in ("val_fraction", "val_split"):
            if self.val and name in given:
                option = f"--{name.replace('_', '-')}"
                raise ConfigError(
                    f"{option} cuts the corpus, --val names another text for validation",
                    "give one of them",
                )
        if "-" in map(str, self.val) and "-" in map(str, self.paths):
            raise ConfigError("standard input is both corpus and validation", "name a file for one of them")
        if not 0 <= self.keep_models <= MOST_KEPT:
            raise ConfigError(
                f"keep-models is {self.keep_models}", f"give a whole number from 0 to {MOST_KEPT:,}"
            )
        ModelConfig(1, **_only(given, _MODEL_SETTINGS))
        TrainConfig(**({} if budgets else {"steps": 1}) | _only(given, _TRAIN_SETTINGS))
        return given


@dataclass(frozen=True)
class _Texts:
    """What a run reads: the corpus, and perhaps a text of its own for validation, in one vocabulary."""

    corpus: Corpus
    validation: Corpus | None
    different: int  # characters in the corpus itself

    @classmethod
    def read(cls, request: Request, text: TextConfig) -> _Texts:
        corpus = read(request.paths, text)
        different = len(corpus.vocabulary)
        if not request.val:
            return cls(corpus, None, different)
        validation = read(request.val, corpus.text)
        return cls(corpus, validation, different).within(corpus.vocabulary.merged(validation.vocabulary))

    def within(self, vocabulary: Vocabulary) -> _Texts:
        """The same in a vocabulary that has all their characters. VocabularyError: it has not."""
        validation = self.validation and self.validation.with_vocabulary(vocabulary)
        return replace(self, corpus=self.corpus.with_vocabulary(vocabulary), validation=validation)

    @property
    def val_text(self) -> str:
        """What TrainConfig says of the validation text."""
        return "" if self.validation is None else self.validation.fingerprint()


def prepare(
    request: Request, *, stop: Callable[[], str | None], helper: Helper, held: ExitStack
) -> Generator[Compiling, None, tuple[Run, Started]]:
    """The run that was asked for, ready to start; see `charrnn.api.train`.

    Yields events while kernels are compiled, which is before the plan where that depends on their speed.

    `held` lets go of the model file when the run is over.
    """
    began = time.monotonic()
    given, resume, force, threads = request.checked(), request.resume, request.force, request.threads
    paths, text = request.paths, request.text
    out = model_path(paths, request.out)
    if os.path.isdir(out):
        raise ConfigError(f"{out} is a folder", f"name the model file: -o {model_path(paths, None, out)}")
    corpora = corpus_files(paths, request.val)
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

    initial = files.load(request.init_from) if request.init_from is not None else None
    workers = Workers(threads)
    planned = ""
    if old is not None:
        _refuse_changes(old, given, request)
        require(old.train.precision, "go on with the run on a CPU that has, or start anew with --force")
        helper.start(old.model, threads, old.train.precision == "bfloat16")
        try:
            texts = _Texts.read(request, old.text).within(old.vocabulary)
        except VocabularyError as error:
            raise _another_corpus(out, there) from error
        model, train, init = old.model, old.train, str(old.record["init"])
    else:
        if initial is not None:
            given = _with_network_of(initial, given)
        guess = ModelConfig(1, **_only(given, _MODEL_SETTINGS))
        wanted = given.get("precision", "auto")
        helper.start(guess, threads, choose(wanted, guess) == "bfloat16")
        texts, init = _Texts.read(request, text), ""
        if initial is not None:
            texts = texts.within(initial.vocabulary.merged(texts.corpus.vocabulary))
            init = _digest(initial)
        if texts.validation is not None:
            given |= {"val_fraction": 0.0, "val_text": texts.val_text}
        before = _same_plan(there, given, texts, init)
        if before is not None:
            model, train = before
            planned = f"as {out} was trained"
        else:
            if needs_speed(len(texts.corpus.documents), given):
                for compiled in compile_kernels(guess, choose(wanted, guess) == "bfloat16"):
                    yield Compiling(*compiled)
            chosen = _planned(texts.corpus, given, wanted, workers)
            planned = chosen.reason
            model = ModelConfig(len(texts.corpus.vocabulary), **_only(chosen.settings, _MODEL_SETTINGS))
            train = TrainConfig(**_only(chosen.settings, _TRAIN_SETTINGS))
            train = replace(
                train,
                precision=choose(train.precision, model),
                val_split=_canonical(train.val_split, texts),
            )
    corpus = texts.corpus
    identity = fingerprint(corpus, model, train, init)
    same = isinstance(there, Checkpoint) and there.run == identity
    # Killed between its last save and its end, a run is complete: to resume it is no error.
    complete = resume and old is None and same
    if resume and old is None and there is not None and not (complete or force):
        raise TrainingError(
            f"the run that wrote {out} is complete",
            "train it further with --init-from, or anew with --force",
        )
    if old is not None and (old.record["run"] != identity or train.val_text != texts.val_text):
        raise _another_corpus(out, there)
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
        workers=workers, validation=texts.validation, keep=request.keep_models, began=began, stop=stop,
        preview=_preview if request.previews else None,
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
        corpus, texts.different, texts.validation, model, train, len(run.text), len(run.validation),
        workers.size, out, run.position.step, (*corpus.notes, *notes, *_warnings(run, given)), planned,
    )  # fmt: skip
    return run, started


def _warnings(run: Run, given: dict[str, Any]) -> Iterator[str]:
    """What makes the loss that a model is judged by say less than people think."""
    if not len(run.validation):
        if "val_fraction" not in given and not run.position.step:
            yield (
                "the text is too short to keep a part of it for validation: nothing tells how well the model "
                "does on new text (--val FILE names one)"
            )
        return
    new, share = unseen(run.corpus.documents, run.validation, apart=bool(run.train.val_text))
    if share > MUCH_UNLEARNED:
        such = ", ".join(describe(run.corpus.vocabulary.characters[n]) for n in new[:3])
        yield (
            f"{share:.1%} of the validation text are characters that the training text does not have "
            f"({such}{', ...' if len(new) > 3 else ''}): its loss says little about them"
        )


def _planned(corpus: Corpus, given: dict[str, Any], precision: TrainPrecision, workers: Workers) -> Plan:
    def speed(network: ModelConfig, batch_size: int, seq_len: int) -> float:
        bfloat16 = choose(precision, network) == "bfloat16"
        return characters_per_second(network, batch_size, seq_len, bfloat16=bfloat16, workers=workers)

    return plan(len(corpus.documents), len(corpus.vocabulary), given, speed)


def _same_plan(
    there: Checkpoint | Path | None, given: dict[str, Any], texts: _Texts, init: str
) -> tuple[ModelConfig, TrainConfig] | None:
    """What the model in the file was planned as, if the same was asked for.

    A plan that depends on the machine's speed is not made twice: to repeat a command repeats the run. What
    does not depend on it must be as it would be planned now.
    """
    if not isinstance(there, Checkpoint):
        return None
    try:
        train = TrainConfig(**there.settings)
    except (TypeError, ConfigError):
        return None  # of another version
    corpus = texts.corpus
    chosen = {**asdict(there.config), **asdict(train)}
    made = plan(len(corpus.documents), len(corpus.vocabulary), given, lambda *_: 1.0).settings
    free = by_speed(len(corpus.documents), given) | {"precision"} - given.keys()
    if given.get("precision") == "auto":
        free |= {"precision"}
    made |= {name: chosen[name] for name in free}
    made["val_split"] = _canonical(made["val_split"], texts)
    model = ModelConfig(len(corpus.vocabulary), **_only(made, _MODEL_SETTINGS))
    if (model, TrainConfig(**_only(made, _TRAIN_SETTINGS))) != (there.config, train):
        return None
    return (model, train) if fingerprint(corpus, model, train, init) == there.run else None


def _canonical(val_split: ValSplit | None, texts: _Texts) -> ValSplit | None:
    """The setting as files have it: None where it says nothing."""
    if texts.validation is not None:
        return None
    return canonical(val_split, lines=texts.corpus.text.lines)


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


def _refuse_changes(old: _Interrupted, given: dict[str, Any], request: Request) -> None:
    """A resumed run keeps its settings: one that was given anew must be the same."""
    if bool(old.train.val_text) != bool(request.val):
        raise ConfigError(
            "the interrupted run was judged by "
            + ("a text of its own" if old.train.val_text else "a part of its corpus"),
            "give it again, as --val FILE" if old.train.val_text else "leave out --val with --resume",
        )
    if request.text not in (TextConfig(), old.text):
        raise ConfigError(
            "the interrupted run read its corpus with other options", "leave them out with --resume"
        )
    for name, value in given.items():
        if (name, value) == ("precision", "auto"):
            continue  # it was settled when the run began
        before = getattr(old.model if name in _MODEL_SETTINGS else old.train, name)
        if name == "val_split":
            before = split_of(before, lines=old.text.lines)
        if value != before:
            raise ConfigError(
                f"{name.replace('_', '-')} {value} is not what the interrupted run has, {before}",
                "leave it out with --resume, or start anew with --force",
            )


def _another_corpus(out: Path, there: Checkpoint | Path | None) -> TrainingError:
    tune = f", or learn the new text from what it has learned, with --init-from {out} and another -o"
    return TrainingError(
        "the corpus is not the one that the interrupted run read",
        "give the same text, or start anew with --force" + (tune if isinstance(there, Checkpoint) else ""),
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
