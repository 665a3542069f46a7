"""Text from a checkpoint: where it begins and ends, what it depends on, and that both paths agree."""

from __future__ import annotations

import codecs
import gc
import itertools
import math
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cells import CELLS
from support.compiled_loop import AVX2, AlwaysTogether, Ready, compiled_only, has_longer_vectors, let_load
from support.environment import environment
from support.random_models import CHARACTERS, LINES, PROSE, make
from support.texts import generate

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import DEFAULT_SAMPLE_LENGTH, WEIGHT_PRECISIONS, SampleConfig, TextConfig
from charrnn.errors import SamplingError, VocabularyError
from charrnn.generation import beginning, rejection, writing
from charrnn.generation.writing import generate_all
from charrnn.inference import engines, mixture, sampling
from charrnn.inference import writing_loop as kernels
from charrnn.inference.engines import LONGEST_PIECE, CompiledPath, Cursor, PlainPath
from charrnn.inference.mixture import network_of
from charrnn.inference.numpy_network import PlainNetwork
from charrnn.kernels.machine import jit
from charrnn.vocabulary import Vocabulary

V = len(CHARACTERS)


@pytest.fixture
def prose() -> Checkpoint:
    return make()


@pytest.fixture
def lines() -> Checkpoint:
    return make(text=LINES)


@pytest.fixture(autouse=True)
def plain_only(monkeypatch):
    """Every test starts with the plain path, and no thread takes over by itself."""
    let_load(monkeypatch, Ready(after=None))


def write(
    checkpoint: Checkpoint, prompt: str = "", *, index=0, on_unknown="error", echo=False, **settings
) -> str:
    config = SampleConfig(**{"seed": 1, **settings})
    return "".join(generate(checkpoint, prompt, config, index=index, on_unknown=on_unknown, echo=echo))


def by_hand(checkpoint: Checkpoint, read: str, n: int, *, seed=1, index=0, temperature=0.8) -> str:
    """The first n characters after START and `read`, written with no more than the plain network.

    A line of a model of lines does not end where it begins.
    """
    network = PlainNetwork(checkpoint)
    vocabulary = checkpoint.vocabulary
    logits, state = network.step(len(vocabulary), network.initial_state())
    for character in vocabulary.encode(read).tolist():
        logits, state = network.step(character, state)
    random = np.random.default_rng([seed, index])
    written = ""
    V = len(vocabulary)
    space = sampling.Space([0.0] * V, [0] * V, [0.0] * V)
    chain = sampling.chain(SampleConfig(temperature=temperature))
    for _ in range(n):
        values = logits.tolist()
        if checkpoint.text.lines and not read + written:
            values[0] = -math.inf
        choice = sampling.sample(values, chain, random.random(), space, sampling.NOTHING)
        written += vocabulary.characters[choice]
        logits, state = network.step(choice, state)
    return written


# --- both paths -----------------------------------------------------------------

FILTERS = [
    {"temperature": 0.0},
    {"temperature": 1.3},
    {"top_k": 3},
    {"top_p": 0.8},
    {"min_p": 0.1},
    {"typical": 0.7},
    {"temperature": 2.0, "top_k": 5, "typical": 0.95, "top_p": 0.9, "min_p": 0.05},
]
# Hidden and embedding size: embedding or one-hot (0), as wide as a layer, where it is skipped around, or not.
SIZES = [(9, 9), (6, 4), (9, 0), (5, 0)]


SWITCHES = list(itertools.product((False, True), repeat=2))  # norm, residual


@compiled_only
@pytest.mark.parametrize("precision", WEIGHT_PRECISIONS)
@pytest.mark.parametrize("switches", range(4))
@pytest.mark.parametrize("cell", range(len(CELLS)))
def test_both_paths_compute_the_same_bits(cell, switches, precision, monkeypatch):
    """All pairs of a cell, its switches, a size and a precision."""
    H, D = SIZES[(cell ^ switches) % len(SIZES)]
    norm, residual = SWITCHES[switches]
    cell, nonlinearity = CELLS[cell]
    spaces: list[Any] = []  # where the compiled loop leaves its logits
    make_space = kernels.scratch
    monkeypatch.setattr(kernels, "scratch", lambda *of: spaces.append(make_space(*of)) or spaces[-1])
    checkpoint = make(
        cell=cell, nonlinearity=nonlinearity, norm=norm, residual=residual, hidden_size=H, embedding_size=D,
        seed=H + D, num_layers=1 + (H + norm) % 3,
    )  # fmt: skip
    network = PlainNetwork(checkpoint, precision)
    random = np.random.default_rng(5)
    for options in FILTERS:
        config = SampleConfig(**options)
        plain = PlainPath(network, config)
        compiled = CompiledPath(network, config, kernels, threads=1)
        cursor, other = (Cursor(V, network.initial_state()) for _ in range(2))
        for n in range(20):
            u = [random.random(1)]
            logits, _ = network.step(cursor.last, cursor.state)
            assert plain.write([cursor], u, -1) == compiled.write([other], u, -1)
            assert spaces[-1][0].logits[0, :V].tobytes() == logits.tobytes(), f"character {n}"
            assert cursor.state.tobytes() == other.state.tobytes(), f"character {n}"
            assert cursor.last == other.last


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
def test_both_paths_write_the_same_long_text(cell, nonlinearity, monkeypatch):
    checkpoint = make(cell=cell, nonlinearity=nonlinearity, hidden_size=33, num_layers=2)
    length = LONGEST_PIECE + 80
    plain = write(checkpoint, length=length)
    let_load(monkeypatch, Ready(after=0))
    assert write(checkpoint, length=length) == plain
    assert len(set(plain)) > 3


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
@pytest.mark.parametrize("scale", [1e-42, 1e-20, 1e37])
def test_both_paths_write_the_same_where_numbers_are_extreme(cell, nonlinearity, scale, monkeypatch):
    checkpoint = make(cell=cell, nonlinearity=nonlinearity, scale=scale)
    plain = write(checkpoint, length=60)
    let_load(monkeypatch, Ready(after=0))
    with np.errstate(all="ignore"):  # without the JIT, the loop's numbers are NumPy's
        assert write(checkpoint, length=60) == plain


