"""Records what charrnn does, for tests/test_behaviour.py: model files and the outputs of command lines.

    python -m tests.record_behaviour [--commands]

A recording is renewed only with a line in CHANGELOG.md that says why. With --commands, the models stay.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support import behaviour
from tests.support.calls import call


def interrupt(out: str, step: int) -> None:
    """The files of a run that was stopped after so many steps."""
    from charrnn.cli.process import StopRequest
    from charrnn.training import run as training

    real = training.Run._step
    told: list[bool] = []

    def stepping(run: Any, rate: float) -> Any:
        found = real(run, rate)
        if run.position.step == step:
            told.append(True)
        return found

    asked = StopRequest.__call__
    training.Run._step = stepping  # type: ignore[method-assign]
    StopRequest.__call__ = lambda request: "SIGINT" if told else asked(request)  # type: ignore[method-assign]
    try:
        words = dict(behaviour.models())[behaviour.PROSE]
        call(*words, "-q", "-o", out)
    finally:
        training.Run._step, StopRequest.__call__ = real, asked  # type: ignore[method-assign]


def record_models() -> None:
    for name, words in behaviour.models():
        result = call(*words, "-q", "-o", f"{name}.safetensors")
        assert result.returncode == 0, (name, result)
    interrupt(behaviour.INTERRUPTED, behaviour.INTERRUPTED_AT)
    model = f"{behaviour.PROSE}.safetensors"
    result = call("compress", "-m", model, "prose.txt", "-o", behaviour.ARCHIVE, "-q")
    assert result.returncode == 0, result
    behaviour.RECORDINGS.mkdir(parents=True, exist_ok=True)
    for old in behaviour.RECORDINGS.iterdir():
        old.unlink()
    for path in Path().iterdir():
        if path.suffix in (".safetensors", ".crnn"):
            (behaviour.RECORDINGS / path.name).write_bytes(path.read_bytes())


def record_commands() -> None:
    for path in behaviour.RECORDINGS.iterdir():
        Path(path.name).write_bytes(path.read_bytes())
    rows = []
    for words, stdin in behaviour.commands():
        result = call(*words, stdin=stdin)
        rows.append({
            "words": list(map(str, words)), "stdin": stdin.decode(), "code": result.returncode,
            "stdout": behaviour.text(result.stdout), "stderr": result.stderr.decode(),
        })  # fmt: skip
    lines = ",\n".join(json.dumps(row) for row in rows)
    behaviour.COMMANDS.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, text in behaviour.TEXTS.items():
            Path(name).write_text(text, encoding="utf-8")
        if "--commands" not in sys.argv:
            record_models()
        record_commands()
        os.chdir("/")


if __name__ == "__main__":
    main()
