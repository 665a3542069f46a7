"""What charrnn does, as functions: load, train, sample, evaluate, score, ... The command line calls these.

Everything that needs compiled kernels is imported where it is used: a short sample needs none.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from charrnn.checkpoint import model_file as files
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import (
    MAX_LINE_LENGTH,
    UNKNOWN_BITS,
    DynamicConfig,
    EncodingErrors,
    SampleConfig,
    TextConfig,
    WeightPrecision,
)
from charrnn.errors import CheckpointError, ConfigError
from charrnn.events import (
    Compiling,
    Evaluated,
    Event,
    Finished,
    Indexing,
    Sampled,
    Saved,
    Started,
    Step,
    Unsaved,
)
from charrnn.generation.writing import generate_all, generate_each
from charrnn.inference.mixture import Blend, blend
from charrnn.text.corpus import Documents, read
from charrnn.text.normalization import Normaliser, normalised

if TYPE_CHECKING:
    from charrnn.nn.network import Model
    from charrnn.scoring.classification import LineClass
    from charrnn.scoring.surprisal import LineScore
    from charrnn.search.enumeration import Line
    from charrnn.search.infilling import Filling
    from charrnn.search.predictor import Predictor
    from charrnn.search.suggestions import Offer, Offers
    from charrnn.tasks.evaluation import Evaluation

__all__ = [
    "Blend",
    "Compiling",
    "Evaluated",
    "Evaluation",
    "Event",
    "Filling",
    "Finished",
    "Indexing",
    "Line",
    "Offer",
    "Offers",
    "Sampled",
    "Saved",
    "Started",
    "Step",
    "Texts",
    "Unsaved",
    "blend",
    "classify",
    "compress",
    "decompress",
    "enumerate_lines",
    "evaluate",
    "fill",
    "load",
    "model_path",
    "next_characters",
    "offers",
    "sample",
    "sample_each",
    "score",
    "score_lines",
    "surprises",
    "train",
    "training_files",
]

Paths = str | Path | Sequence[str | Path]
AnyModel = Checkpoint | Blend | str | Path
OnUnknown = Literal["error", "skip"]
MOST_UNKNOWN_BITS = 10_000


_HOMES = {  # of types that come from modules which are imported where they are used
    "Evaluation": "charrnn.tasks.evaluation",
    "Filling": "charrnn.search.infilling",
    "Line": "charrnn.search.enumeration",
    "Offer": "charrnn.search.suggestions",
    "Offers": "charrnn.search.suggestions",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'charrnn.api' has no attribute {name!r}")


def load(path: str | Path | None = None) -> Checkpoint:
    """The model in a file; without a path the newest in ./checkpoints, else the one that comes with charrnn.

    Raises:
        CheckpointError: there is none, or the file is damaged.
    """
    return files.load(model_path(path))


def model_path(path: str | Path | None = None) -> Path:
    """The file that `load` reads.

    Raises:
        CheckpointError: there is none.
    """
    found = files.newest("checkpoints") or files.bundled() if path is None else Path(path)
    if found is None:
        raise CheckpointError("there is no model yet", "train one: charrnn train corpus.txt")
    return found


def sample(
    model: AnyModel | None = None,
    prompt: str = "",
    *,
    count: int = 1,
    best_of: int = 1,
    on_unknown: OnUnknown = "error",
    echo: bool = False,
    threads: int | None = None,
    **settings: Any,
) -> Texts:
    """`count` texts, each an iterator of its pieces as they are written.

    `settings` are the fields of SampleConfig. The same seed gives the same texts, on any number of threads;
    None: all CPUs. Without a seed a new one is chosen: it is the result's `seed`. With `best_of`, each text
    is the one of so many that surprises the model least, and comes in one piece; see charrnn.search.best_of.

    Raises:
        CheckpointError: the model cannot be loaded.
        ConfigError: a setting is out of range.
        VocabularyError: the prompt holds a character that the model has never seen.
    """
    checkpoint = _loaded(model)
    config, prompt = _sample_config(settings, checkpoint), _own(checkpoint, prompt)
    if best_of == 1:
        texts = generate_all(
            checkpoint, prompt, config, count=count, on_unknown=on_unknown, echo=echo, threads=threads
        )
        return Texts(texts, config)
    from charrnn.search.best_of import best_of_each

    texts = generate_all(
        checkpoint, prompt, config, count=count * best_of, on_unknown=on_unknown, threads=threads
    )
    best = best_of_each(
        checkpoint, texts, best_of, repeat(prompt), config, on_unknown=on_unknown, echo=echo, threads=threads
    )
    return Texts(best, config)


class Texts(Iterator[Iterator[str]]):
    """The texts of a run, one after the other."""

    def __init__(self, texts: Iterator[Iterator[str]], config: SampleConfig) -> None:
        assert config.seed is not None
        self.seed = config.seed  # writes the same texts again
        self._texts = texts

    def __next__(self) -> Iterator[str]:
        return next(self._texts)


def sample_each(
    model: AnyModel | None,
    prompts: Iterable[str] | Callable[[int], list[str]],
    *,
    count: int = 1,
    best_of: int = 1,
    on_unknown: OnUnknown = "error",
    echo: bool = False,
    threads: int | None = None,
    **settings: Any,
) -> Texts:
    """`count` texts for each prompt, in the order of the prompts, as `sample` gives them.

    They are written side by side, but no more prompts are taken than that needs, one at first. In place of
    an iterable, `prompts` may be a function that gives the next prompts, so many at the most, and none at
    the end: those that are there already, if more are slow to come.

    Raises:
        CheckpointError, ConfigError: see `sample`.
        VocabularyError: while the texts are taken: which prompt holds a character that the model has never
            seen.
    """
    checkpoint = _loaded(model)
    config = _sample_config(settings, checkpoint)
    source = prompts if callable(prompts) else _Taking(prompts)

    def take(most: int) -> list[str]:
        return [_own(checkpoint, prompt) for prompt in source(most)]

    if best_of == 1:
        texts = generate_each(
            checkpoint, take, config, count=count, on_unknown=on_unknown, echo=echo, threads=threads
        )
        return Texts(texts, config)
    from charrnn.search.best_of import best_of_each

    taken: deque[str] = deque()

    def take_and_keep(most: int) -> list[str]:
        found = take(most)
        taken.extend(prompt for prompt in found for _ in range(count))
        return found

    texts = generate_each(
        checkpoint, take_and_keep, config, count=count * best_of, on_unknown=on_unknown, threads=threads
    )
    given = iter(taken.popleft, None)  # the prompt of each text that is kept
    best = best_of_each(
        checkpoint, texts, best_of, given, config, on_unknown=on_unknown, echo=echo, threads=threads
    )
    return Texts(best, config)


class _Taking:
    """The next items of an iterable: one, then twice as many each time."""

    def __init__(self, items: Iterable[str]) -> None:
        self._items = iter(items)
        self._most = 1

    def __call__(self, most: int) -> list[str]:
        found = list(islice(self._items, min(most, self._most)))
        self._most = min(2 * self._most, most)
        return found


def _loaded(model: AnyModel | None) -> Checkpoint | Blend:
    return model if isinstance(model, Blend) else _checkpoint(model)


def _checkpoint(model: Checkpoint | str | Path | None) -> Checkpoint:
    return model if isinstance(model, Checkpoint) else load(model)


def _own(model: Checkpoint | Blend, text: str) -> str:
    """A text in the normal form of the model's corpus. What users give passes here, or through a Scorer."""
    return normalised(text, model.text.normal_form)


