"""`charrnn classify`: which model's text each line is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charrnn.cli import wording
from charrnn.cli.options import Encoding, EncodingErrors, Files, Json, Nul, UnknownBits
from charrnn.cli.process import Output
from charrnn.config import UNKNOWN_BITS, TextConfig
from charrnn.errors import ConfigError

if TYPE_CHECKING:
    from charrnn.checkpoint.model_file import Checkpoint


def classify(
    files: Files = None,
    models: Annotated[
        list[str] | None,
        typer.Option("-m", "--model", metavar="PATH", help="A model; several, or one with labels."),
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="NAME", help="Say the labels of this column [the first].")
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(metavar="P,P,...", help="How frequent each is [alike; labels: as trained]."),
    ] = None,
    unknown_bits: UnknownBits = UNKNOWN_BITS,
    encoding: Encoding = None,
    encoding_errors: EncodingErrors = None,
    nul: Nul = False,
    json_lines: Json = False,
) -> None:
    """Say of each line which model's text, or which label, it is: that, its probability, the line."""
    from charrnn import api
    from charrnn.cli import undecoded

    paths = list(models or ())
    labels = _labels(paths)
    weights = None if prior is None else _numbers(prior)
    checkpoints = [api.load(path) for path in paths]
    if len(checkpoints) == 1 and checkpoints[0].config.kind == "classifier":
        _by_classifier(checkpoints[0], files or ["-"], json_lines=json_lines, nul=nul)
        return
    if len(checkpoints) == 1 and checkpoints[0].columns:
        columns = checkpoints[0].columns
        checkpoints = api.by_label(checkpoints[0], by)
        column = next(column for column in columns if by in (None, column.name))
        labels = [wording.visible(label) for label in column.labels]
        weights = weights or [max(count, 0.5) for count in column.counts]
    elif by is not None:
        raise ConfigError("--by names a column of labels", "give it with one model that knows labels")
    nothing = (None,) * len(labels)  # for a line without probabilities
    raw = bool(checkpoints) and all(checkpoint.text.bytes for checkpoint in checkpoints)
    output = Output(raw_bytes=raw and not json_lines, errors="surrogateescape")
    results = api.classify(
        checkpoints,
        files or ["-"],
        prior=weights,
        unknown_bits=unknown_bits,
        before_waiting=output.flush,
        encoding=encoding,
        encoding_errors=encoding_errors,
        nul=nul,
    )
    texts = [checkpoint.text for checkpoint in checkpoints]
    split = next((text for text in texts if text.split is not None), TextConfig())
    own = next((checkpoint.text for checkpoint in checkpoints if not checkpoint.text.bytes), None)
    if own is not None:
        results = undecoded.with_notice(results, own.of_commands(encoding, encoding_errors), own)
    for lines in results:
        for line in lines:
            best = line.best
            if json_lines:
                posterior, bits = line.posterior or nothing, line.bits or nothing
                values = {
                    "model": None if best is None else labels[best],
                    "probability": None if best is None else line.posterior[best],
                    "posterior": dict(zip(labels, posterior, strict=True)),
                    "bits": dict(zip(labels, map(wording.json_number, bits), strict=True)),
                    "file": line.file,
                    "number": line.number,
                    "line": wording.json_text(line.text, raw),
                }
                output.write(json.dumps(values) + "\n")
            elif best is None:
                output.write(f"\t\t{wording.row_end(line.text, split, nul)}")
            else:
                row = f"{labels[best]}\t{line.posterior[best]:.4f}\t"
                output.write(row + wording.row_end(line.text, split, nul))
    output.flush()


def _by_classifier(model: Checkpoint, files: list[str], *, json_lines: bool, nul: bool) -> None:
    """The same by a network that was trained to classify."""
    from charrnn import api

    labels = [wording.visible(label) for label in model.columns[0].labels]
    output = Output(errors="surrogateescape")
    for lines in api.classified(model, files, before_waiting=output.flush, nul=nul):
        for line in lines:
            best = max(range(len(line.probabilities)), key=line.probabilities.__getitem__, default=None)
            label = None if best is None else labels[best]
            probability = None if best is None else line.probabilities[best]
            if json_lines:
                values = {
                    "label": label,
                    "probability": probability,
                    "probabilities": dict(zip(labels, line.probabilities, strict=False)),
                    "file": line.file,
                    "number": line.number,
                    "line": wording.json_text(line.text, False),
                }
                output.write(json.dumps(values) + "\n")
            else:
                figures = "\t" if label is None else f"{label}\t{probability:.4f}"
                output.write(f"{figures}\t{wording.row_end(line.text, model.text, nul)}")
    output.flush()


def _labels(paths: list[str]) -> list[str]:
    """The models' names: without folder and suffix if these differ, else their paths."""
    stems = [Path(path).stem for path in paths]
    return stems if len(set(stems)) == len(stems) else paths


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"prior is {text!r}", "give a number for each model, such as 0.9,0.1") from None
