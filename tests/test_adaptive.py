"""--adaptive: figures, scores, files and texts of models that learn what they read, in order."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import naive
import numpy as np
import pytest
from support import counted
from support.calls import call
from support.environment import environment
from support.processes import command
from support.toy_models import log_probabilities, toy

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.config import DynamicConfig, TextConfig
from charrnn.counts.growing import GrowingCounts
from charrnn.errors import ConfigError
from charrnn.generation.writing import Prompt
from charrnn.inference.mixed_model import GrowingModel, MixedModel, model_of
from charrnn.scoring.surprisal import Scorer, score_lines
from charrnn.search.suggestions import Offers
from charrnn.text.files.lines import Lines

pytestmark = pytest.mark.compiled

CHARACTERS = "\n abc"
PROSE = toy(characters=CHARACTERS, lines=False)
LINES = toy(characters=CHARACTERS)
RECORDS = toy(characters=CHARACTERS, split="blank")
COUNTED = counted.beside(PROSE)
TEXT = "abba cab\ncab abba\nbaa\n" * 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "t.txt").write_text(TEXT)
    model_file.save(PROSE, tmp_path / "prose.safetensors")
    model_file.save(LINES, tmp_path / "lines.safetensors")
    return tmp_path


def reference(model, documents: Sequence[str], *, leads: str = "") -> list[list[float]]:
    """-log p of each character of each document, after what leads to it, which is not learned."""
    V = len(model.vocabulary)
    letters = [c.isalpha() for c in model.vocabulary.characters]
    counts, found = naive.GrowingCounts(V, letters), []
    for text in documents:
        rows, nats = log_probabilities(model, leads, text), []
        ids = model.vocabulary.encode(leads + text).tolist()
        for n in range(len(leads), len(ids)):
            document = [V, *ids[:n]]
            nats.append(-math.log(counts.probabilities(rows[n], document)[ids[n]]))
            counts.learn(rows[n], document, ids[n])
        found.append(nats)
    return found


# --- a figure of its own ------------------------------------------------------------------------------


def test_the_loss_of_a_text_is_that_of_the_reference(tmp_path):
    (tmp_path / "t").write_text(TEXT)
    (nats,) = reference(PROSE, [TEXT])
    found = api.evaluate(PROSE, tmp_path / "t", adaptive=True)
    assert found.adaptive_loss == pytest.approx(np.mean(nats), abs=1e-4)
    lines = [line + "\n" for line in TEXT.splitlines()]
    nats = np.concatenate(reference(LINES, lines))
    assert api.evaluate(LINES, tmp_path / "t", adaptive=True).adaptive_loss == pytest.approx(
        np.mean(nats), abs=1e-4
    )


@pytest.mark.parametrize("model", [PROSE, COUNTED, RECORDS], ids=["prose", "counts", "records"])
def test_static_figures_stay_what_they_are(model, tmp_path):
    (tmp_path / "t").write_text(TEXT)
    static, both = (api.evaluate(model, tmp_path / "t", adaptive=adaptive) for adaptive in (False, True))
    assert static.adaptive_loss is None
    assert static.adaptive_bpc is None
    assert replace(both, adaptive_loss=None) == static
    assert both.adaptive_loss < 0.7 * static.loss  # the same lines twelve times
    assert both.adaptive_bpc == pytest.approx(both.adaptive_loss / math.log(2))


def test_the_network_may_adapt_beside_counts(tmp_path):
    (tmp_path / "t").write_text(TEXT)
    still = api.evaluate(COUNTED, tmp_path / "t", adaptive=True, dynamic=DynamicConfig(rate=0.0, decay=0.0))
    counts = api.evaluate(COUNTED, tmp_path / "t", adaptive=True)
    assert still.adaptive_loss == pytest.approx(counts.adaptive_loss, abs=1e-5)
    both = api.evaluate(COUNTED, tmp_path / "t", adaptive=True, dynamic=DynamicConfig(rate=0.005))
    assert both.adaptive_loss < both.dynamic_loss < both.loss
    assert both.adaptive_loss != counts.adaptive_loss


def test_any_number_of_threads_gives_the_same_figures(tmp_path):
    (tmp_path / "t").write_text(TEXT)
    how = {"adaptive": True, "dynamic": DynamicConfig()}
    found = {api.evaluate(COUNTED, tmp_path / "t", threads=n, **how).adaptive_loss for n in (1, 2, 3)}
    assert len(found) == 1


def test_the_command_names_it(folder):
    args = ("eval", folder / "prose.safetensors", folder / "t.txt")
    static, both = (json.loads(call(*args, *option, "--json").stdout) for option in ((), ("--adaptive",)))
    assert list(both) == [*static, "adaptive_loss", "adaptive_bpc"]
    assert {name: both[name] for name in static} == static
    first, second = call(*args, "--adaptive").stdout.decode().splitlines()
    assert first == call(*args).stdout.decode().strip()
    assert second == (
        f"adaptive loss {both['adaptive_loss']:.4f} nats/char, {both['adaptive_bpc']:.4f} bits/char"
    )
    all_of_them = json.loads(call(*args, "--dynamic", "--adaptive", "--json").stdout)
    assert list(all_of_them) == [*static, "dynamic_loss", "dynamic_bpc", "adaptive_loss", "adaptive_bpc"]
    assert all_of_them["adaptive_loss"] != both["adaptive_loss"]


def test_distributions_of_counts_beside_a_network_are_those_of_its_losses():
    model = model_of(COUNTED, 2)
    assert isinstance(model, MixedModel)
    random = np.random.default_rng(0)
    x, y = random.integers(0, 5, (2, 30, 3)).astype(np.int32)
    reset = random.random(x.shape) < 0.1
    x[reset] = 5
    rows, after = model.forward(x, None, reset)
    np.testing.assert_allclose(np.exp(rows).sum(-1), 1, atol=1e-5)
    losses, state = model.losses(x, y, None, reset)
    np.testing.assert_allclose(-np.take_along_axis(rows, y[..., None], -1)[..., 0], losses, atol=1e-5)
    for a, b in zip(after.layers, state.layers, strict=True):
        for part, same in zip(a, b, strict=True):
            np.testing.assert_array_equal(part, same)


def test_a_text_may_be_read_in_any_pieces():
    ids = PROSE.vocabulary.encode(TEXT).astype(np.int32)
    x = np.concatenate([[5], ids[:-1]]).astype(np.int32)[:, None]
    reset = x == 5
    found = []
    for size in (len(ids), 50, 7):
        model, state, nats = GrowingModel(model_of(COUNTED, 1), counts_of(COUNTED)), None, []
        for low in range(0, len(ids), size):
            part = slice(low, low + size)
            losses, state = model.losses(x[part], ids[part, None], state, reset[part])
            nats.append(losses[:, 0])
        found.append(np.concatenate(nats))
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    np.testing.assert_allclose(found[0], found[2], atol=1e-5)


def counts_of(model) -> GrowingCounts:
    return GrowingCounts(model.vocabulary, model.text)


# --- lines --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "leads"), [(LINES, ""), (PROSE, "\n")], ids=["lines", "prose"])
def test_each_line_is_learned_once_it_was_scored(model, leads):
    """And is a text of its own: in prose, what leads to it is not learned."""
    lines = ["abba cab", "cab", "abba cab", "abba cab", "b"]
    expected = [sum(nats) for nats in reference(model, [line + "\n" for line in lines], leads=leads)]
    bits, characters, unknown = Scorer(model, adaptive=True).lines("".join(line + "\n" for line in lines))
    np.testing.assert_allclose(bits * math.log(2), expected, atol=1e-3)
    assert characters.tolist() == [len(line) + 1 for line in lines]
    assert not unknown.any()
    assert bits[0] > bits[2] > bits[3]


@pytest.mark.parametrize("model", [LINES, PROSE, COUNTED, RECORDS])
def test_scores_do_not_depend_on_how_many_lines_come_together(model):
    lines = [*TEXT.splitlines(), "", "aé", *["abba"] * 5]
    together = Scorer(model, adaptive=True).lines("".join(line + "\n" for line in lines))
    scorer = Scorer(model, adaptive=True)
    alone = [scorer.lines(line + "\n") for line in lines]
    for values, each in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(values, np.concatenate(each), atol=1e-4)
    assert together[2][lines.index("aé")] == 1


def test_a_line_that_training_leaves_out_has_no_score_and_is_not_learned():
    with_empty, without = Scorer(LINES, adaptive=True), Scorer(LINES, adaptive=True)
    bits = with_empty.lines("ab\n\n\nba\nab\n")[0]
    assert bits[1:3].tolist() == [0, 0]
    np.testing.assert_allclose(bits[[0, 3, 4]], without.lines("ab\nba\nab\n")[0], atol=1e-6)
    assert Scorer(LINES, adaptive=True).lines("\n")[0].tolist() == [0]


def test_the_total_of_lines_is_the_figure_of_eval(folder):
    model, text = folder / "lines.safetensors", folder / "t.txt"
    total = json.loads(call("score", "-m", model, "--adaptive", "--total", "--json", text).stdout)
    found = json.loads(call("eval", model, text, "--adaptive", "--json").stdout)
    assert total["bpc"] == pytest.approx(found["adaptive_bpc"], abs=1e-4)
    assert total["characters"] == found["characters"]


def test_a_very_long_line_is_learned_too():
    pieces = [
        Lines("abc" * 400, "f", 1, True, False),
        Lines("cab\n", "f", 1, True, True),
        Lines("abc" * 9 + "\n", "f", 2, False, True),
    ]
    after = [line for lines in score_lines(Scorer(PROSE, adaptive=True), pieces) for line in lines]
    fresh = [line for lines in score_lines(Scorer(PROSE, adaptive=True), pieces[2:]) for line in lines]
    assert after[0].characters == 1204
    assert after[1].bits < 0.5 * fresh[0].bits


def test_heat_falls_where_a_text_repeats_itself(folder):
    found = list(api.surprises(PROSE, folder / "t.txt", adaptive=True))
    assert "".join(text for _, text, _ in found) == TEXT
    bits = np.concatenate([bits for *_, bits in found])
    assert bits[-60:].mean() < 0.5 * bits[:60].mean()
    expected = api.evaluate(PROSE, folder / "t.txt", adaptive=True).adaptive_bpc
    assert bits.mean() == pytest.approx(expected, abs=1e-4)
    static, learned = (call("score", "-m", folder / "prose.safetensors", "--heat", *option, folder / "t.txt")
                       for option in ((), ("--adaptive",)))  # fmt: skip
    assert static.stdout != learned.stdout


@pytest.mark.process
def test_a_line_is_answered_before_the_next_one_comes(folder):
    words = command("score", "-m", folder / "lines.safetensors", "--adaptive")
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        bits = []
        for _ in range(3):
            process.stdin.write(b"abba cab\n")
            process.stdin.flush()
            bits.append(float(process.stdout.readline().split(b"\t")[0]))
        process.stdin.close()
        assert process.wait(60) == 0
    assert bits[0] > bits[1] > bits[2]


# --- texts that are written ---------------------------------------------------------------------------


def written(model, prompts, **settings) -> list[str]:
    how = {"seed": 1, "length": 12, "adaptive": True}
    return ["".join(text) for text in api.sample_each(model, prompts, **how | settings)]


def test_what_prompts_say_is_written_after_them():
    line = "abcab cba cabba"
    prompts = [line] * 6 + ["abcab cb"]
    assert written(PROSE, prompts, temperature=0.0)[-1] != written(PROSE, prompts[-1:], temperature=0.0)[0]
    lines = [f"{number} {line}" for number in ("a", "b", "c", "aa", "bb", "cc", "ab")]
    assert written(PROSE, [*lines, "ba abcab c"], temperature=0.0)[-1].startswith("ba cabba"[:7])


def test_prompts_are_learned_in_order_and_texts_are_not():
    prompts = ["abba", "cab", "abc a"]
    first = written(PROSE, prompts)
    assert written(PROSE, prompts[:2]) == first[:2]
    texts = api.sample_each(PROSE, prompts, seed=1, length=12, adaptive=True)
    in_any_order = list(texts)
    assert ["".join(text) for text in in_any_order[::-1]][::-1] == first
    own = [Prompt(prompt, seed=n) for n, prompt in enumerate(prompts)]
    longer = written(PROSE, own, length=30)
    assert [text[:12] for text in longer] == written(PROSE, own)  # whatever was written before


def test_a_prompt_that_grows_is_learned_once():
    grown = written(PROSE, ["a", "ab", "abb", "abba c"], temperature=0.0)
    once = written(PROSE, ["abba c"], temperature=0.0)
    assert grown[-1] == once[-1]


@pytest.mark.parametrize("model", [LINES, RECORDS, COUNTED, api.blend([(PROSE, 1.0), (COUNTED, 2.0)])])
def test_models_of_any_kind_learn(model):
    found = written(model, ["ab", "abb", "ab", ""], count=2)
    assert len(found) == 8
    assert set("".join(found)) <= set(CHARACTERS)
    assert written(model, ["ab", "abb", "ab", ""], count=2) == found


def test_what_is_ruled_out_is_never_written():
    assert set(written(PROSE, ["ab", "cc", "cc"], only="ab", length=50)[-1]) <= {"a", "b"}


def test_offers_follow_what_was_accepted():
    line = "cab abba cab\n"
    for model in (PROSE, COUNTED):
        offers, still = Offers(model, adaptive=True), Offers(model)
        for number in range(1, 9):
            offers.accept(line * number)
            still.accept(line * number)
        assert offers.after(line * 8 + "cab ab").continuation == "ba cab"
        assert still.after("cab ab") == Offers(model).after("cab ab")


def test_offers_of_lines_follow_lines_that_were_ended():
    offers = Offers(LINES, adaptive=True)
    for _ in range(8):
        offers.accept("cab abba", ended=True)
    assert offers.after("cab a").continuation == "bba"
    assert dict(offers.after("cab abba").next)["\n"] > 0.5


def test_the_command_learns_from_prompts(folder):
    prompts = b"abcab cba\n" * 8
    args = ("sample", "-m", folder / "prose.safetensors", "--prompts", "-", "--temp", 0, "-n", 9)
    static, learned = call(*args, stdin=prompts), call(*args, "--adaptive", stdin=prompts)
    assert (static.returncode, learned.returncode, learned.stderr) == (0, 0, b"")
    assert static.stdout != learned.stdout
    as_json = call(*args, "--adaptive", "--json", stdin=prompts).stdout.splitlines()
    assert [json.loads(line)["index"] for line in as_json] == list(range(8))


@pytest.mark.parametrize(
    "words", [("sample", "--adaptive"), ("sample", "--adaptive", "--prompts", "-", "--best-of", 2)]
)
def test_what_cannot_learn_is_refused(words, folder):
    command, *options = words
    result = call(command, "-m", folder / "prose.safetensors", *options, stdin=b"ab\n")
    assert result.returncode == 2
    assert b"--adaptive" in result.stderr
    with pytest.raises(ConfigError, match="--best-of"):
        api.sample_each(PROSE, ["a"], adaptive=True, best_of=2)


def test_an_unknown_argument_is_an_error(folder):
    with pytest.raises(TypeError, match="adaptve"):
        api.evaluate(PROSE, folder / "t.txt", adaptve=True)
    assert api.evaluate(PROSE, folder / "t.txt", text=TextConfig(), on_unknown="skip").characters == len(TEXT)
