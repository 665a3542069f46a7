"""How damaged files are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from charrnn.errors import CheckpointError


def refusal(read: Callable[[Path], object], folder: Path, content: bytes) -> CheckpointError:
    """The error of a file with this content: one printable line that names it."""
    path = folder / "damaged.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).isprintable()
    assert caught.value.hint
    assert len(caught.value.message) < len(str(path)) + 250
    return caught.value
