"""Pages in node, which does what a browser's worker does."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

NODE = shutil.which("node")
RUNNER = Path(__file__).with_name("page_in_node.js")

needs_node = pytest.mark.skipif(NODE is None, reason="node, which runs the page's script, is not installed")


def answers(pages: list[tuple[Path, bool, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """What each page answers to its requests; of the flag, whether in plain JavaScript."""
    assert NODE is not None
    lines = [
        json.dumps({"page": str(path), "plain": plain, "asked": asked}) + "\n" for path, plain, asked in pages
    ]
    result = subprocess.run(
        [NODE, RUNNER], input="".join(lines).encode(), capture_output=True, check=True, timeout=120
    )
    return [json.loads(line) for line in result.stdout.splitlines()]


def block(html: str, name: str) -> str:
    """The content of the element of this id."""
    start = html.index(">", html.index(f'id="{name}"')) + 1
    return html[start : html.index("</", start)]
