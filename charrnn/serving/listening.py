"""Where the server listens, and its run: a port or a socket in the file system, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Callable, Iterator
from typing import Any

from charrnn.errors import CharrnnError, ConfigError, printable

BACKLOG = 1024
MOST_CONNECTIONS = 2048
LAST_SECONDS = 0.5  # for answers that are on their way when it is to stop
LOOK = 0.05  # seconds between looks whether it is to stop


@contextlib.contextmanager
def port(host: str, number: int) -> Iterator[tuple[socket.socket, str]]:
    """A socket that listens, and its address as http://host:port. Port 0: a free one.

    Raises:
        ConfigError: there is no such port.
        CharrnnError: it cannot be listened to.
    """
    if not 0 <= number <= 65535:
        raise ConfigError(f"port is {number}", "give a whole number from 0 to 65535")
    where = f"port {number} of {printable(host)}"
    try:
        found = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listening = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (socket.gaierror, UnicodeError):
        raise CharrnnError(
            f"there is no host {printable(host)}", "give --host a name or an address of this machine"
        ) from None
    except OSError as problem:
        raise CharrnnError(f"cannot listen to {where}", _why(problem)) from None
    with listening:
        shown = f"[{host}]" if ":" in host else host
        yield listening, f"http://{shown}:{listening.getsockname()[1]}"


def _why(problem: OSError) -> str:
    if problem.errno == errno.EADDRINUSE:
        return "another program does already; give another --port"
    if problem.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address; give another --host"
    if problem.errno == errno.EACCES:
        return "it is kept for the system; give a --port from 1024 up"
    return printable(problem.strerror or str(problem))


@contextlib.contextmanager
def unix(path: str) -> Iterator[tuple[socket.socket, str]]:
    """A socket in the file system. One that a dead server left is replaced, and nothing else is.

    Raises:
        CharrnnError: it cannot be listened to.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise CharrnnError("this system has no sockets in files", "give --host and --port")
    name = printable(path)
    try:
        if _is_left_over(path):
            os.unlink(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(path)
    except (OSError, ValueError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else None
        raise CharrnnError(f"cannot listen to {name}", printable(why or str(problem))) from None
    made = os.lstat(path)
    try:
        with listening:
            listening.listen(BACKLOG)
            yield listening, f"unix:{path}"
    finally:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.lstat(path), made):
                os.unlink(path)


def _is_left_over(path: str) -> bool:
    """Whether there is a socket that nobody listens to. CharrnnError: there is something else."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise CharrnnError(f"{printable(path)} is there, and is no socket", "give --unix another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.settimeout(1.0)
        try:
            other.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
    raise CharrnnError(f"another server listens to {printable(path)}", "give --unix another path")


def run(
    app: Any,
    listening: socket.socket,
    *,
    is_over: Callable[[], bool],
    end: Callable[[], None],
    quiet: bool = True,
) -> None:
    """Serve the ASGI application until it is over; then `end` is called, which lets its answers end.

    If it is `quiet`, nothing is logged: what clients do wrong, they are told.
    """
    import uvicorn

    config = uvicorn.Config(
        app,
        http="h11",  # the same whatever else is installed
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=LAST_SECONDS,
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # they are the command's

    async def watch() -> None:
        while not is_over():
            await asyncio.sleep(LOOK)
        await asyncio.to_thread(end)
        server.should_exit = True

    async def serve() -> None:
        watching = asyncio.create_task(watch())
        await server.serve([listening])
        watching.cancel()

    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL if quiet else before)
    try:
        asyncio.run(serve())
    finally:
        logging.disable(before)
