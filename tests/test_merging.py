"""Counts of a model and of the text that it learns next, merged: the equations, names, bytes, and runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from support import documents as texts
from support.calls import call
from support.counted_texts import contexts_of, random_text, state, stretches

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import load, resume_path, save
from charrnn.config import TextConfig
from charrnn.counts.bundled_gate import BUNDLED
from charrnn.counts.compiled import CompiledLookup
from charrnn.counts.counts import UNIT, Counts
from charrnn.counts.learning import levels, merging
from charrnn.counts.learning.building import build
from charrnn.counts.learning.grams import Grams
from charrnn.counts.learning.merging import Both, EarlierCounts
from charrnn.counts.lookup import Lookup
from charrnn.errors import TrainingError
from charrnn.events import Evaluated, Saved, Started, Step
from charrnn.text.documents import Documents

V, N = 12, 5
FITS = 10**9


def told(text: Documents, n: int = N) -> Counts:
    return build(Grams.of(text, n), exact=True)


def unchanged(counts: Counts) -> EarlierCounts:
    return EarlierCounts(counts, BUNDLED, np.arange(counts.vocab_size + 1 + sum(counts.labels)))


def loss(counts: Counts, text: Documents) -> float:
    chances, _ = CompiledLookup(counts).score(text, 0, len(text), features=False)
    return -float(np.log(chances).mean())


@pytest.fixture
def exact(monkeypatch):
    """No count is rounded."""
    monkeypatch.setattr(merging, "MERGED_SCALE", UNIT)
    monkeypatch.setattr(levels, "CODES", 2**16)


# --- what both say -----------------------------------------------------------------------------------


@pytest.mark.parametrize("halvings", [0, 3])
def test_the_loss_by_which_the_weight_is_found_is_that_of_the_equations(halvings):
    parts, aside = (random_text(1, 700, V), random_text(2, 300, V)), random_text(3, 200, V)
    models = [naive.KneserNey(stretches(part), n, V) for part, n in zip(parts, (N, 4), strict=True)]
    weighted, nats = list(zip((0.5**halvings, 1.0), models, strict=True)), []
    for starts, characters in stretches(aside):
        symbols = [V] * starts + characters
        for i in range(starts, len(symbols)):
            context = tuple(symbols[max(i - N + 1, 0) : i])
            nats.append(-np.log(naive.merged(weighted, symbols[i], context)))
    both = Both(unchanged(told(parts[0])), told(parts[1], 4))
    assert merging._loss(both._seen(aside), 0.5**halvings, V) == pytest.approx(np.mean(nats), rel=1e-12)


@pytest.mark.parametrize(("halvings", "orders"), [(0, (N, N)), (2, (N, 4)), (3, (4, N))])
def test_probabilities_are_those_of_the_equations(halvings, orders, exact):
    parts = random_text(1, 700, V), random_text(2, 300, V)
    models = [naive.KneserNey(stretches(part), n, V) for part, n in zip(parts, orders, strict=True)]
    counts = [told(part, n) for part, n in zip(parts, orders, strict=True)]
    lookup = Lookup(Both(unchanged(counts[0]), counts[1]).merged(halvings, FITS))
    weighted = list(zip((0.5**halvings, 1.0), models, strict=True))
    for context in [c for model in models for c in contexts_of(model, V)[::9]]:
        p, _ = lookup.predict(state(lookup, context, N))
        np.testing.assert_allclose(p, [naive.merged(weighted, w, context) for w in range(V)], rtol=4e-3)
        assert p.sum() == pytest.approx(1, abs=1e-13)


def test_the_weight_is_found_by_the_loss_of_the_same_equations():
    model, text, aside = (random_text(seed, size, V) for seed, size in ((1, 3000), (1, 150), (1, 400)))
    aside = replace(aside, ids=aside.ids[150:], starts=np.array([0, 50]))
    both = Both(unchanged(told(model)), told(text))
    found = both.best_halvings(aside)
    assert found is not None
    losses = [loss(both.merged(halvings, FITS), aside) for halvings in range(4)]
    assert losses[min(found, 3)] == pytest.approx(min(losses), abs=0.01)
    assert losses[min(found, 3)] < loss(told(text), aside) - merging.MARGIN


def test_a_text_of_another_kind_does_no_good():
    text = random_text(3, 2000, V)
    other = replace(random_text(4, 2000, V), ids=(V - 1 - random_text(4, 2000, V).ids).astype(np.uint8))
    rest, aside = text.head(1500), replace(text, ids=text.ids[1500:], starts=np.zeros(1, np.int64))
    assert Both(unchanged(told(other)), told(rest)).best_halvings(aside) is None


def test_counts_that_are_merged_are_merged_again_as_they_are(exact):
    one, two, three = (random_text(seed, 400, V) for seed in (1, 2, 3))
    first = Both(unchanged(told(one)), told(two)).merged(1, FITS)
    assert first.is_merged
    assert not told(one).is_merged
    models = [naive.KneserNey(stretches(part), N, V) for part in (one, two, three)]
    lookup = Lookup(Both(unchanged(first), told(three)).merged(1, FITS))
    weighted = list(zip((0.25, 0.5, 1.0), models, strict=True))
    for context in contexts_of(models[0], V)[::25]:
        p, _ = lookup.predict(state(lookup, context, N))
        np.testing.assert_allclose(p, [naive.merged(weighted, w, context) for w in range(V)], rtol=4e-3)


def test_characters_have_the_names_of_the_text_and_what_it_lacks_is_left_out():
    model, text = told(random_text(1, 600, V)), random_text(2, 400, V + 3)
    symbols = np.array([0, 1, 3, -1, *range(5, V + 1), V + 3])  # START included
    found = Both(EarlierCounts(model, BUNDLED, symbols), told(text)).merged(0, FITS)
    assert found.vocab_size == V + 3
    lookup = Lookup(found)
    for context in contexts_of(naive.KneserNey(stretches(text), N, V + 3), V + 3)[::30]:
        p, _ = lookup.predict(state(lookup, context, N))
        assert p.sum() == pytest.approx(1, abs=1e-13)
        assert (p > 0).all()


@pytest.mark.parametrize("most_bytes", [4_000, 9_000])
def test_they_fit_in_the_bytes_and_what_is_left_out_brings_least(most_bytes):
    both = Both(unchanged(told(random_text(1, 6000, 40))), told(random_text(1, 3000, 40)))
    aside = random_text(1, 1000, 40)
    counts, whole = both.merged(1, most_bytes), both.merged(1, FITS)
    assert 0.7 * most_bytes < counts.nbytes <= most_bytes < whole.nbytes
    assert loss(whole, aside) < loss(counts, aside) < loss(whole, aside) + 0.5


def test_the_largest_contexts_hold_proportions(monkeypatch):
    text = random_text(1, 900, V)
    expected = loss(Both(unchanged(told(text)), told(text)).merged(0, FITS), text)
    monkeypatch.setattr(merging, "MOST_VALUE", 2**18)
    found = Both(unchanged(told(text)), told(text)).merged(0, FITS)
    assert loss(found, text) == pytest.approx(expected, abs=0.02)


def test_what_a_resume_file_holds_of_them_comes_back_and_anything_else_is_refused():
    earlier = unchanged(told(random_text(1, 300, V)))
    tensors = {"parameters": np.zeros(1, np.float32), **earlier.tensors()}
    back = EarlierCounts.from_tensors(tensors)
    assert back is not None
    np.testing.assert_array_equal(back.counts.codes, earlier.counts.codes)
    assert EarlierCounts.from_tensors({"parameters": tensors["parameters"]}) is None
    for name, wrong in (
        ("sizes", np.array([V - 1])), ("sizes", np.zeros(1, np.int64)), ("symbols", np.zeros(3, np.int64)),
        ("sizes", np.zeros(0, np.int64)), ("symbols", np.zeros(V + 1, np.float32)),
        ("counts.codes", np.zeros(1, np.uint8)), ("gate.most", np.full(1, np.nan, np.float32)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"counts|gate\.most"):
            EarlierCounts.from_tensors({**tensors, f"earlier.{name}": wrong})
    del tensors["earlier.symbols"]
    with pytest.raises(ValueError, match="earlier text"):
        EarlierCounts.from_tensors(tensors)


# --- runs that start from a model ----------------------------------------------------------------------

WORDS = ["the", "old", "man", "went", "down", "to", "sea", "and", "a", "boy", "came", "with", "bread", "hot"]
HOW: dict[str, Any] = {"steps": 4, "hidden_size": 8, "num_layers": 1, "threads": 1, "from_scratch": True}


def prose(words: list[str], length: int, seed: int) -> str:
    random = np.random.default_rng(seed)
    chosen = (words[int(i)] for i in len(words) * random.random(length) ** 2)
    return "".join(f"{word}{'.' * (random.random() < 0.1)}\n" for word in chosen)[:length]


def trained(folder: Path, name: str, corpus: str, **how: Any) -> tuple[Started, Evaluated]:
    (folder / name).write_text(corpus, encoding="utf-8")
    events = list(api.train(folder / name, out=folder / f"{name}.safetensors", **{**HOW, **how}))
    (started,) = (event for event in events if isinstance(event, Started))
    return started, next(event for event in events if isinstance(event, Evaluated))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model of WORDS with counts; `m0` is the same without."""
    folder = tmp_path_factory.mktemp("model")
    trained(folder, "m", prose(WORDS, 6000, 1) + "xyz")
    save(replace(load(folder / "m.safetensors"), counts=None), folder / "m0.safetensors")
    return folder / "m.safetensors"


