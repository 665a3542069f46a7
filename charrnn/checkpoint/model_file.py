"""Checkpoint <-> one .safetensors file, and the locations of model files.

PyTorch can use the file directly: the tensors have its names and layout. All else is JSON in the
metadata; "vocabulary" is a string of all characters, in which a character's position is its id. The
file holds no timestamp, so the same run writes the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from charrnn.checkpoint import container
from charrnn.checkpoint.container import Array, Container, DamageError, Entry, Record
from charrnn.config import CacheConfig, ModelConfig, TextConfig, format_version
from charrnn.counts.class_grams import PREFIX as GRAMS
from charrnn.counts.class_grams import ClassGrams
from charrnn.counts.counts import PREFIX as COUNTS
from charrnn.counts.counts import UNSIGNED
from charrnn.counts.gate import PREFIX as GATE
from charrnn.counts.gate import GatedCounts
from charrnn.errors import CheckpointError, ConfigError, VocabularyError, printable, quoted
from charrnn.labels import Columns, places_of, sizes_of
from charrnn.labels import from_record as columns_of
from charrnn.text.novelty import Novelty
from charrnn.vocabulary import END, Vocabulary

FORMAT_VERSION = 9  # newer files are refused; each file gets the lowest version that can hold it
INDEX_VERSION = 2  # the lowest version for a model with a novelty index
COUNTS_VERSION, MORE_COUNTS_VERSION = 5, 6  # and with counts, and with those that are not is_plain
GRAMS_VERSION = 7  # and with grams beside a classifier
SUFFIX = container.SUFFIX
RESUME_SUFFIX = ".resume" + SUFFIX

_FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True, eq=False)  # eq: arrays have no truth value
class Checkpoint:
    """A trained network with its vocabulary, settings and history, as plain data."""

    config: ModelConfig
    vocabulary: Vocabulary
    text: TextConfig  # how the corpus was read
    tensors: dict[str, Array]  # float32, the names and shapes of config.parameter_shapes()
    # For each evaluation: "step", "epoch", "train_loss" and "val_loss" (nats; None: not measured).
    history: list[dict[str, Any]] = field(default_factory=list)
    best_val_loss: float | None = None  # nats a character; None: never measured
    run: str = ""  # fingerprint of the training run; "": unknown
    settings: dict[str, Any] = field(default_factory=dict)  # of the training run
    novelty: Novelty | None = None  # index of the training text; None: the file predates version 2
    columns: Columns = ()  # the labels of texts
    counts: GatedCounts | None = None  # which stand beside the network
    grams: ClassGrams | None = None  # the same beside a classifier
    cache: CacheConfig | None = None  # how far it looks back where it predicts; files do not have it
    # Where texts begin, (layer, place in its state, number), since units are held; nor do files have that.
    held: tuple[tuple[int, int, float], ...] = ()

    @property
    def characters(self) -> str:
        """The characters that the network reads, in the order of their ids; the end of a text is none."""
        return self.vocabulary.characters[: self.config.vocab_size]

    def given(self, labels: tuple[int, ...]) -> Checkpoint:
        """The model of texts with these labels, one id for each column, as one without labels."""
        is_made = self.config.recurrence.is_made
        places = places_of(np.array(labels, np.int64), self.config.labels).tolist() if is_made else ()
        config = replace(self.config, labels=(), given=tuple(place for place in places if place >= 0))
        tensors = {name: self.tensors[name] for name in config.parameter_shapes()}
        for k in range(0 if is_made else config.num_layers):
            name = f"rnn.bias_ih_l{k}"
            for column, label in enumerate(labels):
                rows = self.tensors[f"label.{column}.weight_l{k}"]
                if label < len(rows):
                    tensors[name] = tensors[name] + rows[label]
        text = replace(self.text, label_by=None, label_fields=())
        counts = self.counts and self.counts.given(labels)
        return replace(self, config=config, tensors=tensors, text=text, columns=(), counts=counts)

    def shares_matrices(self, other: Checkpoint) -> bool:
        """Whether the model differs from the other in vectors alone, as one of other labels does."""
        same = (self.config, self.vocabulary, self.text) == (other.config, other.vocabulary, other.text)
        counted = self.counts is other.counts or (self.counts and self.counts.is_shared_with(other.counts))
        same = same and bool(counted) and self.cache == other.cache
        return same and all(t is other.tensors[name] for name, t in self.tensors.items() if t.ndim > 1)


def save(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a model file atomically; the same contents give the same bytes.

    Raises:
        SaveError: the file cannot be written.
        CheckpointError: `load` would reject the checkpoint: its tensors do not fit its configuration,
            or hold NaN or infinity.

    On either error an existing file is left unchanged.
    """
    path = Path(path)
    try:
        record = _record(checkpoint)
        _from_record(record)
        tensors = {name: np.asarray(tensor) for name, tensor in checkpoint.tensors.items()}
        _check_shapes(checkpoint.config, tensors)
        _check_finite(tensors)
        if checkpoint.counts is not None:
            tensors |= _counts(checkpoint.config, checkpoint.counts.tensors()).tensors()
        if checkpoint.grams is not None:
            tensors |= _grams(checkpoint.config, checkpoint.grams.tensors()).tensors()
    except DamageError as error:
        raise CheckpointError(f"{printable(str(path))} is not written: {error}") from error
    container.write(path, tensors, record)


