"""`charrnn restore`, `tag` and `rewrite`: filters by networks that read a whole line before they answer."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charrnn.cli import together, wording
from charrnn.cli.options import Encoding, EncodingErrors, Files, Json, ModelPath, Nul, Threads
from charrnn.cli.process import Output, say
from charrnn.config import TextConfig

if TYPE_CHECKING:
    from charrnn.cli.views.alignment import Picture
    from charrnn.tasks.reading.rewrite import LineRewritings, Rewriting

MOST_DRAWN = 100  # lines of a picture


def restore(
    files: Files = None,
    model: ModelPath = None,
    redo: Annotated[
        bool, typer.Option("--redo", help="Choose anew what a text has already, too [keep it].")
    ] = False,
    encoding: Encoding = None,
    encoding_errors: EncodingErrors = None,
    nul: Nul = False,
    threads: Threads = None,
    json_lines: Json = False,
) -> None:
    """Write texts with what they have lost, and the model puts back: accents, case, spaces, punctuation."""
    from charrnn import api
    from charrnn.cli import undecoded

    checkpoint = api.load(model)
    output = Output(errors="surrogateescape")
    reading = _reading(encoding, encoding_errors, nul)
    results = api.restored(
        checkpoint,
        files or ["-"],
        redo=redo,
        threads=together.threads(threads),
        before_waiting=output.flush,
        **reading,
    )
    text = checkpoint.text
    for lines in undecoded.with_notice(results, text.of_commands(encoding, encoding_errors), text):
        for line in lines:
            if json_lines:
                values = {
                    "text": wording.json_text(line.text, False),
                    "confidence": line.confidence,
                    "file": line.file,
                    "number": line.number,
                    **({"continues": True} if line.continues else {}),
                }
                output.write(json.dumps(values) + "\n")
            else:
                output.write(line.text + line.end)
    output.flush()


def tag(
    files: Files = None,
    model: ModelPath = None,
    encoding: Encoding = None,
    encoding_errors: EncodingErrors = None,
    nul: Nul = False,
    threads: Threads = None,
    json_lines: Json = False,
) -> None:
    """Tag each character of each line: the line, a tab, its tags."""
    from charrnn import api
    from charrnn.cli import undecoded

    checkpoint = api.load(model)
    reading = _reading(encoding, encoding_errors, nul)
    output = Output(errors="surrogateescape")
    found = api.tagged(
        checkpoint, files or ["-"], probable=json_lines, threads=together.threads(threads),
        before_waiting=output.flush, **reading,
    )  # fmt: skip
    joint = " " if checkpoint.text.targets == "words" else ""
    cut = 0
    for lines in undecoded.with_notice(found, checkpoint.text.of_commands(**reading), checkpoint.text):
        for line in lines:
            cut += line.cut
            if json_lines:
                values: dict[str, Any] = {
                    "line": wording.json_text(line.text, False),
                    "tags": line.tags,
                    "probabilities": line.probabilities,
                    "file": line.file,
                    "number": line.number,
                }
                output.write(json.dumps(values | ({"cut": True} if line.cut else {})) + "\n")
            elif line.text:
                output.write(wording.row_end(f"{line.text}\t{joint.join(line.tags)}", TextConfig(), nul))
            else:
                output.write(wording.row_end("", TextConfig(), nul))
    output.flush()
    _say_cut(cut, "tagged")


def rewrite(
    files: Files = None,
    model: ModelPath = None,
    beam: Annotated[int, typer.Option(metavar="N", help="Beginnings kept of each target [5].")] = 5,
    count: Annotated[
        int | None,
        typer.Option("-n", "--count", metavar="N", help="The N best, with log-probabilities [1]."),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(metavar="N", help="Characters or words at most [20 + 2 x the line's]."),
    ] = None,
    align: Annotated[bool, typer.Option("--align", help="Show which character each part came from.")] = False,
    svg: Annotated[
        str | None, typer.Option(metavar="PATH", help="Draw the attention of each best target.")
    ] = None,
    encoding: Encoding = None,
    encoding_errors: EncodingErrors = None,
    nul: Nul = False,
    threads: Threads = None,
    json_lines: Json = False,
) -> None:
    """Rewrite each line: the line, a tab, what it becomes."""
    from charrnn import api
    from charrnn.cli import undecoded
    from charrnn.system.file_errors import refuse_overwriting
    from charrnn.text.files.sources import find

    paths: list[str] = files or ["-"]
    if svg is not None and svg != "-":
        read = [("what is read", source.file) for source in find(paths)]
        refuse_overwriting(Path(svg), [*read, ("the model", api.model_path(model))], "--svg")
    checkpoint = api.load(model)
    reading = _reading(encoding, encoding_errors, nul)
    output = Output(errors="surrogateescape")
    results = api.rewritten(
        checkpoint, paths, beam=beam, count=1 if count is None else count, length=length,
        align=align or svg is not None,
        before_waiting=output.flush, threads=together.threads(threads), **reading,
    )  # fmt: skip
    joint = " " if checkpoint.text.targets == "words" else ""
    pictures: list[Picture] = []
    cut = left = 0
    for lines in undecoded.with_notice(results, checkpoint.text.of_commands(**reading), checkpoint.text):
        for line in lines:
            cut += line.cut
            if svg is not None and line.rewritings:
                from charrnn.cli.views.alignment import Picture

                left += len(pictures) == MOST_DRAWN
                best = line.rewritings[0]
                pictures += islice(
                    [Picture(line.source, best.tokens, best.weights.tolist())], MOST_DRAWN - len(pictures)
                )
            if svg == "-":
                continue
            if json_lines:
                output.write(json.dumps(_as_json(line, joint, align=align)) + "\n")
            else:
                rows = _rows(line, joint, figures=count is not None, align=align)
                output.write("".join(wording.row_end(row, TextConfig(), nul) for row in rows))
    if svg is not None:
        _draw(pictures, svg, output)
    output.flush()
    _say_cut(cut, "rewritten")
    if left:
        say(f"note: the picture has the first {MOST_DRAWN} lines")


def _reading(encoding: str | None, encoding_errors: Any, nul: bool) -> dict[str, Any]:
    return {"encoding": encoding, "encoding_errors": encoding_errors, "nul": nul}


def _say_cut(cut: int, what: str) -> None:
    if cut:
        say(f"note: of {wording.count(cut)} very long line{'s' * (cut > 1)} only the beginning is {what}")


def _rows(line: LineRewritings, joint: str, *, figures: bool, align: bool) -> list[str]:
    """A row for each target: the line, the target and, if wanted, log-probability and alignment."""
    rows = []
    for found in line.rewritings:
        columns = [line.text, joint.join(found.tokens)]
        columns += [f"{found.log_probability:.4f}"] * figures
        if align:
            columns.append(_aligned(line.source, found))
        rows.append("\t".join(columns))
    return rows or [line.text]


def _aligned(source: str, found: Rewriting) -> str:
    """DH/t EH/e R/r: each part of the target, and the character that it came from."""
    places = zip(found.tokens, found.alignment, strict=True)
    return " ".join(f"{token}/{source[place]}" for token, place in places)


def _as_json(line: LineRewritings, joint: str, *, align: bool) -> dict[str, Any]:
    targets = []
    for found in line.rewritings:
        values: dict[str, Any] = {
            "target": joint.join(found.tokens),
            "log_probability": wording.json_number(found.log_probability),
        }
        targets.append(values | ({"alignment": found.alignment} if align else {}))
    result = {
        "line": wording.json_text(line.text, False),
        "target": targets[0]["target"] if targets else None,
        "targets": targets,
        "file": line.file,
        "number": line.number,
    }
    return result | ({"cut": True} if line.cut else {})


def _draw(pictures: list[Picture], path: str, output: Output) -> None:
    from charrnn.cli.views import alignment
    from charrnn.system import atomic
    from charrnn.system.file_errors import writing

    pieces = alignment.svg(pictures)
    if path == "-":
        output.write_all(pieces)
        return
    with writing(Path(path), "--svg"):
        atomic.write(Path(path), (piece.encode() for piece in pieces))
