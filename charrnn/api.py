"""charrnn as functions: load, train, sample, evaluate, score, ... The command line calls these.

Parameters that several of them have:
    model: a loaded model or its path; None: the one that `load()` returns.
    corpus: a path or several: files, folders, .gz files, or "-" for standard input.
    text: how the corpus is read; None: as the model's own corpus was, but in UTF-8.
    on_unknown: whether a character that the model has never seen is an error or is skipped.
    unknown_bits: the surprise of such a character where lines are scored.
    threads: how many to use; None: all CPUs.
    before_waiting: called before each wait for input: flush what you wrote there.

Errors that several of them raise, and their docstrings do not repeat:
    CheckpointError: a model cannot be loaded.
    ConfigError: a setting is out of range.
    CorpusError: a file cannot be read, or is not text.
    VocabularyError: a text holds a character that the model has never seen.

Texts are converted to the normal form of the model's corpus. Modules that need compiled kernels are
imported where they are used, since a short sample needs none.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, islice, repeat
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from charrnn.checkpoint import library
from charrnn.checkpoint import model_file as files
from charrnn.checkpoint.kinds import require
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import (
    KINDS,
    MAX_LINE_LENGTH,
    PAGE_COUNTS,
    TASKS,
    TELL_CHARACTERS,
    UNKNOWN_BITS,
    CacheConfig,
    DynamicConfig,
    Kind,
    SampleConfig,
    TextConfig,
    WeightPrecision,
)
from charrnn.errors import CheckpointError, ConfigError, VocabularyError, quoted
from charrnn.events import Event
from charrnn.generation.writing import Begun, generate_all, generate_each
from charrnn.generation.writing import Prompt as Prompt
from charrnn.generation.writing import Written as Written
from charrnn.inference.mixture import Blend as Blend  # "as": the command line takes it from here
from charrnn.inference.mixture import blend as blend
from charrnn.labels import cut, ids_of, names
from charrnn.text.corpus import Documents, read
from charrnn.text.normalization import Normaliser, as_trained, expression_as_trained, normalised
from charrnn.vocabulary import OnUnknown

if TYPE_CHECKING:
    from charrnn.diagnosis.findings import Diagnosis, RunDiagnosis
    from charrnn.inference.mixed_model import AnyNetwork
    from charrnn.scoring.classification import LineClass
    from charrnn.scoring.surprisal import LineScore
    from charrnn.search.enumeration import Line
    from charrnn.search.infilling import Filling
    from charrnn.search.predictor import Predictor
    from charrnn.search.suggestions import Offer as Offer
    from charrnn.search.suggestions import Offers as Offers
    from charrnn.tasks.evaluation import Evaluation
    from charrnn.tasks.files import Files
    from charrnn.tasks.reading.classify import LineClasses
    from charrnn.tasks.reading.rewrite import LineRewritings
    from charrnn.tasks.reading.tag import LineTags
    from charrnn.tasks.restoring.restorer import Restored
    from charrnn.text.lines import Lines

Paths = str | Path | Sequence[str | Path]
AnyModel = Checkpoint | Blend | str | Path
MOST_UNKNOWN_BITS = 10_000
LABELLED_PROMPTS = 1024  # taken at a time
READ_TOGETHER = 1 << 17  # characters, by networks that read whole texts
MOST_REWRITTEN = 1000  # beginnings, targets of a line, or characters of one


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
    checkpoint = _loaded(model)
    first, rated = settings.pop("first", 0), settings.pop("rated", False)
    config, prompt = _sample_config(settings, checkpoint), _normalised(checkpoint, prompt)
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
    checkpoint, strength = _loaded(model), settings.pop("strength", 1.0)
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
    config = _sample_config(settings, checkpoint)
    source = prompts if callable(prompts) else _GrowingBatches(prompts)
    given: deque[str] = deque()  # the prompt of each text that is rated

    def take(most: int) -> list[Prompt]:
        found = [prompt if isinstance(prompt, Prompt) else Prompt(prompt) for prompt in source(most)]
        found = [prompt._replace(text=_normalised(checkpoint, prompt.text)) for prompt in found]
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
    config, strength = _sample_config({"seed": settings.get("seed")}, model), settings.pop("strength")
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
            models[ids] = _led([(model.given(ids), 1.0)], model, strength if label else 1.0)
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
    several = [(_checkpoint(models), 1.0)] if isinstance(models, (Checkpoint, str, Path)) else models
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
    return _led(found, several[0][0], strength)


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


def _led(models: list[tuple[Checkpoint, float]], bare: Checkpoint, strength: float) -> Checkpoint | Blend:
    """The mixture of models that know their labels, led away from the model `bare` without any."""
    if strength == 1.0:
        return blend(models)
    return Blend(tuple(m for m, _ in models), tuple(w for _, w in models), bare.given(()), strength)


def _loaded(model: AnyModel | None) -> Checkpoint | Blend:
    return model if isinstance(model, Blend) else _checkpoint(model)


def _checkpoint(model: Checkpoint | str | Path | None, *kinds: Kind) -> Checkpoint:
    """The model, of one of these kinds; without any, one that writes."""
    return require(model if isinstance(model, Checkpoint) else load(model), *(kinds or ("writer",)))


def _normalised(model: Checkpoint | Blend, text: str) -> str:
    """A text as the model's corpus was. Text from users passes here or through a Scorer."""
    return as_trained(text, model.text)