@pytest.mark.parametrize("after", [0, 1, 2, 9, 57])
@pytest.mark.parametrize("text", [PROSE, LINES], ids=["prose", "lines"])
@pytest.mark.parametrize("prompt", ["", "abc" * 8 + "\nde" * 5])
def test_the_loop_takes_over_at_any_place_without_a_trace(after, text, prompt, monkeypatch):
    checkpoint = make(text=text, seed=3)
    plain = [write(checkpoint, prompt, length=80, index=n) for n in range(3)]
    for n in range(3):
        let_load(monkeypatch, Ready(after))
        # Characters that come for the first time send the loop back to fill the table.
        monkeypatch.setattr(mixture, "_networks", weakref.WeakKeyDictionary())
        assert write(checkpoint, prompt, length=80, index=n) == plain[n]


@compiled_only
def test_the_loop_writes_pieces_of_many_characters(prose, monkeypatch):
    let_load(monkeypatch, Ready(after=3))
    monkeypatch.setattr(engines, "LONGEST_PIECE", 256)
    pieces = list(generate(prose, "", SampleConfig(seed=1, length=1000)))
    assert [len(piece) for piece in pieces[:3]] == [1, 1, 256]
    assert sum(map(len, pieces)) == 1000


@compiled_only
def test_one_call_of_the_loop_is_short_for_a_large_network(prose):
    network = PlainNetwork(prose)
    path = CompiledPath(network, SampleConfig(), kernels, threads=2)
    path._weights = 2**27
    assert path.longest(1) == path.longest(2) == 2
    assert path.longest(64) == 1


# --- a team ---------------------------------------------------------------------------


@pytest.fixture
def together(monkeypatch):
    """However small the network, a text is written by as many threads as there are."""
    monkeypatch.setattr(engines, "WEIGHTS_A_THREAD", 1)
    monkeypatch.setattr(engines, "Pace", AlwaysTogether)


