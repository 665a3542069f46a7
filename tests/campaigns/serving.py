"""Asks a server at random, many at a time, as those do who are slow, who leave, and who mean no good.

    python -m tests.campaigns.serving --clients 2000 --seed 1

Whoever asks properly gets the text of the command with the same seed; what is wrong is refused in OpenAI's
shape, with a status below 500; a connection that is cut, or whose reader takes nothing, frees its place when
it is closed; the server says nothing and has no text at hand in the end; its memory does not grow; and it
ends within a second when it is told to.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from charrnn import api
from charrnn.checkpoint import model_file

from ..support.environment import ROOT, environment
from .harness import Report, command, scratch

sys.path.insert(0, f"{ROOT}/tests")  # where the helpers find each other

TOGETHER = 24  # clients
GRACE = 60.0  # seconds in which a proper answer comes, and places are free
GROWTH = 60.0  # megabytes
HEAD = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HOSTILE: list[bytes] = [
    b"", b"{", b"[]", b"null", b'"a"', b"[" * 50_000, b'{"prompt": "\xff"}', b'{"temperature": NaN}',
    b'{"n": 1e400}', b'{"max_tokens": ' + b"9" * 4000 + b"}", b'{"prompt": "\\ud800"}', b'{"n": 129}',
    b'{"prompt": [[1]]}', b'{"match": "(a+)+$("}', b'{"match": "[z-a]"}', b'{"stop": [[]]}', b'{"seed": -1}',
    b'{"only": "", "match": "a"}', b'{"ban": [" ", "a", "b", ".", "\\n"]}', b'{"logit_bias": {"1": 1}}',
    b'{"model": "other"}', b'{"label": "x"}', b'{"strength": 1}', b'{"best_of": 3, "stream": true}',
    b'{"suffix": "a", "max_tokens": 10000}', b'{"temperature": -0.1}', b'{"top_p": 0}', b'{"dry": 1e9}',
]  # fmt: skip
GARBAGE: list[bytes] = [
    b"\r\n\r\n", b"\x16\x03\x01\x00\xa5\x01\x00\x00", b"GET / HTTP/9.9\r\n\r\n", b"A" * 70_000,
    b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    HEAD.encode() + b"Content-Length: 99999999999\r\n\r\n",
]  # fmt: skip


class Load:
    def __init__(self, model: Path, port: int, report: Report, seed: int) -> None:
        self.model, self.port, self.report, self.seed = api.load(model), port, report, seed
        self.lock = threading.Lock()
        self.ways: list[Callable[[random.Random], str]] = [
            self.whole, self.whole, self.stream, self.stream, self.cut, self.cut, self.slow, self.hostile,
            self.garbage, self.half,
        ]  # fmt: skip

    def client(self, number: int) -> None:
        draw = random.Random(f"{self.seed} {number}")
        way = draw.choice(self.ways)
        try:
            outcome = way(draw)
        except Exception as problem:
            outcome = "no answer"
            self.breaks(f"client {number}, {way.__name__}: {type(problem).__name__}: {problem}")
        with self.lock:
            self.report.count(outcome)

    def breaks(self, what: str) -> None:
        with self.lock:
            self.report.breaks(what)

    def asked(self, draw: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
        """A request, and the settings of the command for it."""
        seed, length, count = draw.randrange(10**6), draw.choice((0, 1, 9, 60, 300)), draw.choice((1, 1, 3))
        more = draw.choice(
            [
                {},
                {},
                {},
                {"temperature": 0.5},
                {"temperature": 1.4, "top_p": 0.8},
                {"only": "ab "},
                {"top_k": 2},
            ]
        )
        asked = {"seed": seed, "max_tokens": length, "n": count, "prompt": draw.choice(("", "a", "ab" * 50))}
        settings = {"seed": seed, "length": length, "count": count, "prompt": asked["prompt"]}
        return {**asked, **more}, {**settings, **more}

    def expected(self, settings: dict[str, Any]) -> list[str]:
        with self.lock:  # the plain and the compiled path of this process, too, are then used by one
            return ["".join(text) for text in api.sample(self.model, **settings)]

    def post(self, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=GRACE)
        try:
            connection.request("POST", "/v1/completions", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def whole(self, draw: random.Random) -> str:
        asked, settings = self.asked(draw)
        status, body = self.post(json.dumps(asked).encode())
        texts = [choice["text"] for choice in json.loads(body)["choices"]] if status == 200 else []
        if texts != self.expected(settings):
            self.breaks(f"{asked}: status {status}, {body[:200]!r}")
        return "answers"

    def stream(self, draw: random.Random) -> str:
        asked, settings = self.asked(draw)
        status, body = self.post(json.dumps({**asked, "stream": True}).encode())
        texts = [""] * asked["n"]
        *events, last = [part[6:] for part in body.decode().split("\n\n") if part.startswith("data: ")] or [
            ""
        ]
        for event in events:
            for choice in json.loads(event)["choices"]:
                texts[choice["index"]] += choice["text"]
        if (status, last, texts) != (200, "[DONE]", self.expected(settings)):
            self.breaks(f"{asked}, streamed: status {status}, {body[:200]!r}")
        return "streams"

    def endless(self) -> socket.socket:
        body = json.dumps({"max_tokens": 100_000, "stream": True, "n": 2}).encode()
        connection = socket.create_connection(("127.0.0.1", self.port), GRACE)
        connection.sendall(f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return connection

    def cut(self, draw: random.Random) -> str:
        with self.endless() as connection:
            time.sleep(draw.random() ** 2)
            if draw.random() < 0.5:  # a reset in place of an end
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return "cut connections"

    def slow(self, draw: random.Random) -> str:
        with self.endless() as connection:
            for _ in range(draw.randrange(10)):
                connection.recv(10)
                time.sleep(draw.random() / 5)
        return "slow readers"

    def hostile(self, draw: random.Random) -> str:
        sent = draw.choice(HOSTILE)
        status, body = self.post(sent)
        error = json.loads(body).get("error", {})
        fine = 400 <= status < 500 and error.keys() == {"message", "type", "param", "code"}
        if not fine or "\n" in error["message"]:
            self.breaks(f"{sent[:80]!r}: status {status}, {body[:200]!r}")
        return "refused requests"

    def garbage(self, draw: random.Random) -> str:
        where = "127.0.0.1", self.port
        with contextlib.suppress(OSError), socket.create_connection(where, 2.0) as connection:
            connection.sendall(draw.choice(GARBAGE) + draw.randbytes(draw.choice((0, 5, 2000))))
            connection.recv(1 << 16)
        return "what is no HTTP"

    def half(self, draw: random.Random) -> str:
        body = json.dumps({"max_tokens": 9}).encode()
        whole = f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body
        with socket.create_connection(("127.0.0.1", self.port), GRACE) as connection:
            connection.sendall(whole[: draw.randrange(len(whole))])
            time.sleep(draw.random() / 2)
        return "half requests"


def health(port: int) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GRACE)
    try:
        connection.request("GET", "/health")
        return json.load(connection.getresponse())
    finally:
        connection.close()


def memory(process: int) -> float:
    """Megabytes that are resident."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def run(load: Load, clients: range) -> None:
    """Let the clients come, so many at a time."""
    numbers, lock = iter(clients), threading.Lock()

    def come() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            load.client(number)

    threads = [threading.Thread(target=come) for _ in range(TOGETHER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until = time.monotonic() + GRACE
    while health(load.port)["texts"]:
        if time.monotonic() > until:
            load.breaks("texts are at hand although nobody asks any more")
            return
        time.sleep(0.05)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1.0, help="in which it ends when it is told to")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    from support.toy_models import toy

    report = Report("clients of a server")
    with scratch() as folder:
        model = folder / "model.safetensors"
        model_file.save(toy(2, "\n .ab", lines=False), model)
        server = subprocess.Popen(
            command("serve", "-m", model, "--port", 0), stderr=subprocess.PIPE, env=environment()
        )
        assert server.stderr is not None
        try:
            port = int(server.stderr.readline().decode().partition("127.0.0.1:")[2].partition(";")[0])
            load = Load(model, port, report, options.seed)
            warm = options.clients // 4  # then all kinds of texts are compiled
            run(load, range(warm))
            before = memory(server.pid)
            run(load, range(warm, options.clients))
            grown = memory(server.pid) - before
            report.check(grown < GROWTH, f"its memory grows by {grown:.0f} MB")
            with load.endless() as connection:
                connection.recv(1)
                told = time.monotonic()
                server.send_signal(signal.SIGTERM)
                code = server.wait(GRACE)
                took = time.monotonic() - told
            report.check(code == 143, f"told to end, it does with {code}")
            report.check(took < options.seconds, f"told to end, it takes {took:.2f} s")
            said = server.stderr.read()
            report.check(not said, f"it says {said[-600:]!r}")
        finally:
            server.kill()
            server.wait()
            server.stderr.close()
    print(f"memory {before:.0f} MB, then {grown:+.1f} MB; the end took {took:.2f} s", file=sys.stderr)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
