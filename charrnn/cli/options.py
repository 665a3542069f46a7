"""Options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Literal

import typer

from charrnn.config import DEFAULT_ENCODING, UNKNOWN_BITS, SampleConfig
from charrnn.config import EncodingErrors as Handling
from charrnn.errors import ConfigError
from charrnn.inference.filters import table


def _one_of_two(value: str | None) -> str | None:
    if value is not None and value not in ("error", "skip"):
        raise ConfigError(f"on-unknown is {value!r}", "give error or skip")
    return value


_ON_UNKNOWN = typer.Option(
    metavar="error|skip", help="Characters that the model has never seen [error].", callback=_one_of_two
)
OnUnknown = Annotated[Literal["error", "skip"], _ON_UNKNOWN]
OnUnknownGiven = Annotated[Literal["error", "skip"] | None, _ON_UNKNOWN]  # None: not given
Precision = Annotated[str, typer.Option(metavar="NAME", help="bfloat16: rounded weights, sooner [float32].")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


def _some(value: int | None) -> int | None:
    if value is not None and not 1 <= value <= MOST_THREADS:
        raise ConfigError(f"threads is {value}", f"give a whole number from 1 to {MOST_THREADS}")
    return value


Threads = Annotated[int | None, typer.Option(metavar="N", help="Threads [all cores].", callback=_some)]
Nul = Annotated[bool, typer.Option("-0", "--null", help="NULs separate texts, as for xargs -0.")]
MOST_THREADS = 1024
PLOT = "Draw the loss by epoch: .svg, or .png."


def model_names(incomplete: str) -> list[str]:
    """For the shell, which completes -m: the models' names that begin so, or else files."""
    from charrnn.checkpoint.library import names

    return [name for name in names() if name.startswith(incomplete)]


ModelPath = Annotated[
    str | None,
    typer.Option(
        "-m", "--model", metavar="PATH", autocompletion=model_names,
        help="The model [newest in checkpoints/, or bundled].",
    ),
]  # fmt: skip
Files = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FILE...]", help="Files, folders, .gz files, or - for stdin [-]."),
]
Out = Annotated[str, typer.Option("-o", "--out", metavar="PATH", help="Where to write, or - for stdout [-].")]
Encoding = Annotated[
    str | None,
    typer.Option("--encoding", metavar="NAME", help=f"How what is read is stored [{DEFAULT_ENCODING}]."),
]
EncodingErrors = Annotated[
    Handling | None,
    typer.Option("--encoding-errors", metavar="NAME", help="Bad bytes: strict, skip, replace [as trained]."),
]
_UNKNOWN_BITS = typer.Option(metavar="BITS", help=f"What an unknown character costs [{UNKNOWN_BITS:g}].")
UnknownBits = Annotated[float, _UNKNOWN_BITS]
UnknownBitsGiven = Annotated[float | None, _UNKNOWN_BITS]  # None: not given


Command = Callable[..., int | None]


def with_options(place: str, options: Iterable[inspect.Parameter]) -> Callable[[Command], Command]:
    """A command with `options` for its parameter `place`, which gets a dict of those that were given."""
    options = list(options)

    def changed(command: Command) -> Command:
        def with_dict(**given: Any) -> int | None:
            values = {option.name: given.pop(option.name) for option in options}
            return command(**given, **{place: {name: v for name, v in values.items() if v is not None}})

        own = inspect.signature(command, eval_str=True).parameters
        parameters = [option for name in own for option in (options if name == place else [own[name]])]
        named: Any = with_dict
        named.__signature__ = inspect.Signature(parameters)
        named.__annotations__ = {option.name: option.annotation for option in parameters}
        named.__name__, named.__doc__ = command.__name__, command.__doc__
        return with_dict

    return changed


def parameter(name: str, kind: Any, option: Any) -> inspect.Parameter:
    """The parameter of an option that is None unless it is given."""
    place = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(name, place, default=None, annotation=Annotated[kind | None, option])


def filter_options() -> Iterator[inspect.Parameter]:
    """The options of the filters' table; the most common ones come first."""
    for line in sorted(table(SampleConfig), key=lambda line: not line.common):
        off = ": off" if line.apply else ""
        help_ = f"{line.help} [{line.default:g}{off}]."
        option = typer.Option(f"--{line.option}", metavar=line.metavar, help=help_)
        yield parameter(line.name, type(line.default), option)
