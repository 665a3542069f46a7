"""The surprisal of lines or records, in bits, with many side by side; results are in the order of input.

Each line is a text of its own that ends with its "\\n". A model of lines reads it as in training, and gives
an empty line no score, since training leaves these out. A model of prose first reads a newline, which is not
counted. A model that has never seen "\\n" does without both. Other records, which end with END, take the
place of lines for a model of such.

A scorer may learn: counts go on counting what it reads, see charrnn.counts.growing. Then the score of a line
depends on the lines before it, and they are read in order, one after another.

A character that the model has never seen costs `unknown_bits`, and the network skips it.

Axes: T time, B columns, V vocabulary, N characters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from itertools import compress
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import UNKNOWN_BITS, WEIGHT_PRECISIONS, WeightPrecision
from charrnn.errors import ConfigError
from charrnn.inference.mixed_model import AnyNetwork, GrowingModel, InOrder, model_of, with_counts
from charrnn.nn.network import State
from charrnn.nn.precision import require
from charrnn.scoring import shared_prefixes
from charrnn.scoring.shared_prefixes import Floats, Ids
from charrnn.text.files.decoding import empty_lines
from charrnn.text.files.lines import Lines
from charrnn.text.files.normalization import Normaliser, normalised
from charrnn.vocabulary import code_points

COLUMNS = 52  # lines side by side on each thread: four tiles of 13 rows; more is no faster
WINDOW, LOGITS = shared_prefixes.WINDOW, shared_prefixes.LOGITS
LEAST_WINDOW = 32  # of a scorer that learns
CHARACTERS = 4096  # of a column before scores are returned
SHOWN = 1 << 20  # characters of a line that are kept; a longer line is scored whole
_BITS = 1 / math.log(2)  # in a nat

# Bits, characters and unknown characters, (lines,) each.
Scores = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]


class LineScore(NamedTuple):
    """One line or record, without its end, and its surprisal."""

    text: str
    bits: float | None  # -log2 p of the line; None for an empty line of a model of lines
    characters: int  # with its end, if the model knows that
    unknown: int  # how many of them the model has never seen
    file: str
    number: int  # of the line in its file, from 1 on
    cut: bool = False  # the text is only the beginning of a line of more than SHOWN characters

    @property
    def bpc(self) -> float | None:
        """Bits a character, or None; 0 for an empty line if the model does not know its end."""
        if self.bits is None:
            return None
        return self.bits / self.characters if self.characters else 0.0


class Scorer:
    """A model that scores lines; the score of a line depends on that line alone, unless it is `adaptive`.

    bfloat16 is faster, and changes bits a character in the third decimal.

    Raises:
        ConfigError: the precision is unknown, or this CPU has no instructions for it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        threads: int | None = None,
        unknown_bits: float = UNKNOWN_BITS,
        precision: WeightPrecision = "float32",
        adaptive: bool = False,
    ) -> None:
        if precision not in WEIGHT_PRECISIONS:
            raise ConfigError(f"precision is {precision!r}", f"give {' or '.join(WEIGHT_PRECISIONS)}")
        require(precision, "read with --precision float32, which works everywhere", ConfigError)
        self.checkpoint = checkpoint
        self.form = checkpoint.text.form  # texts are brought to it
        self.unknown_bits = unknown_bits
        rounds = precision == "bfloat16"
        self._model = model_of(checkpoint, threads, reads_bfloat16=rounds)
        self._growing: GrowingModel | None = None
        if adaptive:
            from charrnn.counts.growing import GrowingCounts

            self._growing = GrowingModel(self._model, GrowingCounts(checkpoint.vocabulary, checkpoint.text))
        self._own: dict[str, Floats] = {}  # the tensors that a scorer with the same network may change
        self.columns = COLUMNS * self._model.workers.size
        self.most = CHARACTERS * self.columns  # characters to be read at a time
        vocabulary = checkpoint.vocabulary
        self._table = np.full(0x110000, vocabulary.unknown, np.int32)  # code point -> id
        self._table[vocabulary.code_points] = np.arange(len(vocabulary), dtype=np.int32)
        self.end = checkpoint.text.end or "\n"  # of a record or, in prose, of a line
        self.end_id = self._table[ord(self.end)] = vocabulary.find(self.end)  # or -1
        prose = not checkpoint.text.records and self.end_id >= 0
        self.lead = np.array([self.end_id] if prose else [], np.int32)  # read before a line, not counted

    def of(self, checkpoint: Checkpoint) -> Scorer:
        """The scorer of a model that differs in vectors alone, such as biases. It uses the same network."""
        other = copy(self)
        other.checkpoint, other._model = checkpoint, with_counts(self._model, checkpoint.counts)
        for scorer in (self, other):
            tensors = scorer.checkpoint.tensors.items()
            scorer._own = {name: tensor for name, tensor in tensors if tensor.ndim == 1}
        return other

    @property
    def model(self) -> AnyNetwork:
        """The network, to be used before another scorer does."""
        for name, tensor in self._own.items():
            self._model.parameters[name][: len(tensor)] = tensor
        return self._model

    @property
    def in_order(self) -> InOrder:
        """What reads a text in one column: the network, or what learns beside it."""
        return self._growing or self.model

    def encode(self, text: str) -> Ids:
        """The id of each character, (N,); -1 for what the model has never seen."""
        return self._table[code_points(text)]

    def leaves_out(self, line: str) -> bool:
        """Whether training leaves out this line, given without its end, so that it has no score."""
        text = self.checkpoint.text
        if not line:
            return text.records
        return text.max_chars is not None and len(normalised(line, self.form)) > text.max_chars

    def lines(self, text: str, end: str = "\n") -> Scores:
        """The scores of the lines of `text`, each of which ends in `end`, and for the model in its own end.

        All are 0 for a line that training leaves out.
        """
        lines = normalised(text, self.form).split(end)[:-1]
        if self._growing is None:
            different = sorted(set(lines))  # sorted, lines with a common prefix are neighbours
            places = {line: number for number, line in enumerate(different)}
            place = [places[line] for line in lines]
        else:
            told = [not self.leaves_out(line) for line in lines]
            different = list(compress(lines, told))
            place = np.where(told, np.cumsum(told) - 1, len(different)).tolist()
        points = code_points("".join(line + self.end for line in different))
        ids = self._table[points]
        count = len(different)
        wholes = np.fromiter(map(len, different), np.int64, count) + 1
        ends = np.zeros(len(ids), np.bool_)
        ends[np.cumsum(wholes) - 1] = True
        line = np.repeat(np.arange(count), wholes)  # of each character
        unknown = np.bincount(line[(ids < 0) & ~ends], minlength=count)
        line = line[ids >= 0]
        lengths = np.bincount(line, minlength=count)
        nats = np.bincount(line, weights=self._losses(ids[ids >= 0], lengths), minlength=count)
        bits, characters = nats * _BITS + unknown * self.unknown_bits, lengths + unknown
        left_out = [number for number, line in enumerate(different) if self.leaves_out(line)]
        for values in (bits, characters, unknown):
            values[left_out] = 0
        bits, characters, unknown = (np.append(values, 0) for values in (bits, characters, unknown))
        return bits[place], characters[place], unknown[place]

    def _losses(self, ids: Ids, lengths: npt.NDArray[np.int64]) -> Floats:
        """-log p in nats of every character, (N,), of concatenated lines of these lengths."""
        if self._growing is not None:
            return self._learned(self._growing, ids, lengths)
        if not len(self.lead):
            return shared_prefixes.losses(self.model, ids, lengths, self.columns)
        starts = np.cumsum(lengths) - lengths
        leads = starts + np.arange(len(lengths))
        with_leads = np.insert(ids, starts, self.lead)
        return np.delete(shared_prefixes.losses(self.model, with_leads, lengths + 1, self.columns), leads)

    def _learned(self, model: GrowingModel, ids: Ids, lengths: npt.NDArray[np.int64]) -> Floats:
        """The same, in one column, each character learned before the next is read."""
        starts, V = np.cumsum(lengths) - lengths, self.checkpoint.config.outputs
        y, begins = ids, starts
        if len(self.lead):
            y, begins = np.insert(ids, starts, self.lead), starts + np.arange(len(starts))
        N = len(y)
        begins = begins[begins < N]  # the last lines may have no characters
        # The tail is no text. So there are few different windows.
        size = -(-N // WINDOW) * WINDOW if N > WINDOW else max(LEAST_WINDOW, 1 << max(0, N - 1).bit_length())
        x, told, reset = np.full(size, V, np.int32), np.full(size, -1, np.int32), np.ones(size, np.bool_)
        x[1:N], told[:N], reset[:N] = y[: N - 1], y, False
        x[begins], reset[begins] = V, True
        if len(self.lead):
            told[begins] = -1  # what leads to a line is read, and not told
        found, state = np.empty(size, np.float32), model.zero_state()
        for low in range(0, size, WINDOW):
            window = slice(low, low + WINDOW), None
            losses, state = model.losses(x[window], told[window], state, reset[window])
            found[window[0]] = losses[:, 0]
        return np.delete(found[:N], begins) if len(self.lead) else found[:N]


class Stream:
    """One text, read in pieces; for a model of records each of them is a text of its own."""

    def __init__(self, scorer: Scorer, *, after_line_end: bool = False) -> None:
        self._scorer = scorer
        self._end = scorer.end_id if scorer.checkpoint.text.records else -2
        self._start = scorer.checkpoint.config.outputs
        self._last = self._start
        self._at_line_start = True
        self._state: State = scorer.in_order.zero_state(1)
        if after_line_end:
            self.losses(scorer.lead)

    def losses(self, ids: Ids) -> Floats:
        """-log p in nats of each of the next characters, (n,)."""
        model, V = self._scorer.in_order, self._start
        result = np.empty(len(ids), np.float32)
        T = max(1, min(WINDOW, LOGITS // V))
        for low in range(0, len(ids), T):
            y = ids[low : low + T, None]
            x = np.concatenate(([[self._last]], y[:-1])).astype(np.int32)
            reset = (x == self._end) | (x == V)
            x[reset] = V
            losses, self._state = model.losses(x, y, self._state, reset)
            result[low : low + T] = losses[:, 0]
            self._last = int(y[-1, 0])
        return result

    def bits(self, text: str) -> npt.NDArray[np.float64]:
        """-log2 p of each of the next characters, (n,); `unknown_bits` for those the model has never seen.

        The end of an empty line that training leaves out costs nothing.
        """
        ids = self._scorer.encode(text)
        result = np.full(len(ids), self._scorer.unknown_bits)
        known = ids >= 0
        result[known] = self.losses(ids[known]).astype(np.float64) * _BITS
        if self._end >= 0 and len(ids):
            result[empty_lines(ids, self._end, self._at_line_start)] = 0
            self._at_line_start = bool(ids[-1] == self._end)
        return result


class LongLine:
    """The score so far of a line that comes in pieces."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._stream = Stream(scorer, after_line_end=True)
        self._normaliser = Normaliser(scorer.form)
        self.bits, self.characters, self.unknown = 0.0, 0, 0

    def add(self, text: str, *, last: bool = False) -> None:
        """Append `text`, without the line's end, to the line; the `last` piece ends it."""
        text = self._normaliser.add(text, last=last)
        if last and self._scorer.end_id >= 0:
            text += self._scorer.end
        self.bits += float(np.sum(self._stream.bits(text)))
        self.characters += len(text)
        self.unknown += int(np.count_nonzero(self._scorer.encode(text) < 0))


def score_lines(scorer: Scorer, lines: Iterable[Lines], end: str = "\n") -> Iterator[list[LineScore]]:
    """The score of each line, which ends in `end`, in order, in the batches in which lines came."""
    for texts, (scores,), file, number, cut in scored([scorer], lines, lambda text: [text], end):
        columns = (values.tolist() for values in scores)
        yield [
            LineScore(
                line, None if scorer.leaves_out(line) else bits, characters, unknown, file, number + n, cut
            )
            for n, (line, bits, characters, unknown) in enumerate(zip(texts, *columns, strict=True))
        ]


def scored(
    scorers: Sequence[Scorer], lines: Iterable[Lines], views: Callable[[str], list[str]], end: str
) -> Iterator[tuple[list[str], list[Scores], str, int, bool]]:
    """For each batch of lines: the texts, their scores by each scorer, the file, the first line's number,
    and whether the text is cut.

    Lines end in `end`. `views` gives a text in the characters of each scorer, and leaves `end` as it is.
    """
    long: list[LongLine] = []
    shown, length = "", 0
    for text, file, number, piece, last in lines:
        if not piece:
            scores = [scorer.lines(view, end) for scorer, view in zip(scorers, views(text), strict=True)]
            yield text[:-1].split(end), scores, file, number, False
            continue
        long = long or [LongLine(scorer) for scorer in scorers]
        for line, view in zip(long, views(text), strict=True):
            line.add(view.removesuffix(end) if last else view, last=last)
        shown += text[: SHOWN - len(shown)]
        length += len(text)
        if last:
            scores = [
                (np.array([line.bits]), np.array([line.characters]), np.array([line.unknown]))
                for line in long
            ]
            yield [shown.removesuffix(end)], scores, file, number, length > SHOWN + 1
            long, shown, length = [], "", 0
