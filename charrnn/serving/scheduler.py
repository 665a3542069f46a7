"""All texts that are asked for, written on one thread in turns that are too short to be noticed.

Texts whose characters are chosen in the same way (one label, one temperature, the same filters and
constraints) are written side by side, see charrnn.generation.together. Groups of them take turns.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import NamedTuple

from charrnn import api
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import WRITING_STRENGTH, SampleConfig, WeightPrecision
from charrnn.errors import CharrnnError
from charrnn.generation.together import Order, Place, Together
from charrnn.inference.mixture import Blend

TURN = 0.012  # seconds; a new text waits for the end of one, and the next begins with its first characters
LOOK = 0.02  # seconds between looks at texts that wait for their readers
MOST_TEXTS = 1024  # at hand
MOST_IDLE = 16  # groups, and models with labels, that are kept for the next text of their kind


class BusyError(CharrnnError):
    """There are too many texts at hand."""


class StoppedError(CharrnnError):
    """The server is being stopped."""


class Manner(NamedTuple):
    """How a group's characters are chosen: `settings` without seed, length and stop texts."""

    label: tuple[tuple[str, str], ...]  # by the names of columns
    strength: float
    settings: SampleConfig

    @classmethod
    def of(cls, config: SampleConfig, label: Mapping[str, str] | None, strength: float | None) -> Manner:
        """The manner of texts with these settings, and with the labels, if any."""
        pairs = tuple(sorted((label or {}).items()))
        led = WRITING_STRENGTH if strength is None else strength
        bare = replace(config, seed=None, length=None, until="", drop_until=False)
        return cls(pairs, led if pairs else 1.0, bare)


class Scheduler:
    """Writes what is asked for, on a thread of its own.

    `report` gets errors that are no fault of those who ask.
    """

    def __init__(
        self,
        model: Checkpoint | Blend,
        *,
        precision: WeightPrecision = "float32",
        threads: int | None = None,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.model, self.precision = model, precision
        self._threads, self._report = threads, report
        self._changed = threading.Condition()  # guards the tables and the queue
        self._groups: OrderedDict[Manner, Together] = OrderedDict()  # the last used ones last
        self._models: OrderedDict[Hashable, Checkpoint | Blend] = OrderedDict()  # likewise
        self._turns: deque[Together] = deque()  # groups that are not empty
        self._at_hand: list[Place] = []
        self._preparing = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="charrnn-serve", daemon=True)

    def start(self) -> None:
        """Start the thread, and load what most texts need."""
        self._usual = self.prepare(Manner.of(SampleConfig(precision=self.precision), None, None))
        self._thread.start()

    def stop(self) -> None:
        """End all texts and the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def texts_at_hand(self) -> int:
        return sum(not place.done for place in self._at_hand)

    @property
    def is_compiled(self) -> bool:
        """Whether texts with the usual settings are written at full speed already."""
        return self._usual.is_compiled

    def is_prepared(self, manner: Manner) -> bool:
        """Whether `prepare` has nothing to do, and so takes no time."""
        return manner in self._groups

    def prepare(self, manner: Manner) -> Together:
        """The group of this manner. A new one may take seconds: expressions become automata.

        Raises:
            ConfigError, SamplingError, CheckpointError, VocabularyError: there can be none.
        """
        if (known := self._known(manner)) is not None:
            return known
        with self._preparing:
            if (known := self._known(manner)) is not None:
                return known
            model = self._labelled(manner)
            group = Together(model, manner.settings, self._threads)
            group.load()
            with self._changed:
                self._groups[manner] = group
                idle = [name for name, other in self._groups.items() if other not in self._turns]
                for old in idle[: max(0, len(idle) - MOST_IDLE)]:
                    del self._groups[old]
            return group

    def _known(self, manner: Manner) -> Together | None:
        with self._changed:
            if manner in self._groups:
                self._groups.move_to_end(manner)
            return self._groups.get(manner)

    def _labelled(self, manner: Manner) -> Checkpoint | Blend:
        if not manner.label:
            return self.model
        key = manner.label, manner.strength
        if key not in self._models:
            self._models[key] = api.given(self.model, dict(manner.label), manner.strength)
        self._models.move_to_end(key)
        while len(self._models) > MOST_IDLE:
            self._models.popitem(last=False)
        return self._models[key]

    def ask(self, manner: Manner, order: Order) -> list[Place]:
        """Places for the texts of an order; what is wrong with it is said there.

        Raises:
            BusyError, StoppedError: it cannot be taken.
            See `prepare`.
        """
        group = self.prepare(manner)
        with self._changed:
            if self._stopping:
                raise StoppedError("the server is being stopped", "ask again when it is back")
            self._at_hand = [place for place in self._at_hand if not place.done]
            if len(self._at_hand) + len(order.indices) > MOST_TEXTS:
                raise BusyError(f"{len(self._at_hand):,} texts are at hand", "ask again a little later")
            places = group.join(order)
            self._at_hand += places
            if group not in self._turns:
                self._turns.append(group)
            self._turns.remove(group)
            self._turns.appendleft(group)  # new texts begin at once
            self._changed.notify()
        return places

    def _run(self) -> None:
        while (group := self._next_turn()) is not None:
            try:
                group.advance(TURN)
            except Exception as problem:  # a defect: those who wait must hear of it
                what = f"{type(problem).__name__}: {problem}"
                self._report(f"unexpected {what}: please report it")
                group.give_up(CharrnnError(f"unexpected {what}", "please report it"))
        for group in (*self._groups.values(), *self._turns):
            group.give_up(StoppedError("the server is being stopped", "ask again when it is back"))

    def _next_turn(self) -> Together | None:
        """The group whose turn it is, once there is one with something to do; None: this is the end."""
        with self._changed:
            while not self._stopping:
                for _ in range(len(self._turns)):
                    group = self._turns.popleft()
                    if group.is_empty:
                        continue
                    self._turns.append(group)
                    if group.is_busy or time.monotonic() > group.looked + LOOK:
                        return group
                self._changed.wait(LOOK if self._turns else None)
        return None
