"""What a model finds probable: characters, lines, texts in gaps, suggestions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from charrnn.api.models import AnyModel, as_read, checkpoint_of, model_or_blend
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import MAX_LINE_LENGTH, TELL_CHARACTERS, WeightPrecision
from charrnn.errors import ConfigError
from charrnn.inference.mixture import Blend
from charrnn.text.files.normalization import expression_as_trained
from charrnn.vocabulary import OnUnknown

if TYPE_CHECKING:
    from charrnn.search.enumeration import Line
    from charrnn.search.infilling import Filling
    from charrnn.search.predictor import Predictor
    from charrnn.search.suggestions import Offers


def next_characters(
    model: AnyModel | None = None,
    prompt: str = "",
    *,
    temperature: float = 1.0,
    on_unknown: OnUnknown = "error",
) -> list[tuple[str, float]]:
    """Every character with the probability that it comes next, the most probable first."""
    from charrnn.search import prediction

    checkpoint = model_or_blend(model)
    prompt = as_read(checkpoint, prompt)
    return prediction.next_characters(checkpoint, prompt, temperature=temperature, on_unknown=on_unknown)


def enumerate_lines(
    model: AnyModel | None = None,
    prompt: str = "",
    *,
    count: int | None = None,
    above: float | None = None,
    match: str | None = None,
    **settings: Any,
) -> Iterator[Line]:
    """The `count` most probable complete lines that begin with the prompt, the most probable first; exact.

    In a model of other records they are complete records. The default is 100 or, with `above`, all lines of
    at least that probability. With `match`, what follows the prompt must match the whole expression.
    `settings` are `precision`, `threads` and those of charrnn.search.enumeration.enumerate_lines, which
    documents further errors.

    Raises:
        ConfigError: `match` is not a valid expression, or is too large.
        SamplingError: no line of the model's characters matches within the length allowed.
    """
    from charrnn.search.enumeration import Constraint
    from charrnn.search.enumeration import enumerate_lines as search

    loaded = model_or_blend(model)
    prompt = as_read(loaded, prompt)
    end = loaded.text.end or "\n"
    if match is not None and end in loaded.vocabulary:  # else no line can end: the search raises an error
        from charrnn.constraints.automaton import build
        from charrnn.constraints.expressions import compiled

        characters, length = loaded.vocabulary.characters, settings.get("length")
        longest = MAX_LINE_LENGTH if length is None else max(0, length)
        expression = compiled(expression_as_trained(match, loaded.text), characters)
        automaton = build(characters, end=end, expression=expression)
        start = automaton.start(length=longest + automaton.uncounted)
        settings["constraint"] = Constraint(start, automaton.table, automaton.classes)
    return search(_predictor(loaded, settings), prompt, count=count, above=above, **settings)


def _predictor(model: Checkpoint | Blend, settings: dict[str, Any]) -> Predictor:
    """What reads texts, by those of the settings that are for it; they are taken out."""
    from charrnn.search.predictor import Predictor

    return Predictor(model, settings.pop("precision", "float32"), settings.pop("threads", None))


def fill(model: AnyModel | None, pattern: str, *, count: int = 10, **settings: Any) -> list[Filling]:
    """The `count` most probable texts that fit a pattern with gaps, such as "the q???k brown ___".

    `settings` are `precision`, `threads` and those of charrnn.search.infilling.fill, which documents
    patterns and errors.
    """
    from charrnn.search.infilling import fill as search

    loaded = model if isinstance(model, Blend) else checkpoint_of(model, *TELL_CHARACTERS)
    if isinstance(loaded, Checkpoint) and loaded.config.kind == "filler":
        return _fill_both_ways(loaded, pattern, count, settings)
    return search(_predictor(loaded, settings), as_read(loaded, pattern), count=count, **settings)


def _fill_both_ways(model: Checkpoint, pattern: str, count: int, settings: dict[str, Any]) -> list[Filling]:
    """`fill` by a network that reads in both directions."""
    from charrnn.search.gap_filling import GapFiller

    for name, default in (("part", False), ("precision", "float32")):
        if settings.pop(name, default) != default:
            raise ConfigError(
                f"--{name} is for models that write, and this one reads in both directions", "leave it out"
            )
    filler = GapFiller(model, settings.pop("threads", None))
    return filler.fill(as_read(model, pattern), count=count, **settings)


def offers(
    model: AnyModel | None = None, precision: WeightPrecision = "float32", *, adaptive: bool = False
) -> Offers:
    """The model's suggestions for a text that a user is typing.

    If they are `adaptive`, they follow what was accepted.
    """
    from charrnn.search.suggestions import Offers

    return Offers(model_or_blend(model), precision, adaptive=adaptive)
