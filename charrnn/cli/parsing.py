"""The command line parser, built with Typer.

Typer itself would convert values with pydantic, whose import (100 ms) takes longer than a whole short
sample, and draw tables in the help. Here `int` and `float` convert numbers, and help is plain text,
grouped, with one line an option. charrnn.config checks the values. Of the commands, only the one that is
asked for is imported and built.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

import charrnn
from charrnn.cli.commands import COMMANDS, Place, Places
from charrnn.cli.examples import GUIDES
from charrnn.cli.process import UsageError, say, writing_failed
from charrnn.errors import ExitCode

SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")
_HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
_MISSING = {  # the hints for missing arguments
    "CORPUS...": "name the text to read, or - for stdin",
    "PATTERN": "give a text with gaps, such as 'the q???k brown ___'",
    "[MODEL] CORPUS...": "name the text to read, or - for stdin",
}
_PATH = re.compile("PATH|FILE|MODEL|CORPUS")  # metavars of options and arguments that are paths
_NUMBERS = {int: "a whole number", float: "a number"}
# An option that is not repeatable but has been given two input files or texts is an error, since both may be
# meant. Of two numbers, names or output paths, as from an alias and its user, the last one counts.
_ONCE = re.compile("PATH|FILE|TEXT|REGEX|CHARS|WHAT|SEP")
_WRITTEN_TO = {"out", "plot", "html", "svg"}


def invoke(args: list[str]) -> int:
    """Run the command that `args` name and return its exit code.

    Raises:
        UsageError: `args` cannot be understood.
        CharrnnError: what the command raised.
    """
    if args[:1] == ["help"]:  # charrnn help train, as other programs have it
        args = [*args[1:], "--help"]
    if args[:1] == ["--show-completion"] and len(args) == 2:
        typer.echo(_completion(args[1]))
        return ExitCode.DONE
    try:
        return program().main(args, prog_name="charrnn", standalone_mode=False) or 0
    except Exception as problem:
        # Click's exceptions, compared by name, since versions of Typer import Click from different places.
        if type(problem).__name__ == "NoArgsIsHelpError":
            say(str(problem))
            return ExitCode.USAGE
        if getattr(problem, "exit_code", None) == 2 and hasattr(problem, "format_message"):
            raise _usage_error(problem) from None
        raise


def _completion(shell: str) -> str:
    """The script of this shell that lets it complete commands, options and names of models.

    Raises:
        UsageError: there is none.
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    if shell not in SHELLS:
        raise UsageError(f"there is no completion for {shell!r}", f"give one of {', '.join(SHELLS)}")
    return get_completion_script(prog_name="charrnn", complete_var="_CHARRNN_COMPLETE", shell=shell)


def _usage_error(problem: Any) -> UsageError:
    """Click's error, reworded."""
    if type(problem).__name__ == "NoSuchOption":
        params = problem.ctx.command.params if problem.ctx is not None else ()
        options = [name for param in params for name in (*param.opts, *param.secondary_opts)]
        return _no_such("option", problem.option_name, [name for name in options if name.startswith("--")])
    message: str = problem.format_message()
    return UsageError(message[:1].lower() + message[1:].rstrip("."))


def _no_such(kind: str, name: str, names: Iterable[str]) -> UsageError:
    from charrnn.system.spelling import close_names

    near = close_names(name, names)
    return UsageError(
        f"there is no {kind} {name or repr(name)}", f"did you mean {' or '.join(near)}?" if near else ""
    )


class _Plain:
    """Common to the commands and their group: fast conversion of values, plain help."""

    params: list[Any]
    callback: Callable[..., Any] | None

    def get_params(self, ctx: Any) -> list[Any]:
        """Make each parameter convert its value to the type that the command's function declares."""
        hints = get_type_hints(inspect.unwrap(self.callback)) if self.callback else {}
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            members = get_args(hints.get(param.name)) or (hints.get(param.name),)
            kind = next((number for number in _NUMBERS if number in members), None)
            param.process_value = _converter(param, kind)
        return params

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; --help and --version print here."""
        try:
            parsed: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        except OSError as problem:
            raise writing_failed(problem) from None
        return parsed

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        arguments = [p.metavar for p in self.params if p.param_type_name == "argument"]
        return [*arguments, "[OPTIONS]"]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options under their headings, aligned across all groups."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if param.hidden:
                continue
            argument = param.param_type_name == "argument"
            heading = getattr(param, "rich_help_panel", None) or ("Arguments" if argument else "Options")
            groups.setdefault(heading, []).append((_names(param), param.help or ""))
        self.write_groups(formatter, groups)

    def write_groups(self, formatter: Any, groups: dict[str, list[tuple[str, str]]]) -> None:
        width = max(len(names) for rows in groups.values() for names, _ in rows)
        for heading, rows in groups.items():
            with formatter.section(heading):
                formatter.write_dl([(names.ljust(width), text) for names, text in rows])


class _Command(_Plain, TyperCommand):
    """A command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Add the omitted value of --novel: Typer does not support options with optional values."""
        names = {name for param in self.params if not getattr(param, "is_flag", False) for name in param.opts}
        words, is_value = list(args), False
        for at, word in enumerate(args):
            if word == "--" and not is_value:
                break
            alone = not "".join(args[at + 1 : at + 2]).isdigit()
            if word == "--novel" and word in names and not is_value and alone:
                words[at] = "--novel=lines"
            else:
                is_value = word in names and not is_value
        rest = super().parse_args(ctx, words)
        if not ctx.resilient_parsing:
            _refuse_repeats(ctx.meta[_ORDER])
        return rest

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Two examples, and where to read on."""
        super().format_epilog(ctx, formatter)
        guide = GUIDES.get(ctx.command_path.partition(" ")[2])
        if guide is not None:
            with formatter.section("Examples"):
                for example in guide.examples:  # as they are: one may copy them
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")
            formatter.write(f"\nMore: docs/{guide.page}\n")

    def make_parser(self, ctx: Any) -> Any:
        """Make the parser record the options given, in their order, with repetitions.

        It takes `-:2`, standard input with a share, for no option.
        """
        parser: Any = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_args(args: list[str]) -> Any:
            values, rest, order = parse([_MARK + word if word.startswith("-:") else word for word in args])
            ctx.meta[_ORDER] = order
            return {name: _unmarked(value) for name, value in values.items()}, _unmarked(rest), order

        parser.parse_args = parse_args
        return parser


