"""Counts: the equations of Kneser and Ney, in NumPy as compiled, in few bytes; damaged ones are refused."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import documents as texts
from support.counted_texts import contexts_of, random_text, state, stretches
from support.environment import environment

from charrnn.checkpoint import container
from charrnn.config import TrainConfig
from charrnn.counts import compiled as compilation
from charrnn.counts.compiled import CompiledLookup
from charrnn.counts.counts import ARRAYS, MOST_VALUE, UNIT, Counts
from charrnn.counts.learning import building, grams, levels
from charrnn.counts.learning.building import build
from charrnn.counts.learning.grams import Grams, longest_order
from charrnn.counts.lookup import NOTHING, Lookup
from charrnn.text.documents import Documents, Pieces
from charrnn.text.validation import split

UNBOUNDED = 99

# "ab", "a": after a, b or the end of a document; V = 2, contexts of one character.
SMALL = {
    "discounts": np.full((2, 3), UNIT // 2, np.uint16),
    "symbols": np.array([0, 0, 2], np.uint8),
    "children": np.array([2], np.uint8),
    "successors": np.array([2, 1, 1], np.uint8),
    "masses": np.array([1, 0, 0], np.uint8),
    "following": np.array([0, 1, 1, 0], np.uint8),
    "codes": np.array([0, 0, 0, 1], np.uint8),
    "count_values": np.array([1, 2], np.uint32),
    "mass_values": np.array([UNIT // 2, UNIT], np.uint32),
}


def small(**changes: Any) -> Counts:
    return Counts(**{**SMALL, **changes}, vocab_size=2)


def check_against_naive(documents: Documents, n: int, once: int = UNBOUNDED) -> None:
    V = documents.vocab_size
    reference = naive.KneserNey(stretches(documents), n, V, once)
    lookup = Lookup(build(Grams.of(documents, n), once=once, exact=True))
    for context in contexts_of(reference, V)[:: math.ceil(V / 50)]:
        p, _ = lookup.predict(state(lookup, context, n))
        expected = [reference.probability(w, context) for w in range(V)]
        np.testing.assert_allclose(p, expected, rtol=1e-12)
        assert p.sum() == pytest.approx(1, abs=1e-14)


# --- exactly Kneser and Ney's ----------------------------------------------------------------------


@given(st.lists(st.text("abc", min_size=1, max_size=30), min_size=1, max_size=4), st.integers(2, 5))
def test_probabilities_are_those_of_the_equations(parts, n):
    ids = [ord(c) - ord("a") for c in "".join(parts)]
    starts = list(itertools.accumulate(map(len, parts[:-1]), initial=0))
    check_against_naive(texts.make(ids, starts, vocab_size=3), n)


@pytest.mark.parametrize("once", [2, 3, UNBOUNDED])
@pytest.mark.parametrize("n", [4, 7])
def test_so_they_are_where_all_counts_occur_from_which_discounts_are_learned(n, once):
    documents = random_text(1, 1200, 12)
    counts = build(Grams.of(documents, n), exact=True)
    assert np.any(counts.discounts != [UNIT // 2, UNIT, 3 * UNIT // 2])
    check_against_naive(documents, n, once)


def test_keys_may_need_two_words():
    documents = random_text(2, 400, 300)
    assert 7 * 9 < 64 < 8 * 9
    check_against_naive(documents, 8)
    assert longest_order(300) == 14


def test_the_end_of_a_line_is_predicted_and_no_context_crosses_it():
    documents, vocabulary = texts.make_lines("anna\nana\nan\nnan\n")
    check_against_naive(documents, 4)
    lookup = Lookup(build(Grams.of(documents, 4), exact=True))
    a, n, end = (vocabulary.characters.index(c) for c in "an\n")
    first = lookup.initial_state()
    after_line = lookup.predict(lookup.after(documents.vocab_size, lookup.after(end, first)))[0]
    assert lookup.predict(first)[0][a] > lookup.predict(first)[0][n]
    assert lookup.predict(lookup.after(a, first))[0][n] > 0.5
    np.testing.assert_array_equal(after_line, lookup.predict(first)[0])


@pytest.mark.parametrize("kind", ["scattered", "end"])
def test_nothing_is_taken_from_what_is_held_out(kind):
    lines = texts.make_lines("".join(f"{'ab' * (i % 7)}{'c' * (i % 3)}\n" for i in range(60)))[0]
    prose = replace(random_text(3, 9000, 10), starts=np.array([0, 4000]))
    for documents in (lines, prose):
        config = TrainConfig(steps=1, val_fraction=0.3, val_split=kind, seed=1)
        part, _ = split(documents, config, -1)
        check_against_naive(part, 4)
        other = documents.ids.copy()
        held_out = np.delete(np.arange(len(other)), part._places(np.arange(len(part))))
        other[held_out] = np.where(other[held_out] == documents.end, documents.end, 1)
        assert np.any(other != documents.ids)
        a, b = (Grams.of(replace(part, ids=ids[: len(part.ids)]), 4) for ids in (documents.ids, other))
        np.testing.assert_array_equal(a.keys, b.keys)
        np.testing.assert_array_equal(a.counts, b.counts)


def test_before_a_cut_nothing_is_known():
    whole = np.array([0, 1, 2, 3, 0, 1], np.uint8)
    pieces = Pieces.between(np.array([0, 4]), np.array([2, 6]))
    documents = Documents(whole, 4, np.array([0]), pieces=pieces, cuts=np.array([2]))
    assert stretches(documents) == [(True, [0, 1]), (False, [0, 1])]
    check_against_naive(documents, 3)


# --- merging, and any order of the work --------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 100, 10**6])
@pytest.mark.parametrize("V", [12, 300])
def test_the_text_may_be_sorted_in_chunks_of_any_size(chunk, V, monkeypatch):
    documents = random_text(4, 500, V)
    whole = Grams.of(documents, 8)
    monkeypatch.setattr(grams, "CHUNK", chunk)
    same = Grams.of(documents, 8)
    np.testing.assert_array_equal(same.keys, whole.keys)
    np.testing.assert_array_equal(same.counts, whole.counts)


def test_merged_grams_are_those_of_both_texts():
    a, b = random_text(5, 700, 20), random_text(6, 400, 20)
    both = replace(
        a, ids=np.concatenate([a.ids, b.ids]), starts=np.concatenate([a.starts, b.starts + len(a)])
    )
    merged, whole = Grams.of(a, 6).merged(Grams.of(b, 6)), Grams.of(both, 6)
    np.testing.assert_array_equal(merged.keys, whole.keys)
    np.testing.assert_array_equal(merged.counts, whole.counts)
    with pytest.raises(ValueError, match="order"):
        merged.merged(Grams.of(a, 5))


def test_threads_build_and_score_the_same_at_the_same_time():
    documents = random_text(7, 6000, 40)
    expected = build(Grams.of(documents, 7), 20_000).tensors()
    with ThreadPoolExecutor(4) as threads:
        built = list(threads.map(lambda _: build(Grams.of(documents, 7), 20_000).tensors(), range(8)))
        for tensors in built:
            for name, array in tensors.items():
                np.testing.assert_array_equal(array, expected[name])
        compiled = CompiledLookup(Counts.from_tensors(expected, 40))
        whole = CompiledLookup(Counts.from_tensors(expected, 40)).score(documents, 0, 6000)
        bounds = list(itertools.pairwise(range(0, 6001, 500)))
        parts = list(threads.map(lambda part: compiled.score(documents, *part), bounds))
    for all_of_it, some in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(some), all_of_it)


# --- look-up -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("V", "n"), [(2, 600), (65, 600), (300, 60)])
@pytest.mark.parametrize("most_bytes", [None, 6000])
def test_both_paths_agree_bit_for_bit(V, n, most_bytes):
    documents = random_text(8, 4000, V)
    counts = build(Grams.of(documents, 5), most_bytes)
    lookup, compiled = Lookup(counts), CompiledLookup(counts)
    x, _, reset = documents.look_up(np.arange(n))
    nothing = np.full(4, NOTHING, np.int32)
    contexts = [nothing]
    for character, begins in zip(x.tolist(), reset.tolist(), strict=True):
        contexts.append(lookup.after(character, nothing if begins else contexts[-1]))
    np.testing.assert_array_equal(contexts[1], lookup.initial_state())
    p, features = compiled.predict(np.stack(contexts))
    assert (p > 0).all()
    for context, row, told in zip(contexts, p, features, strict=True):
        expected, expected_features = lookup.predict(context)
        np.testing.assert_array_equal(row, expected)
        np.testing.assert_array_equal(told, expected_features)
    chances, scored = compiled.score(documents, 0, n)
    np.testing.assert_array_equal(chances, p[np.arange(1, n + 1), documents.ids[:n]])
    np.testing.assert_array_equal(scored, features[1:])
    np.testing.assert_array_equal(compiled.score(documents, n // 6, n, features=False)[0], chances[n // 6 :])
    assert compiled.score(documents, n // 6, n, features=False)[1].shape == (n - n // 6, 0)


def test_counts_of_many_characters_are_looked_up_as_a_file_holds_them(tmp_path):
    random = np.random.default_rng(0)
    ids = random.integers(0, 300, 900).astype(np.uint16)
    counts = building.learned(Documents(ids, 300, np.zeros(1, np.int64)))
    container.write(tmp_path / "c", counts.tensors(), {})
    with container.opened(tmp_path / "c") as file:
        read = Counts.from_tensors(file.tensors(), 300)
    context = np.array([*[NOTHING] * (counts.order - 2), int(ids[7])], np.int32)
    np.testing.assert_array_equal(Lookup(read).predict(context)[0], Lookup(counts).predict(context)[0])


def test_rows_that_are_computed_in_advance_and_the_hash_change_nothing(monkeypatch):
    counts = build(Grams.of(random_text(8, 4000, 65), 5))
    contexts = np.random.default_rng(0).integers(NOTHING, 65, (300, 4)).astype(np.int32)
    contexts[:100] = np.lib.stride_tricks.sliding_window_view(random_text(8, 4000, 65).ids[:103], 4)
    one = CompiledLookup(counts)
    monkeypatch.setattr(compilation, "MOST_NUMBERS", 200)
    other = CompiledLookup(counts)
    assert one.tree.factor != other.tree.factor
    assert (len(one.tree.rows), len(other.tree.rows)) == (67, 3)  # of 65 characters, START and nothing
    for found, expected in zip(one.predict(contexts), other.predict(contexts), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_features_are_what_they_are_called():
    documents = random_text(9, 3000, 30)
    lookup = Lookup(build(Grams.of(documents, 4), exact=True))
    reference = naive.KneserNey(stretches(documents), 4, 30)
    for context in contexts_of(reference, 30)[::7]:
        p, features = lookup.predict(state(lookup, context, 4))
        totals = [sum(reference.counts.get(context[len(context) - k :], {}).values()) for k in range(1, 4)]
        known = [math.log1p(total) if len(context) >= k else 0.0 for k, total in enumerate(totals, 1)]
        np.testing.assert_allclose(features, [*known, p.max(), -(p * np.log(p)).sum()], atol=2e-5)


def test_the_numpy_path_needs_no_compiler():
    code = "import sys, charrnn.counts.lookup; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment()).returncode == 0


# --- few bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("V", [12, 300])
def test_the_bound_is_held_and_the_best_remains(V):
    documents = random_text(10, 8000, V)
    grams = Grams.of(documents, 6)
    losses = []
    for most_bytes in (4000, 8000, 16000, 10**6):
        counts = build(grams, most_bytes)
        assert counts.nbytes <= most_bytes
        losses.append(-np.log(CompiledLookup(counts).score(documents, 0, 8000, features=False)[0]).mean())
    assert counts.nbytes > 16000
    assert losses == sorted(losses, reverse=True)


def test_each_character_remains_possible_however_small_the_bound():
    counts = build(Grams.of(random_text(11, 3000, 20), 5), 1)
    p, _ = Lookup(counts).predict(np.arange(4, dtype=np.int32))
    assert len(counts.symbols) == 1
    assert p.min() > 0
    assert p.sum() == pytest.approx(1, abs=1e-14)


def test_rounded_values_are_near_and_probabilities_sum_to_one():
    documents = random_text(12, 40_000, 60)
    grams = Grams.of(documents, 6)
    rounded, exact = build(grams), build(grams, exact=True)
    assert rounded.codes.dtype == rounded.masses.dtype == np.uint8
    assert len(exact.mass_values) > len(rounded.mass_values)
    assert rounded.nbytes < exact.nbytes
    p, q = (CompiledLookup(counts) for counts in (rounded, exact))
    contexts = np.random.default_rng(0).integers(NOTHING, 60, (500, 5)).astype(np.int32)
    np.testing.assert_allclose(p.predict(contexts)[0], q.predict(contexts)[0], rtol=0.1)
    np.testing.assert_allclose(p.predict(contexts)[0].sum(1), 1, atol=1e-14)


@given(st.lists(st.integers(1, 2**31), min_size=1, max_size=2000, unique=True))
def test_codes_stand_for_values_near_those_that_they_replace(values):
    table, codes = levels.coded(np.array(values), exact=False)
    wanted = np.minimum(values, MOST_VALUE)
    assert len(table) <= 256
    assert table.min() >= 1
    np.testing.assert_allclose(table[codes], wanted, rtol=1 / 16)
    if len(values) <= 256:
        np.testing.assert_array_equal(table[codes], wanted)


def test_learned_counts_of_any_vocabulary_have_an_order_that_fits():
    for V in (2, 65, 300):
        counts = building.learned(random_text(13, 300, V))
        assert counts.order == 10
        assert counts.nbytes <= building.default_bytes(300)
    with pytest.raises(ValueError, match="from 2 to 14"):
        Grams.of(random_text(13, 300, 300), 15)


# --- files -------------------------------------------------------------------------------------------


def test_counts_come_back_from_a_file(tmp_path: Path):
    counts = build(Grams.of(random_text(14, 900, 300), 4))
    path = tmp_path / "counts.safetensors"
    container.write(path, counts.tensors(), {})
    with container.opened(path) as file:
        back = Counts.from_tensors(file.tensors(), 300)
    for name, array in counts.tensors().items():
        assert back.tensors()[name].dtype == array.dtype
        np.testing.assert_array_equal(back.tensors()[name], array)


def test_a_small_tree_says_what_it_should():
    p, _ = Lookup(small()).predict(np.array([0], np.int32))
    np.testing.assert_allclose(p, [0.25, 0.75])  # half of the root's 1/2, 1/2; the other half is all b's
    assert np.isfinite(Lookup(small()).predict(np.array([1], np.int32))[0]).all()


def changed(name: str, place: Any, value: int) -> dict[str, Any]:
    array = SMALL[name].copy()
    array[place] = value
    return {name: array}


HOSTILE = {
    "float numbers": ({"codes": np.zeros(4, np.float32)}, "codes is float32"),
    "signed numbers": ({"symbols": np.zeros(3, np.int64)}, "symbols is int64"),
    "a matrix": ({"following": np.zeros((2, 2), np.uint8)}, "following is uint8 of shape"),
    "two discounts": ({"discounts": np.zeros((2, 2), np.uint16)}, "discounts are"),
    "no order": ({"discounts": np.zeros((0, 3), np.uint16)}, "discounts are"),
    "a long order": ({"discounts": np.zeros((17, 3), np.uint16)}, "discounts are"),
    "a discount above its count": (changed("discounts", (1, 0), UNIT + 1), "larger than counts"),
    "another type of ids": ({"following": SMALL["following"].astype(np.uint16)}, "following is no uint8"),
    "a character that is none": (changed("following", 1, 2), "following has a 2"),
    "a symbol that is none": (changed("symbols", 2, 3), "symbols has a 3"),
    "no contexts": ({name: SMALL[name][:0] for name in ("symbols", "successors", "masses")}, "each context"),
    "a mass too few": ({"masses": SMALL["masses"][:2]}, "each context"),
    "a code too few": ({"codes": SMALL["codes"][:3]}, "not one code"),
    "no values": ({"count_values": SMALL["count_values"][:0]}, "count_values are not"),
    "a count of 0": (changed("count_values", 0, 0), "count_values are not"),
    "a mass of 0": (changed("mass_values", 0, 0), "mass_values are not"),
    "a huge mass": (changed("mass_values", 0, 2**30 + 1), "mass_values are not"),
    "a code beyond the table": (changed("codes", 0, 2), "codes has a 2"),
    "a mass beyond the table": (changed("masses", 0, 2), "masses has a 2"),
    "a child too many": (changed("children", 0, 3), "do not make a tree"),
    "a child too few": (changed("children", 0, 1), "do not make a tree"),
    "children of the last": ({"children": np.array([1, 1], np.uint8)}, "do not make a tree"),
    "no children": ({"children": np.zeros(0, np.uint8)}, "do not make a tree"),
    "a symbol of the root": (changed("symbols", 0, 1), "beyond their start"),
    "children twice": (changed("symbols", 2, 0), "symbols do not ascend"),
    "a character twice": (changed("following", 1, 0), "following do not ascend"),
    "a successor too many": (changed("successors", 0, 3), "do not share out"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_counts_are_refused(name):
    changes, reason = HOSTILE[name]
    with pytest.raises(ValueError, match=reason) as caught:
        small(**changes)
    assert str(caught.value).isprintable()


def test_a_context_does_not_go_on_before_a_start():
    with pytest.raises(ValueError, match="beyond their start"):
        small(
            discounts=np.full((3, 3), UNIT // 2, np.uint16),
            symbols=np.array([0, 0, 2, 1], np.uint8),
            children=np.array([2, 0, 1], np.uint8),
            successors=np.array([2, 1, 1, 0], np.uint8),
            masses=np.array([1, 0, 0, 0], np.uint8),
        )


def test_an_array_that_lacks_or_is_unknown_is_named():
    tensors = small().tensors()
    assert set(tensors) == {f"counts.{name}" for name in ARRAYS}
    with pytest.raises(ValueError, match=r"lack 'counts\.codes'"):
        Counts.from_tensors({name: tensors[name] for name in tensors if name != "counts.codes"}, 2)
    with pytest.raises(ValueError, match=r"have 'counts\.z'"):
        Counts.from_tensors({**tensors, "counts.z": tensors["counts.codes"]}, 2)


@settings(max_examples=300)
@given(st.sampled_from(ARRAYS), st.data())
def test_what_is_not_refused_gives_probabilities(name, data):
    array = SMALL[name].copy()
    place = data.draw(st.integers(0, array.size - 1))
    array.flat[place] = data.draw(st.integers(0, 2**30 if array.itemsize == 4 else np.iinfo(array.dtype).max))
    try:
        lookup = Lookup(small(**{name: array}))
    except ValueError:
        return
    for context in (NOTHING, 0, 1, 2):
        p, features = lookup.predict(np.array([context], np.int32))
        assert p.min() > 0
        assert p.sum() == pytest.approx(1, abs=1e-12)
        assert np.isfinite(features).all()
