"""Paths -> bytes."""

from __future__ import annotations

import gzip
import io
import os
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from charrnn.config import TextConfig
from charrnn.errors import ConfigError, CorpusError, printable
from charrnn.text.files.sources import CHUNK_BYTES, Source, find, why_not_text


def refused(*paths: str | Path) -> CorpusError:
    """The error that finding and reading these raises; on one printable line."""
    with pytest.raises(CorpusError) as caught:
        [content(source) for source in find(paths)]
    assert str(caught.value).isprintable()
    assert caught.value.hint or "cannot be read" in caught.value.message
    return caught.value


def content(source: Source, stdin: BinaryIO | None = None) -> bytes:
    return b"".join(source.chunks(stdin))


def test_files_keep_the_order_they_were_given_in(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("b.txt", "a.txt", "b.txt")]
    for path in paths:
        path.write_bytes(path.name.encode())
    assert [content(source) for source in find(paths)] == [b"b.txt", b"a.txt", b"b.txt"]


def test_a_folder_stands_for_its_files_sorted_by_path(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/b/c.md", ".hidden", ".git/config", "m.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = [source.path.relative_to(tmp_path).as_posix() for source in find([tmp_path])]  # type: ignore[union-attr]
    assert found == ["a/b/c.md", "a/z.txt", "b.txt"]


def test_an_empty_path_is_not_the_current_folder() -> None:
    with pytest.raises(ConfigError, match="is empty"):
        find([""])


def test_links_to_files_are_followed_and_links_to_folders_are_not(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / "x.txt").write_text("x")
    try:
        (inside / "file.txt").symlink_to(outside / "x.txt")
        (inside / "folder").symlink_to(outside)
        (inside / "loop").symlink_to(inside)
        (inside / "broken.txt").symlink_to(outside / "gone.txt")
    except OSError:
        pytest.skip("this system lets nobody make links")
    assert [source.path for source in find([inside])] == [inside / "file.txt"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_pipes_in_a_folder_are_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    os.mkfifo(tmp_path / "pipe")
    assert [source.path for source in find([tmp_path])] == [tmp_path / "a.txt"]


def test_large_files_come_in_chunks(tmp_path: Path) -> None:
    data = bytes(range(251)) * 4000
    (tmp_path / "x").write_bytes(data)
    chunks = list(Source(tmp_path / "x").chunks())
    assert len(chunks) == -(-len(data) // CHUNK_BYTES)
    assert b"".join(chunks) == data


def test_gz_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "x.txt.GZ").write_bytes(gzip.compress(b"one", mtime=0) + gzip.compress(b"two"))
    assert content(Source(tmp_path / "x.txt.GZ")) == b"onetwo"


def test_a_dash_is_stdin_which_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = find(["-"])
    stdin = io.BytesIO(b"given")
    assert content(source, stdin) == b"given"
    assert not stdin.closed
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the process's own")))
    assert content(source) == b"the process's own"


def test_a_closed_stdin_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input cannot be read" in refused("-").message


def test_a_stdin_that_does_not_wait_is_an_error_not_an_end() -> None:
    class Impatient(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(size) or None  # type: ignore[return-value]

    (source,) = find(["-"])
    with pytest.raises(CorpusError, match="standard input cannot be read"):
        content(source, Impatient(b"some"))


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="a device of Unix")
def test_a_device_without_end_is_refused() -> None:
    assert "never ends" in str(refused("/dev/zero"))
    with (
        open("/dev/zero", "rb") as stdin,
        pytest.raises(CorpusError, match="standard input is a device that"),
    ):
        content(Source(None), stdin)
    assert content(Source(Path(os.devnull))) == b""


def test_no_path_at_all_is_an_error() -> None:
    assert "no corpus" in refused().message


def test_a_missing_file_is_named_with_a_similar_one(tmp_path: Path) -> None:
    (tmp_path / "shakespeare.txt").write_text("x")
    error = refused(tmp_path / "shakespear.txt")
    assert "shakespear.txt does not exist" in error.message
    assert "did you mean" in error.hint
    assert "shakespeare.txt" in error.hint
    assert "check" in refused(tmp_path / "no" / "such.txt").hint
    assert refused(tmp_path / "none.txt").hint == "check the path", "a suffix in common is no likeness"


def test_a_file_without_permission_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.txt").write_text("x")

    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Source, "_open", deny)
    error = refused(tmp_path / "x.txt")
    assert "x.txt may not be read" in error.message
    assert "permissions" in error.hint


def test_a_folder_below_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def deny(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    assert "closed may not be read" in refused(tmp_path).message


@pytest.mark.parametrize("name", ["x.txt/y", "a" * 5000, "a\0b"])
def test_any_other_trouble_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.txt").write_text("x")
    refused(f"{tmp_path}/{name}")


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_truncated_gz_is_an_error(tmp_path: Path, keep: float) -> None:
    packed = gzip.compress(os.urandom(3 * CHUNK_BYTES))
    (tmp_path / "x.gz").write_bytes(packed[: int(len(packed) * keep)])
    assert "damaged or cut short" in refused(tmp_path / "x.gz").message


def test_a_damaged_gz_is_an_error(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b"the same words again and again, " * 1000))
    packed[len(packed) // 2] ^= 0xFF
    (tmp_path / "x.gz").write_bytes(packed)
    assert "damaged or cut short" in refused(tmp_path / "x.gz").message


def test_a_gz_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(b"plain text")
    assert "take .gz off its name" in refused(tmp_path / "x.gz").hint


def test_a_model_is_no_corpus(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"x")
    assert "is a model, not a text" in refused(tmp_path / "m.safetensors").message


def test_a_folder_without_files_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text("x")
    assert "no text file" in refused(tmp_path).message


@pytest.mark.parametrize("name", ["\x1b[31mred.txt", "two\nlines.txt", "not\udcffunicode"])
def test_names_are_escaped_in_messages(name: str) -> None:
    assert Source(Path(name)).name.isprintable()
    assert printable(name) != name


def test_names_of_all_scripts_stay_readable() -> None:
    assert printable("ódy/Żeromski 漢字.txt") == "ódy/Żeromski 漢字.txt"


@pytest.mark.parametrize(
    ("head", "hint"),
    [
        (b"%PDF-1.7 ...", "pdftotext"),
        (b"PK\x03\x04\x14\x00", "plain text"),
        (gzip.compress(b"x", mtime=0), ".gz"),
        ("\ufefftext".encode("utf-16-le"), "--encoding utf-16"),
        ("\ufefftext".encode("utf-16-be"), "--encoding utf-16"),
        (b"\x7fELF\x02\x01\x01\0\0", "--bytes"),
        (b"text, then \0", "--bytes"),
    ],
)
def test_what_is_no_text_is_told_from_its_first_bytes(head: bytes, hint: str) -> None:
    reason = why_not_text(head, TextConfig())
    assert reason is not None
    assert hint in reason[1]
    assert why_not_text(head, TextConfig(bytes=True)) is None


@pytest.mark.parametrize("encoding", ["utf-16", "UTF_16_LE", "utf32"])
def test_wide_encodings_may_hold_zero_bytes(encoding: str) -> None:
    assert why_not_text("text".encode(encoding), TextConfig(encoding=encoding)) is None


def test_text_is_text() -> None:
    for text in ("plain", "naïve 漢字 🙂", "\ufeffwith a mark", ""):
        assert why_not_text(text.encode(), TextConfig()) is None
