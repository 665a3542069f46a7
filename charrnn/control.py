"""From the settings of a sample to what steers it: the run's rules, and where each of its texts stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint import Checkpoint
from charrnn.config import SampleConfig
from charrnn.errors import CheckpointError, SamplingError
from charrnn.steering import BASES, FINAL, Filters, Rules, Tracks, hash_begun, is_copied

if TYPE_CHECKING:
    from charrnn.automaton import Automaton

DRY_WINDOW = 1024  # characters in which repeats are looked for
BREAKERS = '\n:"*'  # over which a repeat does not reach: those of DRY's author
MOST_FALSE = 0.1  # share of new runs that an index may take for copied ones

Ids = npt.NDArray[np.int64]


@dataclass(slots=True)
class Track:
    """Where one text stands; see steering.Tracks."""

    state: int = FINAL
    left: int = 0
    limit: float = 0.0
    copied: int = 0
    mass: float = 0.0
    recent: Ids = field(default_factory=lambda: np.empty(0, np.int64))  # (W,)
    stopped: int = 0  # steering.ENDED or STUCK

    def copy(self) -> Track:
        return replace(self)


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


class Control:
    """The rules of one run, as arrays and as lists, and the track that each of its texts begins with."""

    def __init__(self, arrays: Rules, start: Track) -> None:
        self.arrays = arrays
        self.lists = arrays._replace(
            table=Rows(arrays.table),
            classes=arrays.classes.tolist(),
            reach=arrays.reach.tolist(),
            bits=arrays.bits.tobytes(),
            points=arrays.points.tolist(),
            breakers=arrays.breakers.tolist(),
        )
        self.start = start

    def weighing(self) -> Control:
        """The same, but preventing what breaks the rules, and summing up what that costs."""
        return Control(self.arrays._replace(checks=False, weighs=True), self.start)


def filters(config: SampleConfig) -> Filters:
    """The settings of the filters."""
    return Filters(
        temperature=float(config.temperature),
        top_k=config.top_k,
        typical=float(config.typical),
        top_p=float(config.top_p),
        min_p=float(config.min_p),
        mirostat=float(config.mirostat),
        mirostat_rate=float(config.mirostat_rate),
        dry=float(config.dry),
        dry_base=float(config.dry_base),
        dry_length=config.dry_length,
    )


def free(vocab_size: int) -> Control:
    """No rules."""
    return Control(_rules(np.zeros(vocab_size, np.int64), active=False), Track())


def prepare(checkpoint: Checkpoint, config: SampleConfig, prompt: str, length: int) -> Control:
    """What steers texts of at most `length` characters that go on from the prompt.

    Raises:
        ConfigError: the expression is none, or too large.
        SamplingError: no text can be what was asked for.
        CheckpointError: the model has no index of its training text, and one is needed.
    """
    characters = checkpoint.vocabulary.characters
    points = checkpoint.vocabulary.code_points.astype(np.int64)
    automaton = _automaton(checkpoint, config, prompt, length)
    run = 0 if isinstance(config.novel, bool) else config.novel
    if config.novel:
        require_novelty(checkpoint)
    if automaton is None and not run and not config.dry and not config.mirostat:
        return free(len(characters))

    rules = _rules(points, active=True)
    start = Track(left=length, limit=2.0 * config.mirostat)
    if automaton is not None:
        rules = rules._replace(
            checks=config.exact,
            table=automaton.table,
            classes=automaton.classes,
            reach=automaton.reach,
            ends=automaton.ends,
        )
        start.state = automaton.start
    window = 0
    if config.dry:
        window = DRY_WINDOW
        rules = rules._replace(breakers=np.array([c in BREAKERS for c in characters]))
    if run:
        rules = _against_copies(rules, checkpoint, run)
        window = max(window, rules.gram)
    rules = rules._replace(window=window)
    start.recent = np.full(window, -1, np.int64)
    if window and prompt:
        read = checkpoint.vocabulary.encode(prompt, "skip").astype(np.int64)[-window:]
        start.recent[window - len(read) :] = read
    if run:
        start.copied = _copied(rules, checkpoint, prompt)
    return Control(rules, start)


def require_novelty(checkpoint: Checkpoint) -> None:
    if checkpoint.novelty is None:
        raise CheckpointError(
            "the model has no index of its training text, which --novel needs: an older charrnn made it",
            "train it again",
        )


def _automaton(checkpoint: Checkpoint, config: SampleConfig, prompt: str, length: int) -> Automaton | None:
    if config.match is None and not config.ban and config.only is None:
        return None
    from charrnn.automaton import build  # not at the top: free texts, which start at once, need none

    expression = None
    if config.match is not None:
        from charrnn.expressions import compiled

        expression = compiled(config.match, checkpoint.vocabulary.characters)
    automaton = build(
        checkpoint.vocabulary.characters,
        lines=checkpoint.text.lines,
        expression=expression,
        bans=config.ban,
        only=config.only,
        prompt=prompt,
    )
    shortest = int(automaton.reach[automaton.start])
    if shortest > length:
        raise SamplingError(
            f"the shortest text that matches has {shortest:,} characters, not {length:,}",
            f"give --length {shortest} or more",
        )
    return automaton


def _rules(points: Ids, *, active: bool) -> Rules:
    V = len(points)
    return Rules(
        active=active,
        checks=False,
        weighs=False,
        table=np.zeros((0, 1), np.int32),
        classes=np.zeros(V, np.int32),
        reach=np.zeros(1, np.int64),
        ends=False,
        run=0,
        gram=1,
        probes=0,
        bits=np.zeros(1, np.uint8),
        points=points,
        breakers=np.zeros(V, np.bool_),
        window=0,
    )


def _against_copies(rules: Rules, checkpoint: Checkpoint, run: int) -> Rules:
    novelty = checkpoint.novelty
    assert novelty is not None
    if (rate := novelty.false_rate(run)) > MOST_FALSE:
        longer = next((n for n in range(run + 1, 10_000) if novelty.false_rate(n) <= MOST_FALSE), None)
        raise SamplingError(
            f"the model's index is too full for runs of {run} characters: it would take {rate:.0%} of new "
            "ones for copies",
            "train on less text" if longer is None else f"give --novel {longer}",
        )
    gram = novelty.gram(run)
    bloom = novelty.runs[gram]
    return rules._replace(
        run=run, gram=gram, probes=bloom.probes, bits=np.frombuffer(bloom.bits, np.uint8).copy()
    )


def _copied(rules: Rules, checkpoint: Checkpoint, prompt: str) -> int:
    """How many grams in a row, up to the prompt's last character, are in the training text."""
    ids = checkpoint.vocabulary.encode(prompt, "skip").astype(np.int64)[-rules.run - rules.gram :]
    count = 0
    for n in range(rules.gram - 1, len(ids)):
        first, second = (hash_begun(ids, n, rules.gram - 1, rules.points, base) for base in BASES)
        count = count + 1 if is_copied(rules, int(first), int(second), int(ids[n])) else 0
    return count


