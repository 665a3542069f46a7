"""Training knows tasks and networks by their interfaces: one of each that charrnn does not have.

The task is to copy: a word, a TAB, and the same word again. Only what comes after the TAB counts. The network
is as simple as one can be: it knows how frequent characters are.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint, resume_path
from charrnn.config import Kind, ModelConfig, TextConfig, TrainConfig, to_dict
from charrnn.errors import CheckpointError, ConfigError, TrainingError
from charrnn.events import Evaluated, Event, Finished, Indexing, Measure, Sampled, Started, Step
from charrnn.nn.learning.learner import Learner
from charrnn.nn.network import Model, initial_tensors
from charrnn.nn.parameters import Array
from charrnn.nn.workers import Workers
from charrnn.tasks.evaluation import Evaluation
from charrnn.tasks.task import Material
from charrnn.text.corpus import Corpus
from charrnn.text.documents import Inputs
from charrnn.text.reading import read
from charrnn.training.request import Request, Target
from charrnn.training.run import Run
from charrnn.training.run_files import Outputs
from charrnn.training.run_setup import set_up
from charrnn.vocabulary import Vocabulary

LETTERS, LENGTH = "abcd", 3
SETTINGS: dict[str, Any] = {
    "hidden_size": 12,
    "num_layers": 1,
    "embedding_size": 4,
    "batch_size": 8,
    "dropout": 0.1,
}


# --- a task ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WordFile:
    """Words of LENGTH letters, one a line."""

    path: Path
    name = "copying"
    judged_apart = False
    kind: ClassVar[Kind] = "writer"

    def check(self, settings: Mapping[str, Any]) -> None:
        if "seq_len" in settings:
            raise ConfigError("copying has windows of its own", "leave out --seq-len")

    def files(self) -> list[tuple[str, Path | int]]:
        return [("the words", self.path)]

    def read(self, text: TextConfig) -> Words:
        corpus = read([self.path], replace(text, lines=True))
        return Words(corpus, different=len(corpus.vocabulary)).within(
            corpus.vocabulary.merged(Vocabulary("\t"))
        )


@dataclass(frozen=True)
class Words(Material):
    def fingerprint(self) -> str:
        return f"copying {self.corpus.fingerprint()}"

    def begin(
        self, model: ModelConfig, train: TrainConfig, initial: Checkpoint | None, workers: Workers
    ) -> tuple[Copying, Learner]:
        network = Model(model, workers=workers)
        network.load_tensors(initial_tensors(model, train.seed) if initial is None else initial.tensors)
        return Copying(self.corpus, train), Learner(network, train, train.batch_size)


class Copying:
    """Batches of B words, each followed by itself: T = 2 LENGTH + 2. An epoch has all words once."""

    preview: Callable[[Checkpoint], str] | None = None
    measured_on: Measure = "validation"

    def __init__(self, corpus: Corpus, train: TrainConfig) -> None:
        characters = corpus.vocabulary.characters
        self.words = corpus.documents.ids.reshape(-1, LENGTH + 1)[:, :LENGTH].astype(np.int32)
        self.tab, self.end, self.start = characters.index("\t"), characters.index("\n"), len(characters)
        kept = len(self.words) // 8
        self.learned, self.kept = self.words[kept:], self.words[:kept]
        self.seed, self.B = train.seed, train.batch_size
        self.batches = len(self.learned) // self.B
        self.batch_characters = self.B * (2 * LENGTH + 2)
        self.characters, self.val_characters = self.learned.size, self.kept.size
        self.measured_characters = self.kept.size

    def windows(self, words: Array) -> Inputs:
        B = len(words)
        tab, end, start = (np.full((1, B), n, np.int32) for n in (self.tab, self.end, self.start))
        y = np.concatenate([words.T, tab, words.T, end])
        x = np.concatenate([start, y[:-1]])
        return x, y, x == self.start

    def batch(self, epoch: int, k: int) -> Inputs:
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.learned))
        return self.windows(self.learned[order[k * self.B : (k + 1) * self.B]])

    def evaluate(self, network: Any, stop: Callable[[], object]) -> Evaluation | None:
        if stop():
            return None
        x, y, reset = self.windows(self.kept)
        losses, _ = network.model.losses(x, y, None, reset)
        return Evaluation(float(losses[LENGTH + 1 : -1].mean(dtype=np.float64)), self.measured_characters)

    def finished(self, model: Checkpoint) -> Checkpoint:
        return model

    def describe(self, model: Checkpoint) -> Generator[tuple[int, int], None, Checkpoint]:
        yield 0, 1
        return model

    def warnings(self, *, chosen: bool) -> Iterator[str]:
        yield "words are short"


# --- a network -------------------------------------------------------------------------------------


class Frequencies:
    """Learns the decoder's bias alone, by plain steps along the gradient. Its carry counts the batches."""

    def __init__(self, config: ModelConfig) -> None:
        self.updates, self.model = 0, self  # whom the task asks for losses
        self.weights = {
            name: np.zeros(shape, np.float32) for name, shape in config.parameter_shapes().items()
        }
        self.bias = self.weights["decoder.bias"]
        self.carried: list[int] = []

    def compile(self) -> Iterator[tuple[int, int, bool]]:
        yield 0, 0, False

    def train_step(
        self, batch: Inputs, carry: int | None, rate: float, step: int
    ) -> tuple[float, float, int]:
        _, y, _ = batch
        counts = np.bincount(y.ravel(), minlength=len(self.bias))
        loss = float(self.losses(None, y).mean())
        gradient = np.exp(self.bias - np.logaddexp.reduce(self.bias)) - counts / y.size
        self.bias -= np.float32(100 * rate) * gradient.astype(np.float32)
        self.updates += 1
        self.carried.append(carry or 0)
        return loss, float(np.linalg.norm(gradient)), (carry or 0) + 1

    def losses(self, x: object, y: Array, state: object = None, reset: object = None) -> Any:
        losses = (np.logaddexp.reduce(self.bias) - self.bias)[y]
        return losses if x is None else (losses, None)

    def exchange(self) -> bool:
        return True

    def averaged(self) -> nullcontext[None]:
        return nullcontext()

    def is_finite(self) -> bool:
        return bool(np.isfinite(self.bias).all())

    def tensors(self) -> dict[str, Array]:
        return {name: value.copy() for name, value in self.weights.items()}

    def state_dict(self, carry: int | None) -> dict[str, Array]:
        return {"bias": self.bias, "carry": np.array([carry or 0])}

    def load_state_dict(self, tensors: Mapping[str, Array], updates: int) -> int:
        self.bias[:] = tensors["bias"]
        self.updates = updates
        return int(tensors["carry"][0])


