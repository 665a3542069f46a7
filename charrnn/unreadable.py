"""Why a file cannot be read, and what to do, in words for an error."""

from __future__ import annotations

import os
from pathlib import Path

from charrnn.errors import printable
from charrnn.spelling import close_names


def why_unreadable(path: Path | None, error: OSError | ValueError, suffix: str = "") -> tuple[str, str]:
    """Message and hint for a file (None: standard input) that the system does not let us read.

    Only names that end in `suffix` are suggested for one that does not exist.
    """
    name = "standard input" if path is None else printable(str(path))
    if isinstance(error, FileNotFoundError) and path is not None:
        similar = _similar_name(path, suffix)
        hint = f"did you mean {printable(str(similar))}?" if similar else "check the path"
        return f"{name} does not exist", hint
    if isinstance(error, PermissionError):
        return f"{name} may not be read", "check its permissions"
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return f"{name} cannot be read", printable(reason)


def _similar_name(path: Path, suffix: str) -> Path | None:
    """A file beside the missing `path` whose name, without its suffix, is close to its name."""
    try:
        names = [name for name in os.listdir(path.parent) if name.endswith(suffix)]
    except OSError:
        return None
    if suffix and path.name + suffix in names:  # the closest, however short
        return path.with_name(path.name + suffix)
    stems = {name.removesuffix(Path(name).suffix): name for name in sorted(names)}
    near = close_names(path.name.removesuffix(path.suffix), stems)
    return path.with_name(stems[near[0]]) if near else None
