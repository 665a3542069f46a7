"""Chooses how many threads write one text: a team, or one alone where waiting would cost too much.

The threads of a team synchronise several times a character. With a CPU for each thread this takes a
microsecond; on a busy machine, where they share CPUs with other processes, it can take milliseconds. So both
ways are timed, and the slower one is tried again from time to time.
"""

from __future__ import annotations

TRIAL = 16  # characters of a trial
LONGER = 4  # factor by which the next trial is longer while the result is unclear
BEGINNING = 1e-3  # seconds of a call's fixed cost, such as waking the other threads
FIRST_WAIT, LONGEST_WAIT = 4, 128  # calls between trials; the wait doubles while nothing changes


class Pace:
    """Chooses the number of threads of each call by the time that earlier calls took."""

    def __init__(self, team: int) -> None:
        """`team` is the number of threads in a team, 1 or more."""
        self._sizes = (1, team) if team > 1 else (1,)
        self._seconds: dict[int, float] = {}  # a character, by the number of threads, in the last try
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
        """The most characters for the next call: few if it is a trial."""
        if len(self._seconds) == len(self._sizes) and self.members == self._best:
            return characters
        return min(characters, self._trial) if len(self._sizes) > 1 else characters

    def account(self, members: int, characters: int, seconds: float) -> None:
        """Record that a call on `members` threads wrote so many characters in so many seconds."""
        trial = members != self._best
        self._seconds[members] = seconds / max(1, characters)
        best = min(self._seconds, key=self._seconds.__getitem__)
        if best != self._best:
            self._best, self._trial, self._wait, self._to_come = best, TRIAL, FIRST_WAIT, FIRST_WAIT
        elif not trial:
            self._to_come -= 1
        elif characters >= self._trial and seconds - characters * self._seconds[best] < BEGINNING:
            self._trial, self._to_come = (
                self._trial * LONGER,
                0,
            )  # with more characters a call, it may be faster
        else:
            self._trial, self._wait = TRIAL, min(2 * self._wait, LONGEST_WAIT)
            self._to_come = self._wait
