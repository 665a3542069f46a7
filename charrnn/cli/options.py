"""Options that several commands share."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal

import typer

from charrnn.config import DEFAULT_ENCODING, UNKNOWN_BITS
from charrnn.config import EncodingErrors as Handling
from charrnn.errors import ConfigError


def _one_of_two(value: str) -> str:
    if value not in ("error", "skip"):
        raise ConfigError(f"on-unknown is {value!r}", "give error or skip")
    return value


OnUnknown = Annotated[
    Literal["error", "skip"],
    typer.Option(
        metavar="error|skip",
        help="Characters that the model has never seen [error].",
        callback=_one_of_two,
    ),
]
Precision = Annotated[str, typer.Option(metavar="NAME", help="bfloat16: rounded weights, sooner [float32].")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
PLOT = "Draw the loss by epoch: .svg, or .png."


def default(config: type[Any], name: str) -> Any:
    """The default of a setting of the dataclass `config`, for help texts."""
    return next(field.default for field in fields(config) if field.name == name)


ModelPath = Annotated[
    str | None,
    typer.Option("-m", "--model", metavar="PATH", help="The model [newest in checkpoints/, or bundled]."),
]
Files = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FILE...]", help="Files, folders, .gz files, or - for stdin [-]."),
]
Encoding = Annotated[
    str | None,
    typer.Option("--encoding", metavar="NAME", help=f"How what is read is stored [{DEFAULT_ENCODING}]."),
]
EncodingErrors = Annotated[
    Handling | None,
    typer.Option("--encoding-errors", metavar="NAME", help="Bad bytes: strict, skip, replace [as trained]."),
]
UnknownBits = Annotated[
    float,
    typer.Option(metavar="BITS", help=f"What an unknown character costs [{UNKNOWN_BITS:g}]."),
]
