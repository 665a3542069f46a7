"""Texts for many prompts: in order, each what it is alone, and no more is read than is needed."""

from __future__ import annotations

import io
import itertools
import sys
from typing import Any

import pytest
from support.compiled_loop import Ready, let_load
from support.novelty_index import indexed
from support.texts import generate
from support.toy_models import toy

from charrnn import api
from charrnn.cli import prompts
from charrnn.config import SampleConfig, TextConfig
from charrnn.errors import CorpusError, SamplingError, VocabularyError
from charrnn.generation import particles, rejection, writing
from charrnn.inference import engines

PROMPTS = ["a", "", "bca", "abcd" * 8, "d", "ab", "a"]


@pytest.fixture(autouse=True, params=[False, True], ids=["plain", "compiled"])
def path(request, monkeypatch):
    let_load(monkeypatch, Ready(0 if request.param else None))
    return request.param


def written(texts) -> list[str]:
    return ["".join(pieces) for pieces in texts]


@pytest.mark.parametrize("lines", [True, False])
@pytest.mark.parametrize("settings", [{}, {"until": "ab"}, {"length": 0}], ids=str)
@pytest.mark.parametrize("count", [1, 3])
def test_each_text_is_what_it_is_alone(lines, settings, count, monkeypatch):
    checkpoint = toy(characters="\nabcd", lines=lines, ending=0.3)
    settings = {"length": 20, "seed": 4} | settings
    alone = [
        "".join(generate(checkpoint, prompt, SampleConfig(**settings), index=count * n + k, echo=True))
        for n, prompt in enumerate(PROMPTS)
        for k in range(count)
    ]
    monkeypatch.setattr(engines, "TEXTS_A_THREAD", 3)  # so that texts must make room for others
    for threads in (1, 2):
        texts = api.sample_each(checkpoint, PROMPTS, count=count, echo=True, threads=threads, **settings)
        assert written(texts) == alone
    assert settings["length"] == 0 or len(set(alone)) > len(PROMPTS) / 3


STEERED: list[dict[str, Any]] = [
    {"match": "[abd]+c?d*"},
    {"match": "(ab?|d)*[cd]", "exact": True},
    {"ban": ("ab", "dd", "b\n"), "only": "abcd"},
    {"novel": True}, {"novel": 9, "dry": 0.8, "dry_length": 2}, {"typical": 0.7, "mirostat": 1.2},
]  # fmt: skip


@pytest.mark.parametrize("settings", STEERED, ids=str)
@pytest.mark.parametrize("lines", [True, False])
def test_what_a_text_may_be_steers_it_as_if_it_were_alone(lines, settings, monkeypatch):
    monkeypatch.setattr(rejection, "FREE_DRAWS", 30)
    monkeypatch.setattr(particles, "PARTICLES", 20)
    checkpoint = indexed(toy(characters="\nabcd", lines=lines, ending=0.3), "abcd\nbcadbca\na\n" * 3)
    settings = {"length": 20, "seed": 4} | settings
    alone = [
        "".join(generate(checkpoint, prompt, SampleConfig(**settings), index=n))
        for n, prompt in enumerate(PROMPTS)
    ]
    monkeypatch.setattr(engines, "TEXTS_A_THREAD", 3)
    for threads in (1, 2):
        assert written(api.sample_each(checkpoint, PROMPTS, threads=threads, **settings)) == alone
    assert len(set(alone)) > (len(PROMPTS) / 3 if "match" not in settings else 1)


@pytest.mark.parametrize("lines", [True, False])
def test_no_line_comes_twice_in_the_texts_of_all_prompts(lines):
    checkpoint = toy(characters="\nabcd", lines=lines, ending=0.8)
    settings: dict[str, Any] = {"seed": 1, "length": 30, "unique": True}
    texts = written(api.sample_each(checkpoint, PROMPTS, count=2, echo=True, threads=2, **settings))
    seen = [line for text in texts for line in (text + "\n" * lines).split("\n")[:-1] if line.strip()]
    assert len(seen) > len(PROMPTS)
    assert len(set(seen)) == len(seen)
    in_any_order = list(api.sample_each(checkpoint, PROMPTS, count=2, echo=True, threads=1, **settings))
    assert written(in_any_order[::-1])[::-1] == texts


def test_a_prompt_from_which_nothing_fits_is_named():
    texts = api.sample_each(toy(), ["b", "a", "b"], seed=1, match="b+", ban=("ab",))
    assert "b" in "".join(next(texts))
    with pytest.raises(SamplingError, match="line 2 of the prompts: no text of the model's characters"):
        next(texts)


def test_texts_may_be_taken_in_any_way():
    checkpoint = toy(characters="\nabcd", lines=False)
    wanted = written(api.sample_each(checkpoint, PROMPTS, seed=1, length=20))
    texts = api.sample_each(checkpoint, PROMPTS, seed=1, length=20)
    assert ["".join(text) for n, text in enumerate(texts) if n % 3 == 1] == wanted[1::3]
    assert written(list(api.sample_each(checkpoint, PROMPTS, seed=1, length=20))[::-1]) == wanted[::-1]


def test_prompts_without_end_are_read_as_they_are_needed(path):
    read = itertools.count()
    prompts = ("ab" for _ in read)
    texts = api.sample_each(toy(), prompts, seed=1, threads=1)
    next(texts)
    assert next(read) <= 2, "the first text needs one prompt"
    for _ in range(500):
        "".join(next(texts))
    most = writing.TEXTS_FROM_PROMPTS * (engines.TEXTS_A_THREAD if path else 1)
    assert next(read) <= 501 + most + 3


def test_those_that_are_there_are_taken_together(path):
    asked = []

    def take(most: int) -> list[str]:
        asked.append(most)
        return ["a", "b"][:most] if len(asked) < 4 else []

    texts = written(api.sample_each(toy(), take, seed=1, threads=1))
    assert len(texts) == (6 if path else 3)
    assert max(asked) == (writing.TEXTS_FROM_PROMPTS * engines.TEXTS_A_THREAD if path else 1)


def test_an_unknown_character_is_named_after_the_texts_before_it():
    texts = api.sample_each(toy(), ["a", "b", "a€", "b"], seed=1)
    assert "".join(next(texts)) == "".join(generate(toy(), "a", SampleConfig(seed=1)))
    next(texts)
    with pytest.raises(VocabularyError, match=r"line 3 of the prompts: .*U\+20AC.* at position 1"):
        next(texts)
    skipped = written(api.sample_each(toy(), ["a", "a€b"], seed=1, on_unknown="skip", echo=True))
    assert skipped[1].startswith("ab")


def test_there_may_be_no_prompt_at_all():
    assert written(api.sample_each(toy(), [])) == []


def test_a_prompt_that_is_too_long_is_refused_and_no_more_of_it_is_read(monkeypatch):
    monkeypatch.setattr(prompts, "LONGEST", 10)
    lines = io.BytesIO(b"a" * 10 + b"\n" + b"b" * 11 + b"\nc\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(lines))
    taken = prompts.Prompts("-", TextConfig(), TextConfig(), lambda: None)
    assert taken.take(1) == ["a" * 10]
    with pytest.raises(
        CorpusError, match="line 2 of the prompts is longer than 10 characters: give its end alone"
    ):
        taken.take(1)
    stdin = io.TextIOWrapper(io.BytesIO(b"d" * 1000))
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(CorpusError, match="the prompt on stdin is longer than 10 bytes"):
        prompts.from_stdin(TextConfig(), TextConfig())
    assert stdin.buffer.tell() <= 11
