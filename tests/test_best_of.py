"""The best of several samples."""

from __future__ import annotations

import numpy as np
import pytest
from support.toy_models import toy

import charrnn
from charrnn import api
from charrnn.errors import ConfigError
from charrnn.search import best_of
from charrnn.search.predictor import Predictor


def per_character(checkpoint, prompt: str, text: str) -> float:
    """log p a character, by evaluation; the prompt is one that the model reads as it stands."""
    surprises = charrnn.score(checkpoint, prompt + text)[len(prompt) :]
    return -float(surprises.mean(dtype=np.float64)) if len(surprises) else 0.0


def written(texts) -> list[str]:
    return ["".join(pieces) for pieces in texts]


@pytest.mark.parametrize("lines", [True, False])
def test_it_is_the_one_that_surprises_least(lines):
    checkpoint = toy(seed=2, characters="\nabcd", lines=lines, ending=0.5)
    settings = {"seed": 5, "length": 12, "temperature": 1.2, "prompt": "ab"}
    every = written(api.sample(checkpoint, count=35, **settings))
    best = written(api.sample(checkpoint, count=5, best_of=7, **settings))
    for n in range(5):
        group = every[7 * n : 7 * n + 7]
        assert best[n] == max(group, key=lambda text: per_character(checkpoint, "ab", text))
    assert best != every[::7]


def test_of_very_many_a_few_are_held_at_a_time(monkeypatch):
    checkpoint, n = toy(seed=2), 3 * best_of.BATCH + 5
    score, held = Predictor.score, []

    def watched(self, starts, texts):
        held.append(len(texts))
        return score(self, starts, texts)

    monkeypatch.setattr(Predictor, "score", watched)
    (best,) = written(api.sample(checkpoint, count=1, best_of=n, seed=3, length=8))
    every = written(api.sample(checkpoint, count=n, seed=3, length=8))
    assert best == max(every, key=lambda text: per_character(checkpoint, "", text))
    assert held == [best_of.BATCH] * 3 + [5]


def test_each_comes_when_its_own_samples_are_there():
    checkpoint = toy(seed=2)
    texts = api.sample(checkpoint, count=10**9, best_of=3, seed=1)
    assert len([next(texts) for _ in range(3)]) == 3


def test_the_prompt_comes_first_with_echo():
    checkpoint = toy(seed=2)
    plain = written(api.sample(checkpoint, "ab", count=3, best_of=4, seed=1))
    assert written(api.sample(checkpoint, "ab", count=3, best_of=4, seed=1, echo=True)) == [
        "ab" + text for text in plain
    ]


def test_each_prompt_has_its_own():
    checkpoint = toy(seed=2, characters="\nabcd")
    prompts = ["ab", "d", "", "d"]
    best = written(api.sample_each(checkpoint, prompts, count=2, best_of=3, seed=1))
    every = written(api.sample_each(checkpoint, prompts, count=6, seed=1))
    for n, text in enumerate(best):
        group, prompt = every[3 * n : 3 * n + 3], prompts[n // 2]
        assert text == max(group, key=lambda one: per_character(checkpoint, prompt, one))


def test_empty_texts_have_no_best():
    assert written(api.sample(toy(), count=2, best_of=3, length=0)) == ["", ""]
    with pytest.raises(ConfigError, match="best-of"):
        api.sample(toy(), best_of=0)