def _sample_config(settings: dict[str, Any], model: Checkpoint | Blend) -> SampleConfig:
    """The settings with normalised texts and a seed, a new one if none is given."""
    config = SampleConfig(**settings)
    config = replace(
        config,
        until=tuple(_normalised(model, text) for text in config.stops),
        ban=tuple(_normalised(model, text) for text in config.ban),
        only=None if config.only is None else _normalised(model, config.only),
        match=None if config.match is None else expression_as_trained(config.match, model.text),
    )
    if config.seed is None:
        config = replace(config, seed=int(np.random.SeedSequence().generate_state(1)[0]))
    return config


def page(
    model: Checkpoint | str | Path | None,
    name: str,
    *,
    precision: WeightPrecision = "bfloat16",
    most_counts: float = PAGE_COUNTS,
) -> str:
    """One HTML file that writes what `sample` writes with this precision, under this heading.

    `most_counts` bounds the megabytes of the model's counts; 0 leaves them out, and what is written is
    another text.

    Raises:
        ConfigError: the counts take more.
    """
    from charrnn.pages.page import page as made

    return made(_checkpoint(model), name, precision=precision, most_counts=most_counts)


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

    loaded = _loaded(model)
    prompt = _normalised(loaded, prompt)
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


def offers(
    model: AnyModel | None = None, precision: WeightPrecision = "float32", *, adaptive: bool = False
) -> Offers:
    """The model's suggestions for a text that a user is typing.

    If they are `adaptive`, they follow what was accepted.
    """
    from charrnn.search.suggestions import Offers

    return Offers(_loaded(model), precision, adaptive=adaptive)


def fill(model: AnyModel | None, pattern: str, *, count: int = 10, **settings: Any) -> list[Filling]:
    """The `count` most probable texts that fit a pattern with gaps, such as "the q???k brown ___".

    `settings` are `precision`, `threads` and those of charrnn.search.infilling.fill, which documents
    patterns and errors.
    """
    from charrnn.search.infilling import fill as search

    loaded = model if isinstance(model, Blend) else _checkpoint(model, *TELL_CHARACTERS)
    if isinstance(loaded, Checkpoint) and loaded.config.kind == "filler":
        return _fill_both_ways(loaded, pattern, count, settings)
    return search(_predictor(loaded, settings), _normalised(loaded, pattern), count=count, **settings)


