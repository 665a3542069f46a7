"""Texts that a model writes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, islice, repeat
from operator import attrgetter
from typing import Any

import numpy as np

from charrnn.api.models import AnyModel, as_read, led, model_or_blend
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import SampleConfig
from charrnn.errors import ConfigError, VocabularyError
from charrnn.generation.writing import Begun, Prompt, Written, generate_all, generate_each
from charrnn.inference.mixture import Blend
from charrnn.labels import cut, ids_of, names
from charrnn.text.files.normalization import expression_as_trained
from charrnn.vocabulary import OnUnknown

LABELLED_PROMPTS = 1024  # taken at a time


def sample(
    model: AnyModel | None = None,
    prompt: str = "",
    *,
    count: int = 1,
    best_of: int = 1,
    on_unknown: OnUnknown = "error",
    echo: bool = False,
    threads: int | None = None,
    **settings: Any,
) -> Texts:
    """`count` texts, each an iterator of its pieces as they are written.

    `settings` are the fields of SampleConfig. The same seed gives the same texts, on any number of threads;
    without one, a new seed is chosen: the result's `seed`. With `best_of` N, each text is the least
    surprising of N drawn, and comes in one piece; see charrnn.search.best_of.

    Two more settings: `first`, the number of the first text in its run, so that one of many can be written
    again; and `rated`, whether each text comes in one piece with its loss, see Written.
    """
    checkpoint = model_or_blend(model)
    first, rated = settings.pop("first", 0), settings.pop("rated", False)
    config, prompt = _config(settings, checkpoint), as_read(checkpoint, prompt)
    how: dict[str, Any] = {"on_unknown": on_unknown, "threads": threads}
    rated = rated or best_of != 1
    begin = 0 if config.unique else first  # a text that is unlike those before it depends on them
    texts = generate_all(
        checkpoint, prompt, config, first=begin * best_of, count=(first - begin + count) * best_of,
        echo=echo and not rated, **how,
    )  # fmt: skip
    if rated and best_of == 1:
        from charrnn.search.best_of import rate_each

        texts = rate_each(checkpoint, texts, prompt, config, echo=echo, **how)
    elif rated:
        texts = _rated(best_of, checkpoint, texts, repeat(prompt), config, echo=echo, **how)
    return Texts(islice(_complete(texts, first - begin), count), config)


def _complete(texts: Iterator[Written], passed_over: int) -> Iterator[Written]:
    """The texts after the first ones, which are written, too."""
    for written in islice(texts, passed_over):
        deque(written, maxlen=0)
    yield from texts


def _rated(
    n: int,
    checkpoint: Checkpoint | Blend,
    texts: Iterator[Written],
    prompts: Iterable[str],
    config: SampleConfig,
    **how: Any,
) -> Iterator[Written]:
    """The best of each n consecutive texts; `prompts` has one for each n."""
    from charrnn.search.best_of import best_of_each

    return best_of_each(checkpoint, texts, n, prompts, config, **how)


class Texts(Iterator[Written]):
    """An iterator over texts, each an iterator of its pieces."""

    def __init__(self, texts: Iterator[Written], config: SampleConfig) -> None:
        assert config.seed is not None
        self.seed = config.seed  # reproduces the texts
        self._texts = texts

    def __next__(self) -> Written:
        return next(self._texts)


def sample_each(
    model: AnyModel | None,
    prompts: Iterable[str | Prompt] | Callable[[int], Sequence[str | Prompt]],
    *,
    count: int = 1,
    best_of: int = 1,
    on_unknown: OnUnknown = "error",
    echo: bool = False,
    threads: int | None = None,
    **settings: Any,
) -> Texts:
    """`count` texts for each prompt, in the order of the prompts, as `sample` gives them, but from the first.

    They are written side by side, and prompts are taken only as they are needed, at first one. Instead of an
    iterable, `prompts` may be a function `take(most)` that returns at least one and at most `most` prompts,
    those available without waiting, or none at the end. A prompt may be a Prompt, with a seed and label of
    its own. To a model that knows labels, it may be label<TAB>prompt, with a label of each column, which
    leads as far as a setting `strength` says; see `given`. With the setting `adaptive`, counts learn from
    each prompt before its texts are written, but not from these: see charrnn.generation.learning.

    Raises:
        VocabularyError: during the iteration; it names the prompt.
    """
    checkpoint, strength = model_or_blend(model), settings.pop("strength", 1.0)
    if settings.pop("adaptive", False):
        if best_of != 1:
            raise ConfigError(
                "--best-of compares texts by a model that stays as it is", "leave --adaptive out"
            )
        from charrnn.counts.growing import GrowingCounts

        settings["begun"] = Begun(counts=GrowingCounts(checkpoint.vocabulary, checkpoint.text))
    if isinstance(checkpoint, Checkpoint) and checkpoint.columns:
        settings |= {"strength": strength}
        settings |= {"count": count, "best_of": best_of, "on_unknown": on_unknown, "echo": echo}
        return _sample_each_label(checkpoint, prompts, settings | {"threads": threads})
    rated, begun = settings.pop("rated", False) or best_of != 1, settings.pop("begun", Begun())
    config = _config(settings, checkpoint)
    source = prompts if callable(prompts) else _GrowingBatches(prompts)
    given: deque[str] = deque()  # the prompt of each text that is rated

    def take(most: int) -> list[Prompt]:
        found = [prompt if isinstance(prompt, Prompt) else Prompt(prompt) for prompt in source(most)]
        found = [prompt._replace(text=as_read(checkpoint, prompt.text)) for prompt in found]
        if rated:
            given.extend(prompt.text for prompt in found for _ in range(count))
        return found

    how: dict[str, Any] = {"on_unknown": on_unknown, "threads": threads}
    echoed = echo and not rated
    texts = generate_each(checkpoint, take, config, begun=begun, count=count * best_of, echo=echoed, **how)
    if rated:
        texts = _rated(best_of, checkpoint, texts, iter(given.popleft, None), config, echo=echo, **how)
    return Texts(texts, config)


def _sample_each_label(
    model: Checkpoint,
    prompts: Iterable[str | Prompt] | Callable[[int], Sequence[str | Prompt]],
    settings: dict[str, Any],
) -> Texts:
    """`sample_each` for prompts with labels: a run for prompts in a row that have the same one."""
    source = prompts if callable(prompts) else _GrowingBatches(prompts)
    config, strength = _config({"seed": settings.get("seed")}, model), settings.pop("strength")
    settings["seed"] = config.seed
    begun = settings.pop("begun", Begun())
    models: dict[tuple[int, ...], Checkpoint | Blend] = {}
    columns = names(model.columns)

    def parted(prompt: str | Prompt) -> Prompt:
        if isinstance(prompt, Prompt):
            return prompt
        label, text = cut(prompt, len(columns))
        return Prompt(text, label=dict(zip(columns, label.split("\t"), strict=True)) if label else None)

    def of(label: str | Mapping[str, str] | None, number: int) -> Checkpoint | Blend:
        try:
            ids = ids_of(model.columns, {columns[0]: label} if isinstance(label, str) else label or {})
        except VocabularyError as error:
            raise VocabularyError(f"line {number} of the prompts: {error.message}", error.hint) from None
        if ids not in models:
            models[ids] = led([(model.given(ids), 1.0)], model, strength if label else 1.0)
        return models[ids]

    def texts() -> Iterator[Written]:
        done = numbered = 0
        seen: set[bytes] = set()
        while taken := source(LABELLED_PROMPTS):
            for label, group in groupby(map(parted, taken), attrgetter("label")):
                same = list(group)
                given = of(label, done + 1)
                for written in sample_each(
                    given, same, begun=Begun(done, numbered, seen, begun.counts), **settings
                ):
                    written.label = label
                    if settings.get("unique"):  # complete, before texts of other labels repeat it
                        written.pieces = iter(list(written.pieces))
                    yield written
                done += len(same)
                numbered += sum(prompt.seed is None for prompt in same)

    return Texts(texts(), config)


class _GrowingBatches:
    """The next items of an iterable: one, then twice as many each time."""

    def __init__(self, items: Iterable[str | Prompt]) -> None:
        self._items = iter(items)
        self._most = 1

    def __call__(self, most: int) -> list[str | Prompt]:
        found = list(islice(self._items, min(most, self._most)))
        self._most = min(2 * self._most, most)
        return found


def _config(settings: dict[str, Any], model: Checkpoint | Blend) -> SampleConfig:
    """The settings with normalised texts and a seed, a new one if none is given."""
    config = SampleConfig(**settings)
    config = replace(
        config,
        until=tuple(as_read(model, text) for text in config.stops),
        ban=tuple(as_read(model, text) for text in config.ban),
        only=None if config.only is None else as_read(model, config.only),
        match=None if config.match is None else expression_as_trained(config.match, model.text),
    )
    if config.seed is None:
        config = replace(config, seed=int(np.random.SeedSequence().generate_state(1)[0]))
    return config
