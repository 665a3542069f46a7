"""Texts that are being written: which of their drafts may stay, and where they end."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from charrnn import control
from charrnn.checkpoint import Checkpoint
from charrnn.config import SampleConfig
from charrnn.errors import SamplingError
from charrnn.mixture import Blend
from charrnn.novelty import Novelty
from charrnn.paths import Cursor
from charrnn.steering import ENDED, STUCK

# Texts drawn anew in a row before the model is said to write nothing else.
MOST_REDRAWS = 1000
# Texts drawn freely in a row, none of which fits, before particles are sent out.
FREE_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Rules:
    """Which texts are drawn anew, and how much of them at a time."""

    holds: bool  # nothing of a text is handed out before it is known to stay
    by_line: bool  # prose is kept line by line; else a text stays or goes as a whole
    unique: bool  # none of its lines is one that this run has written before
    partial: bool  # the last line counts, though it has no end
    novelties: list[Novelty]  # whose lines are not written again
    lines: bool
    by_particles: bool  # when free draws have come to nothing

    @classmethod
    def of(cls, checkpoint: Checkpoint | Blend, config: SampleConfig) -> Rules:
        lines = checkpoint.text.lines
        whole = lines or config.exact or config.match is not None
        by_line = not whole and bool(config.novel or config.unique)
        return cls(
            holds=bool(config.exact or config.novel or config.unique),
            by_line=by_line,
            unique=config.unique,
            partial=lines or config.match is not None,
            novelties=control.indexes(checkpoint) if config.novel is True else [],
            lines=lines,
            by_particles=config.exact,
        )

    def accept(self, draft: str, is_last: bool, seen: set[str]) -> bool:
        """Whether the lines of a draft may stay. Those that do are added to `seen`."""
        lines = draft.split("\n")
        if not (is_last and self.partial):
            lines.pop()  # what comes after the last line end
        elif self.lines and lines[-1] == "":
            lines.pop()
        if not self.lines:
            lines = [line for line in lines if line.strip()]  # an empty line is nobody's
        if any(novelty.has_line(line) for novelty in self.novelties for line in lines):
            return False
        if self.unique:
            if len(set(lines)) < len(lines) or not seen.isdisjoint(lines):
                return False
            seen.update(lines)
        return True


class Text:
    """One text: where it stands, how it goes on, and the pieces of it that nobody has taken yet.

    What the rules hold is a draft until it is known to stay. Where it may not, it is drawn anew from where it
    began, with the numbers of the next stream: that is the model's distribution, given that it may stay.
    """

    cursor: Cursor
    random: np.random.Generator

    def __init__(
        self, index: int, ending: Ending, length: int, rules: Rules, seen: set[str], before: str
    ) -> None:
        """`before` is the prompt's last line, with which the text's first one begins."""
        self.left = length  # characters, at the most
        self.written = 0
        self.pieces: deque[str] = deque()
        self.waiting = 0  # characters in them
        self.draws = 1  # of the present draft
        self.settled = not rules.unique
        self._index = index
        self._ending = ending
        self._rules = rules
        self._before = before
        self._started = False
        self._unused = np.empty(0)  # numbers that were drawn, but not needed
        self._given = self._unused
        self._draft = ""
        self._seen = seen  # lines of the run
        self._streams = 0

    def start(self, cursor: Cursor, seed: int | None) -> None:
        """It begins after what the cursor has read; later calls do nothing."""
        if not self._started:
            self._started = True
            self._seed = seed
            self.cursor = replace(cursor)
            self._next_stream()
            self._mark()

    def numbers(self, n: int) -> npt.NDArray[np.float64]:
        """Uniform ones in [0, 1) for up to n more characters."""
        n = min(n, self.left)
        new = self.random.random(max(n - len(self._unused), 0))
        self._given = np.concatenate([self._unused, new])
        self._unused = self._given[n:]
        return self._given[:n]

    def add(self, piece: str, stopped: int = 0) -> None:
        """What has been written for it, perhaps past its end; `stopped` may be ENDED or STUCK."""
        self._unused = self._given[len(piece) + (stopped < 0) :]
        self.left -= len(piece)
        piece, ended = self._ending.cut(piece)
        if ended or stopped == ENDED:
            self.left = 0
        if not self._rules.holds and stopped != STUCK:
            self._hand_out(piece)
            return
        self._draft += piece
        if stopped == STUCK:
            self._redraw()
        elif not self.left or (self._rules.by_line and self._draft.endswith("\n")):
            if self._rules.unique and not self._rules.by_line:
                return  # what those before it have written, is yet to be seen
            if self._may_stay(is_last=not self.left):
                self._keep()
            else:
                self._redraw()

    def settle(self) -> bool:
        """Whether it may stay, now that those before it are known; else it is to be written on."""
        if self._rules.by_line:
            self.settled = True  # each of its lines has been seen to
        elif self._may_stay(is_last=True):
            self.settled = True
            self._keep()
        else:
            self._redraw()
        return self.settled

    def take(self) -> str:
        piece = self.pieces.popleft()
        self.waiting -= len(piece)
        return piece

    @property
    def is_for_particles(self) -> bool:
        """Whether free draws of the present draft have come to nothing for so long that others must help."""
        return self._rules.by_particles and self.draws > FREE_DRAWS

    @property
    def beginning(self) -> Cursor:
        """Where the present draft began."""
        cursor, _, _ = self._began
        return cursor

    def _may_stay(self, *, is_last: bool) -> bool:
        before = "" if self.written else self._before
        return self._rules.accept(before + self._draft, is_last, self._seen)

    def _hand_out(self, piece: str) -> None:
        self.written += len(piece)
        self.waiting += len(piece)
        self.pieces.append(piece)

    def _keep(self) -> None:
        self._hand_out(self._draft)
        self._draft = ""
        self.draws = 1
        self._mark()

    def _mark(self) -> None:
        """From here it is drawn anew."""
        self._began = replace(self.cursor), self.left, self._ending.tail

    def _redraw(self) -> None:
        if self.draws >= MOST_REDRAWS + (FREE_DRAWS if self._rules.by_particles else 0):
            raise SamplingError(
                f"of {MOST_REDRAWS:,} texts in a row, none was what is asked for",
                "ask for less, raise --temp, or lower --count",
            )
        cursor, self.left, self._ending.tail = self._began
        self.cursor = replace(cursor)
        self._draft = ""
        self.draws += 1
        self._next_stream()

    def _next_stream(self) -> None:
        """The numbers of each draft are a stream of its own, so that they depend on nothing else."""
        key = (
            None
            if self._seed is None
            else [self._seed, self._index, *([self._streams] if self._streams else [])]
        )
        self.random = np.random.default_rng(key)
        self._streams += 1
        self._unused = self._given = np.empty(0)


class Ending:
    """Finds where a text ends that comes in pieces."""

    def __init__(self, lines: bool, until: str) -> None:
        self._lines = lines
        self._until = until
        self.tail = ""  # of what has been written: the longest that may be part of `until`

    def cut(self, piece: str) -> tuple[str, bool]:
        """The piece up to the end, and whether the end is in it."""
        ended = False
        if self._lines and (at := piece.find("\n")) >= 0:
            piece, ended = piece[: at + 1], True
        if self._until:
            text = self.tail + piece
            if (at := text.find(self._until)) >= 0:
                return piece[: at + len(self._until) - len(self.tail)], True
            self.tail = text[max(0, len(text) - len(self._until) + 1) :]
        return piece, ended
