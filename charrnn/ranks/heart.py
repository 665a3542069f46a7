"""The heartbeat: each rank tells all others twice a second that it lives, and ends when another does not.

A machine that is cut off says nothing, and what waits for it would wait until TCP gives up, for minutes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

BEAT = 0.5  # seconds between two beats
SILENT = 6.0  # seconds after which a rank that says nothing is taken for lost
LIVING = 2.5  # .. and of which one that has spoken since is alive
LINGER = 2.0  # seconds that are left to the lowest living rank to say why all end
_ALIVE, _FAILED, _END, _BYE = 1, 2, 3, 4  # what a message says first
_TAG = 1
_LONGEST = 2000  # bytes


class Heart:
    """The beats of a rank, in a thread of their own.

    `lock` is held by whoever calls MPI. `end(code, line)` ends this process: it cleans up, and says the line
    unless that is empty.
    """

    def __init__(
        self, world: Any, hosts: list[str], lock: threading.Lock, end: Callable[[int, str], NoReturn]
    ) -> None:
        from mpi4py import MPI

        self._mpi, self._world, self._hosts, self._lock, self._end = MPI, world, hosts, lock, end
        self.rank, self.size = world.rank, world.size
        self._heard = [time.monotonic()] * self.size
        self._sent: list[Any] = [None] * self.size
        self._left: set[int] = set()  # the ranks that have said goodbye
        self._failure = ""
        self._failed = False  # another rank knows
        self._code: int | None = None  # with which all are to end
        self._told = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="charrnn-heart", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Beat no longer, as all ranks do now: MPI may be finalised when no message is left."""
        self._stopped.set()
        self._thread.join()
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
        self._code = code
        self._told.wait(2 * BEAT)

    # --- the thread -----------------------------------------------------------------------------

    def _beat(self) -> None:
        last = time.monotonic()
        while not self._stopped.wait(BEAT / 5):
            now = time.monotonic()
            if self._code is not None:
                self._tell(_END, str(self._code))
                self._told.set()
                return
            if self._failure:
                self._conclude(self._failure)
            if now - last < BEAT:
                continue
            if now - last > LIVING:  # this process was stopped: the others have had no chance to be heard
                self._heard = [now] * self.size
            last = now
            with self._lock:
                for rank in range(self.size):
                    self._send(rank, bytes([_ALIVE]))
                message = self._receive()
            if message is not None:
                kind, text = message
                if kind == _END:
                    self._end(int(text), "")
                self._failed = True
                self._conclude(text)
            for rank, heard in enumerate(self._heard):
                if rank != self.rank and now - heard > SILENT:
                    self._conclude(f"{self.name(rank)} has not been heard from for {SILENT:.0f} seconds")

    def _send(self, rank: int, message: bytes, *, must: bool = False) -> None:
        """Unless the last message to this rank has not gone yet, as to one that is stopped or cut off."""
        if rank == self.rank:
            return
        before = self._sent[rank]
        if before is None or before[0].Test() or must:
            self._sent[rank] = self._world.Isend([message, self._mpi.BYTE], rank, _TAG), message

    def _receive(self) -> tuple[int, str] | None:
        """Take all messages; the first one that is more than a beat."""
        found = None
        status = self._mpi.Status()
        while self._world.Iprobe(self._mpi.ANY_SOURCE, _TAG, status):
            message = bytearray(status.Get_count(self._mpi.BYTE))
            self._world.Recv([message, self._mpi.BYTE], status.Get_source(), _TAG)
            self._heard[status.Get_source()] = time.monotonic()
            if message[0] == _BYE:
                self._left.add(status.Get_source())
            elif message[0] != _ALIVE and found is None:
                found = message[0], message[1:].decode("utf-8", "replace")
        return found

    def _tell(self, kind: int, text: str) -> None:
        message = bytes([kind]) + text.encode()[:_LONGEST]
        with self._lock:
            for rank in range(self.size):
                self._send(rank, message, must=True)
        for _ in range(20):  # until all have gone, or what is reached has had the time
            time.sleep(0.01)
            with self._lock:
                if all(sent is None or sent[0].Test() for sent in self._sent):
                    return

    def _conclude(self, what: str) -> NoReturn:
        """Tell the others; the lowest of those that live says it."""
        if not self._failed:
            self._tell(_FAILED, what)
        now = time.monotonic()
        living = [r for r, heard in enumerate(self._heard) if now - heard < LIVING or r == self.rank]
        if self.rank == min(living):
            self._end(1, what)
        time.sleep(LINGER)
        self._end(1, "")