def load(path: str | Path) -> Checkpoint:
    """Read a model file. Everything in it is checked.

    Raises:
        CheckpointError: the file cannot be read, was not made by charrnn, or is damaged.
    """
    with container.opened(Path(path)) as file:
        _check_kind(file, wants_resume=False)
        checkpoint = _from_record(file.record)
        beside = {name for name in file.entries if name.startswith((COUNTS, GATE))}
        grams = {name for name in file.entries if name.startswith(GRAMS)}
        for names, version in ((beside, COUNTS_VERSION), (grams, GRAMS_VERSION)):
            if names and file.record["format_version"] < version:
                raise DamageError(f"its format has no counts, but it has the tensor {quoted(min(names))}")
        network = {name: entry for name, entry in file.entries.items() if name not in beside | grams}
        _check_shapes(checkpoint.config, network)
        tensors = file.tensors()
        counts, counted = ({name: tensors.pop(name) for name in names} for names in (beside, grams))
        _check_finite(tensors)
        if counts:
            checkpoint = replace(checkpoint, counts=_counts(checkpoint.config, counts))
        if counted:
            checkpoint = replace(checkpoint, grams=_grams(checkpoint.config, counted))
    ordered = {name: tensors[name] for name in checkpoint.config.parameter_shapes()}
    return replace(checkpoint, tensors=ordered)


def glance(path: str | Path) -> Checkpoint:
    """A model file without its tensors, of which only the shapes are checked: many are soon looked through.

    Raises:
        CheckpointError: as `load`, as far as can be seen.
    """
    with container.opened(Path(path)) as file:
        _check_kind(file, wants_resume=False)
        checkpoint = _from_record(file.record)
        beside = (COUNTS, GATE, GRAMS)
        network = {name: e for name, e in file.entries.items() if not name.startswith(beside)}
        _check_shapes(checkpoint.config, network)
    return checkpoint


def _counts(config: ModelConfig, tensors: Mapping[str, Array]) -> GatedCounts:
    """The counts that stand beside the network. DamageError: they are none, or do not fit it."""
    if config.kind != "writer":
        raise DamageError(f"it is a {config.kind}, which has no counts, but it has {quoted(min(tensors))}")
    try:
        return GatedCounts.from_tensors(tensors, config.outputs, config.labels)
    except ValueError as error:
        raise DamageError(str(error)) from error


