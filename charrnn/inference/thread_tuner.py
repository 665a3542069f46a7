"""How many threads write one text: a team, or one alone where the others would keep it waiting.

The threads of a team wait for each other several times a character. With a CPU for each of them that takes
a microsecond; on a busy machine, whose CPUs they must share with others, it can take milliseconds. So both
ways are timed, and what is slower is tried again from time to time.
"""

from __future__ import annotations

TRIAL = 16  # characters of a trial
LONGER = 4  # times as many in the next one, where it is not clear yet
BEGINNING = 1e-3  # seconds that a call may take beside its characters: to wake the others, for one
FIRST_WAIT, LONGEST_WAIT = 4, 128  # calls from one trial to the next: it doubles while nothing changes


class Pace:
    """Chooses the number of threads for each call from the seconds that the calls before took."""

    def __init__(self, team: int) -> None:
        """`team` is the number of threads of a team, 1 or more."""
        self._sizes = (1, team) if team > 1 else (1,)
        self._seconds: dict[int, float] = {}  # a character, by the number of threads, when last tried
        self._best = 1
        self._trial = TRIAL
        self._wait = self._to_come = FIRST_WAIT  # calls until a trial

    @property
    def members(self) -> int:
        """Threads for the next call."""
        for size in self._sizes:
            if size not in self._seconds or (size != self._best and self._to_come <= 0):
                return size
        return self._best

    def longest(self, characters: int) -> int:
        """Characters of the next call, at the most: few where it is a trial."""
        if len(self._seconds) == len(self._sizes) and self.members == self._best:
            return characters
        return min(characters, self._trial) if len(self._sizes) > 1 else characters

    def account(self, members: int, characters: int, seconds: float) -> None:
        """A call with so many threads took so long for so many characters."""
        trial = members != self._best
        self._seconds[members] = seconds / max(1, characters)
        best = min(self._seconds, key=self._seconds.__getitem__)
        if best != self._best:
            self._best, self._trial, self._wait, self._to_come = best, TRIAL, FIRST_WAIT, FIRST_WAIT
        elif not trial:
            self._to_come -= 1
        elif characters >= self._trial and seconds - characters * self._seconds[best] < BEGINNING:
            self._trial, self._to_come = self._trial * LONGER, 0  # over more characters, it may be faster
        else:
            self._trial, self._wait = TRIAL, min(2 * self._wait, LONGEST_WAIT)
            self._to_come = self._wait
