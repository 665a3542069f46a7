"""Texts -> documents, and batches of windows."""

from __future__ import annotations

import gzip
import io
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.documents import (
    BYTES,
    LINES,
    all_ids,
    content,
    make,
    make_lines,
    read_bytes,
    read_text,
    start_positions,
)

from charrnn.config import TextConfig, TrainConfig
from charrnn.errors import CharrnnError, ConfigError, CorpusError, VocabularyError
from charrnn.text import reading
from charrnn.text.batches import Batches
from charrnn.text.corpus import Corpus
from charrnn.text.documents import Documents
from charrnn.text.reading import read
from charrnn.text.validation import split
from charrnn.vocabulary import Vocabulary

# Reading


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), min_size=2))
def test_text_comes_out_as_it_went_in(text: str) -> None:
    text = re.sub("(?m)^\ufeff+", "", text) + "ab"
    corpus = read_text(text)
    assert content(corpus) == text
    assert corpus.vocabulary == Vocabulary.build(text)
    assert corpus.documents.vocab_size == len(corpus.vocabulary)
    assert corpus.documents.ids.dtype == corpus.vocabulary.dtype
    assert corpus.notes == ()


@pytest.mark.parametrize("text", ["中文字符，標點。", "🙂👩‍👩‍👧🏳️‍🌈", "e\u0301o\u0302\u0323 é", "שָׁלוֹם \u200f"])
def test_characters_are_code_points_in_every_script(text: str) -> None:
    corpus = read_text(text)
    assert content(corpus) == text
    assert len(corpus.documents) == len(text)


def test_each_file_is_a_document(tmp_path: Path) -> None:
    for name, data in (("b.txt", "bb"), ("a.txt", "aaa"), ("c.txt", "")):
        (tmp_path / name).write_text(data)
    corpus = read([tmp_path / name for name in ("b.txt", "c.txt", "a.txt", "b.txt")])
    assert content(corpus) == "bbaaabb"
    assert corpus.documents.starts.tolist() == [0, 2, 5]
    assert start_positions(corpus.documents) == [0, 2, 5]
    assert corpus.name == "b"


def test_files_folders_gz_and_stdin_go_together(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "2.txt").write_text("two ")
    (tmp_path / "more" / "3.txt.gz").write_bytes(gzip.compress(b"three "))
    (tmp_path / "1.txt").write_text("one ")
    paths = [tmp_path / "1.txt", tmp_path / "more", "-"]
    corpus = read(paths, stdin=io.BytesIO(b"four"))
    assert content(corpus) == "one two three four"
    assert corpus.documents.starts.tolist() == [0, 4, 8, 14]


@pytest.mark.parametrize("file", ["x.txt", "x.txt.gz", "x", "x.gz"])
def test_the_name_has_no_folder_and_no_suffix(tmp_path: Path, file: str) -> None:
    data = b"some text"
    (tmp_path / file).write_bytes(gzip.compress(data) if file.endswith(".gz") else data)
    assert read([tmp_path / file]).name == "x"


def test_stdin_and_folders_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "poems.v2").mkdir()
    (tmp_path / "poems.v2" / "1.txt").write_text("some text")
    assert read_text("some text").name == "stdin"
    assert read([tmp_path / "poems.v2"]).name == "poems.v2"
    monkeypatch.chdir(tmp_path / "poems.v2")
    assert read(["."]).name == "poems.v2"


def test_crlf_and_cr_become_lf_and_that_is_said(tmp_path: Path) -> None:
    corpus = read_bytes(b"a\r\nb\rc\nd")
    assert content(corpus) == "a\nb\nc\nd"
    assert corpus.notes == ("CRLF and CR line ends became LF (--keep-newlines leaves them)",)
    assert read_bytes(b"a\r\nb").notes[0].startswith("CRLF line ends")
    assert read_bytes(b"a\rb").notes[0].startswith("CR line ends")


