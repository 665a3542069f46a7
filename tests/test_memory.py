"""Networks with a memory: equations, gradients, states, both engines, whole runs, and rewriting."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import naive
import numpy as np
import pytest
from support import random_models
from support.calls import call
from support.central_differences import check_parameters, check_slopes
from support.compiled_loop import compiled_only
from support.own_parts import (
    check_compression,
    check_learning,
    check_mixture,
    check_numbers,
    check_ten_steps,
    check_writing,
)

from charrnn import api
from charrnn.checkpoint.model_file import Checkpoint, load, save
from charrnn.config import ModelConfig, TextConfig, format_version
from charrnn.errors import CheckpointError, ConfigError
from charrnn.inference.mixed_model import model_of
from charrnn.inference.mixture import MixedNetwork, blend
from charrnn.kernels.loops import memory as kernel
from charrnn.labels import Column
from charrnn.nn.network import Model, initial_tensors
from charrnn.nn.workers import Workers
from charrnn.scoring import shared_prefixes
from charrnn.tasks.evaluation import evaluate, surprises
from charrnn.tasks.reading import rewrite
from charrnn.tasks.reading.beam import Wanted
from charrnn.tasks.reading.rewrite import Answered, Rewriter, losses
from charrnn.text.documents import Documents
from charrnn.vocabulary import Vocabulary

pytestmark = compiled_only

RECORDINGS = sorted((Path(__file__).parent / "recordings" / "memory").glob("*.npz"))
V = 5
CONFIGS = {
    "few rows": ModelConfig(V, "ntm", hidden_size=6, embedding_size=3, memory_rows=5, memory_width=3),
    "two rows of one number": ModelConfig(
        V, "ntm", hidden_size=4, embedding_size=0, memory_rows=2, memory_width=1
    ),
    "more rows than lanes": ModelConfig(
        V, "ntm", hidden_size=5, embedding_size=2, memory_rows=37, memory_width=33
    ),
}


def make(config: ModelConfig, threads: int = 2, dtype: Any = np.float64) -> Model:
    random = np.random.default_rng(3)
    model = Model(config, workers=Workers(threads), dtype=dtype)
    tensors = initial_tensors(config, 1)
    model.load_tensors({n: random.normal(0, 0.7, t.shape) for n, t in tensors.items()})
    return model


def texts(T: int, B: int, seed: int = 7) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(seed)
    reset = random.random((T, B)) < 0.15
    x = np.where(reset, V, random.integers(0, V, (T, B))).astype(np.int32)
    return x, random.integers(0, V, (T, B)).astype(np.int32), reset


def reference(model: Model, x: Any, reset: Any) -> Any:
    """The logits (T, B, V)."""
    c, tensors = model.config, model.tensors()
    table = tensors["embedding.weight"] if c.embedding_size else np.eye(V)
    rows = np.concatenate([table, np.zeros((1, table.shape[1]))])[x]
    outputs = naive.turing(tensors, rows, reset, c.memory_rows).outputs
    return outputs @ tensors["decoder.weight"].T + tensors["decoder.bias"]


# --- equations and gradients -------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_the_reference_however_the_text_is_cut(name):
    model = make(CONFIGS[name])
    x, _, reset = texts(24, 3)
    whole, last = model.forward(x, None, reset)
    np.testing.assert_allclose(whole, reference(model, x, reset), atol=1e-10)
    state, found = None, []
    for part in (slice(1), slice(1, 9), slice(9, 11), slice(11, None)):
        logits, state = model.forward(x[part], state, reset[part])
        found.append(logits)
    np.testing.assert_array_equal(np.concatenate(found), whole)
    assert state is not None
    for a, b in zip(state.layers[0], last.layers[0], strict=True):
        np.testing.assert_array_equal(a, b)
    short = make(CONFIGS[name], dtype=np.float32).forward(x, None, reset)[0]
    np.testing.assert_allclose(short, whole, atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_gradient_is_that_of_central_differences_also_by_the_state_before(name):
    model = make(CONFIGS[name])
    x, y, reset = texts(7, 3)
    reset[3, 1], x[3, 1] = (
        True,
        V,
    )  # what a step has made is not overwritten by the text that begins behind it
    state = model.forward(texts(4, 3, seed=2)[0])[1]
    model.gradient(x, y, state, reset)
    slopes, starts = model.gradients.flat.copy(), model.state_gradient()

    def loss() -> float:
        return float(model.losses(x, y, state, reset)[0].mean())

    check_parameters(model, slopes, loss)
    for array, gradient in zip(state.layers[0], starts.layers[0], strict=True):
        width = array.shape[1]
        if width == model.network.states[0][-1]:
            width -= 1  # whether the text has begun is no number that anything depends on
        check_slopes(array[:, :width], gradient[:, :width], loss)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_logits_gradients_and_ten_training_losses_are_pytorchs(path):
    with np.load(path, allow_pickle=False) as file:
        r = dict(file)
    c = json.loads(str(r["config"]))
    s, sizes = c.pop("settings"), c
    model = Model(ModelConfig(11, "ntm", **sizes), workers=Workers(2), dtype=np.float64)
    check_ten_steps(model, r, s)


def test_recordings_are_there():
    assert len(RECORDINGS) == 2


def test_a_text_begins_with_both_heads_at_the_first_row_of_a_small_memory():
    config = CONFIGS["few rows"]
    model = make(config)
    tensors = {n: np.zeros_like(t) for n, t in model.tensors().items()}
    model.load_tensors(
        tensors | {"heads.bias": np.where(np.isin(np.arange(24), (4, 13)), -40.0, 0.0)}
    )  # no content
    _, state = model.forward(np.zeros((1, 1), np.int32))
    M, N = config.memory_width, config.memory_rows
    h, _, tape = state.layers[0]
    assert not h.any()
    weights, memory = tape[0, M : M + 2 * N].reshape(2, N), tape[0, M + 2 * N : -1].reshape(M, N)
    power = 3 ** -(1 + np.log(2))  # all three shifts are as likely
    sharpened = np.array([power, power, 0, 0, power]) / (3 * power)
    np.testing.assert_allclose(weights, [sharpened, sharpened], atol=1e-9)
    np.testing.assert_allclose(memory, np.tile(1e-6 * (1 - sharpened / 2), (M, 1)), rtol=1e-9)
    np.testing.assert_allclose(tape[0, :M], 1e-6, rtol=1e-9)
    assert tape[0, -1] == 1


def test_a_new_network_writes_row_after_row_and_stays_where_it_reads():
    config = ModelConfig(V, "ntm", hidden_size=100, embedding_size=32)
    for seed in range(3):
        model = Model(config, workers=Workers(1))
        model.load_tensors(initial_tensors(config, seed))
        x = texts(12, 1, seed)[0] % V
        model.forward(x)
        reading, writing = model.heads(12, 1)[:, 0].swapaxes(0, 1)
        assert writing.argmax(axis=1).tolist() == list(range(1, 13))
        assert reading.argmax(axis=1).tolist() == [0] * 12
        assert min(writing.max(axis=1)) > 0.9


def test_sizes_are_those_of_the_kernels():
    from charrnn.nn.modules.writing.memory import Memory

    module = CONFIGS["few rows"].network().modules[1]
    assert isinstance(module, Memory)
    assert (kernel.told_size(3), kernel.state_size(3, 5)) == (module.P, module.S)


def test_any_number_of_threads_gives_the_same_bits():
    x, y, reset = texts(9, 7)
    results = []
    for threads in (1, 2, 3):
        model = make(CONFIGS["few rows"], threads, np.float32)
        loss, state = model.gradient(x, y, None, reset)
        nats, _ = model.losses(x, y, state, reset)
        results.append((loss, nats.tobytes(), model.gradients.flat.tobytes()))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_text_may_begin_with_the_state_of_another(name):
    model = make(CONFIGS[name], dtype=np.float32)
    random = np.random.default_rng(3)
    ids = [np.concatenate(([0, 1, 2, 0, 3][:n], random.integers(0, V, 6))) for n in (5, 5, 3, 5, 0, 4)]
    ids = [t.astype(np.int32) for t in sorted(ids, key=lambda t: t.tolist())]
    found = shared_prefixes.losses(model, np.concatenate(ids), np.array(list(map(len, ids))), 4)
    expected = []
    for text in ids:
        x = np.append(V, text[:-1])[:, None]
        rows = naive.log_softmax(reference(model, x, np.zeros_like(x, bool))[:, 0])
        expected.append(-rows[np.arange(len(text)), text])
    np.testing.assert_allclose(found, np.concatenate(expected), atol=2e-4)


# --- both engines ------------------------------------------------------------------------------------


def untrained(**settings: Any) -> Checkpoint:
    sizes = {"hidden_size": 18, "embedding_size": 7, "memory_rows": 6, "memory_width": 5}
    return random_models.make(characters="\nabcdef", **({"cell": "ntm"} | sizes | settings))


@pytest.mark.parametrize(
    ("settings", "precision"),
    [
        ({}, "float32"),
        ({"memory_rows": 40, "memory_width": 33}, "bfloat16"),
        ({"memory_rows": 2, "memory_width": 1, "hidden_size": 1, "embedding_size": 0}, "float32"),
    ],
)
def test_both_engines_write_the_same_bits_on_any_number_of_threads(settings, precision, monkeypatch):
    check_writing(untrained(**settings), precision, monkeypatch)


def test_writing_computes_what_training_does():
    for settings in ({}, {"memory_rows": 128, "memory_width": 20, "embedding_size": 0}):
        check_numbers(untrained(**settings), Workers(2))


def test_a_mixture_writes_the_same_on_both_engines():
    other = untrained(cell="lstm", memory_rows=128, memory_width=20)
    check_mixture(MixedNetwork(blend([(untrained(), 1), (other, 2)])))


def test_both_engines_compress_to_the_same_bytes(monkeypatch):
    check_compression(untrained(), monkeypatch)


def test_a_long_text_read_in_streams_has_the_loss_of_one_stream():
    ids = np.random.default_rng(0).integers(0, 7, 9000).astype(np.uint8)
    text, model = Documents(ids, 7, np.arange(0, 9000, 50)), model_of(untrained(), 2)
    found = evaluate(model, text)
    assert found is not None
    assert found.loss == pytest.approx(float(surprises(model, text).mean(dtype=np.float64)), abs=2e-6)


# --- runs and files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [{}, {"counts": 1.0, "memory_rows": 9, "memory_width": 4}])
def test_it_learns_and_goes_on_after_an_interruption(own, tmp_path):
    settings = {"cell": "ntm", "num_layers": 1, **own}
    corpus, out = check_learning(tmp_path, settings, **settings)
    finer = tmp_path / "f.safetensors"
    assert list(api.train(corpus, out=finer, init_from=out, steps=2))[-1].reason == "budget"
    assert load(finer).config.memory_rows == own.get("memory_rows", 128)


def test_records_each_begin_with_a_memory_of_their_own(tmp_path):
    corpus, out = tmp_path / "t.txt", tmp_path / "m.safetensors"
    corpus.write_text("abba\nbaab\n" * 40, encoding="utf-8")
    settings = {"cell": "ntm", "hidden_size": 8, "memory_rows": 6, "memory_width": 4, "steps": 25}
    list(api.train(corpus, out=out, text=TextConfig(lines=True), threads=1, **settings))
    scores = []
    for n in (1, 3):
        (tmp_path / "lines.txt").write_text("ba\n" * n, encoding="utf-8")
        scores += [score for lines in api.score_lines(out, [tmp_path / "lines.txt"]) for score in lines]
    assert len({score.bits for score in scores}) == 1 < len(scores)


def test_training_compiles_nothing_that_is_not_in_the_list(tmp_path):
    from charrnn.nn.learning.compilation import compile_kernels

    def compiled() -> list[Any]:
        return [len(k.signatures) for k in vars(kernel).values() if hasattr(k, "signatures")]

    for _ in compile_kernels(ModelConfig(7, "ntm")):
        pass
    before, corpus = compiled(), tmp_path / "corpus.txt"
    corpus.write_text("to be or not to be, that is the question\n" * 20, encoding="utf-8")
    list(api.train(corpus, out=tmp_path / "m.safetensors", cell="ntm", hidden_size=3, steps=2, batch_size=4))
    assert compiled() == before
    assert sum(before) > 0


def test_a_file_says_what_it_has_and_one_without_stays_as_it_was(tmp_path):
    config = untrained().config
    assert format_version(config) == 6
    assert "memory_rows" not in replace(config, cell="lstm", memory_rows=128, memory_width=20).to_dict()
    save(untrained(), tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors").config == config
    said = call("info", tmp_path / "m.safetensors").stdout.decode()
    assert "1 x 18, memory of 6 x 5\n" in said
    assert repr(config.network().modules[1]) == "Memory(lstm, 7 -> 18 + 5, 6 x 5)"


def test_what_goes_with_other_networks_alone_is_refused_by_name(tmp_path):
    (tmp_path / "t.txt").write_text("ab\nba\n" * 50)
    words = ("train", "t.txt", "--lines", "--cell", "ntm", "--steps", "1")
    for wrong in (("--num-layers", "2"), ("--norm",), ("--residual",), ("--span", "4")):
        done = call(*words, *wrong, cwd=tmp_path)
        assert done.returncode == 2
        assert wrong[0] in done.stderr.decode()
    done = call("train", "t.txt", "--lines", "--memory-rows", "9", "--steps", "1", cwd=tmp_path)
    assert (done.returncode, b"it with --cell ntm alone" in done.stderr) == (2, True)
    for settings in ({"kind": "filler"}, {"labels": (2,)}):
        with pytest.raises(ConfigError, match="--cell ntm learns to write texts without labels"):
            ModelConfig(V, "ntm", **settings)


# --- rewriting ---------------------------------------------------------------------------------------


def rewriter_model(seed: int = 0) -> Checkpoint:
    config = ModelConfig(
        4,
        "ntm",
        hidden_size=9,
        embedding_size=3,
        memory_rows=5,
        memory_width=4,
        kind="rewriter",
        targets=(2,),
    )
    rng = np.random.default_rng(seed)
    tensors = {n: rng.normal(0, 0.8, s).astype(np.float32) for n, s in config.parameter_shapes().items()}
    text = TextConfig(lines=True, targets="characters")
    return Checkpoint(config, Vocabulary("\nabc"), text, tensors, columns=(Column("", ("x", "y"), (1, 1)),))


def told(model: Checkpoint, source: str, steps: int) -> Any:
    """log p of x, y and the end at each of so many steps after a source and its end, by the reference."""
    t, N = model.tensors, model.config.memory_rows
    ids = [*model.vocabulary.encode(source + "\n").tolist(), *[4] * (steps - 1)]
    rows = np.concatenate([t["embedding.weight"], np.zeros((1, 3))])[np.array(ids)][:, None]
    outputs = naive.turing(t, rows, np.zeros((len(ids), 1), bool), N).outputs[len(source) :, 0]
    return naive.log_softmax(outputs @ t["decoder.weight"].T.astype(float) + t["decoder.bias"])


@pytest.mark.parametrize("seed", range(3))
def test_a_source_is_read_with_its_end_and_then_answered_without_a_word(seed):
    model, most = rewriter_model(seed), 3
    for source, found in zip(
        ("ab", "c", "bacca"),
        Rewriter(model, 2).rewrite(["ab", "c", "bacca"], Wanted(8, 15), most),
        strict=True,
    ):
        logs = told(model, source, most + 1)
        expected = {}
        for n in range(most + 1):
            for number in range(2**n):
                target = [number >> k & 1 for k in range(n)]
                p = sum(logs[k, token] for k, token in enumerate(target)) + logs[n, 2]
                expected["".join("xy"[token] for token in target)] = float(p)
        assert {"".join(one.tokens) for one in found} == expected.keys()
        for one in found:
            assert one.log_probability == pytest.approx(expected["".join(one.tokens)], abs=1e-4)
        assert [one.log_probability for one in found] == sorted(expected.values(), reverse=True) or len(found)


def test_a_batch_tells_each_source_its_end_and_weighs_the_target_alone(tmp_path):
    path = tmp_path / "p.tsv"
    path.write_text("abc\tyx\nb\txxy\n", encoding="utf-8")
    corpus = rewrite.RewrittenFiles([path]).read(TextConfig()).corpus
    examples = rewrite.rewritten(corpus, corpus.vocabulary, corpus.columns[0], one_way=True)
    assert isinstance(examples, Answered)
    batch = examples.batch(np.arange(2), 3)
    assert batch.previous is None
    assert batch.x.T.tolist()[:2] == [[1, 2, 3, 0, 4, 4, 4, 4], [2, 0, 4, 4, 4, 4, 4, 4]]
    assert batch.lengths.tolist()[:2] == [6, 5]
    weighed = [batch.targets[:, b][batch.weights[:, b] > 0].tolist() for b in range(3)]
    assert weighed == [[1, 0, 2], [0, 0, 1, 2], []]
    assert np.flatnonzero(batch.weights[:, 0]).tolist() == [3, 4, 5]
    model = rewriter_model()
    loss = sum(part[0] for part in losses(Rewriter(model, 1).reader, examples))
    expected = [told(model, "abc", 3)[[0, 1, 2], [1, 0, 2]], told(model, "b", 4)[[0, 1, 2, 3], [0, 0, 1, 2]]]
    assert loss == pytest.approx(-float(np.concatenate(expected).sum()), abs=1e-4)


def test_it_learns_to_rewrite_and_goes_on_to_the_same_bytes_on_any_number_of_threads(tmp_path):
    path, files = tmp_path / "p.tsv", [tmp_path / f"{n}.safetensors" for n in "abc"]
    random = np.random.default_rng(2)
    words = ["".join(random.choice(list("abc"), random.integers(1, 5))) for _ in range(60)]
    path.write_text("".join(f"{word}\t{word}\n" for word in words), encoding="utf-8")
    settings = {"cell": "ntm", "hidden_size": 12, "memory_rows": 8, "memory_width": 5, "epochs": 2.0}
    for out, threads in zip(files, (1, 2), strict=False):
        events = list(api.train(path, out=out, task="rewrite", threads=threads, **settings))
    assert events[-1].best_val_loss < np.log(4)
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) > 20

    stopped = list(api.train(path, out=files[2], task="rewrite", stop=stop, **settings))
    assert stopped[-1].reason == "interrupted"
    list(api.train(path, out=files[2], task="rewrite", resume=True, cell="ntm"))
    assert len({file.read_bytes() for file in files}) == 1
    measured = api.evaluate(files[0], path)
    assert 0 <= measured.word_error_rate <= 1
    done = call("rewrite", "-m", files[0], stdin=b"ab\n\nc\n")
    assert [line.split("\t")[0] for line in done.stdout.decode().splitlines()] == ["ab", "", "c"]


# --- where the heads look ----------------------------------------------------------------------------


def test_looks_are_the_weights_of_the_reference(tmp_path):
    model = rewriter_model()
    (tmp_path / "p.tsv").write_text("abc\tyx\n", encoding="utf-8")
    found = api.looks(model, tmp_path / "p.tsv", threads=1)
    assert found.read == ("a", "b", "c", "\n", "", "")
    assert found.told == ("", "", "", "y", "x", "")
    table = np.concatenate([model.tensors["embedding.weight"], np.zeros((1, 3))])
    rows = table[[1, 2, 3, 0, 4, 4]][:, None]
    weights = naive.turing(model.tensors, rows, np.zeros((6, 1), bool), 5).weights[:, 0]
    np.testing.assert_allclose(found.reading, weights[:, 0], atol=1e-5)
    np.testing.assert_allclose(found.writing, weights[:, 1], atol=1e-5)


def test_a_text_is_followed_from_before_its_first_character(tmp_path):
    (tmp_path / "t.txt").write_text("fab\nbad\n" * 20, encoding="utf-8")
    found = api.looks(untrained(), tmp_path / "t.txt", threads=1)
    assert found.read[:4] == ("", "f", "a", "b")
    assert len(found.read) == len(found.reading) == 65
    np.testing.assert_allclose(np.sum(found.writing, axis=1), 1, atol=1e-5)
    with pytest.raises(CheckpointError, match="the model has no memory"):
        api.looks(untrained(cell="lstm", memory_rows=128, memory_width=20), tmp_path / "t.txt")


def test_diagnose_shows_where_heads_look(tmp_path):
    save(rewriter_model(), tmp_path / "m.safetensors")
    (tmp_path / "p.tsv").write_text("ab\tyx\n", encoding="utf-8")
    words = ("diagnose", "-m", "m.safetensors", "p.tsv")
    shown = call(*words, "--svg", "h.svg", cwd=tmp_path).stdout.decode().splitlines()
    assert shown[0] == "where the head that writes looks: rows of memory down"
    assert [line.split("  ")[-1] for line in shown[-2:]] == ["ab¶··", "··yx·"]
    svg = (tmp_path / "h.svg").read_text("utf-8")
    ElementTree.fromstring(svg)
    found = json.loads(call(*words, "--json", cwd=tmp_path).stdout)
    assert found["read"] == ["a", "b", "\n", "", ""]
    assert np.array(found["reading"]).shape == np.array(found["writing"]).shape == (5, 5)
    heavy = sum(weight >= 0.01 for head in ("reading", "writing") for row in found[head] for weight in row)
    assert svg.count("<title>") == heavy
    done = call(*words, "--lags", "3", cwd=tmp_path)
    assert (done.returncode, b"--lags is of gradients" in done.stderr) == (2, True)


def test_what_lies_in_characters_of_pairs_cannot_be_shown_of_a_memory(tmp_path):
    save(rewriter_model(), tmp_path / "m.safetensors")
    done = call("rewrite", "-m", tmp_path / "m.safetensors", "--align", stdin=b"ab\n")
    assert done.returncode == 2
    assert b"--align" in done.stderr
