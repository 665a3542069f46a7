"""Texts that are being written: which of their drafts may stay, and where they end."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import SampleConfig
from charrnn.constraints import rules
from charrnn.errors import SamplingError
from charrnn.inference.constrained_step import ENDED, STUCK
from charrnn.inference.engines import Cursor
from charrnn.inference.mixture import Blend
from charrnn.text.novelty import Novelty

# Texts drawn anew in a row before the model is said to write nothing else.
MOST_REDRAWS = 1000
# Texts drawn freely in a row, none of which fits, before particles are sent out.
FREE_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Rules:
    """Which texts are drawn anew, and how much of them at a time."""

    holds: bool  # nothing of a text is handed out before it is known to stay
    by_line: bool  # prose is kept line by line; else a text stays or goes as a whole
    unique: bool  # it is no text that this run has written before
    partial: bool  # the last line counts, though it has no end
    novelties: list[Novelty]  # whose lines are not written again
    lines: bool
    by_particles: bool  # when free draws have come to nothing

    @classmethod
    def of(cls, checkpoint: Checkpoint | Blend, config: SampleConfig) -> Rules:
        lines = checkpoint.text.lines
        whole = lines or config.exact or config.match is not None
        by_line = not whole and bool(config.novel)
        return cls(
            holds=bool(config.exact or config.novel or config.unique),
            by_line=by_line,
            unique=config.unique,
            partial=lines or config.match is not None,
            novelties=rules.indexes(checkpoint) if config.novel is True else [],
            lines=lines,
            by_particles=config.exact,
        )

    def is_new(self, draft: str, is_last: bool) -> bool:
        """Whether no line of a draft is one of the training text."""
        lines = draft.split("\n")
        if not (is_last and self.partial):
            lines.pop()  # what comes after the last line end
        elif self.lines and lines[-1] == "":
            lines.pop()
        if not self.lines:
            lines = [line for line in lines if line.strip()]  # an empty line is nobody's
        return not any(novelty.has_line(line) for novelty in self.novelties for line in lines)


class Text:
    """One text: where it stands, how it goes on, and the pieces of it that nobody has taken yet.

    What the rules hold is a draft until it is known to stay. Where it may not, it is drawn anew from where it
    began, with the numbers of the next stream: that is the model's distribution, given that it may stay.
    """

    cursor: Cursor
    random: np.random.Generator
    _began: tuple[Cursor, int, str]  # the cursor, `left` and the ending's tail of the present draft
    _first: tuple[Cursor, int, str]  # .. of the text

    def __init__(
        self,
        index: int,
        ending: Ending,
        outlet: Outlet,
        length: int,
        rules: Rules,
        seen: set[bytes],
        before: str,
    ) -> None:
        """`before` is the prompt's last line, with which the text's first one begins."""
        self.left = length  # characters, at the most
        self.written = 0
        self.pieces: deque[str] = deque()
        self._waiting = 0  # characters in them
        self.draws = 1  # of the present draft
        self.settled = not rules.unique
        self._index = index
        self._ending = ending
        self._outlet = outlet
        self._rules = rules
        self._before = before
        self._started = False
        self._unused = np.empty(0)  # numbers that were drawn, but not needed
        self._given = self._unused
        self._draft = ""
        self._kept = ""  # drafts that stay if the text does
        self._seen = seen  # the texts of the run
        self._repeats = 0
        self._streams = 0

    def start(self, cursor: Cursor, seed: int | None) -> None:
        """It begins after what the cursor has read; later calls do nothing."""
        if not self._started:
            self._started = True
            self._seed = seed
            self.cursor = replace(cursor)
            self._next_stream()
            self._mark()
            self._first = self._began

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
            self.written += len(piece)
            self._hand_out(piece)
            return
        self._draft += piece
        if stopped == STUCK:
            self._redraw()
        elif not self.left or (self._rules.by_line and self._draft.endswith("\n")):
            if self._is_new():
                self._keep()
            else:
                self._redraw()

    def settle(self) -> bool:
        """Whether it may stay, now that those before it are known; else it is drawn anew as a whole."""
        text = self._before + self._without_end(self._kept).removesuffix("\n")
        key = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        self.settled = key not in self._seen
        if self.settled:
            self._seen.add(key)
            self._hand_out(self._kept)
            self._kept = ""
        else:
            self._repeats += 1
            if self._repeats >= MOST_REDRAWS:
                raise SamplingError(
                    f"{MOST_REDRAWS:,} texts in a row had been written before",
                    "lower --count, or raise --temp",
                )
            self._began, self._kept, self.written = self._first, "", 0
            self._redraw()
        return self.settled

    def take(self) -> str:
        piece = self.pieces.popleft()
        self._waiting -= len(piece)
        return piece

    @property
    def waiting(self) -> int:
        """Characters of it that are kept in memory."""
        return self._waiting + len(self._draft) + len(self._kept)

    @property
    def is_for_particles(self) -> bool:
        """Whether free draws of the present draft have come to nothing for so long that others must help."""
        return self._rules.by_particles and self.draws > FREE_DRAWS

    @property
    def beginning(self) -> Cursor:
        """Where the present draft began."""
        cursor, _, _ = self._began
        return cursor

    def _is_new(self) -> bool:
        before = "" if self.written else self._before
        is_last = not self.left
        draft = self._without_end(self._draft) if is_last else self._draft
        return self._rules.is_new(before + draft, is_last)

    def _without_end(self, text: str) -> str:
        """The text, with which it ends, as it is handed out."""
        return text[: max(0, len(text) - self._outlet.left_out(text, self._ending.stop))]

    def _hand_out(self, piece: str) -> None:
        piece = self._outlet.put(piece) if self.left else self._outlet.end(piece, self._ending.stop)
        if piece:
            self._waiting += len(piece)
            self.pieces.append(piece)

    def _keep(self) -> None:
        self.written += len(self._draft)
        if self._rules.unique:
            self._kept += self._draft
        else:
            self._hand_out(self._draft)
        self._draft = ""
        if self._rules.by_line:
            self.draws = 1
        self._mark()

    def _mark(self) -> None:
        """From here it is drawn anew."""
        self._began = replace(self.cursor), self.left, self._ending.tail

    def _redraw(self) -> None:
        if self.draws >= MOST_REDRAWS + (FREE_DRAWS if self._rules.by_particles else 0):
            what = "lines" if self._rules.by_line else "texts"
            raise SamplingError(
                f"of {MOST_REDRAWS:,} {what} in a row, none was what is asked for",
                "ask for less, or raise --temp",
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
    """Finds where a text ends that comes in pieces: with its line, or with the first stop text in it.

    The first is the one that is complete first; of several that end with the same character, the longest.
    """

    def __init__(self, lines: bool, stops: Sequence[str]) -> None:
        self._lines = lines
        self._stops = sorted(stops, key=len, reverse=True)
        self._kept = max(map(len, stops), default=1) - 1  # characters of which a stop text may go on
        self.tail = ""  # of what has been written: the last of those
        self.stop = ""  # the stop text that has ended the text

    def cut(self, piece: str) -> tuple[str, bool]:
        """The piece up to the end, and whether the end is in it."""
        ended, self.stop = False, ""
        if self._lines and (at := piece.find("\n")) >= 0:
            piece, ended = piece[: at + 1], True
        if self._stops:
            text = self.tail + piece
            ends = [at + len(stop) for stop in self._stops if (at := text.find(stop)) >= 0]
            if ends:
                end = min(ends)
                self.stop = next(stop for stop in self._stops if text.endswith(stop, 0, end))
                return piece[: end - len(self.tail)], True
            self.tail = text[max(0, len(text) - self._kept) :]
        return piece, ended


class Outlet:
    """Hands a text out as it comes, but for what may still have to be left out at its end.

    That is the stop text, where it is dropped, and of bytes those of a character of UTF-8 that is not
    complete: no length cuts a character. A text that is no UTF-8 passes as it is.
    """

    def __init__(self, dropped: Sequence[str], *, whole_characters: bool = False, before: str = "") -> None:
        """`dropped` are the stop texts; with `whole_characters`, text is bytes that go on from `before`."""
        self._dropped = dropped
        self._longest = max(map(len, dropped), default=0)
        self._begun = ""  # bytes of a character before what is held
        self._held = ""
        begun = self._begun_in(before) if whole_characters else None
        self._whole_characters = begun is not None
        self._begun = begun or ""

    def put(self, text: str) -> str:
        """What can be handed out, now that the text has gone on."""
        text = self._held + text
        end = len(text) - self._may_be_dropped(text)
        if self._whole_characters:
            begun = self._begun_in(text[:end])
            self._whole_characters = begun is not None
            end -= min(len(begun or ""), end)
        if end:
            self._begun = ""
        self._held = text[end:]
        return text[:end]

    def end(self, text: str, stop: str) -> str:
        """The last that is handed out, now that the text has ended, with a stop text or none."""
        kept = len(self._held) + len(text) - self.left_out(text, stop)
        return (self._held + text)[:kept]

    def left_out(self, text: str, stop: str) -> int:
        """How many characters are left out if the text goes on with these and ends so."""
        if stop and not self._dropped:
            return 0
        text = self._held + text
        text = text[: len(text) - len(stop)]
        begun = self._begun_in(text) if self._whole_characters else None
        return len(stop) + min(len(begun or ""), len(text))

    def _may_be_dropped(self, text: str) -> int:
        """Characters at the text's end with which a stop text begins."""
        for n in range(min(len(text), self._longest - 1), 0, -1):
            end = text[-n:]
            if any(stop.startswith(end) for stop in self._dropped):
                return n
        return 0

    def _begun_in(self, text: str) -> str | None:
        """The bytes of a character that is not complete at the text's end; None: it is no UTF-8."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode((self._begun + text).encode("latin-1"))
        except UnicodeDecodeError:
            return None
        return decoder.getstate()[0].decode("latin-1")