def from_model(path: Path) -> dict[str, Any]:
    return {**HOW, "hidden_size": None, "num_layers": None, "from_scratch": False, "init_from": path}


def test_a_similar_text_is_told_better_and_it_is_said_whose_pieces_the_file_holds(model, tmp_path):
    text = prose(WORDS, 1500, 2) + "Q"
    started, with_both = trained(tmp_path, "n", text, **from_model(model))
    _, alone = trained(tmp_path, "o", text, **from_model(model.with_name("m0.safetensors")))
    assert with_both.network_loss == alone.network_loss
    assert any("pieces of both texts" in note for note in started.notes)
    both, own = (load(tmp_path / f"{name}.safetensors") for name in "no")
    assert both.counts.counts.is_merged
    assert not own.counts.counts.is_merged
    assert {"x", "Q"} < set(both.characters)
    ids = both.vocabulary.encode(prose(WORDS, 2000, 9))
    unseen = Documents(ids, len(both.vocabulary), np.zeros(1, np.int64))
    assert loss(both.counts.counts, unseen) < loss(own.counts.counts, unseen) - 0.02
    said = call("info", tmp_path / "n.safetensors").stdout
    assert b"pieces of the training text and of that of the model it started from" in said
    assert b'"merged": true' in call("info", "--json", tmp_path / "n.safetensors").stdout