@compiled_only
@pytest.mark.parametrize("size", range(3))
@pytest.mark.parametrize("cell", range(len(CELLS)))
@pytest.mark.usefixtures("together")
def test_a_team_of_threads_computes_the_same_bits(cell, size):
    """All pairs of a cell, a size, a precision, and of norm and residual together."""
    H, D = [(9, 9), (50, 0), (130, 20)][size]
    norm = residual = (size + cell) % 2 > 0
    precision = WEIGHT_PRECISIONS[(size + cell // 2) % 2]
    cell, nonlinearity = CELLS[cell]
    checkpoint = make(
        cell=cell, nonlinearity=nonlinearity, norm=norm, residual=residual, hidden_size=H, embedding_size=D,
        seed=H + D, num_layers=1 + (H + norm) % 3,
    )  # fmt: skip
    network = PlainNetwork(checkpoint, precision)
    prompt = np.arange(V)
    for n, options in enumerate(FILTERS):
        config = SampleConfig(**options)
        numbers = np.random.default_rng(n).random(16)
        plain, cursor = PlainPath(network, config), Cursor(V, network.initial_state())
        for character in prompt:
            plain.read(cursor, np.array([character]))
        expected = [plain.write([cursor], [numbers[i : i + 1]], -1)[0].item() for i in range(len(numbers))]
        # More than the smallest has panels, too. Filters are each thread's own, however many there are.
        for threads in (1, 2, 3, *[5] * (size == 0)) if n == 0 else (2,):
            path, other = CompiledPath(network, config, kernels, threads), Cursor(V, network.initial_state())
            assert path._pace.members == threads
            path.read(other, prompt)
            (written,) = path.write([other], [numbers], -1)
            assert written.tolist() == expected
            assert other.state.tobytes() == cursor.state.tobytes()
            assert other.last == cursor.last


@compiled_only
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("text", [PROSE, LINES], ids=["prose", "lines"])
def test_a_text_does_not_show_who_wrote_it(threads, text, monkeypatch):
    """The pace changes between one thread and a team in mid-text, as the machine has it."""
    checkpoint = make(text=text, hidden_size=40, num_layers=3)
    alone = [write(checkpoint, "ab", index=n, length=250) for n in range(3)]
    monkeypatch.setattr(engines, "WEIGHTS_A_THREAD", 1)
    monkeypatch.setattr(engines, "LONGEST_PIECE", 7)
    let_load(monkeypatch, Ready(after=2))
    for n in range(3):
        monkeypatch.setattr(mixture, "_networks", weakref.WeakKeyDictionary())
        config = SampleConfig(seed=1, length=250)
        (text_n,) = generate_all(checkpoint, "ab", config, first=n, threads=threads)
        assert "".join(text_n) == alone[n]


class Failing:
    """The kernels, of which `write` fails in one thread of a team."""

    def __init__(self, error: BaseException, in_helper: bool) -> None:
        self._error, self._in_helper = error, in_helper
        self.returned: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(kernels, name)

    def write(self, *arguments: Any) -> int:
        if (arguments[-1].worker > 0) == self._in_helper:
            raise self._error
        self.returned.append(kernels.write(*arguments))
        return self.returned[-1]


@compiled_only
@pytest.mark.parametrize("in_helper", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.usefixtures("together")
def test_if_one_of_a_team_fails_the_other_does_not_wait_forever(prose, error, in_helper):
    network = PlainNetwork(prose)
    failing: Any = Failing(error("of one thread"), in_helper)
    path = CompiledPath(network, SampleConfig(), failing, threads=2)
    cursor = Cursor(V, network.initial_state())
    with pytest.raises(error, match="of one thread"):
        path.write([cursor], [np.zeros(10)], -1)
    path._pool.shutdown()  # waits for the other
    assert failing.returned == [-1]
    assert cursor.last == V  # and nothing was written
    whole = CompiledPath(network, SampleConfig(), kernels, threads=2)
    assert len(whole.write([cursor], [np.zeros(10)], -1)[0]) == 10


@compiled_only
@pytest.mark.skipif(not has_longer_vectors(), reason="not this CPU")
def test_a_cpu_with_shorter_vectors_writes_the_same(tmp_path):
    """A process whose compiler may use AVX2 alone, against the plain path here."""
    from charrnn.checkpoint import model_file as files

    expected = []
    for n, (cell, nonlinearity) in enumerate(CELLS):
        checkpoint = make(cell=cell, nonlinearity=nonlinearity, hidden_size=50, seed=n, norm=n % 2 > 0)
        files.save(checkpoint, tmp_path / f"{n}.safetensors")
        options: dict[str, Any] = {"length": 120, "top_p": 0.95, "precision": WEIGHT_PRECISIONS[n % 2]}
        expected += [write(checkpoint, "ab", index=index, **options) for index in range(9)]
    program = """
import sys
from charrnn.checkpoint import model_file
from charrnn.config import WEIGHT_PRECISIONS, SampleConfig
from charrnn.generation.writing import generate_all
from charrnn.inference import engines, writing_loop
from charrnn.kernels.products import tile
assert not tile.WIDE
loader = engines.Loader()
loader.kernels = writing_loop
engines.loader_of = lambda kind: loader
engines.WEIGHTS_A_THREAD = 1
for n in range(4):
    model = model_file.load(f"{sys.argv[1]}/{n}.safetensors")
    config = SampleConfig(seed=1, length=120, top_p=0.95, precision=WEIGHT_PRECISIONS[n % 2])
    for first, count in ((0, 1), (1, 8)):
        for text in generate_all(model, "ab", config, first=first, count=count, threads=2):
            sys.stdout.buffer.write("".join(text).encode() + b"\\0")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path],
        env=environment(NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES=AVX2),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().split("\0")[:-1] == expected


# --- the loader -------------------------------------------------------------------


def test_quick_texts_start_no_thread(prose, monkeypatch):
    loader = engines.Loader()
    let_load(monkeypatch, loader)
    write(prose, length=50)
    assert loader._thread is None


def slow(loader: Any, network: PlainNetwork, seconds: float) -> None:
    """Let the plain path look so slow that a text would take this long."""
    loader.account(seconds / 2, 1000)
    loader.consider(1000, network)
    if loader._thread is not None:
        loader._thread.join()


@compiled_only
def test_the_loop_is_loaded_when_the_plain_path_would_take_long(prose):
    loader = engines.Loader()
    loader.account(100.0, engines.MEASURED - 1)  # the first characters say nothing
    loader.consider(1000, PlainNetwork(prose))
    assert loader._thread is None
    slow(loader, PlainNetwork(prose), 100.0)
    assert loader.kernels is kernels


@compiled_only
def test_it_must_take_longer_where_the_loop_is_yet_to_be_compiled(prose, monkeypatch, tmp_path):
    monkeypatch.setattr(jit, "CACHE_DIR", tmp_path)
    loader = engines.Loader()
    slow(loader, PlainNetwork(prose), 2.0)
    assert loader.kernels is None
    slow(loader, PlainNetwork(prose), 2.0)
    assert loader.kernels is None
    slow(loader, PlainNetwork(prose), 20.0)
    assert loader.kernels is kernels
    # Which is remembered for the next process.
    loader = engines.Loader()
    slow(loader, PlainNetwork(prose), 2.0)
    assert loader.kernels is kernels


def test_without_numba_the_plain_path_goes_on(prose, monkeypatch):
    expected = write(prose, length=100)
    loader = engines.Loader()
    let_load(monkeypatch, loader)
    monkeypatch.setitem(sys.modules, "charrnn.inference.writing_loop", None)
    monkeypatch.delattr("charrnn.inference.writing_loop")
    slow(loader, PlainNetwork(prose), 100.0)
    assert loader.kernels is None
    assert write(prose, length=100) == expected


def test_without_the_jit_the_plain_path_goes_on(prose, monkeypatch):
    monkeypatch.setattr(jit, "JIT_DISABLED", True)
    loader = engines.Loader()
    slow(loader, PlainNetwork(prose), 100.0)
    assert loader.kernels is None


def test_the_first_character_needs_no_numba(prose, tmp_path):
    from charrnn.checkpoint import model_file

    model_file.save(prose, tmp_path / "m.safetensors")
    program = """
import sys
from charrnn.checkpoint import model_file
from charrnn.config import SampleConfig
from charrnn.generation.writing import generate_all
pieces = next(generate_all(model_file.load(sys.argv[1]), "", SampleConfig(seed=1, length=10**6)))
first = next(pieces)
assert not {"numba", "llvmlite"} & sys.modules.keys()
sys.stdout.buffer.write(first.encode())
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "m.safetensors"],
        env=environment(),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == write(prose, length=1)


def test_a_network_is_arranged_once_and_goes_with_its_checkpoint(prose):
    checkpoint = make()
    write(checkpoint, length=3)
    network = weakref.ref(network_of(checkpoint, "float32"))
    write(checkpoint, length=3, index=1)
    assert network_of(checkpoint, "float32") is network()
    del checkpoint
    gc.collect()
    assert network() is None


# --- many texts at once -------------------------------------------------------------


def write_all(checkpoint: Checkpoint, count: int, prompt: str = "", *, threads=None, **settings) -> list[str]:
    texts = generate_all(checkpoint, prompt, SampleConfig(seed=1, **settings), count=count, threads=threads)
    return ["".join(pieces) for pieces in texts]


ENDINGS: list[dict[str, Any]] = [{"length": 25}, {"length": 40, "until": "ab"}, {"length": 1}, {"length": 0}]


@pytest.mark.parametrize("cell", range(len(CELLS)))
@pytest.mark.parametrize("lines", [0, 1], ids=["prose", "lines"])
def test_each_of_many_texts_is_what_it_is_alone(cell, lines, monkeypatch):
    """All pairs of a cell, a kind of text, a precision, and a moment when the loop takes over."""
    text = (PROSE, LINES)[lines]
    precision, after = WEIGHT_PRECISIONS[(lines + cell) % 2], (0, 12)[(lines + cell // 2) % 2]
    cell, nonlinearity = CELLS[cell]
    checkpoint = make(cell=cell, nonlinearity=nonlinearity, text=text, hidden_size=33, embedding_size=33)
    for ending in ENDINGS:
        alone = [write(checkpoint, "ab", index=n, precision=precision, **ending) for n in range(12)]
        monkeypatch.setattr(engines, "TEXTS_A_THREAD", 3)  # so that texts must make room for others
        for threads in (1, 2, 3):
            let_load(monkeypatch, Ready(after))
            assert write_all(checkpoint, 12, "ab", threads=threads, precision=precision, **ending) == alone
        let_load(monkeypatch, Ready(after=None))
        assert write_all(checkpoint, 12, "ab", precision=precision, **ending) == alone
    assert len(set(map(len, alone))) == 1


def test_lines_of_all_lengths_are_written_side_by_side(lines, monkeypatch):
    alone = [write(lines, index=n) for n in range(200)]
    assert len(set(map(len, alone))) > 10
    let_load(monkeypatch, Ready(after=0))
    assert write_all(lines, 200, threads=2) == alone


@pytest.mark.parametrize("after", [None, 0, 9])
def test_texts_can_be_taken_in_any_order_or_left(prose, after, monkeypatch):
    alone = [write(prose, index=n, length=50) for n in range(12)]
    let_load(monkeypatch, Ready(after))
    monkeypatch.setattr(engines, "TEXTS_A_THREAD", 4)
    config = SampleConfig(seed=1, length=50)
    texts = list(generate_all(prose, "", config, count=12, threads=1))
    order = np.random.default_rng(1).permutation(12).tolist()
    assert {n: "".join(texts[n]) for n in order} == dict(enumerate(alone))
    begun = [(next(text), text) for text in generate_all(prose, "", config, count=12, threads=1)]
    assert [first + "".join(rest) for first, rest in begun[::-1]] == alone[::-1]
    left = generate_all(prose, "", config, count=12, threads=1)
    kept = ["".join(text) for n, text in enumerate(left) if n % 3 == 2]
    assert kept == alone[2::3]


@compiled_only
def test_what_is_written_ahead_is_bounded(prose, monkeypatch):
    let_load(monkeypatch, Ready(after=0))
    monkeypatch.setattr(writing, "CHARACTERS_AHEAD", 1000)
    texts = generate_all(prose, "", SampleConfig(seed=1, length=10_000), count=5, threads=1)
    first = next(texts)
    run: Any = first.pieces.gi_frame.f_locals["self"]  # type: ignore[attr-defined]
    assert len("".join(first)) == 10_000
    assert 1000 < sum(text.waiting for text in run._ahead) < 1000 + 5 * engines.LONGEST_PIECE
    assert ["".join(text) for text in texts] == [write(prose, index=n, length=10_000) for n in range(1, 5)]


@compiled_only
def test_texts_ahead_are_bounded(lines, monkeypatch):
    let_load(monkeypatch, Ready(after=0))
    monkeypatch.setattr(writing, "TEXTS_AHEAD", 5)
    texts = generate_all(lines, "", SampleConfig(seed=1), count=10**6, threads=2)
    first = next(texts)
    run: Any = first.pieces.gi_frame.f_locals["self"]  # type: ignore[attr-defined]
    alone = [write(lines, index=n) for n in range(50)]
    for n, text in enumerate(itertools.islice(itertools.chain([first], texts), 50)):
        assert "".join(text) == alone[n]
        assert len(run._ahead) <= 5


def test_a_few_lines_need_no_compiled_loop(lines, monkeypatch):
    loader = engines.Loader()
    let_load(monkeypatch, loader)
    write_all(lines, 5)
    assert loader._thread is None


def test_many_lines_are_worth_the_compiled_loop(lines, monkeypatch):
    considered: list[int] = []
    monkeypatch.setattr(Ready, "consider", lambda self, left, network: considered.append(left))
    texts = generate_all(lines, "", SampleConfig(seed=1), count=100_000)
    length = len("".join(next(texts)))
    next(next(texts))
    assert considered[0] == 0  # how long a line becomes, nobody knows yet
    assert considered[-1] == length * (100_000 - 2)


def test_bfloat16_writes_other_texts_but_as_good_ones():
    """The loss of the bundled model over its own kind of text, with and without rounding."""
    from charrnn.checkpoint import library
    from charrnn.checkpoint import model_file as files

    bundled = library.bundled("places")
    assert bundled is not None
    model = files.load(bundled)
    names = (Path(__file__).parents[1] / "corpora/places.txt").read_text("utf-8").split("\n")
    sample = [name + "\n" for name in names[7 :: max(1, len(names) // 60)] if name]
    losses = {}
    for precision in WEIGHT_PRECISIONS:
        network = PlainNetwork(model, precision)
        total, characters = 0.0, 0
        for name in sample:
            state, last = network.initial_state(), len(model.vocabulary)
            for character in model.vocabulary.encode(name).tolist():
                logits, state = network.step(last, state)
                wide = logits.astype(np.float64)
                total += np.logaddexp.reduce(wide) - wide[character]
                last, characters = character, characters + 1
        losses[precision] = total / characters
    assert characters > 400
    assert losses["bfloat16"] != losses["float32"]
    assert abs(losses["bfloat16"] - losses["float32"]) < 0.002


# --- what a text depends on -------------------------------------------------------


def test_the_same_seed_writes_the_same_text_and_another_seed_another(prose):
    assert write(prose, seed=4) == write(prose, seed=4) != write(prose, seed=5)


def test_without_a_seed_each_text_is_another(prose):
    assert write(prose, seed=None) != write(prose, seed=None)


def test_texts_of_one_seed_differ_by_their_index_alone(prose):
    texts = [write(prose, index=n) for n in range(4)]
    assert len(set(texts)) == 4
    assert write(prose, index=2) == texts[2]


def test_a_shorter_text_is_the_longer_ones_beginning(prose):
    text = write(prose, length=200)
    for length in (0, 1, 17, 199):
        assert write(prose, length=length) == text[:length]


def test_interleaved_texts_do_not_disturb_each_other(prose):
    config = SampleConfig(seed=1, length=60)
    both = zip(generate(prose, "a", config), generate(prose, "b", config, index=1), strict=True)
    first, second = map("".join, zip(*both, strict=True))
    assert first == write(prose, "a", length=60)
    assert second == write(prose, "b", length=60, index=1)


def test_temperature_zero_needs_no_chance(prose):
    assert write(prose, seed=1, temperature=0) == write(prose, seed=2, temperature=0)


def test_filters_and_temperature_reach_the_text(prose):
    sure = write(prose, temperature=0.0)
    assert write(prose, temperature=1e-6) == sure
    assert write(prose, top_k=1) == sure
    assert write(prose, top_p=1e-9) == sure
    assert write(prose, min_p=1.0) == sure
    assert len(set(write(prose, temperature=1e6, length=500))) == V


# --- where a text begins ----------------------------------------------------------


@pytest.mark.parametrize("text", [PROSE, LINES], ids=["prose", "lines"])
def test_a_text_goes_on_from_the_start_of_a_document_and_the_prompt(text):
    checkpoint = make(text=text)
    for index in range(5):
        written = write(checkpoint, "abba", length=80, index=index)
        assert written == by_hand(checkpoint, "abba", len(written), index=index)


def test_prose_without_a_prompt_begins_as_after_a_line_end(prose):
    assert write(prose, length=80) == by_hand(prose, "\n", 80) == write(prose, "\n", length=80)


class Expecting:
    """A network to which a line's end is as probable as is said of what it has read."""

    def __init__(self, vocabulary: Vocabulary, expects: dict[str, float]) -> None:
        self._characters = vocabulary.characters
        self._expects = expects

    def initial_state(self) -> str:
        return ""

    def step(self, character: int, read: str) -> tuple[np.ndarray, str]:
        read += self._characters[character] if character < len(self._characters) else "^"
        p = self._expects.get(read, 0.0)
        others = (1 - p) / (len(self._characters) - 1)
        row = [p if c == "\n" else others for c in self._characters]
        return np.log(np.maximum(row, 1e-30)), read


@pytest.mark.parametrize(
    ("characters", "expects", "expected"),
    [
        ("\n ab", {"^\n": 0.9}, "\n"),  # no sentences
        ("\n .ab", {"^\n": 0.9}, "\n"),  # none ends where its line does
        ("\n .ab", {"^.": 0.3, "^.\n": 0.001}, ".\n"),
        ("\n .ab", {"^.": 0.3, "^.\n": 0.8}, ".\n\n"),
        ("\n .ab。", {"^.": 0.01, "^。": 0.2, "^。\n": 0.5}, "。\n\n"),
        (" .ab", {}, ""),
    ],
)
def test_prose_begins_as_after_the_end_of_a_sentence_that_is_usual(characters, expects, expected):
    vocabulary = Vocabulary("".join(sorted(characters)))
    found = beginning.lead(Expecting(vocabulary, expects), vocabulary)  # type: ignore[arg-type]
    assert vocabulary.decode(found) == expected


@pytest.mark.parametrize("after", [None, 0, 10])
def test_prose_without_a_prompt_begins_with_a_sentence_on_both_paths(after, monkeypatch):
    checkpoint = make(characters="\n .abc")
    checkpoint.tensors["decoder.bias"][0] += 1.0  # a line's end is usual
    expected = by_hand(checkpoint, ".\n\n", 80)
    let_load(monkeypatch, Ready(after))
    assert write(checkpoint, length=80) == expected
    assert write(checkpoint, ".\n\n", length=80) == expected
    batches = iter([[""], []])
    config = SampleConfig(seed=1, length=80)
    (each,) = writing.generate_each(checkpoint, lambda most: next(batches), config)
    assert "".join(each) == expected


def test_prose_without_line_ends_begins_at_the_start_of_a_document():
    checkpoint = make(characters="abc")
    assert write(checkpoint, length=80) == by_hand(checkpoint, "", 80)


def test_a_line_begins_at_the_start_of_a_document(lines):
    texts = [write(lines, index=n, length=40) for n in range(20)]
    for n, text in enumerate(texts):
        assert by_hand(lines, "", len(text), index=n) == text


def test_a_line_goes_on_from_the_prompts_last_line(lines):
    for prompt, last in (("ab\ncd", "cd"), ("ab\n\ncd", "cd"), ("ab\n", ""), ("\n", "")):
        assert write(lines, prompt) == write(lines, last)
        assert write(lines, prompt, echo=True) == prompt + write(lines, last)


def test_echo_writes_the_prompt_first(prose):
    assert write(prose, "abc", length=20, echo=True) == "abc" + write(prose, "abc", length=20)
    assert write(prose, "abc", length=0, echo=True) == "abc"
    assert write(prose, "", length=20, echo=True) == write(prose, length=20)


def test_an_unknown_character_in_the_prompt_is_an_error_before_anything_is_written(prose):
    with pytest.raises(VocabularyError, match=r"U\+00E9"):
        generate(prose, "ab\N{LATIN SMALL LETTER E WITH ACUTE}")


def test_unknown_characters_can_be_skipped(prose):
    assert write(prose, "aXbé", on_unknown="skip", echo=True) == write(prose, "ab", echo=True)
    assert write(prose, "XYZ", on_unknown="skip", echo=True) == write(prose)


# --- where a text ends ------------------------------------------------------------


def test_prose_has_the_default_length(prose):
    assert len(write(prose)) == DEFAULT_SAMPLE_LENGTH


def test_a_line_stops_at_its_end_or_at_the_length(lines):
    whole = [write(lines, index=n) for n in range(30)]
    assert all(text.count("\n") == 1 and text[-1] == "\n" for text in whole)
    assert len({len(text) for text in whole}) > 3
    for n, text in enumerate(whole):
        assert write(lines, index=n, length=3) == text[:3]


def test_a_line_that_never_ends_is_stopped(monkeypatch):
    checkpoint = make(text=LINES)
    checkpoint.tensors["decoder.bias"][0] = -1e9
    monkeypatch.setattr(beginning, "MAX_LINE_LENGTH", 70)
    assert len(write(checkpoint)) == 70
    assert len(write(checkpoint, length=90)) == 90


def test_until_is_the_last_that_is_written(prose, monkeypatch):
    text = write(prose, length=400)
    for until in (text[100:103], text[200:230], text[:1], "zz"):
        end = text.index(until) + len(until) if until in text else 400
        for after in (None, 0, 30):
            let_load(monkeypatch, Ready(after))
            assert write(prose, length=400, until=until) == text[:end]


def test_until_is_not_looked_for_in_the_prompt(prose):
    text = write(prose, "ab", length=50)
    until = "b" + text[0]
    end = text.find(until)
    assert write(prose, "ab", length=50, until=until) == text[: end + 2 if end >= 0 else 50]


def test_until_or_the_end_of_the_line_whichever_comes_first(lines):
    for n in range(20):
        whole = write(lines, index=n)
        until = write(lines, index=n, until="a")
        assert until == (whole[: whole.index("a") + 1] if "a" in whole else whole)


def ended(text: str, stops: list[str], by_line: bool, drop: bool) -> str:
    """The text up to where it ends, said as plainly as can be: the reference."""
    for n in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:n].endswith(stop)]
        if found:
            return text[: n - max(map(len, found)) if drop else n]
        if by_line and text[n - 1] == "\n":
            return text[:n]
    return text


def piece_by_piece(
    text: str, data: st.DataObject, ending: rejection.Ending, outlet: rejection.Outlet
) -> list[str]:
    """What is handed out of a text that comes in pieces of any size."""
    handed, done, at_end = [], 0, False
    while done < len(text) and not at_end:
        size = data.draw(st.integers(1, len(text) - done))
        piece, at_end = ending.cut(text[done : done + size])
        done += size
        at_end = at_end or done == len(text)
        handed.append(outlet.end(piece, ending.stop) if at_end else outlet.put(piece))
    return handed


STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)


@given(st.text("ab\n", max_size=30), STOPS, st.booleans(), st.booleans(), st.data())
def test_the_end_is_found_however_the_text_is_cut_into_pieces(text, stops, by_line, drop, data):
    ending, outlet = rejection.Ending("\n" if by_line else "", stops), rejection.Outlet(stops if drop else [])
    expected = ended(text, stops, by_line, drop)
    handed = piece_by_piece(text, data, ending, outlet)
    assert "".join(handed) == expected
    for n in range(len(handed)):  # nothing that was handed out was to be left out
        assert expected.startswith("".join(handed[:n]))


@given(st.lists(st.sampled_from([0x61, 0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xF0, 0x9F]), max_size=20), st.data())
def test_no_character_of_utf8_is_cut_however_the_bytes_come(data_bytes, data):
    text = bytes(data_bytes).decode("latin-1")
    begins = data.draw(st.integers(0, len(text)))
    try:
        decoder = codecs.getincrementaldecoder("utf-8")()
        decoder.decode(bytes(data_bytes))
        expected = text[begins : max(begins, len(text) - len(decoder.getstate()[0]))]
        valid = True
    except UnicodeDecodeError:
        expected, valid = text[begins:], False
    outlet = rejection.Outlet((), whole_characters=True, before=text[:begins])
    handed = piece_by_piece(text[begins:], data, rejection.Ending("", ()), outlet)
    assert "".join(handed) == expected
    for n in range(len(handed) * valid):
        if so_far := "".join(handed[: n + 1]):
            (text[:begins] + so_far).encode("latin-1").decode("utf-8")


@pytest.mark.parametrize("text", [PROSE, LINES], ids=["prose", "lines"])
@pytest.mark.parametrize("drop", [False, True], ids=["kept", "dropped"])
@pytest.mark.parametrize("after", [None, 0, 20])
def test_each_of_several_stop_texts_ends_the_text_on_both_paths(text, drop, after, monkeypatch):
    checkpoint = make(text=text)
    stops = ["ab", "b🙂", "🙂b🙂", "cd", "e\n"]
    for index in range(7):
        whole = write(checkpoint, index=index, length=90)
        let_load(monkeypatch, Ready(after))
        found = write(checkpoint, index=index, length=90, until=tuple(stops), drop_until=drop)
        assert found == ended(whole, stops, text.lines, drop)
        let_load(monkeypatch, Ready(None))


def test_texts_that_are_alike_without_their_stop_texts_are_not_unique(lines):
    config = SampleConfig(seed=1, until=tuple("bcde"), drop_until=True, unique=True, length=5)
    texts = ["".join(pieces) for pieces in generate_all(lines, "", config, count=8)]
    assert len({text.removesuffix("\n") for text in texts}) == 8


@pytest.mark.parametrize("settings", [{}, {"unique": True}, {"ban": ("zz",), "exact": True}])
def test_the_length_cuts_no_character_of_a_model_of_bytes(settings, monkeypatch):
    checkpoint = make(characters="\na\xa9\xc3", text=TextConfig(bytes=True))
    checkpoint.tensors["decoder.weight"][:] = 0
    checkpoint.tensors["decoder.bias"][:] = -1e9, -1e9, 3.0, 3.0  # runs of \xc3 and \xa9
    utf8, other = 0, 0
    for index in range(60):
        text = write(checkpoint, index=index, length=3, **settings)
        if (data := text.encode("latin-1")).startswith(b"\xc3\xa9"):
            assert data in (b"\xc3\xa9", b"\xc3\xa9\xa9")  # \xc3 alone is left out; the third is no UTF-8
            utf8 += data == b"\xc3\xa9"
        else:
            assert len(text) == 3
            other += 1
    assert utf8
    assert other
    matching = write(checkpoint, length=3, match="\xc3\xa9\xc3")
    assert matching == "\xc3\xa9\xc3"  # what matches as a whole stays whole


# --- characters -------------------------------------------------------------------


def test_the_plain_path_yields_each_character_as_it_comes(prose):
    pieces = list(generate(prose, "", SampleConfig(seed=1, temperature=1e6, length=300)))
    assert all(len(piece) == 1 for piece in pieces)
    assert {"🙂", "語"} < set(pieces)


def test_a_model_of_bytes_writes_bytes():
    checkpoint = make(characters="\n\x00a\x80\xff", text=TextConfig(bytes=True))
    text = write(checkpoint, "\x80\xff", echo=True, temperature=1e6)
    assert text.startswith("\x80\xff")
    assert set(text.encode("latin-1")) == {0x0A, 0x00, 0x61, 0x80, 0xFF}


def test_a_vocabulary_of_two_characters_is_enough():
    checkpoint = make(characters="ab", hidden_size=1, embedding_size=0, num_layers=1)
    assert set(write(checkpoint, "a", temperature=1e6)) == {"a", "b"}


# --- what training leaves out ---------------------------------------------------------


@pytest.mark.parametrize("after", [0, None], ids=["compiled", "plain"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 0.0}, {"temperature": 5.0}, {"top_k": 1}, {"min_p": 0.5}, {"typical": 0.5},
     {"dry": 0.8}, {"match": ".*"}, {"match": "a?", "exact": True}, {"only": "ab"},
     {"unique": True, "temperature": 2.0}],
    ids=str,
)  # fmt: skip
def test_a_model_of_lines_writes_no_empty_line(after, settings, monkeypatch):
    """Whose network would end nearly every line at once."""
    checkpoint = make(text=LINES)
    checkpoint.tensors["decoder.bias"][0] += 4
    let_load(monkeypatch, Ready(after))
    config = SampleConfig(**{"seed": 1, **settings})
    count = 5 if "unique" in settings else 25
    for prompt in ("", "ab\n", "\n"):
        texts = ["".join(pieces) for pieces in generate_all(checkpoint, prompt, config, count=count)]
        assert "\n" not in texts
        assert all(text.endswith("\n") for text in texts)
    ends = ["".join(pieces) for pieces in generate_all(checkpoint, "ab", SampleConfig(seed=1), count=40)]
    assert "\n" in ends, "a line that has begun may end"


def test_what_matches_an_empty_line_alone_is_refused():
    for settings in ({"match": ""}, {"match": "(a{9})?", "length": 3}, {"only": "\n"}):
        with pytest.raises(SamplingError):
            write(make(text=LINES), **settings)
        assert write(make(text=LINES), "ab", **settings) == "\n"
    assert write(make(), match="") == ""


def test_prose_has_empty_lines():
    checkpoint = make()
    checkpoint.tensors["decoder.bias"][0] += 4
    assert "\n\n" in write(checkpoint)
