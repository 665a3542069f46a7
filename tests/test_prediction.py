"""The table of what comes next: the softmax of the network's logits, in order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.model_files import checkpoint

from charrnn import api
from charrnn.config import TextConfig
from charrnn.errors import ConfigError, VocabularyError
from charrnn.nn.network import Model

SIZES = {"cell": "lstm", "hidden_size": 6, "num_layers": 2, "embedding_size": 6}
LINES = checkpoint(4, "\nabc", **SIZES)
PROSE = replace(LINES, text=TextConfig())


def expected(m, read, temperature=1.0):
    model = Model(m.config)
    model.load_tensors(m.tensors)
    x = np.array([m.config.vocab_size, *read], np.int32)[:, None]
    logits = model.forward(x)[0][-1, 0].astype(float) / temperature
    p = np.exp(logits - logits.max())
    return p / p.sum()


@pytest.mark.parametrize(
    ("m", "prompt", "read"),
    [
        (LINES, "", []),
        (LINES, "abc", [1, 2, 3]),
        (LINES, "cc\nab", [1, 2]),  # its last line alone
        (PROSE, "", [0]),  # as after a line end
        (PROSE, "c\nab", [3, 0, 1, 2]),
        (PROSE, "abc" * 300, [1, 2, 3] * 300),
    ],
)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_table_is_the_softmax_after_the_prompt(m, prompt, read, temperature):
    table = api.next_characters(m, prompt, temperature=temperature)
    p = expected(m, read, temperature)
    if not read:  # of a model of lines, none is empty
        p[0] = 0
        p /= p.sum()
    assert [c for c, _ in table] == ["\nabc"[n] for n in np.argsort(-p)]
    np.testing.assert_allclose([q for _, q in table], sorted(p)[::-1], atol=1e-5)
    assert sum(q for _, q in table) == pytest.approx(1)


def test_temperature_zero_leaves_the_most_probable():
    table = api.next_characters(LINES, "a", temperature=0)
    assert table[0] == (api.next_characters(LINES, "a")[0][0], 1.0)
    assert [q for _, q in table[1:]] == [0.0] * 3


def test_unknown_characters_are_an_error_or_skipped():
    with pytest.raises(VocabularyError, match="never seen"):
        api.next_characters(LINES, "xa")
    assert api.next_characters(LINES, "xa", on_unknown="skip") == api.next_characters(LINES, "a")


def test_a_temperature_below_zero_is_refused():
    with pytest.raises(ConfigError, match="temp"):
        api.next_characters(LINES, temperature=-1)


def test_of_models_mixed_the_probabilities_are_mixed():
    other = checkpoint(5, "\nabc", **SIZES)
    found = dict(api.next_characters(api.blend([(LINES, 3.0), (other, 1.0)]), "ab"))
    for character, p in found.items():
        parts = [dict(api.next_characters(model, "ab"))[character] for model in (LINES, other)]
        assert p == pytest.approx(0.75 * parts[0] + 0.25 * parts[1])
