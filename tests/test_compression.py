"""compress and decompress: the identity on any bytes, the size that the model says, damage refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.model_files import checkpoint

from charrnn import api
from charrnn.checkpoint.library import bundled
from charrnn.checkpoint.model_file import load
from charrnn.config import TextConfig
from charrnn.errors import CompressionError
from charrnn.scoring import block_coder, compression

ROOT = Path(__file__).parent.parent
SIZES = {"cell": "lstm", "hidden_size": 6, "num_layers": 2, "embedding_size": 6}


def model(text: TextConfig, characters: str = "\n abcdé", **sizes):
    """One of small weights, which expects everything about alike, so that text gets shorter."""
    m = checkpoint(5, characters, **(SIZES | sizes))
    return replace(m, text=text, tensors={name: 0.2 * tensor for name, tensor in m.tensors.items()})


MODELS = {
    "lines": model(TextConfig(lines=True)),
    "prose": model(TextConfig(), cell="gru"),
    "bytes": model(TextConfig(bytes=True), "".join(map(chr, range(256))), cell="rnn"),
    "few bytes": model(TextConfig(bytes=True), "ab", embedding_size=0),
    "one character": model(TextConfig(), "a"),
    "latin-1": model(TextConfig(encoding="latin-1", keep_newlines=True)),
    "utf-16": model(TextConfig(encoding="utf-16")),
}
WORDS = ["a", "bc", "\n", " ", "é", "é".encode("latin-1"), "\r\n", "\r", "☃", b"\xff", b"\0", "\ufeff"]
texts = st.lists(st.sampled_from(WORDS), max_size=40).map(
    lambda words: b"".join(w if isinstance(w, bytes) else w.encode() for w in words)
)


def compress(m, data: bytes, **options) -> bytes:
    return b"".join(compression.compress(m, [data], **options))


def decompress(m, data: bytes, **options) -> bytes:
    return b"".join(compression.decompress(m, [data], **options))


@pytest.fixture
def compiled(monkeypatch):
    monkeypatch.setattr(block_coder, "PLAIN", -1)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=30)
@given(data=st.one_of(st.binary(max_size=200), texts))
def test_any_bytes_come_back(name, data):
    assert decompress(MODELS[name], compress(MODELS[name], data)) == data


@pytest.mark.parametrize("name", ["lines", "prose", "latin-1"])
def test_what_a_model_knows_is_coded_and_not_just_stored(name):
    data = b"abc dab\nbad\n" * 50
    packed = compress(MODELS[name], data)
    assert packed[14] == compression.CODED
    assert len(packed) < 0.5 * len(data)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_a_file_too(name):
    packed = compress(MODELS[name], b"")
    assert len(packed) == 15
    assert decompress(MODELS[name], packed) == b""


def mixture(length: int, seed: int = 0) -> bytes:
    """Text with a few characters that the models do not know, and line ends of one kind."""
    random = np.random.default_rng(seed)
    p = [0.01, *[0.98 / 7] * 7, 0.01]
    return "".join(random.choice(list("z\n abcdé☃"), length, p=p)).encode()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.usefixtures("compiled")
def test_blocks_frames_chunks_and_threads_make_no_difference(name, monkeypatch):
    monkeypatch.setattr(compression, "BLOCK", 100)
    monkeypatch.setattr(compression, "FRAME", 1000)
    monkeypatch.setattr(block_coder, "WEIGHTS_A_CALL", 10**4)
    m, data = MODELS[name], mixture(2500)
    packed = compress(m, data, threads=1)
    parts = [data[n : n + 77] for n in range(0, len(data), 77)]
    assert b"".join(compression.compress(m, parts, threads=3)) == packed
    assert decompress(m, packed, threads=2) == data
    assert b"".join(compression.decompress(m, [bytes([b]) for b in packed])) == data


@pytest.mark.parametrize("name", MODELS)
def test_python_and_the_compiled_loop_write_the_same_and_read_each_other(name, monkeypatch):
    monkeypatch.setattr(compression, "BLOCK", 64)
    m, data = MODELS[name], mixture(300, 1)
    monkeypatch.setattr(block_coder, "PLAIN", 10**9)
    plain = compress(m, data)
    monkeypatch.setattr(block_coder, "PLAIN", -1)
    assert compress(m, data) == plain
    assert decompress(m, plain) == data
    monkeypatch.setattr(block_coder, "PLAIN", 10**9)
    assert decompress(m, plain) == data


@pytest.mark.parametrize("value", [1e30, 3e38])
def test_a_network_of_huge_weights_still_gives_back_what_it_got(value, monkeypatch):
    m = MODELS["prose"]
    m = replace(m, tensors={n: np.full_like(t, value) * np.sign(t) for n, t in m.tensors.items()})
    ids = np.random.default_rng(0).integers(0, 7, 200).astype(np.int32)
    coded = []
    for limit in (-1, 10**9):
        monkeypatch.setattr(block_coder, "PLAIN", limit)
        coder = block_coder.BlockCoder(m, 1)
        ((state, words),) = coder.encode([ids], True)
        coded.append((state, words.tolist()))
        np.testing.assert_array_equal(coder.decode([(len(ids), state, words)], True)[0], ids)
    assert coded[0] == coded[1]


def test_the_size_is_what_the_model_says_to_half_a_percent():
    m = load(bundled("places"))
    data = (ROOT / "corpora" / "places.txt").read_bytes()
    result = api.evaluate(m, ROOT / "corpora" / "places.txt")
    expected = result.bpc * result.characters / 8
    packed = compress(m, data)
    assert len(packed) == pytest.approx(expected, rel=0.005)
    assert decompress(m, packed) == data


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["lines", "prose", "bytes", "one character"])
@settings(max_examples=10, deadline=None)
@given(data=st.one_of(st.binary(max_size=200), texts))
def test_any_bytes_come_back_from_a_model_that_learned_them(name, data):
    assert decompress(MODELS[name], compress(MODELS[name], data, adaptive=True)) == data


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["lines", "prose", "bytes"])
def test_what_is_learned_makes_a_file_smaller_whatever_the_frames_chunks_and_threads(name, monkeypatch):
    monkeypatch.setattr(compression, "FRAME", 1000)
    monkeypatch.setattr(block_coder, "WEIGHTS_A_CALL", 10**4)
    m, data = MODELS[name], mixture(500) * 5
    packed = compress(m, data, threads=1, adaptive=True)
    assert packed[5] == compression.ADAPTIVE
    assert len(packed) < 0.7 * len(compress(m, data))
    parts = [data[n : n + 77] for n in range(0, len(data), 77)]
    assert b"".join(compression.compress(m, parts, threads=3, adaptive=True)) == packed
    assert decompress(m, packed, threads=2) == data
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 1
    with pytest.raises(CompressionError):
        decompress(m, bytes(damaged))


def test_crlf_costs_next_to_nothing():
    data = b"abc\nda a\n" * 50
    for m in (MODELS["lines"], MODELS["prose"]):
        assert len(compress(m, data.replace(b"\n", b"\r\n"))) == len(compress(m, data))


def test_what_a_model_cannot_predict_does_not_grow():
    random = np.random.default_rng(0).bytes(5000)
    for m in MODELS.values():
        assert len(compress(m, random)) <= len(random) + 40


def test_a_few_unknown_characters_cost_a_few_bytes():
    data = mixture(1200)
    known = data.replace(b"z", b"").replace("☃".encode(), b"")
    extra = len(compress(MODELS["prose"], data)) - len(compress(MODELS["prose"], known))
    assert extra < 3 * (data.count(b"z") + data.count("☃".encode()))


def test_another_model_is_refused():
    packed = compress(MODELS["prose"], b"abc")
    other = MODELS["prose"]
    bias = other.tensors["decoder.bias"].copy()
    bias[0] = np.nextafter(bias[0], np.float32(9))
    changed = (
        replace(other, tensors={**other.tensors, "decoder.bias": bias}),
        replace(other, text=TextConfig(keep_newlines=True)),
        MODELS["lines"],
    )
    for m in changed:
        with pytest.raises(CompressionError, match="another model"):
            decompress(m, packed)
    trained = replace(other, history=[], run="x", settings={}, config=replace(other.config, dropout=0.5))
    assert decompress(trained, packed) == b"abc"  # how it was trained does not matter


@pytest.mark.parametrize("data", [b"", b"hello", b"\x1f\x8b" + bytes(100), bytes(100)])
def test_another_file_is_refused(data):
    with pytest.raises(CompressionError, match="no file that charrnn compress wrote"):
        decompress(MODELS["prose"], data)


def test_a_newer_format_is_refused():
    packed = bytearray(compress(MODELS["prose"], b"abc"))
    packed[len(compression.MAGIC)] = compression.LOOKING + 1
    with pytest.raises(CompressionError, match="newer"):
        decompress(MODELS["prose"], bytes(packed))


def test_every_cut_is_found_and_so_is_what_follows_the_end():
    packed = compress(MODELS["prose"], mixture(60))
    for length in range(len(compression.MAGIC), len(packed)):
        with pytest.raises(CompressionError):
            decompress(MODELS["prose"], packed[:length])
    with pytest.raises(CompressionError, match="follows"):
        decompress(MODELS["prose"], packed + b"\0")


@pytest.mark.parametrize("limit", [-1, 10**9])
def test_every_flipped_bit_is_found(limit, monkeypatch):
    monkeypatch.setattr(block_coder, "PLAIN", limit)
    data = mixture(60)
    packed = compress(MODELS["prose"], data)
    for place in range(len(packed)):
        damaged = bytearray(packed)
        damaged[place] ^= 1 << place % 8
        with pytest.raises(CompressionError):
            decompress(MODELS["prose"], bytes(damaged))


def test_frames_that_change_places_are_found(monkeypatch):
    monkeypatch.setattr(compression, "FRAME", 1000)
    m = MODELS["few bytes"]
    head = compress(m, b"")[:-1]
    frames = compress(m, bytes(range(100)) * 10 + b"x" * 1000)[len(head) : -1]
    half = len(frames) // 2
    assert decompress(m, head + frames + b"\0")
    with pytest.raises(CompressionError, match="damaged"):
        decompress(m, head + frames[half:] + frames[:half] + b"\0")


def test_frames_end_behind_a_line_or_at_least_a_character(monkeypatch):
    monkeypatch.setattr(compression, "FRAME", 10)
    data = "abcdefg\nhijklmnopqrs☃☃☃☃☃☃☃☃".encode()
    frames = list(compression._frames([data]))
    assert b"".join(frames) == data
    assert frames[0] == b"abcdefg\n"
    assert all(frame.decode() and len(frame) <= 10 for frame in frames)


def test_the_documented_varint():
    assert compression._varint(300) == bytes([0b10101100, 0b00000010])
    assert math.log2(compression.FRAME).is_integer()
