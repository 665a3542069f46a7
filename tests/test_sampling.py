"""The filters against their definitions, run plainly and compiled."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from charrnn.config import SampleConfig
from charrnn.inference import filter_code, filters, sampling, writing_loop  # noqa: F401 (which registers what is compiled)
from charrnn.kernels.machine import jit

GREATEST_U = math.nextafter(1.0, 0.0)

# Whole numbers, whose sums are exact, as unscaled probabilities; few different ones, so that many are equal.
WEIGHTS = st.lists(st.integers(0, 8).map(float), min_size=1, max_size=40).filter(any)
FINITE = st.floats(-1e6, 1e6, width=32)
ANY_LOGIT = st.one_of(FINITE, st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, 3e38, -3e38]))
TEMPERATURES = st.floats(1e-6, 1e6)
UNIFORMS = st.one_of(st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, GREATEST_U]))


@numba.njit
def compiled_sample(logits, chain, u, space, past):
    return sampling.sample(logits, chain, u, space, past)


@numba.njit(error_model="numpy")  # as the kernels: then it is vector code
def compiled_exponentials(p):
    sampling.exponentials(p)


def sample(logits, *, u=0.5, limit=math.inf, **options) -> int:
    config = SampleConfig(**{"temperature": 1.0, **options})
    V = len(logits)
    space = sampling.Space([0.0] * V, [0] * V, [0.0] * V)
    past = sampling.Past([], [], [limit] * len(filters.active(config)))
    return sampling.sample(list(logits), sampling.chain(config), u, space, past)


def chain_of(config: SampleConfig) -> sampling.Chain:
    """The filters for compiled code, or without the JIT for the same as Python."""
    return sampling.chain(config) if jit.JIT_DISABLED else filter_code.chain(config)


def softmax(logits: Any, temperature: float = 1.0) -> list[float]:
    p = [0.0] * len(logits)
    sampling.probabilities(p, list(logits), temperature)
    return p


def after(filter_: Any, p: list[float], *arguments: Any) -> list[float]:
    p = list(p)
    filter_(p, *arguments)
    return p


def order(p: list[float]) -> list[int]:
    """Ids from the most probable down, the lower first where two are equal."""
    return sorted(range(len(p)), key=lambda i: (-p[i], i))


def only(p: list[float], ids: Any) -> list[float]:
    return [x if i in ids else 0.0 for i, x in enumerate(p)]


# --- exp ----------------------------------------------------------------------


def test_exp_is_exact_to_its_promise():
    x = np.concatenate(
        [np.linspace(-708, 0, 100_001), -np.logspace(-320, 2, 1001), np.linspace(0, 709, 1001)]
    )
    np.testing.assert_allclose(sampling.exp(x), [math.exp(number) for number in x], rtol=2e-13, atol=0)
    assert sampling.exp(np.zeros(1)) == 1.0
    assert sampling.exp(np.full(1, sampling.LEAST_EXPONENT)) > np.finfo(np.float64).tiny


@given(
    st.lists(st.one_of(st.floats(-1000, 0), st.floats(max_value=0), st.just(-math.inf)), max_size=40),
)
@example([0.0, -0.0, -708.0, math.nextafter(-708, -800), -math.inf, -5e-324, -1e308] * 3)
def test_exponentials_are_the_same_bits_on_both_paths_and_zero_far_down(p):
    plain, compiled = list(p), np.array(p)
    sampling.exponentials(plain)
    compiled_exponentials(compiled)
    assert np.array(plain).tobytes() == compiled.tobytes()
    for x, y in zip(p, plain, strict=True):
        assert y == (pytest.approx(math.exp(x), rel=2e-13) if x >= sampling.LEAST_EXPONENT else 0.0)


# --- probabilities ------------------------------------------------------------


@given(st.lists(FINITE, min_size=1, max_size=50), TEMPERATURES)
def test_probabilities_are_the_softmax(logits, temperature):
    scaled = (np.array(logits) - max(logits)) / temperature
    expected = np.exp(scaled) / np.exp(scaled).sum()
    np.testing.assert_allclose(softmax(logits, temperature), expected, rtol=1e-12, atol=1e-300)


@given(st.lists(ANY_LOGIT, min_size=1, max_size=50), st.one_of(TEMPERATURES, st.just(5e-324)))
def test_probabilities_sum_to_one_whatever_the_logits(logits, temperature):
    p = softmax(logits, temperature)
    assert all(0.0 <= x <= 1.0 for x in p)
    assert math.fsum(p) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([math.inf, 0.0, math.inf, math.nan], [0.5, 0.0, 0.5, 0.0]),
        ([-math.inf, 0.0, 0.0], [0.0, 0.5, 0.5]),
        ([-math.inf, -math.inf], [0.5, 0.5]),
        ([math.nan, -math.inf, -math.inf], [0.0, 0.5, 0.5]),
        ([math.nan, math.nan], [0.5, 0.5]),
        ([math.nan, -5.0], [0.0, 1.0]),
        ([3e38, -3e38], [1.0, 0.0]),
    ],
)
def test_infinite_logits_are_limits_and_nan_gets_nothing(logits, expected):
    for temperature in (1e-6, 1.0, 1e6):
        assert softmax(logits, temperature) == expected


def test_low_temperatures_choose_the_best_and_high_ones_anything():
    logits = [0.0, 2.0, 1.999, -1.0]
    assert softmax(logits, 1e-6) == [0.0, 1.0, 0.0, 0.0]
    np.testing.assert_allclose(softmax(logits, 1e6), [0.25] * 4, atol=1e-6)


# --- argmax -------------------------------------------------------------------


@given(st.lists(ANY_LOGIT, min_size=1, max_size=30), UNIFORMS)
@example([math.nan, math.nan], 0.0)
@example([math.nan, -math.inf], 0.0)
def test_temperature_zero_is_the_first_of_the_greatest(logits, u):
    numbers = [x for x in logits if not math.isnan(x)]
    expected = logits.index(max(numbers)) if numbers else 0
    assert sample(logits, temperature=0.0, top_k=1, top_p=0.1, min_p=0.9, u=u) == expected


# --- filters ------------------------------------------------------------------


@given(WEIGHTS, st.integers(1, 45))
def test_top_k_keeps_the_k_most_probable(p, k):
    assert after(filters.keep_top_k, p, k, [0] * len(p)) == only(p, order(p)[:k])


def nucleus(p: list[float], wanted: float) -> list[int]:
    ids = order(p)
    return next(ids[:n] for n in range(1, len(p) + 1) if sum(p[i] for i in ids[:n]) >= wanted)


@given(WEIGHTS, st.integers(1, 64))
def test_top_p_keeps_the_fewest_that_have_the_share(p, share):
    # A share of n/64 of whole numbers is exact too.
    assert after(filters.keep_top_p, p, share / 64, [0] * len(p)) == only(p, nucleus(p, sum(p) * share / 64))


@given(WEIGHTS, st.integers(0, 64))
def test_min_p_keeps_what_is_not_too_far_below_the_best(p, ratio):
    kept = {i for i, x in enumerate(p) if x >= max(p) * ratio / 64}
    assert after(filters.keep_min_p, p, ratio / 64) == only(p, kept)


@given(st.lists(FINITE, min_size=1, max_size=50), TEMPERATURES, st.floats(5e-324, 1.0))
def test_every_filter_keeps_the_most_probable(logits, temperature, x):
    p = softmax(logits, temperature)
    heap = [0] * len(p)
    best = order(p)[0]
    for filter_, arguments in (
        (filters.keep_top_k, (1, heap)),
        (filters.keep_top_p, (x, heap)),
        (filters.keep_min_p, (x,)),
    ):
        kept = after(filter_, p, *arguments)
        assert kept[best] == p[best] > 0.0
        assert all(k in (0.0, q) for k, q in zip(kept, p, strict=True))


def test_the_examples_of_the_docstrings_hold():
    heap = [0] * 4
    assert after(filters.keep_top_p, [0.1, 0.5, 0.0, 0.3], 0.5, heap) == [0.0, 0.5, 0.0, 0.0]
    assert after(filters.keep_top_p, [0.1, 0.5, 0.0, 0.3], 0.8, heap) == [0.0, 0.5, 0.0, 0.3]
    assert after(filters.keep_min_p, [0.5, 0.3, 0.1], 0.4) == [0.5, 0.3, 0.0]
    assert after(filters.keep_min_p, [0.9, 0.06, 0.04], 0.4) == [0.9, 0.0, 0.0]
    assert [sampling.choose([0.2, 0.0, 0.2], u) for u in (0.0, 0.49, 0.5, GREATEST_U)] == [0, 0, 2, 2]


# --- choose -------------------------------------------------------------------


@given(WEIGHTS)
def test_a_sweep_of_u_chooses_each_character_by_its_weight(p):
    total = int(sum(p))
    chosen = [sampling.choose(p, (n + 0.5) / total) for n in range(total)]
    assert chosen == sorted(chosen)
    assert [chosen.count(i) for i in range(len(p))] == p


@given(st.lists(st.floats(0, 1e-3), min_size=1, max_size=60).filter(any), UNIFORMS)
def test_what_has_no_probability_is_never_chosen(p, u):
    assert p[sampling.choose(p, u)] > 0.0


# --- all together -------------------------------------------------------------


def test_filters_apply_one_after_the_other():
    logits = np.log([0.4, 0.3, 0.2, 0.1])
    # top-p is a share of what top-k has left: 0.55 of 0.7 is less than 0.4.
    assert sample(logits, top_p=0.55, u=GREATEST_U) == 1
    assert sample(logits, top_k=2, top_p=0.55, u=GREATEST_U) == 0
    # min-p looks at what the temperature has made of it: 0.2 / 0.4, squared.
    assert sample(logits, min_p=0.4, u=GREATEST_U) == 2
    assert sample(logits, temperature=0.5, min_p=0.4, u=GREATEST_U) == 1


def test_a_top_k_of_the_whole_vocabulary_or_more_filters_nothing():
    for k in (0, 3, 4, 1000):
        assert sample([0.0, 0.0, 0.0], top_k=k, u=GREATEST_U) == 2


@pytest.mark.parametrize(
    ("options", "support"),
    [
        ({}, 12),
        ({"temperature": 0.5}, 12),
        ({"top_k": 5}, 5),
        ({"top_p": 0.7}, None),
        ({"min_p": 0.2}, None),
        ({"temperature": 1.5, "top_k": 9, "top_p": 0.9, "min_p": 0.05}, None),
    ],
)
def test_frequencies_are_the_filtered_probabilities(options, support):
    logits = np.random.default_rng(7).standard_normal(12)
    draws = (
        2_000  # by numbers from 0 to 1 at equal distances, of which each character has those of an interval
    )
    counts = np.bincount([sample(logits, u=(n + 0.5) / draws, **options) for n in range(draws)], minlength=12)
    # The definitions once more, in NumPy.
    p = np.exp(logits / options.get("temperature", 1.0))
    ranks = np.argsort(-p).argsort()
    p[ranks >= options.get("top_k", 12)] = 0.0
    p /= p.sum()
    ahead = np.array([p[ranks < rank].sum() for rank in ranks])
    p[ahead >= options.get("top_p", 1.0)] = 0.0
    p[p < options.get("min_p", 0.0) * p.max()] = 0.0
    expected = draws * p / p.sum()

    possible = expected > 0
    assert support is None or possible.sum() == support
    assert counts[~possible].sum() == 0
    assert (abs(counts - expected) < 1).all()


@settings(deadline=None, max_examples=250)  # the first call compiles
@given(
    st.lists(ANY_LOGIT, min_size=1, max_size=40),
    st.one_of(st.just(0.0), TEMPERATURES, st.floats(0.2, 2.0)),
    st.integers(0, 45),
    st.one_of(st.just(1.0), st.floats(0, 1, exclude_min=True)),
    st.one_of(st.just(1.0), st.floats(0, 1, exclude_min=True)),
    st.one_of(st.just(0.0), st.floats(0, 1)),
    st.one_of(st.just(math.inf), st.floats(-5, 20)),
    UNIFORMS,
)
def test_compiled_and_plain_sampling_agree_to_the_last_bit(
    logits, temperature, top_k, typical, top_p, min_p, most_bits, u
):
    row = np.array(logits, np.float32)
    V = len(row)
    config = SampleConfig(
        temperature=temperature, top_k=top_k, typical=typical, top_p=top_p, min_p=min_p,
        mirostat=float(most_bits < math.inf),
    )  # fmt: skip
    memory = [most_bits] * len(filters.active(config))
    plain_space = sampling.Space([0.0] * V, [0] * V, [0.0] * V)
    plain = sampling.sample(
        row.tolist(), sampling.chain(config), u, plain_space, sampling.Past([], [], memory)
    )
    space = sampling.Space(np.zeros(V), np.zeros(V, np.int64), np.zeros(V))
    nothing = np.zeros(0)
    past = sampling.Past(nothing, nothing, np.array(memory, np.float64))
    assert compiled_sample(row, chain_of(config), u, space, past) == plain
    assert np.array(plain_space.p).tobytes() == space.p.tobytes()