def test_crlf_stays_when_asked_and_in_bytes() -> None:
    for config in (TextConfig(keep_newlines=True), BYTES):
        corpus = read_bytes(b"a\r\nb\rc", config)
        assert content(corpus) == "a\r\nb\rc"
        assert corpus.notes == ()


def test_crlf_at_every_border_of_the_chunks(tmp_path: Path) -> None:
    text = ("x" * 8190 + "\r\n") * 200  # a border of each power of two lies on a line end
    for shift in ("", "y"):
        (tmp_path / "x.txt").write_bytes((shift + text).encode())
        assert content(read([tmp_path / "x.txt"])) == shift + text.replace("\r\n", "\n")


def test_bytes_are_characters() -> None:
    data = bytes(range(256)) * 2
    corpus = read_bytes(data, BYTES)
    assert len(corpus.vocabulary) == 256
    assert corpus.documents.ids.dtype == np.uint8
    assert corpus.documents.ids.tobytes() == data


def test_encodings_are_read() -> None:
    text = "naïve Ŵ"
    for encoding in ("utf-16", "utf-16-le", "utf-8-sig", "utf-32", "iso8859-14"):
        assert content(read_bytes(text.encode(encoding), TextConfig(encoding=encoding))) == text


@pytest.mark.parametrize("size", [256, 257, 65536, 65537])
@pytest.mark.parametrize("repeat", [1, 5])
def test_ids_widen_when_the_next_character_appears(size: int, repeat: int) -> None:
    points = [p for p in range(32, size + 0x900) if not 0xD800 <= p <= 0xDFFF][:size]
    text = "".join(map(chr, reversed(points)))  # appear in the opposite of their final order
    corpus = read_text(text * repeat)
    assert len(corpus.vocabulary) == size
    assert corpus.documents.ids.dtype == corpus.vocabulary.dtype
    assert content(corpus) == text * repeat


def test_many_characters_before_the_257th(tmp_path: Path) -> None:
    few = "".join(map(chr, range(32, 288)))
    text = few * 3000 + "漢" + few * 3000
    (tmp_path / "x.txt").write_text(text, encoding="utf-8")
    corpus = read([tmp_path / "x.txt"])
    assert corpus.documents.ids.dtype == np.uint16
    assert content(corpus) == text


def test_more_text_than_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "total_memory", lambda: 8_000_000)

    class Endless(io.RawIOBase):
        """`yes`, as a pipe gives it."""

        given = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:
            self.given += len(buffer)
            buffer[:] = (b"y\n" * len(buffer))[: len(buffer)]
            return len(buffer)

    pipe = Endless()
    with pytest.raises(CorpusError, match=r"standard input has more text than memory holds .*: .*head -c"):
        read(["-"], stdin=io.BufferedReader(pipe))
    assert 6_000_000 < pipe.given < 16_000_000
    (tmp_path / "x.txt").write_text("ab" * 3_000_000)  # the very most that fits
    assert len(read([tmp_path / "x.txt"]).documents) == 6_000_000
    monkeypatch.setattr(reading, "total_memory", lambda: None)  # the system does not say
    assert len(read([tmp_path / "x.txt"]).documents) == 6_000_000


# Lines


def test_each_line_is_a_document_that_ends_in_its_line_end() -> None:
    corpus = read_text("ab\nc\nde", LINES)
    assert content(corpus) == "ab\nc\nde\n"
    assert start_positions(corpus.documents) == [0, 3, 5]
    assert corpus.documents.end == corpus.vocabulary.characters.index("\n")


def test_empty_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_bytes(b"\n\nab\n\n\nc")
    (tmp_path / "2.txt").write_bytes(b"\r\nd\r\n")
    corpus = read([tmp_path / "1.txt", tmp_path / "2.txt"], LINES)
    assert content(corpus) == "ab\nc\nd\n"
    assert start_positions(corpus.documents) == [0, 3, 5]
    assert "5 empty lines were left out" in corpus.notes
    assert "1 empty line was left out" in read_text("a\n\nb", LINES).notes


