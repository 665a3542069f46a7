"""The surprise of texts to models that write, and what follows from it: classes of lines, compression."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from charrnn.api.dealing import Process, Threads, dealt, workers_of
from charrnn.api.models import Paths, by_label, checkpoint_of, paths_of, shares_of
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import UNKNOWN_BITS, TextConfig, WeightPrecision
from charrnn.errors import ConfigError
from charrnn.ranks.ranks import ALONE
from charrnn.text.documents import Documents
from charrnn.text.files.normalization import Normaliser, normalised
from charrnn.vocabulary import OnUnknown

if TYPE_CHECKING:
    from charrnn.scoring.classification import LineClass
    from charrnn.scoring.surprisal import LineScore, Scorer

MOST_UNKNOWN_BITS = 10_000


def score(
    model: Checkpoint | str | Path, text: str, *, on_unknown: OnUnknown = "error", threads: int | None = None
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The surprise of each character of the normalised text: -log p in nats, (characters,).

    A model of lines reads each line as a separate text; the end of an empty line, which training leaves out,
    has surprise 0. In a model of other records, each text may be followed by vocabulary.END, its end.
    """
    from charrnn.inference.mixed_model import model_of
    from charrnn.tasks.evaluation import surprises
    from charrnn.text.files.decoding import empty_lines

    checkpoint = checkpoint_of(model)
    vocabulary = checkpoint.vocabulary
    ids = vocabulary.encode(normalised(text, checkpoint.text.form), on_unknown)
    end = vocabulary.find(checkpoint.text.end)
    starts = np.zeros(min(1, len(ids)), np.int64)
    losses = surprises(model_of(checkpoint, threads), Documents(ids, len(vocabulary), starts, end))
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
    threads: Threads = None,
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
    from charrnn.text.files import lines

    checkpoint, (own, ranks) = checkpoint_of(model), workers_of(threads)
    text = text or checkpoint.text.of_commands()
    how: dict[str, Any] = {
        "unknown_bits": checked_unknown_bits(unknown_bits),
        "precision": precision,
        "adaptive": adaptive,
    }
    scorer, end = surprisal.Scorer(checkpoint, threads=own, **how), text.end or "\n"
    ranks = ALONE if adaptive else ranks
    found = lines.read_lines(paths_of(corpus), text, ranks.size * scorer.most, before_waiting)
    arguments = replace(checkpoint, novelty=None), own, how, end
    return dealt(ranks, partial(surprisal.score_lines, scorer, end=end), _scoring, arguments, found, end)


def _scoring(checkpoint: Checkpoint, threads: int | None, how: dict[str, Any], end: str) -> Process:
    """On another rank: what scores lines."""
    from charrnn.scoring import surprisal

    return partial(surprisal.score_lines, surprisal.Scorer(checkpoint, threads=threads, **how), end=end)


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
    from charrnn.text.files import lines

    checkpoint, unknown_bits = checkpoint_of(model), checked_unknown_bits(unknown_bits)
    scorer = surprisal.Scorer(checkpoint, threads=threads, unknown_bits=unknown_bits, adaptive=adaptive)
    stream, normaliser = surprisal.Stream(scorer), Normaliser(scorer.form)
    text = text or checkpoint.text.of_commands()
    for name, piece in lines.read_texts(paths_of(corpus), text, surprisal.WINDOW, before_waiting):
        if normal := normaliser.add(piece or "", last=piece is None):
            yield name, normal, stream.bits(normal)
        if piece is None:
            stream = surprisal.Stream(scorer)


def classify(
    models: Sequence[Checkpoint | str | Path],
    corpus: Paths,
    *,
    prior: Sequence[float] | None = None,
    unknown_bits: float = UNKNOWN_BITS,
    threads: Threads = None,
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
    from charrnn.scoring import classification
    from charrnn.text.files import lines

    if len(models) == 1 and (only := checkpoint_of(models[0])).columns:
        prior = prior or [max(count, 0.5) for count in only.columns[0].counts]
        models = by_label(only)
    if len(models) < 2:
        raise ConfigError("there is nothing to choose between", "give two models or more, each with -m")
    weights = shares_of([1.0] * len(models) if prior is None else prior, len(models), "models")
    checkpoints = [checkpoint_of(model) for model in models]
    unknown_bits, (own, ranks) = checked_unknown_bits(unknown_bits), workers_of(threads)
    scorers = _scorers(checkpoints, own, unknown_bits)
    text = classification.common_text(scorers, nul=reading.get("nul", False)).of_commands(**reading)
    found = lines.read_lines(paths_of(corpus), text, ranks.size * scorers[0].most, before_waiting)
    light = [replace(checkpoint, novelty=None) for checkpoint in checkpoints]
    arguments = light, own, unknown_bits, weights, text
    return dealt(ranks, _by(scorers, weights, text), _classifying, arguments, found, text.end or "\n")


def _scorers(checkpoints: Sequence[Checkpoint], threads: int | None, unknown_bits: float) -> list[Scorer]:
    """One for each model, of which those that differ in vectors alone share a network."""
    from charrnn.scoring.surprisal import Scorer

    scorers: list[Scorer] = []
    for checkpoint in checkpoints:
        first = scorers[0] if scorers else None
        if first is not None and checkpoint.shares_matrices(first.checkpoint):
            scorers.append(first.of(checkpoint))
        else:
            scorers.append(Scorer(checkpoint, threads=threads, unknown_bits=unknown_bits))
    return scorers


def _by(scorers: Sequence[Scorer], weights: Sequence[float], text: TextConfig) -> Process:
    from charrnn.scoring.classification import classify_lines

    return lambda lines: classify_lines(scorers, weights, lines, text)


def _classifying(
    checkpoints: Sequence[Checkpoint], threads: int | None, unknown_bits: float, *how: Any
) -> Process:
    """On another rank: what classifies lines."""
    return _by(_scorers(checkpoints, threads, unknown_bits), *how)


def checked_unknown_bits(value: float) -> float:
    if not 0 <= value <= MOST_UNKNOWN_BITS:
        raise ConfigError(f"unknown-bits is {value}", f"give a number from 0 to {MOST_UNKNOWN_BITS:,}")
    return value


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

    return compression.compress(checkpoint_of(model), chunks, threads, report, adaptive=adaptive)


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

    return compression.decompress(checkpoint_of(model), chunks, threads, report)
