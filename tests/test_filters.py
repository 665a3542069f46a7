"""Filters as co-processes: a line in, its answer out, and only then the next line."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
from support.environment import environment
from support.processes import command
from support.readers import reader
from support.toy_models import toy

from charrnn.checkpoint import model_file
from charrnn.cli.parsing import program
from charrnn.config import TextConfig

pytestmark = pytest.mark.timeout(120)  # that long, a filter that keeps its answer would be waited for

LINES = [b"ab", b"c", b"caba", b"a"] * 25
A, B, PROSE = "a.safetensors", "b.safetensors", "prose.safetensors"
CLASSIFIER, TAGGER = "classifier.safetensors", "tagger.safetensors"
RESTORER, REWRITER = "restorer.safetensors", "rewriter.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filters")
    model_file.save(toy(1, "\nabc"), folder / A)
    model_file.save(toy(2, "\nabc"), folder / B)
    model_file.save(toy(3, "\n abc", lines=False), folder / PROSE)
    labelled = replace(
        reader("classifier", "\nabc", ("x", "y")), text=TextConfig(lines=True, label_by="column")
    )
    model_file.save(labelled, folder / CLASSIFIER)
    model_file.save(reader("tagger", "\nabc", ("B", "I")), folder / TAGGER)
    model_file.save(reader("rewriter", "\nabc", ("x", "y")), folder / REWRITER)
    upper = replace(reader("restorer", "\nabc", ("=", "^")), text=TextConfig(lines=True, strip=("case",)))
    model_file.save(upper, folder / RESTORER)
    return folder


def written_on(stdout: BinaryIO, line: bytes) -> bool:
    return stdout.readline().startswith(line)


def written_on_twice(stdout: BinaryIO, line: bytes) -> bool:
    return written_on(stdout, line) and written_on(stdout, line)


def written_on_in_json(stdout: BinaryIO, line: bytes) -> bool:
    return line in stdout.readline()


def scored(stdout: BinaryIO, line: bytes) -> bool:
    return stdout.readline().endswith(b"\t" + line + b"\n")


def in_another_case(stdout: BinaryIO, line: bytes) -> bool:
    return stdout.readline().lower() == line + b"\n"


def with_bars(stdout: BinaryIO, line: bytes) -> bool:
    return stdout.readline().startswith(line) and bool(stdout.readline())


def in_colours(stdout: BinaryIO, line: bytes) -> bool:
    return re.sub(rb"\x1b\[[\d;]*m", b"", stdout.readline()).startswith(line)


def in_the_page(stdout: BinaryIO, line: bytes) -> bool:
    """The page has lines of its own before the first."""
    while shown := stdout.readline():
        if re.sub(rb"<[^>]*>|\xe2\x86\xb5", b"", shown) == line + b"\n":
            return True
    return False


# What is typed, and whether what then comes on stdout, up to the end of the line's answer, is the answer.
FILTERS: list[tuple[tuple[str, ...], Callable[[BinaryIO, bytes], bool]]] = [
    (("sample", "-m", A, "--echo", "--prompts", "-"), written_on),
    (("sample", "-m", A, "-m", B, "--echo", "--prompts", "-"), written_on),
    (("sample", "-m", A, "--echo", "--prompts", "-", "--count", "2"), written_on_twice),
    (("sample", "-m", A, "--echo", "--prompts", "-", "--json"), written_on_in_json),
    (("sample", "-m", A, "--echo", "--prompts", "-", "--best-of", "3"), written_on),
    (("sample", "-m", A, "--echo", "--prompts", "-", "--match", "[abc]+", "--exact"), written_on),
    (("sample", "-m", PROSE, "--echo", "--prompts", "-", "-n", "0"), written_on),
    (("score", "-m", A), scored),
    (("score", "-m", A, "--threshold", "-1", "-"), scored),
    (("score", "-m", PROSE, "--json"), written_on_in_json),
    (("score", "-m", A, "--heat"), with_bars),
    (("score", "-m", PROSE, "--heat", "--color", "always"), in_colours),
    (("score", "-m", A, "--html", "-"), in_the_page),
    (("neurons", "-m", A, "--unit", "1:0", "-"), with_bars),
    (("neurons", "-m", A, "--unit", "1:0", "--json", "-"), written_on_in_json),
    (("classify", "-m", A, "-m", B), scored),
    (("classify", "-m", A, "-m", B, "--json"), written_on_in_json),
    (("classify", "-m", CLASSIFIER, "--top", "2"), scored),
    (("tag", "-m", TAGGER), written_on),
    (("tag", "-m", TAGGER, "--json"), written_on_in_json),
    (("restore", "-m", RESTORER), in_another_case),
    (("rewrite", "-m", REWRITER), written_on),
    (("rewrite", "-m", REWRITER, "--align", "--json"), written_on_in_json),
]
# One of each command is asked a hundred times; its other forms differ in what they print.
FEW = 20
# What reads stdin to its end before it writes a word, or bytes and no lines: it owes no line an answer.
NO_FILTERS = {"train", "eval", "diagnose", "next", "compress", "decompress"}


@pytest.mark.parametrize(
    ("words", "is_answer"), FILTERS, ids=lambda value: " ".join(value) if type(value) is tuple else ""
)
def test_each_line_is_answered_before_the_next_one_comes(
    folder: Path, words: tuple[str, ...], is_answer: Callable[[BinaryIO, bytes], bool]
) -> None:
    with subprocess.Popen(
        command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, env=environment()
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        first = next(other for other, _ in FILTERS if other[0] == words[0])
        for n, line in enumerate(LINES if words == first else LINES[:FEW]):
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            if words[2] == PROSE and words[0] == "sample" and n:
                assert process.stdout.readline() == b"\n"  # between two texts
            assert is_answer(process.stdout, line)
        process.stdin.close()
        process.stdout.read()  # a legend may follow
        assert process.wait(timeout=60) == 0


def test_every_command_that_reads_stdin_is_tried() -> None:
    """A command that is new has its place in FILTERS, or among those that are none."""
    reads = {
        name
        for name, one in program().commands.items()
        for param in one.params
        if "stdin" in (param.help or "") or (param.metavar or "").endswith("|-")
    }
    assert reads == {words[0] for words, _ in FILTERS} | NO_FILTERS


@pytest.mark.parametrize(
    "words", [("sample", "-m", PROSE, "--echo", "-n", "0", "--prompt", "-"), ("next", "-m", A, "-")]
)
def test_a_prompt_on_stdin_is_answered_when_it_ends(folder: Path, words: tuple[str, ...]) -> None:
    for _ in range(3):
        done = subprocess.run(
            command(*words), input=b"ab\n", capture_output=True, cwd=folder, env=environment(), timeout=60
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout
