"""Which of several models a line most probably comes from, by Bayes' rule.

    p(model | line) = prior(model) p(line | model) / sum over all models

p(line | model) is 2^-bits of surprisal. A character that a model has never seen costs `unknown_bits`: it
counts against the model without ruling it out. An empty line is not classified if one of the models is a
model of lines, which gives it no probability.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.config import TextConfig
from charrnn.scoring.surprisal import SHOWN, LongLine, Scorer
from charrnn.text.lines import Lines


class LineClass(NamedTuple):
    """One line, without its "\\n", with a value of each model, in the order of the models."""

    text: str
    posterior: tuple[float, ...]  # sums to 1; () for an empty line that is not classified
    bits: tuple[float, ...]  # () likewise
    file: str
    number: int  # of the line in its file, from 1 on
    cut: bool = False  # the text is only the beginning of a line of more than SHOWN characters

    @property
    def best(self) -> int | None:
        """The index of the most probable model, of several the first; None: not classified."""
        return self.posterior.index(max(self.posterior)) if self.posterior else None


def posteriors(bits: npt.ArrayLike, prior: Sequence[float]) -> npt.NDArray[np.float64]:
    """p(model | line), (lines, M), from the bits (lines, M) of each line and the prior (M,), which sums to 1.

    Relative to the best model's exponent, so that texts of a million bits neither overflow nor underflow.
    """
    with np.errstate(divide="ignore"):
        exponent = np.log2(np.asarray(prior)) - np.asarray(bits, np.float64)
    weight = np.exp2(exponent - exponent.max(axis=1, keepdims=True))
    result: npt.NDArray[np.float64] = weight / weight.sum(axis=1, keepdims=True)
    return result


def common_text(scorers: Sequence[Scorer]) -> TextConfig:
    """How lines are read for all models: as for the first that does not read bytes."""
    texts = [scorer.checkpoint.text for scorer in scorers]
    first = next((text for text in texts if not text.bytes), texts[0])
    return replace(first, keep_newlines=all(text.keep_newlines for text in texts))


def classify_lines(
    scorers: Sequence[Scorer], prior: Sequence[float], lines: Iterable[Lines]
) -> Iterator[list[LineClass]]:
    """The class of each line, in order, in the batches in which lines came; read by `common_text`."""
    as_bytes = [s.checkpoint.text.bytes and not common_text(scorers).bytes for s in scorers]
    long: list[LongLine] = []
    shown, length = "", 0

    def left_out(line: str) -> bool:
        return any(scorer.leaves_out(line) for scorer in scorers)

    def views(text: str) -> list[str]:
        """The text in each model's characters: UTF-8 for a model of bytes."""
        raw = text.encode("utf-8", "surrogateescape").decode("latin-1") if any(as_bytes) else ""
        return [raw if wanted else text for wanted in as_bytes]

    def result(texts: list[str], bits: Any, file: str, number: int, cut: bool = False) -> list[LineClass]:
        both = zip(texts, posteriors(bits, prior).tolist(), bits.tolist(), strict=True)
        found = [
            LineClass(text, tuple(p), tuple(b), file, number + n, cut) for n, (text, p, b) in enumerate(both)
        ]
        return [line._replace(posterior=(), bits=()) if left_out(line.text) else line for line in found]

    for text, file, number, piece, last in lines:
        if not piece:
            bits = np.stack(
                [scorer.lines(view)[0] for scorer, view in zip(scorers, views(text), strict=True)], axis=1
            )
            yield result(text[:-1].split("\n"), bits, file, number)
            continue
        long = long or [LongLine(scorer) for scorer in scorers]
        for line, view in zip(long, views(text), strict=True):
            line.add(view)
        shown += text[: SHOWN - len(shown)]
        length += len(text)
        if last:
            bits = np.array([[line.bits for line in long]])
            yield result([shown.removesuffix("\n")], bits, file, number, length > SHOWN + 1)
            long, shown, length = [], "", 0
