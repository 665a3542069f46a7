"""Texts that are steered: what they may be, how probable each is, and that all paths write the same."""

from __future__ import annotations

import functools
import itertools
import math
import re
import runpy
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.calls import call
from support.compiled_loop import Ready, compiled_only, let_load
from support.environment import environment
from support.novelty_index import indexed, result
from support.random_models import LINES, PROSE, make
from support.texts import generate

from charrnn import api
from charrnn.checkpoint import library
from charrnn.checkpoint import model_file as files
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import SampleConfig, TextConfig
from charrnn.constraints import rules
from charrnn.errors import CheckpointError, ConfigError, SamplingError
from charrnn.generation import particles, rejection
from charrnn.generation.writing import generate_all
from charrnn.inference import engines
from charrnn.inference.numpy_network import PlainNetwork
from charrnn.text.novelty import Novelty

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def plain_only(monkeypatch):
    """Every test starts with the plain path."""
    let_load(monkeypatch, Ready(after=None))


@pytest.fixture
def compiled(monkeypatch):
    """The compiled loop is there from the start."""
    let_load(monkeypatch, Ready(after=0))


@pytest.fixture(scope="module")
def places() -> Checkpoint:
    path = library.bundled("places")
    assert path is not None
    return files.load(path)


def write(checkpoint: Checkpoint, count: int = 1, prompt: str = "", *, threads=None, **settings) -> list[str]:
    config = SampleConfig(**{"seed": 1, **settings})
    return ["".join(t) for t in generate_all(checkpoint, prompt, config, count=count, threads=threads)]


# --- exactly this shape ---------------------------------------------------------

SHAPES = [
    ("[A-Z][a-z]{3,8}(ville|ton|burg)", {}),
    (r"(Saint|San|Santa) \p{Lu}\p{Ll}+(-\w+)?", {}),
    (r"\w{4}( \w{4}){2}", {}),
    (r"[^aeiou\s]{3,5}|\w+[éèüöä]\w*", {}),
    (r"([A-Z][a-z]+ )*[A-Z][a-z]+", {"length": 9}),
    (r"([a-z]{3}-){2,4}[a-z]{3}", {"length": 11}),
    (r".*x.*y.*z", {"length": 3}),
    ("a?", {"length": 1}),
    (r"\w*", {"temperature": 3.0, "top_k": 2}),
    (r"\p{Lu}.{2,}", {"temperature": 0.0}),
]  # fmt: skip


@compiled_only
def test_three_thousand_samples_all_match(places, compiled):
    expression = re.compile("[A-Z][a-z]{3,8}(ville|ton|burg)\n")
    texts = write(places, 3000, match=expression.pattern.strip())
    assert len(texts) == 3000
    assert all(expression.fullmatch(text) for text in texts)
    assert len(set(texts)) > 1500


@pytest.mark.parametrize(("expression", "settings"), SHAPES)
def test_every_text_matches_as_a_whole(expression, settings, places, compiled):
    python = re.sub(r"\\p\{Lu\}", "[A-ZÀ-ÖØ-ÞĀ-Ɏ]", re.sub(r"\\p\{Ll\}", "[a-zß-öø-ÿĀ-ɏ]", expression))
    for text in write(places, 300, match=expression, **settings):
        assert re.fullmatch(python, text.removesuffix("\n")), text
        assert text != "\n"
        assert len(text) <= settings.get("length", 10_000)


def test_one_character_is_enough_where_one_is_left(places):
    assert set(write(places, 50, match="(a|b)*c", length=1)) == {"c"}
    assert all(re.fullmatch("[ab]?c\n?", text) for text in write(places, 50, match="(a|b)*c", length=2))


@pytest.mark.parametrize("length", [1, 2, 5, 12])
def test_prose_ends_where_the_expression_does(length, compiled):
    checkpoint = make(characters="abc .", seed=4)
    for expression in ("[ab]+c", "(a|b)*c?", "(..)*", "(?s).*", r"\w+\.?", "[ab]{1,3}"):
        texts = write(checkpoint, 100, match=expression, length=length) if (expression, length) != (
            "[ab]+c", 1) else []  # fmt: skip
        assert all(re.fullmatch(expression, text) and len(text) <= length for text in texts)