_ORDER = "charrnn.order"
_MARK = "\0"  # which no argument holds


def _unmarked(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_unmarked(part) for part in value]
    return value.removeprefix(_MARK) if isinstance(value, str) else value


def _refuse_repeats(given: list[Any]) -> None:
    for param, times in Counter(given).items():
        single = param.param_type_name == "option" and not (param.multiple or param.is_flag)
        if single and times > 1 and _ONCE.search(param.metavar or "") and param.name not in _WRITTEN_TO:
            often = "twice" if times == 2 else f"{times} times"
            raise UsageError(f"{_long_name(param)} is given {often}", "give it once")


class _Commands(Mapping[str, Any]):
    """The commands of a group by their names, each imported and built when it is looked up."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _made(name, *self._places[name])
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def helps(self) -> list[tuple[str, str]]:
        """Each name, and what it says of itself in a line."""
        return [(name, help) for name, (_, help) in self._places.items()]


class _Group(_Plain, TyperGroup):
    """The group of all commands, or of some."""

    commands: Any  # _Commands

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["COMMAND", "..."]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first of `args` names."""
        known = self.get_command(ctx, args[0]) is not None
        if known or ctx.resilient_parsing or args[0].startswith("-"):
            return super().resolve_command(ctx, args)
        raise _no_such("command", args[0], self.commands)

    def write_groups(self, formatter: Any, groups: dict[str, list[tuple[str, str]]]) -> None:
        super().write_groups(formatter, {"Commands": self.commands.helps(), **groups})


def _names(param: Any) -> str:
    """`-o, --out PATH`, `--norm/--no-norm`, `CORPUS...`"""
    if param.param_type_name == "argument":
        return str(param.metavar)
    names = ", ".join(sorted(param.opts, key=len))
    if param.secondary_opts:
        names += "/" + param.secondary_opts[0]
    return f"{names} {param.metavar}" if param.metavar else names


def _long_name(param: Any) -> str:
    return str(param.metavar if param.param_type_name == "argument" else param.opts[-1])


def _converter(param: Any, kind: type | None) -> Callable[[Any, Any], Any]:
    def process_value(ctx: Any, value: Any) -> Any:
        if kind is not None and isinstance(value, str):
            try:
                value = kind(value)
            except ValueError:
                message = f"{_long_name(param)} is {value!r}: give {_NUMBERS[kind]}"
                raise UsageError(message) from None
        if not ctx.resilient_parsing:
            values = value if isinstance(value, (list, tuple)) else [value]
            if "" in values and _PATH.search(param.metavar or ""):
                raise UsageError(f"{_long_name(param)} is an empty path", "name a file")
            if param.required and not value:
                raise UsageError(f"{param.metavar} is missing", _MISSING[param.metavar])
        return param.callback(ctx, param, value) if param.callback else value

    return process_value


def _print_version(ctx: typer.Context, wanted: bool) -> None:
    if not wanted:
        return
    if ctx.params.get("json_lines"):
        from charrnn import api
        from charrnn.cli.wording import json_line

        typer.echo(json_line(api.versions()))
    else:
        typer.echo(f"charrnn {charrnn.__version__}")
    raise typer.Exit


def _program(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version),
    ] = False,
    json_lines: Annotated[
        bool,
        typer.Option("--json", help="With --version: what it runs on, as JSON.", is_eager=True),
    ] = False,
) -> None:
    if json_lines:
        raise UsageError("--json stands before the command", "give it behind, or --version --json")


def _group(name: str | None, options: Callable[..., None], places: Places, help: str, epilog: str) -> Any:
    """A group of commands, with the options that stand before their names. Only the whole has no name."""
    app = typer.Typer(
        cls=_Group,
        name=name,
        help=help,
        short_help=help,
        epilog=epilog,
        no_args_is_help=True,
        add_completion=name is None,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=_HELP_OPTIONS,
    )
    app.callback()(options)
    group: Any = typer.main.get_command(app)
    group.commands = _Commands(places)
    return group


def _made(name: str, place: Place, help: str) -> Any:
    """The command of this name, or the group of commands."""
    if not isinstance(place, str):
        epilog = f"'charrnn help {name} COMMAND' shows the options of a command."
        return _group(name, lambda: None, place, help, epilog)
    module, _, function = place.partition(":")
    app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
    add = app.command(
        name,
        cls=_Command,
        short_help=help,
        epilog="A default stands in [brackets].",
        context_settings=_HELP_OPTIONS,
    )
    add(getattr(import_module(f"charrnn.cli.commands.{module}"), function))
    return typer.main.get_command(app)


@functools.cache
def program() -> Any:
    """All of the command line, as Click has it."""
    return _group(
        None,
        _program,
        COMMANDS,
        "Learns to write like a text file, on the CPU you have.",
        "'charrnn help COMMAND' shows the options of a command.",
    )
