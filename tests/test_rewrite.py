"""Rewriting: beam search beside all targets there are, training, filters, figures."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.calls import call
from support.readers import SIZES, reader

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import TextConfig, TrainConfig
from charrnn.errors import CheckpointError, ConfigError, CorpusError
from charrnn.nn.reader import Reader
from charrnn.tasks.reading import rewrite
from charrnn.tasks.reading.beam import Wanted
from charrnn.tasks.reading.examples import Ragged
from charrnn.tasks.reading.rewrite import Rewriter, Rewritten, distance_between

MOST = 3
PAIRS = "".join(
    f"{source}\t{target}\n"
    for source, target in [("ab", "BA"), ("ba", "AB"), ("aab", "BAA"), ("ab", "BB"), ("b", "B"), ("a", "A")]
    * 8
)
SMALL: dict[str, Any] = {**SIZES, "seed": 1, "batch_size": 4, "threads": 1, "steps": 6}


@pytest.fixture(scope="module")
def model() -> Checkpoint:
    return reader("rewriter", "\nabc", ("x", "y"))


@pytest.fixture(scope="module")
def rewriter(model: Checkpoint) -> Rewriter:
    return Rewriter(model, 2)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rewrite") / "pairs.tsv"
    path.write_text(PAIRS)
    return path


def trained(pairs: Path, out: Path, text: TextConfig = TextConfig(), **more: Any) -> Checkpoint:  # noqa: B008
    for _ in api.train(pairs, out=out, task="rewrite", text=text, **{**SMALL, **more}):
        pass
    return api.load(out)


def of_all_targets(rewriter: Rewriter, text: str, most: int) -> dict[str, float]:
    """The log-probability of each target of at most so many characters, by reading it as a whole."""
    source = rewriter.checkpoint.vocabulary.encode(text).astype(np.int32)
    labels = rewriter.checkpoint.columns[0].labels
    targets = [t for n in range(most + 1) for t in itertools.product(range(len(labels)), repeat=n)]
    examples = Rewritten(
        Ragged.of([source] * len(targets)), Ragged.of([np.array(t, np.int32) for t in targets]), len(labels)
    )
    batch = examples.batch(np.arange(len(targets)), len(targets))
    losses = (rewriter.reader.losses(batch) * batch.weights).sum(axis=0, dtype=np.float64)
    names = ("".join(labels[n] for n in target) for target in targets)
    return dict(zip(names, (-losses).tolist(), strict=True))


# beam search


@pytest.mark.parametrize("attention", ["additive", "dot"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_beam_as_wide_as_there_are_beginnings_finds_the_best_of_all(cell: str, attention: str) -> None:
    for seed in range(3):
        own = reader("rewriter", "\nabc", ("x", "y"), seed, cell=cell, attention=attention)
        rewriter = Rewriter(own, 1)
        texts = ["a", "abcabc", "cb"]
        for text, found in zip(texts, rewriter.rewrite(texts, Wanted(2**MOST, 15), MOST), strict=True):
            expected = of_all_targets(rewriter, text, MOST)
            assert len(found) == len(expected) == 15
            ranked = sorted(expected, key=expected.__getitem__, reverse=True)
            assert ["".join(one.tokens) for one in found] == ranked
            for one in found:
                wanted = expected["".join(one.tokens)]
                assert one.log_probability == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(("beam", "count"), [(1, 1), (2, 1), (2, 5), (3, 4)])
def test_what_a_narrow_beam_finds_has_its_exact_probability(
    rewriter: Rewriter, beam: int, count: int
) -> None:
    texts = ["abc", "b", "ccab"]
    for text, found in zip(texts, rewriter.rewrite(texts, Wanted(beam, count), 5), strict=True):
        expected = of_all_targets(rewriter, text, 5)
        assert len({one.tokens for one in found}) == len(found) == count
        values = [one.log_probability for one in found]
        assert values == sorted(values, reverse=True)
        for one in found:
            assert one.log_probability == pytest.approx(expected["".join(one.tokens)], abs=1e-5)


def test_a_beam_of_one_goes_on_with_the_most_probable_character(rewriter: Rewriter) -> None:
    expected = of_all_targets(rewriter, "abca", 6)
    begun, best = "", (-np.inf, "")
    for _ in range(7):
        best = max(best, (expected[begun], begun))
        if len(begun) < 6:
            ahead = {c: _log_sum(expected, begun + c) for c in "xy"}
            begun += max(ahead, key=ahead.__getitem__)
    ((found,),) = rewriter.rewrite(["abca"], Wanted(1), 6)
    assert "".join(found.tokens) == best[1]


def _log_sum(expected: dict[str, float], begun: str) -> float:
    """The logarithm of the probability of all targets with this beginning, but for those too long."""
    return float(np.logaddexp.reduce([p for text, p in expected.items() if text.startswith(begun)]))


def test_a_text_is_rewritten_alike_whatever_is_beside_it_and_on_any_number_of_threads(
    model: Checkpoint, rewriter: Rewriter
) -> None:
    random = np.random.default_rng(1)
    texts = ["".join(random.choice(list("abc"), n)) for n in (1, 7, 30, 2, 2, 9, 41, 3) * 9]
    together = rewriter.rewrite(texts, Wanted(3, 2, weights=True))
    one = Rewriter(model, 1)
    for text, found in list(zip(texts, together, strict=True))[:12]:
        (alone,) = one.rewrite([text], Wanted(3, 2, weights=True))
        for a, b in zip(found, alone, strict=True):
            assert (a.tokens, a.log_probability) == (b.tokens, b.log_probability)
            np.testing.assert_array_equal(a.weights, b.weights)


def test_weights_are_those_with_which_each_token_attended_to_the_source(rewriter: Rewriter) -> None:
    texts = ["abcab", "c"]
    for text, found in zip(texts, rewriter.rewrite(texts, Wanted(4, 3, weights=True), 6), strict=True):
        for one in found:
            assert one.weights.shape == (len(one.tokens), len(text))
            np.testing.assert_allclose(one.weights.sum(axis=1), 1, atol=1e-6)
            assert one.alignment == one.weights.argmax(axis=1).tolist()
    # By forcing the target step by step.
    (first, *_), _ = rewriter.rewrite(texts, Wanted(4, 1, weights=True), 6)
    x = rewriter.checkpoint.vocabulary.encode("abcab").astype(np.int32)[:, None]
    encoded, written = rewriter.reader.encode(x, np.array([5]))
    previous, rows = 9, []
    for token in first.tokens:
        _, written, weights = rewriter.reader.step(encoded, np.zeros(1, int), np.array([previous]), written)
        rows.append(weights[0, :5])
        previous = rewriter.checkpoint.columns[0].labels.index(token)
    np.testing.assert_allclose(first.weights, np.array(rows).reshape(-1, 5), atol=1e-6)


def test_a_limit_is_kept_and_the_end_has_its_probability_there(rewriter: Rewriter) -> None:
    for most in (1, 2, 4):
        ((found,),) = rewriter.rewrite(["abc"], Wanted(2), most)
        assert len(found.tokens) <= most
    assert rewriter.rewrite([""], Wanted(2)) == [[]]


# training


def test_a_network_learns_to_reverse_short_texts(tmp_path: Path) -> None:
    texts = ["".join(t) for n in (1, 2, 3) for t in itertools.product("abc", repeat=n)]
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{text}\t{text[::-1].upper()}\n" for text in texts) * 4)
    model = trained(
        path, tmp_path / "m.safetensors", hidden_size=24, steps=250, learning_rate=0.02, val_fraction=0.0
    )
    result = api.evaluate(model, path)
    assert result.accuracy == 1
    ((found,),) = Rewriter(model).rewrite(["cab"], Wanted(weights=True))
    assert found.tokens == tuple("BAC")


def test_any_number_of_threads_and_a_resumed_run_give_the_same_file(pairs: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.safetensors" for name in ("one", "two", "resumed")]
    trained(pairs, files[0])
    trained(pairs, files[1], threads=3)
    steps = 0

    def stop() -> str | None:
        nonlocal steps
        steps += 1
        return "enough" if steps == 3 else None

    events = api.train(pairs, out=files[2], task="rewrite", stop=stop, **SMALL)
    *_, last = events
    assert last.reason == "interrupted"
    for _ in api.train(pairs, out=files[2], task="rewrite", resume=True, threads=2):
        pass
    assert len({file.read_bytes() for file in files}) == 1


def test_references_of_one_source_are_held_out_together(pairs: Path, tmp_path: Path) -> None:
    material = rewrite.RewrittenFiles([pairs]).read(TextConfig())
    examples = rewrite.rewritten(material.corpus, material.corpus.vocabulary, material.corpus.columns[0])
    groups = examples.groups()
    assert len(set(groups[:6].tolist())) == 5
    assert groups[0] == groups[3]
    sources, references = rewrite.by_source(examples)
    assert len(sources) == len(references) == 5
    assert sorted(map(len, references)) == [8, 8, 8, 8, 16]


def test_a_run_starts_from_another_rewriter_with_the_weights_of_what_both_know(
    pairs: Path, tmp_path: Path
) -> None:
    old = trained(pairs, tmp_path / "old.safetensors")
    more = tmp_path / "more.tsv"
    more.write_text("acb\tBCA\nca\tAC\n" * 9)
    out = tmp_path / "new.safetensors"
    events = api.train(more, out=out, task="rewrite", init_from=tmp_path / "old.safetensors",
                       batch_size=4, steps=1, learning_rate=1e-12, val_fraction=0.0)  # fmt: skip
    for _ in events:
        pass
    new = api.load(out)
    assert new.vocabulary.characters == "\nabc"
    assert new.columns[0].labels == ("A", "B", "C")
    known = [0, 1, 3]  # A, B, and the end
    for name, value in old.tensors.items():
        kept = new.tensors[name]
        rows = {"embedding.weight": [0, 1, 2], "target.embedding.weight": [0, 1]}.get(name)
        rows = known if name.startswith("decoder") else rows
        np.testing.assert_allclose(kept if rows is None else kept[rows], value, atol=1e-9, err_msg=name)
    with pytest.raises(CheckpointError, match="a tagger"):
        for _ in api.train(pairs, out=out, task="tag", init_from=out, force=True, steps=1):
            pass


def test_an_attention_is_of_rewriters_alone(pairs: Path, tmp_path: Path) -> None:
    model = trained(pairs, tmp_path / "dot.safetensors", attention="dot")
    assert model.config.attention == "dot"
    assert "attention.vector" not in model.tensors
    with pytest.raises(ConfigError, match="attention is for models that rewrite"):
        for _ in api.train(pairs, out=tmp_path / "x", task="tag", attention="dot", steps=1):
            pass
    with pytest.raises(ConfigError, match="attention additive is not that of the model"):
        for _ in api.train(pairs, out=tmp_path / "x", task="rewrite", attention="additive", steps=1,
                           init_from=tmp_path / "dot.safetensors"):  # fmt: skip
            pass


@pytest.mark.parametrize("attention", ["additive", "dot"])
@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ([], "models that rewrite: give --span N to look back at its own past, or give --task rewrite"),
        (["--task", "tag"], "models that rewrite: leave it out, or give --task rewrite"),
        (["--task", "rewrite", "--cell", "ntm"], "--cell ntm has a memory, not --attention: leave one out"),
    ],
)
def test_a_network_without_a_source_refuses_attention_and_says_what_it_has(words, attention, advice, pairs):
    done = call("train", pairs, *words, "--attention", attention, "--steps", "1", cwd=pairs.parent)
    assert (done.returncode, done.stdout) == (2, b"")
    assert advice in done.stderr.decode()


def test_pairs_that_are_too_long_are_left_out_and_counted(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(rewrite, "LONGEST", 4)
    path = tmp_path / "pairs.tsv"
    path.write_text(PAIRS + "aaaaa\tA\na\tAAAAA\n")
    corpus = rewrite.RewrittenFiles([path]).read(TextConfig()).corpus
    assert corpus.notes == ("2 pairs are left out for more than 4 characters on a side",)
    examples = rewrite.rewritten(corpus, corpus.vocabulary, corpus.columns[0])
    assert len(examples.texts) == len(examples.targets) == 48
    path.write_text("aaaaa\tA\n")
    with pytest.raises(CorpusError, match="every pair has more than 4 characters"):
        rewrite.RewrittenFiles([path]).read(TextConfig())


def test_targets_of_about_the_same_length_are_learned_together(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{'ab'[n % 2]}\t{'A' * (n % 7 + 1)}\n" for n in range(70)))
    corpus = rewrite.RewrittenFiles([path]).read(TextConfig()).corpus
    examples = rewrite.rewritten(corpus, corpus.vocabulary, corpus.columns[0])
    task = rewrite.Rewrite(examples, None, TrainConfig(steps=1, batch_size=10, val_fraction=0.0))
    lengths = [np.unique(task.batch(0, k).weights.sum(axis=0)) for k in range(task.batches)]
    assert {len(own) for own in lengths} == {1}


# figures


def naive_distance(a: str, b: str) -> int:
    if not a or not b:
        return len(a) + len(b)
    other = naive_distance(a[1:], b[1:]) + (a[0] != b[0])
    return min(other, naive_distance(a[1:], b) + 1, naive_distance(a, b[1:]) + 1)


def test_a_distance_is_the_fewest_edits() -> None:
    random = np.random.default_rng(3)
    for _ in range(60):
        a, b = ("".join(random.choice(list("ab"), random.integers(0, 6))) for _ in range(2))
        rows = [np.array([ord(c) for c in text], np.int32) for text in (a, b)]
        assert distance_between(*rows) == naive_distance(a, b)


def test_figures_are_by_the_nearest_reference(model: Checkpoint, rewriter: Rewriter, tmp_path: Path) -> None:
    texts = ["abc", "a", "bb"]
    best = ["".join(found.tokens) for (found,) in rewriter.rewrite(texts, Wanted())]
    lines = [
        (texts[0], best[0] + "yyy"), (texts[0], best[0] + "x"), (texts[1], best[1] or "x"),
        (texts[1], "xyxyxyxyx"), (texts[2], "q" + best[2]),
    ]  # fmt: skip
    path = tmp_path / "test.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in lines))
    notes: list[str] = []
    result = api.evaluate(model, path, note=notes.append)
    wrong_empty = not best[1]
    assert (result.sources, result.accuracy) == (3, 0 if wrong_empty else 1 / 3)
    assert result.word_error_rate == 1 - result.accuracy
    edits, tokens = 2 + wrong_empty, len(best[0]) + 1 + len(best[1] or "x") + len(best[2]) + 1
    assert result.edit_distance == pytest.approx(edits / 3)
    assert result.error_rate == pytest.approx(edits / tokens)
    assert notes == ["the model has never seen 1 token of targets"]


# the command line


@pytest.fixture(scope="module")
def phonemes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phonemes") / "m.safetensors"
    model_file.save(reader("rewriter", "\nabc", ("AH", "B", "K")), path)
    return path


def test_rewrite_writes_the_line_and_its_target(phonemes: Path) -> None:
    result = call("rewrite", "-m", phonemes, stdin=b"ab\n\n\xc3\xbcc\nlast")
    assert (result.returncode, result.stderr) == (0, b"")
    lines = result.stdout.decode().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["ab", "", "üc", "last"]
    assert lines[1] == ""
    tokens = lines[0].split("\t")[1].split(" ")
    assert set(tokens) <= {"AH", "B", "K", ""}


def test_rewrite_lists_the_best_with_log_probabilities_and_alignments(phonemes: Path) -> None:
    result = call("rewrite", "-m", phonemes, "-n", 3, "--align", "--length", 4, stdin=b"abc\n")
    rows = [line.split("\t") for line in result.stdout.decode().splitlines()]
    assert len(rows) == 3
    values = [float(row[2]) for row in rows]
    assert values == sorted(values, reverse=True)
    for _, target, _, aligned in rows:
        pairs = [pair.split("/") for pair in aligned.split()]
        assert [token for token, _ in pairs] == target.split()
        assert {character for _, character in pairs} <= set("abc")
    same = call("rewrite", "-m", phonemes, "-n", 3, "--align", "--length", 4, "--json", stdin=b"abc\n")
    values = json.loads(same.stdout)
    assert values["target"] == values["targets"][0]["target"] == rows[0][1]
    assert [f"{one['log_probability']:.4f}" for one in values["targets"]] == [row[2] for row in rows]
    assert (values["line"], values["number"]) == ("abc", 1)
    aligned = [["abc"[n] for n in one["alignment"]] for one in values["targets"]]
    assert aligned == [[pair.split("/")[1] for pair in row[3].split()] for row in rows]


def test_a_picture_shows_what_each_token_attended_to(phonemes: Path, tmp_path: Path) -> None:
    picture = tmp_path / "a.svg"
    result = call("rewrite", "-m", phonemes, "--svg", picture, "--length", 3, stdin=b"a<\ncab\n")
    assert result.stdout.count(b"\n") == 2
    text = picture.read_text()
    assert text.startswith("<svg")
    assert "&lt;" in text
    tokens = [line.split("\t")[1].split() for line in result.stdout.decode().splitlines()]
    assert text.count('class="w"') == 2 * len(tokens[0]) + 3 * len(tokens[1])
    assert call("rewrite", "-m", phonemes, "--svg", phonemes, stdin=b"a\n").returncode == 2


def test_of_a_very_long_line_the_beginning_is_rewritten_and_that_is_said(phonemes: Path) -> None:
    result = call("rewrite", "-m", phonemes, "--beam", 1, "--length", 2, stdin=b"ab" * 600 + b"\nb\n")
    first, second = result.stdout.decode().splitlines()
    assert first.split("\t")[0] == "ab" * 600
    assert second.split("\t")[0] == "b"
    assert result.stderr == b"note: of 1 very long line only the beginning is rewritten\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--beam", 0), "beam is 0"),
        (("-n", 0), "n is 0"),
        (("--length", 0), "length is 0"),
        (("--beam", 5000), "beam is 5000"),
    ],
)
def test_rewrite_refuses_what_makes_no_sense(options: tuple[object, ...], words: str, phonemes: Path) -> None:
    result = call("rewrite", "-m", phonemes, *options, stdin=b"a\n")
    assert result.returncode == 2
    assert words in result.stderr.decode()


def test_eval_prints_error_rates(phonemes: Path, tmp_path: Path) -> None:
    path = tmp_path / "test.tsv"
    path.write_text("ab\tB K\nab\tB\nc\tK\n")
    text = call("eval", phonemes, path).stdout.decode()
    assert "of 2 sources" in text
    assert "error rate of words" in text
    values = json.loads(call("eval", phonemes, path, "--json").stdout)
    assert values["word_error_rate"] == 1 - values["exact"]
    assert values["sources"] == 2
    assert call("eval", phonemes, path, "--dynamic").returncode == 2


def test_options_of_rewrite_are_refused_elsewhere(pairs: Path) -> None:
    for options in (("--reverse",), ("--target-words",)):
        result = call("train", pairs, *options)
        assert result.returncode == 2
        assert "is an option of --task rewrite" in result.stderr.decode()


def test_train_reverse_learns_the_other_way(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    sizes = ("--hidden-size", 8, "--num-layers", 1, "--embedding-size", 4, "--steps", 2, "--seed", 1, "-q")
    assert call("train", pairs, "--task", "rewrite", "--reverse", *sizes, "-o", out).returncode == 0
    model = api.load(out)
    assert model.vocabulary.characters == "\nAB"
    assert model.columns[0].labels == ("a", "b")
    assert json.loads(call("eval", out, pairs, "--json").stdout)["sources"] == 6


def test_the_best_model_is_judged_in_the_network_that_trains(pairs: Path, tmp_path: Path) -> None:
    model = trained(pairs, tmp_path / "m.safetensors", val_fraction=0.0, steps=2)
    material = rewrite.RewrittenFiles([pairs]).read(TextConfig())
    examples = rewrite.rewritten(material.corpus, model.vocabulary, model.columns[0])
    network = Reader(model.config)
    network.load_tensors(model.tensors)
    loss, total = map(sum, zip(*rewrite.losses(network, examples), strict=True))
    assert model.best_val_loss == pytest.approx(loss / total, abs=1e-6)
