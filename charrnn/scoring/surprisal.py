"""The surprisal of lines, in bits, with many lines side by side; results are in the order of input.

Each line is a text of its own that ends with its "\\n". A model of lines reads it as in training, and gives
an empty line no score, since training leaves these out. A model of prose first reads a newline, which is not
counted. A model that has never seen "\\n" does without both.

A character that the model has never seen costs `unknown_bits`, and the network skips it.

Axes: T time, B columns, V vocabulary, N characters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import UNKNOWN_BITS, WEIGHT_PRECISIONS, WeightPrecision
from charrnn.errors import ConfigError
from charrnn.nn.network import Model, State
from charrnn.nn.precision import require
from charrnn.nn.workers import Workers
from charrnn.scoring import shared_prefixes
from charrnn.scoring.shared_prefixes import Floats, Ids
from charrnn.text.decoding import empty_lines
from charrnn.text.lines import Lines
from charrnn.text.normalization import Normaliser, normalised
from charrnn.vocabulary import code_points

COLUMNS = 52  # lines side by side on each thread: four tiles of 13 rows; more is no faster
WINDOW, LOGITS = shared_prefixes.WINDOW, shared_prefixes.LOGITS
CHARACTERS = 4096  # of a column before scores are returned
SHOWN = 1 << 20  # characters of a line that are kept; a longer line is scored whole
NEWLINE = ord("\n")
_BITS = 1 / math.log(2)  # in a nat

# Bits, characters and unknown characters, (lines,) each.
Scores = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]


class LineScore(NamedTuple):
    """One line, without its "\\n", and its surprisal."""

    text: str
    bits: float | None  # -log2 p of the line; None for an empty line of a model of lines
    characters: int  # with its "\n", if the model knows that
    unknown: int  # how many of them the model has never seen
    file: str
    number: int  # of the line in its file, from 1 on
    cut: bool = False  # the text is only the beginning of a line of more than SHOWN characters

    @property
    def bpc(self) -> float | None:
        """Bits a character, or None; 0 for an empty line if the model does not know "\\n"."""
        if self.bits is None:
            return None
        return self.bits / self.characters if self.characters else 0.0


class Scorer:
    """A model that scores lines; the score of a line depends on that line alone.

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
    ) -> None:
        if precision not in WEIGHT_PRECISIONS:
            raise ConfigError(f"precision is {precision!r}", f"give {' or '.join(WEIGHT_PRECISIONS)}")
        require(precision, "read with --precision float32, which works everywhere", ConfigError)
        self.checkpoint = checkpoint
        self.form = checkpoint.text.normal_form  # texts are normalised to it
        self.unknown_bits = unknown_bits
        rounds = precision == "bfloat16"
        self._model = Model(checkpoint.config, workers=Workers(threads), reads_bfloat16=rounds)
        self._model.load_tensors(checkpoint.tensors)
        self._own: dict[str, Floats] = {}  # the tensors that a scorer with the same network may change
        self.columns = COLUMNS * self._model.workers.size
        self.most = CHARACTERS * self.columns  # characters to be read at a time
        vocabulary = checkpoint.vocabulary
        self._table = np.full(0x110000, -1, np.int32)  # code point -> id
        self._table[vocabulary.code_points] = np.arange(len(vocabulary), dtype=np.int32)
        self.newline = int(self._table[NEWLINE])  # its id, or -1
        prose = not checkpoint.text.lines and self.newline >= 0
        self.lead = np.array([self.newline] if prose else [], np.int32)  # read before a line, not counted

    def of(self, checkpoint: Checkpoint) -> Scorer:
        """The scorer of a model that differs in vectors alone, such as biases. It uses the same network."""
        other = copy(self)
        other.checkpoint = checkpoint
        for scorer in (self, other):
            tensors = scorer.checkpoint.tensors.items()
            scorer._own = {name: tensor for name, tensor in tensors if tensor.ndim == 1}
        return other

    @property
    def model(self) -> Model:
        """The network, to be used before another scorer does."""
        for name, tensor in self._own.items():
            self._model.parameters[name][: len(tensor)] = tensor
        return self._model

    def encode(self, text: str) -> Ids:
        """The id of each character, (N,); -1 for what the model has never seen."""
        return self._table[code_points(text)]

    def leaves_out(self, line: str) -> bool:
        """Whether training leaves out this line, given without its "\\n", so that it has no score."""
        return not line and self.checkpoint.text.lines

    def lines(self, text: str) -> Scores:
        """The scores of the lines of `text`, which ends in "\\n".

        All are 0 for a line that training leaves out.
        """
        lines = normalised(text, self.form).split("\n")[:-1]
        different = sorted(set(lines))  # sorted, lines with a common prefix are neighbours
        places = {line: number for number, line in enumerate(different)}
        place = [places[line] for line in lines]
        points = code_points("".join(line + "\n" for line in different))
        ids = self._table[points]
        ends = points == NEWLINE
        count = len(different)
        line = np.cumsum(ends) - ends  # of each character
        unknown = np.bincount(line[(ids < 0) & ~ends], minlength=count)
        line = line[ids >= 0]
        lengths = np.bincount(line, minlength=count)
        nats = np.bincount(line, weights=self._losses(ids[ids >= 0], lengths), minlength=count)
        bits, characters = nats * _BITS + unknown * self.unknown_bits, lengths + unknown
        if different and self.leaves_out(different[0]):
            bits[0] = characters[0] = unknown[0] = 0
        return bits[place], characters[place], unknown[place]

    def _losses(self, ids: Ids, lengths: npt.NDArray[np.int64]) -> Floats:
        """-log p in nats of every character, (N,), of concatenated lines of these lengths."""
        if not len(self.lead):
            return shared_prefixes.losses(self.model, ids, lengths, self.columns)
        starts = np.cumsum(lengths) - lengths
        leads = starts + np.arange(len(lengths))
        with_leads = np.insert(ids, starts, self.newline)
        return np.delete(shared_prefixes.losses(self.model, with_leads, lengths + 1, self.columns), leads)


