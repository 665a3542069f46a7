"""Records that are written and searched: texts of several lines, which end in no character of theirs."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.calls import call
from support.compiled_loop import Ready, compiled_only, let_load
from support.novelty_index import indexed
from support.texts import generate
from support.toy_models import all_log_probabilities, log_probability, toy

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import SampleConfig, TextConfig
from charrnn.errors import ConfigError, SamplingError, VocabularyError
from charrnn.inference.numpy_network import PlainNetwork
from charrnn.inference.sampling import probabilities
from charrnn.text.files import lines
from charrnn.vocabulary import END

SPLITS = ["%", "<|endoftext|>", "blank", "nul", "file"]


def records(seed: int = 0, characters: str = "\nabcd", split: str = "%", **settings: Any) -> Checkpoint:
    return toy(seed, characters, split=split, **{"ending": 0.5} | settings)


def written(texts: api.Texts) -> list[str]:
    return ["".join(pieces) for pieces in texts]


def cut(text: str, split: str) -> list[str]:
    return "".join(lines.cut([text], TextConfig(split=split))).split(END)[:-1]


def by_hand(model: Checkpoint, numbers: Any) -> str:
    """The text that these numbers draw, from the network's predictions alone."""
    network = PlainNetwork(model)
    last, state, text = model.config.outputs, network.initial_state(), ""
    for u in numbers:
        logits, state = network.step(last, state)
        if not text:
            logits[-1] = -np.inf  # no record is empty
        p = [0.0] * len(logits)
        probabilities(p, logits.tolist(), 1.0)
        last = int(np.searchsorted(np.cumsum(p), u * sum(p), side="right"))
        if last == model.config.vocab_size:
            return text
        text += model.vocabulary.characters[last]
    raise AssertionError


@pytest.mark.parametrize("after", [pytest.param(0, marks=compiled_only), None], ids=["compiled", "plain"])
def test_a_record_ends_where_the_end_is_drawn(after, monkeypatch):
    let_load(monkeypatch, Ready(after))
    model = records(3)
    settings = SampleConfig(seed=4, temperature=1.0)
    found = ["".join(generate(model, "", settings, index=n)) for n in range(30)]
    assert found == [by_hand(model, np.random.default_rng([4, n]).random(1000)) for n in range(30)]
    assert all(found)
    assert any("\n" in text for text in found)


STEERED: list[dict[str, Any]] = [
    {}, {"match": "[ab]{2,5}\n[cd]+"}, {"match": "[ab\n]{3}", "exact": True}, {"ban": ("a\nb", "cc")},
    {"only": "ab\n"}, {"novel": True}, {"novel": 8}, {"unique": True}, {"until": "\na"},
    {"until": "b", "drop_until": True}, {"length": 3}, {"typical": 0.8, "dry": 0.8, "dry_length": 2},
]  # fmt: skip


@compiled_only
@pytest.mark.parametrize("settings", STEERED, ids=str)
def test_both_engines_write_the_same(settings, monkeypatch):
    model = indexed(records(2, ending=0.2), "ab\ncd\nabcdabcd\n")
    found = []
    for after, threads in ((None, 1), (0, 1), (0, 2)):
        let_load(monkeypatch, Ready(after))
        found.append(written(api.sample(model, "", count=12, seed=6, threads=threads, **settings)))
    assert found[0] == found[1] == found[2]
    assert END not in "".join(found[0])
    assert len(set(found[0])) > 3


def test_a_record_of_just_the_greatest_length_is_whole():
    model = records(1, ending=0.4)
    free = written(api.sample(model, count=200, seed=1))
    cut_short = list(api.sample(model, count=200, seed=1, length=4))
    assert {len(text) == 4 for text in free} == {True, False}
    for whole, short in zip(free, cut_short, strict=True):
        assert "".join(short) == whole[:4]
        assert short.cut == (len(whole) > 4)
        assert short.closed == (len(whole) <= 4)


def test_what_matches_may_be_as_long_as_allowed_and_no_longer():
    model = records(1, ending=-1.0)
    texts = list(api.sample(model, count=50, seed=1, match="(ab\n){2,4}", length=9))
    assert {"".join(text) for text in texts} == {"ab\n" * 2, "ab\n" * 3}
    assert not any(text.cut for text in texts)
    with pytest.raises(SamplingError, match="has 6 characters, not 5") as refused:
        api.sample(model, seed=1, match="(ab\n){2,4}", length=5)
    assert "--length 6" in str(refused.value)


