"""Which of several models a line or record most probably comes from, by Bayes' rule.

    p(model | line) = prior(model) p(line | model) / sum over all models

p(line | model) is 2^-bits of surprisal. A character that a model has never seen costs `unknown_bits`: it
counts against the model without ruling it out. An empty line is not classified if one of the models is a
model of lines, which gives it no probability.

If one of the models is one of other records, these are classified. To a model of prose they end in a
newline.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.config import TextConfig
from charrnn.errors import ConfigError
from charrnn.scoring.surprisal import Scorer, scored
from charrnn.text.files.lines import Lines


class LineClass(NamedTuple):
    """One line, without its end, with a value of each model, in the order of the models."""

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


def common_text(scorers: Sequence[Scorer], *, nul: bool = False) -> TextConfig:
    """How lines are read for all models: as for the first that does not read bytes.

    Where records begin and end is decided as for the first model of such.

    Raises:
        ConfigError: the models' texts are separated in different ways, and not by `nul`.
    """
    texts = [scorer.checkpoint.text for scorer in scorers]
    first = next((text for text in texts if not text.bytes), texts[0])
    kinds = {(text.lines, text.split) for text in texts if text.records}
    if len(kinds) > 1 and any(split for _, split in kinds) and not nul:
        raise ConfigError(
            "the models were trained on texts that are separated in different ways",
            "-0 reads texts that NULs separate",
        )
    kept = all(text.keep_newlines for text in texts)
    cut = next((text for text in texts if text.records), first)
    return replace(
        first,
        keep_newlines=kept,
        lines=cut.lines,
        split=cut.split,
        normal_form=cut.normal_form,
        lowercase=cut.lowercase,
    )


def classify_lines(
    scorers: Sequence[Scorer], prior: Sequence[float], lines: Iterable[Lines], reading: TextConfig
) -> Iterator[list[LineClass]]:
    """The class of each line, in order, in the batches in which lines came; they were read by `reading`."""
    as_bytes = [scorer.checkpoint.text.bytes and not reading.bytes for scorer in scorers]
    end = reading.end or "\n"
    end_as_bytes = end.encode().decode("latin-1")

    def views(text: str) -> list[str]:
        """The text in each model's characters: UTF-8 for a model of bytes."""
        raw = text.encode("utf-8", "surrogateescape").decode("latin-1") if any(as_bytes) else ""
        return [raw.replace(end_as_bytes, end) if wanted else text for wanted in as_bytes]

    for texts, scores, file, number, cut in scored(scorers, lines, views, end):
        bits = np.stack([bits for bits, _, _ in scores], axis=1)
        found = []
        for n, (text, p, b) in enumerate(
            zip(texts, posteriors(bits, prior).tolist(), bits.tolist(), strict=True)
        ):
            if any(scorer.leaves_out(text) for scorer in scorers):
                p, b = (), ()
            found.append(LineClass(text, tuple(p), tuple(b), file, number + n, cut))
        yield found
