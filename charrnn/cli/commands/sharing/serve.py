"""`charrnn serve`: a server to which programs speak as they do to OpenAI's completions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from charrnn.cli import models, process
from charrnn.cli.options import Precision, Threads
from charrnn.cli.process import Output, StopRequest, say
from charrnn.config import WEIGHT_PRECISIONS, WeightPrecision
from charrnn.errors import CharrnnError, ConfigError, printable, quoted

HOST, PORT = "127.0.0.1", 8080
EXTRA = ("starlette", "uvicorn", "sse_starlette", "anyio", "h11")  # what charrnn[serve] brings


def serve(
    model: models.Models = None,
    host: Annotated[
        str | None, typer.Option(metavar="HOST", help=f"A name or an address of this machine [{HOST}].")
    ] = None,
    port: Annotated[int | None, typer.Option(metavar="N", help=f"0: a free one [{PORT}].")] = None,
    unix: Annotated[
        str | None, typer.Option(metavar="PATH", help="Listen to a socket in the file system instead.")
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Pages of this site may ask, too; repeatable."),
    ] = None,
    cache: models.Cache = None,
    precision: Precision = "float32",
    threads: Threads = None,
    print_llm_config: Annotated[
        bool, typer.Option("--print-llm-config", help="What the tool llm needs to know, and no more.")
    ] = False,
) -> int:
    """Write for programs that ask over HTTP, as OpenAI's /v1/completions does.

    Needs the extra charrnn[serve]. It ends with Ctrl-C.
    """
    if unix is not None and (host is not None or port is not None):
        raise ConfigError("--unix and --host or --port contradict each other", "give one of them")
    if precision not in WEIGHT_PRECISIONS:
        raise ConfigError(f"precision is {quoted(precision)}", f"give one of {', '.join(WEIGHT_PRECISIONS)}")
    for origin in cors or ():
        if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s,*]+", origin):
            raise ConfigError(f"cors is {quoted(origin)}", "give an origin such as https://example.org, or *")
    loaded = models.load(model)
    if hasattr(loaded, "config"):
        from charrnn.checkpoint.kinds import require

        require(cast(Any, loaded), "writer")
    loaded = models.looking_back(loaded, cache)
    name = _name(model)
    if print_llm_config:
        from charrnn.serving.protocol import llm_config

        output = Output()
        shown = f"[{host}]" if host and ":" in host else host or HOST
        output.write(llm_config(name, f"http://{shown}:{PORT if port is None else port}"))
        output.flush()
        return 0
    try:
        from charrnn.serving import listening
        from charrnn.serving.application import application
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0] not in EXTRA:
            raise
        raise CharrnnError(
            f"charrnn serve needs {missing.name}, which is not installed", "pip install 'charrnn[serve]'"
        ) from None
    from charrnn.labels import names
    from charrnn.serving.protocol import Served
    from charrnn.serving.scheduler import Scheduler

    def report(line: str) -> None:
        say(f"charrnn: error: {printable(line)}")

    def page() -> str:
        from charrnn import api

        return api.page(cast(Any, loaded), name, precision=scheduler.precision)

    scheduler = Scheduler(loaded, precision=cast(WeightPrecision, precision), threads=threads, report=report)
    served = Served(name, loaded.text, names(getattr(loaded, "columns", ())), scheduler.precision)
    place = (
        listening.port(host or HOST, PORT if port is None else port) if unix is None else listening.unix(unix)
    )
    hosts = None if unix is not None else [host or HOST]
    stop = StopRequest(announce=lambda: None, restore=lambda: None)
    with place as (found, address), stop:
        alone = hasattr(loaded, "config")  # a page holds no mixture
        app = application(
            scheduler, served, hosts=hosts, origins=cors or (), page=page if alone else None, report=report
        )
        scheduler.start()
        stop.saveable = True  # from here on, a signal lets answers end
        say(f"{name} is served at {address}; Ctrl-C ends it", command=True)
        listening.run(
            app, found, is_over=lambda: stop() is not None, end=scheduler.stop, quiet=not process.DEBUG
        )
    return stop.exit_code


def _name(values: list[str] | None) -> str:
    """What requests call the model: its file's name, or several with plus signs."""
    from charrnn import api

    paths = [models.path_and_weight(value)[0] for value in values or ()] or [str(api.model_path())]
    return "+".join(Path(path).stem for path in paths)
