"""Fill the gaps of a text by a network that reads in both directions.

At each place it tells what stands there from all that is known before and behind it. Characters are filled
in one at a time, first where the network is surest, and are known from then on; a beam keeps the best
beginnings. The log-probability of a filling is the sum over these choices.

Where a gap may have several lengths, each is tried. Their fillings are compared by how well they go with what
stands around them: the mean log-probability of the filled characters and of their neighbours, each told from
all others (pseudo-log-likelihood, Salazar et al. 2020).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.nn.reader import Reader, log_softmax, window_length
from charrnn.nn.workers import Workers
from charrnn.search.infilling import DEFAULT_GAP, Filling, Item, check, items_of

MOST_BEAM = 16  # fillings that are pursued; more bring little
MOST_LENGTHS = 64  # combinations of gaps' lengths that are tried together
AROUND = 8  # characters beside a gap by which fillings of different lengths are compared
READ_TOGETHER = 8192  # characters
SURE = math.log(0.999)  # places where one character is as probable are filled at once

BEST_LENGTHS = 8  # combinations of which more than one filling is wanted

Ids = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Lengths = tuple[int, ...]  # of each item of a pattern


class _Partial(NamedTuple):
    """A text of which some characters are not known yet: V stands there."""

    ids: Ids
    total: float = 0.0  # log p of what was filled in


class GapFiller:
    """A model that fills gaps."""

    def __init__(self, checkpoint: Checkpoint, threads: int | None = None) -> None:
        self.vocabulary, self.V = checkpoint.vocabulary, checkpoint.config.vocab_size
        ends = {self.vocabulary.find(checkpoint.text.end or "\n"), self.vocabulary.unknown}
        self._never = [n for n in ends if 0 <= n < self.V]  # in a gap
        self._reader = Reader(checkpoint.config, workers=Workers(threads))
        self._reader.load_tensors(checkpoint.tensors)

    def fill(
        self,
        pattern: str,
        *,
        count: int = 10,
        beam: int = MOST_BEAM,
        gap: int = DEFAULT_GAP,
        on_unknown: Literal["error", "skip"] = "error",
    ) -> list[Filling]:
        """The `count` best fillings found, the best first; see charrnn.search.infilling for patterns.

        Raises:
            ConfigError, VocabularyError: as charrnn.search.infilling.fill.
        """
        check(count=count, beam=beam, gap=gap)
        items = items_of(pattern, self.vocabulary, gap, on_unknown)
        beam = max(min(beam, MOST_BEAM), count)
        open_gaps = [n for n, (_, fewest, most) in enumerate(items) if fewest < most]
        lengths = self._likely_lengths(items, open_gaps) if open_gaps else [tuple(low for _, low, _ in items)]
        best: dict[str, tuple[float, float]] = {}  # by text: how good it is, and log p
        templates = [self._template(items, chosen) for chosen in lengths]
        for template, found in zip(templates, self._search(templates, beam), strict=True):
            for one in found:
                good = self._fit(one.ids, template == self.V) if open_gaps else one.total
                text = self.vocabulary.decode(one.ids)
                best[text] = max(best.get(text, (-math.inf, 0.0)), (good, one.total))
        order = sorted(best, key=lambda text: (-best[text][0], text))[:count]
        shares = np.exp(np.array([best[text][0] for text in order]) - best[order[0]][0])
        return [
            Filling(text, best[text][1], float(share), certain=False)
            for text, share in zip(order, shares / shares.sum(), strict=True)
        ]

    def _template(self, items: list[Item], lengths: Lengths) -> Ids:
        """The characters of a pattern whose gaps have these lengths; V in the gaps."""
        runs = ([self.V if id_ < 0 else id_] * n for (id_, _, _), n in zip(items, lengths, strict=True))
        return np.array([id_ for run in runs for id_ in run], np.int32)

    def _likely_lengths(self, items: list[Item], open_gaps: list[int]) -> list[Lengths]:
        """The lengths of all items with which fillings go best with what stands around, the best first.

        With many gaps, one after the other is tried in all its lengths, and then all of them again.
        """
        ranges = [range(low, high + 1) for _, low, high in items]
        if math.prod(len(ranges[n]) for n in open_gaps) <= MOST_LENGTHS:
            tried = self._by_fit(items, list(itertools.product(*ranges)))
            return tried[:BEST_LENGTHS]
        best = tuple(one[(len(one) - 1) // 4] for one in ranges)
        for n in open_gaps * 2:
            tried = self._by_fit(items, [(*best[:n], length, *best[n + 1 :]) for length in ranges[n]])
            best = tried[0]
        return tried[:BEST_LENGTHS]

    def _by_fit(self, items: list[Item], lengths: list[Lengths]) -> list[Lengths]:
        """The lengths, those first whose best filling fits best."""
        templates = [self._template(items, chosen) for chosen in lengths]
        found = self._search(templates, 1)
        fits = [self._fit(one[0].ids, t == self.V) for one, t in zip(found, templates, strict=True)]
        return [lengths[n] for n in np.argsort(-np.array(fits), kind="stable")]

    def _search(self, templates: list[Ids], beam: int) -> list[list[_Partial]]:
        """The best fillings of each template, at most `beam` of them, the best first."""
        beams = [[_Partial(template)] for template in templates]
        while True:
            left = [(n, one) for n, found in enumerate(beams) for one in found if (one.ids == self.V).any()]
            if not left:
                return beams
            grown: dict[int, dict[bytes, _Partial]] = {n: {} for n, _ in left}
            for (n, one), logs in zip(left, self._predict([one.ids for _, one in left]), strict=True):
                for longer in self._longer(one, logs, beam):
                    grown[n].setdefault(longer.ids.tobytes(), longer)
            for n, found in grown.items():
                done = [one for one in beams[n] if (one.ids != self.V).all()]
                beams[n] = sorted([*done, *found.values()], key=lambda one: -one.total)[:beam]

    def _longer(self, one: _Partial, logs: Floats, beam: int) -> Iterator[_Partial]:
        """The text with another character filled in, where it is surest, by log p (T, V)."""
        places = np.flatnonzero(one.ids == self.V)
        best = logs[places].max(axis=1)
        sure = places[best > SURE]
        if len(sure):
            ids = one.ids.copy()
            ids[sure] = logs[sure].argmax(axis=1)
            yield _Partial(ids, one.total + float(best[best > SURE].sum()))
            return
        place = places[best.argmax()]
        for c in np.argsort(-logs[place], kind="stable")[:beam].tolist():
            if logs[place, c] > -math.inf:
                ids = one.ids.copy()
                ids[place] = c
                yield _Partial(ids, one.total + float(logs[place, c]))

    def _fit(self, ids: Ids, filled: npt.NDArray[np.bool_]) -> float:
        """How well characters go with one another in what was filled in and around it; see the module."""
        if not len(ids):
            return 0.0
        near = np.convolve(filled, np.ones(2 * AROUND + 1))[AROUND : AROUND + len(ids)] > 0
        places = np.flatnonzero(near | filled)
        if not len(places):  # nothing was filled in, at the edge of nothing
            return 0.0
        texts = np.repeat(ids[None], len(places), axis=0)
        texts[np.arange(len(places)), places] = self.V
        logs = self._predict(list(texts))
        told = [float(log[place, ids[place]]) for log, place in zip(logs, places, strict=True)]
        return math.fsum(told) / len(told)

    def _predict(self, texts: list[Ids]) -> Iterator[Floats]:
        """log p of each character at each place, (T, V), of texts whose lengths are alike."""
        T = window_length(max(map(len, texts)))
        B = max(1, READ_TOGETHER // T)
        for low in range(0, len(texts), B):
            some = texts[low : low + B]
            x = np.full((T, window_length(len(some)) if len(texts) < B else B), self.V, np.int32)
            lengths = np.ones(x.shape[1], np.int64)
            for b, ids in enumerate(some):
                x[: len(ids), b], lengths[b] = ids, max(len(ids), 1)
            logits = self._reader.forward(x, lengths)
            logits[..., self._never] = -np.inf
            for b, ids in enumerate(some):
                yield log_softmax(logits[: len(ids), b])
