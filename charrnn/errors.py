"""The exceptions that charrnn raises, and the exit codes.

CharrnnError                    exit 1: the command failed
├── ConfigError                 exit 2: an option's value is out of range, or two contradict each other
├── CorpusError                 a text cannot be read or decoded, or is too short
├── VocabularyError             a text holds a character that the model has never seen
├── CheckpointError             a model file is missing, damaged, or would be overwritten
│   └── SaveError               a file cannot be written: the disk is full, ...
├── CompressionError            a compressed file is damaged, or was made with another model
├── SamplingError               no text satisfies the constraints, or none was found
├── SearchError                 a search has reached its limit, or nothing can be found
└── TrainingError               the loss became NaN, there is nothing to resume, ...

Each error is one line: what was wrong, then what to do about it (its `hint`).
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    HUNG_UP = 129  # 128 + SIGHUP: the terminal was closed
    INTERRUPTED = 130  # 128 + SIGINT, as shells report Ctrl-C
    TERMINATED = 143  # 128 + SIGTERM


class CharrnnError(Exception):
    """Base of all errors that charrnn raises on purpose.

    `message` says what was wrong, `hint` what to do next; `str()` joins them on one line.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(message, hint)

    def __str__(self) -> str:
        return f"{self.message}: {self.hint}" if self.hint else self.message


class ConfigError(CharrnnError):
    """An option's value is out of range, or two options contradict each other."""

    exit_code = ExitCode.USAGE


class CorpusError(CharrnnError):
    """A text cannot be read or decoded, or is too short to learn from."""


class VocabularyError(CharrnnError):
    """A text holds a character that the model has never seen."""


class CheckpointError(CharrnnError):
    """A model file is missing, damaged, of another kind, or would be overwritten."""


class SaveError(CheckpointError):
    """A file cannot be written; its old contents are unchanged."""


class CompressionError(CharrnnError):
    """A compressed file is damaged, truncated, of another kind, or was made with another model."""


class SamplingError(CharrnnError):
    """No text satisfies the constraints, or none was found."""


class SearchError(CharrnnError):
    """A search has reached its limit before its result was proved, or finds nothing."""


class TrainingError(CharrnnError):
    """Training cannot start or cannot go on."""


def printable(text: str) -> str:
    """`text` for a message, on one line: control characters are escaped."""
    return text if text.isprintable() else repr(text)[1:-1]


def quoted(value: object, limit: int = 60) -> str:
    """`repr(value)` for a message, cut after `limit` characters."""
    whole = repr(value)
    return whole if len(whole) <= limit else whole[:limit] + "..."


def decimal(value: float, digits: int = 4) -> str:
    """1.43214 -> 1.4321; a very large number has an exponent: 2.31e+25"""
    return f"{value:.{digits}f}" if not abs(value) >= 1e6 else f"{value:.2e}"
