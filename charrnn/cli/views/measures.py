"""The figures of `charrnn eval`, as JSON and in words, by the kind of model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from charrnn.cli.views import confusion
from charrnn.cli.wording import count
from charrnn.config import Kind
from charrnn.errors import decimal

if TYPE_CHECKING:
    from charrnn.tasks.evaluation import Evaluation

Figures = tuple[dict[str, Any], list[str]]  # for JSON, and lines for people


def figures(result: Evaluation, kind: Kind) -> Figures:
    """The figures of a model of this kind."""
    return KINDS[kind](result)


def _writer(result: Any) -> Figures:
    names = ["loss", "bpc", "perplexity", "characters"]
    lines = [
        f"loss {decimal(result.loss)} nats/char, {decimal(result.bpc)} bits/char, "
        f"perplexity {decimal(result.perplexity, 2)}, {result.characters} characters"
    ]
    if result.network_loss is not None:
        names += ["network_loss", "network_bpc"]
        loss, bpc = decimal(result.network_loss), decimal(result.network_bpc)
        lines.append(f"network alone {loss} nats/char, {bpc} bits/char")
    if result.loss_without_labels is not None:
        names += ["loss_without_labels", "bpc_without_labels"]
        loss, bpc = decimal(result.loss_without_labels), decimal(result.bpc_without_labels)
        lines.append(f"without labels {loss} nats/char, {bpc} bits/char")
    if result.cache_loss is not None:
        names += ["cache_loss", "cache_bpc"]
        loss, bpc = decimal(result.cache_loss), decimal(result.cache_bpc)
        lines.append(f"cache loss {loss} nats/char, {bpc} bits/char")
    if hasattr(result, "dynamic_loss"):
        names += ["dynamic_loss", "dynamic_bpc"]
        loss, bpc = decimal(result.dynamic_loss), decimal(result.dynamic_bpc)
        lines.append(f"dynamic loss {loss} nats/char, {bpc} bits/char")
    if result.adaptive_loss is not None:
        names += ["adaptive_loss", "adaptive_bpc"]
        loss, bpc = decimal(result.adaptive_loss), decimal(result.adaptive_bpc)
        lines.append(f"adaptive loss {loss} nats/char, {bpc} bits/char")
    return {name: getattr(result, name) for name in names}, lines


def _tagger(result: Any) -> Figures:
    spans = result.spans
    values = {name: getattr(result, name) for name in ("loss", "accuracy", "characters", "texts")}
    values["right_texts"] = result.right_texts
    lines = [
        f"{100 * result.accuracy:.2f} % of {count(result.characters)} characters have the right tag, "
        f"{100 * result.right_texts:.2f} % of {count(result.texts)} texts have no wrong one",
    ]
    if spans is not None:
        values |= {name: getattr(spans, name) for name in ("scheme", "f1", "precision", "recall")}
        values |= {"spans": spans.expected, "found_spans": spans.found, "right_spans": spans.right}
        lines.append(
            f"spans ({spans.scheme}): F1 {spans.f1:.4f}, precision {spans.precision:.4f}, "
            f"recall {spans.recall:.4f} of {count(spans.expected)}"
        )
    return values, [*lines, f"loss {decimal(result.loss)} nats/char"]


def _restorer(result: Any) -> Figures:
    rows = {
        "accuracy": ("characters", result.right_characters, result.characters),
        "word_accuracy": ("words", result.right_words, result.words),
        "changed_word_accuracy": (
            "words that were changed",
            result.right_changed_words,
            result.changed_words,
        ),
    }
    values = {"loss": result.loss, **{name: right / (whole or 1) for name, (_, right, whole) in rows.items()}}
    values |= {name: getattr(result, name) for name in ("characters", "words", "changed_words")}
    lines = [
        f"{right / (whole or 1):.2%} of {count(whole)} {name} are right"
        for name, right, whole in rows.values()
    ]
    for kind, found in result.kinds.items():
        values[f"{kind}_f1"] = found.f1
        lines.append(
            f"{kind}: F1 {found.f1:.4f}, {count(found.right)} right of {count(found.put_back)} put back and "
            f"{count(found.there)} in the text"
        )
    return values, [*lines, f"loss {decimal(result.loss)} nats/char"]


def _rewriter(result: Any) -> Figures:
    names = ("loss", "word_error_rate", "error_rate", "edit_distance", "sources")
    values = {"exact": result.accuracy, **{name: getattr(result, name) for name in names}}
    lines = [
        f"{100 * result.accuracy:.2f} % of {count(result.sources)} sources are rewritten exactly: "
        f"word error rate {100 * result.word_error_rate:.2f} %",
        f"error rate of {result.tokens} {100 * result.error_rate:.2f} %, "
        f"edit distance {result.edit_distance:.4f}",
        f"loss {decimal(result.loss)} nats/char",
    ]
    return values, lines


def _filler(result: Any) -> Figures:
    values = {name: getattr(result, name) for name in ("loss", "accuracy", "characters")}
    lines = [
        f"{100 * result.accuracy:.2f} % of {count(result.characters)} hidden characters are told right",
        f"loss {decimal(result.loss)} nats/char",
    ]
    return values, lines


def _classifier(result: Any) -> Figures:
    return result.figures(), list(confusion.lines(result))


KINDS: dict[Kind, Callable[[Any], Figures]] = {
    "writer": _writer,
    "classifier": _classifier,
    "restorer": _restorer,
    "tagger": _tagger,
    "rewriter": _rewriter,
    "filler": _filler,
}
