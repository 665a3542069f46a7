"""`charrnn serve` as a process: clients on loopback, signals, sockets, and what keeps it from starting."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.calls import call
from support.clients import MISSING, Process, serving
from support.environment import environment
from support.processes import SIGNALS, command, posix
from support.toy_models import toy

from charrnn import api
from charrnn.checkpoint import model_file

pytestmark = pytest.mark.timeout(120)
MODEL = "tales.safetensors"
# A streamed text that does not end by itself for a while.
ENDLESS = {"max_tokens": 100_000, "stream": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve")
    model_file.save(toy(2, "\n .ab", lines=False), folder / MODEL)
    return folder


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Process]:
    pytest.importorskip("uvicorn", reason=MISSING)
    with serving("-m", MODEL, "--threads", 1, cwd=folder) as process:
        yield process


def texts_at_hand(process: Process) -> int:
    count: int = process.get("/health").json["texts"]
    return count


def until(process: Process, count: int) -> None:
    """Wait until so many texts are at hand."""
    end = time.monotonic() + 30
    while texts_at_hand(process) != count:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_program_gets_the_text_of_the_command(running: Process, folder: Path) -> None:
    expected = "".join(next(api.sample(folder / MODEL, "ab", seed=7, length=60)))
    asked = {"model": "tales", "prompt": "ab", "seed": 7, "max_tokens": 60}
    assert running.ask(asked).json["choices"][0]["text"] == expected
    events = running.ask({**asked, "stream": True}).events
    assert "".join(event["choices"][0]["text"] for event in events) == expected


def test_the_answers_of_many_streams_are_each_their_own(running: Process, folder: Path) -> None:
    connections = [running.stream({"seed": n, "max_tokens": 300, "stream": True}) for n in range(12)]
    for n, connection in enumerate(connections):
        with connection, connection.makefile("rb") as file:
            text = ""
            for line in file:
                if line.strip() == b"data: [DONE]":
                    break
                if line.startswith(b"data: "):
                    text += json.loads(line[6:])["choices"][0]["text"]
        assert text == "".join(next(api.sample(folder / MODEL, seed=n, length=300)))


def test_a_connection_that_is_cut_frees_its_place(running: Process) -> None:
    with running.stream(ENDLESS) as connection:
        connection.recv(1)
        until(running, 1)
    until(running, 0)


def test_who_reads_nothing_is_waited_for_and_keeps_no_one_from_being_answered(running: Process) -> None:
    with running.stream(ENDLESS):
        until(running, 1)
        for n in range(3):
            assert running.ask({"seed": n, "max_tokens": 50}).status == 200
    until(running, 0)


def test_what_is_no_http_is_answered_and_nothing_is_said(running: Process) -> None:
    with socket.create_connection(("127.0.0.1", running.port), 30) as connection:
        connection.sendall(b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n")
        assert b" 400 " in connection.recv(100)
    assert running.get("/health").status == 200


@posix
@pytest.mark.parametrize(("name", "code"), SIGNALS)
def test_a_signal_ends_it_although_a_stream_is_read(folder: Path, name: str, code: int) -> None:
    pytest.importorskip("uvicorn", reason=MISSING)
    with serving("-m", MODEL, cwd=folder) as process, process.stream(ENDLESS) as connection:
        connection.recv(1)
        until(process, 1)
        process.process.send_signal(getattr(signal, name))
        whole = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(1 << 16):
                whole += piece
        assert process.process.wait(30) == code
        assert b'"code": "stopped"' in whole
        assert process.process.stderr is not None
        assert process.process.stderr.read() == b""


@posix
def test_a_socket_in_the_file_system_is_made_and_goes_when_it_ends(folder: Path) -> None:
    pytest.importorskip("uvicorn", reason=MISSING)
    path = folder / "socket"
    with socket.socket(socket.AF_UNIX) as left:  # by a server that was killed
        left.bind(os.fspath(path))
    words = command("serve", "-m", MODEL, "--unix", "socket")
    process = subprocess.Popen(words, stderr=subprocess.PIPE, cwd=folder, env=environment())
    assert process.stderr is not None
    try:
        assert b"unix:socket" in process.stderr.readline()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(os.fspath(path))
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: whatever\r\n\r\n")
            assert b" 200 " in connection.recv(100)
        second = subprocess.run(words, capture_output=True, cwd=folder, env=environment(), timeout=60)
        assert second.returncode == 1
        assert second.stderr.decode() == (
            "charrnn: error: another server listens to socket: give --unix another path\n"
        )
        process.terminate()
        assert process.wait(30) == 143
        assert not path.exists()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@posix
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_never_removed(folder: Path, tmp_path: Path, kind: str) -> None:
    pytest.importorskip("uvicorn", reason=MISSING)
    path = tmp_path / "place"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "socket")
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(os.fspath(tmp_path / "socket"))
    done = call("serve", "-m", folder / MODEL, "--unix", path)
    assert done.returncode == 1
    assert done.stderr.decode().count("\n") == 1
    assert "is there, and is no socket" in done.stderr.decode()
    assert path.is_symlink() if kind == "link" else path.exists()


def said(done: subprocess.CompletedProcess[bytes], code: int) -> str:
    assert (done.returncode, done.stdout) == (code, b"")
    line, *rest = done.stderr.decode().splitlines()
    assert line.startswith("charrnn: error: ")
    assert rest == ([] if code == 1 else ["try 'charrnn serve --help'"])
    return line


def test_a_port_that_is_taken_is_said(folder: Path) -> None:
    pytest.importorskip("uvicorn", reason=MISSING)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = said(call("serve", "-m", folder / MODEL, "--port", port), 1)
        assert line.endswith(
            f"cannot listen to port {port} of 127.0.0.1: another program does already; give another --port"
        )


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (["--host", "nowhere.invalid"], 1, "there is no host nowhere.invalid"),
        (["--host", "a" * 70 + ".b"], 1, "there is no host"),
        (["--host", "192.0.2.1"], 1, "does not have that address"),
        (["--port", "65536"], 2, "port is 65536"),
        (["--port", "-1"], 2, "port is -1"),
        (["--unix", "s", "--port", "1"], 2, "--unix and --host or --port contradict each other"),
        (["--cors", "a.example"], 2, "give an origin such as https://example.org"),
        (["--threads", "0"], 2, "threads is 0"),
        (["--precision", "float8"], 2, "precision is 'float8'"),
        (["-m", "gone.safetensors"], 1, "gone.safetensors"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(
    folder: Path, words: list[str], code: int, what: str
) -> None:
    pytest.importorskip("uvicorn", reason=MISSING)
    given = words if "-m" in words else ["-m", MODEL, *words]
    assert what in said(call("serve", *given, cwd=folder), code)


def test_without_its_extra_the_command_says_how_to_get_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "charrnn.serving.application", None)
    for name in [name for name in sys.modules if name.startswith("charrnn.serving")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("starlette", "starlette.applications", "sse_starlette", "uvicorn"):
        monkeypatch.setitem(sys.modules, name, None)
    line = said(call("serve", "-m", folder / MODEL), 1)
    assert "which is not installed: pip install 'charrnn[serve]'" in line


def test_llm_is_told_where_the_server_is(folder: Path) -> None:
    done = call("serve", "-m", MODEL, "--port", "9", "--print-llm-config", cwd=folder)
    assert done.returncode == 0
    assert done.stdout.decode() == (
        '- model_id: "tales"\n  model_name: "tales"\n'
        '  api_base: "http://127.0.0.1:9/v1"\n  completion: true\n'
    )
