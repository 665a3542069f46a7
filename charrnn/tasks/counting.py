"""Counts of a training text beside its network, and the gate between both.

The gate is fitted on characters of the training text that are set aside for it: neither the network nor the
counts that it is fitted with have seen them, and none of them is validation text. The model's own counts take
them in afterwards. The network is trained alone.

Where the run starts from a model that has counts, these are merged with those of the text, if both together
predict better what is set aside or, of a short text, a sample that is left out for this alone.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from charrnn.counts.bundled_gate import BUNDLED
from charrnn.counts.compiled import CompiledLookup
from charrnn.counts.fitting import fitted
from charrnn.counts.gate import LEAST_FITTED, GatedCounts
from charrnn.counts.learning.building import learned
from charrnn.counts.learning.divided import built, gathered
from charrnn.counts.learning.grams import Grams, order_of
from charrnn.counts.learning.merging import Both, EarlierCounts
from charrnn.counts.learning.repeats import repeated
from charrnn.inference.mixed_model import MixedModel
from charrnn.kernels.coefficients import GATE_INPUTS, GATE_LONG_MOST
from charrnn.kernels.loops.beside import mixing
from charrnn.nn.network import Model
from charrnn.nn.parameters import Array
from charrnn.tasks.evaluation import next_start, windows
from charrnn.tasks.shares import joined
from charrnn.text.documents import Documents, Passage, Pieces
from charrnn.text.validation import block

# On tinyshakespeare, after 1,500 steps (1.527 alone), the bundled gate comes to 1.430, and one that is fitted
# on 5,000, 10,000 and 44,000 characters to 1.429, 1.426 and 1.423: fewer are better left to the network.
LEAST = LEAST_FITTED  # of the text; shorter ones take the bundled gate
SHARE, MOST = 0.02, 40_000  # of its characters, and their number
# Of text that is set aside, so many characters stand in runs that the training text has, too: 0.2 to 0.5 % of
# Shakespeare, 5 to 50 % of program code, messages, tunes and fortunes. Times REPEATS, that share is what the
# gate may leave to counts where these copy, at least the usual and at most LONG_MOST. Beyond that, losses
# hardly fall, and copying doubles (docs/counts.md).
RUN, REPEATS, LONG_MOST = 30, 5, 0.7
BLOCK = 2_000  # characters, of a long text
FEWEST_BLOCKS = 5
SAMPLE, SAMPLE_SHARE, LEAST_SAMPLED = 10_000, 0.2, 1_000  # characters of a short text, and of how many


def set_aside(text: Documents, seed: int, newline: int) -> tuple[Documents, Documents]:
    """The text without what is set aside for a gate, and that: blocks, scattered by the seed, or nothing."""
    wanted = int(min(SHARE * len(text), MOST)) if len(text) >= LEAST else 0
    return parted(text, wanted, np.random.default_rng([seed, 4]), newline)


def parted(
    text: Documents, wanted: int, random: np.random.Generator, newline: int
) -> tuple[Documents, Documents]:
    """The text without about so many characters, and these: blocks scattered over it, of whole records."""
    total, ranges = len(text), []
    if text.pieces is None:
        text = replace(text, pieces=Pieces.between(np.zeros(1, np.int64), np.array([total])))
    blocks = max(FEWEST_BLOCKS, wanted // BLOCK)
    for low, high in pairwise(np.linspace(0, total, blocks + 1).astype(np.int64).tolist()):
        coin = float(random.random())
        if text.end >= 0:
            first = low + int(coin * (high - low - wanted // blocks))
            start, stop = (next_start(text, text.starts, n) for n in (first, first + wanted // blocks))
        else:
            passage = Passage(text, low, high)
            start, stop = block(passage, 0, high - low, wanted // blocks, newline, coin)
            start, stop = low + start, low + stop
        if wanted and stop > start:
            ranges.append((start, stop))
    ends, starts = [0, *(stop for _, stop in ranges)], [*(start for start, _ in ranges), total]
    rest = joined(text, ((text, low, high, 1) for low, high in zip(ends, starts, strict=True)))
    return rest, joined(text, ((text, low, high, 1) for low, high in ranges))


def long_most(share: float) -> float:
    """The most that a gate leaves to counts where they copy, if such a share of a text repeats the rest."""
    return max(GATE_LONG_MOST, float(np.float32(min(REPEATS * share, LONG_MOST))))


class Counting:
    """What stands beside a network that learns a text."""

    def __init__(
        self,
        rest: Documents,
        aside: Documents,
        most_bytes: int,
        labels: tuple[int, ...] = (),
        *,
        earlier: EarlierCounts | None = None,
        newline: int = -1,
    ) -> None:
        """`rest` is what the network reads, and `aside` what is kept for the gate; it may be empty.

        `labels` says how many each column of their labels has. `earlier` are those of the model that the run
        starts from. `newline` is the id of a line end; -1: none.
        """
        self._aside, order = aside, order_of(len(rest) + len(aside), rest.vocab_size)
        grams, halvings = gathered(rest, order, labels), None
        self._long_most = GATE_LONG_MOST
        if len(aside):
            self._long_most = long_most(repeated(aside, rest, RUN))
            counts = built(grams, most_bytes)
            if earlier is not None:
                both = Both(earlier, counts)
                halvings = both.best_halvings(aside)
                counts = counts if halvings is None else both.merged(halvings, most_bytes)
                del both
            lookup = CompiledLookup(counts)
            self._chances, self._told = lookup.score(aside, 0, len(aside))
            del lookup, counts  # before other counts are built, which take the most memory
            grams = grams.merged(Grams.of(aside, order, labels))
        elif earlier is not None:
            halvings = _halvings(earlier, rest, most_bytes, newline)
        counts, gate = built(grams, most_bytes), BUNDLED
        if earlier is not None and halvings is not None:
            # The program's gate knows neither these counts nor a network that begins so well:
            # 40 kB of Shakespeare after 500 kB of it came to 1.526 with it, to 1.452 with the model's own.
            counts, gate = Both(earlier, counts).merged(halvings, most_bytes), earlier.gate
        self.gated = GatedCounts(counts, gate)
        self._lookup = CompiledLookup(self.gated.counts)

    def beside(self, model: Model) -> MixedModel:
        """The network with the counts, and the gate that suits it, which depends on the network alone."""
        if len(self._aside):
            seen = observed(model, self._aside, self._chances, self._told)
            gate = fitted(*seen, self._long_most)
            self.gated = replace(self.gated, gate=gate)
        return MixedModel(model, self.gated, self._lookup)


def _halvings(earlier: EarlierCounts, text: Documents, most_bytes: int, newline: int) -> int | None:
    """How often the weight of earlier counts is halved beside a short text's; None: they do no good."""
    if len(text) < LEAST_SAMPLED:
        return None
    wanted = int(min(SAMPLE, SAMPLE_SHARE * len(text)))
    rest, sample = parted(text, wanted, np.random.default_rng(6), newline)
    if not (len(rest) and len(sample)):  # a single record
        return None
    return Both(earlier, learned(rest, most_bytes)).best_halvings(sample)


def observed(
    model: Model, text: Documents, chances: Array, told: Array
) -> tuple[npt.NDArray[np.float32], Array, Array]:
    """What a gate is fitted on: its inputs, and the probabilities of a text under counts and network.

    `chances` and `told` are what counts say of the text, see CompiledLookup.score.
    """
    N, state = len(text), None
    network, doubts = np.empty(N), np.empty((N, 2), np.float32)
    for positions, there, (x, y, reset), labels in windows(text, remembers=model.config.span):
        found = np.empty((x.size, 2), np.float32)
        nats, state = model.losses(x, y, state, reset, labels, found)
        network[positions[there]] = np.exp(-nats[there].astype(np.float64))
        doubts[positions[there]] = found[there.reshape(-1)]
    inputs = np.empty((N, GATE_INPUTS), np.float32)
    mixing.inputs(inputs, doubts, told)
    return inputs, chances, network
