"""How well a model knows a text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charrnn.api.dealing import Threads, workers_of
from charrnn.api.models import Paths, checkpoint_of, paths_of
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import KINDS, DynamicConfig, TextConfig
from charrnn.errors import ConfigError
from charrnn.text.documents import Documents
from charrnn.text.reading import read
from charrnn.vocabulary import OnUnknown

if TYPE_CHECKING:
    from charrnn.tasks.evaluation import Evaluation


def evaluate(
    model: Checkpoint | str | Path,
    corpus: Paths,
    *,
    dynamic: DynamicConfig | None = None,
    adaptive: bool = False,
    threads: Threads = None,
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
    from charrnn.inference.mixed_model import model_of, shared_by
    from charrnn.tasks.evaluation import evaluate as evaluate_documents

    checkpoint = checkpoint_of(model, *KINDS)
    text: TextConfig = reading.pop("text", None) or checkpoint.text.of_commands()
    on_unknown: OnUnknown | None = reading.pop("on_unknown", None)
    if reading:
        raise TypeError(f"evaluate() has no argument {next(iter(reading))!r}")
    own, ranks = workers_of(threads)
    if checkpoint.config.kind != "writer":
        for name, given in (("--dynamic", dynamic is not None), ("--adaptive", adaptive)):
            if given:
                raise ConfigError(f"{name} is for models that write, and this one reads", "leave it out")
        return _measured(checkpoint, corpus, text, on_unknown, own, note)
    documents = documents_of(checkpoint, corpus, text, on_unknown or "error", note)
    network = model_of(replace(checkpoint, cache=None), own)
    reading_together = shared_by(network, ranks)

    def shown(stage: str) -> Callable[[int], None]:
        return lambda done: report(stage, done / len(documents))

    result = evaluate_documents(reading_together, documents, report=shown("reading"))
    assert result is not None  # only a stopped evaluation has no result
    if documents.labels is not None:
        bare = replace(documents, labels=None)
        without = evaluate_documents(reading_together, bare, report=shown("without labels"))
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


def documents_of(
    model: Checkpoint, corpus: Paths, text: TextConfig, on_unknown: OnUnknown, note: Callable[[str], None]
) -> Documents:
    """A corpus as a model reads it."""
    found = read(
        paths_of(corpus), text, vocabulary=model.vocabulary, on_unknown=on_unknown,
        expected=model.text.encoding, columns=model.columns,
    )  # fmt: skip
    for line in found.notes:
        note(line)
    return found.with_columns(model.columns).documents


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

    result, notes = reading.measure(model, paths_of(corpus), text, threads, on_unknown)
    for line in notes:
        note(line)
    return result
