"""Frequencies that are a softmax in whole numbers, and a coder that gives back what it was given."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.scoring import rans

logit = st.one_of(
    st.floats(-60, 60, width=32),
    st.sampled_from([math.inf, -math.inf, math.nan, 3e38, -3e38, 0.0, -0.0, 1e-45]),
)


def frequencies(logits) -> list[int]:
    f, p = [0] * len(logits), [0.0] * len(logits)
    rans.frequencies(f, logits, p)
    return f


@given(st.floats(-24, 0))
def test_exp_is_exp(x):
    assert rans.exp(x) == pytest.approx(math.exp(x), rel=1e-10)


@given(st.lists(logit, min_size=1, max_size=40))
def test_frequencies_sum_to_the_total_and_leave_nobody_out(logits):
    f = frequencies(logits)
    assert sum(f) == rans.TOTAL
    assert min(f) >= 1


@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40))
def test_frequencies_are_the_softmax(logits):
    p = np.exp(np.array(logits) - max(logits))
    np.testing.assert_allclose(np.array(frequencies(logits)) / rans.TOTAL, p / p.sum(), atol=1e-6)


def test_infinite_logits_share_and_no_number_gets_the_least():
    half = rans.TOTAL // 2
    assert frequencies([math.inf, 0.0, math.inf, math.nan]) == [half - 1, 1, half - 1, 1]
    assert frequencies([math.nan] * 3) == [rans.TOTAL - 2, 1, 1]
    assert frequencies([7.0]) == [rans.TOTAL]


def test_compiled_frequencies_are_those_of_python():
    from charrnn.kernels.machine.jit import JIT_DISABLED, njit
    from charrnn.scoring import rans_loop as compiled

    if JIT_DISABLED:
        pytest.skip("nothing is compiled")
    assert compiled.measure
    frequencies_of = rans.frequencies

    @njit()
    def call(f, logits, p):
        frequencies_of(f, logits, p)

    rng = np.random.default_rng(0)
    for V in (1, 2, 7, 65, 198):
        for scale in (0.1, 3, 40):
            logits = rng.normal(0, scale, V).astype(np.float32)
            if V == 7:
                logits[2], logits[5] = np.nan, np.inf if scale > 3 else -np.inf
            f = np.empty(V, np.int64)
            call(f, logits, np.empty(V))
            assert f.tolist() == frequencies(logits.tolist())


def encode(pairs) -> tuple[int, list[int]]:
    words, count, x = [0] * (len(pairs) + 1), 0, rans.LOWEST
    for start, f in reversed(pairs):
        x, count = rans.push(x, start, f, words, count)
    return x, words[:count][::-1]


@given(st.integers(0, 2**32), st.integers(0, 300), st.integers(1, 30))
def test_what_is_pushed_comes_out_again(seed, length, V):
    draw = random.Random(seed)
    tables = [frequencies([draw.uniform(-40, 10) for _ in range(V)]) for _ in range(5)]
    symbols = [draw.randrange(V) for _ in range(length)]
    pairs = []
    for n, symbol in enumerate(symbols):
        f = tables[n % 5]
        pairs.append((rans.start_of(f, symbol), f[symbol]))
    x, words = encode(pairs)
    bits = sum(math.log2(rans.TOTAL / f) for _, f in pairs)
    assert 32 * len(words) + math.log2(x) <= 1.001 * bits + 32
    for n, symbol in enumerate(symbols):
        f = tables[n % 5]
        assert rans.find(f, x & (rans.TOTAL - 1)) == symbol
        x = rans.pop(x, rans.start_of(f, symbol), f[symbol])
        if x < rans.LOWEST:
            x = x << rans.WORD | words.pop(0)
        assert rans.LOWEST <= x < 1 << 63
    assert (x, words) == (rans.LOWEST, [])
