"""From the settings of a sample to what steers it: the run's rules, and where each of its texts stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint import Checkpoint
from charrnn.config import SampleConfig
from charrnn.errors import CheckpointError, ConfigError, SamplingError
from charrnn.mixture import Blend
from charrnn.novelty import Novelty
from charrnn.steering import BASES, FINAL, Filters, Rules, Tracks, hash_begun, is_copied
from charrnn.vocabulary import Vocabulary

if TYPE_CHECKING:
    from charrnn.automaton import Automaton

DRY_WINDOW = 1024  # characters in which repeats are looked for
BREAKERS = '\n:"*'  # over which a repeat does not reach: those of DRY's author
MOST_FALSE = 0.1  # share of new runs that an index may take for copied ones

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Track:
    """Where one text stands; see steering.Tracks."""

    state: int = FINAL
    left: int = 0
    limit: float = 0.0
    copied: int = 0
    mass: float = 0.0
    recent: Ids = field(default_factory=lambda: np.empty(0, np.int64))  # (W,)
    stopped: int = 0  # steering.ENDED or STUCK


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
    """The rules of one run, as arrays and as lists, and where each of its texts begins."""

    def __init__(
        self,
        arrays: Rules,
        start: Track = Track(),
        vocabulary: Vocabulary | None = None,
        automaton: Automaton | None = None,
    ) -> None:
        self.arrays = arrays
        self.lists = arrays._replace(
            table=Rows(arrays.table),
            classes=arrays.classes.tolist(),
            reach=arrays.reach.tolist(),
            bits=arrays.bits.tobytes(),
            points=arrays.points.tolist(),
            breakers=arrays.breakers.tolist(),
        )
        self._start = start
        self._vocabulary = vocabulary
        self._automaton = automaton

    def begin(self, prompt: str) -> Track:
        """The track of a text that goes on from the prompt.

        Raises:
            SamplingError: no text that does can be what was asked for.
        """
        rules, track = self.arrays, self._start
        if self._automaton is not None:
            track = replace(track, state=self._automaton.start(prompt, track.left))
        if not rules.window:
            return track
        assert self._vocabulary is not None
        ids = self._vocabulary.encode(prompt, "skip").astype(np.int64)
        recent = np.full(rules.window, -1, np.int64)
        read = ids[-rules.window :]
        recent[rules.window - len(read) :] = read
        return replace(track, recent=recent, copied=_copied(rules, ids) if rules.run else 0)

    @cached_property
    def weighing(self) -> Control:
        """The same, but preventing what breaks the rules, and summing up what that costs."""
        return Control(
            self.arrays._replace(checks=False, weighs=True), self._start, self._vocabulary, self._automaton
        )


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
    """Rules that allow everything."""
    return Control(_rules(np.zeros(vocab_size, np.int64)))


def prepare(
    model: Checkpoint | Blend, config: SampleConfig, length: int, prompt: str | None
) -> Control | None:
    """What steers texts of at most `length` characters that go on from the prompt, or from any: None.

    Where nothing but the filters of `sampling.sample` is asked for, there is nothing to steer.

    Raises:
        ConfigError: the expression is none, or too large, or a mixture has no index for what is asked.
        SamplingError: no text can be what was asked for.
        CheckpointError: the model has no index of its training text, and one is needed.
    """
    automaton = _automaton(model, config, prompt)
    if automaton is not None and prompt is not None:
        automaton.start(prompt, length)
    run = 0 if isinstance(config.novel, bool) else config.novel
    if automaton is None and not (run or config.dry or config.mirostat or config.typical < 1.0):
        return None

    vocabulary = model.vocabulary
    rules = _rules(vocabulary.code_points.astype(np.int64))
    if automaton is not None:
        rules = rules._replace(
            checks=config.exact,
            table=automaton.table,
            classes=automaton.classes,
            reach=automaton.reach,
            ends=automaton.ends,
        )
    window = 0
    if config.dry:
        window = DRY_WINDOW
        rules = rules._replace(breakers=np.array([c in BREAKERS for c in vocabulary.characters]))
    if run:
        rules = _against_copies(rules, indexes(model), run)
        window = max(window, rules.gram)
    start = Track(left=length, limit=2.0 * config.mirostat)
    return Control(rules._replace(window=window), start, vocabulary, automaton)


def indexes(model: Checkpoint | Blend) -> list[Novelty]:
    """What is in the training text of each model.

    Raises:
        CheckpointError: a model does not know it.
    """
    parts = model.parts if isinstance(model, Blend) else (model,)
    found = [part.novelty for part in parts if part.novelty is not None]
    if len(found) < len(parts):
        raise CheckpointError(
            "the model has no index of its training text, which --novel needs: an older charrnn made it",
            "train it again",
        )
    return found


def _automaton(model: Checkpoint | Blend, config: SampleConfig, prompt: str | None) -> Automaton | None:
    if config.match is None and not config.ban and config.only is None:
        return None
    from charrnn.automaton import build  # not at the top: free texts, which start at once, need none

    expression = None
    if config.match is not None:
        from charrnn.expressions import compiled

        expression = compiled(config.match, model.vocabulary.characters)
    return build(
        model.vocabulary.characters,
        lines=model.text.lines,
        expression=expression,
        bans=config.ban,
        only=config.only,
        prompt=prompt,
        natural=not config.exact,
        empty=not model.text.lines,
    )


def _rules(points: Ids) -> Rules:
    V = len(points)
    return Rules(
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


def _against_copies(rules: Rules, found: list[Novelty], run: int) -> Rules:
    if len(found) > 1:
        raise ConfigError(
            "--novel N knows the runs of one training text, and this is a mixture of models",
            "leave out N: no line of any of their texts is then written",
        )
    (novelty,) = found
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


def _copied(rules: Rules, prompt: Ids) -> int:
    """How many grams in a row, up to the prompt's last character, are in the training text."""
    ids = prompt[-rules.run - rules.gram :]
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
