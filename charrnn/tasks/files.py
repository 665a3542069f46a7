"""The files of a task: those to learn from, and perhaps separate ones for validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from charrnn.config import Kind, TextConfig
from charrnn.errors import ConfigError
from charrnn.tasks.task import Material
from charrnn.text.corpus import corpus_name
from charrnn.text.files.sources import find

# Settings that mean nothing where whole texts are read.
OF_WRITERS = frozenset({"counts", "label_dropout", "seq_len", "shares", "shuffle_fields", "val_split"})


@dataclass(frozen=True)
class Files:
    """What assignments have in common; see task.Assignment."""

    kind: ClassVar[Kind]
    unused: ClassVar[frozenset[str]] = OF_WRITERS  # settings, if it is not a writer's

    paths: Sequence[str | Path]
    val: Sequence[str | Path] = ()

    @property
    def name(self) -> str:
        """The default name of the model file."""
        return corpus_name(self.paths[0])

    @property
    def judged_apart(self) -> bool:
        """Whether a separate text is given for validation."""
        return bool(self.val)

    def check(self, settings: Mapping[str, Any]) -> None:
        """ConfigError: the files contradict themselves or the given settings."""
        for name in ("val_fraction", "val_split"):
            if self.val and name in settings:
                option = f"--{name.replace('_', '-')}"
                raise ConfigError(
                    f"{option} cuts the corpus, --val names another text for validation",
                    "give one of them",
                )
        for name in sorted(self.unused & settings.keys()) if self.kind != "writer" else ():
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} is for models that write, and this one reads", "leave it out")
        if "-" in map(str, self.val) and "-" in map(str, self.paths):
            raise ConfigError("standard input is both corpus and validation", "name a file for one of them")

    def read(self, text: TextConfig) -> Material:
        """CorpusError: something cannot be read."""
        raise NotImplementedError

    def files(self) -> list[tuple[str, Path | int]]:
        """For each file, a description and its path, or the descriptor of standard input.

        Raises:
            CorpusError: a path names nothing that can be read.
        """
        validation = find(self.val) if self.val else []
        named = ("a file of the corpus", find(self.paths)), ("a text for validation", validation)
        return [(role, source.file) for role, sources in named for source in sources]