def test_a_prompt_may_have_several_lines():
    model = records(5)
    settings: dict[str, Any] = {"seed": 2, "temperature": 1.0}
    (text,) = written(api.sample(model, "ab\nc", **settings))
    (other,) = written(api.sample(model, "c", **settings))
    (echoed,) = written(api.sample(model, "ab\nc", echo=True, **settings))
    assert echoed == "ab\nc" + text
    counts = [written(api.sample(model, p, count=300, **settings)) for p in ("ab\nc", "c")]
    assert counts[0] != counts[1], f"only the last line was read: {text!r}, {other!r}"


def test_no_record_of_the_training_text_is_written():
    model = records(7, characters="\nab", ending=1.5)
    common = written(api.sample(model, count=300, seed=1))
    record = max((text for text in set(common) if "\n" in text), key=common.count)
    assert common.count(record) > 1
    novelty = indexed(model, "x").novelty
    assert novelty is not None
    knows = type("Known", (), {"has_line": lambda self, text: text == record})()
    object.__setattr__(model, "novelty", knows)
    found = written(api.sample(model, count=300, seed=1, novel=True))
    assert record not in found
    # Its lines are no records, and may come.
    assert any(set(record.split("\n")) & set(text.split("\n")) for text in found if text != record)


def test_no_record_comes_twice():
    model = records(7, characters="\nab", ending=1.5)
    found = written(api.sample(model, count=40, seed=1, unique=True))
    assert len(set(found)) == 40
    assert len({*written(api.sample(model, count=40, seed=1))}) < 40


@pytest.mark.parametrize(
    "settings", [{}, {"unique": True}, {"best_of": 3}, {"match": "[ab\n]{3,6}"}], ids=str
)
def test_one_of_many_texts_can_be_written_again(settings):
    model = records(7, characters="\nab", ending=1.5)
    texts = list(api.sample(model, count=8, seed=3, **settings))
    every = written(iter(texts))
    assert [text.index for text in texts] == list(range(8))
    for n in (0, 3, 7):
        (again,) = api.sample(model, seed=3, first=n, **settings)
        assert (again.index, again.seed, "".join(again)) == (n, 3, every[n])


def test_the_loss_of_a_text_counts_its_end():
    model = records(3, ending=-0.5)
    for text in api.sample(model, "ab\n", count=20, seed=1, length=6, rated=True):
        whole = "".join(text)
        counted = whole + END * text.closed
        wanted = -log_probability(model, "ab\n", counted) / len(counted) / math.log(2)
        assert text.bits_per_character == pytest.approx(wanted, rel=1e-5)


def test_the_best_of_several_is_the_one_with_the_least_loss():
    model = records(3)
    every = list(api.sample(model, count=20, seed=1, rated=True))
    best = list(api.sample(model, count=4, best_of=5, seed=1))
    for n, text in enumerate(best):
        group = every[5 * n : 5 * n + 5]
        least = min(group, key=lambda one: one.loss or 0.0)
        assert "".join(text) == "".join(least)
        assert text.index == n


def test_a_prompt_with_a_seed_of_its_own_gives_what_that_seed_gives():
    model = records(5)
    prompts = [api.Prompt("ab\n"), api.Prompt("c", 9), api.Prompt("d")]
    texts = list(api.sample_each(model, prompts, count=2, seed=1))
    assert [(text.seed, text.index) for text in texts] == [(1, 0), (1, 1), (9, 0), (9, 1), (1, 2), (1, 3)]
    for prompt, text in zip([p for p in prompts for _ in range(2)], texts, strict=True):
        (again,) = written(api.sample(model, prompt.text, seed=text.seed, first=text.index))
        assert "".join(text) == again


def test_enumeration_lists_records_by_their_probability():
    model = records(4, characters="\nab", ending=1.0)
    wanted = {text: whole for text, (_, whole) in all_log_probabilities(model, "", 3).items() if text}
    found = [line for line in api.enumerate_lines(model, count=30) if len(line.text) <= 3]
    assert len(found) > 10
    best = sorted(wanted.items(), key=lambda item: -item[1])[: len(found)]
    assert [line.text for line in found] == [text for text, _ in best]
    assert [line.log_probability for line in found] == pytest.approx([p for _, p in best], rel=1e-5)
    assert any("\n" in line.text for line in found)
    only = list(api.enumerate_lines(model, match="a\n[ab]+", length=3, count=9))
    assert [line.text for line in only] == ["a\na", "a\nb"] or [line.text for line in only] == [
        "a\nb",
        "a\na",
    ]


