"""`charrnn restore`: texts with what they have lost."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from charrnn.cli import wording
from charrnn.cli.options import Encoding, EncodingErrors, Files, Json, ModelPath, Nul, Threads
from charrnn.cli.process import Output


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
    results = api.restored(
        checkpoint,
        files or ["-"],
        redo=redo,
        threads=threads,
        before_waiting=output.flush,
        encoding=encoding,
        encoding_errors=encoding_errors,
        nul=nul,
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
