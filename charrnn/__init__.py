"""charrnn learns to write like a text file, on the CPU you have.

    import charrnn

    for event in charrnn.train("corpus.txt", minutes=3, out="m.safetensors"):
        print(event)
    for text in charrnn.sample("m.safetensors", prompt="Once", length=200):
        print("".join(text))

Names are imported when they are first used, so that `charrnn --help` does not import NumPy.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in typing, whose import would dominate the start-up time
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from charrnn.api import (
        blend,
        by_label,
        classify,
        compress,
        curves,
        decompress,
        diagnose,
        diagnose_run,
        enumerate_lines,
        evaluate,
        fill,
        given,
        heat,
        holding,
        load,
        looking_back,
        next_characters,
        rank_units,
        sample,
        sample_each,
        score,
        score_lines,
        surprises,
        train,
        watch_unit,
    )
    from charrnn.checkpoint.model_file import Checkpoint
    from charrnn.config import CacheConfig, ModelConfig, SampleConfig, TextConfig, TrainConfig
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
    "CacheConfig", "CharrnnError", "Checkpoint", "CheckpointError", "CompressionError", "ConfigError",
    "CorpusError", "Evaluation", "Event", "ExitCode", "ModelConfig", "SampleConfig", "SaveError",
    "SearchError", "TextConfig", "TrainConfig", "TrainingError", "Vocabulary", "VocabularyError",
    "__version__", "blend", "by_label", "classify", "compress", "curves", "decompress", "diagnose",
    "diagnose_run", "enumerate_lines", "evaluate", "fill", "given", "heat", "holding", "load",
    "looking_back", "next_characters", "rank_units", "sample", "sample_each", "score", "score_lines",
    "surprises", "train", "watch_unit",
]  # fmt: skip

# The module of each name, unless that is api (functions) or errors (other names).
_MODULES = {
    "CacheConfig": "config",
    "Checkpoint": "checkpoint.model_file",
    "Evaluation": "tasks.evaluation",
    "Event": "events",
    "ModelConfig": "config",
    "SampleConfig": "config",
    "TextConfig": "config",
    "TrainConfig": "config",
    "Vocabulary": "vocabulary",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'charrnn' has no attribute {name!r}")
    from importlib import import_module

    module = _MODULES.get(name, "api" if name.islower() else "errors")
    value = getattr(import_module(f"charrnn.{module}"), name)
    globals()[name] = value  # bypasses this function the next time
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
