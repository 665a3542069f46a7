"""Ranks that MPI connects.

All calls are of the kind that returns at once, and are asked for their end again and again: so Ctrl-C is
heard, the heartbeat speaks meanwhile, and a rank that waits leaves its core to others.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

from charrnn.errors import CharrnnError
from charrnn.ranks.heart import LINGER, SILENT, Heart
from charrnn.ranks.launch import Launch
from charrnn.ranks.ranks import Alone, Array, Call, Pending, pause, wait_for
from charrnn.system.quota import available_threads

_CALLS, _REPLIES, _PARTS = 2, 3, 4  # tags: from the last one on, two for each channel
_FINALIZE_SECONDS = 5.0

End = Callable[[int, str], NoReturn]


class MpiRanks:
    """The processes of MPI's world; see Ranks."""

    def __init__(self, launch: Launch, end: End) -> None:
        """
        Raises:
            CharrnnError: there is no MPI, or it knows of other ranks than the launcher.
        """
        mpi = _initialised()
        self._mpi, self._world, self._lock = mpi, mpi.COMM_WORLD, threading.Lock()
        self.rank, self.size = self._world.rank, self._world.size
        if self.size != launch.size:
            library = mpi.Get_library_version().split("\n")[0].strip("\0 ")
            hint = f"start them with the mpirun of the MPI that it uses: {library}"
            if os.environ.get("SLURM_PROCID"):
                hint += ", or with srun --mpi=pmi2 (MPICH) or --mpi=pmix (Open MPI)"
            raise CharrnnError(
                f"the launcher has started {launch.size} processes, and mpi4py knows of {self.size}", hint
            )
        self.shards: int | None = Alone.SHARDS
        here = platform.node(), _cpus()
        told = self._world.allgather(here)
        self.threads: int | None = threads_of(self.rank, told)
        self.hosts = [host for host, _ in told]
        self.arrays: dict[int, Any] = {}
        self._end, self._busy = end, False
        self._heart = Heart(self._world.Dup(), self.hosts, self._lock, end)
        self._heart.start()

    # --- calls ----------------------------------------------------------------------------------

    @contextmanager
    def asking(self, call: Call, parts: Sequence[tuple[Any, ...]]) -> Iterator[None]:
        self._busy = True
        self._deal([(call, part) for part in parts])
        yield
        self._busy = False

    def follow(self) -> NoReturn:
        """Do what the leader asks for, until it ends."""
        held: Any = None
        try:
            while True:
                call, arguments = self._receive(0, _CALLS)
                if call is None:
                    self._finalise()
                    self._end(arguments, "")
                held = call(self, held, *arguments)
        except BaseException as error:
            self._heart.fail(f"{self._heart.name(self.rank)}: {_described(error)}")
            _wait_for_the_end()

    def leave(self, code: int) -> None:
        """The leader ends: so do the others, at once where they are in the middle of something."""
        if self._busy:
            self._heart.end_all(code)
            return
        try:
            self._deal([(None, code)] * self.size)
        except Exception:
            return
        self._finalise()

    def abandon(self, code: int) -> None:
        """The same inside a signal handler."""
        self._heart.end_all(code)

    def shepherd_gone(self) -> None:
        """The launcher has killed this rank."""
        self._heart.fail(f"{self._heart.name(self.rank)} was ended by its launcher")

    def _finalise(self) -> None:
        self._heart.stop()
        late = threading.Timer(_FINALIZE_SECONDS, lambda: os._exit(1))
        late.daemon = True
        late.start()
        self._mpi.Finalize()
        if os.environ.get("PMI_FD"):
            _take_leave()

    def _deal(self, parts: Sequence[Any]) -> None:
        """Give each other rank its part."""
        sent = [self._sent(part, rank, _CALLS) for rank, part in enumerate(parts) if rank != self.rank]
        for request, _ in sent:
            self._wait(request)

    def gather(self, own: Any) -> list[Any]:
        if self.rank:
            request, _ = self._sent(own, 0, _REPLIES)
            self._wait(request)
            return []
        return [own, *(self._receive(rank, _REPLIES) for rank in range(1, self.size))]

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """One thread at a time. Where MPI fails, as when a peer is gone, the heart says what has happened."""
        try:
            with self._lock:
                yield
        except self._mpi.Exception as error:
            time.sleep(SILENT + LINGER)
            self._heart.fail(f"{self._heart.name(self.rank)}: MPI has failed: {error}")
            _wait_for_the_end()

    def _sent(self, thing: Any, rank: int, tag: int) -> tuple[Any, bytes]:
        """The request, and what must stay in memory until it is done."""
        data = pickle.dumps(thing, protocol=5)
        with self._calling():
            return self._world.Isend([data, self._mpi.BYTE], rank, tag), data

    def _receive(self, rank: int, tag: int) -> Any:
        status, began = self._mpi.Status(), time.perf_counter()
        while True:
            with self._calling():
                if self._world.Iprobe(rank, tag, status):
                    data = bytearray(status.Get_count(self._mpi.BYTE))
                    request = self._world.Irecv([data, self._mpi.BYTE], rank, tag)
                    break
            pause(began)
        self._wait(request)
        return pickle.loads(data)

    # --- arrays ---------------------------------------------------------------------------------

    def exchange(
        self,
        sent: Array,
        counts: Sequence[int],
        received: Array,
        expected: Sequence[int],
        channel: int = 0,
    ) -> Pending:
        parts = {rank: sent[slice_of(counts, rank)] for rank in self._others()}
        places = {rank: received[slice_of(expected, rank)] for rank in self._others()}
        pending = self._swapped(parts, places, _PARTS + 2 * channel)
        received[slice_of(expected, self.rank)] = sent[slice_of(counts, self.rank)]
        return pending

    def spread(self, whole: Array, counts: Sequence[int], channel: int = 0) -> Pending:
        own = whole[slice_of(counts, self.rank)]
        places = {rank: whole[slice_of(counts, rank)] for rank in self._others()}
        return self._swapped(dict.fromkeys(places, own), places, _PARTS + 2 * channel + 1)

    def _swapped(self, parts: dict[int, Array], places: dict[int, Array], tag: int) -> Pending:
        """Send a part to each other rank, and receive one from it to its place."""
        # By single messages: MPICH's Ialltoallv took 240 ms for 4 MB on two ranks of a busy machine, these 2.
        with self._calling():
            requests = [self._world.Irecv(at, rank, tag) for rank, at in places.items() if len(at)]
            requests += [self._world.Isend(part, rank, tag) for rank, part in parts.items() if len(part)]
        return partial(self._are_done, requests)

    def _others(self) -> list[int]:
        """The other ranks, the next one first, so that not all send to the same one."""
        return [(self.rank + n) % self.size for n in range(1, self.size)]

    def _are_done(self, requests: list[Any]) -> bool:
        with self._calling():
            return bool(self._mpi.Request.Testall(requests))

    def _wait(self, request: Any) -> None:
        wait_for(partial(self._are_done, [request]))


