"""Functions from generated source, since Numba cannot loop over the arguments of a function."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any


def generated(
    name: str, head: str, body: list[str], names: dict[str, Any], *parts: Callable[..., Any]
) -> Callable[..., None]:
    """The function with the parameters `head` and the lines `body`, which calls `parts` and other `names`.

    Its name ends with a digest of its source and of the files of `parts`, since it is its key in the cache.
    """
    source = "\n    ".join([f"({head}):", *body])
    files = sorted({inspect.getfile(part) for part in parts})
    digest = hashlib.sha256(source.encode())
    for file in files:
        digest.update(Path(file).read_bytes())
    name = f"{name}_{digest.hexdigest()[:16]}"
    names = dict(names)
    exec(compile(f"def {name}{source}", files[0], "exec"), names)
    made: Callable[..., None] = names[name]
    return made