def _own_expression(model: Checkpoint | Blend, expression: str) -> str:
    """The same for an expression, unless a character of it would become several: `+` would mean the last."""
    return _own(model, expression) if model.text.normal_form == "NFC" else expression


def _sample_config(settings: dict[str, Any], model: Checkpoint | Blend) -> SampleConfig:
    """In the model's normal form, and with a seed, a new one where none is given."""
    config = SampleConfig(**settings)
    config = replace(
        config,
        until=tuple(_own(model, text) for text in config.stops),
        ban=tuple(_own(model, text) for text in config.ban),
        only=None if config.only is None else _own(model, config.only),
        match=None if config.match is None else _own_expression(model, config.match),
    )
    if config.seed is None:
        config = replace(config, seed=int(np.random.SeedSequence().generate_state(1)[0]))
    return config


def enumerate_lines(
    model: AnyModel | None = None,
    prompt: str = "",
    *,
    count: int | None = None,
    above: float | None = None,
    match: str | None = None,
    **settings: Any,
) -> Iterator[Line]:
    """The `count` most probable whole lines that go on from the prompt, exactly, the most probable first.

    100 without a `count`; with `above`, all that are at least so probable. With `match`, only those whose
    characters after the prompt match the expression as a whole. `settings` are `precision`, `threads` and
    those of charrnn.search.enumeration.enumerate_lines, which says what else raises what.

    Raises:
        ConfigError: `match` is no expression, or too large.
        SamplingError: no line of the model's characters matches, or none so short.
    """
    from charrnn.search.enumeration import enumerate_lines as search

    loaded = _loaded(model)
    prompt = _own(loaded, prompt)
    if match is not None and "\n" in loaded.vocabulary:  # else no line of it ends, which the search says
        from charrnn.constraints.matching import Matching

        length = settings.get("length")
        longest = MAX_LINE_LENGTH if length is None else max(0, length)
        settings["constraint"] = Matching(
            _own_expression(loaded, match), loaded.vocabulary.characters, longest
        )
    return search(_predictor(loaded, settings), prompt, count=count, above=above, **settings)


