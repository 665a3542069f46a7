"""A command that several processes carry out, which a launcher such as mpirun has started.

Rank 0 is the command that one sees: it alone reads arguments, talks and writes. The others help it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, NoReturn

from charrnn.cli import process
from charrnn.errors import CharrnnError
from charrnn.ranks.launch import Launch, launched
from charrnn.system import atomic

if TYPE_CHECKING:
    from charrnn.ranks.mpi import MpiRanks
    from charrnn.ranks.ranks import Ranks

LINGER = 2.0  # seconds in which rank 0 says what is wrong, before the launcher ends it because of the others
_joined: Ranks | None = None


def here() -> Ranks:
    """The ranks of which this process is the leader; one process alone is, too."""
    from charrnn.ranks.ranks import Alone

    return _joined or Alone(None if launched() is None else Alone.SHARDS)


def threads(wanted: int | None) -> int | Ranks | None:
    """What works: so many threads here and, if there are other ranks, as many there."""
    if _joined is None:
        return wanted
    if wanted is not None:
        _joined.threads = wanted
    return _joined


def begin(launch: Launch) -> int | None:
    """Become one of several processes. Only the leader returns; its command is to call `join` first.

    It is given what is returned: where the end of the process that the launcher knows is seen.
    """
    from charrnn.ranks import shepherd

    descriptor = shepherd.herd()
    if launch.rank:
        _follow(launch, descriptor)
    return descriptor


def join(launch: Launch, shepherd: int | None) -> None:
    """Find the other ranks.

    Raises:
        CharrnnError: there is no MPI, or it does not fit the launcher.
    """
    global _joined
    ranks = _ranks(launch, shepherd)
    process.before_leaving(ranks.leave, ranks.abandon)
    _joined = ranks


def _ranks(launch: Launch, shepherd: int | None) -> MpiRanks:
    from charrnn.ranks.mpi import MpiRanks
    from charrnn.ranks.shepherd import watch

    ranks = MpiRanks(launch, _end)
    if shepherd is not None:
        threading.Thread(target=watch, args=(shepherd, ranks.shepherd_gone), daemon=True).start()
    return ranks


def _follow(launch: Launch, shepherd: int | None) -> NoReturn:
    """Another rank than 0: it hears no signals, which the leader answers for all."""
    for number in process.STOPPING:
        signal.signal(number, signal.SIG_IGN)
    try:
        _ranks(launch, shepherd).follow()
    except CharrnnError as problem:  # which rank 0 finds, too
        time.sleep(LINGER)
        os._exit(problem.exit_code)


def _end(code: int, line: str) -> NoReturn:
    """The end of this process, whatever its main thread is doing."""
    atomic.abandon()
    if line:
        trains = sys.argv[1:2] == ["train"]
        then = "--resume goes on from the last save" if trains else "start the command again"
        process.say_at_once(f"charrnn: error: {line}, so all ranks have ended: {then}\n")
    os._exit(code)
