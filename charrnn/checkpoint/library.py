"""The models that there are: where they lie, and which of them a name means."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from charrnn.checkpoint.container import SUFFIX
from charrnn.checkpoint.model_file import RESUME_SUFFIX
from charrnn.errors import CheckpointError, quoted

FOLDER = "checkpoints"  # below the current folder, where training writes


def folders() -> list[Path]:
    """The folders that are looked into: ./checkpoints, those of CHARRNN_MODELS, the user's data folder."""
    import platformdirs  # only names need it

    named = os.environ.get("CHARRNN_MODELS", "").split(os.pathsep)
    given = [Path(name).expanduser() for name in named if name]
    return [Path(FOLDER), *given, platformdirs.user_data_path("charrnn", appauthor=False) / "models"]


def models() -> list[Path]:
    """All model files there, the one that was written last first; then those that come with the program.

    Files of the same name in later folders, which the name does not mean, are left out.
    """
    found: dict[str, Path] = {}
    for folder in folders():
        for path in _own(folder):
            found.setdefault(path.name, path)
    ordered = sorted(found.values(), key=_written, reverse=True)
    return [*ordered, *(path for name, path in sorted(_bundled().items()) if name not in found)]


def names() -> list[str]:
    """The names of `models`."""
    return [name_of(path) for path in models()]


def name_of(path: Path) -> str:
    """tales of checkpoints/tales.safetensors"""
    return path.name.removesuffix(SUFFIX)


def newest(folder: str | Path = FOLDER) -> Path | None:
    """The model in the folder that was written last, or None. One that comes with the program is none."""
    return max(_own(Path(folder)), key=_written, default=None)


def bundled(name: str) -> Path | None:
    """The model of this name that comes with the program."""
    return _bundled().get(name + SUFFIX)


def find(name: str | Path) -> Path:
    """The file that is meant by a path, or by the name of a model, which has no suffix and no folder.

    Raises:
        CheckpointError: there is no such file, and it can only be a name.
    """
    path = Path(name)
    if isinstance(name, Path) or _is_path(name):
        return path
    named = (folder / (name + SUFFIX) for folder in folders())
    if (found := next(filter(_is_file, named), None) or bundled(name)) is not None:
        return found
    from charrnn.system.spelling import close_names

    near = close_names(name, names())
    hint = f"did you mean {' or '.join(near)}?" if near else "charrnn models lists those that there are"
    raise CheckpointError(f"there is no model {quoted(name)}, and no such file", hint)


def _is_path(name: str) -> bool:
    separators = [os.sep, *([os.altsep] if os.altsep else [])]
    if name.endswith(SUFFIX) or "\0" in name or any(separator in name for separator in separators):
        return True
    return os.path.exists(name)


def _files(folder: Path) -> Iterator[Path]:
    """Its model files; hidden ones, and those of runs that may be resumed, are none."""
    with contextlib.suppress(OSError):  # the folder does not exist
        for path in folder.iterdir():
            name = path.name
            is_model = name.endswith(SUFFIX) and not name.endswith(RESUME_SUFFIX) and name[0] != "."
            if is_model and _is_file(path):
                yield path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # ValueError: characters that no file's name can have
        return False


def _written(path: Path) -> tuple[int, Path]:
    try:
        return path.stat().st_mtime_ns, path
    except OSError:  # it has been removed meanwhile
        return 0, path


def _bundled() -> dict[str, Path]:
    """By file name: in the package, or beside it in a source checkout."""
    package = Path(__file__).parent.parent
    if (inside := package / "bundled").is_dir():
        return {path.name: path for path in _files(inside)}
    beside = package.parent / FOLDER
    names = [name + SUFFIX for name in ("english", "places")]
    return {name: beside / name for name in names if _is_file(beside / name)}


def _own(folder: Path) -> Iterator[Path]:
    """Its model files but for those that come with the program."""
    others = {name: os.path.realpath(path) for name, path in _bundled().items()}
    return (path for path in _files(folder) if others.get(path.name) != os.path.realpath(path))
