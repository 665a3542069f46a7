"""`charrnn sample`: text from a model to stdout, as it is generated."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charrnn.cli import models, wording
from charrnn.cli.options import (
    Encoding,
    EncodingErrors,
    Json,
    Nul,
    OnUnknown,
    Precision,
    Threads,
    filter_options,
    with_options,
)
from charrnn.cli.process import Output, say
from charrnn.cli.prompts import Prompts, argument, from_stdin
from charrnn.config import DEFAULT_SAMPLE_LENGTH, WRITING_STRENGTH, TextConfig
from charrnn.errors import ConfigError, quoted

if TYPE_CHECKING:
    from charrnn import api

MOST_TEXTS = 10**12
_what = partial(typer.Option, rich_help_panel="What it may be")
RECORDS_AT_ONCE = 10  # from a model of records without --count


@with_options("filters", filter_options())
def sample(
    model: models.Models = None,
    label: models.Labels = None,
    strength: models.WritingStrength = None,
    prompt: Annotated[str, typer.Option(metavar="TEXT|-", help="Go on from this text; -: from stdin.")] = "",
    prompts: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Go on from each line of a file, in its order.")
    ] = None,
    prompts_json: Annotated[
        str | None,
        typer.Option(metavar="FILE|-", help='The same; a line is "text" or {"prompt", "seed"}.'),
    ] = None,
    echo: Annotated[
        bool, typer.Option("--echo/--no-echo", help="Write the prompt first [--no-echo].")
    ] = False,
    length: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--length",
            metavar="N",
            help=f"Characters a text at the most [{DEFAULT_SAMPLE_LENGTH}, or a record].",
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(metavar="N", help=f"How many texts [1; {RECORDS_AT_ONCE} if the model's texts end]."),
    ] = None,
    best_of: Annotated[
        int, typer.Option(metavar="N", help="Of N texts, the one that surprises least [1].")
    ] = 1,
    until: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Stop once this has been written; repeatable."),
    ] = None,
    drop_until: Annotated[
        bool, typer.Option("--drop-until", help="Leave out the text of --until that came.")
    ] = False,
    filters: Any = None,
    match: Annotated[str | None, _what(metavar="REGEX", help="Write only what matches as a whole.")] = None,
    exact: Annotated[bool, _what("--exact", help="As probable as the model says, not step by step.")] = False,
    ban: Annotated[list[str] | None, _what(metavar="TEXT", help="Never write this; repeatable.")] = None,
    only: Annotated[str | None, _what(metavar="CHARS", help="Write only these characters.")] = None,
    novel: Annotated[
        str | None, _what(metavar="[N]", help="No line of the training text, or no run of N.")
    ] = None,
    unique: Annotated[bool, _what("--unique", help="No text twice.")] = False,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="The same seed, the same text [a new one].")
    ] = None,
    index: Annotated[
        int | None, typer.Option(metavar="N", help="Begin with text N of the seed, from 0 on [0].")
    ] = None,
    adaptive: Annotated[
        bool, typer.Option("--adaptive", help="Learn from prompts, or what is accepted.")
    ] = False,
    cache: models.Cache = None,
    fix: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER:UNIT=X", help="Hold a unit at this value; repeatable."),
    ] = None,
    precision: Precision = "float32",
    on_unknown: OnUnknown = "error",
    nul: Nul = False,
    json_lines: Json = False,
    encoding: Encoding = None,
    encoding_errors: EncodingErrors = None,
    threads: Threads = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Write by hand, with the model's offers in view.")
    ] = False,
) -> None:
    """Write new text with a model. The text goes to stdout and nothing else does."""
    for name, value in (("count", count), ("best-of", best_of)):
        if value is not None and not 1 <= value <= MOST_TEXTS:
            raise ConfigError(f"{name} is {quoted(value)}", f"give a whole number from 1 to {MOST_TEXTS}")
    if index is not None and not 0 <= index <= MOST_TEXTS:
        raise ConfigError(f"index is {quoted(index)}", f"give a whole number from 0 to {MOST_TEXTS}")
    sources = {"--prompt": prompt or None, "--prompts": prompts, "--prompts-json": prompts_json}
    named = [name for name, value in sources.items() if value is not None]
    if len(named) > 1:
        raise ConfigError(f"{named[0]} and {named[1]} are both given", "give one of them")
    if index is not None and (prompts, prompts_json) != (None, None):
        raise ConfigError(f"--index counts the texts of one prompt, {named[0]} has several", "give --prompt")
    if nul and json_lines:
        raise ConfigError("-0 and --json contradict each other", "give one of them")
    if interactive:
        chance = (
            prompts, prompts_json, length, count, until, match, ban, only, novel, seed, index, encoding,
            encoding_errors, threads,
        )  # fmt: skip
        switched = prompt == "-" or echo or best_of > 1 or exact or unique or drop_until or json_lines or nul
        if switched or filters or any(value is not None for value in chance):
            raise ConfigError(
                "--interactive is given with an option for texts that are drawn by chance",
                "it goes with --model, --prompt TEXT, --adaptive, --cache, --fix, --precision, --on-unknown",
            )
        from charrnn.cli import interaction

        loaded = models.load(model, label, strength, cache, fix)
        interaction.write_by_hand(loaded, prompt, on_unknown, precision, adaptive=adaptive)
        return
    if adaptive and (prompts, prompts_json) == (None, None):
        raise ConfigError(
            "--adaptive learns from texts that are given one by one", "add --prompts FILE, or --interactive"
        )
    from charrnn import api

    by_prompt = label is None and (prompts, prompts_json) != (None, None)  # if the model knows labels
    checkpoint = models.load(model, label, None if by_prompt else strength, cache, fix)
    if by_prompt and strength is not None and not getattr(checkpoint, "columns", ()):
        raise models.no_label_to_lead()
    text = checkpoint.text.of_commands(encoding, encoding_errors)
    given = from_stdin(text, checkpoint.text) if prompt == "-" else argument(prompt, text)
    alone = bool(given) or index is not None or prompts is not None or prompts_json is not None
    if count is None:
        count = RECORDS_AT_ONCE if text.records and not alone else 1
    settings: dict[str, Any] = {
        "seed": seed,
        "length": length,
        "precision": precision,
        "until": tuple(argument(stop, text) for stop in until or ()),
        "drop_until": drop_until,
        "match": None if match is None else argument(match, text),
        "exact": exact,
        "ban": tuple(argument(banned, text) for banned in ban or ()),
        "only": None if only is None else argument(only, text),
        "novel": None if novel is None else _novel(novel),
        "unique": unique,
    }
    settings = {name: value for name, value in settings.items() if value is not None}
    settings |= filters | {"count": count, "best_of": best_of, "on_unknown": on_unknown, "echo": echo}
    settings["threads"] = threads
    # The figure costs a second reading, which lines and prose, whose output is older, do without.
    settings["rated"] = json_lines and text.split is not None
    output = Output(raw_bytes=text.bytes and not json_lines)
    file = prompts if prompts_json is None else prompts_json
    if file is not None:
        lines = Prompts(file, text, checkpoint.text, output.flush, in_json=prompts_json is not None)
        led = WRITING_STRENGTH if strength is None else strength
        texts = api.sample_each(checkpoint, lines.take, strength=led, adaptive=adaptive, **settings)
    else:
        texts = api.sample(checkpoint, given, first=index or 0, **settings)
    if seed is None and filters.get("temperature") != 0 and sys.stderr is not None and sys.stderr.isatty():
        say(f"seed {texts.seed} (--seed {texts.seed} writes this again)")
    cut = 0
    for number, written in enumerate(texts):
        if json_lines:
            output.write(_as_json(written, text, label))
        else:
            _write(output, written, text, "\0" if nul else text.separator, first=number == 0)
        cut += written.cut
    output.flush()
    if cut and text.split is not None:
        texts_are = "texts are" if cut > 1 else "text is"
        say(f"note: {wording.count(cut)} {texts_are} cut short: a greater --length lets them end")


def _write(output: Output, written: api.Written, text: TextConfig, separator: str, *, first: bool) -> None:
    """Write a text and, after it, the separator; without one, an empty line between two texts of prose."""
    if not (first or separator or text.lines):
        output.write("\n")
    end = ""
    for piece in written:
        output.write(piece.removesuffix("\n") if separator and text.lines else piece)
        end = piece or end
    if separator:
        output.write(separator)
    elif not end.endswith("\n"):
        output.write("\n")  # for `wc`, `fmt` and the shell's prompt, which expect complete lines


def _as_json(written: api.Written, text: TextConfig, labels: list[str] | None) -> str:
    whole = "".join(written)
    if text.lines:
        whole = whole.removesuffix("\n")
    values: dict[str, Any] = {
        "text": wording.json_text(whole, text.bytes),
        "seed": written.seed,
        "index": written.index,
    }
    if written.bits_per_character is not None and text.split is not None:
        values["bits_per_character"] = wording.json_number(written.bits_per_character)
        values |= {"cut": True} if written.cut else {}
    label = written.label or (labels[0] if labels and len(labels) == 1 else labels)
    values |= {"label": label} if label else {}
    return wording.json_line(values) + "\n"


def _novel(value: str) -> bool | int:
    """The value of --novel: N, or "lines", which the parser adds if none was given."""
    try:
        return value == "lines" or int(value)
    except ValueError:
        raise ConfigError(f"novel is {quoted(value)}", "give a whole number, or nothing") from None
