"""The constraints of a run, from its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import SampleConfig
from charrnn.errors import CheckpointError, ConfigError, SamplingError
from charrnn.inference import filters, sampling
from charrnn.inference.constrained_step import Rules
from charrnn.inference.mixture import Blend
from charrnn.inference.tracking import Control, Track, permissive
from charrnn.text.novelty import Novelty

if TYPE_CHECKING:
    from charrnn.constraints.automaton import Automaton

FILTERS_WINDOW = 1024  # characters that filters look back at
BREAKERS = '\n:"*'  # repeats end at these, the choice of DRY's author
MOST_FALSE = 0.1  # the false positive rate that an index may have


def prepare(
    model: Checkpoint | Blend, config: SampleConfig, length: int, prompt: str | None
) -> Control | None:
    """The constraints on texts of at most `length` characters, END included, after the prompt, or None.

    A prompt of None stands for any prompt. Filters of probabilities alone are no constraints.

    Raises:
        ConfigError: the expression is invalid or too large, or a mixture has no index that the settings need.
        SamplingError: no text satisfies the constraints.
        CheckpointError: the model has no index of its training text, and the settings need one.
    """
    automaton = _automaton(model, config, prompt)
    if automaton is not None and prompt is not None:
        automaton.start(prompt, length)
    run = 0 if isinstance(config.novel, bool) else config.novel
    if automaton is None and not run and not any(line.follows_text for line in filters.active(config)):
        return None

    vocabulary = model.vocabulary
    rules = permissive(vocabulary.code_points.astype(np.int64))
    if automaton is not None:
        rules = rules._replace(
            checks=config.exact,
            table=automaton.table,
            classes=automaton.classes,
            reach=automaton.reach,
            ends=automaton.ends,
        )
    window = 0
    if any("recent" in filters.reads(line.apply) for line in filters.active(config) if line.apply):
        window = FILTERS_WINDOW
        rules = rules._replace(breakers=np.array([c in BREAKERS for c in vocabulary.characters]))
    if run:
        rules = _against_copies(rules, indexes(model), run)
        window = max(window, rules.gram)
    start = Track(left=length, memory=tuple(sampling.first_memory(config)))
    return Control(rules._replace(window=window), start, vocabulary, automaton.start if automaton else None)


def indexes(model: Checkpoint | Blend) -> list[Novelty]:
    """The index of each model's training text.

    Raises:
        CheckpointError: a model has none.
    """
    parts = model.parts if isinstance(model, Blend) else (model,)
    found = [part.novelty for part in parts if part.novelty is not None]
    if len(found) < len(parts):
        raise CheckpointError(
            "the model has no index of its training text, which --novel needs: an older charrnn made it",
            "train it again",
        )
    return found


def _automaton(model: Checkpoint | Blend, config: SampleConfig, prompt: str | None) -> Automaton | None:
    if config.match is None and not config.ban and config.only is None:
        return None
    # Not at the top: unconstrained texts start without it.
    from charrnn.constraints.automaton import build

    expression = None
    if config.match is not None:
        from charrnn.constraints.expressions import compiled

        expression = compiled(config.match, model.vocabulary.characters)
    return build(
        model.vocabulary.characters,
        end=model.text.end,
        expression=expression,
        bans=config.ban,
        only=config.only,
        prompt=prompt,
        natural=not config.exact,
        empty=not model.text.records,
    )


def _against_copies(rules: Rules, found: list[Novelty], run: int) -> Rules:
    if len(found) > 1:
        raise ConfigError(
            "--novel N knows the runs of one training text, and this is a mixture of models",
            "leave out N: no line of any of their texts is then written",
        )
    (novelty,) = found
    if (rate := novelty.false_rate(run)) > MOST_FALSE:
        longer = next((n for n in range(run + 1, 10_000) if novelty.false_rate(n) <= MOST_FALSE), None)
        raise SamplingError(
            f"the model's index is too full for runs of {run} characters: it would take {rate:.0%} of new "
            "ones for copies",
            "train on less text" if longer is None else f"give --novel {longer}",
        )
    gram = novelty.gram(run)
    bloom = novelty.runs[gram]
    return rules._replace(
        run=run, gram=gram, probes=bloom.probes, bits=np.frombuffer(bloom.bits, np.uint8).copy()
    )
