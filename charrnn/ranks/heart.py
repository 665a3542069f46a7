"""The heartbeat: each rank tells all others twice a second that it lives, and ends when another does not.

A machine that is cut off says nothing, and what waits for it would wait until TCP gives up, for minutes. MPI
itself may hang in a call when that has happened: so one thread beats, by MPI, and another judges without it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

BEAT = 0.5  # seconds between two beats
SILENT = 6.0  # seconds after which a rank that says nothing is taken for lost
LIVING = 2.5  # .. and of which one that has spoken since is alive
LINGER = 2.0  # seconds that are left to the lowest living rank to say why all end
STAGGER = 0.3  # seconds between two ranks that end, where they cannot know which one is to say why
_LOOK = 0.1
_ALIVE, _FAILED, _END, _BYE = 1, 2, 3, 4  # what a message says first
_TAG = 1
_LONGEST = 2000  # bytes


class Heart:
    """The beats of a rank.

    `lock` is held by whoever calls MPI. `end(code, line)` ends this process: it cleans up, and says the line
    unless that is empty.
    """

    def __init__(
        self, world: Any, hosts: list[str], lock: threading.Lock, end: Callable[[int, str], NoReturn]
    ) -> None:
        from mpi4py import MPI

        self._mpi, self._world, self._hosts, self._lock, self._end = MPI, world, hosts, lock, end
        self.rank, self.size = world.rank, world.size
        self._beaten = time.monotonic()  # the last beat
        self._heard = [self._beaten] * self.size
        self._sent: list[Any] = [None] * self.size
        self._left: set[int] = set()  # the ranks that have said goodbye
        self._message: tuple[int, str] | None = None  # more than a beat, from another rank
        self._to_tell: tuple[int, str] | None = None  # to all others
        self._told = threading.Event()
        self._failure = ""
        self._stopped = threading.Event()
        threads = (self._beat, self._judge)
        self._threads = [threading.Thread(target=run, name="charrnn-heart", daemon=True) for run in threads]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Beat no longer, as all ranks do now: MPI may be finalised when no message is left."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        self._tell(_BYE, "")
        until = time.monotonic() + LIVING
        while len(self._left) < self.size - 1 and time.monotonic() < until:
            with self._lock:
                self._receive()
            time.sleep(0.001)

    def name(self, rank: int) -> str:
        """A rank in messages."""
        return f"rank {rank} on {self._hosts[rank]}"

    def fail(self, what: str) -> None:
        """This rank cannot go on: the lowest living one says why, and all end."""
        self._failure = self._failure or what

    def end_all(self, code: int) -> None:
        """All others end with this code, without a word; returns when they know, or soon."""
        self._to_tell = _END, str(code)
        self._told.wait(2 * BEAT)

    # --- the thread that calls MPI --------------------------------------------------------------

    def _beat(self) -> None:
        while not self._stopped.wait(_LOOK):
            if self._to_tell is not None:
                self._tell(*self._to_tell)
                self._told.set()
                return
            if time.monotonic() - self._beaten < BEAT:
                continue
            with self._lock:
                for rank in range(self.size):
                    self._send(rank, bytes([_ALIVE]))
                self._receive()
            now = time.monotonic()
            if now - self._beaten > LIVING and self._message is None:
                self._heard = [now] * self.size  # this process was stopped: nobody could be heard
            self._beaten = now

    def _send(self, rank: int, message: bytes, *, must: bool = False) -> None:
        """Unless the last message to this rank has not gone yet, as to one that is stopped or cut off."""
        if rank == self.rank:
            return
        before = self._sent[rank]
        with suppress(self._mpi.Exception):  # a rank that has gone will be missed
            if before is None or before[0].Test() or must:
                self._sent[rank] = self._world.Isend([message, self._mpi.BYTE], rank, _TAG), message

    def _receive(self) -> None:
        """Take all messages."""
        status = self._mpi.Status()
        with suppress(self._mpi.Exception):
            while self._world.Iprobe(self._mpi.ANY_SOURCE, _TAG, status):
                message, source = bytearray(status.Get_count(self._mpi.BYTE)), status.Get_source()
                self._world.Recv([message, self._mpi.BYTE], source, _TAG)
                self._heard[source] = time.monotonic()
                if message[0] == _BYE:
                    self._left.add(source)
                elif message[0] != _ALIVE and self._message is None:
                    self._message = message[0], message[1:].decode("utf-8", "replace")

    def _tell(self, kind: int, text: str) -> None:
        message = bytes([kind]) + text.encode()[:_LONGEST]
        with self._lock:
            for rank in range(self.size):
                self._send(rank, message, must=True)
        for _ in range(20):  # until all have gone, or what is reached has had the time
            time.sleep(0.01)
            with self._lock, suppress(self._mpi.Exception):
                if all(sent is None or sent[0].Test() for sent in self._sent):
                    return

    # --- the thread that does not ---------------------------------------------------------------

    def _judge(self) -> None:
        last = time.monotonic()
        while not self._stopped.wait(_LOOK):
            now, before, last = time.monotonic(), last, time.monotonic()
            if now - before > LIVING:
                self._beaten = now  # this process was stopped: give the other thread time, too
                continue
            if self._message is not None:
                kind, text = self._message
                if kind == _END:
                    self._end(int(text), "")
                self._conclude(text, told=True)
            if self._failure:
                self._conclude(self._failure)
            if now - self._beaten > SILENT:
                time.sleep(STAGGER * min(self.rank, 6))
                others = self.name(1 - self.rank) if self.size == 2 else "another rank"
                self._end(1, f"MPI has hung for {SILENT:.0f} seconds, and {others} may be gone")
            silent = [rank for rank, heard in enumerate(self._heard) if now - heard > SILENT]
            for rank in silent:
                if rank != self.rank and now - self._beaten < LIVING:
                    self._conclude(f"{self.name(rank)} has not been heard from for {SILENT:.0f} seconds")

    def _conclude(self, what: str, *, told: bool = False) -> NoReturn:
        """Tell the others; the lowest of those that live says it."""
        if not told:
            self._to_tell = _FAILED, what
            self._told.wait(2 * BEAT)
        now = time.monotonic()
        living = [r for r, heard in enumerate(self._heard) if now - heard < LIVING or r == self.rank]
        if self.rank == min(living):
            self._end(1, what)
        time.sleep(LINGER)
        self._end(1, "")
