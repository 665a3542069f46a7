"""What is refused before anything is read: other sites' pages, what is no JSON, what has no end."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from charrnn.serving import protocol
from charrnn.serving.protocol import RefusedError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BODY = 2**20  # bytes
BODY_SECONDS = 10.0  # in which it has come
# No page of another site may hold an answer, nor guess what it is.
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


class Gone(Exception):  # noqa: N818 - a normal end, no error
    """The client has left."""


class Unsent(Exception):  # noqa: N818 - likewise
    """What was to be sent found the connection closed, or told of a wrong request already."""


class Guard:
    """An ASGI application before another one: checks the Host header, and answers whatever goes wrong.

    A page of another site can let its own name lead to this machine (DNS rebinding); its requests then have
    that name as their Host. An address is no such name. `hosts` are the names that are known; None: all are.
    `report` gets what is no fault of a client.
    """

    def __init__(self, app: App, hosts: Iterable[str] | None, report: Callable[[str], None]) -> None:
        self._app, self._report = app, report
        self._hosts = None if hosts is None else {"localhost", *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_on(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS]
            try:
                await send(message)
            except TimeoutError:  # of a reader who reads nothing
                raise
            except Exception as problem:
                raise Unsent from problem

        try:
            self._check_host(scope)
            await self._app(scope, receive, send_on)
        except RefusedError as refused:
            await answer(send_on, refused.status, of_refusal(refused))
        except Unsent:
            pass
        except TimeoutError:
            raise
        except Exception as problem:
            self._report(of_defect(problem))
            raise

    def _check_host(self, scope: Scope) -> None:
        found = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        name = hostname(found[0]) if len(found) == 1 else None
        if name is None:
            raise RefusedError("the request has no Host header, or a wrong one")
        if self._hosts is not None and name not in self._hosts and not is_address(name):
            raise RefusedError(
                f"the Host {name} is none of this server's: ask {' or '.join(sorted(self._hosts))}, or an "
                "address",
                code="unknown_host", status=403,
            )  # fmt: skip


def hostname(host: str) -> str | None:
    """`localhost:8080` -> localhost, `[::1]:80` -> ::1; None: it is none."""
    name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not colon:
        name = host
    if colon and not (port.isascii() and port.isdigit()):
        return None
    if name.startswith("["):
        return name[1:-1].lower() if name.endswith("]") else None
    return None if ":" in name or not name else name.lower()


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def of_refusal(refused: RefusedError) -> dict[str, Any]:
    """OpenAI's object for it."""
    return protocol.error(refused.message, refused.status, refused.param, refused.code)


def of_defect(problem: Exception) -> str:
    """What is said of an error that is a defect."""
    return f"unexpected {type(problem).__name__}: {problem}: please report it"


async def answer(send: Send, status: int, value: object) -> None:
    """Send JSON as the whole answer."""
    body = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def json_body(scope: Scope, receive: Receive) -> bytes:
    """The body of a request that says it is JSON, which a page of another site cannot send unasked.

    Raises:
        RefusedError: it is no JSON, too long, or does not come.
        Gone: the client has left.
    """
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    kind = headers.get(b"content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedError("the body must be JSON: send Content-Type: application/json", status=415)
    if b"content-encoding" in headers:
        raise RefusedError("the body is encoded: send it as it is", status=415)
    length = headers.get(b"content-length", "0")
    if not length.isdigit() or len(length) > 18 or int(length) > MOST_BODY:
        raise RefusedError(f"the body is longer than {MOST_BODY:,} bytes", status=413)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                body += message.get("body", b"")
                if len(body) > MOST_BODY:
                    raise RefusedError(f"the body is longer than {MOST_BODY:,} bytes", status=413)
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise RefusedError(f"the body has not come within {BODY_SECONDS:g} seconds", status=408) from None
