"""Lines that ranks share out: what is found out about them is what one process finds, and in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import random_models
from support.readers import reader
from support.threaded_ranks import led

from charrnn import api
from charrnn.api import reading
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import TextConfig

LETTERS = "\n abcde"
LINES = [" ".join("abcde"[n * k % 5] * (1 + n % 3) for k in range(n % 7)) for n in range(40)]
LONG = "ab cd " * 60  # comes in pieces
TOGETHER = 64  # characters
Command = Callable[[str, Any], Iterator[list[Any]]]


def restorer() -> Checkpoint:
    model = reader("restorer", LETTERS, ("", "\u0301"))
    return Checkpoint(
        model.config,
        model.vocabulary,
        TextConfig(strip=("diacritics",)),
        model.tensors,
        columns=model.columns,
    )


def writers() -> list[Checkpoint]:
    return [random_models.make(seed=seed, characters=LETTERS, text=random_models.LINES) for seed in (1, 2)]


COMMANDS: dict[str, Command] = {
    "classify": lambda path, threads: api.classified(
        reader("classifier", LETTERS, ("p", "q", "r")), path, prior=[1.0, 2.0, 1.0], threads=threads
    ),
    "classify by likelihood": lambda path, threads: api.classify(writers(), path, threads=threads),
    "restore": lambda path, threads: api.restored(restorer(), path, threads=threads),
    "tag": lambda path, threads: api.tagged(
        reader("tagger", LETTERS, ("x", "y", "z")), path, probable=True, threads=threads
    ),
    "rewrite": lambda path, threads: api.rewritten(
        reader("rewriter", LETTERS, ("a", "b", "c")), path, beam=2, count=2, length=6, threads=threads
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_two_ranks_find_what_one_process_finds(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lines.txt").write_text("\n".join([*LINES, LONG, *LINES[:9]]) + "\nabc")
    monkeypatch.setattr(reading, "READ_TOGETHER", TOGETHER)

    def found(threads: Any) -> list[Any]:
        begun = COMMANDS[command](str(tmp_path / "lines.txt"), threads)
        return [line for lines in begun for line in lines]

    alone, both = found(1), led(2, found)
    assert list(map(repr, both)) == list(map(repr, alone))  # of arrays, too
    assert len(set(map(repr, alone))) > 9
