"""charrnn learns to write like a text file, on the CPU you have.

    import charrnn

    for event in charrnn.train("corpus.txt", minutes=3, out="m.safetensors"):
        print(event)
    for text in charrnn.sample("m.safetensors", prompt="Once", length=200):
        print("".join(text))

Names are imported when they are first used, so that `charrnn --help` starts no NumPy.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, whose import takes longer than all that a command needs first
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from charrnn.api import (
        blend,
        classify,
        compress,
        decompress,
        enumerate_lines,
        evaluate,
        fill,
        load,
        next_characters,
        sample,
        sample_each,
        score,
        score_lines,
        surprises,
        train,
    )
    from charrnn.checkpoint.model_file import Checkpoint
    from charrnn.config import ModelConfig, SampleConfig, TextConfig, TrainConfig
    from charrnn.errors import (
        CharrnnError,
        CheckpointError,
        CompressionError,
        ConfigError,
        CorpusError,
        ExitCode,
        SaveError,
        SearchError,
        TrainingError,
        VocabularyError,
    )
    from charrnn.events import Event
    from charrnn.tasks.evaluation import Evaluation
    from charrnn.vocabulary import Vocabulary

__all__ = [
    "CharrnnError",
    "Checkpoint",
    "CheckpointError",
    "CompressionError",
    "ConfigError",
    "CorpusError",
    "Evaluation",
    "Event",
    "ExitCode",
    "ModelConfig",
    "SampleConfig",
    "SaveError",
    "SearchError",
    "TextConfig",
    "TrainConfig",
    "TrainingError",
    "Vocabulary",
    "VocabularyError",
    "__version__",
    "blend",
    "classify",
    "compress",
    "decompress",
    "enumerate_lines",
    "evaluate",
    "fill",
    "load",
    "next_characters",
    "sample",
    "sample_each",
    "score",
    "score_lines",
    "surprises",
    "train",
]

_HOMES: dict[str, tuple[str, ...]] = {
    "charrnn.api": (
        "blend",
        "classify",
        "compress",
        "decompress",
        "enumerate_lines",
        "evaluate",
        "fill",
        "load",
        "next_characters",
        "sample",
        "sample_each",
        "score",
        "score_lines",
        "surprises",
        "train",
    ),
    "charrnn.checkpoint.model_file": ("Checkpoint",),
    "charrnn.config": ("ModelConfig", "SampleConfig", "TextConfig", "TrainConfig"),
    "charrnn.errors": (
        "CharrnnError",
        "CheckpointError",
        "CompressionError",
        "ConfigError",
        "CorpusError",
        "ExitCode",
        "SaveError",
        "SearchError",
        "TrainingError",
        "VocabularyError",
    ),
    "charrnn.tasks.evaluation": ("Evaluation",),
    "charrnn.events": ("Event",),
    "charrnn.vocabulary": ("Vocabulary",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'charrnn' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value  # the next use finds it here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
