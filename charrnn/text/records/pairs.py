"""Pairs: lines of a source, a tab and a target, which are checked as they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from charrnn.config import TextConfig
from charrnn.errors import CorpusError
from charrnn.text.files.decoding import CodePoints
from charrnn.vocabulary import text_of

Pieces = Iterator[tuple[CodePoints, Callable[[int], str]]]  # of a file; see text.reading


def words(target: str) -> list[str]:
    """What stands between spaces."""
    return [word for word in target.split(" ") if word]


class Pairs:
    """Checks the lines of a corpus, of one file after another."""

    def __init__(self, text: TextConfig) -> None:
        self._reverse, self._are_tags = text.reverse, text.targets == "tags"
        # Whether targets are words; None: they are tags, and no line has shown yet which they are.
        self.words = None if self._are_tags else text.targets == "words"

    def checked(self, pieces: Pieces) -> Pieces:
        """The pieces of a file, unchanged.

        Raises:
            CorpusError: a line is no pair; it names the line.
        """
        rest = place = ""  # a line that has not ended yet, and where it begins
        for points, where in pieces:
            *lines, last = text_of(points).split("\n")
            at = 0
            for line in lines:
                if problem := self._problem(rest + line):
                    raise CorpusError(f"{problem[0]}, {place or where(at)}", problem[1])
                at += len(line) + 1
                rest = place = ""
            if last and not place:
                place = where(at)
            rest += last
            yield points, where
        if problem := self._problem(rest):
            raise CorpusError(f"{problem[0]}, {place}", problem[1])

    def _problem(self, line: str) -> tuple[str, str] | None:
        """What is wrong with a line, and what to do; nothing about an empty one, which is left out."""
        if not line:
            return None
        pair = "give source, tab, target"
        tabs = line.count("\t")
        if tabs != 1:
            return ("a line has no tab" if not tabs else f"a line has {tabs} tabs"), pair
        source, _, target = line.partition("\t")
        if self._reverse:
            source, target = target, source
        if not source:
            return "a source is empty", pair
        if not (words(target) if self.words else target):
            return "a target is empty", pair
        return self._unequal(source, target) if self._are_tags else None

    def _unequal(self, source: str, target: str) -> tuple[str, str] | None:
        n, spaced = len(source), " " in target or (len(source) == 1 < len(target))
        found = len(words(target)) if spaced else len(target)
        if found != n:
            return (
                f"a text of {n:,} character{'s' * (n != 1)} has {found:,} tag{'s' * (found != 1)}",
                "give one for each, such as BIO, or words with spaces between them",
            )
        if n > 1 or spaced:  # else both ways fit
            if self.words not in (None, spaced):
                return "some tags have spaces between them, and others have none", "write all in one way"
            self.words = spaced
        return None
