"""The tasks of networks that read whole texts, one a file: what they learn from, and what they tell.

It may import what tasks import; its modules know task.py, examples.py, lines.py and pairs.py, but not one another.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charrnn.tasks.files import Files

# The files of each task, by its name in `train --task`.
ASSIGNMENTS = {
    "classify": "classify:LabelledFiles",
    "tag": "tag:TaggedFiles",
    "rewrite": "rewrite:RewrittenFiles",
}


def assignment(task: str) -> type[Files]:
    """The class of a task's files."""
    module, _, name = ASSIGNMENTS[task].partition(":")
    found: type[Files] = getattr(import_module(f"{__name__}.{module}"), name)
    return found
