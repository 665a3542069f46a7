"""Bytes -> code points -> ids."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from charrnn.config import EncodingErrors, TextConfig
from charrnn.errors import ConfigError, CorpusError, VocabularyError
from charrnn.system.growing import GrowingArray
from charrnn.text.files import lines
from charrnn.text.files.decoding import CHUNK, Decoder, Encoder, LineEnds, check_encoding, what_to_try
from charrnn.vocabulary import Vocabulary

texts = st.text(st.characters(exclude_categories=["Cs"]))
encodings = st.sampled_from(["utf-8", "utf-16", "utf-16-be", "utf-32", "gb18030", "utf-7"])


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def decoded(chunks: Iterable[bytes], text: TextConfig | None = None) -> str:
    pieces = list(Decoder(text or TextConfig()).decode(chunks, "x.txt"))
    assert all(len(piece) for piece in pieces)
    return "".join(map(chr, np.concatenate([np.zeros(0, np.uint8), *pieces])))


def refused(chunks: Iterable[bytes], text: TextConfig | None = None) -> CorpusError:
    with pytest.raises(CorpusError) as caught:
        decoded(chunks, text)
    assert str(caught.value).isprintable()
    assert "x.txt" in caught.value.message
    assert "--encoding" in caught.value.hint
    return caught.value


@given(texts, encodings, st.integers(1, 20))
def test_text_survives_any_cut_into_chunks(text: str, encoding: str, size: int) -> None:
    config = TextConfig(encoding=encoding, keep_newlines=True)
    data = text.encode(encoding)
    assert decoded(cut(data, size), config) == text.removeprefix("\ufeff")


@given(st.text("ab\r\n"), st.integers(1, 5))
def test_every_line_end_becomes_lf_at_any_cut(text: str, size: int) -> None:
    assert decoded(cut(text.encode(), size)) == re.sub("\r\n?", "\n", text)


@given(st.text("ab\r\n"), st.integers(1, 5))
def test_line_ends_stay_when_asked(text: str, size: int) -> None:
    assert decoded(cut(text.encode(), size), TextConfig(keep_newlines=True)) == text


@pytest.mark.parametrize(
    ("data", "kinds"),
    [
        (b"a\nb\n", set()),
        (b"a\r\nb\r\n", {"\r\n"}),
        (b"a\rb", {"\r"}),
        (b"a\r\nb\rc\n", {"\r", "\r\n"}),
        (b"ends in a\r", {"\r"}),
    ],
)
def test_changed_line_ends_are_remembered(data: bytes, kinds: set[str]) -> None:
    for size in (1, 100):
        decoder = Decoder(TextConfig())
        list(decoder.decode(cut(data, size), "x"))
        assert decoder.line_ends == kinds


def test_a_cr_at_the_end_of_a_file_does_not_join_the_next_file() -> None:
    decoder = Decoder(TextConfig())
    files = [np.concatenate(list(decoder.decode([d], "x"))).tolist() for d in (b"a\r", b"\nb")]
    assert files == [[97, 10], [10, 98]]


@given(st.binary(), st.integers(1, 20))
def test_bytes_are_characters_and_nothing_changes_them(data: bytes, size: int) -> None:
    assert decoded(cut(data, size), TextConfig(bytes=True)) == data.decode("latin-1")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-32-be", "gb18030"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_byte_order_mark_is_dropped(encoding: str, size: int) -> None:
    data = ("" if encoding == "utf-16" else "\ufeff").encode(encoding) + "añ漢🙂".encode(encoding)
    assert decoded(cut(data, size), TextConfig(encoding=encoding)) == "añ漢🙂"


def without_marks(text: str) -> str:
    """The plain reference: all at once, at the start of every line."""
    return re.sub("(?m)^\ufeff+", "", re.sub("\r\n?", "\n", text))


@given(st.text("a\n\r\ufeff"), st.integers(1, 5), st.sampled_from(["utf-8", "utf-16-le", "gb18030"]))
def test_marks_at_the_start_of_a_line_are_dropped_at_any_cut(text: str, size: int, encoding: str) -> None:
    data, config = text.encode(encoding), TextConfig(encoding=encoding)
    assert decoded(cut(data, size), config) == without_marks(text)
    assert "".join(lines.decode(cut(data, size), config)) == without_marks(text)


def test_marks_are_counted_but_for_the_usual_one_at_the_start_of_a_file() -> None:
    decoder = Decoder(TextConfig())
    for data in (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", b"\xef\xbb\xbfc", b"d\n\xef\xbb\xbf\xef\xbb\xbf"):
        for size in (1, 100):
            list(decoder.decode(cut(data, size), "x"))
    assert decoder.marks == 2 * 3


def test_within_a_line_and_in_bytes_marks_stay() -> None:
    assert decoded(["\ufeff\ufeffa\ufeff".encode()]) == "a\ufeff"
    assert decoded([codecs.BOM_UTF8]) == ""
    assert decoded([codecs.BOM_UTF8], TextConfig(bytes=True)) == "\xef\xbb\xbf"


@example("\r", 1, False)
@example("\r\n\r", 1, False)
@given(texts.filter(lambda t: not t.startswith("\ufeff")), st.integers(1, 9), st.booleans())
def test_an_invalid_byte_is_named_with_its_offset_at_any_cut(text: str, size: int, mark: bool) -> None:
    start = (codecs.BOM_UTF8 if mark else b"") + text.encode()
    error = refused(cut(start + b"\xe9 la fin", size))
    assert f"byte offset {len(start)} holds E9 " in error.message
    line = 1 + len(re.findall("\r\n?|\n", text))
    assert error.message.endswith(f", in line {line:,}")


@pytest.mark.parametrize("size", [1, 2, 5, 100])
@pytest.mark.parametrize(
    ("encoding", "data", "message"),
    [
        ("utf-8", "abc漢".encode()[:-1], "byte offset 3 holds E6 BC (unexpected end of data)"),
        ("utf-16-le", b"a\0b\0c", "byte offset 4 holds 63 (truncated data)"),
        ("utf-16-le", b"a\0\x00\xdc", "byte offset 2 holds 00 DC"),
        ("ascii", b"abc\xe9", "byte offset 3 holds E9"),
        ("cp1252", b"ab\x81", "byte offset 2 holds 81"),
        ("shift_jis", "日本".encode("shift_jis") + b"\xff", "byte offset 4 holds FF"),
    ],
)
def test_offsets_hold_in_every_encoding(encoding: str, data: bytes, message: str, size: int) -> None:
    error = refused(cut(data, size), TextConfig(encoding=encoding))
    assert message in error.message
    assert encoding.upper() in error.message


def test_offsets_beyond_the_first_chunks_count_all_bytes() -> None:
    chunks = [b"x" * CHUNK, "é".encode() * CHUNK, b"x\xff"]
    assert f"byte offset {3 * CHUNK + 1} holds FF" in refused(chunks).message


def test_half_a_surrogate_pair_is_no_text() -> None:
    assert "surrogate" in refused([rb"a\ud800"], TextConfig(encoding="unicode_escape")).message


@pytest.mark.parametrize("name", ["utf-9", "hex", "rot13", "../x", "utf 8 please"])
def test_an_unknown_encoding_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Decoder(TextConfig(encoding=name))
    assert str(caught.value).isprintable()
    Decoder(TextConfig(encoding=name, bytes=True))  # where it is not used


@pytest.mark.parametrize("name", ["utf8", "UTF_16", "latin-1", "big5", "cp1252", "mac-roman"])
def test_known_encodings_pass(name: str) -> None:
    check_encoding(name)


@given(st.lists(st.tuples(st.sampled_from([200, 300, 70_000]), st.integers(0, 50))))
def test_ids_keep_their_values_while_they_widen(parts: list[tuple[int, int]]) -> None:
    ids = GrowingArray(np.dtype(np.uint8))
    values: list[int] = []
    largest = 0
    for value, count in parts:
        largest = max(largest, value)
        ids.widen(np.min_scalar_type(largest))
        ids.append(np.full(count, value, np.uint32))
        values += [value] * count
    assert len(ids) == len(values)
    assert ids.finish().tolist() == values
    assert ids.finish().dtype == np.min_scalar_type(largest)


@pytest.mark.parametrize("length", [CHUNK - 1, CHUNK, 2 * CHUNK + 7])
def test_long_runs_of_ids_widen_in_place(length: int) -> None:
    values = np.arange(length) % 251
    ids = GrowingArray(np.dtype(np.uint8))
    ids.append(values)
    for dtype in (np.uint16, np.uint32):
        ids.widen(np.dtype(dtype))
        assert np.array_equal(ids.finish(), values)
        assert ids.finish().nbytes == length * np.dtype(dtype).itemsize


@given(st.lists(texts))
def test_a_growing_vocabulary_is_sorted_in_the_end(pieces: list[str]) -> None:
    encoder = Encoder(None)
    ids = GrowingArray(encoder.dtype)
    for piece in pieces:
        numbers = encoder.encode(np.array([ord(c) for c in piece], np.uint32), str)
        ids.widen(encoder.dtype)
        ids.append(numbers)
    text = "".join(pieces)
    if text:
        result = ids.finish()
        vocabulary = encoder.finish(result)
        assert vocabulary == Vocabulary.build(text)
        assert vocabulary.decode(result) == text


def test_a_given_vocabulary_names_the_place_of_the_unknown() -> None:
    encoder = Encoder(Vocabulary("\nab"))
    with pytest.raises(VocabularyError) as caught:
        encoder.encode(np.array([97, 10, 98, 10, 233], np.uint32), lambda n: f"at {n}")
    assert "'é' (U+00E9" in caught.value.message
    assert caught.value.message.endswith(", at 4")


def test_a_given_vocabulary_skips_and_counts_the_unknown_when_asked() -> None:
    encoder = Encoder(Vocabulary("ab"), "skip")
    assert encoder.encode(np.array([97, 233, 98, 10], np.uint32), str).tolist() == [0, 1]
    assert encoder.skipped == 2


@given(st.lists(st.text("ab\n"), max_size=4), st.integers(1, 4))
def test_lines_are_never_empty_and_always_end(files: list[str], size: int) -> None:
    line_ends = LineEnds(ord("\n"))
    result: list[int] = []
    for text in files:
        for piece in cut(text.encode(), size):
            result += line_ends.clean(np.frombuffer(piece, np.uint8).astype(np.uint32)).tolist()
        result += line_ends.finish_file().tolist()
    lines = [line for text in files for line in text.split("\n") if line]
    assert "".join(map(chr, result)) == "".join(line + "\n" for line in lines)
    blank = sum(text.splitlines().count("") for text in files)
    assert line_ends.empty_lines == blank


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("encoding", "data", "kept", "bad"),
    [
        ("utf-8", b"a\xffb\xe9\n\xc3\xa9\xe6\xbc", "a?b?\né?", 3),
        ("utf-16-le", b"a\0\x00\xdcb\0c", "a?b?", 2),
        ("shift_jis", "日".encode("shift_jis") + b"\xff\n", "日?\n", 1),
        ("unicode_escape", rb"a\ud800b", "a?b", 1),
    ],
)
def test_bytes_that_are_no_text_are_skipped_or_replaced_and_counted(
    encoding: str, data: bytes, kept: str, bad: int, size: int
) -> None:
    cases: list[tuple[EncodingErrors, str]] = [("skip", ""), ("replace", "\ufffd")]
    for errors, replacement in cases:
        decoder = Decoder(TextConfig(encoding=encoding, encoding_errors=errors))
        pieces = list(decoder.decode(cut(data, size), "x"))
        assert "".join(map(chr, np.concatenate(pieces))) == kept.replace("?", replacement)
        assert decoder.bad == bad


@pytest.mark.parametrize(
    ("data", "encoding", "words"),
    [
        ("“Well,” said the miller’s wife.\n".encode("cp1252"), "utf-8", "--encoding cp1252"),
        ("Zürich\n".encode("latin-1"), "utf-8", "--encoding cp1252"),  # whose samples have no controls
        ("从前有一个小村庄，村里住着一位老人。\n".encode("gbk"), "utf-8", "--encoding gb18030"),
        (
            "昔々、あるところにおじいさんが住んでいました。\n".encode("shift_jis"),
            "utf-8",
            "--encoding shift_jis",
        ),
        ("Однажды весною, в час заката.\n".encode("koi8-r"), "utf-8", "--encoding koi8-r"),
        ("Однажды весною, в час заката.\n".encode("cp1251"), "utf-8", "--encoding cp1251"),
        ("Zażółć gęślą jaźń, śpiewała.\n".encode("cp1250"), "utf-8", "--encoding cp1250"),
        ("é" * 100 + "\n", "utf-8", "--encoding-errors skip"),
    ],
)
def test_a_hint_names_what_the_bytes_look_like(data: bytes | str, encoding: str, words: str) -> None:
    if isinstance(data, str):  # text, but for one byte
        data = data.encode(encoding) + b"\xff"
        assert "--encoding " not in what_to_try(data, encoding)
    for ahead in (b"", b"plain text\n" * 20_000):
        assert words in what_to_try(ahead + data, encoding)


def test_the_encoding_of_the_models_own_text_comes_first() -> None:
    data = "Zürich, Genève, Neuchâtel".encode("latin-1")
    assert what_to_try(data, "utf-8", "iso8859-15").startswith("try --encoding iso8859-15, ")
    assert "cp1252" in what_to_try(data, "utf-8", "utf8")
    assert what_to_try(b"\xff" * 9, "ascii", "ascii").startswith(("it looks", "try another"))