def test_where_they_do_no_good_counts_are_those_of_the_text_and_with_none_there_are_none(model, tmp_path):
    text = prose([word[::-1].upper() for word in WORDS], 2500, 2)
    for name, path in (("n", model), ("o", model.with_name("m0.safetensors"))):
        trained(tmp_path, name, text, **from_model(path))
    found, expected = (load(tmp_path / f"{name}.safetensors").counts.tensors() for name in "no")
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor)
    started, _ = trained(tmp_path, "p", text, **{**from_model(model), "counts": 0})
    assert load(tmp_path / "p.safetensors").counts is None
    assert not any("pieces" in note for note in started.notes)


def test_a_run_that_is_resumed_has_the_bytes_of_one_that_was_not_interrupted(model, tmp_path, monkeypatch):
    text = prose(WORDS, 1500, 2)
    copy = tmp_path / "old.safetensors"
    copy.write_bytes(model.read_bytes())
    trained(tmp_path, "n", text, **{**from_model(copy), "threads": 2})
    monkeypatch.setattr("charrnn.training.run.REPORT_SECONDS", 0.0)
    seen: list[Step] = []
    how = {**from_model(copy), "stop": lambda: "enough" if len(seen) == 2 else None}
    for event in api.train(tmp_path / "n", out=tmp_path / "k.safetensors", **how):
        seen += [event] if isinstance(event, Step) else []
    copy.unlink()  # nothing but the resume file is needed
    (tmp_path / "k.safetensors").unlink(missing_ok=True)
    list(api.train(tmp_path / "n", out=tmp_path / "k.safetensors", threads=1, resume=True))
    assert (tmp_path / "k.safetensors").read_bytes() == (tmp_path / "n.safetensors").read_bytes()


def test_a_damaged_resume_file_is_refused(model, tmp_path):
    (tmp_path / "n").write_text(prose(WORDS, 1500, 2))
    out, how = tmp_path / "n.safetensors", {**from_model(model), "stop": lambda: "enough"}
    for event in api.train(tmp_path / "n", out=out, **how):
        if isinstance(event, Saved):
            break
    tensors, record = model_file.load_resume(resume_path(out))
    tensors["earlier.counts.symbols"][1:] = 200
    model_file.save_resume(resume_path(out), tensors, record, 6)
    with pytest.raises(TrainingError, match="damaged"):
        list(api.train(tmp_path / "n", out=out, threads=1, resume=True))


def test_labels_keep_their_names(tmp_path):
    lines = {"text": TextConfig(split="line", label_by="column")}
    pairs = [("b", WORDS[:9]), ("c", WORDS[9:])], [("a", WORDS[:9]), ("c", WORDS[9:])]
    for name, languages, how in (
        ("m", pairs[0], HOW),
        ("n", pairs[1], from_model(tmp_path / "m.safetensors")),
    ):
        rows = zip(*(prose(words, 1500, 3).split() for _, words in languages), strict=False)
        made = "".join(
            f"{label}\t{word}\n" for row in rows for (label, _), word in zip(languages, row, strict=True)
        )
        trained(tmp_path, name, made, **{**how, **lines})
    found = load(tmp_path / "n.safetensors")
    assert found.columns[0].labels == ("a", "b", "c")
    counts = found.counts.counts
    assert counts.is_merged
    roots = counts.symbols[1 : 1 + int(counts.children[0])]
    assert set((roots[roots > counts.vocab_size] - counts.vocab_size - 1).tolist()) == {0, 1, 2}


def test_counts_of_bytes_are_none_of_characters(model, tmp_path):
    started, _ = trained(tmp_path, "n", prose(WORDS, 1500, 2), text=texts.BYTES, **from_model(model))
    assert not load(tmp_path / "n.safetensors").counts.counts.is_merged
    assert not any("both texts" in note for note in started.notes)
