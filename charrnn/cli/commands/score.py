"""`charrnn score`: how surprising lines are to a model, or with `--heat` each character."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charrnn.cli import models, together, wording
from charrnn.cli.options import Encoding, EncodingErrors, Files, Json, ModelPath, Nul, Threads, UnknownBits
from charrnn.cli.process import Output, say
from charrnn.cli.views import heat as heat_view
from charrnn.config import UNKNOWN_BITS, TextConfig
from charrnn.errors import ConfigError

if TYPE_CHECKING:
    from charrnn.scoring.surprisal import LineScore

_heat_option = partial(typer.Option, rich_help_panel="Heat")


def score(
    files: Files = None,
    model: ModelPath = None,
    label: models.OneLabel = None,
    top: Annotated[
        int | None, typer.Option(metavar="N", help="Only the N most surprising lines, these first.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(metavar="X", help="Only lines of more than X bits a character.")
    ] = None,
    total: Annotated[bool, typer.Option("--total", help="One figure for all lines.")] = False,
    unknown_bits: UnknownBits = UNKNOWN_BITS,
    precision: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="bfloat16: rounded numbers, sooner [float32]."),
    ] = None,
    adaptive: Annotated[
        bool, typer.Option("--adaptive", help="Learn from each line once it was scored.")
    ] = False,
    cache: models.Cache = None,
    encoding: Encoding = None,
    encoding_errors: EncodingErrors = None,
    nul: Nul = False,
    threads: Threads = None,
    json_lines: Json = False,
    heat: Annotated[
        bool, _heat_option("--heat", help="Show the text, each character by its surprise.")
    ] = False,
    html: Annotated[str | None, _heat_option(metavar="PATH", help="Write it as a web page.")] = None,
    svg: Annotated[str | None, _heat_option(metavar="PATH", help="Write it as a picture.")] = None,
    color: Annotated[
        str,
        _heat_option(
            metavar="auto|always|never", help="Colours in the terminal [auto].", callback=heat_view.color
        ),
    ] = "auto",
) -> None:
    """Say of each line how surprising it is: bits a character, a tab, the line."""
    paths: list[str] = files or ["-"]
    wanted = [name for name, given in (("--top", top), ("--threshold", threshold)) if given is not None]
    if total:
        wanted.append("--total")
    if len(wanted) > 1 and total:
        raise ConfigError(f"{wanted[0]} and --total contradict each other", "give one of them")
    if top is not None and top < 1:
        raise ConfigError(f"top is {top}", "give a whole number from 1 up")
    if threshold is not None and not math.isfinite(threshold):
        raise ConfigError(f"threshold is {threshold}", "give a number, such as 4.5")
    reading: dict[str, Any] = {"encoding": encoding, "encoding_errors": encoding_errors, "nul": nul}
    if heat or html or svg:
        if precision is not None:
            wanted.append("--precision")
        if json_lines:
            wanted.append("--json")
        if wanted:
            raise ConfigError(f"{wanted[0]} is about lines, --heat about characters", "give one of them")
        measure = {"unknown_bits": unknown_bits, "adaptive": adaptive, "threads": threads}
        _heat(paths, (model, label, cache), measure, heat_view.Wanted(html, svg, color), reading)
        return

    from charrnn import api
    from charrnn.cli import undecoded

    checkpoint = models.of_one_label(api.load(model), label, cache)
    text = checkpoint.text.of_commands(**reading)
    raw = checkpoint.text.bytes
    output = Output(raw_bytes=raw and not json_lines, errors="surrogateescape")
    chosen: dict[str, Any] = {"precision": precision} if precision is not None else {}
    chosen |= {"adaptive": adaptive, "threads": together.threads(threads)}
    scores = api.score_lines(
        checkpoint, paths, unknown_bits=unknown_bits, before_waiting=output.flush, text=text, **chosen
    )
    scores = undecoded.with_notice(scores, text, checkpoint.text)
    if total:
        output.write_all([_total(scores, json_lines)])
        return
    cut = 0
    if threshold is not None:
        least = threshold
        scores = ([line for line in lines if _surprise(line) > least] for lines in scores)
    if top is not None:
        scores = iter([_most_surprising(scores, top)])
    for lines in scores:
        rows = (_as_json(line, raw) if json_lines else _as_text(line, text, nul) for line in lines)
        output.write("".join(rows))
        cut += sum(line.cut for line in lines)
    output.flush()
    if cut:
        lines_are = "lines are" if cut > 1 else "line is"
        say(f"note: {wording.count(cut)} very long {lines_are} shown in part, and scored whole")


def _surprise(line: LineScore) -> float:
    """Bits a character, for comparing lines: -inf if there is no figure, inf for NaN."""
    if line.bpc is None:
        return -math.inf
    return line.bpc if line.bpc == line.bpc else math.inf  # NaN: the network's activations overflowed


def _as_text(line: LineScore, text: TextConfig, nul: bool) -> str:
    figure = "" if line.bpc is None else f"{line.bpc:.4f}"
    return f"{figure}\t{wording.row_end(line.text, text, nul)}"


def _as_json(line: LineScore, raw_bytes: bool) -> str:
    values: dict[str, Any] = {
        "bpc": wording.json_number(line.bpc),
        "bits": wording.json_number(line.bits),
        "characters": line.characters,
        "unknown": line.unknown,
        "file": line.file,
        "number": line.number,
        "line": wording.json_text(line.text, raw_bytes),
    }
    if line.cut:
        values["cut"] = True
    return json.dumps(values) + "\n"


def _most_surprising(scores: Iterator[list[LineScore]], count: int) -> list[LineScore]:
    """The `count` lines with the most bits a character, in descending order; of equals the earlier first."""
    heap: list[tuple[float, int, LineScore]] = []
    index = 0
    for lines in scores:
        for line in lines:
            bpc = _surprise(line)
            if bpc == -math.inf:
                continue
            index -= 1
            if len(heap) < count:
                heapq.heappush(heap, (bpc, index, line))
            elif bpc > heap[0][0]:
                heapq.heapreplace(heap, (bpc, index, line))
    return [line for _, _, line in sorted(heap, key=lambda item: item[:2], reverse=True)]


def _total(scores: Iterator[list[LineScore]], json_lines: bool) -> str:
    """One line about all of them."""
    bits, characters, unknown, count = 0.0, 0, 0, 0
    for lines in scores:
        for line in lines:
            if line.bits is None:
                continue
            bits += line.bits
            characters += line.characters
            unknown += line.unknown
            count += 1
    bpc = bits / characters if characters else 0.0
    if not json_lines:
        return f"{bpc:.4f}\n"
    values = {
        "bpc": wording.json_number(bpc),
        "bits": wording.json_number(bits),
        "characters": characters,
        "unknown": unknown,
        "lines": count,
    }
    return json.dumps(values) + "\n"


def _heat(
    paths: list[str], model: tuple[str | None, list[str] | None, str | None], measure: dict[str, Any],
    wanted: heat_view.Wanted, reading: dict[str, Any],
) -> None:  # fmt: skip
    """`model` is its path, the labels that were given, and the cache."""
    from charrnn import api
    from charrnn.cli import undecoded
    from charrnn.scoring import heatmap

    def texts() -> Iterator[heatmap.Piece]:
        text = checkpoint.text.of_commands(**reading)
        notice = undecoded.Notice(text, checkpoint.text)
        found = api.surprises(checkpoint, paths, before_waiting=output.flush, text=text, **measure)
        for name, piece, bits in found:
            notice.check(piece, name)
            yield name, piece, bits.tolist()

    model_path = api.model_path(model[0])
    heat_view.check(wanted, paths, model_path)
    checkpoint = models.of_one_label(api.load(model_path), *model[1:])
    output = Output(colored=True)
    heat_view.show(texts(), heatmap.SURPRISE, wanted, output)