def _fill_both_ways(model: Checkpoint, pattern: str, count: int, settings: dict[str, Any]) -> list[Filling]:
    """`fill` by a network that reads in both directions."""
    from charrnn.search.gap_filling import GapFiller

    for name, default in (("part", False), ("precision", "float32")):
        if settings.pop(name, default) != default:
            raise ConfigError(
                f"--{name} is for models that write, and this one reads in both directions", "leave it out"
            )
    filler = GapFiller(model, settings.pop("threads", None))
    return filler.fill(_normalised(model, pattern), count=count, **settings)


def evaluate(
    model: Checkpoint | str | Path,
    corpus: Paths,
    *,
    dynamic: DynamicConfig | None = None,
    adaptive: bool = False,
    threads: int | None = None,
    report: Callable[[str, float], None] = lambda what, share: None,
    note: Callable[[str], None] = lambda line: None,
    **reading: Any,
) -> Evaluation:
    """The loss over a text; if it has labels, also without them. Of a model that reads, more of its kind.

    With `dynamic` the result is a dynamic_evaluation.DynamicEvaluation, which adds the loss of a network that
    adapts to the text. With `adaptive` it has an adaptive_loss: that of the model beside counts of the text
    read so far and, with both, of the network that adapts beside them. If the model is
    `looking_back`, it has a cache_loss, and those two are with the cache, too. `report` is called a few times
    a second with the stage, such as "reading" or "adapting", and the share of it that is done; `note` with a
    message for each thing that reading changed or left out. `reading` may have `text` and `on_unknown`.
    """
    from charrnn.tasks.evaluation import evaluate as evaluate_documents

    checkpoint = _checkpoint(model, *KINDS)
    text: TextConfig = reading.pop("text", None) or checkpoint.text.of_commands()
    on_unknown: OnUnknown | None = reading.pop("on_unknown", None)
    if reading:
        raise TypeError(f"evaluate() has no argument {next(iter(reading))!r}")
    if checkpoint.config.kind != "writer":
        for name, given in (("--dynamic", dynamic is not None), ("--adaptive", adaptive)):
            if given:
                raise ConfigError(f"{name} is for models that write, and this one reads", "leave it out")
        return _measured(checkpoint, corpus, text, on_unknown, threads, note)
    documents = _documents(checkpoint, corpus, text, on_unknown or "error", note)
    network = _model(replace(checkpoint, cache=None), threads)

    def shown(stage: str) -> Callable[[int], None]:
        return lambda done: report(stage, done / len(documents))

    result = evaluate_documents(network, documents, report=shown("reading"))
    assert result is not None  # only a stopped evaluation has no result
    if documents.labels is not None:
        bare = replace(documents, labels=None)
        without = evaluate_documents(network, bare, report=shown("without labels"))
        assert without is not None
        result = replace(result, loss_without_labels=without.loss)
    if checkpoint.cache is not None:
        from charrnn.inference.mixed_model import RecallingModel

        assert not isinstance(network, RecallingModel)
        network = RecallingModel(network, checkpoint.cache)
        looking = evaluate_documents(network, documents, report=shown("looking back"))
        assert looking is not None
        result = replace(result, cache_loss=looking.loss)
    if dynamic is not None:
        from charrnn.tasks.dynamic_evaluation import DynamicEvaluation, dynamic_loss

        adapting = dynamic_loss(network, documents, dynamic, shown("adapting"))
        result = DynamicEvaluation(
            result.loss, result.characters, adapting, loss_without_labels=result.loss_without_labels,
            cache_loss=result.cache_loss,
        )  # fmt: skip
    if adaptive:
        from charrnn.counts.growing import GrowingCounts
        from charrnn.tasks.adaptive_evaluation import adaptive_loss

        counts = GrowingCounts(checkpoint.vocabulary, checkpoint.text)
        loss = adaptive_loss(network, documents, counts, dynamic, shown("counting"))
        result = replace(result, adaptive_loss=loss)
    return result