def test_gaps_are_filled_over_line_ends_up_to_the_end_of_the_record():
    model = records(4, characters="\nab", ending=1.0)
    every = {text: whole for text, (_, whole) in all_log_probabilities(model, "", 3).items()}
    wanted = sorted((t for t in every if len(t) == 3 and t[0] == "a"), key=lambda t: -every[t])
    found = api.fill(model, "a??", count=9)
    assert [filling.text for filling in found] == wanted
    assert found[0].log_probability == pytest.approx(every[wanted[0]], rel=1e-5)


def test_the_end_is_among_the_characters_that_may_come_next():
    model = records(4)
    table = dict(api.next_characters(model, "a\n"))
    assert math.log(table[END]) == pytest.approx(log_probability(model, "a\n", END), rel=1e-5)
    assert dict(api.next_characters(model, ""))[END] == 0


def test_a_text_that_is_typed_is_offered_its_end():
    model = records(4, ending=30.0)
    offers = api.offers(model)
    assert offers.after("ab\nc").continuation == END
    assert offers.after("ab\nc").next[0] == (END, pytest.approx(1.0))


def test_the_last_code_point_in_a_prompt_is_no_end():
    with pytest.raises(VocabularyError, match="never seen"):
        api.sample(records(), "a" + END)
    assert written(api.sample(records(), "a" + END, seed=1, on_unknown="skip")) == written(
        api.sample(records(), "a", seed=1)
    )


# Mixtures


def test_prose_and_records_mix_as_prose_and_lines_do():
    prose, model = toy(8, characters="\nabx", lines=False), records(3, characters="\nab")
    mixed = api.blend([(model, 1.0), (prose, 3.0)])
    assert mixed.vocabulary.characters == "\nabx" + END
    table = dict(api.next_characters(mixed, "a\nb"))
    p = math.exp(log_probability(model, "a\nb", END))
    assert table[END] == pytest.approx(p / 4, rel=1e-5), "prose never ends"
    prose_p = math.exp(log_probability(prose, "\na\nb", "x"))
    assert table["x"] == pytest.approx(prose_p * 3 / 4, rel=1e-5), "a record begins after a newline"


@compiled_only
def test_both_engines_write_the_same_mixture(monkeypatch):
    mixed = api.blend([(records(3, characters="\nab"), 2.0), (toy(8, characters="\nabx", lines=False), 1.0)])
    found = []
    for after in (None, 0):
        let_load(monkeypatch, Ready(after))
        found.append(written(api.sample(mixed, "a", count=10, seed=1)))
    assert found[0] == found[1]
    assert END not in "".join(found[0])


def test_models_whose_texts_end_in_different_ways_do_not_mix():
    with pytest.raises(ConfigError, match="have an end of their own"):
        api.blend([(records(), 1.0), (toy(), 1.0)])
    api.blend([(records(), 1.0), (records(split="blank"), 1.0)])


# Compression


@pytest.mark.parametrize(
    "data", [b"ab\n%\ncd\n%\n", "a\U0010ffffb".encode(), b"", b"\xff\0\nab" * 50, b"abcd" * 250]
)
def test_any_bytes_come_back_from_a_model_of_records(data):
    model = records()
    packed = b"".join(api.compress(model, [data]))
    assert b"".join(api.decompress(model, [packed])) == data


# The command line


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return saved(tmp_path)


def saved(folder: Path, split: str = "%", **settings: Any) -> Path:
    path = folder / f"{'model' if split == '%' else 'other'}.safetensors"
    model_file.save(records(7, split=split, **settings), path)
    return path


def sampled(path: Path, *words: object, stdin: bytes = b"") -> tuple[str, str]:
    result = call("sample", "-m", path, *words, stdin=stdin)
    assert result.returncode == 0, result.stderr
    return result.stdout.decode(), result.stderr.decode()


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_written_is_cut_into_the_same_texts_again(split, tmp_path):
    path = saved(tmp_path, split, characters="abcd" if split in ("blank", "file") else "\nabcd")
    out, _ = sampled(path, "--count", 20, "--seed", 1)
    found = written(api.sample(path, count=20, seed=1))
    assert cut(out, "blank" if split == "file" else split) == found
    assert cut(sampled(path, "--count", 20, "--seed", 1, "-0")[0], "nul") == found


def test_without_a_count_several_records_are_written(path):
    assert len(cut(sampled(path, "--seed", 1)[0], "%")) == 10
    assert len(cut(sampled(path, "--seed", 1, "--prompt", "ab")[0], "%")) == 1


