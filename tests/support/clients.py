"""Clients of the server: in this process, without a network, and over a socket."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.environment import environment
from support.processes import command

MISSING = "the extra charrnn[serve] is not installed"
JSON = {"content-type": "application/json"}
Sent = list[dict[str, Any]]


class Answer(NamedTuple):
    """What came of a request."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The data of each event but OpenAI's mark at the end, which must be there."""
        lines = self.body.decode().split("\n\n")
        data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        assert data[-1] == "[DONE]"
        return [json.loads(one) for one in data[:-1]]


def server(checkpoint: Any, name: str = "toy", **options: Any) -> Any:
    """A context of an application in this process, with a scheduler; skips the test where it cannot be."""
    for module in ("starlette", "uvicorn", "sse_starlette"):
        pytest.importorskip(module, reason=MISSING)
    from charrnn.inference import writing_loop  # noqa: F401 - not on the thread of the loader, while a test imports Numba
    from charrnn.labels import names
    from charrnn.serving.application import application
    from charrnn.serving.protocol import Served
    from charrnn.serving.scheduler import Scheduler

    @contextmanager
    def running() -> Iterator[Any]:
        scheduler = Scheduler(checkpoint, threads=2, report=options.pop("report", lambda line: None))
        columns = names(getattr(checkpoint, "columns", ()))
        app = application(scheduler, Served(name, checkpoint.text, columns), **options)
        app.scheduler = scheduler
        scheduler.start()
        try:
            yield app
        finally:
            scheduler.stop()

    return running()


def ask(
    app: Any,
    path: str = "/v1/completions",
    value: Any = None,
    *,
    method: str = "POST",
    headers: dict[str, str] | None = None,
    body: Sequence[bytes] | None = None,
    leaves: Callable[[Sent], Awaitable[None]] | None = None,
) -> Answer:
    """The answer to a `body`, or else to a `value` in JSON; the client leaves when `leaves` ends."""

    async def exchange() -> Answer:
        parts = [json.dumps(value).encode()] if body is None else list(body)
        given = {"host": "localhost", **(JSON if method == "POST" else {}), **(headers or {})}
        scope = {
            "type": "http", "http_version": "1.1", "method": method, "path": path, "scheme": "http",
            "root_path": "", "query_string": b"", "server": ("localhost", 80), "client": ("127.0.0.1", 1),
            "headers": [(name.encode(), text.encode()) for name, text in given.items()],
        }  # fmt: skip
        sent: Sent = []
        complete = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if parts:
                part = parts.pop(0)
                return {"type": "http.request", "body": part, "more_body": bool(parts)}
            await (complete.wait() if leaves is None else leaves(sent))
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                complete.set()

        await asyncio.wait_for(app(scope, receive, send), 60)
        if not sent:
            return Answer(0, {}, b"")
        names = {name.decode(): text.decode() for name, text in sent[0]["headers"]}
        return Answer(sent[0]["status"], names, b"".join(one.get("body", b"") for one in sent[1:]))

    return asyncio.run(exchange())


class Process(NamedTuple):
    """`charrnn serve` as a process."""

    process: subprocess.Popen[bytes]
    port: int

    def ask(self, value: Any, path: str = "/v1/completions") -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", path, json.dumps(value), JSON)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def stream(self, value: Any) -> socket.socket:
        """A connection on which an answer comes, event by event."""
        body = json.dumps(value).encode()
        connection = socket.create_connection(("127.0.0.1", self.port), 60)
        head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return connection


@contextmanager
def serving(*words: object, cwd: Path | None = None) -> Iterator[Process]:
    """`charrnn serve` on a free port, once it listens; afterwards it is told to end."""
    process = subprocess.Popen(
        command("serve", "--port", 0, *words),
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=cwd, env=environment(),
    )  # fmt: skip
    try:
        assert process.stderr is not None
        said = process.stderr.readline().decode()
        assert "http://127.0.0.1:" in said, said + process.stderr.read().decode()
        yield Process(process, int(said.partition("127.0.0.1:")[2].partition(";")[0]))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM if sys.platform != "win32" else signal.CTRL_BREAK_EVENT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