def _documents(
    model: Checkpoint, corpus: Paths, text: TextConfig, on_unknown: OnUnknown, note: Callable[[str], None]
) -> Documents:
    """A corpus as a model reads it."""
    found = read(
        _paths(corpus), text, vocabulary=model.vocabulary, on_unknown=on_unknown,
        expected=model.text.encoding, columns=model.columns,
    )  # fmt: skip
    for line in found.notes:
        note(line)
    return found.with_columns(model.columns).documents


def diagnose(
    model: Checkpoint | str | Path | None,
    corpus: Paths,
    *,
    lags: int | None = None,
    threads: int | None = None,
    text: TextConfig | None = None,
    on_unknown: OnUnknown = "error",
    report: Callable[[str, float], None] = lambda what, share: None,
    note: Callable[[str], None] = lambda line: None,
) -> Diagnosis:
    """How a model's network uses its past as it reads a text; see charrnn.diagnosis.network.

    Gradients are followed `lags` characters back; None: twice as far as in training. Counts have none. For
    `report` and `note`, see `evaluate`.
    """
    from charrnn.diagnosis import network

    checkpoint = _checkpoint(model)
    documents = _documents(checkpoint, corpus, text or checkpoint.text.of_commands(), on_unknown, note)
    return network.diagnose(checkpoint, documents, lags, threads, report)


def diagnose_run(events: str | Path, *, clip: float = 1.0) -> RunDiagnosis:
    """How large the steps of a run are, by the events that `charrnn train --json` has printed so far.

    `events` is a file, or "-" for standard input; `clip` is that of the run.

    Raises:
        CorpusError: there is something else in the file, or no step yet.
    """
    from charrnn.diagnosis import run

    return run.read(events, clip)


def _measured(
    model: Checkpoint,
    corpus: Paths,
    text: TextConfig,
    on_unknown: OnUnknown | None,
    threads: int | None,
    note: Callable[[str], None],
) -> Evaluation:
    """`evaluate` for a model that reads: what its task measures."""
    from charrnn.tasks import reading

    result, notes = reading.measure(model, _paths(corpus), text, threads, on_unknown)
    for line in notes:
        note(line)
    return result