@pytest.mark.parametrize("text", [PROSE, LINES], ids=["prose", "lines"])
def test_masked_texts_end_with_a_word_where_the_expression_only_counts(text, compiled):
    checkpoint = make(characters="\n .ab", text=text, seed=3)
    checkpoint.tensors["decoder.bias"][:] += -9.0, 0.5, -9.0, 0.0, 0.0  # words, and hardly ever an end
    ends = [one.removesuffix("\n") for one in write(checkpoint, 60, match=".{10,40}")]
    assert all(10 <= len(one) <= 40 for one in ends)
    assert not any(" " in one[30:] for one in ends)
    if text is PROSE:  # where the word ends, the text does; a line has to be ended by the model
        free = write(checkpoint, 60, length=80)
        assert all(f.startswith(one + " ") or len(one) == 40 for f, one in zip(free, ends, strict=True))
        assert sum(len(one) == 40 for one in ends) < 10
    for one in write(checkpoint, 60, match="(?s).{20,39}[.]"):
        assert one.removesuffix("\n").endswith(".")
        assert not set(" \n") & set(one.removesuffix("\n")[30:])


def test_exact_texts_know_nothing_of_natural_ends():
    checkpoint = make(characters="\n .ab")
    config = SampleConfig(match=".{10,40}", exact=True)
    steered = rules.prepare(checkpoint, config, 500, "")
    assert steered is not None
    for control_ in (steered, steered.weighing):
        arrays = control_.arrays
        assert arrays.table[:, arrays.classes[1]].tolist() == arrays.table[:, arrays.classes[3]].tolist()
    masked = rules.prepare(checkpoint, SampleConfig(match=".{10,40}"), 500, "")
    assert masked is not None
    arrays = masked.arrays
    assert arrays.table[:, arrays.classes[1]].tolist() != arrays.table[:, arrays.classes[3]].tolist()


