"""`-m MODEL[:WEIGHT]`: one model, or a mixture of several; `--label LABEL`: for texts with this label."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charrnn.cli.options import model_names
from charrnn.config import WRITING_STRENGTH, CacheConfig
from charrnn.errors import ConfigError, quoted

if TYPE_CHECKING:
    from charrnn import api
    from charrnn.checkpoint.model_file import Checkpoint

Models = Annotated[
    list[str] | None,
    typer.Option(
        "-m",
        "--model",
        metavar="PATH[:WEIGHT]",
        autocompletion=model_names,
        help="The model; several are mixed [the newest].",
    ),
]


Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="LABEL", help="Texts with this label; A:2,B mixes [any]."),
]
OneLabel = Annotated[
    list[str] | None, typer.Option("--label", metavar="LABEL", help="Texts with this label [any].")
]
Strength = Annotated[float, typer.Option(metavar="X", help="How far --label leads; 2: exaggerates [1].")]
WritingStrength = Annotated[
    float | None,
    typer.Option(metavar="X", help=f"How far labels lead; 1: as learnt [{WRITING_STRENGTH:g}]."),
]


Cache = Annotated[
    str | None,
    typer.Option("--cache", metavar="N[:T[:W]]", help="Look back at N characters for what is alike."),
]


def load(
    models: list[str] | None,
    labels: list[str] | None = None,
    strength: float | None = 1.0,
    cache: str | None = None,
    fixed: list[str] | None = None,
) -> Checkpoint | api.Blend:
    """The model, or blend of models, that the options name; without any, the newest model.

    Raises:
        ConfigError: a weight is not positive, the models cannot be mixed, labels cannot be read, or a unit
            cannot be held.
        CheckpointError: a model cannot be loaded.
        VocabularyError: a model has no such label.
    """
    from charrnn import api

    named = [path_and_weight(value) for value in models or ()]
    parts = [(api.load(path), weight) for path, weight in named] or [(api.load(), 1.0)]
    if fixed:
        if len(parts) > 1:
            raise ConfigError("--fix holds units of one model, and there are several", "give one of them")
        parts = [(api.holding(parts[0][0], held_units(fixed)), 1.0)]
    found: Any = labelled(parts, labels, strength)
    loaded: Checkpoint | api.Blend = looking_back(found, cache)
    return loaded


def held_units(values: list[str]) -> dict[str, float]:
    """`1:37=1.5` -> the unit and its value.

    Raises:
        ConfigError: a value cannot be read, or a unit has two.
    """
    found: dict[str, float] = {}
    for value in values:
        unit, _, number = value.partition("=")
        try:
            level = float(number)
        except ValueError:
            raise ConfigError(
                f"--fix is {quoted(value)}", "give layer:unit=value, such as 1:37=1.5"
            ) from None
        if unit in found:
            raise ConfigError(f"--fix holds {quoted(unit)} at two values", "give one of them")
        found[unit] = level
    return found


def looking_back(model: Any, cache: str | None) -> Any:
    """The model with the cache of --cache, if there is one.

    Raises:
        ConfigError: it cannot be read, a number is out of range, or the model does not write.
    """
    if cache is None:
        return model
    from charrnn import api

    hint = "give a number of characters, such as 500, or 500:15:0.6"
    size, *more = cache.split(":")
    try:
        names = ("theta", "weight")[: len(more)]
        config = CacheConfig(int(size), **dict(zip(names, map(float, more), strict=True)))
    except ValueError:
        raise ConfigError(f"--cache is {quoted(cache)}", hint) from None
    return api.looking_back(model, config)


def labelled(
    models: list[tuple[Checkpoint, float]], labels: list[str] | None, strength: float | None = 1.0
) -> Checkpoint | api.Blend:
    """These models with their weights, of texts with the labels of --label.

    Without a strength, one label leads one model. Mixtures are not led away from what holds them together: of
    words that are either a's and b's or c's and d's, a model without labels never mixes the letters.
    """
    from charrnn import api

    if labels:
        if strength is None:
            alone = len(models) == 1 and len(choices(labels, models[0][0])) == 1
            strength = WRITING_STRENGTH if alone else 1.0
        return api.given(models, lambda model: choices(labels, model), strength)
    if strength not in (None, 1.0):
        raise no_label_to_lead()
    return api.blend(models)


def no_label_to_lead() -> ConfigError:
    """The error for --strength without any label."""
    return ConfigError("--strength says how far --label leads", "give that, too, or neither")


def of_one_label(model: Checkpoint, labels: list[str] | None, cache: str | None = None) -> Checkpoint:
    """The same for a command that takes no mixtures. ConfigError: --label gives one."""
    found: Any = labelled([(model, 1.0)], labels)
    if hasattr(found, "parts"):
        raise ConfigError("--label gives a mixture, which writes, but does not read", "give one label")
    one: Checkpoint = looking_back(found, cache)
    return one


def choices(values: list[str], model: Checkpoint) -> list[tuple[dict[str, str], float]]:
    """`origin=Russian:0.7,Greek:0.3`, `era=1900` -> labels by the names of their columns, with weights.

    What stands in the place of a label may be a JSON string, which may hold any character. A label that has
    the characters of this syntax is also taken as it is.

    Raises:
        ConfigError: a value cannot be read, or two are about the same column.
    """
    columns = {column.name: column for column in model.columns}
    found: dict[str, list[tuple[str, float]]] = {}
    for value in values:
        name, rest = "", value
        if not (len(columns) == 1 and value in next(iter(columns.values())).labels):
            first, mark, after = _word(value)
            if mark == "=":
                name, rest = first, after
        if len(columns) == 1 and name == "":
            name = next(iter(columns))
        elif name == "" and len(columns) > 1:
            example = f"{next(iter(columns))}={value}"
            raise ConfigError(f"--label {value} does not say of which column", f"give one such as {example}")
        if name in found:
            raise ConfigError("--label is given twice", "to mix labels, give them in one: A:1,B:1")
        if name in columns and rest in columns[name].labels:
            found[name] = [(rest, 1.0)]
        else:
            found[name] = list(_weighted(rest))
    return [
        ({name: label for name, (label, _) in zip(found, chosen, strict=True)}, _product(chosen))
        for chosen in product(*found.values())
    ]


def _product(chosen: tuple[tuple[str, float], ...]) -> float:
    weight = 1.0
    for _, factor in chosen:
        weight *= factor
    return weight


def _weighted(text: str) -> Iterator[tuple[str, float]]:
    """`Russian:0.7,Greek:0.3`"""
    mark = ","
    while mark == ",":
        label, mark, text = _word(text)
        weight = 1.0
        if mark == ":":
            number, mark, text = _word(text)
            try:
                weight = float(number)
            except ValueError:
                weight = 0.0
            if not 0 < weight < float("inf"):
                hint = 'give a positive number; a label with a colon is written as "a:b"'
                raise ConfigError(f"the weight of {quoted(label)} is {number}", hint)
        yield label, weight
    if mark:
        raise ConfigError(f"--label has a {mark} in the wrong place", 'a label with one is written as "a=b"')


def _word(text: str) -> tuple[str, str, str]:
    """A word or a JSON string, the mark after it, and what follows; without a mark, all is a word."""
    if text.startswith('"'):
        try:
            word, end = json.JSONDecoder().raw_decode(text)
        except ValueError:
            raise ConfigError(
                f"--label has {quoted(text)}, which is no JSON string", "end it with a quote"
            ) from None
    else:
        end = min((at for mark in ":,=" if (at := text.find(mark)) >= 0), default=len(text))
        word = text[:end]
    mark, after = text[end : end + 1], text[end + 1 :]
    if mark and mark not in ":,=":
        raise ConfigError(
            f"--label has {quoted(mark + after)} after a JSON string", "give a comma, or nothing"
        )
    return str(word), mark, after


def path_and_weight(value: str) -> tuple[str, float]:
    """`a.safetensors:1.5` -> its path and its weight; 1 without one.

    Since paths may contain colons, as in `C:\\models\\a.safetensors`, an existing file is always a path, and
    so is a value that does not end in a colon and a number.

    Raises:
        ConfigError: the weight is not above 0.
    """
    path, weight = path_and_number(value, "weight")
    return path, 1.0 if weight is None else weight


def path_and_number(value: str, what: str) -> tuple[str, float | None]:
    """The same for another number, which messages call `what`; None without one."""
    path, colon, tail = value.rpartition(":")
    if not colon or not path or os.path.exists(value):
        return value, None
    try:
        number = float(tail)
    except ValueError:
        return value, None
    if not 0 < number < float("inf"):
        raise ConfigError(f"the {what} of {quoted(path)} is {tail}", "give a positive number")
    return path, number
