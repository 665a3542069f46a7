"""One .safetensors file: named tensors, and a record of plain JSON in its metadata.

The format: the header's length N in 8 bytes, little-endian; N bytes of JSON with each tensor's type,
shape and offsets and, under `__metadata__`, a map of strings; then the tensors' data, without gaps.
charrnn keeps one string there, named "charrnn": its record, as JSON.

The safetensors library writes the file. Reading is done here, since nothing in a file is trusted:
each claim is checked before it is used. Memory stays below four times the file's size plus 16 MB,
because the size of the JSON as Python objects is estimated before it is parsed.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from charrnn.errors import CheckpointError, printable, quoted
from charrnn.system import atomic
from charrnn.system.file_errors import save_error, why_unreadable

Array = np.ndarray[Any, Any]
Record = dict[str, Any]

SUFFIX = ".safetensors"
KEY = "charrnn"
TYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32), "I64": np.dtype(np.int64),
    "U8": np.dtype(np.uint8), "U16": np.dtype(np.uint16), "U32": np.dtype(np.uint32),
}  # fmt: skip
MAX_HEADER_BYTES = 32_000_000  # a vocabulary of all of Unicode takes half of it
LONG_HEADER_BYTES = 1_000_000  # a longer header must be ASCII, which takes one byte a character in memory
VALUE_BYTES = 200  # memory of a JSON value and the reference to it, roughly
MAX_VALUE_BYTES = 12_000_000  # memory of all values, if that exceeds twice the file's size
MAX_DEPTH = 32  # of nested JSON: far below Python's recursion limit
MAX_DIGITS = 40  # of an integer: 128 bits and a sign, as in random states


class DamageError(Exception):
    """A defect in a file's contents, which `opened` turns into a CheckpointError that names the file."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor's entry in the header; `start` and `end` count from the end of the header."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    end: int


