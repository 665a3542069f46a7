"""Each filter and each rule against a naive implementation, plainly and compiled."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charrnn.config import SampleConfig
from charrnn.inference import constrained_step, filter_code, filters, sampling, tracking, writing_loop  # noqa: F401 (which registers what is compiled)
from charrnn.inference.tracking import Track
from charrnn.kernels.machine import jit

# Whole numbers, whose sums are exact.
WEIGHTS = st.lists(st.integers(0, 8).map(float), min_size=1, max_size=30).filter(any)
TEXTS = st.lists(st.integers(0, 3), max_size=60)


def space_of(V: int) -> sampling.Space:
    return sampling.Space([0.0] * V, [0] * V, [0.0] * V)


# --- typical and mirostat -------------------------------------------------------


def distances(p: list[float]) -> list[float]:
    """How far each surprise is from the expected one; Meister et al. 2023, in so many words."""
    q = [x / math.fsum(p) for x in p]
    entropy = -math.fsum(x * math.log(x) for x in q if x)
    return [abs(-math.log(x) - entropy) if x else math.inf for x in q]


@given(WEIGHTS, st.integers(1, 63))
def test_typical_keeps_what_surprises_about_as_much_as_is_expected(p, share):
    kept = list(p)
    filters.keep_typical(kept, share / 64, [0] * len(p), [0.0] * len(p))
    assert all(k in (0.0, x) for k, x in zip(kept, p, strict=True))
    far = distances(p)
    inside = [i for i, x in enumerate(kept) if x]
    # Nothing that is left out is nearer than what was kept (but for rounding, where two are as near) ..
    furthest = max(inside, key=lambda i: far[i])
    assert all(far[i] >= far[furthest] - 1e-9 for i in set(range(len(p))) - set(inside))
    # .. and it is the fewest that have the share: without one that is as far as any, they have not.
    assert sum(kept) >= sum(p) * share / 64
    last = [i for i in inside if far[i] >= far[furthest] - 1e-9]
    assert min(sum(kept) - p[i] for i in last) < sum(p) * share / 64


def test_typical_can_drop_the_most_probable():
    p = [0.5, 0.3, 0.2]
    filters.keep_typical(p, 0.3, [0] * 3, [0.0] * 3)
    assert p == [0.0, 0.3, 0.0]


@given(WEIGHTS, st.floats(-2, 12))
def test_mirostat_cuts_off_what_surprises_more_or_keeps_the_best(p, bits):
    p = [x / sum(p) for x in p]
    expected = [x if x and -math.log2(x) <= bits else 0.0 for x in p]
    if not any(expected):
        best = p.index(max(p))
        expected[best] = p[best]
    else:
        best = p.index(max(p))
        expected[best] = p[best]
    kept = list(p)
    filters.keep_surprise(kept, bits)
    assert kept == expected


def test_mirostat_holds_the_surprise_that_is_asked_for():
    """Of a steady distribution of 5 bits, at tau 3: the mean surprise is 3, and mu follows each error."""
    rules = tracking.free(32).lists
    logits = (-0.2 * np.arange(32)).tolist()
    chain = sampling.chain(SampleConfig(temperature=1.0, mirostat=3.0, mirostat_rate=0.1))
    p = np.exp(logits) / np.exp(logits).sum()
    tracks = tracking.listed(Track(memory=(6.0,)), 0)
    random = np.random.default_rng(1)
    surprises = []
    for u in random.random(4000).tolist():
        before = tracks.memory[0][0]
        chosen = constrained_step.step(list(logits), chain, u, rules, tracks, 0, 0, space_of(32))
        surprises.append(-math.log2(p[chosen]))
        assert tracks.memory[0][0] == pytest.approx(before - 0.1 * (surprises[-1] - 3.0))
    assert np.mean(surprises[200:]) == pytest.approx(3.0, abs=0.05)


# --- DRY ------------------------------------------------------------------------


def dry(
    text: list[int], V: int, multiplier: float, base: float, length: int, breakers: set[int]
) -> list[float]:
    """The penalty of each character, as p-e-w's description has it: by comparing all ends of the text."""
    penalties = [0.0] * V
    if not text or text[-1] in breakers:
        return penalties
    for c in range(V):
        longest = 0
        for n in range(1, min(len(text), length + filters.MOST_BEYOND) + 1):
            end = text[len(text) - n :]
            if set(end) & breakers or c in breakers:
                break
            if any(text[i : i + n] == end and text[i + n] == c for i in range(len(text) - n)):
                longest = n
        if longest >= length:
            penalties[c] = multiplier * base ** (longest - length)
    return penalties


