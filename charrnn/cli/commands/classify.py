"""`charrnn classify`: which label each line has, or which model's text it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charrnn.cli import together, wording
from charrnn.cli.models import Cache, looking_back
from charrnn.cli.options import (
    Encoding,
    EncodingErrors,
    Files,
    Json,
    Nul,
    Threads,
    UnknownBitsGiven,
    model_names,
)
from charrnn.cli.process import Output
from charrnn.config import UNKNOWN_BITS, TextConfig
from charrnn.errors import ConfigError

if TYPE_CHECKING:
    from charrnn.labels import Columns
    from charrnn.scoring.classification import LineClass
    from charrnn.tasks.reading.classify import LineClasses

UNSURE = "?"  # stands for a label that is less probable than --threshold


def classify(
    files: Files = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--model",
            metavar="PATH",
            autocompletion=model_names,
            help="A classifier, or one with labels, or several.",
        ),
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="NAME", help="Say the labels of this column [the first].")
    ] = None,
    top: Annotated[int | None, typer.Option(metavar="N", help="Say the N most probable [1].")] = None,
    threshold: Annotated[
        float, typer.Option(metavar="P", help=f"Say {UNSURE} instead of what is less probable [0].")
    ] = 0.0,
    prior: Annotated[
        str | None,
        typer.Option(metavar="P,P,...", help="How frequent each is [alike; labels: as trained]."),
    ] = None,
    cache: Cache = None,
    unknown_bits: UnknownBitsGiven = None,
    encoding: Encoding = None,
    encoding_errors: EncodingErrors = None,
    nul: Nul = False,
    threads: Threads = None,
    json_lines: Json = False,
) -> None:
    """Say of each line which label it has, or which model's text it is: that, its probability, the line."""
    if top is not None and top < 1:
        raise ConfigError(f"top is {top}", "give a whole number from 1 up")
    if not 0 <= threshold <= 1:
        raise ConfigError(f"threshold is {threshold:g}", "give a number from 0 to 1")
    from charrnn import api
    from charrnn.cli import undecoded

    paths = list(models or ())
    names = _names(paths)
    weights = None if prior is None else _numbers(prior)
    checkpoints = [looking_back(api.load(path), cache) for path in paths]
    raw = bool(checkpoints) and all(checkpoint.text.bytes for checkpoint in checkpoints)
    output = Output(raw_bytes=raw and not json_lines, errors="surrogateescape")
    reading: dict[str, Any] = {"encoding": encoding, "encoding_errors": encoding_errors, "nul": nul}
    how: dict[str, Any] = {"threads": together.threads(threads), **reading}
    texts = [checkpoint.text for checkpoint in checkpoints]
    rendering = _Rendering(
        top, threshold, next((text for text in texts if text.split is not None), TextConfig()),
        nul=nul, raw=raw, as_json=json_lines,
    )  # fmt: skip
    results: Iterator[list[Any]]
    if len(checkpoints) == 1 and checkpoints[0].config.kind == "classifier":
        if unknown_bits is not None:
            raise ConfigError(
                "--unknown-bits is for models that write, and a classifier leaves unknown characters out",
                "leave it out",
            )
        results = api.classified(
            checkpoints[0], files or ["-"], by=by, prior=weights, before_waiting=output.flush, **how
        )
        render = rendering.of_classifier(checkpoints[0].columns, by)
    else:
        if len(checkpoints) == 1 and checkpoints[0].columns:
            columns = checkpoints[0].columns
            checkpoints = api.by_label(checkpoints[0], by)
            column = next(column for column in columns if by in (None, column.name))
            names = [wording.visible(label) for label in column.labels]
            weights = weights or [max(count, 0.5) for count in column.counts]
        elif by is not None:
            raise ConfigError("--by names a column of labels", "give it with one model that knows labels")
        results = api.classify(
            checkpoints, files or ["-"], prior=weights,
            unknown_bits=UNKNOWN_BITS if unknown_bits is None else unknown_bits,
            before_waiting=output.flush, **how,
        )  # fmt: skip
        render = rendering.of_writers(names)
    own = next((text for text in texts if not text.bytes), None)
    if own is not None:
        results = undecoded.with_notice(results, own.of_commands(encoding, encoding_errors), own)
    for lines in results:
        output.write("".join(map(render, lines)))
    output.flush()


