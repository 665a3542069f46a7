"""The Starlette application: routes, and how texts that are being written become answers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from charrnn.errors import CharrnnError, VocabularyError
from charrnn.generation.together import MOST_WAITING, Order, Place
from charrnn.search.infilling import DEFAULT_GAP
from charrnn.serving import protocol, schema
from charrnn.serving.filling import MOST_AROUND, MOST_GAP, Reader, between
from charrnn.serving.guard import (
    App,
    Gone,
    Guard,
    Receive,
    Scope,
    Send,
    json_body,
    of_defect,
    of_refusal,
)
from charrnn.serving.protocol import Choice, Finish, RefusedError, Served
from charrnn.serving.scheduler import BusyError, Manner, Scheduler, StoppedError

PIECE_SECONDS = 0.04  # of text in one event
MOST_SECONDS = 600.0  # after which what was written is the answer
PATIENCE = 60.0  # seconds in which a reader reads something
FILLED_AT_ONCE = 1
PAGE = Path(__file__).with_name("page.html")


def application(
    scheduler: Scheduler,
    served: Served,
    *,
    hosts: Iterable[str] | None = (),
    origins: Sequence[str] = (),
    page: Callable[[], str] | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Any:
    """The ASGI application. Pages of the `origins` may ask it; see Guard for `hosts` and `report`.

    `page` makes the HTML at /, once it is asked for; without one, or if it raises a CharrnnError, that is a
    form to write with.
    """
    routes = _Routes(scheduler, served, page)
    others = [Middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])]
    app = Starlette(
        routes=[
            Route("/", routes.page, methods=["GET"]),
            Route("/health", routes.health, methods=["GET"]),
            Route("/openapi.json", routes.openapi, methods=["GET"]),
            Route("/v1/models", routes.models, methods=["GET"]),
            Route("/v1/models/{name}", routes.model, methods=["GET"]),
            Route("/v1/completions", routes.completions, methods=["POST"]),
        ],
        middleware=others if origins else [],
        exception_handlers={
            HTTPException: _refused_by_route,
            RefusedError: _refused,
            Gone: _gone,
            Exception: _defect,  # which Guard reports
        },
    )
    return Guard(app, hosts, report)


async def _refused_by_route(request: Request, problem: Any) -> Response:
    """An address or a method that there is not."""
    path = request.url.path
    message = f"{request.method} {path} is not served"
    if path.startswith("/v1/chat"):
        message += ": the model goes on with a text, it does not chat: POST /v1/completions"
    error = protocol.error(message, problem.status_code, code="unknown_url")
    return JSONResponse(error, problem.status_code, problem.headers)


async def _refused(request: Request, refused: Any) -> Response:
    return JSONResponse(of_refusal(refused), refused.status)


async def _gone(request: Request, gone: Any) -> App:
    return _nothing


async def _defect(request: Request, problem: Exception) -> Response:
    return JSONResponse(protocol.error(of_defect(problem), 500), 500)


class _Routes:
    def __init__(self, scheduler: Scheduler, served: Served, page: Callable[[], str] | None) -> None:
        self._scheduler, self._served = scheduler, served
        self._filling = asyncio.Semaphore(FILLED_AT_ONCE)
        self._make_page, self._making = page, asyncio.Lock()
        self._page: bytes | None = None
        self._policy = ""

    async def page(self, request: Request) -> Response:
        async with self._making:
            if self._page is None:
                html = await asyncio.to_thread(self._made)
                self._page, self._policy = html.encode(), policy(html)
        return HTMLResponse(self._page, headers={"content-security-policy": self._policy})

    def _made(self) -> str:
        with contextlib.suppress(CharrnnError):  # no page can hold the model, but the server can write
            if self._make_page is not None:
                return self._make_page()
        return PAGE.read_text("utf-8")

    async def health(self, request: Request) -> Response:
        scheduler = self._scheduler
        state = {"status": "ok", "texts": scheduler.texts_at_hand, "compiled": scheduler.is_compiled}
        return JSONResponse(state)

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(schema.openapi())

    async def models(self, request: Request) -> Response:
        return JSONResponse(protocol.models(self._served))

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name != self._served.name:
            raise RefusedError("there is no such model", "model", "model_not_found", 404)
        return JSONResponse(protocol.model(self._served))

    async def completions(self, request: Request) -> Any:
        body = await json_body(request.scope, request.receive)
        asked = protocol.parse(body, self._served, secrets.randbits(32))
        if asked.suffix is not None:
            return await self._filled(request, asked)
        watch = asyncio.create_task(_left(request))
        try:
            texts = await _or_gone(self._begin(asked), watch)
            if not asked.stream:
                return JSONResponse(await texts.whole(watch))
            # What is wrong with a request is told by its first text: then the answer is no stream.
            await texts.news(watch)
            texts.raise_error()
        finally:
            watch.cancel()
        return _events(texts.events(), texts.leave)

    async def _begin(self, asked: protocol.Request) -> _Answer:
        manner = Manner.of(asked.config, asked.label, asked.strength)
        until = time.monotonic() + MOST_SECONDS
        best_of = asked.best_of > asked.n
        rated = 0 if best_of and asked.logprobs is None else asked.logprobs
        orders = [
            Order(
                prompt,
                asked.config,
                range(k * asked.best_of, (k + 1) * asked.best_of),
                asked.on_unknown,
                rated,
                rates_prompt=asked.echo and asked.logprobs is not None,
                until=until,
            )
            for k, prompt in enumerate(asked.prompts)
        ]
        places: list[list[Place]] = []
        try:
            if not self._scheduler.is_prepared(manner):
                await asyncio.to_thread(self._scheduler.prepare, manner)
            for order in orders:
                places.append(self._scheduler.ask(manner, order))
        except CharrnnError as error:
            for place in (place for some in places for place in some):
                place.leave()
            raise _refusal(error) from None
        return _Answer(asked, self._served, places)

    async def _filled(self, request: Request, asked: protocol.Request) -> Any:
        """What stands best between the prompts and the suffix, found by a search."""
        if asked.label is not None:
            raise RefusedError("label does not go together with suffix: leave out one", "label")
        gap = DEFAULT_GAP if asked.config.length is None else asked.config.length
        suffix = asked.suffix or ""
        if not 1 <= gap <= MOST_GAP:
            raise RefusedError(f"max_tokens is {gap}: give 1 to {MOST_GAP} with suffix", "max_tokens")
        if len(suffix) + max(map(len, asked.prompts)) > MOST_AROUND:
            raise RefusedError(f"prompt and suffix are longer than {MOST_AROUND:,} characters", "suffix")
        watch = asyncio.create_task(_left(request))
        reader = None
        choices = []
        written = 0
        try:
            for k, prompt in enumerate(asked.prompts):
                await _or_gone(self._filling.acquire(), watch)
                try:
                    reader = Reader(self._scheduler.model, self._served.precision, None)
                    found = await _or_gone(
                        asyncio.to_thread(
                            between, reader, prompt, suffix,
                            count=asked.n, gap=gap, on_unknown=asked.on_unknown,
                        ),
                        watch,
                    )  # fmt: skip
                finally:
                    self._filling.release()
                    if reader is not None:
                        reader.gone = True
                for n, filled in enumerate(found):
                    shown = (prompt if asked.echo else "") + filled.text
                    written += len(filled.text)
                    choices.append(Choice(k * asked.n + n, self._served.text).whole(shown))
        except CharrnnError as error:
            raise _refusal(error) from None
        finally:
            watch.cancel()
        whole = protocol.envelope(self._served, None) | {"choices": choices}
        usage = protocol.usage(sum(map(len, asked.prompts)) + len(suffix), written)
        if not asked.stream:
            return JSONResponse(whole | {"usage": usage})

        async def events() -> AsyncIterator[str]:
            yield _json(whole)
            if asked.include_usage:
                yield _json(whole | {"choices": [], "usage": usage})
            yield "[DONE]"

        return _events(events())


class _Answer:
    """The texts of a request on their way to its client."""

    def __init__(self, asked: protocol.Request, served: Served, places: list[list[Place]]) -> None:
        self._asked, self._served = asked, served
        self._envelope = protocol.envelope(served, asked.config.seed)
        self._of_prompts = places
        self._places = [place for some in places for place in some]
        self._choices = {place: Choice(k, served.text) for k, place in enumerate(self._places)}
        self._begun: set[Place] = set()
        self._going = list(self._places)
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()

    def leave(self) -> None:
        for place in self._places:
            place.leave()

    def _heard(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._news.set)

    async def news(self, watch: asyncio.Task[None] | None = None, least: int = 1) -> None:
        """Wait until a text has so many characters to take, or is done. Gone: the client has left."""
        self._news.clear()
        for place in self._going:
            place.listen(self._heard, least)
        try:
            if watch is None:
                await self._news.wait()
            else:
                await _or_gone(self._news.wait(), watch)
        except BaseException:
            self.leave()
            raise

    def raise_error(self) -> None:
        """RefusedError: a text cannot be written."""
        for place in self._places:
            if place.done and place.error is not None:
                self.leave()
                raise _refusal(place.error)

    def _part(self, place: Place) -> dict[str, Any] | None:
        """What has come of a text since the last time; None: nothing."""
        pieces, done = place.take()
        if not pieces and not done:
            return None
        choice, rated = self._choices[place], self._asked.logprobs is not None
        found = []
        if place not in self._begun:
            self._begun.add(place)
            if self._asked.echo:
                found.append(choice.prompt(place.prompt, place.prompt_likelihoods if rated else None))
        if done:
            self._going.remove(place)
        finish: Finish | None = ("length" if place.cut else "stop") if done else None
        return protocol.joined([*found, choice.part(pieces, finish, rated)])

    async def whole(self, watch: asyncio.Task[None]) -> dict[str, Any]:
        """The answer once all texts have been written."""
        parts: dict[Place, list[dict[str, Any]]] = {place: [] for place in self._places}
        while self._going:
            await self.news(watch, MOST_WAITING // 2)
            for place in list(self._going):
                if (part := self._part(place)) is not None:
                    parts[place].append(part)
            self.raise_error()
        choices = []
        for some in self._of_prompts:
            best = sorted(some, key=lambda place: place.loss) if len(some) > self._asked.n else some
            choices += [protocol.joined(parts[place]) for place in best[: self._asked.n]]
        for index, choice in enumerate(choices):
            choice["index"] = index
        return self._envelope | {"choices": choices, "usage": self._usage()}

    def _usage(self) -> dict[str, int]:
        prompts = sum(len(some[0].prompt) for some in self._of_prompts)
        return protocol.usage(prompts, sum(choice.characters for choice in self._choices.values()))

    async def events(self) -> AsyncIterator[str]:
        """The data of each event; the last ones tell of an error, or are OpenAI's mark."""
        while self._going:
            await self.news()
            for place in list(self._going):
                if (part := self._part(place)) is not None:
                    if place.error is not None:
                        yield _json(of_refusal(_refusal(place.error)))
                        return
                    yield _json(self._envelope | {"choices": [part]})
            if self._going:
                await asyncio.sleep(PIECE_SECONDS)
        if self._asked.include_usage:
            yield _json(self._envelope | {"choices": [], "usage": self._usage()})
        yield "[DONE]"