def score(
    model: Checkpoint | str | Path, text: str, *, on_unknown: OnUnknown = "error", threads: int | None = None
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The surprise of each character of the normalised text: -log p in nats, (characters,).

    A model of lines reads each line as a separate text; the end of an empty line, which training leaves out,
    has surprise 0. In a model of other records, each text may be followed by vocabulary.END, its end.
    """
    from charrnn.tasks.evaluation import surprises
    from charrnn.text.decoding import empty_lines

    checkpoint = _checkpoint(model)
    vocabulary = checkpoint.vocabulary
    ids = vocabulary.encode(normalised(text, checkpoint.text.form), on_unknown)
    end = vocabulary.find(checkpoint.text.end)
    starts = np.zeros(min(1, len(ids)), np.int64)
    losses = surprises(_model(checkpoint, threads), Documents(ids, len(vocabulary), starts, end))
    if end >= 0:
        losses[empty_lines(ids, end, at_line_start=True)] = 0
    return losses


def score_lines(
    model: Checkpoint | str | Path | None,
    corpus: Paths,
    *,
    unknown_bits: float = UNKNOWN_BITS,
    precision: WeightPrecision = "float32",
    adaptive: bool = False,
    threads: int | None = None,
    before_waiting: Callable[[], None] = lambda: None,
    text: TextConfig | None = None,
) -> Iterator[list[LineScore]]:
    """The surprise of each line as a separate text, in lists of the lines that have arrived meanwhile.

    For a model of other records, or a `text` that has such, they take the place of lines. Memory depends
    neither on the number of lines nor on their lengths. Nothing in a text is an error: bytes that are invalid
    in the encoding and unknown characters count `unknown_bits` each. bfloat16 is faster, on CPUs that support
    it, and less exact. With `adaptive`, counts learn from each line once it was scored: see
    charrnn.scoring.surprisal.

    Raises:
        ConfigError: this CPU does not support the precision.
    """
    from charrnn.scoring import surprisal
    from charrnn.text import lines

    checkpoint = _checkpoint(model)
    text = text or checkpoint.text.of_commands()
    scorer = surprisal.Scorer(
        checkpoint, threads=threads, unknown_bits=_unknown_bits(unknown_bits), precision=precision,
        adaptive=adaptive,
    )  # fmt: skip
    found = lines.read_lines(_paths(corpus), text, scorer.most, before_waiting)
    return surprisal.score_lines(scorer, found, text.end or "\n")


def surprises(
    model: Checkpoint | str | Path | None,
    corpus: Paths,
    *,
    unknown_bits: float = UNKNOWN_BITS,
    adaptive: bool = False,
    threads: int | None = None,
    before_waiting: Callable[[], None] = lambda: None,
    text: TextConfig | None = None,
) -> Iterator[tuple[str, str, np.ndarray[Any, np.dtype[np.float64]]]]:
    """The files piece by piece as they arrive: the file's name, a text, and -log2 p of its characters, (n,).

    Each probability is given all earlier characters of the document, which is the file or, for a model of
    lines, the line. In records of other models, END takes the place of what separates them. With `adaptive`,
    counts learn from each character, and what they know of a file helps with the next.
    """
    from charrnn.scoring import surprisal
    from charrnn.text import lines

    checkpoint, unknown_bits = _checkpoint(model), _unknown_bits(unknown_bits)
    scorer = surprisal.Scorer(checkpoint, threads=threads, unknown_bits=unknown_bits, adaptive=adaptive)
    stream, normaliser = surprisal.Stream(scorer), Normaliser(scorer.form)
    text = text or checkpoint.text.of_commands()
    for name, piece in lines.read_texts(_paths(corpus), text, surprisal.WINDOW, before_waiting):
        if normal := normaliser.add(piece or "", last=piece is None):
            yield name, normal, stream.bits(normal)
        if piece is None:
            stream = surprisal.Stream(scorer)


def next_characters(
    model: AnyModel | None = None,
    prompt: str = "",
    *,
    temperature: float = 1.0,
    on_unknown: OnUnknown = "error",
) -> list[tuple[str, float]]:
    """Every character with the probability that it comes next, the most probable first."""
    from charrnn.search import prediction

    checkpoint = _loaded(model)
    prompt = _normalised(checkpoint, prompt)
    return prediction.next_characters(checkpoint, prompt, temperature=temperature, on_unknown=on_unknown)


def classify(
    models: Sequence[Checkpoint | str | Path],
    corpus: Paths,
    *,
    prior: Sequence[float] | None = None,
    unknown_bits: float = UNKNOWN_BITS,
    threads: int | None = None,
    before_waiting: Callable[[], None] = lambda: None,
    **reading: Any,
) -> Iterator[list[LineClass]]:
    """Each line's probability under each model, in lists of the lines that have arrived meanwhile.

    `prior` has a positive weight for each model; None: equal weights. Of a single model of texts with labels,
    each label of the first column is a model, and the default prior is how many texts had it. `reading` are
    arguments of TextConfig.of_commands: the text is UTF-8 unless another `encoding` is given.

    Raises:
        ConfigError: there are fewer than two models, the prior does not fit them, or their texts are
            separated in different ways.
    """
    from charrnn.scoring import classification, surprisal
    from charrnn.text import lines

    if len(models) == 1 and (only := _checkpoint(models[0])).columns:
        prior = prior or [max(count, 0.5) for count in only.columns[0].counts]
        models = by_label(only)
    if len(models) < 2:
        raise ConfigError("there is nothing to choose between", "give two models or more, each with -m")
    weights = _shares([1.0] * len(models) if prior is None else prior, len(models), "models")
    checkpoints = [_checkpoint(model) for model in models]
    unknown_bits = _unknown_bits(unknown_bits)
    scorers: list[surprisal.Scorer] = []
    for checkpoint in checkpoints:
        first = scorers[0] if scorers else None
        if first is not None and checkpoint.shares_matrices(first.checkpoint):
            scorers.append(first.of(checkpoint))
        else:
            scorers.append(surprisal.Scorer(checkpoint, threads=threads, unknown_bits=unknown_bits))
    text = classification.common_text(scorers, nul=reading.get("nul", False)).of_commands(**reading)
    return classification.classify_lines(
        scorers,
        weights,
        lines.read_lines(_paths(corpus), text, scorers[0].most, before_waiting),
        text,
    )


def classified(
    model: Checkpoint | str | Path,
    corpus: Paths,
    *,
    by: str | None = None,
    prior: Sequence[float] | None = None,
    threads: int | None = None,
    before_waiting: Callable[[], None] = lambda: None,
    **reading: Any,
) -> Iterator[list[LineClasses]]:
    """The probabilities of each line's labels by a classifier, in lists of lines; see `classify`.

    `prior` says how frequent the labels of the column `by`, or of the first, are where the lines come from;
    None: as in training.

    Raises:
        ConfigError: the prior does not fit the labels.
        VocabularyError: there is no such column.
    """
    from charrnn.tasks.reading.classify import Classifier

    checkpoint = _checkpoint(model, "classifier")
    place = 0 if by is None else _place(checkpoint, by)
    classifier = Classifier(checkpoint, threads)
    if prior is not None:
        classifier.expect(place, _shares(prior, len(checkpoint.columns[place].labels), "labels"))
    return classifier.lines(*_lines(checkpoint, corpus, before_waiting, reading))


def restored(
    model: Checkpoint | str | Path,
    corpus: Paths,
    *,
    redo: bool = False,
    threads: int | None = None,
    before_waiting: Callable[[], None] = lambda: None,
    **reading: Any,
) -> Iterator[list[Restored]]:
    """The lines of files, to which a model puts back what texts of its kind have lost.

    The lines are those that have arrived meanwhile; long ones come in parts. What a text has already is kept
    or, with `redo`, chosen anew. Nothing else changes: line ends and bytes that are no text, too, are as they
    were. With `nul`, NULs separate texts; otherwise `reading` is as in `classify`.
    """
    from charrnn.tasks.restoring.restorer import Restorer
    from charrnn.text import lines

    restorer = Restorer(_checkpoint(model, "restorer"), threads, redo=redo)
    nul = reading.pop("nul", False)
    text = restorer.checkpoint.text.of_commands(**reading)
    plain = TextConfig(encoding=text.encoding, encoding_errors=text.encoding_errors, keep_newlines=True)
    found = lines.read_texts(_paths(corpus), plain, READ_TOGETHER, before_waiting)
    return restorer.lines(found, "\0" if nul else "\n")


def tagged(
    model: Checkpoint | str | Path,
    corpus: Paths,
    *,
    probable: bool = False,
    threads: int | None = None,
    before_waiting: Callable[[], None] = lambda: None,
    **reading: Any,
) -> Iterator[list[LineTags]]:
    """The tags of each line, in lists of lines, and if `probable` their probabilities; see `classify`.

    Unknown characters are tagged by what is around them. Of very long lines only the beginning is tagged.
    """
    from charrnn.tasks.reading.tag import Tagger

    tagger = Tagger(_checkpoint(model, "tagger"), threads)
    lines, end = _lines(tagger.checkpoint, corpus, before_waiting, reading)
    return tagger.lines(lines, end, probable=probable)


def rewritten(
    model: Checkpoint | str | Path,
    corpus: Paths,
    *,
    beam: int = 5,
    count: int = 1,
    length: int | None = None,
    align: bool = False,
    before_waiting: Callable[[], None] = lambda: None,
    **reading: Any,
) -> Iterator[list[LineRewritings]]:
    """The `count` most probable targets of each line that beam search finds, in lists of lines.

    `length` limits the characters, or words, of a target; None: twice those of the line, and 20. With
    `align`, each target has the weights with which it attended to the line. `reading` may have `threads`, and
    is otherwise that of `classify`.

    Raises:
        ConfigError: a number is out of range.
    """
    from charrnn.tasks.reading.beam import Wanted
    from charrnn.tasks.reading.rewrite import Rewriter

    for name, value in (("beam", beam), ("n", count), ("length", length)):
        if value is not None and not 1 <= value <= MOST_REWRITTEN:
            raise ConfigError(f"{name} is {value}", f"give a whole number from 1 to {MOST_REWRITTEN:,}")
    rewriter = Rewriter(_checkpoint(model, "rewriter"), reading.pop("threads", None))
    lines, end = _lines(rewriter.checkpoint, corpus, before_waiting, reading)
    return rewriter.lines(lines, end, Wanted(max(beam, count), count, align), length)


def _lines(
    model: Checkpoint, corpus: Paths, before_waiting: Callable[[], None], reading: dict[str, Any]
) -> tuple[Iterator[Lines], str]:
    """Lines or other records for a model that reads whole ones, and their end."""
    from charrnn.text.lines import read_lines

    text = model.text.of_commands(**reading)
    return read_lines(_paths(corpus), text, READ_TOGETHER, before_waiting), text.end or "\n"


def _shares(prior: Sequence[float], count: int, things: str) -> list[float]:
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


def _place(model: Checkpoint, column: str) -> int:
    """The number of a column of labels. VocabularyError: there is none of this name."""
    ids_of(model.columns, {column: ""})
    return names(model.columns).index(column)


def by_label(model: Checkpoint | str | Path, column: str | None = None) -> list[Checkpoint]:
    """The models of texts with each label of a column, the first one without a name.

    Raises:
        VocabularyError: there is no such column.
    """
    checkpoint = _checkpoint(model)
    place = 0 if column is None else _place(checkpoint, column)
    ids = list(ids_of(checkpoint.columns, {}))  # all unknown
    found = []
    for label in range(len(checkpoint.columns[place].labels)):
        ids[place] = label
        found.append(checkpoint.given(tuple(ids)))
    return found


def compress(
    model: Checkpoint | str | Path | None,
    chunks: Iterable[bytes],
    *,
    adaptive: bool = False,
    threads: int | None = None,
    report: Callable[[int], None] = lambda done: None,
) -> Iterator[bytes]:
    """Any bytes, in pieces, as a compressed file, in pieces, which `decompress` restores.

    The better the model predicts the text, the smaller the file, which depends on the model and the bytes
    alone. With `adaptive`, counts of what is coded are kept beside the model, on one thread. `report` is
    called a few times a second, from any thread, with the number of bytes done.
    """
    from charrnn.scoring import compression

    return compression.compress(_checkpoint(model), chunks, threads, report, adaptive=adaptive)


def decompress(
    model: Checkpoint | str | Path | None,
    chunks: Iterable[bytes],
    *,
    threads: int | None = None,
    report: Callable[[int], None] = lambda done: None,
) -> Iterator[bytes]:
    """The original bytes, in pieces, each checked before it is yielded. `report` as in `compress`.

    Raises:
        CompressionError: the file is not compressed, is damaged or truncated, or needs another model.
    """
    from charrnn.scoring import compression

    return compression.decompress(_checkpoint(model), chunks, threads, report)


def _unknown_bits(value: float) -> float:
    if not 0 <= value <= MOST_UNKNOWN_BITS:
        raise ConfigError(f"unknown-bits is {value}", f"give a number from 0 to {MOST_UNKNOWN_BITS:,}")
    return value


def _paths(corpus: Paths) -> list[str | Path]:
    return [corpus] if isinstance(corpus, (str, Path)) else list(corpus)


def _model(checkpoint: Checkpoint, threads: int | None) -> AnyNetwork:
    from charrnn.inference.mixed_model import model_of

    return model_of(checkpoint, threads)


def train(
    corpus: Paths,
    *,
    out: str | Path | None = None,
    text: TextConfig = TextConfig(),  # noqa: B008 (frozen)
    val: Paths = (),
    resume: bool = False,
    force: bool = False,
    stop: Callable[[], str | None] = lambda: None,
    **settings: Any,
) -> Generator[Event, None, None]:
    """Train on a corpus and yield events. The file `out` always holds the best model so far.

    `settings` are fields of ModelConfig (except vocab_size) and TrainConfig; those absent or None are chosen
    to suit the corpus. `val` is a separate validation text; without it, a part of the corpus is held out.
    `stop` is called after each step; when it returns a reason, the run is saved and ends. `resume` continues
    the interrupted run that wrote `out`. Further settings are

    - `init_from`: a model whose weights the run starts from, its vocabulary extended by the corpus's;
    - `from_scratch`: never start from the base model of English, which is done where it helps;
    - `threads`: the number of threads; None: as many as there are CPUs;
    - `keep_models`: the number of models evaluated last to keep as well, in a folder beside `out`;
    - `task`: what to learn other than the next character, one of charrnn.config.TASKS;
    - `previews`: whether to yield a sample of the network's text every ten seconds.

    Raises:
        ConfigError: a setting is out of range or contradicts another; `out` is a file of the corpus.
        CheckpointError: a model file cannot be read, or another would be overwritten.
        SaveError: the model file cannot be written at the beginning or at the end; in between, the event
            Unsaved reports it.
        TrainingError: the loss is no longer a number; another process is training into the same file.
    """
    began = time.monotonic()  # before the imports, which take a while
    from charrnn.training.request import Request, Target
    from charrnn.training.run_setup import set_up

    files = _assignment(corpus, val, settings)
    path = None if out is None else Path(out)
    target = Target(path, resume, force, settings.pop("keep_models", 0))
    own = {name: settings.pop(name) for name in ("init_from", "from_scratch", "threads") if name in settings}
    request = Request(files, text, target, **own, settings=settings)
    with contextlib.ExitStack() as held:
        run, started = yield from set_up(request, stop=stop, held=held, began=began)
        yield started
        yield from run.events()


def _assignment(corpus: Paths, val: Paths, settings: dict[str, Any]) -> Files:
    """The files and the task; those of the settings that are for it are taken out."""
    task, previews = settings.pop("task", None), settings.pop("previews", False)
    if task is None:
        from charrnn.tasks.next_character import TextFiles

        return TextFiles(_paths(corpus), _paths(val), previews)
    if task not in TASKS:
        raise ConfigError(f"task is {quoted(task)}", f"give one of {', '.join(TASKS)}")
    from charrnn.tasks import reading

    return reading.assignment(task)(_paths(corpus), _paths(val))


def training_files(
    corpus: Paths,
    out: str | Path | None = None,
    init_from: str | Path | None = None,
    val: Paths = (),
) -> list[tuple[str, Path | int]]:
    """The files that `train` reads and writes: a description of each, with its path or stdin's descriptor.

    A caller that writes further files can check that they are none of these.
    """
    from charrnn.tasks.files import Files
    from charrnn.training.request import model_path

    reading = Files(_paths(corpus), _paths(val))
    model = model_path(reading, None if out is None else Path(out))
    written: list[tuple[str, Path | int]] = [
        ("the model file", model),
        ("the file that --resume needs", files.resume_path(model)),
    ]
    initial = [] if init_from is None else [("the model to start from", Path(init_from))]
    return [*written, *initial, *reading.files()]
