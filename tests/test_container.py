"""container: what is not a whole .safetensors file of charrnn's is refused, and named."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from support import model_files as files
from support.refusals import refusal

from charrnn.checkpoint import container
from charrnn.checkpoint.container import MAX_DEPTH, MAX_HEADER_BYTES, DamageError
from charrnn.errors import CheckpointError

TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.arange(4, dtype=np.int64),
}


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with container.opened(path) as file:
        return file.tensors(), file.record


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    path = tmp_path / "whole.safetensors"
    container.write(path, TENSORS, {"x": 1})
    return path.read_bytes()


@pytest.mark.parametrize(
    "tensor",
    [
        np.float32(3.0),
        np.zeros((0, 5), np.int64),
        np.arange(6, dtype=np.float32).reshape(2, 3).T,
        np.arange(20, dtype=np.int64)[::3],
        np.array([np.nan, np.inf, -0.0, 1e-45], np.float32),
        np.array([-(2**63), 2**63 - 1]),
    ],
)
def test_tensors_come_back_as_they_were(tmp_path: Path, tensor: Any) -> None:
    path = tmp_path / "m.safetensors"
    container.write(path, {"before": TENSORS["b"], "x": tensor}, {})
    back = read(path)[0]["x"]
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    assert back.tobytes() == np.asarray(tensor, order="C").tobytes()
    assert back.flags.writeable
    assert back.flags.c_contiguous


def test_the_safetensors_library_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    container.write(path, TENSORS, {"x": "é\U0001f600"})
    for name, tensor in safetensors.numpy.load_file(path).items():
        np.testing.assert_array_equal(tensor, TENSORS[name])
    with safetensors.safe_open(path, "np") as file:
        assert json.loads(file.metadata()["charrnn"]) == {"x": "é\U0001f600"}


def test_other_metadata_and_a_padded_header_are_no_matter(tmp_path: Path, content: bytes) -> None:
    header, data = files.unpack(content)
    header["__metadata__"]["format"] = "pt"
    path = tmp_path / "m.safetensors"
    path.write_bytes(files.pack(json.dumps(header).encode() + b"   ", data))
    assert read(path)[1] == {"x": 1}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**127), 2**127)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values))
def test_a_record_of_plain_json_comes_back(record: dict[str, Any]) -> None:
    text = container.serialize(record)
    assert text.isascii()
    assert container.parse(text) == record


@pytest.mark.parametrize(
    "value",
    [np.nan, np.inf, object(), {1, 2}, b"x", np.float32(1), 10**50, "\ud800", {"\ud800": 1}],
)
def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(CheckpointError, match=r"m.safetensors is not written: ") as caught:
        container.write(path, TENSORS, {"x": value})
    assert str(caught.value).isprintable()
    assert path.read_bytes() == b"old"


def test_a_circular_record_is_not_written(tmp_path: Path) -> None:
    record: dict[str, Any] = {}
    record["self"] = record
    with pytest.raises(CheckpointError, match="is not written"):
        container.write(tmp_path / "m.safetensors", TENSORS, record)


def test_a_record_longer_than_a_header_may_be_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "MAX_HEADER_BYTES", 1000)
    with pytest.raises(CheckpointError, match="too long"):
        container.write(tmp_path / "m.safetensors", TENSORS, {"x": "y" * 1000})
    container.write(tmp_path / "m.safetensors", TENSORS, {"x": "y" * 100})


@pytest.mark.parametrize(
    "text",
    [
        b"x",
        b"short",
        b"Once upon a time there was a text.\n" * 9,
        b"{}",
        b'{"a": 1}' * 10,
        bytes(100),
        b"PK\x03\x04" + bytes(200),
        b"\xff" * 100,
    ],
)
def test_other_files_are_not_model_files(tmp_path: Path, text: bytes) -> None:
    assert "is not a model file" in refusal(read, tmp_path, text).message


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    assert "is empty" in refusal(read, tmp_path, b"").message


def test_a_safetensors_file_of_others_is_not_ours(tmp_path: Path) -> None:
    for metadata in (None, {"format": "pt"}):
        content = safetensors.numpy.save(TENSORS, metadata)
        assert "was not made by charrnn" in refusal(read, tmp_path, content).message


def test_every_truncation_is_refused(tmp_path: Path, content: bytes) -> None:
    for length in range(8, len(content)):
        assert "cut short" in refusal(read, tmp_path, content[:length]).message
    for length in range(1, 8):
        assert "is not a model file" in refusal(read, tmp_path, content[:length]).message


def test_bytes_that_follow_are_refused(tmp_path: Path, content: bytes) -> None:
    assert "3 bytes too many" in refusal(read, tmp_path, content + b"abc").message


@pytest.mark.parametrize(
    "length",
    [0, 1, MAX_HEADER_BYTES - 1, MAX_HEADER_BYTES, MAX_HEADER_BYTES + 1, 2**63, 2**64 - 1],
)
def test_a_header_length_that_is_a_lie_is_refused(tmp_path: Path, content: bytes, length: int) -> None:
    refusal(read, tmp_path, length.to_bytes(8, "little") + content[8:])


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{", "not valid"),
        (b"{'a': 1}", "not valid"),
        (b'{"a": 1} x', "not valid"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": 1, "a": 1}', "a key twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": ' + b"9" * 41 + b"}", "too long"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "too long"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'{"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "nested too deeply"),
        (b'{"a": ' * 50_000 + b"1" + b"}" * 50_000, "nested too deeply"),
        (b'{"a": [' + b"{}," * 100_000 + b"{}]}", "too many for its size"),
        (b'{"a":' + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b"}", "nested too deeply"),
    ],
)
def test_json_beyond_measure_is_refused(tmp_path: Path, header: bytes, message: str) -> None:
    assert message in refusal(read, tmp_path, files.pack(header, b"")).message
    record = {"__metadata__": {"charrnn": header.decode("latin-1")}}
    if message != "not UTF-8":
        assert message in refusal(read, tmp_path, files.pack(record, b"")).message


@pytest.mark.parametrize("text", ["é", "\\ud83d\\ude00"])
def test_a_long_header_is_ascii_so_that_it_takes_no_more_memory_than_bytes(tmp_path: Path, text: str) -> None:
    for length, message in ((10**5, "was not made by charrnn"), (10**6, "not written as charrnn writes it")):
        header = f'{{"__metadata__": {{"x": "{text}{"a" * length}"}}}}'
        assert message in refusal(read, tmp_path, files.pack(header.encode(), b"")).message


@pytest.mark.parametrize("text", ["", "x", "1", "null", "[]", '"x"', "[1, 2]", "\ufeff{}"])
def test_a_record_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    content = files.pack({"__metadata__": {"charrnn": text}}, b"")
    assert "is damaged: its JSON" in refusal(read, tmp_path, content).message


@pytest.mark.parametrize("metadata", [None, 1, [], "charrnn", ["charrnn"], {}, {"charrnn": None}])
def test_metadata_of_another_kind_are_not_ours(tmp_path: Path, metadata: Any) -> None:
    content = files.pack({"__metadata__": metadata}, b"")
    assert "was not made by charrnn" in refusal(read, tmp_path, content).message


@pytest.mark.parametrize("text", [1, {"x": 1}, ["x"], True])
def test_a_record_that_is_no_text_is_refused(tmp_path: Path, text: Any) -> None:
    assert "no text" in refusal(read, tmp_path, files.pack({"__metadata__": {"charrnn": text}}, b"")).message


def change(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda header: header["a"].update(values)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change(dtype="F64"), "type 'F64'"),
        (change(dtype="F16"), "type 'F16'"),
        (change(dtype="\x1b[31m" * 100), "type"),
        (change(dtype=None), "type None"),
        (change(dtype=[]), "type"),
        (change(dtype="I64"), "does not fit its shape"),
        (change(shape=[2, 4]), "does not fit its shape"),
        (change(shape=[-2, -3]), "no valid shape"),
        (change(shape=[2.0, 3]), "no valid shape"),
        (change(shape=[True, 6]), "no valid shape"),
        (change(shape=6), "no valid shape"),
        (change(shape={"0": 6}), "no valid shape"),
        (change(shape=[10**30, 10**30]), "does not fit its shape"),
        (change(shape=[1] * 1000 + [2, 3]), "impossible shape"),
        (change(data_offsets=[32, 36]), "does not fit its shape"),
        (change(data_offsets=[56, 32]), "does not fit its shape"),
        (change(data_offsets=[-24, 0]), "no valid place"),
        (change(data_offsets=[32, 56, 80]), "no valid place"),
        (change(data_offsets=[32.0, 56.0]), "no valid place"),
        (change(data_offsets=None), "no valid place"),
        (change(data_offsets=[33, 57]), "begin where"),
        (change(data_offsets=[2**62, 2**62 + 24]), "begin where"),
        (change(extra=1), "not described"),
        (lambda header: header["a"].pop("dtype"), "not described"),
        (lambda header: header["a"].pop("shape"), "not described"),
        (lambda header: header.update(a=None), "not described"),
        (lambda header: header.update(a=[]), "not described"),
        (lambda header: header.pop("a"), "24 bytes too many"),
        (lambda header: header.pop("b"), "begin where"),
        (lambda header: header.update(a=header["b"]), "begin where"),
        (lambda header: header.update({"\x1b[2J" * 99: header["a"]}), "begin where"),
        (
            lambda header: header.update(z={"dtype": "F32", "shape": [0, 10**30], "data_offsets": [56, 56]}),
            "impossible shape",
        ),
        (
            lambda header: header.update(
                z={"dtype": "F32", "shape": [2**40], "data_offsets": [56, 56 + 2**42]}
            ),
            "cut short",
        ),
    ],
)
def test_a_wrong_description_of_a_tensor_is_refused(
    tmp_path: Path, content: bytes, damage: Callable[[dict[str, Any]], Any], message: str
) -> None:
    error = refusal(read, tmp_path, files.with_header(content, damage))
    assert "is damaged" in error.message
    assert message in error.message


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    container.write(path, {"a": np.zeros(1_000_000, np.float32)}, {})
    with container.opened(path) as file:
        os.truncate(path, 2_000_000)
        with pytest.raises(DamageError, match="cut short"):
            file.tensors()


def test_a_tensor_beyond_the_memory_is_refused(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    monkeypatch.setattr(np, "empty", fail)
    with pytest.raises(CheckpointError, match="does not fit in memory"):
        read(path)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("model", "model.safetensors?"),
        ("modle.safetensors", "model.safetensors?"),
        ("quite_else", "check the path"),
    ],
)
def test_a_missing_file_is_named_and_a_similar_one_suggested(tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "quite_elsa.txt").touch()
    with pytest.raises(CheckpointError, match=f"{name} does not exist") as caught:
        read(tmp_path / name)
    assert caught.value.hint.endswith(hint)


@pytest.mark.parametrize("name", ["no/folder/m.safetensors", "\x1b[31m\n", "a\0b", "\udcff"])
def test_a_path_that_leads_nowhere_is_one_printable_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path / name)
    assert str(caught.value).isprintable()


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder: give a"):
        read(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # type: ignore[attr-defined, unused-ignore]
    with pytest.raises(CheckpointError, match="no regular file"):
        read(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "may not be read: check its perm"),
        (OSError(errno.EIO, "Input/output error"), "cannot be read: Input/output error"),
        (OSError("odd"), "cannot be read: odd"),
    ],
)
def test_what_the_system_refuses_to_read_is_one_line(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, error: OSError, message: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    monkeypatch.setattr("builtins.open", fail)
    with pytest.raises(CheckpointError, match=message):
        read(path)


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EFBIG, "ulimit"),
        (errno.EACCES, "permissions"),
        (errno.EROFS, "elsewhere with --out"),
        (errno.EIO, "elsewhere with --out"),
    ],
)
def test_what_the_system_refuses_to_write_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, hint: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    path = tmp_path / "m.safetensors"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CheckpointError, match=r"m.safetensors cannot be written: ") as caught:
        container.write(path, TENSORS, {})
    assert os.strerror(code) in caught.value.message
    assert hint in caught.value.hint
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["m.safetensors"]


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "m.safetensors", tmp_path / "file" / "sub" / "m.safetensors"):
        with pytest.raises(CheckpointError, match="Not a directory: a folder in its path is a file"):
            container.write(path, TENSORS, {})


def test_a_path_with_a_nul_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no path") as caught:
        container.write(tmp_path / "a\0b", TENSORS, {})
    assert str(caught.value).isprintable()
