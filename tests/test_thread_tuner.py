"""Which of two ways is taken, from nothing but the seconds that each is said to have taken."""

from __future__ import annotations

import itertools

from charrnn.inference.thread_tuner import FIRST_WAIT, LONGEST_WAIT, TRIAL, Pace


def calls(pace: Pace, seconds: dict[int, float], n: int, beginning: float = 0.0) -> list[tuple[int, int]]:
    """Threads and length of n calls, of `seconds` a character each, and `beginning` for a team."""
    made = []
    for _ in range(n):
        members, length = pace.members, pace.longest(1000)
        made.append((members, length))
        pace.account(members, length, length * seconds[members] + (members > 1) * beginning)
    return made


def test_without_a_team_there_is_nothing_to_try():
    assert calls(Pace(1), {1: 1.0}, 5) == [(1, 1000)] * 5


def test_both_ways_are_tried_shortly_and_the_faster_one_taken():
    for seconds, best in (({1: 2.0, 4: 1.0}, 4), ({1: 1.0, 4: 2.0}, 1)):
        assert calls(Pace(4), seconds, 3) == [(1, TRIAL), (4, TRIAL), (best, 1000)]


def test_a_trial_is_no_longer_than_what_is_asked_for():
    assert Pace(2).longest(3) == 3


def test_trials_of_the_slower_one_become_rare():
    made = calls(Pace(2), {1: 1.0, 2: 2.0}, 2000)
    trials = [n for n, (members, _) in enumerate(made) if members == 2]
    assert all(length == TRIAL for members, length in made if members == 2)
    waits = [after - before - 1 for before, after in itertools.pairwise(trials)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (2 * FIRST_WAIT, LONGEST_WAIT)


def test_when_the_machine_becomes_busy_or_quiet_the_better_way_is_soon_found():
    pace = Pace(2)
    calls(pace, {1: 2.0, 2: 1.0}, 500)
    assert calls(pace, {1: 4.0, 2: 100.0}, 10)[1][0] == 1  # at once: the call itself was slow
    calls(pace, {1: 4.0, 2: 100.0}, 500)
    assert calls(pace, {1: 2.0, 2: 1.0}, LONGEST_WAIT + 2)[-1] == (2, 1000)


def test_what_a_call_takes_beside_its_characters_decides_no_trial():
    made = calls(Pace(2), {1: 10e-6, 2: 6e-6}, 6, beginning=200e-6)
    assert made == [(1, TRIAL), (2, TRIAL), (2, 4 * TRIAL), (2, 1000), (2, 1000), (2, 1000)]


def test_a_trial_grows_no_longer_than_a_text_is():
    made = calls(Pace(2), {1: 10e-6, 2: 11e-6}, 2000, beginning=20e-6)
    assert sum(members == 2 for members, _ in made) < 200