Render = Callable[[Any], str]


@dataclass(frozen=True)
class _Rendering:
    """How a line and what is said of it are written."""

    top: int | None
    threshold: float
    text: TextConfig  # how texts are separated
    nul: bool
    raw: bool
    as_json: bool

    def of_writers(self, names: Sequence[str]) -> Render:
        """Of lines that are classified by models of these names."""

        def render(line: LineClass) -> str:
            if not self.as_json:
                return self._row(names, line.posterior, line.text)
            said = {
                "model": self._best(names, line.posterior),
                "probability": max(line.posterior, default=None),
            }
            posterior, bits = (self._named(names, line.posterior, own) for own in (line.posterior, line.bits))
            return self._object({**said, "posterior": posterior, "bits": bits}, line)

        return render

    def of_classifier(self, columns: Columns, by: str | None) -> Render:
        """Of lines with the labels of these columns; rows say those of the column `by`, or of the first."""
        place = next(n for n, column in enumerate(columns) if by in (None, column.name))
        labels = [[wording.visible(label) for label in column.labels] for column in columns]
        titles = [wording.visible(column.name) for column in columns]

        def figures(names: Sequence[str], probabilities: Sequence[float]) -> dict[str, Any]:
            return {
                "label": self._best(names, probabilities),
                "probability": max(probabilities, default=None),
                "probabilities": self._named(names, probabilities, probabilities),
            }

        def render(line: LineClasses) -> str:
            if not self.as_json:
                return self._row(labels[place], line.probabilities[place], line.text)
            each = list(map(figures, labels, line.probabilities))
            said = each[0] if len(each) == 1 else {"columns": dict(zip(titles, each, strict=True))}
            return self._object(said, line)

        return render

    def _row(self, names: Sequence[str], probabilities: Sequence[float], text: str) -> str:
        """The most probable ones, each with its probability, and the text."""
        most = min(self.top or 1, len(names))
        figures = [
            f"{names[n] if probabilities[n] >= self.threshold else UNSURE}\t{probabilities[n]:.4f}\t"
            for n in self._ranked(probabilities, most)
        ]
        return "".join(figures or ["\t\t"] * most) + wording.row_end(text, self.text, self.nul)

    def _object(self, said: dict[str, Any], line: LineClass | LineClasses) -> str:
        where = {"file": line.file, "number": line.number, "line": wording.json_text(line.text, self.raw)}
        return json.dumps({**said, **where}) + "\n"

    def _best(self, names: Sequence[str], probabilities: Sequence[float]) -> str | None:
        """The most probable one; None if that is not probable enough, or there is none."""
        best = max(probabilities, default=-1.0)
        return names[probabilities.index(best)] if best >= self.threshold else None

    def _named(
        self, names: Sequence[str], probabilities: Sequence[float], figures: Sequence[float]
    ) -> dict[str, float | None]:
        """The figures by name, of the most probable ones if their number is given."""
        shown = range(len(names)) if self.top is None else self._ranked(probabilities, self.top)
        return {names[n]: wording.json_number(figures[n]) if figures else None for n in shown}

    def _ranked(self, probabilities: Sequence[float], most: int) -> Sequence[int]:
        """The most probable ones; of equals, the first comes first."""
        if most == 1 and probabilities:
            return [probabilities.index(max(probabilities))]
        return sorted(range(len(probabilities)), key=lambda n: -probabilities[n])[:most]


def _names(paths: list[str]) -> list[str]:
    """Those of the models: without folder and suffix if these differ, else their paths."""
    stems = [Path(path).stem for path in paths]
    return stems if len(set(stems)) == len(stems) else paths


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"prior is {text!r}", "give a number for each model or label, such as 0.9,0.1"
        ) from None