def _wait_for_the_end() -> NoReturn:
    """Until the heart ends the process."""
    while True:
        time.sleep(3600)


def _take_leave() -> None:
    """Let MPICH tell its launcher that this rank is done, or the others would be killed when it ends.

    It does so in the C library's exit, which a process with threads had better not call, but a copy may.
    """
    copy = os.fork()
    if copy == 0:
        ctypes.CDLL(None).exit(0)
    os.waitpid(copy, 0)


def slice_of(counts: Sequence[int], rank: int) -> slice:
    """Where the numbers of a rank stand, of which each has so many."""
    start = sum(counts[:rank])
    return slice(start, start + counts[rank])


def threads_of(rank: int, told: Sequence[tuple[str, frozenset[int]]]) -> int:
    """The threads of a rank: of its CPUs an equal share, where other ranks of its host have the same ones."""
    host, cpus = told[rank]
    sharing = sum(other == host and bool(cpus & own) for other, own in told)
    return max(1, len(cpus) // sharing)


def _cpus() -> frozenset[int]:
    """The CPUs of this process, as many as its quota allows."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(sorted(os.sched_getaffinity(0))[: available_threads()])
    return frozenset(range(available_threads()))


def _initialised() -> Any:
    """MPI, where one thread at a time may call it."""
    try:
        import mpi4py

        mpi4py.rc.initialize = mpi4py.rc.finalize = False
        from mpi4py import MPI
    except ImportError as error:
        raise CharrnnError(
            "several processes need mpi4py to be one run, and it is not installed",
            "pip install 'charrnn[mpi]', or leave out mpirun",
        ) from error
    except RuntimeError as error:
        raise CharrnnError(
            f"mpi4py finds no MPI: {str(error).splitlines()[0]}", "install one, such as: pip install mpich"
        ) from error
    if "ucx,ofi" in MPI.Get_library_version() and not os.environ.get("MPIR_CVAR_CH4_NETMOD"):
        # Where a rank has gone, UCX has crashed the others in their next message to it.
        os.environ["MPIR_CVAR_CH4_NETMOD"] = "ofi"
    if MPI.Init_thread(MPI.THREAD_SERIALIZED) < MPI.THREAD_SERIALIZED:
        raise CharrnnError("this MPI allows no threads", "use another one, such as: pip install mpich")
    return MPI


def _described(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, CharrnnError):
        return str(error)
    return f"unexpected {type(error).__name__}: {error}"