def gathered(tracks: Sequence[Track], T: int) -> Tracks:
    """The tracks of B texts as arrays, with room for T characters more."""
    window = len(tracks[0].recent)
    recent = np.full((len(tracks), window + T if window else 0), -1, np.int64)
    for row, track in zip(recent, tracks, strict=True):
        row[:window] = track.recent
    return Tracks(
        states=np.array([track.state for track in tracks]),
        left=np.array([track.left for track in tracks]),
        limits=np.array([track.limit for track in tracks]),
        copied=np.array([track.copied for track in tracks]),
        masses=np.array([track.mass for track in tracks]),
        recent=recent,
    )


def listed(track: Track, T: int) -> Tracks:
    """The same of one text, as lists."""
    recent = [*track.recent.tolist(), *[-1] * T] if len(track.recent) else []
    return Tracks([track.state], [track.left], [track.limit], [track.copied], [track.mass], [recent])


def moved(
    tracks: Sequence[Track], arrays: Tracks, counts: Sequence[int], stops: Sequence[int]
) -> Iterator[Track]:
    """The tracks once so many characters were written; `stops` are ENDED or STUCK, or 0 and above."""
    for n, (track, count, stop) in enumerate(zip(tracks, counts, stops, strict=True)):
        window = len(track.recent)
        yield Track(
            state=int(arrays.states[n]),
            left=track.left - count,
            limit=float(arrays.limits[n]),
            copied=int(arrays.copied[n]),
            mass=float(arrays.masses[n]),
            recent=np.array(arrays.recent[n][count : count + window], np.int64) if window else track.recent,
            stopped=min(stop, 0),
        )
