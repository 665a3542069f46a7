"""The line that says how far a silent command is."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.model_files import checkpoint

import charrnn
from charrnn import api
from charrnn.cli import process
from charrnn.cli.views import meter
from charrnn.config import DynamicConfig

ROOT = Path(__file__).parent.parent


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stream = Terminal()
    for module in (meter, process):
        monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=stream))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    clock = itertools.count(0.0, 0.15)  # seconds from one look at it to the next
    monkeypatch.setattr(meter, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    return stream


def test_a_text_takes_the_place_of_the_one_before_and_all_go(terminal: Terminal):
    with meter.Meter() as show:
        for n in range(10):
            show(f"{n}0 %")
    assert terminal.getvalue() == "".join(f"\r\x1b[K{text}" for text in ("60 %", "80 %", ""))


def test_what_is_soon_done_shows_nothing(terminal: Terminal):
    with meter.Meter() as show:
        show("50 %")
    assert terminal.getvalue() == ""


def test_an_error_finds_an_empty_line(terminal: Terminal):
    def fail() -> None:
        with meter.Meter() as show:
            for _ in range(9):
                show("50 %")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert terminal.getvalue().endswith("50 %\r\x1b[K")


@pytest.mark.parametrize("reason", ["no terminal", "quiet", "NO_COLOR"])
def test_elsewhere_there_is_none(reason: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch):
    if reason == "no terminal":
        monkeypatch.setattr(terminal, "isatty", lambda: False)
    if reason == "NO_COLOR":
        monkeypatch.setenv("NO_COLOR", "1")
    with meter.Meter(shown=reason != "quiet") as show:
        for _ in range(20):
            show("50 %")
    assert terminal.getvalue() == ""


# --- what it is told


def test_compressing_and_decompressing_tell_how_many_bytes_are_done(monkeypatch: pytest.MonkeyPatch):
    from charrnn.scoring import block_coder, compression

    monkeypatch.setattr(compression, "FRAME", 1 << 12)
    monkeypatch.setattr(compression, "BLOCK", 1 << 10)
    monkeypatch.setattr(block_coder, "PLAIN", 0)
    monkeypatch.setattr(block_coder, "WEIGHTS_A_CALL", 10**8)
    model = charrnn.load(ROOT / "checkpoints" / "places.safetensors")
    data = b"Lisbon\nBarcelona\n" * 500
    told: list[int] = []
    packed = b"".join(api.compress(model, [data], report=told.append))
    assert told == sorted(told)
    assert len(told) > len(data) // (1 << 12)
    assert told[-1] == len(data)
    told.clear()
    assert b"".join(api.decompress(model, [packed], report=told.append)) == data
    assert told == sorted(told)
    assert len(packed) - 50 < told[-1] <= len(packed)


def test_evaluating_tells_its_share(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("abc cab\n" * 1000)
    told: list[tuple[str, float]] = []
    model = checkpoint(3, "\n abc", hidden_size=8)
    api.evaluate(model, path, dynamic=DynamicConfig(), report=lambda *what: told.append(what))
    assert {what for what, _ in told} == {"reading", "adapting"}
    for name in ("reading", "adapting"):
        shares = [share for what, share in told if what == name]
        assert shares == sorted(shares)
        assert len(shares) > 2
        assert shares[-1] == 1.0
