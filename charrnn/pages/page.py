"""The one HTML file: its parts, and a policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from pathlib import Path
from typing import Any

from charrnn.checkpoint.kinds import require
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import PAGE_COUNTS, WeightPrecision
from charrnn.pages.packing import packed

FOLDER = Path(__file__).parent
WORKER = ("kernels.js", "sampling.js", "counts.js", "network.js", "writer.js")


def page(
    checkpoint: Checkpoint,
    name: str,
    *,
    precision: WeightPrecision = "bfloat16",
    most_counts: float = PAGE_COUNTS,
) -> str:
    """A page that writes what `charrnn sample` writes with this precision; `name` is its heading.

    Raises:
        CheckpointError: the model is no writer, or has parts that pages do not know.
        ConfigError: its counts take more than `most_counts` megabytes.
    """
    about, numbers = packed(require(checkpoint, "writer"), precision, most_counts)
    left_out = checkpoint.counts is not None and about["counts"] is None
    data = {
        "name": name,
        "about": _described(checkpoint, precision),
        "note": "The page leaves out the model's counts, so it writes other texts." if left_out else "",
        "model": about,
    }
    script, style = _code("page.js"), _read("page.css").strip()
    parts = {
        "policy": policy(script, style),
        "style": style,
        "data": embedded(data),
        "kernel": _deflated((FOLDER / "kernels.wasm").read_bytes()),
        "weights": _base64(numbers),
        "worker": _deflated("\n".join(map(_code, WORKER)).encode()),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _read("page.html"))


def policy(script: str, style: str) -> str:
    """The content security policy of a page with this script and style, and a worker."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src '{_digest(script)}' 'wasm-unsafe-eval'",
            f"style-src '{_digest(style)}'",
            "worker-src blob:",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def embedded(value: Any) -> str:
    """JSON in ASCII that ends no script element, whatever its texts hold."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _described(checkpoint: Checkpoint, precision: WeightPrecision) -> str:
    return f"{checkpoint.config.layers}, weights in {precision}"


def _read(name: str) -> str:
    return (FOLDER / name).read_text("utf-8")


def _code(name: str) -> str:
    """A script without what browsers need not read: indents, and comments on lines of their own."""
    lines = (line.strip() for line in _read(name).splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _deflated(data: bytes) -> str:
    return _base64(zlib.compress(data, 9))


def _digest(text: str) -> str:
    return "sha256-" + _base64(hashlib.sha256(text.encode()).digest())
