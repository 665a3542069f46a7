"""Options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, Literal

import typer

from charrnn.config import DEFAULT_ENCODING, UNKNOWN_BITS, SampleConfig
from charrnn.config import EncodingErrors as Handling
from charrnn.errors import ConfigError
from charrnn.inference.filters import Setting, table


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


def with_filters(command: Callable[..., int]) -> Callable[..., int]:
    """The command, with an option for each setting of the filters; `filters` is then what was given, by name.

    What most people use comes first.
    """
    lines = sorted(table(SampleConfig), key=lambda line: not line.common)

    def of_options(**given: Any) -> int:
        values = {line.name: given.pop(line.name) for line in lines}
        return command(**given, filters={name: v for name, v in values.items() if v is not None})

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        parameters += map(_option, lines) if parameter.name == "filters" else [parameter]
    named: Any = of_options
    named.__signature__ = inspect.Signature(parameters)
    named.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    named.__name__, named.__doc__ = command.__name__, command.__doc__
    return of_options


def _option(line: Setting) -> inspect.Parameter:
    off = ": off" if line.apply else ""
    help_ = f"{line.help} [{line.default:g}{off}]."
    option = typer.Option(f"--{line.shown}", metavar=line.metavar, help=help_)
    kind: Any = type(line.default) | None
    return inspect.Parameter(
        line.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=Annotated[kind, option]
    )
