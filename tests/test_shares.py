"""Shares of files in what is read: how much of each, when, what each is judged by, and how they are given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.calls import call
from support.documents import all_ids, make, start_positions

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.config import TextConfig, TrainConfig
from charrnn.errors import ConfigError, TrainingError
from charrnn.events import Evaluated, Event, Finished, Started, Step
from charrnn.tasks.next_character import NextCharacters, TextFiles
from charrnn.tasks.shares import Weighted
from charrnn.text.batches import Batches
from charrnn.text.documents import Documents
from charrnn.text.reading import read
from charrnn.text.validation import split_parts
from charrnn.training.position import Position

END = 0  # the id that ends records, and the newline of prose
SMALL: dict[str, Any] = {
    "hidden_size": 8, "num_layers": 1, "batch_size": 4, "seq_len": 10, "dropout": 0.0, "steps": 12,
}  # fmt: skip
OPTIONS = (
    "--hidden-size", 8, "--num-layers", 1, "--batch-size", 4, "--seq-len", 10, "--dropout", 0, "--steps", 12,
)  # fmt: skip


def places(documents: Documents) -> list[int]:
    assert documents.pieces is not None
    found: list[int] = documents.pieces.places(np.arange(len(documents))).tolist()
    return found


def weighted(texts: list[list[int]], shares: list[float], fraction: float = 0.0, end: int = -1) -> Weighted:
    """The training parts of texts, one after the other, with these shares."""
    bounds = np.cumsum([0, *map(len, texts)])
    documents = make(np.concatenate(texts), [0] if end >= 0 else bounds[:-1], end)
    train = TrainConfig(steps=1, val_fraction=fraction)
    parts = split_parts(documents, bounds.tolist(), train, newline=END)
    return Weighted([own for own, _ in parts], shares)


def prose(length: int) -> list[int]:
    return (np.arange(length) % 7 % 5).tolist()


def records(lengths: list[int]) -> list[int]:
    return [character for length in lengths for character in [1] * length + [END]]


shares_of_three = st.lists(st.floats(0.01, 100), min_size=3, max_size=3)
three_proses = st.lists(st.integers(1, 60).map(prose), min_size=3, max_size=3)
some_records = st.lists(st.integers(0, 9), min_size=1, max_size=20).map(records)
three_files_of_records = st.lists(some_records, min_size=3, max_size=3)


# How much is read


@given(three_proses, shares_of_three, st.sampled_from([0.0, 0.2]))
def test_a_part_of_prose_has_its_share_to_one_character_and_goes_on_where_it_ended(
    texts: list[list[int]], shares: list[float], fraction: float
) -> None:
    hold_to_shares(weighted(texts, shares, fraction), [1, 1, 1])


@given(three_files_of_records, shares_of_three, st.sampled_from([0.0, 0.2]))
def test_a_part_of_records_has_its_share_to_one_record_and_is_read_in_whole_ones(
    texts: list[list[int]], shares: list[float], fraction: float
) -> None:
    text = weighted(texts, shares, fraction, END)
    longest = [int(np.diff(np.flatnonzero(np.array([END, *part]) == END)).max()) for part in texts]
    hold_to_shares(text, longest)
    for epoch in range(5):
        documents = text.in_epoch(epoch)
        assert all_ids(documents)[-1] == END
        ends = np.flatnonzero(all_ids(documents) == END)
        assert start_positions(documents) == [0, *(ends[:-1] + 1)]


def hold_to_shares(text: Weighted, slack: list[int]) -> None:
    """Each part is read in a circle, up to its share of the characters of all epochs so far."""
    own = [places(part) for part in text.parts]
    total, read_so_far = len(text), [0] * len(own)
    for epoch in range(5):
        found, at = places(text.in_epoch(epoch)), 0
        for n, part in enumerate(own):
            count = sum(1 for place in found if part[0] <= place <= part[-1])
            circle = [part[(read_so_far[n] + k) % len(part)] for k in range(count)]
            assert found[at : at + count] == circle
            at += count
            read_so_far[n] += count
            asked = (epoch + 1) * total * text.shares[n]
            assert abs(read_so_far[n] - asked) <= slack[n] + 1e-6 * asked
        assert at == len(found)


@given(three_proses, shares_of_three)
def test_the_state_begins_anew_where_the_text_does_not_go_on(
    texts: list[list[int]], shares: list[float]
) -> None:
    text = weighted(texts, shares, 0.2)
    begins = {0, len(texts[0]), len(texts[0]) + len(texts[1])}
    for epoch in range(4):
        documents = text.in_epoch(epoch)
        found = places(documents)
        x, y, reset = documents.look_up(np.arange(len(documents)))
        jumps = [True, *(b != a + 1 or b in begins for a, b in pairwise(found))]
        assert reset.tolist() == jumps
        assert y.tolist() == documents.ids[found].tolist()
        before = [documents.vocab_size if place in begins else documents.ids[place - 1] for place in found]
        assert x.tolist() == before


def test_a_short_part_is_read_several_times_and_a_long_one_in_pieces() -> None:
    text = weighted([prose(100), prose(10_000)], [1, 1])
    assert text.times == pytest.approx([50.5, 0.505])
    found = np.array(places(text.in_epoch(0)))
    assert np.bincount(found, minlength=100)[:100].tolist() == [51] * 50 + [50] * 50
    assert set(found[found >= 100]) == set(range(100, 5150))
    later = np.array(places(text.in_epoch(1)))
    assert set(later[later >= 100]) == {*range(5150, 10_100), *range(100, 200)}


def test_an_epoch_of_windows_is_what_was_asked_for_and_depends_on_nothing_asked_before() -> None:
    text = weighted([records([3] * 40), records([9] * 300)], [3, 1], 0.1, END)
    batches, again = (Batches(text, 4, 10, seed=5) for _ in range(2))
    for epoch in (2, 0, 3):
        for k in (1, 0, batches.windows_per_epoch - 1):
            for one, other in zip(batches.window(epoch, k), again.window(epoch, k), strict=True):
                assert np.array_equal(one, other)
            assert batches.window(epoch, k)[0].shape == (10, 4)
    assert len(batches.documents(1)) == pytest.approx(len(text), abs=12)


def test_parts_of_one_giant_record_each_are_read_whole_in_some_epochs() -> None:
    text = weighted([records([99]), records([99])], [1, 3], 0.0, END)
    lengths = [len(text.in_epoch(epoch)) for epoch in range(8)]
    assert sum(lengths) == 8 * len(text)
    assert set(lengths) <= {100, 200, 300}


# What is held out


@pytest.mark.parametrize("where", ["scattered", "end"])
@pytest.mark.parametrize("end", [-1, END])
def test_each_part_keeps_its_own_share_for_validation(where: Any, end: int) -> None:
    texts = [records([9] * count) for count in (50, 1_000, 20)]
    bounds = np.cumsum([0, *map(len, texts)]).tolist()
    documents = make(np.concatenate(texts), [0] if end >= 0 else bounds[:-1], end)
    train = TrainConfig(steps=1, val_fraction=0.1, val_split=where)
    parts = split_parts(documents, bounds, train, newline=END)
    for (low, high), (own, held) in zip(pairwise(bounds), parts, strict=True):
        assert len(held) == pytest.approx(0.1 * (high - low), abs=15)
        assert sorted(places(own) + places(held)) == list(range(low, high))
        if where == "end":
            assert places(held) == list(range(high - len(held), high))


# Runs


@pytest.fixture(autouse=True)
def report_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charrnn.training.run.REPORT_SECONDS", 0.0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("small.txt").write_text("".join(f"the small {n % 13} sea\n" for n in range(60)))
    Path("large.txt").write_text("".join(f"A LARGE {n % 17} AND LONG SHELL\n" for n in range(400)))
    return tmp_path


BOTH = ["small.txt", "large.txt"]


def train(out: str = "m.safetensors", paths: list[str] = BOTH, **settings: Any) -> list[Event]:
    return list(api.train(paths, out=out, **{**SMALL, "shares": [3, 1]} | settings))


def events_of(kind: type, events: list[Event]) -> Iterator[Any]:
    return (event for event in events if isinstance(event, kind))


@pytest.mark.parametrize("lines", [False, True])
def test_the_loss_is_that_of_each_file_weighted_by_its_share(folder: Path, lines: bool) -> None:
    events = train(text=TextConfig(lines=lines))
    found = list(events_of(Evaluated, events))
    for event in found:
        names, (small, large) = zip(*event.parts, strict=True)
        assert names == ("small.txt", "large.txt")
        assert event.val_loss == pytest.approx(0.75 * small + 0.25 * large, rel=1e-12)
    best = min(found, key=lambda event: float(event.val_loss))
    assert events[-1].parts == best.parts  # type: ignore[union-attr]
    started = next(events_of(Started, events))
    assert started.train_characters + started.val_characters == sum(
        Path(name).stat().st_size for name in BOTH
    )


def test_a_file_is_judged_by_what_is_held_out_of_itself(folder: Path) -> None:
    corpus = TextFiles(BOTH).read(TextConfig(lines=True))
    task = NextCharacters(corpus, TrainConfig(steps=1, shares=(3.0, 1.0)))
    decode = corpus.corpus.vocabulary.decode
    for name, _, part in task.measured:
        lines = set(Path(name).read_text().splitlines())
        assert set(decode(all_ids(part)).splitlines()) <= lines
    assert [share for _, share, _ in task.measured] == [3.0, 1.0]


def test_another_text_for_validation_judges_alone(folder: Path) -> None:
    Path("other.txt").write_text("the small LARGE sea\n" * 9)
    events = list(api.train(BOTH, out="m.safetensors", val="other.txt", shares=(3, 1), **SMALL))
    assert all(event.parts == () for event in events_of(Evaluated, events))
    best = model_file.load("m.safetensors").best_val_loss
    assert api.evaluate("m.safetensors", "other.txt").loss == pytest.approx(best, abs=1e-6)


def test_shares_change_what_is_learned_and_equal_ones_are_no_absent_ones(folder: Path) -> None:
    for n, shares in enumerate([None, (1, 1), (1, 3)]):
        train(f"{n}.safetensors", shares=shares)
    models = [model_file.load(f"{n}.safetensors") for n in range(3)]
    assert len({model.run for model in models}) == 3
    assert len({model.tensors["decoder.weight"].tobytes() for model in models}) == 3
    assert "shares" not in models[0].settings
    assert models[2].settings["shares"] == [1, 3]


def test_a_run_with_shares_is_the_same_on_one_thread(folder: Path) -> None:
    for threads in (1, 2):
        train(f"{threads}.safetensors", threads=threads, steps=60)
    assert Path("1.safetensors").read_bytes() == Path("2.safetensors").read_bytes()


@pytest.mark.parametrize("text", [TextConfig(), TextConfig(lines=True)], ids=["prose", "lines"])
@pytest.mark.parametrize("step", [5, 70])
def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(
    folder: Path, text: TextConfig, step: int
) -> None:
    small = Path("large.txt").read_text()[:3000]
    Path("large.txt").write_text(small)
    settings = SMALL | {"steps": 120, "text": text, "shares": (3, 1)}  # two epochs
    whole = list(api.train(BOTH, out="a.safetensors", **settings))
    asked: list[int] = []
    for event in api.train(BOTH, out="b.safetensors", stop=lambda: "SIGINT" if asked else None, **settings):
        if isinstance(event, Step) and event.step >= step:
            asked.append(1)
    rest = list(api.train(BOTH, out="b.safetensors", resume=True))  # shares may be left out
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()
    assert isinstance(whole[-1], Finished)
    assert isinstance(rest[-1], Finished)
    assert whole[-1].epoch > 1
    assert whole[-1].parts == rest[-1].parts != ()


def test_other_shares_or_borders_do_not_resume(folder: Path) -> None:
    text = TextConfig(lines=True)
    asked: list[int] = []
    for event in api.train(
        BOTH, out="m.safetensors", text=text, stop=lambda: "SIGINT" if asked else None, shares=(3, 1), **SMALL
    ):
        if isinstance(event, Step) and event.step >= 3:
            asked.append(1)
    with pytest.raises(ConfigError, match=r"shares \(1, 1\) is not what the interrupted run has"):
        list(api.train(BOTH, out="m.safetensors", resume=True, shares=(1, 1)))
    both = "".join(Path(name).read_text() for name in BOTH)
    Path("one.txt").write_text(both)
    with pytest.raises(TrainingError, match="the corpus is not the one that the interrupted run read"):
        list(api.train("one.txt", out="m.safetensors", resume=True))
    first, rest = both[:42], both[42:]
    first, rest = first + rest[: rest.index("\n") + 1], rest[rest.index("\n") + 1 :]
    Path("small.txt").write_text(first)
    Path("large.txt").write_text(rest)  # the same lines in a row
    with pytest.raises(TrainingError, match="the corpus is not the one that the interrupted run read"):
        list(api.train(BOTH, out="m.safetensors", resume=True))


def test_a_file_without_a_second_text_is_not_judged_which_is_said(folder: Path) -> None:
    Path("small.txt").write_text("a single line of this\n")
    events = train(text=TextConfig(lines=True))
    notes = next(events_of(Started, events)).notes
    assert "no part of small.txt can be kept for validation: nothing tells its loss" in notes
    assert all([name for name, _ in event.parts] == ["large.txt"] for event in events_of(Evaluated, events))


def test_without_validation_each_file_is_measured_on_itself(folder: Path) -> None:
    events = train(val_fraction=0.0)
    for event in events_of(Evaluated, events):
        assert (event.measured_on, len(event.parts)) == ("training", 2)
        assert event.val_loss == pytest.approx(0.75 * event.parts[0][1] + 0.25 * event.parts[1][1])


def test_an_empty_file_has_no_share(folder: Path) -> None:
    Path("small.txt").write_text("")
    with pytest.raises(TrainingError, match=r"small\.txt holds no text to be read"):
        train()


def test_each_path_keeps_its_texts_when_long_ones_are_left_out(folder: Path) -> None:
    for name in ("x", "y", "z"):
        Path(name).write_text("".join(f"{name * (1 + n % 9)}\n" for n in range(70)))
    corpus = read(["x", "y", "z"], TextConfig(lines=True, max_chars=4))
    bounds = [*corpus.parts, len(corpus.documents)]
    texts = [corpus.vocabulary.decode(corpus.documents.ids[low:high]) for low, high in pairwise(bounds)]
    assert [set(text) for text in texts] == [{"\n", name} for name in "xyz"]


@pytest.mark.parametrize("shares", [(1,), (1, 2, 3), (0, 1), (-1, 1), ("1", 1), ()])
def test_shares_are_a_positive_number_for_each_path(folder: Path, shares: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigError, match="shares"):
        train(shares=shares)


@pytest.mark.parametrize("parts", [5, [["a"]], [["a", "b"]], [[1, 2.0]], [["a", 10**400]]])
def test_a_position_with_other_losses_of_parts_is_refused(parts: object) -> None:
    record = Position().to_record()
    assert "best_parts" not in record
    with pytest.raises((TypeError, ValueError)):
        Position.from_record({**record, "best_parts": parts})


# The command line


def test_the_command_says_shares_and_losses_and_repeats_the_shares(folder: Path) -> None:
    result = call("train", "small.txt:3", "large.txt", *OPTIONS, "-o", "m.safetensors")
    said = result.stderr.decode()
    assert result.returncode == 0, said
    assert (
        "\nnote: shares: an epoch reads small.txt 8.73 times (75.0%), large.txt 0.273 times (25.0%)\n" in said
    )
    last = said[said.index("done after") :].splitlines()[0]
    assert ", of small.txt " in last
    assert ", of large.txt " in last
    assert "shares 3:1" in call("info", "m.safetensors").stdout.decode()


def test_json_has_the_loss_of_each_path(folder: Path) -> None:
    result = call("train", "small.txt:3", "large.txt", *OPTIONS, "-o", "m.safetensors", "--json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    for event in events:
        if event["event"] in ("eval", "done"):
            assert [row["path"] for row in event["paths"]] == BOTH
            loss = event["val_loss" if event["event"] == "eval" else "best_val_loss"]
            weighted_loss = 0.75 * event["paths"][0]["val_loss"] + 0.25 * event["paths"][1]["val_loss"]
            assert loss == pytest.approx(weighted_loss)
        else:
            assert "paths" not in event
    without = call("train", *BOTH, *OPTIONS, "-o", "n.safetensors", "--json")
    assert b'"paths"' not in without.stdout


def test_a_path_of_the_whole_name_wins_and_folders_and_standard_input_have_shares(folder: Path) -> None:
    Path("small.txt:3").write_text("its own name has a colon and three\n" * 20)
    Path("texts").mkdir()
    for n in range(3):
        Path("texts", f"{n}.txt").write_text(f"text {n} of a folder\n" * 20)
    how = (*OPTIONS, "--force", "-o", "m.safetensors")
    result = call("train", "small.txt:3", "texts:2", "-:5", *how, stdin=b"from a pipe\n" * 40)
    said = result.stderr.decode()
    assert result.returncode == 0, said
    assert " small.txt:3 " in said
    assert " (12.5%), texts " in said
    assert " (25.0%), - " in said
    assert " (62.5%)\n" in said
    assert model_file.load("m.safetensors").settings["shares"] == [1, 2, 5]


def test_a_share_of_the_only_path_is_all_of_it(folder: Path) -> None:
    for name, path in (("a", "large.txt:7"), ("b", "large.txt")):
        assert call("train", path, *OPTIONS, "-q", "-o", f"{name}.safetensors").returncode == 0
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()


@pytest.mark.parametrize(
    "path", ["small.txt:0", "small.txt:x", "small.txt:-1", "small.txt:nan", "-:x", "small.txt:"]
)
def test_a_share_that_is_none_is_one_line_and_wrong_use(folder: Path, path: str) -> None:
    result = call("train", path, "large.txt")
    lines = result.stderr.decode().splitlines()
    assert result.returncode == 2
    assert lines[0].startswith(f"charrnn: error: the share of '{path.rpartition(':')[0]}' is ")
    assert lines[0].endswith(": give a positive number")
    assert len(lines) == 2


def test_a_missing_file_is_named_without_its_share(folder: Path) -> None:
    result = call("train", "smal.txt:2", "large.txt")
    assert result.stderr == b"charrnn: error: smal.txt does not exist: did you mean small.txt?\n"


@pytest.mark.process
def test_the_command_to_go_on_repeats_the_shares(folder: Path) -> None:
    from charrnn.cli.commands.train import _resume_command

    command = _resume_command(["small.txt:3", "large.txt"], Path("m.safetensors"), [], 0)
    assert command == "charrnn train small.txt:3 large.txt -o m.safetensors --resume"


def test_labels_follow_their_records_through_shares_and_orders(folder: Path) -> None:
    for name, count in (("small.txt", 9), ("large.txt", 90)):
        rows = (f"label {n % 5}\tsays {n % 5} | as {n} of {name}\n" for n in range(count))
        Path(name).write_text("".join(rows))
    texts = TextFiles(BOTH).read(TextConfig(lines=True, label_by="column"))
    train = TrainConfig(steps=1, shares=(1.0, 1.0), shuffle_fields=" | ")
    task = NextCharacters(texts, train)
    [column] = texts.corpus.columns
    for epoch in range(3):
        documents = task._batches.documents(epoch)
        found = documents.labels_at(np.arange(len(documents)))
        assert found is not None
        text = texts.corpus.vocabulary.decode(all_ids(documents))
        at = 0
        for line in text.splitlines(keepends=True):
            assert len(set(found[at : at + len(line), 0])) == 1
            assert f"says {column.labels[found[at, 0]][-1]}" in line
            at += len(line)