def _grams(config: ModelConfig, tensors: Mapping[str, Array]) -> ClassGrams:
    """The grams that stand beside the classifier. DamageError: they are none, or do not fit it."""
    if config.kind != "classifier":
        raise DamageError(f"it is a {config.kind}, which has no grams, but it has {quoted(min(tensors))}")
    try:
        return ClassGrams.from_tensors(tensors, config.targets, config.vocab_size)
    except ValueError as error:
        raise DamageError(str(error)) from error


def save_resume(
    path: str | Path, tensors: Mapping[str, Array], state: Mapping[str, Any], version: int = 1
) -> None:
    """Write what `--resume` needs: float32, int64 and unsigned tensors, and a state of plain JSON.

    `version` is the lowest version of the file format that knows every entry of the state.

    Raises:
        SaveError: the file cannot be written; an existing one is left unchanged.
    """
    path = Path(path)
    for name, tensor in tensors.items():
        if tensor.dtype not in (np.float32, np.int64, *UNSIGNED):
            raise CheckpointError(
                f"{printable(str(path))} is not written: "
                f"{name} is {tensor.dtype}, not float32, int64 or unsigned"
            )
    record = {"format_version": version, "kind": "resume", "state": dict(state)}
    container.write(path, tensors, record)


def load_resume(path: str | Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """The tensors and the state that `save_resume` wrote.

    Only the container is checked; the run must check names, shapes and values itself. Infinite values
    are allowed, since a run can continue with them.

    Raises:
        CheckpointError: the file cannot be read, is of another kind, or is damaged.
    """
    with container.opened(Path(path)) as file:
        _check_kind(file, wants_resume=True)
        state = file.record.get("state")
        if not isinstance(state, dict):
            raise DamageError("it holds no state")
        return file.tensors(), state


def resume_path(path: str | Path) -> Path:
    """The resume file of a model file: m.resume.safetensors beside m.safetensors."""
    path = Path(path)
    return path.with_name(path.name.removesuffix(SUFFIX) + RESUME_SUFFIX)


def _record(checkpoint: Checkpoint) -> Record:
    version = format_version(checkpoint.config, checkpoint.text)
    record = {
        "format_version": version,
        "model": checkpoint.config.to_dict(),
        "vocabulary": checkpoint.characters,
        "text": checkpoint.text.to_dict(),
        "history": checkpoint.history,
        "best_val_loss": checkpoint.best_val_loss,
        "run": checkpoint.run,
        "settings": checkpoint.settings,
    }
    if checkpoint.columns:
        record["labels"] = [column.to_dict() for column in checkpoint.columns]
    if checkpoint.novelty is not None:
        version = max(INDEX_VERSION, version)
        record |= {"format_version": version, "novelty": checkpoint.novelty.to_dict()}
    if checkpoint.counts is not None:
        own = COUNTS_VERSION if checkpoint.counts.is_plain else MORE_COUNTS_VERSION
        record["format_version"] = max(own, version)
    if checkpoint.grams is not None:
        record["format_version"] = max(GRAMS_VERSION, version)
    return record


def _from_record(record: Record) -> Checkpoint:
    """The checkpoint that a model file's record describes, without tensors. DamageError: it is invalid."""
    keys = {"format_version", "model", "vocabulary", "text", "history", "best_val_loss", "run",
            "settings"}  # fmt: skip
    if missing := sorted(keys - record.keys()):
        raise DamageError(f"its record lacks {', '.join(missing)}")
    if unknown := sorted(record.keys() - keys - {"novelty", "labels"}):
        raise DamageError(f"its record has an unknown entry, {quoted(unknown[0])}")
    try:
        config = ModelConfig.from_dict(record["model"])
        text = TextConfig.from_dict(record["text"])
        characters = record["vocabulary"]
        if not isinstance(characters, str):
            raise DamageError("its vocabulary is no text")
        if text.split is not None and END in characters:
            raise DamageError("its vocabulary holds the end of a text as a character")
        vocabulary = Vocabulary.of_text(characters, text)
        novelty = Novelty.from_dict(record["novelty"]) if "novelty" in record else None
        columns = columns_of(record.get("labels", []))
    except (ConfigError, VocabularyError) as error:
        raise DamageError(error.message) from error
    except ValueError as error:
        raise DamageError(str(error)) from error
    if len(characters) != config.vocab_size:
        raise DamageError(f"its vocabulary has {len(characters)} characters, its network {config.vocab_size}")
    writes = config.kind == "writer"
    if writes and config.ends != (text.split is not None):
        raise DamageError("its network and its text disagree whether the end of a text is predicted")
    if (config.targets or config.labels) != sizes_of(columns):
        raise DamageError("its network and its record disagree on the labels of texts")
    if text.label_by is not None and not columns:
        raise DamageError("its texts have labels, but it knows none")
    if text.bytes and characters[-1] > "\xff":  # the characters are sorted
        raise DamageError("its vocabulary has characters that are no bytes, but it writes bytes")
    if text.lines and "\n" not in vocabulary:
        raise DamageError("it writes lines, but its vocabulary has no line end")
    best, run, settings = record["best_val_loss"], record["run"], record["settings"]
    if not (best is None or _is_number(best)):
        raise DamageError("its best validation loss is no number")
    if not isinstance(run, str):
        raise DamageError("the name of its run is no text")
    if not isinstance(settings, dict):
        raise DamageError("its settings are no table")
    return Checkpoint(
        config=config,
        vocabulary=vocabulary,
        text=text,
        tensors={},
        history=checked_history(record["history"]),
        best_val_loss=best,
        run=run,
        settings=settings,
        novelty=novelty,
        columns=columns,
    )


def checked_history(history: Any) -> list[dict[str, Any]]:
    """The history from a file. DamageError: it is invalid."""
    if not isinstance(history, list):
        raise DamageError("its history is no list")
    for row in history:
        if not isinstance(row, dict) or row.keys() != {"step", "epoch", "train_loss", "val_loss"}:
            raise DamageError("its history has a row without step, epoch, train_loss and val_loss")
        losses = (row["train_loss"], row["val_loss"])
        if (
            type(row["step"]) is not int
            or not _is_number(row["epoch"])
            or not all(loss is None or _is_number(loss) for loss in losses)
        ):
            raise DamageError("its history has a row with something that is no number")
    return history


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_kind(file: Container, *, wants_resume: bool) -> None:
    """Checks that the file's version is supported, and that it is a resume file or a model, as wanted."""
    version = file.record.get("format_version")
    if type(version) is not int or version < 1:
        raise DamageError("its record has no format version")
    is_resume = file.record.get("kind") == "resume"
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{file.name} was made by a newer charrnn (its format is {version}, not {FORMAT_VERSION})",
            "upgrade charrnn",
        )
    if is_resume and not wants_resume:
        raise CheckpointError(
            f"{file.name} is what train --resume needs, not a model", "give the model beside it"
        )
    if wants_resume and not is_resume:
        raise CheckpointError(f"{file.name} is a model, not the state of a run", "train anew")


def _check_shapes(config: ModelConfig, tensors: Mapping[str, Array | Entry]) -> None:
    """Checks that the tensors are exactly those of the configuration, with its shapes, in float32."""
    shapes = config.parameter_shapes()
    for name, shape in shapes.items():
        if (tensor := tensors.get(name)) is None:
            raise DamageError(f"the tensor {name} is missing")
        if tensor.shape != shape:
            raise DamageError(f"the tensor {name} has the shape {quoted(tensor.shape)}, not {shape}")
        if tensor.dtype != _FLOAT32:
            raise DamageError(f"the tensor {name} is {tensor.dtype}, not float32")
    if extra := sorted(tensors.keys() - shapes.keys()):
        raise DamageError(f"the network has no such tensor as {quoted(extra[0])}")


def _check_finite(tensors: Mapping[str, Array]) -> None:
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise DamageError(f"the tensor {name} holds NaN or infinity")
