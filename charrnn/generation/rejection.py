"""Rejection sampling of texts: which drafts are accepted, and where a text ends."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
from charrnn.vocabulary import END

# Drafts rejected in a row before an error says that the model writes nothing else.
MOST_REDRAWS = 1000
# Unconstrained drafts rejected in a row before particles write the text.
FREE_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Rules:
    """Which drafts are rejected, and how much of a text a draft is."""

    holds: bool  # nothing of a draft is handed out before it is accepted
    by_line: bool  # each line of prose is a draft; otherwise the whole text is one
    unique: bool  # a text that this run has already written is rejected
    partial: bool  # the last line is checked even if it has no "\n"
    novelties: list[Novelty]  # the indexes of training texts whose lines are rejected
    end: str  # what ends a text: "\n" in a model of lines, END in one of other records; "": nothing does
    by_particles: bool  # after FREE_DRAWS drafts that were all rejected, particles write the text
    # Hashes of the texts of this run that may not be repeated; see Text.settle.
    seen: set[bytes] = field(default_factory=set)

    @classmethod
    def of(cls, checkpoint: Checkpoint | Blend, config: SampleConfig) -> Rules:
        partial = checkpoint.text.records or config.match is not None
        return cls(
            holds=bool(config.exact or config.novel or config.unique),
            by_line=bool(config.novel) and not (partial or config.exact),
            unique=config.unique,
            partial=partial,
            novelties=rules.indexes(checkpoint) if config.novel is True else [],
            end=checkpoint.text.end,
            by_particles=config.exact,
        )

    def is_new(self, draft: str, is_last: bool) -> bool:
        """Whether no line of the draft, or no record, occurs in the training text."""
        if self.end == END:
            return not any(novelty.has_line(draft) for novelty in self.novelties)
        lines = draft.split("\n")
        if not (is_last and self.partial):
            lines.pop()  # the text after the last "\n"
        elif self.end and lines[-1] == "":
            lines.pop()
        if not self.end:
            lines = [line for line in lines if line.strip()]  # an empty line is no copy
        return not any(novelty.has_line(line) for novelty in self.novelties for line in lines)


@dataclass(eq=False)
class Text:
    """One text that is being written: its cursor, its present draft, and the pieces not yet taken.

    A draft is held back until it is accepted. A rejected draft is drawn anew from its beginning with the
    numbers of the next random stream: this is rejection sampling, so accepted drafts have the model's
    distribution, conditioned on the rules.
    """

    index: int
    _ending: Ending
    _outlet: Outlet
    left: int  # the most characters that may still be written, END included
    _rules: Rules
    _before: str  # the prompt's last line, which the text's first line continues; of records, all of it
    ended: bool = False  # it came to its own end, or to a stop text
    written: int = 0  # characters that were accepted
    pieces: deque[str] = field(default_factory=deque)
    _waiting: int = 0  # characters in the pieces
    draws: int = 1  # attempts at the present draft
    settled: bool = False  # the text may stay in the run: it repeats none before it
    _started: bool = False
    _draft: str = ""
    _kept: str = ""  # accepted drafts, handed out once the text is settled
    _repeats: int = 0
    _streams: int = 0
    # Set by `start`:
    cursor: Cursor = field(init=False)
    random: np.random.Generator = field(init=False)
    _began: tuple[Cursor, int, str] = field(init=False)  # cursor, `left` and tail at the draft's start
    _first: tuple[Cursor, int, str] = field(init=False)  # the same at the text's start
    _given: npt.NDArray[np.float64] = field(init=False)  # the uniform numbers of the last call
    _unused: npt.NDArray[np.float64] = field(init=False)  # those that were not needed

    def __post_init__(self) -> None:
        self.settled = not self._rules.unique

    def start(self, cursor: Cursor, seed: int | None) -> None:
        """Begin the text at the cursor; later calls do nothing."""
        if not self._started:
            self._started = True
            self._seed = seed
            self.cursor = replace(cursor)
            self._next_stream()
            self._mark()
            self._first = self._began

    def numbers(self, n: int) -> npt.NDArray[np.float64]:
        """Uniform numbers in [0, 1) for up to n more characters."""
        n = min(n, self.left)
        new = self.random.random(max(n - len(self._unused), 0))
        self._given = np.concatenate([self._unused, new])
        self._unused = self._given[n:]
        return self._given[:n]

    def add(self, piece: str, stopped: int = 0) -> None:
        """Append a piece, which may run past the text's end; `stopped` may be ENDED or STUCK."""
        self._unused = self._given[len(piece) + (stopped < 0) :]
        self.left -= len(piece)
        if not self.left and self._rules.end == END and not piece.endswith(END):
            piece = piece[:-1]  # only END could have come after the greatest length
        piece, ended = self._ending.cut(piece)
        self.ended = ended or stopped == ENDED
        if self.ended:
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
        """Whether the text differs from all texts before it, which are settled; if not, it is redrawn."""
        text = self._before + self._without_end(self._kept)
        if self._rules.end != END:
            text = text.removesuffix("\n")
        key = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        self.settled = key not in self._rules.seen
        if self.settled:
            self._rules.seen.add(key)
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
    def closed(self) -> bool:
        """Whether END came."""
        return self._ending.closed

    @property
    def waiting(self) -> int:
        """Characters of the text that are held in memory."""
        return self._waiting + len(self._draft) + len(self._kept)

    @property
    def is_for_particles(self) -> bool:
        """Whether so many drafts were rejected that particles should write the text."""
        return self._rules.by_particles and self.draws > FREE_DRAWS

    @property
    def beginning(self) -> Cursor:
        """The cursor at the start of the present draft."""
        cursor, _, _ = self._began
        return cursor

    def _is_new(self) -> bool:
        before = "" if self.written else self._before
        is_last = not self.left
        draft = self._without_end(self._draft) if is_last else self._draft
        return self._rules.is_new(before + draft, is_last)

    def _without_end(self, text: str) -> str:
        """The end of the text as it will be handed out, without a dropped stop text."""
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
        """Start a new draft here."""
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
        """Give the next draft a random stream of its own, so that it depends on nothing before it."""
        stream = [self._streams] if self._streams else []
        key = None if self._seed is None else [self._seed, self.index, *stream]
        self.random = np.random.default_rng(key)
        self._streams += 1
        self._unused = self._given = np.empty(0)