def test_a_single_line_has_its_line_end_in_the_vocabulary() -> None:
    corpus = read_text("ab", LINES)
    assert corpus.vocabulary.characters == "\nab"
    assert corpus.documents.end == 0


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7, 99])
def test_the_head_of_documents_is_their_beginning(count: int) -> None:
    prose = make([0, 1, 2, 0, 1, 2, 2], starts=(0, 3))
    lines, _ = make_lines("ab\nc\nab\nbc\n")
    blocks = split(
        make(range(50), (0, 20)), TrainConfig(steps=1, val_fraction=0.4, val_split="scattered"), -1
    )
    for documents in (prose, lines, *blocks, split(lines, TrainConfig(steps=1, val_fraction=0.5), 0)[0]):
        head = documents.head(count)
        assert all_ids(head).tolist() == all_ids(documents).tolist()[:count]
        assert start_positions(head) == [start for start in start_positions(documents) if start < count]


def test_prose_has_no_line_documents() -> None:
    corpus = read_text("ab\nc\n")
    assert corpus.documents.end == -1
    assert start_positions(corpus.documents) == [0]


# A given vocabulary


def test_a_given_vocabulary_decides_the_ids() -> None:
    vocabulary = Vocabulary("abcdefg")
    corpus = read_text("gag", vocabulary=vocabulary)
    assert corpus.vocabulary is vocabulary
    assert corpus.documents.ids.tolist() == [6, 0, 6]
    assert corpus.documents.vocab_size == 7


def test_an_unknown_character_is_an_error_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("ab\n" * 400_000 + "aéb", encoding="utf-8")
    with pytest.raises(VocabularyError, match=r"'é' \(U\+00E9.*in line 400001 of .*x\.txt"):
        read([tmp_path / "x.txt"], vocabulary=Vocabulary("\nab"))


def test_unknown_characters_are_left_out_when_asked_and_counted() -> None:
    corpus = read_text("aébéc", vocabulary=Vocabulary("abc"), on_unknown="skip")
    assert content(corpus) == "abc"
    assert any("2 characters were left out" in note for note in corpus.notes)


def test_a_line_of_unknown_characters_is_an_empty_line() -> None:
    corpus = read_text("a\néé\nb", LINES, vocabulary=Vocabulary("\nab"), on_unknown="skip")
    assert content(corpus) == "a\nb\n"


def test_lines_need_a_vocabulary_with_line_ends() -> None:
    for on_unknown in ("error", "skip"):
        with pytest.raises(VocabularyError, match="line end"):
            read_text("a\nb", LINES, vocabulary=Vocabulary("ab"), on_unknown=on_unknown)


# What cannot be read


def refused(*paths: str | Path, text: TextConfig | None = None, stdin: bytes = b"") -> CharrnnError:
    with pytest.raises(CorpusError) as caught:
        read(paths, text or TextConfig(), stdin=io.BytesIO(stdin))
    assert str(caught.value).isprintable()
    assert caught.value.hint
    return caught.value


def error_of(data: bytes) -> CharrnnError:
    return refused("-", stdin=data)


def test_an_empty_input_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"")
    (tmp_path / "y.gz").write_bytes(gzip.compress(b""))
    assert "x.txt is empty" in refused(tmp_path / "x.txt").message
    assert "y.gz is empty" in refused(tmp_path / "y.gz").message
    assert "standard input is empty" in refused("-").message
    assert "is empty" in refused(tmp_path / "x.txt", "-").message
    assert "is empty" in refused("-", stdin=b"\xef\xbb\xbf").message
    assert "is empty" in refused("-", stdin=b"\n\n\n", text=LINES).message
    assert "is empty" in refused("-", text=BYTES).message


