"""A look into networks: how they use their past, and what single units follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charrnn.api.measuring import documents_of
from charrnn.api.models import Paths, checkpoint_of, paths_of
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import KINDS, RANKED_CHARACTERS, TextConfig
from charrnn.errors import CheckpointError, ConfigError
from charrnn.vocabulary import OnUnknown

if TYPE_CHECKING:
    from charrnn.diagnosis.findings import Diagnosis, Looks, RunDiagnosis
    from charrnn.neurons.activations import Reading
    from charrnn.neurons.ranking import Ranking


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

    checkpoint = checkpoint_of(model)
    documents = documents_of(checkpoint, corpus, text or checkpoint.text.of_commands(), on_unknown, note)
    return network.diagnose(checkpoint, documents, lags, threads, report)


def looks(
    model: Checkpoint | str | Path | None,
    corpus: Paths,
    *,
    threads: int | None = None,
    text: TextConfig | None = None,
    on_unknown: OnUnknown = "error",
    note: Callable[[str], None] = lambda line: None,
) -> Looks:
    """Where the heads of a memory look as it reads the first pair of the corpus, or the beginning of a text.

    CheckpointError: the model has none.
    """
    from charrnn.diagnosis import heads
    from charrnn.tasks.reading import rewrite

    checkpoint = checkpoint_of(model, *KINDS)
    if not checkpoint.config.has_memory:
        raise CheckpointError("the model has no memory", "give one of --cell ntm")
    text = text or checkpoint.text.of_commands()
    if checkpoint.config.kind == "rewriter":
        return heads.follow(checkpoint, *rewrite.first(checkpoint, paths_of(corpus), text), threads)
    documents = documents_of(checkpoint, corpus, text, on_unknown, note)
    return heads.follow(checkpoint, documents.ids[: heads.READ], (), threads)


def diagnose_run(events: str | Path, *, clip: float = 1.0) -> RunDiagnosis:
    """How large the steps of a run are, by the events that `charrnn train --json` has printed so far.

    `events` is a file, or "-" for standard input; `clip` is that of the run.

    Raises:
        CorpusError: there is something else in the file, or no step yet.
    """
    from charrnn.diagnosis import run

    return run.read(events, clip)


def rank_units(
    model: Checkpoint | str | Path | None,
    corpus: Paths,
    *,
    find: str | None = None,
    most: int | None = RANKED_CHARACTERS,
    threads: int | None = None,
    report: Callable[[int], None] = lambda done: None,
    **reading: Any,
) -> Ranking:
    """The units of a network: the most selective of each layer first or, with `find`, what tells that best.

    `find` is an expression, whose matches are looked for, or one of charrnn.neurons.features.PRESETS. The
    first `most` characters are read; None: all. `reading` may have `text` and `on_unknown`. `report` is
    called several times a second with how many were read. See charrnn.neurons.ranking for the measures.

    Raises:
        ConfigError: `find` is not a valid expression, or is too large.
        SearchError: nothing of it is in the text, or all of it.
    """
    from charrnn.neurons import ranking
    from charrnn.neurons.activations import Network
    from charrnn.neurons.features import feature

    network = Network(checkpoint_of(model), threads)
    texts = _reading(network.checkpoint, corpus, reading, most)
    wanted = None if find is None else feature(network, find)
    return ranking.rank(network, texts, wanted, report)._replace(is_all=not texts.cut)


def watch_unit(
    model: Checkpoint | str | Path | None,
    corpus: Paths,
    unit: str,
    *,
    expects: bool = False,
    most: int | None = None,
    threads: int | None = None,
    before_waiting: Callable[[], None] = lambda: None,
    **reading: Any,
) -> Iterator[tuple[str, str, list[float], list[str]]]:
    """What a unit such as "1:37" does: layer 1 is the first, unit 0 the first of a layer.

    The files piece by piece as they arrive: the file's name, a text, and the unit's value after each of its
    characters, from -1 to 1; if it `expects`, also what comes next, in words. `most` and `reading` as in
    `rank_units`.

    Raises:
        ConfigError: there is no such unit.
    """
    from charrnn.neurons.activations import Network
    from charrnn.neurons.units import unit_of
    from charrnn.neurons.watching import watch

    network = Network(checkpoint_of(model), threads)
    chosen = unit_of(unit, network.checkpoint.config)
    texts = _reading(network.checkpoint, corpus, reading | {"before_waiting": before_waiting}, most)
    return watch(network, texts, chosen, expects=expects)


def _reading(model: Checkpoint, corpus: Paths, reading: dict[str, Any], most: int | None) -> Reading:
    """The texts of which units are shown."""
    from charrnn.neurons.activations import Reading

    if most is not None and most < 1:
        raise ConfigError(f"characters is {most}", "give a whole number from 1 up")
    text = reading.pop("text", None) or model.text.of_commands()
    on_unknown = reading.pop("on_unknown", "error")
    return Reading(model, paths_of(corpus), text, on_unknown=on_unknown, most=most, **reading)