class Stream:
    """One text, read in pieces; for a model of lines each line is a text of its own."""

    def __init__(self, scorer: Scorer, *, after_line_end: bool = False) -> None:
        self._scorer = scorer
        self._line_end = scorer.newline if scorer.checkpoint.text.lines else -2
        self._start = scorer.checkpoint.config.outputs
        self._last = self._start
        self._at_line_start = True
        self._state: State = scorer.model.zero_state(1)
        if after_line_end:
            self.losses(scorer.lead)

    def losses(self, ids: Ids) -> Floats:
        """-log p in nats of each of the next characters, (n,)."""
        model, V = self._scorer.model, self._start
        result = np.empty(len(ids), np.float32)
        T = max(1, min(WINDOW, LOGITS // V))
        for low in range(0, len(ids), T):
            y = ids[low : low + T, None]
            x = np.concatenate(([[self._last]], y[:-1])).astype(np.int32)
            reset = (x == self._line_end) | (x == V)
            x[reset] = V
            losses, self._state = model.losses(x, y, self._state, reset)
            result[low : low + T] = losses[:, 0]
            self._last = int(y[-1, 0])
        return result

    def bits(self, text: str) -> npt.NDArray[np.float64]:
        """-log2 p of each of the next characters, (n,); `unknown_bits` for those the model has never seen.

        The "\\n" of an empty line that training leaves out costs nothing.
        """
        ids = self._scorer.encode(text)
        result = np.full(len(ids), self._scorer.unknown_bits)
        known = ids >= 0
        result[known] = self.losses(ids[known]).astype(np.float64) * _BITS
        if self._line_end >= 0 and len(ids):
            result[empty_lines(ids, self._line_end, self._at_line_start)] = 0
            self._at_line_start = bool(ids[-1] == self._line_end)
        return result


class LongLine:
    """The score so far of a line that comes in pieces."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._stream = Stream(scorer, after_line_end=True)
        self._normaliser = Normaliser(scorer.form)
        self.bits, self.characters, self.unknown = 0.0, 0, 0

    def add(self, text: str) -> None:
        """Append `text` to the line; its last piece ends in "\\n"."""
        text = self._normaliser.add(text)
        if self._scorer.newline < 0:
            text = text.removesuffix("\n")
        self.bits += float(np.sum(self._stream.bits(text)))
        self.characters += len(text)
        self.unknown += int(np.count_nonzero(self._scorer.encode(text) < 0))


def score_lines(scorer: Scorer, lines: Iterable[Lines]) -> Iterator[list[LineScore]]:
    """The score of each line, in order, in the batches in which lines came."""
    for texts, (scores,), file, number, cut in scored([scorer], lines, lambda text: [text]):
        columns = (values.tolist() for values in scores)
        yield [
            LineScore(
                line, None if scorer.leaves_out(line) else bits, characters, unknown, file, number + n, cut
            )
            for n, (line, bits, characters, unknown) in enumerate(zip(texts, *columns, strict=True))
        ]


def scored(
    scorers: Sequence[Scorer], lines: Iterable[Lines], views: Callable[[str], list[str]]
) -> Iterator[tuple[list[str], list[Scores], str, int, bool]]:
    """For each batch of lines: the texts, their scores by each scorer, the file, the first line's number,
    and whether the text is cut.

    `views` gives a text in the characters of each scorer.
    """
    long: list[LongLine] = []
    shown, length = "", 0
    for text, file, number, piece, last in lines:
        if not piece:
            scores = [scorer.lines(view) for scorer, view in zip(scorers, views(text), strict=True)]
            yield text[:-1].split("\n"), scores, file, number, False
            continue
        long = long or [LongLine(scorer) for scorer in scorers]
        for line, view in zip(long, views(text), strict=True):
            line.add(view)
        shown += text[: SHOWN - len(shown)]
        length += len(text)
        if last:
            scores = [
                (np.array([line.bits]), np.array([line.characters]), np.array([line.unknown]))
                for line in long
            ]
            yield [shown.removesuffix("\n")], scores, file, number, length > SHOWN + 1
            long, shown, length = [], "", 0
