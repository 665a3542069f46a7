"""Lines of files as they come: whatever the bytes, the chunks, the ends of lines."""

from __future__ import annotations

import gzip
import io
import os
import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.config import TextConfig
from charrnn.errors import CorpusError
from charrnn.text.files.lines import Ahead, Lines, decode, read_lines, read_texts

TEXT = TextConfig()
MOST = 1 << 16


def nothing() -> None:
    """Before waiting: nobody has written anything."""


def read(data: bytes, text: TextConfig = TEXT, most: int = MOST) -> list[Lines]:
    return list(read_lines(["-"], text, most, nothing, stdin=io.BytesIO(data)))


def joined(lines: list[Lines]) -> str:
    return "".join(line.text for line in lines)


@given(st.binary(max_size=200), st.integers(1, 9))
def test_bytes_come_back_as_they_were_whatever_they_are(data: bytes, most: int) -> None:
    text = TextConfig(keep_newlines=True)
    data = re.sub(b"(?m)^(\xef\xbb\xbf)+", b"", data).removeprefix(
        b"\x1f\x8b"
    )  # a mark is no text; nor is gzip
    if data.startswith((b"%PDF-", b"PK", b"\xff\xfe", b"\xfe\xff")):
        return
    again = joined(read(data, text, most)).encode("utf-8", "surrogateescape")
    assert again == data + b"\n" * bool(data and not data.endswith(b"\n"))


@given(st.text("ab\n", max_size=60), st.integers(1, 20))
def test_lines_are_whole_or_pieces_of_one(text: str, most: int) -> None:
    number, open_piece = 1, False
    for lines in read(text.encode(), most=most):
        assert lines.number == number
        assert lines.piece or (lines.text.endswith("\n") and not open_piece)
        assert lines.piece or len(lines.text) <= most
        if lines.piece:
            assert lines.last == lines.text.endswith("\n")
            assert "\n" not in lines.text[:-1]
            open_piece = not lines.last
        number += lines.text.count("\n")
    assert not open_piece


def test_line_ends_become_lf_unless_they_are_kept() -> None:
    assert joined(read(b"a\r\nb\rc\n")) == "a\nb\nc\n"
    assert joined(read(b"a\r\nb\rc\n", TextConfig(keep_newlines=True))) == "a\r\nb\rc\n"


def test_a_byte_order_mark_is_no_text_but_a_nul_is() -> None:
    assert joined(read(b"\xef\xbb\xbfa\0b\n")) == "a\0b\n"


@pytest.mark.parametrize(
    ("encoding", "data", "text"),
    [
        ("utf-8", b"a\xffb\xc3", "a\udcffb\udcc3"),
        ("latin-1", b"\xe9", "é"),
        ("cp1252", b"\x81a", "\udc81a"),
        ("utf-16", "aé".encode("utf-16"), "aé"),
        ("utf-16-le", b"a\0\x00\xd8", "a\ufffd\udcd8"),
        ("unicode_escape", rb"a\ud800", "a\ufffd"),
    ],
)
def test_what_is_no_text_in_the_encoding_stops_nothing(encoding: str, data: bytes, text: str) -> None:
    for size in (1, 2, 100):
        chunks = [data[n : n + size] for n in range(0, len(data), size)]
        assert "".join(decode(chunks, TextConfig(encoding=encoding))) == text


def test_a_model_of_bytes_reads_bytes() -> None:
    assert joined(read("é\r\n".encode(), TextConfig(bytes=True))) == "Ã©\r\n"


def test_files_gz_and_folders_are_read_with_their_names_and_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"three\n"))
    (tmp_path / "c.pdf").write_bytes(b"%PDF-1.4")
    found = list(read_lines([tmp_path, tmp_path / "a.txt"], TEXT, MOST, nothing))
    names = [(Path(lines.file).name, lines.number, lines.text) for lines in found]
    a = ("a.txt", 1, "one\ntwo\n")
    assert names == [a, ("b.txt.gz", 1, "three\n"), a] or joined(found) == "one\ntwo\nthree\none\ntwo\n"
    assert {lines.number for lines in found if lines.text.startswith(("one", "three"))} == {1}


def test_a_pdf_is_refused_and_a_missing_file_named(tmp_path: Path) -> None:
    (tmp_path / "c.pdf").write_bytes(b"%PDF-1.4")
    with pytest.raises(CorpusError, match="PDF"):
        list(read_lines([tmp_path / "c.pdf"], TEXT, MOST, nothing))
    with pytest.raises(CorpusError, match="does not exist"):
        list(read_lines([tmp_path / "none.txt"], TEXT, MOST, nothing))


def test_lines_come_while_the_pipe_is_open() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream:
        lines = read_lines(["-"], TEXT, MOST, nothing, stdin=stream)
        for word in ("first\n", "second\n"):
            os.write(writing, word.encode())
            assert next(lines).text == word
        os.close(writing)
        assert list(lines) == []


def test_what_came_meanwhile_comes_at_once_and_an_error_after_it() -> None:
    there = threading.Event()

    def chunks():
        yield "f", "a"
        yield "f", "b" * 5
        yield "f", None
        there.set()
        raise CorpusError("broken")

    bursts = Ahead(chunks(), 100, nothing).bursts()
    first = next(bursts)
    there.wait()
    rest = list(first)

    def take_all():
        for burst in bursts:
            rest.extend(burst)

    with pytest.raises(CorpusError, match="broken"):
        take_all()
    assert rest == [("f", "a"), ("f", "b" * 5), ("f", None)]


def test_reading_ahead_ends_when_nobody_wants_more() -> None:
    taken = []

    def chunks():
        for n in range(10**9):
            taken.append(n)
            yield "f", "a" * 10_000

    ahead = Ahead(chunks(), 20_000, nothing)
    bursts = ahead.bursts()
    next(bursts)
    bursts.close()
    ahead._thread.join(timeout=10)
    assert not ahead._thread.is_alive()
    assert len(taken) < 100


def test_texts_say_where_files_end(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("abcde")
    (tmp_path / "b").write_text("")
    found = list(read_texts([tmp_path / "a", tmp_path / "b", tmp_path / "a"], TEXT, 2, nothing))
    texts = [text for _, text in found]
    assert texts == ["ab", "cd", "e", None, None, "ab", "cd", "e", None]


@pytest.mark.parametrize(
    ("errors", "text"), [("strict", "a\udcffb\n"), ("skip", "ab\n"), ("replace", "a\ufffdb\n")]
)
def test_bytes_that_are_no_text_are_skipped_or_replaced_when_asked(errors: str, text: str) -> None:
    assert joined(read(b"a\xffb\n", TextConfig(encoding_errors=errors))) == text  # type: ignore[arg-type]