def test_nuls_separate_texts_of_every_kind_of_model(tmp_path):
    model_file.save(toy(3, "\nab"), tmp_path / "lines.safetensors")
    model_file.save(toy(3, "\nab", lines=False), tmp_path / "prose.safetensors")
    for name, options in (("lines", {}), ("prose", {"length": 30})):
        words = itertools.chain(*((f"--{key}", value) for key, value in options.items()))
        out, _ = sampled(tmp_path / f"{name}.safetensors", "--count", 5, "--seed", 1, "-0", *words)
        found = written(api.sample(tmp_path / f"{name}.safetensors", count=5, seed=1, **options))
        assert out.split("\0") == [
            *(text.removesuffix("\n") if name == "lines" else text for text in found),
            "",
        ]


def test_json_says_how_each_text_can_be_written_again(path):
    out, _ = sampled(path, "--count", 4, "--seed", 5, "--json")
    rows = list(map(json.loads, out.splitlines()))
    assert [list(row) for row in rows] == [["text", "seed", "index", "bits_per_character"]] * 4
    for row in rows:
        again, _ = sampled(path, "--seed", row["seed"], "--index", row["index"], "--json")
        assert json.loads(again) == row


def test_prompts_in_json_may_have_several_lines_and_seeds(path):
    lines = b'"ab\\ncd"\n{"prompt": "c\\n", "seed": 9}\n{"prompt": "d"}\n'
    out, _ = sampled(path, "--prompts-json", "-", "--json", "--seed", 1, "--echo", stdin=lines)
    rows = list(map(json.loads, out.splitlines()))
    assert [(row["seed"], row["index"]) for row in rows] == [(1, 0), (9, 0), (1, 1)]
    for row, prompt in zip(rows, ("ab\ncd", "c\n", "d"), strict=True):
        assert row["text"].startswith(prompt)
        words = ("--seed", row["seed"], "--index", row["index"], "--echo", "--json")
        assert json.loads(sampled(path, "--prompt", prompt, *words)[0])["text"] == row["text"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ab", "line 2 of the prompts is no JSON"),
        ("[1]", "line 2 of the prompts has no prompt"),
        ('{"seed": 1}', "line 2 of the prompts has no prompt"),
        ('{"prompt": "a", "seed": -1}', "the seed in line 2 of the prompts is -1"),
        ('{"prompt": "a", "temp": 1}', "line 2 of the prompts has 'temp'"),
    ],
)
def test_a_prompt_that_is_not_understood_is_named(line, message, path):
    result = call("sample", "-m", path, "--prompts-json", "-", stdin=f'"ab"\n{line}\n'.encode())
    assert result.returncode == 1
    assert message in result.stderr.decode()
    assert result.stdout.endswith(b"\n%\n"), "the prompt before it has its text"


def test_a_record_that_is_cut_is_noted_once_and_no_error(path):
    out, said = sampled(path, "--count", 30, "--seed", 1, "--length", 2)
    assert all(len(text) <= 2 for text in cut(out, "%"))
    assert said.count("note:") == 1
    assert "texts are cut short: a greater --length lets them end" in said
    assert "note:" not in sampled(path, "--count", 5, "--seed", 1)[1]


def test_rows_have_line_ends_escaped(path):
    assert "\\n" in call("enumerate", "-m", path, "-n", 60).stdout.decode()
    rows = call("fill", "-m", path, "a?b", "-n", 9).stdout.decode().splitlines()
    assert any(row.endswith("\ta\\nb") for row in rows)
    assert "end" in call("next", "-m", path, "ab").stdout.decode()
    (end,) = [
        row
        for row in map(json.loads, call("next", "-m", path, "ab", "--json").stdout.splitlines())
        if row["character"] is None
    ]
    assert 0 < end["probability"] < 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--prompt", "a", "--prompts-json", "-"), "--prompt and --prompts-json are both given"),
        (("--prompts", "-", "--index", 1), "--index counts the texts of one prompt"),
        (("--index", -1), "index is -1"),
        (("-0", "--json"), "-0 and --json contradict each other"),
    ],
)
def test_options_that_contradict_each_other_are_refused(words, message, path):
    result = call("sample", "-m", path, *words)
    assert result.returncode == 2
    assert message in result.stderr.decode()


def test_the_end_is_never_read(monkeypatch):
    model, read = records(2), []
    step = PlainNetwork.step
    let_load(monkeypatch, Ready(None))

    def watched(self, character, state):
        read.append(character)
        return step(self, character, state)

    monkeypatch.setattr(PlainNetwork, "step", watched)
    written(api.sample(model, count=20, seed=1))
    assert set(read) == {*range(5), model.config.outputs}