def _predictor(model: Checkpoint | Blend, settings: dict[str, Any]) -> Predictor:
    """What reads texts, by those of the settings that are for it; they are taken out."""
    from charrnn.search.predictor import Predictor

    return Predictor(model, settings.pop("precision", "float32"), settings.pop("threads", None))


def offers(model: AnyModel | None = None, precision: WeightPrecision = "float32") -> Offers:
    """What the model offers to somebody who writes by hand.

    Raises:
        CheckpointError: the model cannot be loaded.
    """
    from charrnn.search.suggestions import Offers

    return Offers(_loaded(model), precision)


def fill(model: AnyModel | None, pattern: str, *, count: int = 10, **settings: Any) -> list[Filling]:
    """The `count` most probable texts that fit a pattern with gaps, such as "the q???k brown ___".

    `settings` are `precision`, `threads` and those of charrnn.search.infilling.fill, which says what a
    pattern is and what raises what.
    """
    from charrnn.search.infilling import fill as search

    loaded = _loaded(model)
    return search(_predictor(loaded, settings), _own(loaded, pattern), count=count, **settings)


def evaluate(
    model: Checkpoint | str | Path,
    corpus: Paths,
    *,
    text: TextConfig | None = None,
    on_unknown: OnUnknown = "error",
    dynamic: DynamicConfig | None = None,
    threads: int | None = None,
    report: Callable[[str, float], None] = lambda what, share: None,
    note: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """The loss over a text, which is read as the model's own corpus was, but in UTF-8; or as `text` says.

    It is brought to the normal form of that corpus. `note` is told what reading changed or left out.
    With `dynamic` the result is a dynamic_evaluation.DynamicEvaluation, which also has the loss of a network
    that adapts to the text. `report` is told some times a second what is being done, "reading" or then
    "adapting", and what share of that is done.

    Raises:
        CheckpointError, CorpusError, VocabularyError: what cannot be read.
    """
    from charrnn.tasks.evaluation import evaluate as evaluate_documents

    checkpoint = _checkpoint(model)
    own = checkpoint.text.of_commands() if text is None else text
    found = read(
        _paths(corpus), own,
        vocabulary=checkpoint.vocabulary, on_unknown=on_unknown, expected=checkpoint.text.encoding,
    )  # fmt: skip
    for line in found.notes:
        note(line)
    documents = found.documents
    network = _model(checkpoint, threads)
    count = len(documents)
    result = evaluate_documents(network, documents, report=lambda done: report("reading", done / count))
    assert result is not None  # nothing asked it to stop
    if dynamic is not None:
        from charrnn.tasks.dynamic_evaluation import DynamicEvaluation, dynamic_loss

        adapting = dynamic_loss(network, documents, dynamic, lambda done: report("adapting", done / count))
        return DynamicEvaluation(result.loss, result.characters, adapting)
    return result


def score(
    model: Checkpoint | str | Path, text: str, *, on_unknown: OnUnknown = "error", threads: int | None = None
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """How surprising each character of a text is to the model: -log p in nats, (characters,).

    The characters are those of the text in the normal form of the model's corpus.
    A model of lines reads each line as a text of its own; the end of an empty one, which training leaves out,
    costs nothing.

    Raises:
        CheckpointError: the model cannot be loaded.
        VocabularyError: the text holds a character that the model has never seen.
    """
    from charrnn.tasks.evaluation import surprises
    from charrnn.text.decoding import empty_lines

    checkpoint = _checkpoint(model)
    vocabulary = checkpoint.vocabulary
    ids = vocabulary.encode(_own(checkpoint, text), on_unknown)
    line_end = vocabulary.characters.index("\n") if checkpoint.text.lines else -1
    starts = np.zeros(min(1, len(ids)), np.int64)
    losses = surprises(_model(checkpoint, threads), Documents(ids, len(vocabulary), starts, line_end))
    if checkpoint.text.lines:
        losses[empty_lines(ids, line_end, at_line_start=True)] = 0
    return losses


def score_lines(
    model: Checkpoint | str | Path | None,
    corpus: Paths,
    *,
    unknown_bits: float = UNKNOWN_BITS,
    precision: WeightPrecision = "float32",
    threads: int | None = None,
    before_waiting: Callable[[], None] = lambda: None,
    text: TextConfig | None = None,
) -> Iterator[list[LineScore]]:
    """How surprising each line is, as a text of its own, in lists of as many lines as have come meanwhile.

    Memory does not depend on how many lines there are, nor on how long they are. See surprisal for what
    is counted. Nothing in the text stops it: bytes that are no text, and characters that the model has never
    seen, count as `unknown_bits` each. In bfloat16 it is quicker, on CPUs that have it, and less exact.
    The text is read as `evaluate` reads it. `before_waiting` is called whenever the next line has not come
    yet: flush there what you wrote.

    Raises:
        CheckpointError: the model cannot be loaded.
        ConfigError: this CPU has no instructions for the precision.
        CorpusError: a file cannot be read, or is of a kind that is no text.
    """
    from charrnn.scoring import surprisal
    from charrnn.text import lines

    checkpoint = _checkpoint(model)
    scorer = surprisal.Scorer(
        checkpoint, threads=threads, unknown_bits=_unknown_bits(unknown_bits), precision=precision
    )
    return surprisal.score_lines(
        scorer,
        lines.read_lines(_paths(corpus), text or checkpoint.text.of_commands(), scorer.most, before_waiting),
    )


def surprises(
    model: Checkpoint | str | Path | None,
    corpus: Paths,
    *,
    unknown_bits: float = UNKNOWN_BITS,
    threads: int | None = None,
    before_waiting: Callable[[], None] = lambda: None,
    text: TextConfig | None = None,
) -> Iterator[tuple[str, str, np.ndarray[Any, np.dtype[np.float64]]]]:
    """Each file's name, text and -log2 p of each of its characters, (n,), piece by piece as it comes.

    The text is read as `evaluate` reads it: every character given all those before it in its document, which
    is the file, or the line for a model of lines. `before_waiting`: see `score_lines`.

    Raises:
        CheckpointError: the model cannot be loaded.
        CorpusError: a file cannot be read, or is of a kind that is no text.
    """
    from charrnn.scoring import surprisal
    from charrnn.text import lines

    checkpoint = _checkpoint(model)
    scorer = surprisal.Scorer(checkpoint, threads=threads, unknown_bits=_unknown_bits(unknown_bits))
    stream, normaliser = surprisal.Stream(scorer), Normaliser(scorer.form)
    reads = text or checkpoint.text.of_commands()
    for name, piece in lines.read_texts(_paths(corpus), reads, surprisal.WINDOW, before_waiting):
        if own := normaliser.add(piece or "", last=piece is None):
            yield name, own, stream.bits(own)
        if piece is None:
            stream = surprisal.Stream(scorer)


def next_characters(
    model: AnyModel | None = None,
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
    from charrnn.search import prediction

    checkpoint = _loaded(model)
    prompt = _own(checkpoint, prompt)
    return prediction.next_characters(checkpoint, prompt, temperature=temperature, on_unknown=on_unknown)


def classify(
    models: Sequence[Checkpoint | str | Path],
    corpus: Paths,
    *,
    prior: Sequence[float] | None = None,
    unknown_bits: float = UNKNOWN_BITS,
    threads: int | None = None,
    before_waiting: Callable[[], None] = lambda: None,
    encoding: str | None = None,
    encoding_errors: EncodingErrors | None = None,
) -> Iterator[list[LineClass]]:
    """Which model's text each line is, in lists of as many lines as have come meanwhile.

    `prior` has a positive weight for each model; None: all alike. `before_waiting`: see `score_lines`. The
    text is UTF-8 unless another encoding is given.

    Raises:
        CheckpointError: a model cannot be loaded.
        ConfigError: there are fewer than two models, or the prior does not fit them.
        CorpusError: a file cannot be read, or is of a kind that is no text.
    """
    from charrnn.scoring import classification, surprisal
    from charrnn.text import lines

    if len(models) < 2:
        raise ConfigError("there is nothing to choose between", "give two models or more, each with -m")
    weights = [1.0] * len(models) if prior is None else [float(weight) for weight in prior]
    if len(weights) != len(models):
        raise ConfigError(
            f"the prior has {len(weights)} numbers for {len(models)} models", "give one for each model"
        )
    if not all(0 < weight < float("inf") for weight in weights):
        raise ConfigError("the prior holds a number that is not above 0", "give positive numbers")
    checkpoints = [_checkpoint(model) for model in models]
    unknown_bits = _unknown_bits(unknown_bits)
    scorers = [
        surprisal.Scorer(checkpoint, threads=threads, unknown_bits=unknown_bits) for checkpoint in checkpoints
    ]
    text = classification.common_text(scorers).of_commands(encoding, encoding_errors)
    return classification.classify_lines(
        scorers,
        [weight / sum(weights) for weight in weights],
        lines.read_lines(_paths(corpus), text, scorers[0].most, before_waiting),
    )


def compress(
    model: Checkpoint | str | Path | None,
    chunks: Iterable[bytes],
    *,
    threads: int | None = None,
    report: Callable[[int], None] = lambda done: None,
) -> Iterator[bytes]:
    """Any bytes, in pieces, as a file that `decompress` makes them from again, in pieces.

    The file is smaller the better the model predicts the text. It depends on the model and the bytes alone.
    `report` is told some times a second, by any thread, how many bytes are done.

    Raises:
        CheckpointError: the model cannot be loaded.
    """
    from charrnn.scoring import compression

    return compression.compress(_checkpoint(model), chunks, threads, report)


def decompress(
    model: Checkpoint | str | Path | None,
    chunks: Iterable[bytes],
    *,
    threads: int | None = None,
    report: Callable[[int], None] = lambda done: None,
) -> Iterator[bytes]:
    """The bytes, in pieces, each checked before it is given out. `report` is told as by `compress`.

    Raises:
        CheckpointError: the model cannot be loaded.
        CompressionError: it is no file of `compress`, is damaged or cut short, or needs another model.
    """
    from charrnn.scoring import compression

    return compression.decompress(_checkpoint(model), chunks, threads, report)


def _unknown_bits(value: float) -> float:
    if not 0 <= value <= MOST_UNKNOWN_BITS:
        raise ConfigError(f"unknown-bits is {value}", f"give a number from 0 to {MOST_UNKNOWN_BITS:,}")
    return value


def _paths(corpus: Paths) -> list[str | Path]:
    return [corpus] if isinstance(corpus, (str, Path)) else list(corpus)


def _model(checkpoint: Checkpoint, threads: int | None) -> Model:
    from charrnn.nn.network import Model
    from charrnn.nn.workers import Workers

    model = Model(checkpoint.config, workers=Workers(threads))
    model.load_tensors(checkpoint.tensors)
    return model


def train(
    corpus: Paths,
    *,
    out: str | Path | None = None,
    text: TextConfig = TextConfig(),  # noqa: B008 (frozen)
    val: Paths = (),
    resume: bool = False,
    init_from: str | Path | None = None,
    force: bool = False,
    threads: int | None = None,
    keep_models: int = 0,
    stop: Callable[[], str | None] = lambda: None,
    previews: bool = False,
    **settings: Any,
) -> Generator[Event, None, None]:
    """Train on a corpus; yields what happens. The file `out` always holds the best model so far.

    `settings` are fields of ModelConfig (but vocab_size) and TrainConfig; what is absent or None is chosen
    to suit the corpus. `val` is a text of its own whose loss says which model is the best; without it, a part
    of the corpus is kept for that. `keep_models` is how many of the models evaluated last are kept as well,
    in a folder beside `out`. `stop` is asked after each step: when it returns a text, the run is saved and
    ends. `previews` asks for a sample of what the network writes by now, every ten seconds.
    `resume` goes on with the interrupted run that wrote `out`; `init_from` starts from another model's
    weights, its vocabulary grown by the corpus's characters.

    Raises:
        ConfigError: a setting is out of range or contradicts another; `out` is a file of the corpus.
        CorpusError: the corpus cannot be read.
        CheckpointError: a model file cannot be read, or another would be overwritten.
        SaveError: the model file cannot be written, at the beginning or still at the end; in between that
            is an event, Unsaved.
        TrainingError: the loss is no longer a number; somebody else is training into the same file.
    """
    from charrnn.nn.compilation import Helper
    from charrnn.training.run_setup import Request, prepare

    request = Request(
        _paths(corpus), None if out is None else Path(out), text, settings, _paths(val), resume, init_from,
        force, threads, keep_models, previews,
    )  # fmt: skip
    with contextlib.ExitStack() as held:
        helper = held.enter_context(Helper())
        run, started = yield from prepare(request, stop=stop, helper=helper, held=held)
        yield started
        yield from run.events()


def training_files(
    corpus: Paths,
    out: str | Path | None = None,
    init_from: str | Path | None = None,
    val: Paths = (),
) -> list[tuple[str, Path | int]]:
    """What `train` reads and writes: what each file is, and its path, or the descriptor of standard input.

    Whoever writes more than `train` does can see that it is none of these.

    Raises:
        CorpusError: a path names nothing that can be read.
    """
    from charrnn.training.run_setup import corpus_files, model_path

    paths = _paths(corpus)
    model = model_path(paths, None if out is None else Path(out))
    written: list[tuple[str, Path | int]] = [
        ("the model file", model),
        ("the file that --resume needs", files.resume_path(model)),
    ]
    initial = [] if init_from is None else [("the model to start from", Path(init_from))]
    return [*written, *initial, *corpus_files(paths, _paths(val))]