def test_an_expression_that_allows_everything_changes_nothing():
    checkpoint = make()
    assert write(checkpoint, 5, match="(?s).*", length=60) == write(checkpoint, 5, length=60)
    lines = make(text=LINES)
    assert write(lines, 20, match=".*") == write(lines, 20)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"match": "Ж"}, "no text of the model's characters"),
        ({"match": "aaaa", "length": 3}, "the shortest text that matches has 4 characters, not 3"),
        ({"match": "a+", "only": "b"}, "no text of the model's characters"),
        ({"match": "a+b?", "ban": ("a",)}, "no text of the model's characters"),
        ({"match": "a\n"}, "no text of the model's characters"),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is(settings, words, places):
    with pytest.raises(SamplingError, match=re.escape(words)):
        generate_all(places, "", SampleConfig(**settings))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"match": "a", "until": "b"}, "--match and --until contradict"),
        ({"match": "a", "until": ("", "b")}, "--match and --until contradict"),
        ({"drop_until": True, "until": ("",)}, "--drop-until leaves out what --until says"),
        ({"exact": True}, "--exact says how"),
        ({"exact": True, "match": "a", "top_k": 3}, "--exact draws from the model's own"),
        ({"exact": True, "match": "a", "temperature": 0}, "--exact draws from the model's own"),
        ({"novel": 7}, "novel is 7"),
        ({"typical": 0}, "typical is 0"),
        ({"ban": "abc"}, "ban is 'abc'"),
    ],
)
def test_settings_that_contradict_each_other_are_errors(settings, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        SampleConfig(**settings)


# --- how probable each text is ----------------------------------------------------

N = 4  # characters at the most


class Toy:
    """A model of three characters, and the probability of each of its texts, by its own equations."""

    def __init__(self, text: Any, expression: str) -> None:
        self.checkpoint = make(characters="\nab", text=text, seed=2, scale=2.0)
        self.characters = self.checkpoint.vocabulary.characters
        self.network = PlainNetwork(self.checkpoint)
        self.lines = text.lines
        self.expression = expression
        alphabet = self.characters[1:] if self.lines else self.characters
        words = ("".join(t) for n in range(N + 1) for t in itertools.product(alphabet, repeat=n))
        self.words = {word for word in words if re.fullmatch(expression, word, re.S)}
        self.words -= {""} if self.lines else set()
        self.begun = {word[:n] for word in self.words for n in range(len(word) + 1)}

    def walk(self, masked: bool) -> dict[str, float]:
        """The probability of each matching text: masked, or freely (what does not match has the rest)."""
        found: dict[str, float] = {}

        def follow(text: str, p: float, last: int, state: Any) -> None:
            if len(text) == N:
                found[text] = found.get(text, 0.0) + p
                return
            logits, state = self.network.step(last, state)
            q = np.exp(logits.astype(np.float64))
            q /= q.sum()
            fits = np.array([text + c in self.begun for c in self.characters])
            if self.lines:
                fits[0] = text in self.words
                if not text:  # even freely
                    q /= q[1:].sum()
            ends = text in self.words and not self.lines
            if masked and not ends:
                q = np.where(fits, q, 0.0) / q[fits].sum()
            for n, character in enumerate(self.characters):
                if fits[n] and self.lines and n == 0:
                    found[text + "\n"] = p * float(q[n])
                elif fits[n]:
                    follow(text + character, p * float(q[n]), n, state)
                elif ends:
                    found[text] = found.get(text, 0.0) + p * float(q[n])

        start, state = len(self.characters), self.network.initial_state()
        if not self.lines:  # prose begins as after a line's end
            _, state = self.network.step(start, state)
            start = 0
        follow("", 1.0, start, state)
        return found

    def draw(self, count: int, **settings: Any) -> list[str]:
        return write(
            self.checkpoint, count, match=self.expression, length=N, temperature=1.0, threads=1, **settings
        )


def assert_drawn_from(expected: dict[str, float], texts: list[str]) -> None:
    """Pearson's chi-squared test, at four standard deviations; rare texts are taken together."""
    counts = Counter(texts)
    assert counts.keys() <= expected.keys()
    rare = {text for text, p in expected.items() if p * len(texts) < 5}
    cells = [(counts[text], expected[text]) for text in expected.keys() - rare]
    cells.append((sum(counts[text] for text in rare), sum(expected[text] for text in rare)))
    cells = [(count, p * len(texts)) for count, p in cells if p > 0]
    freedom = len(cells) - 1
    assert freedom >= 2
    chi_squared = sum((count - wanted) ** 2 / wanted for count, wanted in cells)
    assert chi_squared < freedom + 4 * math.sqrt(2 * freedom)


TOYS = [(LINES, "a*b+"), (LINES, "(a|bb)*"), (PROSE, "(\na|b)+a"), (PROSE, "a*\nb?|b\n"), (PROSE, "(a|bb)*")]


@pytest.mark.parametrize(("text", "expression"), TOYS)
def test_frequencies_are_the_computed_probabilities(text, expression, compiled, monkeypatch):
    toy = Toy(text, expression)
    masked, free = toy.walk(masked=True), toy.walk(masked=False)
    total = sum(free.values())
    exact = {word: p / total for word, p in free.items()}
    assert sum(masked.values()) == pytest.approx(1.0)
    assert max(abs(masked[word] - exact[word]) for word in exact) > 0.02  # they do differ

    assert_drawn_from(masked, toy.draw(2000))
    assert_drawn_from(exact, toy.draw(400, exact=True))  # each costs a few drafts
    monkeypatch.setattr(rejection, "FREE_DRAWS", 0)  # particles from the start
    monkeypatch.setattr(particles, "PARTICLES", 60)
    assert_drawn_from(exact, toy.draw(80, exact=True))


@pytest.mark.parametrize("text", [LINES, PROSE], ids=["lines", "prose"])
def test_free_frequencies_are_the_computed_probabilities(text, compiled):
    toy = Toy(text, "(?s).*")
    texts = write(toy.checkpoint, 4000, length=N, temperature=1.0)
    assert_drawn_from(toy.walk(masked=False), texts)


def test_what_is_almost_impossible_is_found_by_particles(places, compiled, monkeypatch):
    monkeypatch.setattr(rejection, "FREE_DRAWS", 5)
    assert set(write(places, 3, match="x{3}q{3}", exact=True)) == {"xxxqqq\n"}


# --- never this -------------------------------------------------------------------


@pytest.mark.parametrize("text", [PROSE, LINES], ids=["prose", "lines"])
def test_banned_texts_never_appear_and_others_do(text, compiled):
    checkpoint = make(text=text, seed=3)
    bans = ("ab", "cc", "e\n", "🙂")
    texts = write(checkpoint, 60, "ca", ban=bans, length=80)
    assert all(ban not in "ca" + text for ban in bans for text in texts)
    assert {"ca", "ba", "e"} <= {two for t in texts for two in map("".join, itertools.pairwise(t))} | set(
        "".join(texts)
    )


def test_only_these_characters_appear():
    checkpoint = make()
    assert set("".join(write(checkpoint, 20, only="ab ", length=60))) == set("ab ")
    assert set("".join(write(make(text=LINES), 50, only="ab"))) == set("ab\n")


def test_a_ban_does_not_look_at_the_prompt_alone():
    assert "ab" not in "b" + "".join(write(make(), 1, "abab", ban=("ab",), length=100))


# --- new ------------------------------------------------------------------------


@compiled_only
def test_two_thousand_novel_unique_names(places, compiled):
    corpus = (ROOT / "corpora/places.txt").read_text("utf-8").split("\n")
    names = [text.removesuffix("\n") for text in write(places, 2000, novel=True, unique=True)]
    assert len(names) == len(set(names)) == 2000
    assert not set(names) & set(corpus)
    assert len(set(write(places, 2000)) & {name + "\n" for name in corpus}) > 5  # else nothing was shown


def test_novel_lines_are_the_free_ones_without_the_old(compiled):
    """Drawing anew is the model's distribution, given that the line is new."""
    toy = Toy(LINES, "(?s).*")
    old = ["a", "ab", ""]
    checkpoint = indexed(toy.checkpoint, "".join(line + "\n" for line in old))
    free = {text: p for text, p in toy.walk(masked=False).items() if text.removesuffix("\n") not in old}
    expected = {text: p / sum(free.values()) for text, p in free.items()}
    assert_drawn_from(expected, write(checkpoint, 4000, length=N, temperature=1.0, novel=True))


@pytest.mark.parametrize("unique", [False, True])
def test_no_line_of_prose_is_old(unique):
    checkpoint = make(seed=5, characters="\nab")
    free = write(checkpoint, 3, length=200)
    known = {line for text in free for line in text.split("\n")[:5]}
    texts = write(indexed(checkpoint, "\n".join(known)), 3, length=200, novel=True, unique=unique)
    assert [len(text) for text in texts] == [200] * 3
    lines = [line for text in texts for line in text.split("\n")[:-1] if line.strip()]
    assert not known & set(lines)
    assert len(set(lines)) < len(lines)  # but some come twice, as lines of prose may


@pytest.mark.parametrize("novel", [False, True])
def test_no_text_of_prose_comes_twice(novel):
    checkpoint = indexed(make(seed=5, characters="\nab"), "ab\nbb\n")
    free = write(checkpoint, 40, length=5, novel=novel)
    texts = write(checkpoint, 40, length=5, novel=novel, unique=True)
    assert len(set(free)) < len(set(texts)) == 40
    assert not novel or not {"ab", "bb"} & {line for text in texts for line in text.split("\n")[:-1]}


def test_the_lines_of_prose_may_come_twice_in_unique_texts():
    """As a speaker's name or a closing brace does in every text."""
    checkpoint = make(seed=5, characters="\nab")
    free = write(checkpoint, 5, length=100)
    lines = [line for text in free for line in text.split("\n") if line]
    assert len(set(lines)) < len(lines)
    assert write(checkpoint, 5, length=100, unique=True) == free


def test_the_first_line_of_prose_begins_in_the_prompt():
    checkpoint = indexed(make(seed=5, characters="\nab"), "ab\nabb\n")
    for text in write(checkpoint, 40, "aaa\nab", length=12, novel=True):
        assert ("ab" + text).split("\n")[0] not in ("ab", "abb")


@functools.cache
def with_its_own_texts(text: TextConfig) -> tuple[Checkpoint, str]:
    """A model as if it had been trained on what it writes, and that."""
    checkpoint = make(seed=5, text=text, scale=3.0)
    corpus = "".join(write(checkpoint, 30, length=100))
    return indexed(checkpoint, corpus), corpus


@pytest.mark.parametrize("run", [8, 9, 16, 20])
@pytest.mark.parametrize("text", [PROSE, LINES], ids=["prose", "lines"])
def test_no_run_is_copied(run, text, compiled):
    checkpoint, corpus = with_its_own_texts(text)
    settings = {"length": 100, "novel": run}
    prompt = corpus[:6].replace("\n", "a")
    texts = write(checkpoint, 30, prompt, **settings)

    def copied(text: str) -> bool:
        return any(text[n : n + run] in corpus for n in range(len(text) - run + 1))

    assert not any(copied(prompt + text) for text in texts)
    assert any(map(copied, write(checkpoint, 30, prompt, length=100))) or run > 16
    assert any(map(str.strip, texts))


def test_a_model_without_an_index_says_so():
    for novel in (True, 10):
        with pytest.raises(CheckpointError, match="no index of its training text"):
            write(make(), novel=novel)


def test_an_index_that_is_too_full_says_what_would_do():
    checkpoint = make()
    full = replace(indexed(checkpoint, "abc" * 20), novelty=None)
    novelty = result(Novelty.build(lambda: ["abc" * 20], end=""))
    runs = {n: replace(bloom, bits=b"\xef" * 64, probes=1) for n, bloom in novelty.runs.items()}
    full = replace(full, novelty=replace(novelty, runs=runs))
    with pytest.raises(SamplingError, match=r"too full for runs of 8 characters: .* give --novel 33"):
        write(full, novel=8)
    assert write(full, novel=40, length=30)


def test_when_all_has_been_said_there_is_an_end(monkeypatch):
    monkeypatch.setattr(rejection, "MOST_REDRAWS", 50)
    for text in (LINES, PROSE):
        with pytest.raises(SamplingError, match="50 texts in a row had been written before: lower --count"):
            write(make(text=text), 30, unique=True, match="[ab]")
    only = indexed(make(text=LINES), "a\nb\n")
    with pytest.raises(SamplingError, match="of 50 texts in a row"):
        write(only, 1, novel=True, match="[ab]")


def test_texts_are_unique_in_whatever_order_they_are_taken():
    checkpoint = make(text=LINES)
    settings: dict[str, Any] = {"unique": True, "match": "[a-e]{1,2}"}
    alone = write(checkpoint, 20, **settings)
    assert len(set(alone)) == 20
    texts = list(generate_all(checkpoint, "", SampleConfig(seed=1, **settings), count=20))
    order = np.random.default_rng(1).permutation(20).tolist()
    assert {n: "".join(texts[n]) for n in order} == dict(enumerate(alone))
    kept = generate_all(checkpoint, "", SampleConfig(seed=1, **settings), count=20)
    assert ["".join(text) for n, text in enumerate(kept) if n % 3 == 2] == alone[2::3]


# --- all paths --------------------------------------------------------------------

STEERED: list[dict[str, Any]] = [
    {"match": r"[a-c]{2}\w*( \w{1,3}){1,9}"},
    {"match": r"\w(\w\w)*", "exact": True}, {"match": "(?s).{5,30}"}, {"match": ".{8,30}[de]"},
    {"ban": ("ab", "ee", "c\n"), "only": "abcde 🙂\n"},
    {"ban": ("ab",), "mirostat": 1.5},
    {"typical": 0.6, "dry": 0.8, "dry_length": 2},
    {"dry": 1.5, "dry_length": 3, "mirostat": 1.0, "top_k": 5},
    {"novel": True}, {"novel": 8}, {"novel": 17, "dry": 0.5}, {"unique": True},
    {"novel": True, "unique": True}, {"novel": True, "until": "ab"},
    {"match": r"\w+( \w+)?", "novel": 9, "unique": True, "dry": 0.8, "ban": ("aa",), "temperature": 3.0},
]  # fmt: skip


@functools.cache
def with_an_index(text: TextConfig) -> Checkpoint:
    plain = make(text=text, hidden_size=17, embedding_size=17, seed=1, scale=2.0)
    return indexed(plain, "".join(write(plain, 20, length=40)))


@pytest.mark.parametrize("settings", STEERED, ids=str)
@pytest.mark.parametrize("text", [PROSE, LINES], ids=["prose", "lines"])
def test_each_of_many_steered_texts_is_the_same_on_all_paths(settings, text, monkeypatch):
    checkpoint, settings = with_an_index(text), {"length": 28, **settings}
    alone = write(checkpoint, 8, "ab", **settings)
    assert len(set(alone)) > 4
    monkeypatch.setattr(engines, "TEXTS_A_THREAD", 3)
    for threads, after in ((1, 0), (2, 25), (3, 0)):
        let_load(monkeypatch, Ready(after))
        assert write(checkpoint, 8, "ab", threads=threads, **settings) == alone
    if not settings.get("unique"):
        whole = SampleConfig(seed=1, **settings)
        assert "".join(generate(checkpoint, "ab", whole, index=7)) == alone[7]


def test_a_particle_text_is_the_same_on_all_paths(monkeypatch):
    monkeypatch.setattr(rejection, "FREE_DRAWS", 3)
    monkeypatch.setattr(particles, "PARTICLES", 20)
    checkpoint = make(seed=1, scale=2.0)
    settings: dict[str, Any] = {"match": "a{3}b{3}[cd]*", "exact": True, "length": 20}
    alone = write(checkpoint, 4, **settings)
    let_load(monkeypatch, Ready(0))
    assert write(checkpoint, 4, threads=2, **settings) == alone


def test_a_text_that_may_be_drawn_anew_is_handed_out_when_it_stays(monkeypatch):
    checkpoint = indexed(make(seed=5, characters="\nab"), "ab\n")
    pieces = list(generate(checkpoint, "", SampleConfig(seed=1, length=200, novel=True)))
    assert all(piece.endswith("\n") for piece in pieces[:-1])
    assert len(pieces) > 5
    whole = SampleConfig(seed=1, length=200, novel=True, unique=True)
    assert list(generate(checkpoint, "", whole)) == ["".join(pieces)]


def test_the_door_takes_all_of_it(places):
    texts = api.sample(places, "Port ", count=3, match="[A-Z][a-z]+", ban=("q",), seed=1, novel=True)
    assert all(re.fullmatch("[A-Z][a-z]+\n", "".join(text)) for text in texts)


def test_the_table_in_the_documentation_is_what_its_script_computes():
    script = runpy.run_path(str(ROOT / "docs" / "make_control.py"))
    assert script["page"]() == (ROOT / "docs" / "control.md").read_text("utf-8")


def test_the_examples_in_the_documentation_are_what_the_bundled_model_writes(places):
    page = (ROOT / "docs" / "control.md").read_text("utf-8")
    examples = re.findall(r"^\$ charrnn sample (.*)\n((?:(?!charrnn)[^$`].*\n)+)", page, re.M)
    assert len(examples) >= 4
    for line, written in examples:
        done = call("sample", *shlex.split(line), "--seed", 7, "--count", 4, cwd=ROOT / "docs")
        assert done.stdout.decode() == written, line


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--match", "Ж"], 1, "no text of the model's characters"),
        (["--match", "aaaa", "-n", "3"], 1, "the shortest text that matches has 4 characters"),
        (["--match", "(a"], 2, "a ( that is not closed at position 0"),
        (["--exact"], 2, "--exact says how"),
        (["--ban", ""], 2, "a banned text is empty"),
        (["--only", ""], 2, "the set of characters is empty"),
        (["--novel=x"], 2, "novel is 'x'"),
        (["--novel", "3"], 2, "novel is 3"),
        (["--typical", "2"], 2, "typical is 2.0"),
    ],
)
def test_bad_options_are_one_line_on_stderr(arguments, code, words):
    done = call("sample", *arguments, cwd=ROOT / "docs")
    assert done.returncode == code
    assert done.stdout == b""
    message = done.stderr.decode()
    assert words in message
    assert "Traceback" not in message
    assert len(message.splitlines()) == code


def test_novel_on_the_command_line_goes_with_and_without_a_number():
    settings = ["--seed", 1, "--count", 2]
    for arguments in (["--novel", *settings], ["--novel", 9, *settings], [*settings, "--novel"]):
        done = call("sample", *arguments, cwd=ROOT / "docs")
        assert done.stderr == b""
        assert len(done.stdout.splitlines()) == 2


def test_a_prompt_may_look_like_an_option():
    for arguments in (["sample", "--prompt", "--novel", "--echo"], ["next", "--", "--novel"]):
        done = call(*arguments, cwd=ROOT / "docs")
        assert b"'='" not in done.stderr
        assert done.returncode == 0, done.stderr


def test_what_is_not_asked_for_is_not_imported():
    program = (
        "import sys; from charrnn import api; next(next(api.sample(seed=1))); "
        "unwanted = 'constraints.automaton', 'constraints.expressions', 'generation.particles'; "
        "assert not {f'charrnn.{name}' for name in unwanted} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT / "docs", env=environment(), check=True)