class Ending:
    """Finds the end of a text that arrives in pieces: the character `end`, or the first stop text.

    The first stop text is the one completed first; of several completed by the same character, the longest.
    """

    def __init__(self, end: str, stops: Sequence[str]) -> None:
        self._end = end
        self._stops = sorted(stops, key=len, reverse=True)
        self._kept = max(map(len, stops), default=1) - 1  # characters that may begin a stop text
        self.tail = ""  # the last characters of the text, as many as that
        self.stop = ""  # the stop text that ended the text
        self.closed = False  # END ended it

    def cut(self, piece: str) -> tuple[str, bool]:
        """The piece up to the text's end, without END, and whether the piece contains that end."""
        self.closed, self.stop = False, ""
        ended = bool(self._end) and (at := piece.find(self._end)) >= 0
        if ended:
            self.closed = self._end == END
            piece = piece[: at + (not self.closed)]
        if self._stops:
            text = self.tail + piece
            ends = [at + len(stop) for stop in self._stops if (at := text.find(stop)) >= 0]
            if ends:
                end = min(ends)
                self.stop = next(stop for stop in self._stops if text.endswith(stop, 0, end))
                self.closed = False
                return piece[: end - len(self.tail)], True
            self.tail = text[max(0, len(text) - self._kept) :]
        return piece, ended


class Outlet:
    """Hands out a text as it is written, but holds back what may have to be dropped at its end.

    This is the beginning of a stop text that is dropped and, in a model of bytes, an incomplete UTF-8
    character: no maximum length cuts a character in two. Bytes that are not valid UTF-8 pass unchanged.
    """

    def __init__(self, dropped: Sequence[str], *, whole_characters: bool = False, before: str = "") -> None:
        """`dropped` are stop texts; with `whole_characters` the text is bytes, which follow `before`."""
        self._dropped = dropped
        self._longest = max(map(len, dropped), default=0)
        self._begun = self._held = ""  # bytes of an incomplete character before the held text; this text
        begun = self._begun_in(before) if whole_characters else None
        self._whole_characters = begun is not None
        self._begun = begun or ""

    def put(self, text: str) -> str:
        """The text that can be handed out after `text` was appended."""
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
        """The last piece to hand out, once the text has ended with `text`; `stop` may be ""."""
        kept = len(self._held) + len(text) - self.left_out(text, stop)
        return (self._held + text)[:kept]

    def left_out(self, text: str, stop: str) -> int:
        """How many characters are dropped if the text ends with `text`."""
        if stop and not self._dropped:
            return 0
        text = self._held + text
        text = text[: len(text) - len(stop)]
        begun = self._begun_in(text) if self._whole_characters else None
        return len(stop) + min(len(begun or ""), len(text))

    def _may_be_dropped(self, text: str) -> int:
        """The number of characters at the text's end that begin a stop text."""
        for n in range(min(len(text), self._longest - 1), 0, -1):
            end = text[-n:]
            if any(stop.startswith(end) for stop in self._dropped):
                return n
        return 0

    def _begun_in(self, text: str) -> str | None:
        """The bytes of an incomplete character at the text's end; None: the text is not valid UTF-8."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode((self._begun + text).encode("latin-1"))
        except UnicodeDecodeError:
            return None
        return decoder.getstate()[0].decode("latin-1")