# --- runs ------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def report_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charrnn.training.run.REPORT_SECONDS", 0.0)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    letters = np.random.default_rng(3).choice(list(LETTERS), (200, LENGTH))
    path = tmp_path / "words.txt"
    path.write_text("".join("".join(word) + "\n" for word in letters))
    return path


def train(
    words: Path, out: Path, stop_at: int | None = None, target: Target | None = None, **settings: Any
) -> list[Event]:
    """All events of a run, which is told to stop after a step."""
    target = replace(target or Target(), out=out)
    request = Request(WordFile(words), target=target, settings=settings, threads=2)
    found: list[Event] = []

    def stop() -> str | None:
        return "enough" if found and isinstance(found[-1], Step) and found[-1].step == stop_at else None

    with ExitStack() as held:
        setup = set_up(request, stop=stop, held=held)
        while True:
            try:
                found.append(next(setup))
            except StopIteration as end:
                run, started = end.value
                break
        found.append(started)
        for event in run.events():
            found.append(event)
    return found


def test_another_task_is_trained_measured_and_kept_as_it_says(words: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    started, *events = train(words, out, steps=400, learning_rate=0.02, **SETTINGS)
    assert isinstance(started, Started)
    assert (started.train_characters, started.val_characters) == (175 * LENGTH, 25 * LENGTH)
    assert started.notes == ("words are short",)
    evaluated = [event for event in events if isinstance(event, Evaluated)]
    assert (
        min(event.val_loss for event in evaluated) < 0.5 < np.log(len(LETTERS)) < evaluated[0].val_loss + 0.3
    )
    assert any(isinstance(event, Indexing) for event in events)
    assert not any(isinstance(event, Sampled) for event in events)
    best = model_file.load(out)
    assert best.best_val_loss == min(event.val_loss for event in evaluated)
    assert set(best.vocabulary.characters) == {*LETTERS, "\t", "\n"}
    # The file's model, measured once more, has that loss; over all characters it would be another.
    task = Copying(started.corpus, started.train)
    network = Model(best.config)
    network.load_tensors(best.tensors)
    learner = Learner(network, started.train, 8)
    again = task.evaluate(learner, lambda: None)
    assert again is not None
    assert again.loss == best.best_val_loss
    x, y, reset = task.windows(task.kept)
    assert network.losses(x, y, None, reset)[0].mean() > 1.5 * again.loss


@pytest.mark.parametrize("step", [1, 20, 21, 37, 59])  # an epoch has 21
def test_another_task_goes_on_bit_for_bit_after_an_interruption(
    words: Path, tmp_path: Path, step: int
) -> None:
    straight, out = tmp_path / "straight.safetensors", tmp_path / "m.safetensors"
    settings = {**SETTINGS, "steps": 60, "evaluations": 4}
    train(words, straight, **settings)
    interrupted = train(words, out, step, **settings)[-1]
    assert isinstance(interrupted, Finished)
    assert (interrupted.reason, interrupted.step) == ("interrupted", step)
    with pytest.raises(TrainingError, match=f"interrupted at step {step}"):
        train(words, out, **settings)
    started, *_, finished = train(words, out, target=Target(resume=True))
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    assert (started.resumed_step, finished.reason) == (step, "budget")
    assert out.read_bytes() == straight.read_bytes()
    assert not resume_path(out).exists()


def test_another_task_is_set_up_as_every_other(words: Path, tmp_path: Path) -> None:
    """Its own words on what contradicts it; the same run again, another one, and --force."""
    out, settings = tmp_path / "m.safetensors", {**SETTINGS, "steps": 5}
    with pytest.raises(ConfigError, match="windows of its own"):
        train(words, out, seq_len=3, **settings)
    with pytest.raises(ConfigError, match=r"is a folder: .*copying\.safetensors"):
        train(words, tmp_path, **settings)
    train(words, out, **settings)
    before = out.read_bytes()
    train(words, out, **settings)
    assert out.read_bytes() == before
    words.write_text(words.read_text()[: -4 * 8])
    with pytest.raises(CheckpointError, match="another model"):
        train(words, out, **settings)
    train(words, out, target=Target(force=True), **settings)
    assert out.read_bytes() != before


def run_of(words: Path, out: Path, stop: Callable[[int], bool]) -> tuple[Run, Frequencies]:
    material = WordFile(words).read(TextConfig())
    corpus, settings = material.corpus, TrainConfig(steps=45, batch_size=8, evaluations=3)
    config = ModelConfig(len(corpus.vocabulary), hidden_size=2, embedding_size=2, num_layers=1)
    network = Frequencies(config)
    model = Checkpoint(config, corpus.vocabulary, corpus.text, {}, settings=to_dict(settings))
    run = Run(
        Copying(corpus, settings), network, settings, model, Outputs(out),
        stop=lambda: "enough" if stop(network.updates) else None,
    )  # fmt: skip
    return run, network


@pytest.mark.parametrize("step", [1, 21, 30])
def test_another_network_learns_and_goes_on_bit_for_bit(words: Path, tmp_path: Path, step: int) -> None:
    straight, out = tmp_path / "straight.safetensors", tmp_path / "m.safetensors"
    run, whole = run_of(words, straight, lambda updates: False)
    *_, finished = run.events()
    assert isinstance(finished, Finished)
    assert finished.best_val_loss < np.log(6)  # letters are more frequent than TAB and line end
    assert whole.carried[19:23] == [19, 20, 0, 1]  # an epoch begins without a carry
    run, first = run_of(words, out, lambda updates: updates == step)
    list(run.events())
    run, second = run_of(words, out, lambda updates: False)
    run.resume(*model_file.load_resume(resume_path(out)))
    list(run.events())
    assert first.carried + second.carried == whole.carried
    assert out.read_bytes() == straight.read_bytes()
