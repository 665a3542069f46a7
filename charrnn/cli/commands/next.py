"""`charrnn next`: what a model expects after a prompt."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from charrnn.cli import models, wording
from charrnn.cli.options import Encoding, EncodingErrors, Json, OnUnknown
from charrnn.cli.process import Output
from charrnn.cli.prompts import argument, from_stdin
from charrnn.config import TextConfig
from charrnn.errors import ConfigError

_BAR = 40  # columns of the bar for probability 1
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def next_(
    prompt: Annotated[
        str, typer.Argument(metavar="[PROMPT]", help="The text before it; -: from stdin [none].")
    ] = "",
    model: models.Models = None,
    label: models.Labels = None,
    strength: models.Strength = 1.0,
    top: Annotated[int, typer.Option(metavar="N", help="How many characters; 0: all [10].")] = 10,
    temp: Annotated[
        float, typer.Option("--temp", metavar="T", help="Boldness; 1: as the model sees it [1].")
    ] = 1.0,
    cache: models.Cache = None,
    on_unknown: OnUnknown = "error",
    encoding: Encoding = None,
    encoding_errors: EncodingErrors = None,
    json_lines: Json = False,
) -> None:
    """Show which characters a model expects next, and how probable each is."""
    if top < 0:
        raise ConfigError(f"top is {top}", "give a whole number from 0 up")
    from charrnn import api

    checkpoint = models.load(model, label, strength, cache)
    text = checkpoint.text.of_commands(encoding, encoding_errors)
    given = from_stdin(text, checkpoint.text) if prompt == "-" else argument(prompt, text)
    table = api.next_characters(checkpoint, given, temperature=temp, on_unknown=on_unknown)
    rows, others = table[: top or len(table)], table[top or len(table) :]
    output = Output()
    for character, p in rows:
        if json_lines:
            ends = text.split is not None and character == text.end
            shown = None if ends else wording.json_text(character, text.bytes)
            values: dict[str, Any] = {"character": shown}
            if text.bytes and not ends:
                values["byte"] = ord(character)
            values |= {"probability": p, "bits": -math.log2(p) if p > 0 else None}
            output.write(wording.json_line(values) + "\n")
        else:
            output.write(f"{p:.4f}  {_name(character, text):<8}  {_bar(p)}".rstrip() + "\n")
    if others and not json_lines:
        left = sum(p for _, p in others)
        output.write(f"{left:.4f}  {len(others)} more\n")
    output.flush()


def _name(character: str, text: TextConfig) -> str:
    """A character as Python's literal: ' ', '\\n', 'e'; a byte beyond ASCII as 0xC3; a text's end as end."""
    if text.split is not None and character == text.end:
        return "end"
    return f"0x{ord(character):02X}" if text.bytes and not character.isascii() else repr(character)


def _bar(p: float) -> str:
    """A bar of block characters, exact to an eighth of a column."""
    eighths = round(p * _BAR * 8)
    return _EIGHTHS[8] * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