def test_a_single_character_is_too_little() -> None:
    assert "single character" in refused("-", stdin="漢".encode()).message
    assert len(read_bytes(b"ab").documents) == 2
    assert len(read_bytes(b"a", LINES).documents) == 2


def test_undecodable_bytes_are_named_with_file_and_offset(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"ok " * 300_000 + "né".encode("latin-1") + b"e")
    error = refused(tmp_path / "x.txt")
    assert "x.txt is not UTF-8 text: byte offset 900001 holds E9" in error.message
    assert "in line 1" in error.message
    assert "--encoding cp1252" in error.hint
    assert "--encoding-errors skip" in error.hint


def test_an_offset_counts_from_the_start_of_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_bytes(b"a" * 1000)
    (tmp_path / "2.txt").write_bytes(b"abc\xff")
    assert "byte offset 3 " in refused(tmp_path / "1.txt", tmp_path / "2.txt").message


def test_a_binary_file_is_refused_by_name_and_readable_as_bytes(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"\x7fELF\0\0\1")
    error = refused(tmp_path / "x.bin")
    assert "x.bin is binary" in error.message
    assert "--bytes" in error.hint
    assert len(read([tmp_path / "x.bin"], BYTES).documents) == 7


def test_utf_16_read_as_utf_8_says_what_to_do() -> None:
    error = refused("-", stdin="some text".encode("utf-16"))
    assert "--encoding utf-16" in error.hint
    for encoding in ("utf-16-le", "utf-16-be"):
        for text in ("some text\n", "Однажды весною, в час заката.\n"):
            assert error_of(text.encode(encoding)).hint == f"read it with --encoding {encoding}"


def test_a_folder_leaves_out_what_is_no_text_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\0\0")
    corpus = read([tmp_path])
    assert content(corpus) == "some text"
    (note,) = corpus.notes
    assert "1 file was left out" in note
    assert "b.png" in note
    (tmp_path / "c.pdf").write_bytes(b"%PDF-1.4")
    assert "2 files were left out: such as" in read([tmp_path]).notes[0]


def test_a_folder_with_nothing_but_binaries_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"\x89PNG\0\0")
    error = refused(tmp_path)
    assert "no text" in error.message
    assert "b.png" in error.message


def test_a_text_of_unknown_characters_only_is_an_error() -> None:
    with pytest.raises(CorpusError, match="no character that the model knows"):
        read_text("xyz", vocabulary=Vocabulary("abc"), on_unknown="skip")


def test_a_missing_file_a_model_and_a_truncated_gz_are_errors(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"x")
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"text" * 1000)[:-9])
    assert "does not exist" in refused(tmp_path / "gone.txt").message
    assert "is a model" in refused(tmp_path / "m.safetensors").message
    assert "cut short" in refused(tmp_path / "x.gz").message


def test_an_unknown_encoding_is_a_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="utf-9"):
        read_bytes(b"text", TextConfig(encoding="utf-9"))


# Memory: nothing but the ids grows with the text


def peak_memory(paths: list[Path]) -> tuple[Corpus, int]:
    tracemalloc.start()
    try:
        corpus = read(paths)
        return corpus, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


CONSTANT = 9 << 20  # the table of all code points, and some chunks


