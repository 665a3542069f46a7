"""Waiting for what another thread reads: whoever writes is told before, and only then."""

from __future__ import annotations

import io
import os
import queue
import sys
import threading

import pytest

from charrnn.cli.prompts import Prompts
from charrnn.config import TextConfig
from charrnn.text.files import waiting
from charrnn.text.files.lines import read_lines, read_texts


def test_nobody_is_told_while_something_is_there() -> None:
    items: queue.Queue[int] = queue.Queue()
    for n in range(3):
        items.put(n)

    def refuse() -> None:
        raise AssertionError("there was something")

    assert [waiting.take(items, refuse) for _ in range(3)] == [0, 1, 2]


def test_the_thread_that_takes_is_told_once_before_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_PATIENCE", 0.001)  # so that it looks many times
    items: queue.Queue[int] = queue.Queue()
    told: list[threading.Thread] = []

    def before_waiting() -> None:
        told.append(threading.current_thread())
        threading.Timer(0.1, items.put, [7]).start()  # nothing comes before

    assert waiting.take(items, before_waiting) == 7
    assert told == [threading.current_thread()]


def test_what_the_writer_raises_ends_the_reading() -> None:
    def before_waiting() -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        waiting.take(queue.Queue(), before_waiting)


@pytest.mark.parametrize("reader", ["lines", "texts", "prompts"])
def test_each_reader_tells_before_every_line_that_has_not_come(
    reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next line is written only when the reader says that it is about to wait for it."""
    ours, theirs = os.pipe()
    to_come = [b"ab\n", b"c\n", b"d\n"]

    def before_waiting() -> None:
        nonlocal theirs
        if to_come:
            os.write(theirs, to_come.pop(0))
        elif theirs:
            os.close(theirs)
            theirs = 0

    text = TextConfig()
    with os.fdopen(ours, "rb") as stream:
        if reader == "lines":
            found = [one.text for one in read_lines(["-"], text, 100, before_waiting, stdin=stream)]
        elif reader == "texts":
            read = read_texts(["-"], text, 100, before_waiting, stdin=stream)
            found = [one for _, one in read if one is not None]
        else:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
            prompts = Prompts("-", text, text, before_waiting)
            found = []
            while taken := prompts.take(100):
                found += [line + "\n" for line in taken]
    assert found == ["ab\n", "c\n", "d\n"]