@given(TEXTS, st.integers(1, 4), st.sets(st.integers(0, 3), max_size=1), st.integers(0, 5))
def test_dry_penalizes_what_would_prolong_a_repeat(text, length, breakers, unused):
    V = 4
    logits = [1.0] * V
    recent = [-1] * unused + text + [-1]
    marks = [c in breakers for c in range(V)]
    filters.penalize_repeats(logits, recent[:-1], marks, 0.8, 1.2, length, [0.0] * V)
    expected = [1.0 - penalty for penalty in dry(text, V, 0.8, 1.2, length, breakers)]
    np.testing.assert_allclose(logits, expected, rtol=1e-12)


def test_dry_looks_no_further_back_than_its_window():
    text = [0, 1, 2, 3, 3, 0, 1]
    chain = sampling.chain(SampleConfig(temperature=0.0, dry=1.0, dry_length=2))
    for window, penalized in ((7, True), (6, False)):
        logits = [0.0] * 4
        rules = tracking.free(4).lists._replace(window=window)
        tracks = tracking.listed(Track(memory=(0.0,)), 0)._replace(recent=[[*text, -1]])
        constrained_step.step(logits, chain, 0.5, rules, tracks, 0, len(text) - window, space_of(4))
        assert (logits[2] < 0.0) == penalized


# --- the automaton's mask ---------------------------------------------------------


def test_the_mask_leaves_what_can_still_be_ended():
    row, classes, reach = [1, 2, -1], [0, 1, 2, 0], [0, 0, 3]
    for left, kept in ((1, [0, 3]), (3, [0, 3]), (4, [0, 1, 3])):
        logits = [1.0, 2.0, 3.0, 4.0]
        assert constrained_step.mask(logits, row, classes, reach, left)
        assert [i for i, x in enumerate(logits) if x > -math.inf] == kept
    assert not constrained_step.mask([1.0] * 4, row, classes, [0, 9, 9], 3)


def test_a_mask_that_leaves_only_broken_numbers_takes_all_as_equal():
    logits = [math.nan, -math.inf, 5.0]
    assert constrained_step.mask(logits, [1, 1, -1], [0, 1, 2], [0, 0], 1)
    assert logits == [0.0, 0.0, -math.inf]


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20), st.floats(0.1, 5))
def test_log_sum(logits, temperature):
    expected = np.logaddexp.reduce(np.array(logits) / temperature)
    assert constrained_step.log_sum(logits, temperature, [0.0] * len(logits)) == pytest.approx(
        expected, abs=1e-9
    )


# --- plain and compiled -----------------------------------------------------------


@numba.njit
def compiled_step(logits, chain, u, rules, tracks, space):
    return constrained_step.step(logits, chain, u, rules, tracks, 0, 0, space)


@settings(deadline=None, max_examples=150)  # the first call compiles
@given(st.data())
def test_plain_and_compiled_steps_agree_to_the_last_bit(data):
    V, S, W = 5, 4, 12
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    logits = random.standard_normal(V)
    config = SampleConfig(
        temperature=data.draw(st.sampled_from([0.0, 0.7, 1.5])),
        top_k=data.draw(st.integers(0, V)),
        typical=data.draw(st.sampled_from([1.0, 0.6])),
        mirostat=data.draw(st.sampled_from([0.0, 1.5])),
        dry=data.draw(st.sampled_from([0.0, 0.8])),
        dry_length=2,
    )
    free = tracking.free(V).arrays
    rules = free._replace(
        checks=data.draw(st.booleans()),
        weighs=config.temperature > 0 and data.draw(st.booleans()),
        table=random.integers(-1, S, (S, 3)).astype(np.int32),
        classes=random.integers(0, 3, V).astype(np.int32),
        reach=random.integers(0, 4, S),
        ends=data.draw(st.booleans()),
        run=data.draw(st.sampled_from([0, 4, 6])),
        gram=4,
        probes=2,
        bits=random.integers(0, 256, 16).astype(np.uint8),
        breakers=np.arange(V) == data.draw(st.integers(0, V)),
        window=W,
    )
    both = tracking.Control(rules, Track())
    track = Track(
        state=int(random.integers(S)), left=int(random.integers(1, 6)), copied=2,
        memory=(2.0,) * len(filters.active(config)),
        recent=random.integers(-1 if data.draw(st.booleans()) else 0, V, W),
    )  # fmt: skip
    u = float(random.random())
    lists, arrays = tracking.listed(track, 1), tracking.gathered([track], 1)
    plain = constrained_step.step(
        logits.tolist(), sampling.chain(config), u, both.lists, lists, 0, 0, space_of(V)
    )
    space = sampling.Space(np.zeros(V), np.zeros(V, np.int64), np.zeros(V))
    chain = sampling.chain(config) if jit.JIT_DISABLED else filter_code.chain(config)
    compiled = compiled_step(logits, chain, u, both.arrays, arrays, space)
    assert plain == compiled
    for one, other in zip(lists, arrays, strict=True):
        assert np.array(one).tobytes() == other.astype(np.array(one).dtype).tobytes()
