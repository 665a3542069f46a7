"""Training runs: what they write, how they end, and that a resumed run is the run itself."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import resume_path
from charrnn.config import TextConfig, TrainConfig
from charrnn.errors import CheckpointError, ConfigError, TrainingError
from charrnn.events import Evaluated, Finished, Indexing, Saved, Started, Step, Unsaved
from charrnn.nn.cells import learning
from charrnn.nn.network import Model
from charrnn.tasks import next_character
from charrnn.tasks.evaluation import evaluate
from charrnn.tasks.next_character import NextCharacters, Texts
from charrnn.text.corpus import Corpus
from charrnn.text.reading import read

TEXT = "she sells sea shells by the sea shore, and the shells she sells are sea shells.\n" * 40
SMALL = {"hidden_size": 12, "num_layers": 2, "batch_size": 4, "seq_len": 10, "dropout": 0.1, "counts": 0.0}


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "shells.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def train(corpus, out, **settings):
    """All events of a run."""
    return list(api.train(corpus, out=out, **{**SMALL, **settings}))


def stop_after(step, events):
    """Events until a Step at or after `step` was seen; then the run is told to stop."""
    asked = []
    run = events(lambda: "SIGINT" if asked else None)
    found = []
    for event in run:
        found.append(event)
        if isinstance(event, Step) and event.step >= step:
            asked.append(True)
    return found


@pytest.fixture(autouse=True)
def report_every_step(monkeypatch):
    monkeypatch.setattr("charrnn.training.run.REPORT_SECONDS", 0.0)


def test_a_run_tells_its_story_in_order(corpus, tmp_path):
    out = tmp_path / "m.safetensors"
    events = train(corpus, out, steps=40, evaluations=4)
    started, finished = events[0], events[-1]
    assert isinstance(started, Started)
    assert started.train_characters + started.val_characters == len(TEXT)
    assert [e.step for e in events if isinstance(e, Step)] == list(range(1, 41))
    evaluations = [e for e in events if isinstance(e, Evaluated)]
    assert evaluations[-1].step == 40
    assert all(e.measured_on == "validation" for e in evaluations)
    assert isinstance(finished, Finished)
    assert finished.reason == "budget"
    assert finished.checkpoint == out
    assert finished.best_val_loss == min(e.val_loss for e in evaluations)
    saved = model_file.load(out)
    assert saved.best_val_loss == finished.best_val_loss
    assert finished.parameters == saved.config.num_parameters
    assert not resume_path(out).exists()


def test_training_learns(corpus, tmp_path):
    events = train(corpus, tmp_path / "m.safetensors", steps=250, hidden_size=32, dropout=0.0)
    assert next(e for e in events if isinstance(e, Step)).train_loss > 2.0
    assert events[-1].best_val_loss < 0.3


def test_the_model_file_holds_the_best_so_far(corpus, tmp_path):
    out = tmp_path / "m.safetensors"
    best = np.inf
    settings = {"steps": 60, "evaluations": 6, "learning_rate": 0.3, "val_split": "end"}
    for event in api.train(corpus, out=out, **SMALL, **settings):
        if isinstance(event, Evaluated):
            best = min(best, event.val_loss)
        if isinstance(event, Saved) and event.kind == "model":
            assert model_file.load(out).best_val_loss == event.val_loss == best
    written = model_file.load(out)
    assert written.best_val_loss == best
    result = api.evaluate(written, _validation_file(corpus, tmp_path))
    assert result.loss == pytest.approx(best, abs=1e-6)


def test_a_run_evaluates_and_keeps_averaged_weights_and_resumes_with_both(corpus, tmp_path):
    settings = {"steps": 30, "evaluations": 3, "average": 0.5, "val_split": "end"}
    out, resumed, last = (tmp_path / f"{name}.safetensors" for name in ("m", "resumed", "last"))
    best = min(event.val_loss for event in train(corpus, out, **settings) if isinstance(event, Evaluated))
    train(corpus, last, **{**settings, "average": 0.0})
    written = model_file.load(out)
    assert api.evaluate(written, _validation_file(corpus, tmp_path)).loss == pytest.approx(best, abs=1e-6)
    assert written.tensors["decoder.bias"].tolist() != model_file.load(last).tensors["decoder.bias"].tolist()
    for step in (10, 17):
        stop_after(step, lambda stop: api.train(corpus, out=resumed, stop=stop, **SMALL, **settings))
        list(api.train(corpus, out=resumed, resume=True))
        assert resumed.read_bytes() == out.read_bytes()
        resumed.unlink()


def _validation_file(corpus, tmp_path):
    text = corpus.read_text(encoding="utf-8")
    path = tmp_path / "validation.txt"
    path.write_text(text[len(text) - round(0.1 * len(text)) :], encoding="utf-8")
    return path


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("cell", learning())
def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(corpus, tmp_path, cell, lines):
    settings = {"steps": 30, "evaluations": 3, "cell": cell, "text": TextConfig(lines=lines)}
    straight = tmp_path / "straight.safetensors"
    train(corpus, straight, **settings)
    expected = straight.read_bytes()
    for step in (1, 9, 10, 11, 29):
        out = tmp_path / f"{step}.safetensors"
        events = stop_after(
            step, lambda stop, out=out: api.train(corpus, out=out, stop=stop, **SMALL, **settings)
        )
        assert events[-1].reason == "interrupted"
        assert events[-1].step == step
        events = list(api.train(corpus, out=out, resume=True))
        assert events[0].resumed_step == step
        assert events[-1].reason == "budget"
        assert out.read_bytes() == expected


@pytest.mark.parametrize("step", [0, 3])
def test_a_run_stops_while_it_makes_its_index_and_resumes_to_the_same_bytes(
    corpus, tmp_path, monkeypatch, step
):
    settings = {**SMALL, "steps": 12, "evaluations": 2}
    straight, out = tmp_path / "straight.safetensors", tmp_path / "m.safetensors"
    train(corpus, straight, **settings)
    if step:
        stop_after(step, lambda stop: api.train(corpus, out=out, stop=stop, **settings))
    asked, real = [], Corpus.novelty

    def interrupted(self):
        asked.append(True)
        return real(self)

    monkeypatch.setattr(Corpus, "novelty", interrupted)
    stopped = api.train(
        corpus, out=out, resume=bool(step), stop=lambda: "SIGINT" if asked else None, **settings
    )
    events = list(stopped)
    assert (events[-1].reason, events[-1].step) == ("interrupted", step)
    assert not any(isinstance(event, Evaluated | Step) for event in events)
    monkeypatch.undo()
    list(api.train(corpus, out=out, resume=bool(step), **settings))
    assert out.read_bytes() == straight.read_bytes()


def test_a_run_killed_after_its_last_evaluation_takes_no_further_step(corpus, tmp_path):
    straight, out = tmp_path / "straight.safetensors", tmp_path / "m.safetensors"
    train(corpus, straight, steps=20)
    events = api.train(corpus, out=out, **SMALL, steps=20)
    for event in events:
        if isinstance(event, Saved) and (event.kind, event.step) == ("resume", 20):
            break  # all is evaluated and saved; the resume file is still there
    events.close()
    finished = list(api.train(corpus, out=out, resume=True))[-1]
    assert (finished.reason, finished.step) == ("budget", 20)
    assert out.read_bytes() == straight.read_bytes()


def test_a_run_can_be_interrupted_many_times(corpus, tmp_path):
    straight, out = tmp_path / "straight.safetensors", tmp_path / "m.safetensors"
    train(corpus, straight, epochs=0.5)
    reason, step, settings = "interrupted", 0, {**SMALL, "epochs": 0.5}
    while reason == "interrupted":
        step += 3
        run = functools.partial(api.train, corpus, out=out, resume=True, **settings)
        events = stop_after(step, lambda stop, run=run: run(stop=stop))
        reason, settings = events[-1].reason, {}
    assert step > 9
    assert out.read_bytes() == straight.read_bytes()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_run_resumes_to_the_same_bytes(corpus, tmp_path):
    settings = [
        "--steps", "80", "--hidden-size", "12", "--batch-size", "4", "--seq-len", "10", "--seed", "3",
    ]  # fmt: skip
    base = [sys.executable, "-m", "charrnn", "train", str(corpus), "-q", "--json", *settings]
    straight, out = tmp_path / "straight.safetensors", tmp_path / "m.safetensors"
    whole = subprocess.run([*base, "-o", str(straight)], check=True, timeout=120, capture_output=True)
    events = whole.stdout.count(b"\n")
    killed, rng = 0, np.random.default_rng(5)
    for share in rng.uniform(0.1, 0.6, 2):
        with subprocess.Popen([*base, "-o", str(out), "--resume"], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(max(1, int(events * share))):
                process.stdout.readline()
            time.sleep(rng.uniform(0, 0.02))  # not only right after an event
            process.kill()
        killed += process.returncode == -signal.SIGKILL
    assert killed
    subprocess.run([*base, "-o", str(out), "--resume"], check=True, timeout=120, capture_output=True)
    assert out.read_bytes() == straight.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir() if "m." in p.name) == ["m.safetensors"]


@pytest.mark.parametrize("cell", learning())
def test_any_number_of_threads_writes_the_same_bytes(corpus, tmp_path, cell):
    files = []
    for threads in (1, 2, 3):
        out = tmp_path / f"{threads}.safetensors"
        train(corpus, out, steps=20, threads=threads, cell=cell)
        files.append(out.read_bytes())
    assert files[0] == files[1] == files[2]


def test_the_seed_decides(corpus, tmp_path):
    files = []
    for seed in (1, 1, 2):
        out = tmp_path / "m.safetensors"
        train(corpus, out, steps=10, seed=seed, force=True)
        files.append(out.read_bytes())
    assert files[0] == files[1] != files[2]


def test_validation_text_never_reaches_training(tmp_path, monkeypatch):
    """A character that stands only in the validation text is never an input nor a target."""
    path = tmp_path / "c.txt"
    path.write_text("abcdefgh\n" * 300 + "Z" * 270, encoding="utf-8")
    seen = set()
    gradient = Model.gradient

    def watched(self, x, y, *args, **options):
        seen.update(np.unique(x).tolist(), np.unique(y).tolist())
        return gradient(self, x, y, *args, **options)

    monkeypatch.setattr(Model, "gradient", watched)
    events = train(path, tmp_path / "m.safetensors", epochs=3, val_split="end")
    vocabulary = events[0].corpus.vocabulary
    assert events[0].val_characters >= 270
    assert vocabulary.characters.index("Z") not in seen
    assert {vocabulary.characters.index(c) for c in "abcdefgh\n"} <= seen


def test_it_stops_early_when_validation_gets_worse(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "noise.txt"
    path.write_text("".join(rng.choice(list("abcdefghij"), 3000)), encoding="utf-8")
    events = train(
        path, tmp_path / "m.safetensors", steps=5000, hidden_size=64, dropout=0.0, patience=3,
        evaluations=100, learning_rate=0.01, weight_decay=0.0,
    )  # fmt: skip
    finished = events[-1]
    assert finished.reason == "early-stop"
    assert "validation loss has not improved since step" in finished.message
    assert finished.step < 5000
    evaluated = [e for e in events if isinstance(e, Evaluated)]
    model = model_file.load(finished.checkpoint)
    best = min(e.val_loss for e in evaluated)
    assert model.best_val_loss == best
    # The model is the best one; its history is that of the whole run.
    assert [row["val_loss"] for row in model.history] == [e.val_loss for e in evaluated]
    assert model.history[-1]["val_loss"] > best


def test_it_stops_when_there_is_nothing_left_to_learn(tmp_path):
    path, out = tmp_path / "a.txt", tmp_path / "m.safetensors"
    path.write_text("a" * 5000, encoding="utf-8")
    finished = train(path, out, epochs=40, learning_rate=0.01)[-1]
    assert finished.reason == "early-stop"
    assert "validation loss is 0.0000, as low as it gets" in finished.message
    assert finished.epoch < 39


def test_it_stops_when_the_loss_stays_what_it_is(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "charrnn.tasks.next_character.evaluate", lambda *args: replace(evaluate(*args), loss=1.5)
    )
    settings = {"steps": 40, "evaluations": 10, "patience": 3}
    finished = train(corpus, tmp_path / "m.safetensors", **settings)[-1]
    assert (finished.reason, finished.step) == ("early-stop", 16)
    assert "has not improved since step 4" in finished.message


def test_a_loss_that_is_no_number_stops_and_says_what_to_change(corpus, tmp_path, monkeypatch):
    out = tmp_path / "m.safetensors"
    gradient = Model.gradient

    def broken(self, *args, **options):
        loss, state = gradient(self, *args, **options)
        broken.calls += len(args) > 2  # or else it is called to be compiled
        return (np.nan if broken.calls == broken.at else loss), state

    monkeypatch.setattr(Model, "gradient", broken)
    broken.calls, broken.at = 0, 25
    with pytest.raises(TrainingError, match=r"step 25; the best model so far is in .*: try a --lr below"):
        train(corpus, out, steps=40, evaluations=4)
    assert model_file.load(out).history[-1]["step"] < 25
    broken.calls, broken.at = 0, 3
    with pytest.raises(TrainingError, match="no model was written"):
        train(corpus, tmp_path / "other.safetensors", steps=40, evaluations=4)
    assert not (tmp_path / "other.safetensors").exists()
    assert sorted(p.name for p in tmp_path.glob("*.safetensors")) == ["m.safetensors"]


def test_exploding_training_never_writes_a_model_with_nan(corpus, tmp_path):
    out = tmp_path / "m.safetensors"
    with pytest.raises(TrainingError, match="--lr below 1000"):
        train(
            corpus, out, steps=60, cell="rnn", nonlinearity="relu", norm=False, residual=False,
            learning_rate=1000.0, clip=1e9, warmup=0.0, evaluations=60,
        )  # fmt: skip
    if out.exists():
        model_file.load(out)  # checks that all is finite


def test_weights_that_overflow_while_the_losses_do_not_end_the_run(tmp_path):
    corpus, out = tmp_path / "aa.txt", tmp_path / "m.safetensors"
    corpus.write_text("aa")
    with pytest.raises(TrainingError, match="a weight is no longer a finite number"):
        train(
            corpus, out, text=TextConfig(lines=True), cell="rnn", hidden_size=1, num_layers=1, dropout=0.95,
            embedding_size=0, norm=False, learning_rate=1000.0, weight_decay=1000.0, l1=1000.0, clip=1e9,
            warmup=1.0, batch_size=5, seq_len=1, steps=60, evaluations=3, val_fraction=0.9, seed=1,
        )  # fmt: skip
    assert not resume_path(out).exists()


def test_a_run_that_is_stopped_before_its_first_step_leaves_nothing(corpus, tmp_path):
    out = tmp_path / "models" / "m.safetensors"
    events = list(api.train(corpus, out=out, steps=5, stop=lambda: "SIGINT", **SMALL))
    assert (events[-1].reason, events[-1].step) == ("interrupted", 0)
    assert not out.parent.exists()
    assert train(corpus, out, steps=5)[-1].reason == "budget"


def test_an_interrupted_run_leaves_a_model_even_before_the_first_evaluation(corpus, tmp_path):
    out = tmp_path / "m.safetensors"
    events = stop_after(
        5, lambda stop: api.train(corpus, out=out, stop=stop, **SMALL, steps=500, evaluations=1)
    )
    assert not any(isinstance(e, Evaluated) for e in events)
    assert model_file.load(out).best_val_loss is None
    assert resume_path(out).exists()


def test_another_model_is_not_overwritten_without_force(corpus, tmp_path):
    out = tmp_path / "m.safetensors"
    train(corpus, out, steps=5)
    before = out.read_bytes()
    with pytest.raises(CheckpointError, match="holds another model: choose another file with -o, or"):
        train(corpus, out, steps=6)
    assert out.read_bytes() == before
    train(corpus, out, steps=5)  # the same run again writes the same file
    assert out.read_bytes() == before
    train(corpus, out, steps=6, force=True)
    assert out.read_bytes() != before
    out.write_text("my diary")
    with pytest.raises(CheckpointError, match="holds something else"):
        train(corpus, out, steps=6)
    assert out.read_text() == "my diary"


def test_an_interrupted_run_is_neither_forgotten_nor_mixed_up(corpus, tmp_path):
    out = tmp_path / "m.safetensors"
    stop_after(5, lambda stop: api.train(corpus, out=out, stop=stop, **SMALL, steps=30))
    with pytest.raises(TrainingError, match=r"interrupted at step 5: --resume goes on"):
        train(corpus, out, steps=30)
    with pytest.raises(ConfigError, match=r"hidden-size 13 is not what the interrupted run has, 12"):
        list(api.train(corpus, out=out, resume=True, hidden_size=13))
    with pytest.raises(ConfigError, match="with other options"):
        list(api.train(corpus, out=out, resume=True, text=TextConfig(lines=True)))
    other = tmp_path / "other.txt"
    for text in (TEXT.replace("sea", "tea"), TEXT + "!"):
        other.write_text(text, encoding="utf-8")
        with pytest.raises(TrainingError, match="is not the one"):
            list(api.train(other, out=out, resume=True))
    assert list(api.train(corpus, out=out, resume=True))[-1].reason == "budget"
    with pytest.raises(TrainingError, match=r"is complete: train it further with --init-from"):
        list(api.train(corpus, out=out, resume=True))
    before = out.read_bytes()
    events = train(corpus, out, steps=30, resume=True)  # killed just before its end: nothing is left to do
    assert events[-1].reason == "complete"
    assert events[-1].best_val_loss == model_file.load(out).best_val_loss
    assert out.read_bytes() == before


@pytest.mark.parametrize("changed", [{}, {"hidden_size": 7}, {"seed": 9}])
def test_a_run_that_had_not_made_a_step_is_begun_again_without_a_question(corpus, tmp_path, changed):
    """What is killed while kernels are compiled has written its resume file, and has nothing to lose."""
    out, fresh = tmp_path / "m.safetensors", tmp_path / "fresh.safetensors"
    events = api.train(corpus, out=out, **SMALL, steps=6)
    assert any(isinstance(event, Saved) and event.step == 0 for event in (next(events), next(events)))
    left = resume_path(out).read_bytes()
    events.close()
    resume_path(out).write_bytes(left)
    train(corpus, fresh, **{"steps": 6, **changed})
    assert train(corpus, out, **{"steps": 6, **changed})[-1].reason == "budget"
    assert out.read_bytes() == fresh.read_bytes()
    assert not resume_path(out).exists()


def test_a_run_that_had_not_made_a_step_replaces_no_other_model(corpus, tmp_path):
    out = tmp_path / "m.safetensors"
    train(corpus, out, steps=3)
    before = out.read_bytes()
    events = api.train(corpus, out=out, **SMALL, steps=6, force=True)
    assert any(isinstance(event, Saved) and event.step == 0 for event in (next(events), next(events)))
    left = resume_path(out).read_bytes()
    events.close()
    resume_path(out).write_bytes(left)
    with pytest.raises(CheckpointError, match="holds another model"):
        train(corpus, out, steps=6)
    assert out.read_bytes() == before


def test_a_damaged_resume_file_is_one_clear_error(corpus, tmp_path):
    out = tmp_path / "m.safetensors"
    stop_after(5, lambda stop: api.train(corpus, out=out, stop=stop, **SMALL, steps=30))
    tensors, record = model_file.load_resume(resume_path(out))
    for name in tensors:
        for end in (-1, 1):  # one number could be spread over all
            changed = {**tensors, name: tensors[name].ravel()[:end].copy()}
            model_file.save_resume(resume_path(out), changed, record)
            with pytest.raises(TrainingError, match="does not fit"):
                list(api.train(corpus, out=out, resume=True))
    for key in record.keys() - {"format_version", "kind"}:
        model_file.save_resume(resume_path(out), tensors, {k: v for k, v in record.items() if k != key})
        with pytest.raises((TrainingError, CheckpointError)):
            list(api.train(corpus, out=out, resume=True))


def test_a_resumed_run_whose_model_has_gone_writes_it_again(corpus, tmp_path):
    out = tmp_path / "m.safetensors"
    stop_after(25, lambda stop: api.train(corpus, out=out, stop=stop, **SMALL, steps=30, evaluations=3))
    out.unlink()
    list(api.train(corpus, out=out, resume=True))
    assert model_file.load(out).history[-1]["step"] == 30


@pytest.mark.parametrize("embedding_size", [0, 7])
def test_fine_tuning_matches_characters_and_adds_rows(corpus, tmp_path, embedding_size):
    base, new = tmp_path / "base.safetensors", tmp_path / "new.txt"
    train(corpus, base, steps=20, embedding_size=embedding_size)
    new.write_text("ähnliche Shells, Öl & Ufer.\n" * 30, encoding="utf-8")
    out = tmp_path / "tuned.safetensors"
    events = list(
        api.train(new, out=out, init_from=base, steps=1, batch_size=4, seq_len=10, learning_rate=1e-12)
    )
    old, tuned = model_file.load(base), model_file.load(out)
    assert set(tuned.vocabulary.characters) == set(TEXT) | set(new.read_text(encoding="utf-8"))
    assert events[0].model.hidden_size == 12
    # A step of no size: the old characters' logits are those of the old model.
    text = "sea shells"
    logits = {}
    for name, model in (("old", old), ("tuned", tuned)):
        network = Model(model.config)
        network.load_tensors(model.tensors)
        x = model.vocabulary.encode(text).astype(np.int32)[:, None]
        full = network.forward(x)[0][:, 0]
        logits[name] = full[:, model.vocabulary.encode(old.vocabulary.characters)]
    np.testing.assert_allclose(logits["tuned"], logits["old"], atol=1e-4)


def test_a_fine_tuning_run_resumes_too(corpus, tmp_path):
    base, straight, out = (tmp_path / f"{n}.safetensors" for n in ("base", "straight", "out"))
    train(corpus, base, steps=10)
    new = tmp_path / "new.txt"
    new.write_text("other text, other letters: xyz\n" * 30, encoding="utf-8")
    settings = {"init_from": base, "steps": 12, "batch_size": 4, "seq_len": 10}
    list(api.train(new, out=straight, **settings))
    stop_after(5, lambda stop: api.train(new, out=out, stop=stop, **settings))
    list(api.train(new, out=out, resume=True))
    assert out.read_bytes() == straight.read_bytes()


def test_settings_that_contradict_are_refused(corpus, tmp_path):
    out = tmp_path / "m.safetensors"
    with pytest.raises(ConfigError, match=r"epochs and as steps: give one of"):
        train(corpus, out, steps=1, epochs=1)
    with pytest.raises(ConfigError, match="contradict"):
        train(corpus, out, resume=True, init_from="x.safetensors")
    with pytest.raises(TypeError, match="hiden_size"):
        train(corpus, out, hiden_size=3)
    with pytest.raises(ConfigError, match="hidden-size is 0"):
        train("a file that need not be read", out, hidden_size=0)
    with pytest.raises(ConfigError, match="is a folder: name the model file"):
        train(corpus, tmp_path, steps=2)
    train(corpus, out, steps=2)
    with pytest.raises(ConfigError, match="is not that of the model to start from, 12"):
        list(api.train(corpus, out=tmp_path / "n.safetensors", init_from=out, hidden_size=13))
    assert not (tmp_path / "n.safetensors").exists()


@pytest.mark.parametrize("text", ["ab", "aa", "hello world", "日本語", "a\n" * 5])
def test_tiny_corpora_train(tmp_path, text):
    path, out = tmp_path / "tiny.txt", tmp_path / "m.safetensors"
    path.write_text(text, encoding="utf-8")
    events = list(api.train(path, out=out, steps=5))
    assert events[0].val_characters == 0
    assert all(e.measured_on == "training" for e in events if isinstance(e, Evaluated))
    assert model_file.load(out).vocabulary.characters == "".join(sorted(set(text)))


def test_a_budget_in_minutes_is_kept(corpus, tmp_path):
    begun = time.monotonic()
    events = train(corpus, tmp_path / "m.safetensors", minutes=0.02)
    assert events[-1].reason == "budget"
    assert events[-1].seconds >= 0.02 * 60 * 0.5
    rates = [e.learning_rate for e in events if isinstance(e, Step)]
    assert rates[-1] < max(rates)
    assert time.monotonic() - begun < 60


FIVE_MINUTES = {"minutes": 5, "most_epochs": 1e6, "weight_decay": 0.1}  # all that speed would decide


@pytest.fixture
def clock(monkeypatch):
    """A step takes a second, an evaluation two, the index a hundred; nothing else takes time."""
    seconds, gradient, novelty = [0.0], Model.gradient, Corpus.novelty

    def evaluation(*args):
        seconds[0] += 2.0
        return evaluate(*args)

    def step(self, *args, **options):
        seconds[0] += 1.0
        return gradient(self, *args, **options)

    def index(self):
        for done in range(100):
            seconds[0] += 1.0
            yield done
        return (yield from novelty(self))

    monkeypatch.setattr(Model, "gradient", step)
    monkeypatch.setattr(Corpus, "novelty", index)
    monkeypatch.setattr("charrnn.tasks.next_character.evaluate", evaluation)
    for module in ("api.learning", "training.run", "training.run_setup"):
        monkeypatch.setattr(f"charrnn.{module}.time", SimpleNamespace(monotonic=lambda: seconds[0]))
    return seconds


def test_the_minutes_have_room_for_the_index(corpus, tmp_path, clock):
    events = train(corpus, tmp_path / "m.safetensors", **FIVE_MINUTES)
    assert events[-1].reason == "budget"
    assert 295 <= events[-1].seconds <= 301
    steps = [n for n, event in enumerate(events) if isinstance(event, Step)]
    told = [n for n, event in enumerate(events) if isinstance(event, Indexing)]
    assert len(told) >= 100
    assert told[-1] < steps[0]


def test_the_index_of_a_resumed_run_costs_none_of_its_minutes(corpus, tmp_path, clock):
    out, settings = tmp_path / "m.safetensors", {**SMALL, **FIVE_MINUTES}
    events = stop_after(20, lambda stop: api.train(corpus, out=out, stop=stop, **settings))
    before = events[-1].seconds
    events = list(api.train(corpus, out=out, resume=True))
    assert next(event for event in events if isinstance(event, Step)).seconds == before + 1
    assert 295 <= events[-1].seconds <= 301


def test_the_default_model_file_is_named_after_the_corpus(corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    list(api.train(corpus, **SMALL, steps=2))
    assert Path("checkpoints/shells.safetensors").is_file()


def test_a_line_for_validation_that_is_most_of_the_text_is_measured_in_part(tmp_path, monkeypatch):
    monkeypatch.setattr(next_character, "LARGEST_MEASURED", 500)
    path = tmp_path / "lines.txt"
    path.write_text("ab\n" + 3000 * "abc" + "\n", encoding="utf-8")
    corpus = read([path], TextConfig(lines=True))
    for seed in range(8):  # which of both lines is kept is drawn
        task = NextCharacters(Texts(corpus), TrainConfig(steps=1, val_fraction=0.05, seed=seed))
        [(_, _, measured)] = task.measured
        assert len(measured) == task.measured_characters == min(task.val_characters, 900)
        if task.val_characters > 900:
            return
    pytest.fail("the long line was never drawn")


@pytest.mark.parametrize("lines", [False, True])
def test_without_validation_the_beginning_of_a_long_text_is_measured(tmp_path, monkeypatch, lines):
    """A text of one line has no second one to validate on, and may be long."""
    monkeypatch.setattr(next_character, "LARGEST_MEASURED", 500)
    path = tmp_path / "line.txt"
    path.write_text(TEXT.replace("\n", " "), encoding="utf-8")
    out = tmp_path / "m.safetensors"
    text = TextConfig(lines=lines)
    events = train(path, out, steps=5, val_fraction=0.1 if lines else 0.0, text=text)
    assert events[-1].measured_on == "training"
    path.write_text(TEXT.replace("\n", " ")[:500], encoding="utf-8")
    beginning = api.evaluate(out, path, text=TextConfig())  # adds no line end
    assert events[-1].best_val_loss == pytest.approx(beginning.loss, abs=1e-6)


# What a run is judged by


OTHER = "the shells that he sells are sea shells, too; she sells more.\n" * 12


@pytest.fixture
def other(tmp_path):
    path = tmp_path / "other.txt"
    path.write_text(OTHER, encoding="utf-8")
    return path


def test_another_text_for_validation_chooses_the_model(corpus, other, tmp_path):
    out = tmp_path / "m.safetensors"
    events = train(corpus, out, steps=60, evaluations=6, learning_rate=0.1, val=other)
    started = events[0]
    assert (started.train_characters, started.val_characters) == (len(TEXT), len(OTHER))
    assert started.different == len(set(TEXT))
    losses = [event.val_loss for event in events if isinstance(event, Evaluated)]
    assert model_file.load(out).best_val_loss == min(losses)
    assert api.evaluate(out, other).loss == pytest.approx(min(losses), abs=1e-6)
    assert set(model_file.load(out).vocabulary.characters) == set(TEXT + OTHER)


def test_all_of_another_text_is_measured_however_long(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(next_character, "LARGEST_MEASURED", 50)
    (tmp_path / "other.txt").write_text(OTHER)
    text = read([corpus])
    validation = read([tmp_path / "other.txt"])
    validation = validation.with_vocabulary(text.vocabulary.merged(validation.vocabulary))
    text = text.with_vocabulary(validation.vocabulary)
    task = NextCharacters(Texts(text, validation), TrainConfig(steps=1, val_fraction=0.0, val_text="f00d"))
    assert task.measured_characters == len(OTHER)


def test_a_run_that_is_judged_by_another_text_resumes_with_it_to_the_same_bytes(corpus, other, tmp_path):
    settings = {"steps": 30, "evaluations": 3}
    straight, out = tmp_path / "straight.safetensors", tmp_path / "m.safetensors"
    train(corpus, straight, val=other, **settings)
    stop_after(13, lambda stop: api.train(corpus, out=out, stop=stop, val=other, **SMALL, **settings))
    with pytest.raises(ConfigError, match="judged by a text of its own: give it again, as --val FILE"):
        list(api.train(corpus, out=out, resume=True))
    with pytest.raises(TrainingError, match="not the one"):
        list(api.train(corpus, out=out, resume=True, val=corpus))
    list(api.train(corpus, out=out, resume=True, val=other))
    assert out.read_bytes() == straight.read_bytes()


def test_a_run_that_is_judged_by_its_corpus_takes_no_other_text_when_resumed(corpus, other, tmp_path):
    out = tmp_path / "m.safetensors"
    stop_after(5, lambda stop: api.train(corpus, out=out, stop=stop, **SMALL, steps=30))
    with pytest.raises(ConfigError, match="a part of its corpus: leave out --val"):
        list(api.train(corpus, out=out, resume=True, val=other))


@pytest.mark.parametrize("settings", [{"val_fraction": 0.2}, {"val_split": "end"}])
def test_what_cuts_the_corpus_contradicts_another_text_for_validation(corpus, other, tmp_path, settings):
    with pytest.raises(ConfigError, match="--val names another text"):
        train(corpus, tmp_path / "m.safetensors", steps=1, val=other, **settings)
    with pytest.raises(ConfigError, match="standard input is both"):
        train("-", tmp_path / "m.safetensors", steps=1, val="-")


def test_the_same_command_again_repeats_a_run_that_is_judged_by_another_text(corpus, other, tmp_path):
    out = tmp_path / "m.safetensors"
    train(corpus, out, steps=12, val=other)
    before = out.read_bytes()
    train(corpus, out, steps=12, val=other)
    assert out.read_bytes() == before
    with pytest.raises(CheckpointError, match="another model"):
        train(corpus, out, steps=12)


def test_characters_that_only_validation_has_are_named(corpus, tmp_path):
    (tmp_path / "other.txt").write_text("she säys: ñö. " * 20, encoding="utf-8")
    started = train(corpus, tmp_path / "m.safetensors", steps=1, val=tmp_path / "other.txt")[0]
    (note,) = (note for note in started.notes if "validation" in note)
    assert "U+00E4" in note
    assert "training text does not have" in note


def test_a_scattered_split_shows_no_run_a_target_of_its_validation(tmp_path, monkeypatch):
    path = tmp_path / "c.txt"
    path.write_text("".join(chr(0x4E00 + n) for n in range(6_000)), encoding="utf-8")
    targets = set()
    gradient = Model.gradient

    def watched(self, x, y, *args, **options):
        targets.update(np.unique(y).tolist())
        return gradient(self, x, y, *args, **options)

    monkeypatch.setattr(Model, "gradient", watched)
    started = train(path, tmp_path / "m.safetensors", epochs=2)[0]
    assert started.val_characters == pytest.approx(600, rel=0.6)
    assert len(targets) <= started.train_characters  # each character stands once


def test_an_old_run_and_the_end_of_a_text_are_one_and_the_same(corpus, tmp_path):
    """A file of the first version says nothing about the split: its prose was validated on the end."""
    out = tmp_path / "m.safetensors"
    settings = {"steps": 30, "evaluations": 3, "val_split": "end"}
    straight = tmp_path / "straight.safetensors"
    train(corpus, straight, **settings)
    assert "val_split" not in model_file.load(straight).settings
    stop_after(13, lambda stop: api.train(corpus, out=out, stop=stop, **SMALL, **settings))
    _tensors, record = model_file.load_resume(resume_path(out))
    assert "val_split" not in record["train"]
    assert b'"format_version":1' in resume_path(out).read_bytes().replace(b" ", b"").replace(b"\\", b"")
    list(api.train(corpus, out=out, resume=True))
    assert out.read_bytes() == straight.read_bytes()


def test_a_resume_file_with_new_settings_is_of_the_new_format(corpus, tmp_path):
    out = tmp_path / "m.safetensors"
    stop_after(5, lambda stop: api.train(corpus, out=out, stop=stop, **SMALL, steps=30))
    assert b'"format_version":3' in resume_path(out).read_bytes().replace(b" ", b"").replace(b"\\", b"")


def test_a_split_that_was_chosen_is_kept_when_resumed(corpus, tmp_path):
    out = tmp_path / "m.safetensors"
    stop_after(5, lambda stop: api.train(corpus, out=out, stop=stop, **SMALL, steps=30))
    with pytest.raises(ConfigError, match="val-split end is not what the interrupted run has, scattered"):
        list(api.train(corpus, out=out, resume=True, val_split="end"))
    list(api.train(corpus, out=out, resume=True, val_split="scattered"))


def test_another_corpus_on_resume_is_led_to_fine_tuning(corpus, other, tmp_path):
    out = tmp_path / "m.safetensors"
    stop_after(25, lambda stop: api.train(corpus, out=out, stop=stop, **SMALL, steps=30, evaluations=3))
    with pytest.raises(TrainingError, match=f"--init-from {out}"):
        list(api.train(other, out=out, resume=True))


def test_fine_tuning_counts_the_characters_of_its_own_text(corpus, tmp_path):
    base, new = tmp_path / "base.safetensors", tmp_path / "new.txt"
    train(corpus, base, steps=2)
    new.write_text("Aha, Öl. " * 300, encoding="utf-8")
    started = next(iter(api.train(new, out=tmp_path / "tuned.safetensors", init_from=base, steps=1)))
    assert started.different == len(set("Aha, Öl. "))
    assert len(started.corpus.vocabulary) > started.different


def test_the_models_that_were_evaluated_last_are_kept(corpus, tmp_path):
    out = tmp_path / "m.safetensors"
    events = train(corpus, out, steps=60, evaluations=6, keep_models=3)
    kept = sorted((tmp_path / "m.models").iterdir(), key=lambda path: int(path.name.split("-")[1]))
    evaluations = [event for event in events if isinstance(event, Evaluated)][-3:]
    assert [path.name for path in kept] == [
        f"step-{event.step}-loss-{event.val_loss:.4f}.safetensors" for event in evaluations
    ]
    for path, event in zip(kept, evaluations, strict=True):
        model = model_file.load(path)
        assert model.best_val_loss == event.val_loss
        assert model.history[-1]["step"] == event.step
    assert {event.path for event in events if isinstance(event, Saved) and event.kind == "kept"} >= set(kept)
    alone = tmp_path / "alone.safetensors"
    train(corpus, alone, steps=60, evaluations=6)
    assert alone.read_bytes() == out.read_bytes()
    assert not (tmp_path / "alone.models").exists()


def test_models_of_an_earlier_run_that_came_further_make_room_for_new_ones(corpus, tmp_path):
    out = tmp_path / "m.safetensors"
    train(corpus, out, steps=60, evaluations=6, keep_models=2)
    train(corpus, out, steps=20, evaluations=2, keep_models=2, force=True)
    steps = {int(path.name.split("-")[1]) for path in (tmp_path / "m.models").iterdir()}
    assert steps == {10, 20}


def test_a_kept_model_that_cannot_be_written_is_a_warning(corpus, tmp_path):
    out = tmp_path / "m.safetensors"
    (tmp_path / "m.models").write_text("a file where the folder should be")
    events = train(corpus, out, steps=20, evaluations=2, keep_models=3)
    assert any(isinstance(event, Unsaved) for event in events)
    assert isinstance(events[-1], Finished)
    assert out.exists()


@pytest.mark.parametrize("count", [-1, 10**9])
def test_a_number_of_kept_models_out_of_range_is_refused(corpus, tmp_path, count):
    with pytest.raises(ConfigError, match="keep-models"):
        train(corpus, tmp_path / "m.safetensors", steps=1, keep_models=count)


def test_a_command_without_an_option_that_it_had_is_another_run(corpus, tmp_path):
    """What the model in the file was given is not taken for what would be planned."""
    out = tmp_path / "m.safetensors"
    settings = {"steps": 5, "hidden_size": 12, "num_layers": 1}
    list(api.train(corpus, out=out, **settings, dropout=0.25, val_split="end"))
    for dropped in ({"dropout": 0.25}, {"val_split": "end"}, {}):
        with pytest.raises(CheckpointError, match="another model"):
            list(api.train(corpus, out=out, **settings, **dropped))
        started = next(iter(api.train(corpus, out=out, force=True, **settings, **dropped)))
        assert started.planned != f"as {out} was trained"


def test_a_plan_by_speed_is_repeated_and_one_that_was_asked_for_is_not(corpus, tmp_path, monkeypatch):
    out = tmp_path / "m.safetensors"
    monkeypatch.setattr("charrnn.training.run_setup.characters_per_second", lambda *_, **__: 1e6)
    long = tmp_path / "long.txt"
    long.write_text(corpus.read_text() * 10)
    first, *_ = list(api.train(long, out=out, minutes=0.02, num_layers=1))
    before = out.read_bytes()
    monkeypatch.setattr("charrnn.training.run_setup.characters_per_second", lambda *_, **__: 1e2)
    again = next(iter(api.train(long, out=out, minutes=0.02, num_layers=1)))
    assert again.planned == f"as {out} was trained"
    assert (again.model, again.train) == (first.model, first.train)
    assert out.read_bytes() == before
    with pytest.raises(CheckpointError, match="another model"):
        list(api.train(long, out=out, minutes=0.02))  # two layers
