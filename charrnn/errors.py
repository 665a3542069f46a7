"""What can go wrong, and the exit code that says so.

CharrnnError                    exit 1: it could not be done
├── ConfigError                 exit 2: an option's value is out of range, or two contradict each other
├── CorpusError                 the text cannot be read, decoded, or is too short
├── VocabularyError             a character that the model has never seen
├── CheckpointError             a model file is missing, damaged, or would be overwritten
│   └── SaveError               the system does not let us write it: the disk is full, ...
├── CompressionError            a compressed file is damaged, or was made with another model
├── SamplingError               no text can be what was asked for, or none was found
├── SearchError                 a search has reached its limit, or nothing can be found
└── TrainingError               the loss became no number, there is nothing to resume, ...

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
    """The system does not let us write a file, whose old contents are as they were."""


class CompressionError(CharrnnError):
    """A compressed file is damaged, cut short, none at all, or was made with another model."""


class SamplingError(CharrnnError):
    """No text can be what was asked for, or none was found."""


class SearchError(CharrnnError):
    """A search has reached its limit before it could prove all that was asked for, or finds nothing."""


class TrainingError(CharrnnError):
    """Training cannot start or cannot go on."""


def printable(text: str) -> str:
    """`text` as a message may show it, on one line: control characters are escaped."""
    return text if text.isprintable() else repr(text)[1:-1]


def quoted(value: object, limit: int = 60) -> str:
    """`repr(value)` as a message may show it: escaped, and cut where it is long."""
    whole = repr(value)
    return whole if len(whole) <= limit else whole[:limit] + "..."


def decimal(value: float, digits: int = 4) -> str:
    """1.43214 -> 1.4321; what has exploded is short, too: 2.31e+25"""
    return f"{value:.{digits}f}" if not abs(value) >= 1e6 else f"{value:.2e}"
