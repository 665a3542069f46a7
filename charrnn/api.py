"""What charrnn does, as functions: load, train, sample, evaluate, score, ... The command line calls these.

Everything that needs compiled kernels is imported where it is used: a short sample needs none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from charrnn import checkpoint as files
from charrnn.checkpoint import Checkpoint
from charrnn.config import UNKNOWN_BITS, DynamicConfig, SampleConfig, TextConfig
from charrnn.corpus import Documents, read
from charrnn.errors import CheckpointError, ConfigError
from charrnn.events import Compiling, Evaluated, Event, Finished, Sampled, Saved, Started, Step, Unsaved
from charrnn.generation import generate_all

if TYPE_CHECKING:
    from charrnn.classification import LineClass
    from charrnn.evaluation import Evaluation
    from charrnn.model import Model
    from charrnn.scoring import LineScore

__all__ = [
    "Compiling",
    "Evaluated",
    "Evaluation",
    "Event",
    "Finished",
    "Sampled",
    "Saved",
    "Started",
    "Step",
    "Unsaved",
    "classify",
    "compress",
    "decompress",
    "evaluate",
    "load",
    "next_characters",
    "sample",
    "score",
    "score_lines",
    "surprises",
    "train",
]

Paths = str | Path | Sequence[str | Path]
OnUnknown = Literal["error", "skip"]
MOST_UNKNOWN_BITS = 10_000


def __getattr__(name: str) -> Any:
    if name == "Evaluation":
        from charrnn.evaluation import Evaluation

        return Evaluation
    raise AttributeError(f"module 'charrnn.api' has no attribute {name!r}")


def load(path: str | Path | None = None) -> Checkpoint:
    """The model in a file; without a path the newest in ./checkpoints, else the one that comes with charrnn.

    Raises:
        CheckpointError: there is none, or the file is damaged.
    """
    if path is None:
        path = files.newest("checkpoints") or files.bundled()
        if path is None:
            raise CheckpointError("there is no model yet", "train one: charrnn train corpus.txt")
    return files.load(path)


def sample(
    model: Checkpoint | str | Path | None = None,
    prompt: str = "",
    *,
    count: int = 1,
    on_unknown: OnUnknown = "error",
    echo: bool = False,
    threads: int | None = None,
    **settings: Any,
) -> Iterator[Iterator[str]]:
    """`count` texts, each an iterator of its pieces as they are written.

    `settings` are the fields of SampleConfig. The same seed gives the same texts, on any number of threads;
    None: all CPUs.

    Raises:
        CheckpointError: the model cannot be loaded.
        ConfigError: a setting is out of range.
        VocabularyError: the prompt holds a character that the model has never seen.
    """
    checkpoint = model if isinstance(model, Checkpoint) else load(model)
    config = SampleConfig(**settings)
    if config.seed is None:
        config = replace(config, seed=int(np.random.SeedSequence().generate_state(1)[0]))
    return generate_all(
        checkpoint, prompt, config, count=count, on_unknown=on_unknown, echo=echo, threads=threads
    )


def evaluate(
    model: Checkpoint | str | Path,
    corpus: Paths,
    *,
    text: TextConfig | None = None,
    on_unknown: OnUnknown = "error",
    dynamic: DynamicConfig | None = None,
    threads: int | None = None,
) -> Evaluation:
    """The loss over a text, which is read as the model's own corpus was, or as `text` says.

    With `dynamic` the result is a charrnn.dynamic.DynamicEvaluation, which also has the loss of a network
    that adapts to the text.

    Raises:
        CheckpointError, CorpusError, VocabularyError: what cannot be read.
    """
    from charrnn.evaluation import evaluate as evaluate_documents

    checkpoint = model if isinstance(model, Checkpoint) else load(model)
    own = checkpoint.text if text is None else text
    documents = read(_paths(corpus), own, vocabulary=checkpoint.vocabulary, on_unknown=on_unknown).documents
    network = _model(checkpoint, threads)
    result = evaluate_documents(network, documents)
    assert result is not None  # nothing asked it to stop
    if dynamic is not None:
        from charrnn.dynamic import DynamicEvaluation, dynamic_loss

        adapting = dynamic_loss(network, documents, dynamic)
        return DynamicEvaluation(result.loss, result.characters, adapting)
    return result


def score(
    model: Checkpoint | str | Path, text: str, *, on_unknown: OnUnknown = "error", threads: int | None = None
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """How surprising each character of a text is to the model: -log p in nats, (characters,).

    A model of lines reads each line as a text of its own.

    Raises:
        CheckpointError: the model cannot be loaded.
        VocabularyError: the text holds a character that the model has never seen.
    """
    from charrnn.evaluation import surprises

    checkpoint = model if isinstance(model, Checkpoint) else load(model)
    vocabulary = checkpoint.vocabulary
    ids = vocabulary.encode(text, on_unknown)
    line_end = vocabulary.characters.index("\n") if checkpoint.text.lines else -1
    starts = np.zeros(min(1, len(ids)), np.int64)
    return surprises(_model(checkpoint, threads), Documents(ids, len(vocabulary), starts, line_end))


def score_lines(
    model: Checkpoint | str | Path | None,
    corpus: Paths,
    *,
    unknown_bits: float = UNKNOWN_BITS,
    threads: int | None = None,
) -> Iterator[list[LineScore]]:
    """How surprising each line is, as a text of its own, in lists of as many lines as have come meanwhile.

    Memory does not depend on how many lines there are, nor on how long they are. See charrnn.scoring for what
    is counted. Nothing in the text stops it: bytes that are no text, and characters that the model has never
    seen, count as `unknown_bits` each.

    Raises:
        CheckpointError: the model cannot be loaded.
        CorpusError: a file cannot be read, or is of a kind that is no text.
    """
    from charrnn import lines, scoring

    checkpoint = model if isinstance(model, Checkpoint) else load(model)
    scorer = scoring.Scorer(checkpoint, threads=threads, unknown_bits=_unknown_bits(unknown_bits))
    return scoring.score_lines(scorer, lines.read_lines(_paths(corpus), checkpoint.text, scorer.most))


def surprises(
    model: Checkpoint | str | Path | None,
    corpus: Paths,
    *,
    unknown_bits: float = UNKNOWN_BITS,
    threads: int | None = None,
) -> Iterator[tuple[str, str, np.ndarray[Any, np.dtype[np.float64]]]]:
    """Each file's name, text and -log2 p of each of its characters, (n,), piece by piece as it comes.

    The text is read as `evaluate` reads it: every character given all those before it in its document, which
    is the file, or the line for a model of lines.

    Raises:
        CheckpointError: the model cannot be loaded.
        CorpusError: a file cannot be read, or is of a kind that is no text.
    """
    from charrnn import lines, scoring

    checkpoint = model if isinstance(model, Checkpoint) else load(model)
    scorer = scoring.Scorer(checkpoint, threads=threads, unknown_bits=_unknown_bits(unknown_bits))
    stream = scoring.Stream(scorer)
    for name, text in lines.read_texts(_paths(corpus), checkpoint.text, scoring.WINDOW):
        if text is None:
            stream = scoring.Stream(scorer)
        else:
            yield name, text, stream.bits(text)


def next_characters(
    model: Checkpoint | str | Path | None = None,
    prompt: str = "",
    *,
    temperature: float = 1.0,
    on_unknown: OnUnknown = "error",
) -> list[tuple[str, float]]:
    """Every character with the probability that it comes next, the most probable first.

    Raises:
        CheckpointError: the model cannot be loaded.
        ConfigError: the temperature is out of range.
        VocabularyError: the prompt holds a character that the model has never seen.
    """
    from charrnn import prediction

    checkpoint = model if isinstance(model, Checkpoint) else load(model)
    return prediction.next_characters(checkpoint, prompt, temperature=temperature, on_unknown=on_unknown)


def classify(
    models: Sequence[Checkpoint | str | Path],
    corpus: Paths,
    *,
    prior: Sequence[float] | None = None,
    unknown_bits: float = UNKNOWN_BITS,
    threads: int | None = None,
) -> Iterator[list[LineClass]]:
    """Which model's text each line is, in lists of as many lines as have come meanwhile.

    `prior` has a positive weight for each model; None: all alike.

    Raises:
        CheckpointError: a model cannot be loaded.
        ConfigError: there are fewer than two models, or the prior does not fit them.
        CorpusError: a file cannot be read, or is of a kind that is no text.
    """
    from charrnn import classification, lines, scoring

    if len(models) < 2:
        raise ConfigError("there is nothing to choose between", "give two models or more, each with -m")
    weights = [1.0] * len(models) if prior is None else [float(weight) for weight in prior]
    if len(weights) != len(models):
        raise ConfigError(
            f"the prior has {len(weights)} numbers for {len(models)} models", "give one for each model"
        )
    if not all(0 < weight < float("inf") for weight in weights):
        raise ConfigError("the prior holds a number that is not above 0", "give positive numbers")
    checkpoints = [model if isinstance(model, Checkpoint) else load(model) for model in models]
    unknown_bits = _unknown_bits(unknown_bits)
    scorers = [
        scoring.Scorer(checkpoint, threads=threads, unknown_bits=unknown_bits) for checkpoint in checkpoints
    ]
    text = classification.common_text(scorers)
    return classification.classify_lines(
        scorers,
        [weight / sum(weights) for weight in weights],
        lines.read_lines(_paths(corpus), text, scorers[0].most),
    )


def compress(
    model: Checkpoint | str | Path | None, chunks: Iterable[bytes], *, threads: int | None = None
) -> Iterator[bytes]:
    """Any bytes, in pieces, as a file that `decompress` makes them from again, in pieces.

    The file is smaller the better the model predicts the text. It depends on the model and the bytes alone.

    Raises:
        CheckpointError: the model cannot be loaded.
    """
    from charrnn import compression

    return compression.compress(model if isinstance(model, Checkpoint) else load(model), chunks, threads)


def decompress(
    model: Checkpoint | str | Path | None, chunks: Iterable[bytes], *, threads: int | None = None
) -> Iterator[bytes]:
    """The bytes, in pieces, each checked before it is given out.

    Raises:
        CheckpointError: the model cannot be loaded.
        CompressionError: it is no file of `compress`, is damaged or cut short, or needs another model.
    """
    from charrnn import compression

    return compression.decompress(model if isinstance(model, Checkpoint) else load(model), chunks, threads)


def _unknown_bits(value: float) -> float:
    if not 0 <= value <= MOST_UNKNOWN_BITS:
        raise ConfigError(f"unknown-bits is {value}", f"give a number from 0 to {MOST_UNKNOWN_BITS:,}")
    return value


def _paths(corpus: Paths) -> list[str | Path]:
    return [corpus] if isinstance(corpus, (str, Path)) else list(corpus)


def _model(checkpoint: Checkpoint, threads: int | None) -> Model:
    from charrnn.model import Model
    from charrnn.workers import Workers

    model = Model(checkpoint.config, workers=Workers(threads))
    model.load_tensors(checkpoint.tensors)
    return model


def train(
    corpus: Paths,
    *,
    out: str | Path | None = None,
    text: TextConfig = TextConfig(),  # noqa: B008 (frozen)
    resume: bool = False,
    init_from: str | Path | None = None,
    force: bool = False,
    threads: int | None = None,
    stop: Callable[[], str | None] = lambda: None,
    previews: bool = False,
    **settings: Any,
) -> Generator[Event, None, None]:
    """Train on a corpus; yields what happens. The file `out` always holds the best model so far.

    `settings` are fields of ModelConfig (but vocab_size) and TrainConfig; what is absent or None is chosen
    to suit the corpus. `stop` is asked after each step: when it returns a text, the run is saved and ends.
    `previews` asks for a sample of what the network writes by now, every ten seconds.
    `resume` goes on with the interrupted run that wrote `out`; `init_from` starts from another model's
    weights, its vocabulary grown by the corpus's characters.

    Raises:
        ConfigError: a setting is out of range or contradicts another.
        CorpusError: the corpus cannot be read.
        CheckpointError: a model file cannot be read, or another would be overwritten.
        SaveError: the model file cannot be written, at the beginning or still at the end; in between that
            is an event, Unsaved.
        TrainingError: the loss is no longer a number; somebody else is training into the same file.
    """
    from charrnn.compilation import Helper
    from charrnn.runs import prepare

    with contextlib.ExitStack() as held:
        run, started = yield from prepare(
            _paths(corpus), None if out is None else Path(out), text, settings,
            resume=resume, init_from=init_from, force=force, threads=threads, stop=stop,
            previews=previews, helper=held.enter_context(Helper()), held=held,
        )  # fmt: skip
        yield started
        yield from run.events()
