"""`charrnn neurons`: which units of a network follow what in a text, and what one of them does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charrnn.cli import wording
from charrnn.cli.options import Encoding, EncodingErrors, Json, ModelPath, OnUnknown, Threads
from charrnn.cli.process import Output, say
from charrnn.cli.views import heat
from charrnn.cli.views.looking import neurons as view
from charrnn.cli.views.meter import Meter
from charrnn.config import RANKED_CHARACTERS
from charrnn.errors import ConfigError

if TYPE_CHECKING:
    from charrnn.checkpoint.model_file import Checkpoint
    from charrnn.scoring import heatmap

TOP = 10  # units, of each layer where nothing is looked for


def neurons(
    corpus: Annotated[
        list[str],
        typer.Argument(metavar="CORPUS...", help="Text files, folders, .gz files, or - for stdin."),
    ],
    model: ModelPath = None,
    find: Annotated[
        str | None,
        typer.Option(metavar="REGEX|NAME", help="Rank units by how well they tell its matches."),
    ] = None,
    top: Annotated[
        int | None, typer.Option(metavar="N", help=f"Show N units, 0: all [{TOP}, of each layer].")
    ] = None,
    characters: Annotated[
        int | None,
        typer.Option(metavar="N", help=f"Read no more [{RANKED_CHARACTERS:,}; all with --unit]."),
    ] = None,
    unit: Annotated[
        str | None, typer.Option(metavar="LAYER:UNIT", help="Show the text in the colours of one unit.")
    ] = None,
    html: Annotated[str | None, typer.Option(metavar="PATH", help="Write it as a web page.")] = None,
    svg: Annotated[str | None, typer.Option(metavar="PATH", help="Write it as a picture.")] = None,
    color: Annotated[
        str,
        typer.Option(
            metavar="auto|always|never", help="Colours in the terminal [auto].", callback=heat.color
        ),
    ] = "auto",
    on_unknown: OnUnknown = "error",
    encoding: Encoding = None,
    encoding_errors: EncodingErrors = None,
    threads: Threads = None,
    json_lines: Json = False,
) -> None:
    """List the units of a network by how selective they are, or show what one of them does.

    NAME is quotes, brackets, words, capitals, digits, indentation or line-position.
    """
    if unit is None and (html or svg):
        raise ConfigError("--html and --svg show one unit", "say which, with --unit 1:37")
    if unit is not None and (find is not None or top is not None):
        name = "--find" if find is not None else "--top"
        raise ConfigError(f"{name} ranks units, and --unit shows one", "give one of them")
    if json_lines and (html or svg):
        raise ConfigError("--json and --html or --svg are given", "give one of them")
    if top is not None and top < 0:
        raise ConfigError(f"top is {top}", "give a whole number from 0 up")
    from charrnn import api

    path = api.model_path(model)
    wanted = heat.Wanted(html, svg, color)
    heat.check(wanted, corpus, path)
    loaded = api.load(path)
    reading: dict[str, Any] = {
        "text": loaded.text.of_commands(encoding, encoding_errors),
        "on_unknown": on_unknown,
        "threads": threads,
    }
    if unit is not None:
        _show_unit(loaded, corpus, unit, reading | {"most": characters}, wanted, json_lines)
        return
    most = RANKED_CHARACTERS if characters is None else characters
    with Meter() as meter:
        ranking = api.rank_units(
            loaded, corpus, find=find, most=most, report=lambda n: meter(f"{wording.count(n)} characters"),
            **reading,
        )  # fmt: skip
    if not ranking.is_all:
        first = wording.count(most)
        say(f"note: these are figures of the first {first} characters: --characters N reads more")
    every = top == 0 or (json_lines and top is None)
    shown = view.chosen(ranking, None if every else TOP if top is None else top)
    output = Output()
    if json_lines:
        output.write_all(wording.json_line(view.figures(found, loaded.text.bytes)) + "\n" for found in shown)
    else:
        output.write_all(line + "\n" for line in view.table(ranking, shown, loaded.config))


def _show_unit(
    model: Checkpoint, paths: list[str], unit: str, reading: dict[str, Any], wanted: heat.Wanted,
    json_lines: bool,
) -> None:  # fmt: skip
    """The text, and the unit's value after each character."""
    from charrnn import api
    from charrnn.cli import undecoded

    notice = undecoded.Notice(reading["text"], model.text)
    output = Output(colored=not json_lines)
    found = api.watch_unit(
        model, paths, unit, expects=wanted.html is not None, before_waiting=output.flush, **reading
    )

    def pieces() -> Iterator[heatmap.Piece]:
        for name, text, values, notes in found:
            notice.check(text, name)
            yield (name, text, values, notes) if notes else (name, text, values)

    if json_lines:
        for name, text, values, *_ in pieces():
            shown = {"unit": unit, "file": name, "text": wording.json_text(text, model.text.bytes)}
            rounded = {"values": [round(value, 4) for value in values]}
            output.write(wording.json_line(shown | rounded) + "\n")
        output.flush()
        return
    from charrnn.scoring import heatmap

    heat.show(pieces(), heatmap.values_of(unit, view.measure(model.config)), wanted, output)