class Container:
    """An open file with a checked header: its `record`, and each tensor's entry by name."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name  # as shown in messages
        self._file = file
        text, self.entries = _read_header(file, name)
        self.record = parse(text)

    def tensors(self) -> dict[str, Array]:
        """Reads all tensors into new arrays. Can be called once, since it reads the file to its end."""
        tensors = {}
        for name, entry in self.entries.items():  # in the file's order
            try:
                tensor = np.empty(entry.shape, entry.dtype.newbyteorder("<"))
            except ValueError as error:  # more dimensions than NumPy supports, or one that is too long
                raise DamageError(f"the tensor {quoted(name)} has an impossible shape") from error
            if self._file.readinto(tensor.data) != tensor.nbytes:  # type: ignore[attr-defined]
                raise DamageError("it is cut short")
            # The view takes "<" off the type where it changes nothing: memoryviews cannot read it.
            tensors[name] = tensor.astype(entry.dtype, copy=False).view(entry.dtype)
        return tensors


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Container]:
    """The container in the file `path`.

    Raises:
        CheckpointError: the file cannot be read, is of another kind, or is damaged; code in the `with`
            block may report damage by raising DamageError.
    """
    name = printable(str(path))
    try:
        with _open(path) as file:
            yield Container(file, name)
    except DamageError as error:
        raise CheckpointError(f"{name} is damaged: {error}", "copy it again, or train a new model") from error
    except OSError as error:
        raise CheckpointError(*why_unreadable(path, error, SUFFIX)) from error
    except MemoryError as error:
        raise CheckpointError(
            f"{name} does not fit in memory", "end other programs, or give a smaller model"
        ) from error


def write(path: Path, tensors: Mapping[str, Array], record: Record) -> None:
    """Write a container atomically; the same contents give the same bytes.

    Raises:
        SaveError: the disk is full, the folder may not be written, ...
        CheckpointError: `parse` would reject the record.
    """
    # Not at the top, for the start-up time of commands that only read.
    from safetensors.numpy import save

    name = printable(str(path))
    try:
        text = serialize(record)
    except DamageError as error:
        raise CheckpointError(f"{name} is not written: {error}") from error
    # Not ascontiguousarray, which turns a zero-dimensional tensor into a one-dimensional one.
    data = save({key: np.asarray(t, order="C") for key, t in tensors.items()}, {KEY: text})
    if int.from_bytes(data[:8], "little") > MAX_HEADER_BYTES:
        raise CheckpointError(f"{name} is not written: its record is too long")
    try:
        atomic.write(path, [data])
    except (OSError, ValueError) as error:
        raise save_error(path, error) from error


def serialize(record: Record) -> str:
    """The record as sorted JSON in ASCII.

    Raises:
        DamageError: the record is no plain JSON, or `parse` would reject it.
    """
    try:
        text = json.dumps(record, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise DamageError(f"its record is no plain JSON ({error})") from error
    parse(text)
    return text


def parse(text: str) -> Record:
    """The JSON object in `text`.

    Raises:
        DamageError: the text is no JSON object, repeats a key, or exceeds the limits on numbers and nesting.
    """
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_int,
            parse_float=_float,
            parse_constant=_constant,
        )
    except RecursionError as error:
        raise DamageError("its JSON is nested too deeply") from error
    except ValueError as error:
        raise DamageError("its JSON is not valid") from error
    if not isinstance(value, dict):
        raise DamageError("its JSON is no object")
    _check_plain(value, 0)
    return value


def _check_count(text: str | bytes, size: int) -> None:
    """Checks that the values of this JSON, in a file of `size` bytes, will fit in the memory allowed."""
    if isinstance(text, str):
        values = sum(map(text.count, ",[{"))
    else:
        values = sum(map(text.count, (b",", b"[", b"{")))
    if values * VALUE_BYTES > max(MAX_VALUE_BYTES, 2 * size):
        raise DamageError(f"its JSON holds about {values} values, which is too many for its size")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise DamageError("its JSON holds a key twice")
    return value


def _int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise DamageError("its JSON holds a number that is too long")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):  # 1e999
        raise DamageError("its JSON holds a number that is too large")
    return value


def _constant(name: str) -> None:
    raise DamageError(f"its JSON holds {name}")


def _check_plain(value: object, depth: int) -> None:
    """Checks that a parsed value can be printed and saved: nesting within MAX_DEPTH, no lone surrogates."""
    if depth > MAX_DEPTH:
        raise DamageError("its JSON is nested too deeply")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DamageError("its JSON holds half of a surrogate pair") from error
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_plain(key, depth + 1)
            _check_plain(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_plain(item, depth + 1)


def _read_header(file: BinaryIO, name: str) -> tuple[str, dict[str, Entry]]:
    """The record as text, and each tensor's entry, in the file's order."""
    not_a_model = CheckpointError(
        f"{name} is not a model file", "give a .safetensors file that charrnn train has written"
    )
    size = os.fstat(file.fileno()).st_size
    head = file.read(8)
    if not head:
        raise CheckpointError(f"{name} is empty", "copy it again, or train a new model")
    length = int.from_bytes(head, "little")
    if len(head) < 8 or not 0 < length <= MAX_HEADER_BYTES:
        raise not_a_model
    raw = file.read(min(length, size))  # at most the file's size, whatever length it claims
    if not raw.startswith(b"{"):  # required by the format; other kinds of file fail here
        raise not_a_model if raw else DamageError("it is cut short")
    if len(raw) < length:
        raise DamageError("it is cut short")
    if length > LONG_HEADER_BYTES and not _is_plain(raw):
        raise DamageError("its header is long and not written as charrnn writes it, in ASCII")
    _check_count(raw, size)
    try:
        header = parse(raw.decode())
    except UnicodeDecodeError as error:
        raise DamageError("its header is not UTF-8") from error
    metadata = header.pop("__metadata__", {})
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    if text is None:
        raise CheckpointError(
            f"{name} was not made by charrnn", "give a model that charrnn train has written"
        )
    if not isinstance(text, str):
        raise DamageError("its record is no text")
    _check_count(text, size)
    return text, _entries(header, size - 8 - length)


def _is_plain(raw: bytes) -> bool:
    """Whether this JSON is ASCII without escapes, so that its strings take no more memory when parsed."""
    return raw.isascii() and b"\\u" not in raw.replace(b"\\\\", b"")


def _entries(header: Record, data_size: int) -> dict[str, Entry]:
    """Each tensor's entry, in the file's order. Checks that they cover the data without gaps."""
    entries = {name: _entry(name, value) for name, value in header.items()}
    entries = dict(sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)))
    end = 0
    for name, entry in entries.items():
        if entry.start != end:
            raise DamageError(f"the tensor {quoted(name)} does not begin where the one before it ends")
        end = entry.end
    if end > data_size:
        raise DamageError(f"it is cut short: {data_size} of {end} bytes of numbers are there")
    if end < data_size:
        raise DamageError(f"{data_size - end} bytes too many are in it")
    return entries


def _entry(name: str, value: object) -> Entry:
    tensor = f"the tensor {quoted(name)}"
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise DamageError(f"{tensor} is not described by type, shape and place")
    dtype, shape, place = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in TYPES:
        raise DamageError(f"{tensor} has the type {quoted(dtype)}, not one of {', '.join(TYPES)}")
    if not _are_sizes(shape):
        raise DamageError(f"{tensor} has no valid shape")
    if not _are_sizes(place) or len(place) != 2:
        raise DamageError(f"{tensor} has no valid place")
    start, end = place
    if math.prod(shape) * TYPES[dtype].itemsize != end - start:
        raise DamageError(f"{tensor} has a place that does not fit its shape")
    return Entry(TYPES[dtype], tuple(shape), start, end)


def _are_sizes(value: Any) -> bool:
    """Whether it is a list of non-negative integers; booleans do not count as integers."""
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _open(path: Path) -> BinaryIO:
    """The file, opened for reading. Pipes are refused, since opening one may block forever."""
    name = printable(str(path))
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            return open(path, "rb")
    except ValueError as error:  # a NUL, or characters that the file system cannot encode
        raise CheckpointError(f"{name} is no path", "check the path") from error
    kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
    raise CheckpointError(f"{name} is {kind}", f"give a {SUFFIX} file")
