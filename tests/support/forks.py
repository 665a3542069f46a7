"""Processes of `charrnn` that start in a third of the time: forks of one that has imported what they will.

Most of what a short command takes is imports, and the tests start hundreds. One process imports NumPy, Numba,
Typer and all of charrnn, and waits; where a test starts `python -m charrnn`, its fork sets up what an
interpreter does at its start, and runs the module. It is a child of the test's process, as any other would
be: pipes, signals, sessions and exit codes are the kernel's.

Another waits that has imported the libraries alone, for what charrnn may read when it is imported: variables
of its own, where its cache is, a package in the folder. What differs else is left to a process of its own:
other interpreters and words, variables that libraries read when they are imported, and systems without
Linux's subreapers. Campaigns and `mpirun` start all of theirs anew.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib
import inspect
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from support.environment import ROOT, environment

# Variables that are read while charrnn runs, not when it is imported, nor any library.
LATE = {"COLUMNS", "LINES", "NO_COLOR", "TERM", "CHARRNN_MODELS"}
# And those that are read when charrnn is imported, not when a library is.
OWN = {"HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_DATA_HOME"}
OWN_PREFIXES = ("CHARRNN_", "_CHARRNN_")
# What no command imports unless it is told to, or what is a program of its own.
APART = ("charrnn.__main__", "charrnn.pages.build_kernels", "charrnn.ranks.mpi", "charrnn.serving")
LONGEST = 2**16  # bytes of a request, which is one packet
SET_CHILD_SUBREAPER = 36  # of prctl: orphans below this process become its children

_start: Any = getattr(subprocess.Popen, "_execute_child", None)
PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
# What subprocess hands over to it, in the versions of Python that are known.
PARAMETERS = (
    "self", "args", "executable", "preexec_fn", "close_fds", "pass_fds", "cwd", "env", "startupinfo",
    "creationflags", "shell", *PIPES,
    "restore_signals", "gid", "gids", "uid", "umask", "start_new_session", "process_group",
)  # fmt: skip


def install() -> None:
    """From now on, let subprocess start `python -m charrnn` as a fork where that is the same."""
    if sys.platform == "linux" and tuple(inspect.signature(_start).parameters) == PARAMETERS:
        subprocess.Popen._execute_child = _execute_child  # type: ignore[attr-defined]


def _execute_child(process: Any, *given: Any) -> None:
    told = dict(zip(PARAMETERS[1:], given, strict=True))
    asked = request(told)
    if asked is None:
        _start(process, *given)
        return
    given_streams = [told[name] for name in ("p2cread", "c2pwrite", "errwrite")]
    streams = [number if stream == -1 else stream for number, stream in enumerate(given_streams)]
    process.pid = _nursery(imports_the_same(told)).fork(asked, streams)
    process._child_created = True
    process._close_pipe_fds(*(told[name] for name in PIPES))


def request(told: dict[str, Any]) -> bytes | None:
    """What a fork has to know, or None: a process of its own is to be started."""
    words, variables, nothing = told["args"], told["env"], (None, -1, False, ())
    others = ("executable", "preexec_fn", "pass_fds", "shell", "gid", "gids", "uid", "umask")
    if not isinstance(words, list) or words[:3] != [sys.executable, "-m", "charrnn"]:
        return None
    if variables is None or any(told[other] not in nothing for other in others) or not told["close_fds"]:
        return None
    if _libraries_read(variables) != _libraries_read(environment()):
        return None
    group = 0 if told["start_new_session"] else told["process_group"]
    folder = os.path.abspath(told["cwd"] or ".")
    request = json.dumps([words[3:], dict(variables), folder, told["start_new_session"], group]).encode()
    return request if len(request) < LONGEST else None


def _libraries_read(variables: Mapping[str, str]) -> dict[str, str]:
    known = LATE | OWN
    return {
        name: value
        for name, value in variables.items()
        if name not in known and not name.startswith(OWN_PREFIXES)
    }


def imports_the_same(told: dict[str, Any]) -> bool:
    """Whether charrnn, too, would be imported in that process as it is in this environment."""
    given, own = ({name: e[name] for name in e.keys() - LATE} for e in (told["env"], environment()))
    folder = os.path.abspath(told["cwd"] or ".")
    return given == own and (folder == ROOT or not os.path.exists(os.path.join(folder, "charrnn")))


class _Nursery:
    """A process that waits, with all of charrnn imported or without, and a socket to it."""

    def __init__(self, knows_charrnn: bool) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self._libc = ctypes.CDLL(None)
        tests = os.path.join(ROOT, "tests")
        program = (
            f"import sys; sys.path[0] = {tests!r}; from support import forks; forks.wait({knows_charrnn})"
        )
        with theirs, open(os.devnull, "r+b") as null:
            streams = [(null.fileno(), 0), (null.fileno(), 1), (null.fileno(), 2), (theirs.fileno(), 3)]
            actions = [(os.POSIX_SPAWN_DUP2, *pair) for pair in streams]
            os.posix_spawn(
                sys.executable, [sys.executable, "-c", program], environment(), file_actions=actions
            )

    def fork(self, request: bytes, streams: list[int]) -> int:
        """The number of a new process with these standard streams, a child of this one."""
        with self._lock:
            self._libc.prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(self._socket, [request], streams)
                return int(self._socket.recv(20))
            finally:
                self._libc.prctl(SET_CHILD_SUBREAPER, 0, 0, 0, 0)


_nursery = functools.cache(_Nursery)  # of either kind, which the first fork of it starts


def wait(knows_charrnn: bool) -> None:
    """Be a process that waits: for each request fork one, whose parent ends at once."""
    import safetensors.numpy  # noqa: F401
    import typer.main  # noqa: F401
    from numba.core.registry import cpu_target

    # What Numba does before it compiles, or loads what it has compiled, the first time.
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
    for name in _modules() if knows_charrnn else ():
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=3) as channel:
        while True:
            request, streams, *_ = socket.recv_fds(channel, LONGEST, 3)
            if not request:  # the tests have ended
                return
            told, tell = os.pipe()
            parent = os.fork()
            if not parent:
                child = os.fork()
                if not child:
                    break
                os.write(tell, str(child).encode())
                os._exit(0)
            os.waitpid(parent, 0)  # from here on, its child is one of the tests'
            channel.send(os.read(told, 20))
            for number in (told, tell, *streams):
                os.close(number)
    _become(*json.loads(request), streams)


def _modules() -> Iterator[str]:
    """The modules of charrnn that commands import."""
    for path in sorted(Path(ROOT, "charrnn").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if not name.startswith(APART):
            yield name


def _become(
    words: list[str],
    variables: dict[str, str],
    folder: str,
    new_session: bool,
    group: int,
    streams: list[int],
) -> None:
    """Do what an interpreter does when it starts, and run charrnn."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    if new_session:
        os.setsid()
    elif group >= 0:
        os.setpgid(0, group)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        earlier = getattr(sys, name)
        stream = open(  # noqa: SIM115
            number, earlier.mode, encoding=earlier.encoding, errors=earlier.errors,
            newline="\n" if number else None, closefd=False,
        )  # fmt: skip
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    sys.stderr.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.argv = ["charrnn", *words]
    sys.path[0] = folder
    runpy.run_module("charrnn", run_name="__main__", alter_sys=True)