def _json(value: object) -> str:
    return json.dumps(value)


def _events(data: AsyncIterator[str], leave: Callable[[], None] = lambda: None) -> App:
    """An answer of these events; whatever becomes of it, `leave` is called in the end."""
    response = EventSourceResponse(data, sep="\n", send_timeout=PATIENCE)

    async def sent(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await response(scope, receive, send)
        finally:  # if the client has left before the first event, `data` is never begun, and so never ended
            leave()

    return sent


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """An answer for nobody."""


def _refusal(error: CharrnnError) -> RefusedError:
    """The error of a text as an answer."""
    if isinstance(error, RefusedError):
        return error
    message = protocol.in_fields(str(error))
    if isinstance(error, BusyError):
        return RefusedError(message, code="busy", status=503)
    if isinstance(error, StoppedError):
        return RefusedError(message, code="stopped", status=503)
    param = "prompt" if isinstance(error, VocabularyError) and "character" in message else None
    return RefusedError(message, param, status=500 if type(error) is CharrnnError else 400)


async def _left(request: Request) -> None:
    """Ends when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _or_gone(work: Any, watch: asyncio.Task[None]) -> Any:
    """The result of the work, which is cancelled when the client leaves: then Gone is raised."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Gone
        return task.result()
    finally:
        task.cancel()


def policy(page: str) -> str:
    """The page's content security policy: its own script and style, and this server, are all that it has.

    A page that brings a policy along keeps it.
    """
    if '<meta http-equiv="Content-Security-Policy"' in page:
        return "frame-ancestors 'none'"
    parts = []
    for kind in ("script", "style"):
        blocks = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.S)
        hashes = (base64.b64encode(hashlib.sha256(block.encode()).digest()).decode() for block in blocks)
        parts.append(" ".join([f"{kind}-src", *(f"'sha256-{digest}'" for digest in hashes)]))
    return "; ".join(
        ["default-src 'none'", "connect-src 'self'", *parts, "base-uri 'none'", "form-action 'none'",
         "frame-ancestors 'none'"]
    )  # fmt: skip
