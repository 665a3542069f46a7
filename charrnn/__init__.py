"""charrnn learns to write like a text file, on the CPU you have.

    import charrnn

    for event in charrnn.train("corpus.txt", minutes=3, out="m.safetensors"):
        print(event)
    for text in charrnn.sample("m.safetensors", prompt="Once", length=200):
        print("".join(text))

Names are imported when they are first used, so that `charrnn --help` starts no NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from charrnn.api import (
        blend,
        enumerate_lines,
        evaluate,
        fill,
        load,
        sample,
        sample_each,
        score,
        train,
    )
    from charrnn.checkpoint import Checkpoint
    from charrnn.config import ModelConfig, SampleConfig, TextConfig, TrainConfig
    from charrnn.errors import (
        CharrnnError,
        CheckpointError,
        ConfigError,
        CorpusError,
        ExitCode,
        SearchError,
        TrainingError,
        VocabularyError,
    )
    from charrnn.evaluation import Evaluation
    from charrnn.events import Event
    from charrnn.vocabulary import Vocabulary

__all__ = [
    "CharrnnError",
    "Checkpoint",
    "CheckpointError",
    "ConfigError",
    "CorpusError",
    "Evaluation",
    "Event",
    "ExitCode",
    "ModelConfig",
    "SampleConfig",
    "SearchError",
    "TextConfig",
    "TrainConfig",
    "TrainingError",
    "Vocabulary",
    "VocabularyError",
    "__version__",
    "blend",
    "enumerate_lines",
    "evaluate",
    "fill",
    "load",
    "sample",
    "sample_each",
    "score",
    "train",
]

_HOMES = {
    "charrnn.api": (
        "blend",
        "enumerate_lines",
        "evaluate",
        "fill",
        "load",
        "sample",
        "sample_each",
        "score",
        "train",
    ),
    "charrnn.checkpoint": ("Checkpoint",),
    "charrnn.config": ("ModelConfig", "SampleConfig", "TextConfig", "TrainConfig"),
    "charrnn.errors": (
        "CharrnnError",
        "CheckpointError",
        "ConfigError",
        "CorpusError",
        "ExitCode",
        "SearchError",
        "TrainingError",
        "VocabularyError",
    ),
    "charrnn.evaluation": ("Evaluation",),
    "charrnn.events": ("Event",),
    "charrnn.vocabulary": ("Vocabulary",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'charrnn' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value  # the next use finds it here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
