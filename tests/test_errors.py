"""errors: one line that says what was wrong and what to do, and the exit code."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys

import pytest

from charrnn import errors
from charrnn.errors import CharrnnError, CheckpointError, ExitCode, decimal, printable, quoted

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


def test_exit_codes_are_those_of_the_contract() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0,
        "FAILED": 1,
        "USAGE": 2,
        "HUNG_UP": 129,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_wrong_setting_is_wrong_usage(kind: type[CharrnnError]) -> None:
    expected = ExitCode.USAGE if kind is errors.ConfigError else ExitCode.FAILED
    assert kind("x").exit_code == expected


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_a_charrnn_error_and_drawn_in_the_tree(kind: type[Exception]) -> None:
    assert issubclass(kind, CharrnnError)
    assert kind.__name__ in (errors.__doc__ or "")


def test_text_joins_message_and_hint() -> None:
    assert str(CheckpointError("m is empty", "copy it again")) == "m is empty: copy it again"
    assert str(CheckpointError("m is empty")) == "m is empty"


def test_errors_pass_between_processes() -> None:
    error = pickle.loads(pickle.dumps(CheckpointError("message", "hint")))
    assert type(error) is CheckpointError
    assert (error.message, error.hint) == ("message", "hint")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 語.txt", "plain é 語.txt"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines", "two\\nlines"),
        ("\u202eright to left", "\\u202eright to left"),
        ("\udc80", "\\udc80"),
    ],
)
def test_printable_escapes_what_would_move_the_cursor(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.43214, "1.4321"),
        (999_999.0, "999999.0000"),
        (2.3112831e25, "2.31e+25"),
        (math.nan, "nan"),
        (math.inf, "inf"),
    ],
)
def test_a_number_that_has_exploded_is_short(value: float, shown: str) -> None:
    assert decimal(value) == shown


def test_quoted_is_escaped_and_cut() -> None:
    assert quoted("a\x1b") == "'a\\x1b'"
    assert quoted((2, 3)) == "(2, 3)"
    assert quoted("x" * 100, limit=5) == "'xxxx..."


def test_errors_and_settings_start_without_numpy() -> None:
    program = "import sys, charrnn.errors, charrnn.config; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
