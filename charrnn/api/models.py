"""The models that all other functions take: loaded, of one label, mixed, with a cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from charrnn.checkpoint import library
from charrnn.checkpoint import model_file as files
from charrnn.checkpoint.kinds import require
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import CacheConfig, Kind
from charrnn.errors import CheckpointError, ConfigError
from charrnn.inference.mixture import Blend, blend
from charrnn.labels import ids_of, names
from charrnn.text.files.normalization import as_trained

Paths = str | Path | Sequence[str | Path]
AnyModel = Checkpoint | Blend | str | Path


def load(path: str | Path | None = None) -> Checkpoint:
    """The model in a file; without a path, the newest in ./checkpoints, or else the bundled one.

    What is no path may be a model's name, as `charrnn models` lists them; see charrnn.checkpoint.library.
    """
    return files.load(model_path(path))


def model_path(path: str | Path | None = None) -> Path:
    """The file that `load` reads."""
    found = library.newest() or library.bundled("places") if path is None else library.find(path)
    if found is None:
        raise CheckpointError("there is no model yet", "train one: charrnn train corpus.txt")
    return found


def given(
    models: AnyModel | Sequence[tuple[Checkpoint, float]],
    labels: Mapping[str, str] | str | Callable[[Checkpoint], Sequence[tuple[Mapping[str, str], float]]],
    strength: float = 1.0,
) -> Checkpoint | Blend:
    """The model of texts with a label, for all functions that take a model.

    `labels` are one label, or several by the names of their columns. Above 1, `strength` exaggerates what is
    particular to them. For several models with weights, and for mixtures of labels, `labels` is a function
    that returns for each model its labels, with weights; models without labels stay as they are.

    Raises:
        VocabularyError: a model has no such label, or none of them has labels.
        ConfigError: a weight or the strength is out of range.
    """
    several: Any = models
    if isinstance(models, (Checkpoint, str, Path)):
        several = [(model_or_blend(models), 1.0)]
    if several is None or isinstance(several, Blend):
        raise ConfigError("labels are given for a blend", "give them for its models")
    found: list[tuple[Checkpoint, float]] = []
    plain = len(several) > 1 and any(model.columns for model, _ in several)
    for model, weight in several:
        if plain and not model.columns:
            found.append((model, weight))
            continue
        if callable(labels):
            chosen = labels(model)
        else:
            only = model.columns[0].name if len(model.columns) == 1 else ""
            chosen = [({only: labels} if isinstance(labels, str) else labels, 1.0)]
        found += [(model.given(ids_of(model.columns, named)), weight * share) for named, share in chosen]
    if strength != 1.0 and len(several) > 1:
        raise ConfigError("--strength leads one model, and there are several", "leave it out, or name one")
    return led(found, several[0][0], strength)


def led(models: list[tuple[Checkpoint, float]], bare: Checkpoint, strength: float) -> Checkpoint | Blend:
    """The mixture of models that know their labels, led away from the model `bare` without any."""
    if strength == 1.0:
        return blend(models)
    return Blend(tuple(m for m, _ in models), tuple(w for _, w in models), bare.given(()), strength)


def looking_back(model: AnyModel | None, cache: CacheConfig | int) -> Checkpoint | Blend:
    """The model with a cache, for all functions that take a model; a number is how many characters it holds.

    It expects what followed, in the last characters of the same text, where the network was in a state like
    the present one; see charrnn.kernels.loops.beside.recall. A blend's models have a cache each.

    Raises:
        ConfigError: the model does not write.
    """
    loaded = model if isinstance(model, (Checkpoint, Blend)) else load(model)
    cache = cache if isinstance(cache, CacheConfig) else CacheConfig(cache)
    if isinstance(loaded, Blend):
        parts = tuple(replace(part, cache=cache) for part in loaded.parts)
        away = None if loaded.away_from is None else replace(loaded.away_from, cache=cache)
        return replace(loaded, parts=parts, away_from=away)
    if loaded.config.kind != "writer":
        raise ConfigError("--cache is for models that write, and this one reads", "leave it out")
    return replace(loaded, cache=cache)


def holding(model: Checkpoint | str | Path | None, values: Mapping[str, float]) -> Checkpoint:
    """The model for all functions that write, with these units held: {"1:37": 1.5}.

    Of an LSTM c is held, of other cells h; see charrnn.neurons.holding.

    Raises:
        ConfigError: there is no such unit, or it cannot have this value.
    """
    from charrnn.neurons.holding import held

    return held(checkpoint_of(model), values)


def by_label(model: Checkpoint | str | Path, column: str | None = None) -> list[Checkpoint]:
    """The models of texts with each label of a column, the first one without a name.

    Raises:
        VocabularyError: there is no such column.
    """
    checkpoint = checkpoint_of(model)
    place = 0 if column is None else place_of(checkpoint, column)
    ids = list(ids_of(checkpoint.columns, {}))  # all unknown
    found = []
    for label in range(len(checkpoint.columns[place].labels)):
        ids[place] = label
        found.append(checkpoint.given(tuple(ids)))
    return found


def place_of(model: Checkpoint, column: str) -> int:
    """The number of a column of labels. VocabularyError: there is none of this name."""
    ids_of(model.columns, {column: ""})
    return names(model.columns).index(column)


def checkpoint_of(model: Checkpoint | str | Path | None, *kinds: Kind) -> Checkpoint:
    """The model to read with, of one of these kinds; without any, one that writes."""
    loaded = model if isinstance(model, Checkpoint) else load(model)
    if loaded.held:  # what reads begins with a state of zeros
        raise ConfigError("units are held while a model writes, and not while it reads", "give it as it is")
    return require(loaded, *(kinds or ("writer",)))


def model_or_blend(model: AnyModel | None) -> Checkpoint | Blend:
    """The model, or models, to write with."""
    if isinstance(model, Blend):
        return model
    return require(model if isinstance(model, Checkpoint) else load(model), "writer")


def as_read(model: Checkpoint | Blend, text: str) -> str:
    """A text as the model's corpus was. Text from users passes here or through a Scorer."""
    return as_trained(text, model.text)


def paths_of(corpus: Paths) -> list[str | Path]:
    return [corpus] if isinstance(corpus, (str, Path)) else list(corpus)


def shares_of(prior: Sequence[float], count: int, things: str) -> list[float]:
    """A prior of so many numbers, with the sum 1."""
    weights = [float(weight) for weight in prior]
    if len(weights) != count:
        raise ConfigError(
            f"the prior has {len(weights)} numbers for {count} {things}", f"give one for each {things[:-1]}"
        )
    if not all(0 < weight < float("inf") for weight in weights):
        raise ConfigError("the prior holds a number that is not above 0", "give positive numbers")
    total = sum(weights)
    return [weight / total for weight in weights]