def test_memory_is_about_the_size_of_the_ids(tmp_path: Path) -> None:
    line = b"The same line of plain text, again and again, until there are many.\r\n"
    (tmp_path / "x.txt").write_bytes(line * (20_000_000 // len(line)))
    (tmp_path / "x.txt.gz").write_bytes(gzip.compress(line * (20_000_000 // len(line)), 1))
    for path in (tmp_path / "x.txt", tmp_path / "x.txt.gz"):
        corpus, peak = peak_memory([path])
        assert corpus.documents.ids.nbytes == len(corpus.documents) > 19_000_000
        assert peak < corpus.documents.ids.nbytes * 17 / 16 + CONSTANT


def test_memory_stays_so_when_wide_ids_are_needed_late(tmp_path: Path) -> None:
    few = "".join(map(chr, range(32, 288)))
    with open(tmp_path / "x.txt", "w", encoding="utf-8") as file:
        for _ in range(80):
            file.write(few * 1000)
        file.write("漢")
    corpus, peak = peak_memory([tmp_path / "x.txt"])
    assert corpus.documents.ids.nbytes == 2 * (80 * 256_000 + 1)
    assert peak < corpus.documents.ids.nbytes * 17 / 16 + CONSTANT


# The fingerprint and other vocabularies


def test_the_fingerprint_knows_each_part_apart() -> None:
    corpora = [
        read_text("some text"),
        read_text("some tent"),
        read_text("tome sexs"),  # the ids of another text
        read_text("some text", LINES),
        read_text("some text", TextConfig(keep_newlines=True)),
        read_text("some text", vocabulary=Vocabulary.build("some text!")),
    ]
    corpora.append(Corpus(make(corpora[0].documents.ids, [0, 3]), corpora[0].vocabulary, TextConfig(), "x"))
    prints = [corpus.fingerprint() for corpus in corpora]
    assert len(set(prints)) == len(prints)


def test_the_fingerprint_is_the_same_everywhere(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"a line\r\n")
    # Resumed runs compare it: a change here makes them start anew.
    known = "b82ed1155bad4364774593d19ef7d762966ca8b3cae2cdb09c476778f947c2a2"
    assert read_text("a line\n").fingerprint() == known
    assert read([tmp_path / "x.txt"]).fingerprint() == known


@given(st.text("abc\n", min_size=2).filter(str.strip), st.text("ADdeé漢"))
def test_another_vocabulary_keeps_the_text(text: str, more: str) -> None:
    corpus = read_text(text, LINES)
    larger = corpus.vocabulary.merged(Vocabulary.build("a" + more))
    other = corpus.with_vocabulary(larger)
    assert content(other) == content(corpus)
    assert other.vocabulary == larger
    assert other.documents.vocab_size == len(larger)
    assert other.documents.ids.dtype == larger.dtype
    assert start_positions(other.documents) == start_positions(corpus.documents)


def test_another_vocabulary_must_know_the_text() -> None:
    corpus = read_text("abc")
    assert corpus.with_vocabulary(Vocabulary("abc")) is corpus
    with pytest.raises(VocabularyError):
        corpus.with_vocabulary(Vocabulary("abd"))


def test_documents_cannot_be_changed() -> None:
    ids = np.zeros(3, np.uint8)
    documents = Documents(ids, 1, np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="read-only"):
        documents.ids[0] = 1
    ids[0] = 0  # the caller's own array is still the caller's


# Batches


documents_of_any_size = st.builds(
    lambda total, starts: make(
        np.arange(total) % 50, sorted({0} | {s % total for s in starts}), vocab_size=50
    ),
    st.integers(1, 700),
    st.lists(st.integers(0, 10_000), max_size=5),
)
sizes = st.tuples(st.integers(1, 40), st.integers(1, 70))


@given(documents_of_any_size, sizes, st.integers(0, 3))
def test_windows_join_to_streams(documents: Documents, size: tuple[int, int], epoch: int) -> None:
    batches = Batches(documents, *size, seed=1)
    windows = [batches.window(epoch, k) for k in range(batches.windows_per_epoch)]
    x, y, reset = (np.concatenate(arrays) for arrays in zip(*windows, strict=True))
    N, (K, T, B) = len(documents), (len(windows), batches.seq_len, batches.batch_size)
    assert x.shape == y.shape == reset.shape == (K * T, B)
    for j in range(B):
        positions = (batches.offset(epoch) + j * (N // B) + np.arange(K * T)) % N
        starts = np.isin(positions, documents.starts)
        assert np.array_equal(y[:, j], documents.ids[positions])
        assert np.array_equal(reset[:, j], starts)
        assert np.array_equal(x[:, j], np.where(starts, 50, documents.ids[positions - 1]))


@given(documents_of_any_size, sizes)
def test_tiny_texts_get_fewer_streams_and_shorter_windows(
    documents: Documents, size: tuple[int, int]
) -> None:
    N, (asked_B, asked_T) = len(documents), size
    batches = Batches(documents, asked_B, asked_T, seed=1)
    B, T, K = batches.batch_size, batches.seq_len, batches.windows_per_epoch
    assert 1 <= B <= asked_B
    assert 1 <= T <= min(asked_T, N)
    if N // asked_B >= 2 * asked_T:
        assert size == (B, T)
    assert K >= 1
    # What an epoch does not reach is shorter than a window in each stream.
    assert N - B * K * T < B * T + B
    if B == 1 and K <= 2 and 2 * asked_T > N:
        assert N - K * T <= 1


@pytest.mark.parametrize(
    ("total", "B", "T", "expected"),
    [
        (100_000, 32, 64, (32, 64, 48)),
        (4096, 32, 64, (32, 64, 2)),
        (4095, 32, 64, (16, 64, 3)),
        (100, 32, 64, (1, 50, 2)),
        (65, 32, 64, (1, 32, 2)),
        (64, 32, 64, (1, 64, 1)),
        (11, 32, 64, (1, 11, 1)),
        (1, 32, 64, (1, 1, 1)),
    ],
)
def test_sizes_of_small_texts(total: int, B: int, T: int, expected: tuple[int, int, int]) -> None:
    batches = Batches(make(np.zeros(total, np.uint8)), B, T, seed=1)
    assert (batches.batch_size, batches.seq_len, batches.windows_per_epoch) == expected


def test_every_character_is_reached_in_some_epoch() -> None:
    for total in (7, 65, 127, 1000, 1234):
        documents = make(np.arange(total))
        batches = Batches(documents, 4, 64, seed=1)
        reached: set[int] = set()
        for epoch in range(200):
            for k in range(batches.windows_per_epoch):
                reached.update(batches.window(epoch, k)[1].ravel().tolist())
        assert reached == set(range(total))


def test_a_tiny_text_is_one_window_that_begins_at_its_start() -> None:
    batches = Batches(make([2, 0, 1]), 32, 64, seed=1)
    for epoch in range(3):
        x, y, reset = batches.window(epoch, 0)
        assert x.ravel().tolist() == [3, 2, 0]
        assert y.ravel().tolist() == [2, 0, 1]
        assert reset.ravel().tolist() == [True, False, False]


def test_each_line_starts_anew_and_no_line_end_is_an_input() -> None:
    documents, vocabulary = make_lines("ab\nc\nde\n")
    x, y, reset = Batches(documents, 1, 8, seed=1).window(0, 0)
    start = len(vocabulary)
    assert vocabulary.decode(y.ravel()) == "ab\nc\nde\n"
    assert reset.ravel().nonzero()[0].tolist() == [0, 3, 5]
    inputs = ["START" if i == start else vocabulary.characters[i] for i in x.ravel()]
    assert inputs == ["START", "a", "b", "START", "c", "START", "d", "e"]


def test_windows_are_contiguous_and_typed() -> None:
    batches = Batches(make(np.arange(400) % 7), 4, 10, seed=1)
    for array, dtype in zip(batches.window(1, 3), (np.int32, np.int32, np.bool_), strict=True):
        assert array.shape == (10, 4)
        assert array.dtype == dtype
        assert array.flags.c_contiguous


def test_start_is_beyond_the_widest_ids() -> None:
    documents = Documents(np.arange(256, dtype=np.uint8), 256, np.zeros(1, np.int64))
    x, _, _ = Batches(documents, 1, 256, seed=1).window(0, 0)
    assert x[0, 0] == 256
    assert x[-1, 0] == 254


def test_windows_depend_on_nothing_that_was_asked_before() -> None:
    documents = make(np.arange(3000) % 97)
    first, second = (Batches(documents, 4, 10, seed=9) for _ in range(2))
    asked = [(3, 5), (0, 0), (3, 5), (1, 70), (2, 0)]
    results = [first.window(*at) for at in asked]
    for at, result in reversed(list(zip(asked, results, strict=True))):
        for a, b in zip(second.window(*at), result, strict=True):
            assert np.array_equal(a, b)


def test_the_first_epoch_starts_at_the_start_and_others_elsewhere() -> None:
    documents = make(np.arange(3000) % 97)
    offsets = [Batches(documents, 4, 50, seed=1).offset(epoch) for epoch in range(40)]
    assert offsets[0] == 0
    assert len(set(offsets)) > 10
    assert all(0 <= offset < len(documents) // 4 for offset in offsets)
    assert max(offsets) > 50
    assert offsets != [Batches(documents, 4, 50, seed=2).offset(epoch) for epoch in range(40)]


@pytest.mark.parametrize("k", [-1, 2])
def test_a_window_outside_the_epoch_is_an_error(k: int) -> None:
    with pytest.raises(IndexError):
        Batches(make(np.zeros(20, np.uint8)), 1, 10, seed=1).window(0, k)


def test_no_text_makes_no_batches() -> None:
    with pytest.raises(ValueError, match="no text"):
        Batches(make([], []), 1, 1, seed=1)


# What is left out, and the form


def test_byte_order_marks_within_a_file_are_left_out_and_counted() -> None:
    corpus = read_text("\ufeffa\n\ufeffb\n\ufeffc\n")
    assert content(corpus) == "a\nb\nc\n"
    assert corpus.notes == ("2 byte order marks were left out at the start of lines",)
    assert read_text("\ufeffa\n").notes == ()


def test_bad_bytes_are_counted_when_they_are_left_out_or_replaced() -> None:
    corpus = read_bytes(b"ab\xff\n" * 3, TextConfig(encoding_errors="skip"))
    assert content(corpus) == "ab\n" * 3
    assert corpus.notes == ("3 places were no UTF-8 text, and left out",)
    corpus = read_bytes(b"ab\xff", TextConfig(encoding_errors="replace"))
    assert content(corpus) == "ab\ufffd"
    assert corpus.notes == ("1 place was no UTF-8 text, and replaced by U+FFFD",)


@pytest.mark.parametrize(("text", "form"), [("café", "NFC"), ("cafe\u0301", "NFD"), ("cafe", None)])
def test_the_normal_form_is_noted_and_nothing_changed(text: str, form: str | None) -> None:
    corpus = read_text(text + "\n" * 9)
    assert content(corpus) == text + "\n" * 9
    assert corpus.text.normal_form == form
    assert corpus.notes == ()


def test_a_text_is_brought_to_a_form_that_is_given_which_is_said() -> None:
    corpus = read_text("cafe\u0301", TextConfig(normal_form="NFC"))
    assert content(corpus) == "café"
    assert corpus.text.normal_form == "NFC"
    assert corpus.notes == ("the text was brought to NFC",)
    assert read_text("café", TextConfig(normal_form="NFC")).notes == ()


def test_files_do_not_join_where_one_begins(tmp_path: Path) -> None:
    (tmp_path / "1").write_text("cafe", encoding="utf-8")
    (tmp_path / "2").write_text("\u0301é", encoding="utf-8")
    assert read([tmp_path / "1", tmp_path / "2"]).text.normal_form == "NFC"


def test_the_fingerprint_is_what_it_was_before_there_were_forms() -> None:
    """Or a run that an earlier version began could not go on."""
    corpus = read_text("café\n")
    assert corpus.fingerprint() == ("e3ecf82ee7edbebfa40ef0157995936ac193e8907efcbc5c8a4d9ffd0828cec1")
    assert replace(corpus, text=TextConfig()).fingerprint() == corpus.fingerprint()
