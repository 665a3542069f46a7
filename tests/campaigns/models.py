"""Changes model files and resume files in every way, and reads them.

    python -m tests.campaigns.models --mutations 100000 --seed 1

Each file is refused in one printable line that names it, or loads to a model that writes, can be shown and
can be saved again; a resume file is refused, or training goes on from it. Nothing takes more memory than four
times the file and a constant, and nothing that a terminal would obey reaches it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint, resume_path
from charrnn.cli import wording
from charrnn.cli.commands import info
from charrnn.config import ModelConfig, TextConfig
from charrnn.errors import CharrnnError
from charrnn.events import Step
from charrnn.vocabulary import Vocabulary

from .harness import Report, TooLong, at_most, limit_memory, scratch

SECONDS = 10  # that one file may take
MEMORY = 4  # times the file, and
MEMORY_CONSTANT = 16_000_000  # bytes
ADDRESS_SPACE = 12 << 30  # bytes; what a lie about a size must not reach
MEASURED = 20  # every so many files, since measuring is slow
TRAINED = 2  # of the resume files

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 255, 65536, 2**31, 2**32, 2**63, 2**64, 10**39, -(10**39), 10**45,
    0.0, -0.0, 0.5, 1e308, -1e308, 1e-320, 1e39, "", "a", "lstm", "F64", "BF16", "I64", "utf-16", "nul\0",
    "\x1b[31mred\x1b]0;title\x07", "\x9b31m", "\u202e", "\ud800", "\U0010ffff", "x" * 10_000, [], {}, [0],
    [1, 2], [0, 2**40], [-1, 3], [True, 2], [2**62, 4], [1] * 40, {"a": 1}, {"\x1b[2J": "\x1b[2J"},
    [{"step": 1}], [{"step": 1, "epoch": 1e308, "train_loss": 1e308, "val_loss": -1e308}] * 3,
]  # fmt: skip


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def small_models(folder: Path) -> Iterator[tuple[bytes, str]]:
    """Model files and resume files, each with its kind."""
    for number, (cell, lines, raw) in enumerate(
        [("lstm", False, False), ("gru", True, False), ("rnn", False, True)]
    ):
        characters = "".join(map(chr, range(256))) if raw else "\n\x1b[]abcä日\U0001f600"
        characters = "".join(sorted(characters))
        config = ModelConfig(
            len(characters), cell=cell, hidden_size=3, num_layers=2, embedding_size=2 * (number % 2),
            dropout=0.1,
        )  # fmt: skip
        rng = np.random.default_rng(number)
        tensors = {
            name: rng.normal(0, 1, shape).astype(np.float32)
            for name, shape in config.parameter_shapes().items()
        }
        row = {"step": 10, "epoch": 0.5, "train_loss": 3.0, "val_loss": 3.2}
        model = Checkpoint(
            config, Vocabulary(characters), TextConfig(lines=lines, bytes=raw), tensors, [row] * 3, 3.2,
            "f00d", {"steps": 20, "learning_rate": 0.006, "minutes": None},
        )  # fmt: skip
        path = folder / f"whole{number}.safetensors"
        model_file.save(model, path)
        yield path.read_bytes(), "model"
    corpus = folder / "corpus.txt"
    corpus.write_text("she sells sea shells\n" * 40)
    out = folder / "run.safetensors"
    asked: list[bool] = []
    for event in api.train(corpus, out=out, stop=lambda: "stop" if asked else None, **TRAINING):
        if isinstance(event, Step):
            asked.append(True)
    yield resume_path(out).read_bytes(), "resume"


TRAINING: dict[str, Any] = {
    "hidden_size": 4, "num_layers": 1, "embedding_size": 2, "batch_size": 2, "seq_len": 8, "steps": 6,
    "evaluations": 2, "threads": 1,
}  # fmt: skip


class Mutator:
    """Changes a file at random. Each method takes and gives its bytes."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._ways: list[Callable[[bytes], bytes]] = [
            self.flip_bits, self.set_bytes, self.cut, self.extend, self.set_length, self.move_bytes,
            self.change_header, self.change_header, self.change_record, self.change_record,
            self.change_record, self.change_text, self.repeat_key, self.move_tensors, self.set_numbers,
            self.nest,
        ]  # fmt: skip

    def mutate(self, content: bytes) -> bytes:
        for _ in range(self.random.choice((1, 1, 1, 2, 4))):
            # What an earlier change has broken cannot be parsed for the next.
            with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
                content = self.random.choice(self._ways)(content)
        return content

    # --- bytes

    def flip_bits(self, content: bytes) -> bytes:
        changed = bytearray(content)
        for _ in range(self.random.choice((1, 2, 8))):
            changed[self.random.randrange(len(changed))] ^= 1 << self.random.randrange(8)
        return bytes(changed)

    def set_bytes(self, content: bytes) -> bytes:
        changed = bytearray(content)
        at = self.random.randrange(len(changed))
        count = self.random.choice((1, 4, 100))
        changed[at : at + count] = self.random.choice(
            (self.random.randbytes(count), b"\xff" * count, bytes(count))
        )
        return bytes(changed)

    def cut(self, content: bytes) -> bytes:
        return content[: self.random.randrange(len(content))]

    def extend(self, content: bytes) -> bytes:
        return content + self.random.randbytes(self.random.choice((1, 4, 1000)))

    def set_length(self, content: bytes) -> bytes:
        length = int.from_bytes(content[:8], "little")
        new = self.random.choice((0, 1, length - 1, length + 1, 10**8, 10**8 + 1, 2**31, 2**63, 2**64 - 1))
        return (new % 2**64).to_bytes(8, "little") + content[8:]

    def move_bytes(self, content: bytes) -> bytes:
        a, b, c = sorted(self.random.randrange(len(content)) for _ in range(3))
        return content[:a] + content[b:c] + content[a:b] + content[c:]

    # --- JSON

    def change_header(self, content: bytes) -> bytes:
        header, data = unpack(content)
        return pack(json.dumps(self._changed(header)), data)

    def change_record(self, content: bytes) -> bytes:
        header, data = unpack(content)
        record = json.loads(header["__metadata__"]["charrnn"])
        text = json.dumps(self._changed(record))
        if self.random.random() < 0.1:
            text = text.replace(
                "0.5", self.random.choice(("NaN", "Infinity", "-Infinity", "1e999", "1" * 5000))
            )
        header["__metadata__"]["charrnn"] = text
        return pack(json.dumps(header), data)

    def change_text(self, content: bytes) -> bytes:
        """The header as text, a piece of it replaced."""
        header, data = unpack(content)
        text = json.dumps(header)
        at = self.random.randrange(len(text))
        piece = self.random.choice(
            ('"', "{", "}", "[", "]", ",", ":", "\\", "\\u", "null", "NaN", "1e999", "\x00")
        )
        return pack(text[:at] + piece + text[at + self.random.randrange(3) :], data)

    def repeat_key(self, content: bytes) -> bytes:
        header, data = unpack(content)
        name = self.random.choice(list(header))
        again = f"{json.dumps(name)}: {json.dumps(header[name])}, "
        return pack("{" + again + json.dumps(header)[1:], data)

    def nest(self, content: bytes) -> bytes:
        header, data = unpack(content)
        depth = self.random.choice((33, 100, 5000, 100_000))
        raw = "[" * depth + "]" * depth
        if self.random.random() < 0.5:
            return pack(f'{{"x": {raw}, ' + json.dumps(header)[1:], data)
        header["__metadata__"]["charrnn"] = f'{{"x": {raw}, ' + header["__metadata__"]["charrnn"][1:]
        return pack(json.dumps(header), data)

    def _changed(self, tree: Any) -> Any:
        """The tree, with a value anywhere in it replaced, removed, or its key changed."""
        places: list[tuple[Any, Any]] = []

        def visit(node: Any) -> None:
            items = node.items() if isinstance(node, dict) else enumerate(node)
            for key, value in items:
                places.append((node, key))
                if isinstance(value, (dict, list)):
                    visit(value)

        visit(tree)
        node, key = self.random.choice(places)
        what = self.random.random()
        if what < 0.1:
            del node[key]
        elif what < 0.2 and isinstance(node, dict):
            node[str(self.random.choice(VALUES))] = node.pop(key)
        elif what < 0.3 and isinstance(node[key], str) and node[key]:
            text = node[key]
            at = self.random.randrange(len(text))
            node[key] = text[:at] + chr(self.random.randrange(0x110000)) + text[at + 1 :]
        elif what < 0.5 and type(node[key]) in (int, float):
            node[key] += self.random.choice((-1, 1, 4, -0.5, 2**31))
        else:
            node[key] = self.random.choice(VALUES)
        return tree

    # --- tensors

    def move_tensors(self, content: bytes) -> bytes:
        """Shapes and places that overlap, leave gaps, or belong to another tensor."""
        header, data = unpack(content)
        names = [name for name in header if name != "__metadata__"]
        one, other = self.random.choice(names), self.random.choice(names)
        field = self.random.choice(("data_offsets", "shape", "dtype"))
        header[one][field], header[other][field] = header[other][field], header[one][field]
        if self.random.random() < 0.5:
            value = header[one]["data_offsets"]
            header[one]["data_offsets"] = [n + self.random.choice((-4, 0, 4, 2**40)) for n in value]
        return pack(json.dumps(header), data)

    def set_numbers(self, content: bytes) -> bytes:
        """NaN, infinity, denormal and extreme numbers among the weights."""
        header, data = unpack(content)
        numbers = np.frombuffer(data[: len(data) // 4 * 4], np.float32).copy()
        value = self.random.choice((np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, 1e20, 0.0))
        count = self.random.choice((1, 10, len(numbers)))
        numbers[self.random.sample(range(len(numbers)), min(count, len(numbers)))] = value
        return pack(json.dumps(header), numbers.tobytes())


def unpack(content: bytes) -> tuple[dict[str, Any], bytes]:
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def pack(header: str, data: bytes) -> bytes:
    raw = header.encode("utf-8", "surrogatepass")
    return len(raw).to_bytes(8, "little") + raw + data


class Reader:
    """Reads files, and sees to it that what they do is harmless."""

    def __init__(self, folder: Path, report: Report) -> None:
        self.folder, self.report = folder, report
        self.path = folder / "hostile.safetensors"
        self.corpus = folder / "corpus.txt"

    def read(
        self, content: bytes, kind: str, what: str, *, measured: bool = False, trained: bool = False
    ) -> None:
        path = resume_path(self.path) if kind == "resume" else self.path
        path.write_bytes(content)
        if measured:
            tracemalloc.start()
        try:
            with at_most(SECONDS):
                if kind == "resume" and trained:
                    self._resume(what)
                elif kind == "resume":
                    model_file.load_resume(path)
                    self.report.count("loaded")
                else:
                    model = model_file.load(path)
                    if measured:
                        self._check_memory(content, what)
                    self.check_model(model, what)
                    self.report.count("loaded")
        except CharrnnError as error:
            said = str(error)
            self.report.check(said.isprintable(), f"{what}: says {said!r}")
            named = str(path)[:20] in said or (kind == "resume" and trained)
            self.report.check(named, f"{what}: names no file: {said}")
            self.report.check(len(said) < 1000, f"{what}: says {len(said)} characters")
            self.report.count("refused")
        except TooLong:
            self.report.count("too long")
            self.report.breaks(f"{what}: it takes more than {SECONDS} seconds")
        except Exception as error:
            self.report.count("error")
            self.report.breaks(f"{what}: {type(error).__name__}: {error}")
            self._keep(content)
        finally:
            if measured:
                self._check_memory(content, what)
                tracemalloc.stop()

    def _check_memory(self, content: bytes, what: str) -> None:
        peak = tracemalloc.get_traced_memory()[1]
        limit = MEMORY * len(content) + MEMORY_CONSTANT
        self.report.check(peak <= limit, f"{what}: {peak:,} bytes of memory for a file of {len(content):,}")
        tracemalloc.reset_peak()

    def _keep(self, content: bytes) -> None:
        with contextlib.suppress(OSError):
            Path(tempfile.gettempdir(), f"charrnn-broken-{len(self.report.broken)}.safetensors").write_bytes(
                content
            )

    def check_model(self, model: Checkpoint, what: str) -> None:
        for shown in (
            info._table(str(self.path), model),
            [wording.json_line(info._record(str(self.path), model))],
        ):
            for line in shown:
                bare = re.sub("[\u200c\u200d]", "", line)
                self.report.check(bare.isprintable(), f"{what}: info shows {line!r}")
        for text in api.sample(model, seed=1, length=3):
            written = "".join(islice(text, 3))
            self.report.check(
                set(written) <= set(model.vocabulary.characters), f"{what}: it writes {written!r}"
            )
        model_file.save(model, self.folder / "again.safetensors")

    def _resume(self, what: str) -> None:
        """Train on from it, in a few steps."""
        if self.path.exists():
            self.path.unlink()
        asked: list[bool] = []
        for event in api.train(
            self.corpus,
            out=self.path,
            resume=True,
            threads=1,
            stop=lambda: "stop" if len(asked) > 20 else None,
        ):
            asked.append(bool(event))
        self.report.count("resumed")
        if self.path.exists():
            model_file.load(self.path)


def bombs() -> Iterator[tuple[str, bytes]]:
    """Files that are small, or all header, and would like to take much memory or time."""
    for name, piece, count in (
        ("many empty objects", "{}", 300_000),
        ("many empty lists", "[]", 300_000),
        ("many short texts", '"ab"', 300_000),
        ("many numbers", "1e5", 300_000),
        ("many nested lists", "[[[]]]", 200_000),
        ("many small objects", '{"a":1}', 200_000),
    ):
        many = ",".join([piece] * count)
        yield name, pack(f'{{"x":[{many}]}}', b"")
        yield (
            f"{name} in the record",
            pack(json.dumps({"__metadata__": {"charrnn": f'{{"x":[{many}]}}'}}), b""),
        )
    keys = ",".join(f'"{n}":0' for n in range(200_000))
    yield "many keys", pack(f"{{{keys}}}", b"")
    entry = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    many = ",".join(f'"{n}":{entry}' for n in range(50_000))
    yield "many empty tensors", pack(f"{{{many}}}", b"")
    for name, character in (
        ("ASCII", "a"),
        ("Latin-1", "\xe9"),
        ("wide", "\u4e00"),
        ("astral", "\U0001f600"),
    ):
        for text in (character + "a" * 5_000_000, character * 1_000_000):
            yield (
                f"a long {name} text",
                pack(json.dumps({"__metadata__": {"x": text}}, ensure_ascii=False), b""),
            )
            record = json.dumps({"x": text}, ensure_ascii=False)
            yield f"a long {name} record", pack(json.dumps({"__metadata__": {"charrnn": record}}), b"")
    yield "a long number", pack('{"x":' + "1" * 5_000_000 + "}", b"")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mutations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    np.seterr(all="ignore")
    report = Report("hostile model files")
    with scratch() as folder:
        reader, mutator = Reader(folder, report), Mutator(options.seed)
        whole = list(small_models(folder))
        limit_memory(ADDRESS_SPACE)
        for name, content in bombs():
            reader.read(content, "model", name, measured=True)
        for number in range(options.mutations):
            content, kind = whole[number % len(whole)]
            trained = number // len(whole) % TRAINED == 0
            measured = number % MEASURED == 0 and not (kind == "resume" and trained)
            what = f"mutation {number} of seed {options.seed}"
            reader.read(mutator.mutate(content), kind, what, measured=measured, trained=trained)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
