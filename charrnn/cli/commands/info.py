"""`charrnn info`: what a model is and how it was trained; `charrnn models`: which there are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charrnn.cli import wording
from charrnn.cli.options import PLOT, Json, ModelPath
from charrnn.cli.process import Output, UsageError, say
from charrnn.config import COMMANDS, shown
from charrnn.errors import CharrnnError, decimal, printable, quoted

if TYPE_CHECKING:
    from charrnn.checkpoint.model_file import Checkpoint
    from charrnn.config import TextConfig
    from charrnn.labels import Column

SHOWN_CHARACTERS = 200
SHOWN_EVALUATIONS = 12
SPARK_WIDTH = 40


def info(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="A model file, or a name: the same as -m.")
    ] = None,
    named: ModelPath = None,
    plot: Annotated[str | None, typer.Option(metavar="PATH", help=PLOT)] = None,
    json_lines: Json = False,
) -> None:
    """Show what a model is, its vocabulary, and how it was trained."""
    from charrnn import api
    from charrnn.cli.views import plots

    if model is not None and named is not None:
        raise UsageError("the model is given twice", "give it once")
    path = api.model_path(named if model is None else model)
    if plot is not None:
        plots.check(plot, [("the model", path)])
    checkpoint = api.load(path)
    if plot is not None:
        settings = checkpoint.settings
        validated = settings.get("val_fraction") != 0 or bool(settings.get("val_text"))
        plots.draw(plot, path.stem, checkpoint.history, checkpoint.config, validated=validated)
    shown_path = str(path)
    lines = (
        [wording.json_line(_record(shown_path, checkpoint))] if json_lines else _table(shown_path, checkpoint)
    )
    Output().write_all(line + "\n" for line in lines)


def models(json_lines: Json = False) -> None:
    """List the models that -m takes by name, the newest first.

    They lie in ./checkpoints, in the folders of CHARRNN_MODELS, and in the user's data folder; places and
    english come with the program.
    """
    from charrnn.checkpoint import library, model_file

    rows: list[dict[str, Any]] = []
    for path in library.models():
        try:
            rows.append(_entry(library.name_of(path), path, model_file.glance(path)))
        except CharrnnError as error:  # the others are there nevertheless
            say(f"note: {error.message}")
    lines = map(wording.json_line, rows) if json_lines else _aligned(rows)
    Output().write_all(line + "\n" for line in lines)


def _entry(name: str, path: Path, model: Checkpoint) -> dict[str, Any]:
    about = path.stat()
    return {
        "name": name,
        "path": str(path),
        "kind": model.config.kind,
        "bytes": about.st_size,
        "written": datetime.fromtimestamp(about.st_mtime, UTC).isoformat(timespec="seconds"),
        "parameters": model.config.num_parameters,
        "best_val_loss": model.best_val_loss,
        "text": shown(model.text),
        "characters": len(model.characters),
    }


def _aligned(rows: list[dict[str, Any]]) -> Iterator[str]:
    """name, kind, size, loss, text and path, in columns."""
    cells = [
        (
            printable(row["name"]),
            row["kind"],
            f"{row['bytes'] / 1e6:.1f} MB",
            "-" if row["best_val_loss"] is None else decimal(row["best_val_loss"]),
            f"{row['characters']} characters",
            printable(row["path"]),
        )
        for row in rows
    ]
    header = ("model", "kind", "size", "loss", "text", "file")
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    for row in (header, *cells):
        yield "  ".join(
            cell.rjust(width) if name in ("size", "loss", "text") else cell.ljust(width)
            for name, cell, width in zip(header, row, widths, strict=True)
        ).rstrip()


def _record(path: str, checkpoint: Checkpoint) -> dict[str, Any]:
    best, counts = checkpoint.best_val_loss, _counts(checkpoint)
    return {
        "path": path,
        "model": checkpoint.config.to_dict(),
        "parameters": checkpoint.config.num_parameters,
        "vocabulary": checkpoint.characters,
        "text": shown(checkpoint.text),
        **({"labels": [asdict(column) for column in checkpoint.columns]} if checkpoint.columns else {}),
        **({"counts": counts} if counts else {}),
        "best_val_loss": best,
        "best_val_bpc": None if best is None else best / math.log(2),
        "history": checkpoint.history,
        "settings": checkpoint.settings,
    }


def _counts(checkpoint: Checkpoint) -> dict[str, Any]:
    """What stands beside the network; empty: nothing."""
    if (grams := checkpoint.grams) is not None:
        return {"grams": len(grams.numbers), "bytes": grams.nbytes, "sure": float(grams.sure[0])}
    if checkpoint.counts is None:
        return {}
    counts = checkpoint.counts.counts
    merged = {"merged": True} if counts.is_merged else {}
    return {"order": counts.order, "bytes": counts.nbytes, **merged}


def _table(path: str, checkpoint: Checkpoint) -> list[str]:
    config, text = checkpoint.config, checkpoint.text
    reads = config.kind != "writer"
    layers = f"{config.num_layers} x {config.hidden_size}{' both ways' if reads else ''}"
    rows = [
        ("file", f"{printable(path)} ({Path(path).stat().st_size / 1e6:.1f} MB)"),
        *([("kind", f"{config.kind}, for charrnn {COMMANDS[config.kind]}")] if reads else []),
        ("cell", config.recurrence.label(config.cell)),
        ("layers", ", ".join([layers, *config.features])),
        ("embedding", str(config.embedding_size) if config.embedding_size else "none: one-hot"),
        ("dropout", f"{config.dropout:g}"),
        ("parameters", wording.count(config.num_parameters)),
        ("vocabulary", _vocabulary(checkpoint.characters)),
        ("text", _text(text)),
    ]
    heading, _ = wording.column(config.kind)
    rows += [("" if n else heading, _labels(column)) for n, column in enumerate(checkpoint.columns)]
    if checkpoint.counts is not None:
        counts = checkpoint.counts.counts
        size = f"{counts.nbytes / 1e6:.1f} MB of up to {counts.order} characters in a row"
        whose = "the training text"
        if counts.is_merged:
            whose += " and of that of the model it started from"
        rows.append(("counts", f"{size}: they hold pieces of {whose}"))
    if checkpoint.grams is not None:
        grams = checkpoint.grams
        size = f"{grams.nbytes / 1e6:.1f} MB of {wording.count(len(grams.numbers))} grams"
        asked = f", asked alone where they are sure by {grams.sure[0]:.4f}" if grams.sure[0] <= 1 else ""
        rows.append(("counts", size + asked))
    if checkpoint.best_val_loss is not None:
        rows.append(("best loss", wording.loss(checkpoint.best_val_loss, config.kind)))
    settings = sorted(checkpoint.settings.items())
    if pairs := ", ".join(f"{name} {_setting(name, value)}" for name, value in settings if value is not None):
        rows.append(("trained with", printable(pairs)))
    width = max(len(name) for name, _ in rows) + 2
    return [f"{name:<{width}}{value}" for name, value in rows] + _history(checkpoint, width)


def _setting(name: str, value: Any) -> Any:
    if name == "shares" and isinstance(value, list):
        return ":".join(f"{share:g}" if isinstance(share, float) else str(share) for share in value)
    return quoted(value) if name == "shuffle_fields" else value


def _text(text: TextConfig) -> str:
    named = {
        "blank": ", texts between empty lines",
        "nul": ", texts between NUL characters",
        "file": ", every file a text of its own",
    }
    parts = [
        "bytes" if text.bytes else text.encoding,
        f", the field {quoted(text.field)} of tables" if text.field is not None else "",
        f", labels in {' and '.join(map(quoted, text.label_fields))}" if text.label_fields else "",
        ", every line a text of its own" if text.lines else "",
        named.get(text.split, f", texts between lines {quoted(text.split)}")
        if text.split is not None
        else "",
        ", line ends as they are" if text.keep_newlines else "",
        {"strict": "", "skip": ", bad bytes left out", "replace": ", bad bytes replaced"}[
            text.encoding_errors
        ],
        f", in {text.normal_form}" if text.normal_form else "",
        ", in lower case" if text.lowercase else "",
        f", characters that occur {text.min_count:,} times or more" if text.min_count > 1 else "",
        f", texts of {text.max_chars:,} characters at the most" if text.max_chars is not None else "",
        f", without {', '.join(text.strip)}" if text.strip else "",
        f", each with a target of {text.targets}" if text.targets is not None else "",
        ", which stands first" if text.reverse else "",
    ]
    return printable("".join(parts))


def _labels(column: Column) -> str:
    """18: Arabic 2,000, Chinese 268, ..."""
    counted = (
        f"{wording.visible(label)} {wording.count(count)}"
        for label, count in zip(column.labels, column.counts, strict=True)
    )
    name = f"{wording.visible(column.name)}, " if column.name else ""
    return f"{name}{wording.count(len(column.labels))}: {', '.join(counted)}"


def _vocabulary(characters: str) -> str:
    shown = wording.visible(characters[:SHOWN_CHARACTERS])
    more = len(characters) - SHOWN_CHARACTERS
    return f"{len(characters)}: {shown}" + (f" ... and {more} more" if more > 0 else "")


def _history(checkpoint: Checkpoint, width: int) -> list[str]:
    """The validation losses as a sparkline, and the last evaluations one by one."""
    history = checkpoint.history
    if not history:
        return []
    bars = wording.sparkline([_float(row.get("val_loss")) for row in history], SPARK_WIDTH)
    lines = [f"{'history':<{width}}{bars}", "", "      step    epoch  train loss    val loss"]
    if len(history) > SHOWN_EVALUATIONS:
        lines.append(f"{'...':>10}")
    lines += [
        f"{row['step']:>10}{row['epoch']:>9.2f}{_loss(row, 'train_loss'):>12}{_loss(row, 'val_loss'):>12}"
        for row in history[-SHOWN_EVALUATIONS:]
    ]
    return lines


def _loss(row: Mapping[str, Any], name: str) -> str:
    return decimal(_float(row.get(name)))


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)
