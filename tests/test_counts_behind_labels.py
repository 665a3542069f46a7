"""Counts of texts with labels: the reference's probabilities, in NumPy as compiled, in models and files."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from support import random_models, refusals, toy_models
from support.calls import call
from support.compiled_loop import compiled_only
from support.counted import beside, gated, log_probability
from support.pages import answers, needs_node

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import SampleConfig, TextConfig
from charrnn.counts.compiled import CompiledLookup
from charrnn.counts.counts import UNIT, Counts
from charrnn.counts.gate import GatedCounts
from charrnn.counts.learning import grams
from charrnn.counts.learning.building import build
from charrnn.counts.learning.grams import Grams
from charrnn.counts.lookup import NOTHING, Lookup
from charrnn.errors import CompressionError
from charrnn.inference.mixed_model import model_of
from charrnn.inference.numpy_network import PlainNetwork
from charrnn.labels import Column
from charrnn.pages.page import page
from charrnn.text.documents import Documents
from charrnn.text.records.labels import Labelling

SIZES = (3, 2)


def labelled(seed: int, length: int, V: int) -> Documents:
    """Texts of words that depend on their first label; one label in four is unknown."""
    random = np.random.default_rng(seed)
    words = [[random.integers(0, V, random.integers(1, 6)) for _ in range(6)] for _ in range(SIZES[0] + 1)]
    starts = np.arange(0, length, 40)
    ids = np.stack([random.integers(0, size + 1, len(starts)) for size in SIZES], 1).astype(np.int32)
    texts = [np.concatenate([words[i][k] for k in random.integers(0, 6, 40)])[:40] for i, _ in ids]
    return Documents(
        np.concatenate(texts)[:length].astype(np.uint16), V, starts, labels=Labelling(starts, ids)
    )


def reference(text: Documents, n: int, once: int = 99) -> naive.LabelledKneserNey:
    assert text.labels is not None
    known = np.where(text.labels.ids < np.array(SIZES), text.labels.ids, -1)
    bounds = [*text.starts.tolist(), len(text)]
    return naive.LabelledKneserNey(
        [
            (True, text.ids[low:high].tolist(), labels)
            for low, high, labels in zip(bounds, bounds[1:], known.tolist(), strict=False)
        ],
        n, text.vocab_size, once,
    )  # fmt: skip


def state(context: tuple[int, ...], n: int) -> Any:
    return np.array([NOTHING] * (n - 1 - len(context)) + list(context), np.int32)


def contexts_of(expected: naive.LabelledKneserNey, V: int) -> list[tuple[int, ...]]:
    known = list(expected.whole.counts)[::7]
    random = np.random.default_rng(0)
    return known + [tuple(random.integers(0, V, len(context)).tolist()) for context in known]


# --- the equations -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "once"), [(3, 99), (6, 2)])
def test_probabilities_given_labels_are_those_of_the_equations(n, once):
    V = 7
    text = labelled(1, 900, V)
    counts, expected = build(Grams.of(text, n, SIZES), once=once, exact=True), reference(text, n, once)
    assert np.any(counts.label_discounts != [UNIT // 2, UNIT, 3 * UNIT // 2])
    apart = 0.0
    for labels in [(0, 0), (2, -1), (-1, 1), (-1, -1)]:
        ids = np.where(np.array(labels) < 0, SIZES, labels)
        lookup = Lookup(counts, counts.symbols_of(ids).tolist())
        for context in contexts_of(expected, V):
            p, _ = lookup.predict(state(context, n))
            wanted = [expected.probability(w, context, labels) for w in range(V)]
            np.testing.assert_allclose(p, wanted, rtol=1e-12)
            assert p.sum() == pytest.approx(1, abs=1e-14)
            apart = max(apart, abs(p[0] - expected.whole.probability(0, context)))
    assert apart > 0.05


def test_without_a_label_they_are_those_of_counts_that_know_none():
    text = labelled(2, 2000, 9)
    with_labels, plain = build(Grams.of(text, 5, SIZES), exact=True), build(Grams.of(text, 5), exact=True)
    np.testing.assert_array_equal(with_labels.discounts, plain.discounts)
    for context in contexts_of(reference(text, 5), 9):
        found, expected = (Lookup(counts).predict(state(context, 5)) for counts in (with_labels, plain))
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


def test_unlabelled_counts_are_as_before_and_so_are_those_of_texts_whose_labels_are_all_unknown():
    text = labelled(3, 800, 5)
    unknown = replace(text.labels, ids=np.full_like(text.labels.ids, 3))
    counts = build(Grams.of(replace(text, labels=unknown), 4, SIZES))
    assert len(counts.symbols) == len(build(Grams.of(text, 4)).symbols)
    assert "counts.label_discounts" not in build(Grams.of(text, 4)).tensors()


@pytest.mark.parametrize("V", [5, 300])
@pytest.mark.parametrize("most_bytes", [None, 4000])
def test_both_paths_agree_bit_for_bit_given_labels(V, most_bytes):
    text = labelled(4, 3000, V)
    counts = build(Grams.of(text, 5, SIZES), most_bytes)
    assert most_bytes is None or counts.nbytes <= most_bytes
    compiled, plain = CompiledLookup(counts), Lookup(counts)
    x, y, reset = text.look_up(np.arange(400))
    context, contexts = np.full(4, NOTHING, np.int32), []
    for character, begins in zip(x.tolist(), reset.tolist(), strict=True):
        context = plain.after(character, np.full(4, NOTHING, np.int32) if begins else context)
        contexts.append(context)
    symbols = counts.symbols_of(text.labels_at(np.arange(400)))
    p, features = compiled.predict(np.stack(contexts), symbols)
    assert (p > 0).all()
    for row, told, before, labels in zip(p, features, contexts, symbols.tolist(), strict=True):
        expected, expected_features = Lookup(counts, labels).predict(before)
        np.testing.assert_array_equal(row, expected)
        np.testing.assert_array_equal(told, expected_features)
    chances, scored = compiled.score(text, 0, 400)
    np.testing.assert_array_equal(chances, p[np.arange(400), y])
    np.testing.assert_array_equal(scored, features)


# --- building ----------------------------------------------------------------------------------------


def test_the_text_may_be_sorted_in_chunks_and_merged_from_parts(monkeypatch):
    text = labelled(5, 800, 6)
    whole = Grams.of(text, 6, SIZES)
    monkeypatch.setattr(grams, "CHUNK", 33)
    same = Grams.of(text, 6, SIZES)
    halves = [replace(text, ids=text.ids[:400], starts=text.starts[:10])]
    assert text.labels is not None
    halves.append(
        replace(text, ids=text.ids[400:], starts=text.starts[10:] - 400, labels=text.labels.after(400))
    )
    merged = Grams.of(halves[0], 6, SIZES).merged(Grams.of(halves[1], 6, SIZES))
    for found in (same, merged):
        assert found.behind is not None
        assert whole.behind is not None
        np.testing.assert_array_equal(found.behind.keys, whole.behind.keys)
        np.testing.assert_array_equal(found.behind.counts, whole.behind.counts)
    with pytest.raises(ValueError, match="labels"):
        whole.merged(Grams.of(text, 6))


def test_labels_may_be_so_many_that_grams_behind_them_are_shorter():
    V, sizes = 300, (60_000,)
    text = labelled(6, 600, V)
    counts = build(Grams.of(text, 10, sizes))
    assert counts.label_discounts.shape == (10, 3)
    assert Grams.of(text, 10, sizes).behind.layout.n == 8
    tensors = counts.tensors()
    assert Counts.from_tensors(tensors, V, sizes).nbytes == counts.nbytes
    p, _ = CompiledLookup(counts).score(text, 0, 600)
    plain, _ = CompiledLookup(build(Grams.of(text, 10))).score(text, 0, 600)
    assert np.log(p).mean() > np.log(plain).mean()


def test_the_bound_holds_for_both_together_and_the_best_remains():
    grams, text = Grams.of(labelled(7, 6000, 12), 6, SIZES), labelled(7, 6000, 12)
    losses = []
    for most_bytes in (3000, 6000, 12_000, 10**6):
        counts = build(grams, most_bytes)
        assert counts.nbytes <= most_bytes
        losses.append(-np.log(CompiledLookup(counts).score(text, 0, 6000)[0]).mean())
    assert losses == sorted(losses, reverse=True)


def test_held_out_texts_are_less_surprising_given_their_labels():
    text = labelled(8, 8000, 3)
    part = replace(text, ids=text.ids[:6000], starts=text.starts[text.starts < 6000])
    losses = []
    for labels in ((), SIZES):
        counts = CompiledLookup(build(Grams.of(part, 5, labels)))
        losses.append(-np.log(counts.score(text, 6000, 8000)[0]).mean())
    assert losses[1] < losses[0] - 0.02


# --- files -------------------------------------------------------------------------------------------


def _changed(name: str, place: Any, value: int) -> Any:
    def change(tensors: dict[str, Any]) -> None:
        tensors[name] = tensors[name].copy()
        tensors[name][place] = value

    return change


HOSTILE = {
    "discounts too few": (
        lambda t: t.update({"counts.label_discounts": t["counts.label_discounts"][:-1]}),
        "not as many as",
    ),
    "discounts that are none": (
        lambda t: t.update({"counts.label_discounts": t["counts.label_discounts"].astype(np.float32)}),
        "label_discounts is float32",
    ),
    "a discount above its count": (_changed("counts.label_discounts", (0, 0), UNIT + 1), "larger than"),
    "a label beyond the last": (_changed("counts.symbols", 10, 200), "symbols has a 200"),
    "a label behind a character": (_changed("counts.symbols", -1, 6), "do not stand first"),
    "no labels of their own": (lambda t: t.pop("counts.label_discounts"), "symbols has a"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_counts_behind_labels_are_refused(name):
    change, reason = HOSTILE[name]
    tensors = build(Grams.of(labelled(9, 900, 4), 4, SIZES)).tensors()
    assert Counts.from_tensors(tensors, 4, SIZES).labels == SIZES
    change(tensors)
    with pytest.raises(ValueError, match=reason) as caught:
        Counts.from_tensors(tensors, 4, SIZES)
    assert str(caught.value).isprintable()


def test_what_is_not_refused_gives_probabilities():
    whole = build(Grams.of(labelled(10, 300, 3), 4, SIZES)).tensors()
    random, accepted = np.random.default_rng(0), 0
    for _ in range(400):
        tensors = {name: array.copy() for name, array in whole.items()}
        array = tensors[str(random.choice(list(tensors)))]
        array.flat[random.integers(array.size)] = random.integers(0, 12)
        try:
            counts = Counts.from_tensors(tensors, 3, SIZES)
        except ValueError:
            continue
        accepted += 1
        lookup, compiled = Lookup(counts, [4, 8]), CompiledLookup(counts)
        contexts = random.integers(-1, 4, (3, 3)).astype(np.int32)
        found, _ = compiled.predict(contexts, np.tile(np.array([4, 8], np.int32), (3, 1)))
        for context, row in zip(contexts, found, strict=True):
            p, _ = lookup.predict(context)
            np.testing.assert_array_equal(row, p)
            assert p.min() > 0
            assert p.sum() == pytest.approx(1, abs=1e-12)
    assert accepted > 100


def columns() -> tuple[Column, ...]:
    return Column("origin", ("a", "b", "c"), (1, 1, 1)), Column("era", ("1", "2"), (1, 1))


def model(**settings: Any) -> Checkpoint:
    """A model of lines with labels, and counts that know them."""
    made = random_models.make(labels=SIZES, text=TextConfig(lines=True), **settings)
    return beside(replace(made, columns=columns()), length=4000)


def test_a_model_comes_back_with_counts_behind_labels_in_a_file_that_older_programs_refuse(tmp_path):
    path = tmp_path / "m.safetensors"
    model_file.save(model(), path)
    back = model_file.load(path)
    assert back.counts is not None
    assert back.counts.counts.labels == SIZES
    with model_file.container.opened(path) as file:
        assert file.record["format_version"] == 6
        record, tensors = file.record, file.tensors()
    for name, tensor in model().counts.tensors().items():
        np.testing.assert_array_equal(back.counts.tensors()[name], tensor)
    del tensors["counts.label_discounts"]
    model_file.container.write(path, tensors, record)
    error = refusals.refusal(model_file.load, tmp_path, path.read_bytes())
    assert "counts.symbols has a" in error.message


def test_a_file_whose_counts_know_no_labels_predicts_as_it_did(tmp_path):
    made = replace(model(), counts=gated(model().config.outputs, end=0))
    path = tmp_path / "m.safetensors"
    model_file.save(made, path)
    back = model_file.load(path)
    assert back.counts is not None
    assert back.counts.counts.labels == ()
    x = np.array([[9], [3], [0]], np.int32)
    found = [
        model_of(replace(back, counts=counts), 1).forward(x, labels=np.zeros((3, 1, 2), np.int32))[0]
        for counts in (back.counts, made.counts)
    ]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("labels", [{}, {"origin": "b"}, {"origin": "c", "era": "1"}])
def test_a_model_of_given_labels_can_be_written_and_read(labels, tmp_path):
    made, path = api.given(model(), labels), tmp_path / "m.safetensors"
    model_file.save(made, path)
    back = model_file.load(path)
    x = np.array([[9], [3], [4], [0]], np.int32)
    found = [model_of(one, 1).forward(x)[0] for one in (made, back)]
    np.testing.assert_array_equal(*found)
    model_file.save(back, tmp_path / "again.safetensors")
    assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([5, 9], "labels that are none"), ([5, 15], "labels that are none"), ([0], "labels that are none"),
        ([2**31], "labels that are none"), ([], "of shape"), ([5, *[10] * 17], "of shape"),
        ([200_000], "symbols is no"),
    ],
)  # fmt: skip
def test_given_labels_that_are_none_are_refused(given, reason):
    tensors = api.given(model(), {"origin": "b"}).counts.tensors()
    GatedCounts.from_tensors(tensors, 9)
    tensors["counts.given"] = np.array(given, np.uint32)
    with pytest.raises(ValueError, match=reason):
        GatedCounts.from_tensors(tensors, 9)
    with pytest.raises(ValueError, match=r"have 'counts\.given'"):
        GatedCounts.from_tensors(tensors, 9, SIZES)


# --- one probability wherever it is ------------------------------------------------------------------

GIVEN = [{}, {"origin": "b"}, {"origin": "c", "era": "1"}]


@pytest.mark.parametrize("labels", GIVEN)
def test_a_text_is_as_probable_read_with_its_labels_as_written(labels):
    made = api.given(model(), labels)
    assert isinstance(made, Checkpoint)
    V = made.config.outputs
    ids = np.random.default_rng(1).integers(1, V, 60).astype(np.int32)
    x = np.append(np.int32(V), ids[:-1])[:, None]
    known = model().counts.counts.symbols_of(np.array([3, 2]))
    assert known.tolist() == [-1, -1]
    told = np.array([[columns()[n].labels.index(labels[c]) if (c := columns()[n].name) in labels else 9]
                     for n in range(2)], np.int32).T  # fmt: skip
    read_fixed, _ = model_of(made, 1).losses(x, ids[:, None])
    read_told, _ = model_of(model(), 1).losses(x, ids[:, None], labels=np.tile(told, (60, 1, 1)))
    network = PlainNetwork(made)
    state, written = network.initial_state(), []
    for character, following in zip(x[:, 0].tolist(), ids.tolist(), strict=True):
        logits, state = network.step(character, state)
        written.append(-logits[following])
    np.testing.assert_allclose(read_fixed[:, 0], read_told[:, 0], atol=2e-5)
    np.testing.assert_allclose(read_fixed[:, 0], written, atol=2e-5)
    alone = api.given(replace(model(), counts=gated(V, length=4000, end=0)), labels)
    other, _ = model_of(alone, 1).losses(x, ids[:, None])
    if labels:
        assert np.abs(other - read_fixed).max() > 1e-3


@compiled_only
@pytest.mark.parametrize("labels", GIVEN)
def test_both_engines_write_the_same_bit_for_bit_given_labels(labels):
    from charrnn.inference import writing_loop
    from charrnn.inference.engines import CompiledPath, Cursor, PlainPath

    network = PlainNetwork(api.given(model(), labels))
    uniforms = [np.random.default_rng(seed).random(60) for seed in range(3)]

    def run(path: Any, texts: Any) -> tuple[Any, ...]:
        cursors = [Cursor(network.vocab_size, network.initial_state()) for _ in texts]
        ids = path.write(cursors, texts, -1)
        return ids, [cursor.state for cursor in cursors]

    plain, states = run(PlainPath(network, SampleConfig()), uniforms)
    path = CompiledPath(network, SampleConfig(), writing_loop, 1)
    for found, after in (run(path, uniforms), run(path, uniforms[:1])):
        for ids, other, own, expected in zip(found, plain, after, states, strict=False):
            np.testing.assert_array_equal(ids, other)
            np.testing.assert_array_equal(own, expected)


@functools.cache
def toy() -> Checkpoint:
    """Of two characters and three labels."""
    made = toy_models.toy(labels=(3,))
    return beside(replace(made, columns=columns()[:1]), order=4, length=4000)


def test_the_search_for_lines_is_exact_given_a_label():
    made = api.given(toy(), "b")
    lines = [line for line in toy_models.texts("ab", 6) if line]
    best = sorted(((log_probability(made, line + "\n"), line) for line in lines), reverse=True)[:12]
    found = list(api.enumerate_lines(made, count=12, length=6))
    assert [line.text.rstrip("\n") for line in found] == [line for _, line in best]
    np.testing.assert_allclose([line.log_probability for line in found], [p for p, _ in best], atol=1e-5)
    assert best != sorted(((log_probability(toy(), line + "\n"), line) for line in lines), reverse=True)[:12]


def test_labels_are_read_off_by_the_counts_behind_them(tmp_path):
    (tmp_path / "lines").write_text("ab\nba\nabba\n")
    (rows,) = api.classify(api.by_label(toy()), [tmp_path / "lines"])
    apart = 0.0
    for row, line in zip(rows, ("ab", "ba", "abba"), strict=True):
        own = [-log_probability(made, line + "\n") / np.log(2) for made in api.by_label(toy())]
        np.testing.assert_allclose(row.bits, own, atol=1e-4)
        apart = max(apart, max(own) - min(own))
    assert apart > 0.1


def test_what_is_compressed_with_a_label_comes_back_with_that_label_alone():
    data = b"abba\nab\n" * 30
    one, other = (api.given(toy(), label) for label in ("a", "b"))
    packed = b"".join(api.compress(one, [data]))
    assert b"".join(api.decompress(one, [packed])) == data
    with pytest.raises(CompressionError, match="another model"):
        list(api.decompress(other, [packed]))


@needs_node
def test_a_page_writes_what_the_command_writes_of_a_label(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model_file.save(model(), path)
    (tmp_path / "m.html").write_text(page(model(), "m", precision="float32"), "utf-8")
    options = {"seed": "3", "length": 60, "count": 3, "strength": 1.5}
    words = ("--seed", 3, "--length", 60, "--count", 3)
    for labels in ({"origin": "b"}, {"origin": "a", "era": "2"}):
        asked = [{"kind": "write", "options": {**options, "label": labels}}]
        (one,) = answers([(tmp_path / "m.html", True, asked)])
        more = [word for name, label in labels.items() for word in ("--label", f"{name}={label}")]
        expected = call("sample", "-m", path, *words, *more, "--strength", 1.5, "--precision", "float32")
        assert one["answers"][0]["text"] == expected.stdout.decode()


# --- training ----------------------------------------------------------------------------------------


def test_a_run_on_labelled_lines_counts_behind_labels_and_its_loss_is_that_of_the_file(tmp_path):
    random = np.random.default_rng(0)
    words = {label: ["".join(random.choice([*"abcdef"], 4)) for _ in range(5)] for label in "xy"}
    lines = [f"{label}\t{random.choice(words[label])}{random.choice(words[label])}\n" for label in "xy" * 300]
    (tmp_path / "t.tsv").write_text("".join(lines[:500]))
    (tmp_path / "v.tsv").write_text("".join(lines[500:]))
    out, text = tmp_path / "m.safetensors", TextConfig(lines=True, label_by="column")
    settings = {"hidden_size": 4, "num_layers": 1, "batch_size": 4, "seq_len": 16, "dropout": 0.0}
    settings |= {"steps": 6, "evaluations": 2, "counts": 0.2}
    list(api.train(tmp_path / "t.tsv", val=tmp_path / "v.tsv", text=text, out=out, **settings))
    trained = api.load(out)
    assert trained.counts is not None
    assert trained.counts.counts.labels == (2,)
    found = api.evaluate(out, tmp_path / "v.tsv")
    assert found.loss == pytest.approx(trained.best_val_loss, abs=1e-6)
    assert found.loss < found.loss_without_labels - 0.02
    first = out.read_bytes()
    list(api.train(tmp_path / "t.tsv", val=tmp_path / "v.tsv", text=text, out=out, force=True, **settings))
    assert out.read_bytes() == first
