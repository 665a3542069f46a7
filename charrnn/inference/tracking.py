"""The progress of texts under constraints: the rules of a run, and the track of each text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.inference.constrained_step import FINAL, Rules, Tracks, hash_begun, is_copied
from charrnn.text.rolling_hash import BASES
from charrnn.vocabulary import Vocabulary

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Track:
    """The progress of one text; see constrained_step.Tracks."""

    state: int = FINAL
    left: int = 0
    memory: tuple[float, ...] = ()
    copied: int = 0
    mass: float = 0.0
    recent: Ids = field(default_factory=lambda: np.empty(0, np.int64))  # (W,)
    stopped: int = 0  # constrained_step.ENDED or STUCK


class Rows:
    """A table's rows as lists, which Python indexes faster than arrays."""

    def __init__(self, table: npt.NDArray[Any]) -> None:
        self._table = table
        self._rows: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, state: int) -> list[int]:
        if state not in self._rows:
            self._rows[state] = self._table[state].tolist()
        return self._rows[state]


@dataclass(frozen=True, eq=False)
class Control:
    """The rules of one run, as arrays and as lists, and the first track of its texts."""

    arrays: Rules
    start: Track = Track()
    vocabulary: Vocabulary | None = None
    # (prompt, length) -> the automaton's state after the prompt; SamplingError: no such text can follow it.
    start_state: Callable[[str, int], int] | None = None

    @cached_property
    def lists(self) -> Rules:
        arrays = self.arrays
        return arrays._replace(
            table=Rows(arrays.table),
            classes=arrays.classes.tolist(),
            reach=arrays.reach.tolist(),
            bits=arrays.bits.tobytes(),
            points=arrays.points.tolist(),
            breakers=arrays.breakers.tolist(),
        )

    def begin(self, prompt: str) -> Track:
        """The track of a text that continues the prompt.

        Raises:
            SamplingError: no continuation satisfies the constraints.
        """
        rules, track = self.arrays, self.start
        if self.start_state is not None:
            track = replace(track, state=self.start_state(prompt, track.left))
        if not rules.window:
            return track
        assert self.vocabulary is not None
        ids = self.vocabulary.encode(prompt, "skip").astype(np.int64)
        recent = np.full(rules.window, -1, np.int64)
        read = ids[-rules.window :]
        recent[rules.window - len(read) :] = read
        return replace(track, recent=recent, copied=_copied(rules, ids) if rules.run else 0)

    @cached_property
    def weighing(self) -> Control:
        """The same rules with a mask of forbidden characters, whose cost is summed; see Rules.weighs."""
        return replace(self, arrays=self.arrays._replace(checks=False, weighs=True))


def free(vocab_size: int) -> Control:
    """Rules that allow everything."""
    return Control(permissive(np.zeros(vocab_size, np.int64)))


def permissive(points: Ids) -> Rules:
    """Rules that allow everything, for a vocabulary of these code points (V,)."""
    return Rules(points, np.zeros(len(points), np.bool_), np.zeros(len(points), np.int32))


def _copied(rules: Rules, prompt: Ids) -> int:
    """How many n-grams in a row, up to the prompt's last character, are in the training text."""
    ids = prompt[-rules.run - rules.gram :]
    count = 0
    for n in range(rules.gram - 1, len(ids)):
        first, second = (hash_begun(ids, n, rules.gram - 1, rules.points, base) for base in BASES)
        count = count + 1 if is_copied(rules, int(first), int(second), int(ids[n])) else 0
    return count


def gathered(tracks: Sequence[Track], T: int) -> Tracks:
    """The tracks of B texts as arrays, with room for T more characters."""
    window = len(tracks[0].recent)
    recent = np.full((len(tracks), window + T if window else 0), -1, np.int64)
    for row, track in zip(recent, tracks, strict=True):
        row[:window] = track.recent
    return Tracks(
        states=np.array([track.state for track in tracks]),
        left=np.array([track.left for track in tracks]),
        memory=np.array([track.memory for track in tracks], np.float64),
        copied=np.array([track.copied for track in tracks]),
        masses=np.array([track.mass for track in tracks]),
        recent=recent,
    )


def listed(track: Track, T: int) -> Tracks:
    """The track of one text as lists, likewise."""
    return Tracks(*(array.tolist() for array in gathered([track], T)))


def moved(
    tracks: Sequence[Track], arrays: Tracks, counts: Sequence[int], stops: Sequence[int]
) -> Iterator[Track]:
    """The tracks after `counts` characters were written; each of `stops` is ENDED, STUCK, or 0 or more."""
    for n, (track, count, stop) in enumerate(zip(tracks, counts, stops, strict=True)):
        window = len(track.recent)
        yield Track(
            state=int(arrays.states[n]),
            left=track.left - count,
            memory=tuple(map(float, arrays.memory[n])),
            copied=int(arrays.copied[n]),
            mass=float(arrays.masses[n]),
            recent=np.array(arrays.recent[n][count : count + window], np.int64) if window else track.recent,
            stopped=min(stop, 0),
        )
