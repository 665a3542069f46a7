"""What `charrnn serve` takes: the first byte, many streams at once, and memory over many requests.

    python bench/serving.py [--hidden 128] [--streams 64] [--length 20000] [--requests 10000]

A model of prose with random weights (LSTM of 2 layers, 65 characters) is served on loopback. Streams take
turns with `charrnn sample --count` of as many texts of that length. Client and server share the machine.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import ModelConfig, TextConfig
from charrnn.vocabulary import Vocabulary

ROOT = Path(__file__).parent.parent
CHARRNN = [sys.executable, "-m", "charrnn"]
CHARACTERS = "\n !,-.'?" + "".join(map(chr, [*range(65, 91), *range(97, 123)])) + "éèàüö"
HEAD = (
    "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
)


def write_model(path: Path, hidden: int) -> None:
    """A network with random weights, which costs what a trained one does."""
    config = ModelConfig(len(CHARACTERS), hidden_size=hidden, embedding_size=hidden)
    random = np.random.default_rng(1)
    shapes = config.parameter_shapes().items()
    tensors = {n: random.normal(0, s[-1] ** -0.5, s).astype(np.float32) for n, s in shapes}
    vocabulary = Vocabulary("".join(sorted(CHARACTERS)))
    model_file.save(Checkpoint(config, vocabulary, TextConfig(), tensors), path)


@contextmanager
def served(model: Path) -> Iterator[tuple[int, int]]:
    """The port and the process of a server that has loaded its kernels."""
    process = subprocess.Popen(
        [*CHARRNN, "serve", "-m", model, "--port", "0"], stderr=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        port = int(said.partition("127.0.0.1:")[2].partition(";")[0])
        while not health(port)["compiled"]:
            time.sleep(0.1)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def request(value: Any) -> bytes:
    body = json.dumps(value).encode()
    return f"{HEAD}{len(body)}\r\n\r\n".encode() + body


def ask(port: int, value: Any) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/v1/completions", json.dumps(value), {"content-type": "application/json"})
    answer = json.load(connection.getresponse())
    connection.close()
    return answer


def health(port: int) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/health")
    answer = json.load(connection.getresponse())
    connection.close()
    return answer


def first_bytes(port: int, count: int) -> list[float]:
    """Milliseconds until the first event of a stream has come, new connection included."""
    found = []
    for n in range(count):
        begun = time.perf_counter()
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(request({"prompt": "Once ", "seed": n, "max_tokens": 200, "stream": True}))
            data = b""
            while b"data: " not in data:
                data += connection.recv(1 << 16)
        found.append(1000 * (time.perf_counter() - begun))
        time.sleep(0.02)
    return found


def streams(port: int, count: int, length: int) -> float:
    """Characters a second of so many streams, each of so many characters."""
    begun = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        for n in range(count):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.sendall(request({"seed": n, "max_tokens": length, "stream": True}))
            selector.register(connection, selectors.EVENT_READ, bytearray())
        while selector.get_map():
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                data = key.fileobj.recv(1 << 18)
                key.data[:] = key.data[-20:] + data
                if not data or b"data: [DONE]" in key.data:
                    assert data, "a stream was cut"
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
    return count * length / (time.perf_counter() - begun)


def sampled(model: Path, count: int, length: int) -> tuple[float, float]:
    """Characters a second of `charrnn sample --count`, and of its computing: without its start."""

    def seconds(characters: int) -> tuple[float, float]:
        words = [*CHARRNN, "sample", "-m", model, "--count", count, "-n", characters, "--seed", 1]
        begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        subprocess.run(list(map(str, words)), stdout=subprocess.DEVNULL, check=True, cwd=ROOT)
        used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        return time.perf_counter() - begun, used

    (short, short_used), (long, long_used) = seconds(length), seconds(2 * length)
    return count * length / (long - short), count * length / (long_used - short_used)


def computing(process: int) -> float:
    """Seconds that a process has computed so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(process: int) -> float:
    """Megabytes that are resident."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def show(name: str, values: list[float], unit: str) -> None:
    ordered = sorted(values)
    late = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    print(f"{name:<34} median {statistics.median(values):8,.1f} {unit}, 95 of 100 below {late:,.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--length", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.safetensors"
        write_model(model, options.hidden)
        with served(model) as (port, process):
            show("first event, nothing else written", first_bytes(port, 100), "ms")
            rounds = []
            for _ in range(options.rounds):
                before = computing(process)
                together = streams(port, options.streams, options.length)
                used = options.streams * options.length / (computing(process) - before)
                alone, alone_used = sampled(model, options.streams, options.length)
                rounds.append((together / alone, used / alone_used))
                print(f"{options.streams} streams {together:10,.0f} characters/s, sample {alone:,.0f}")
                print(f"by computing {used:13,.0f} characters/s, sample {alone_used:,.0f}")
            ratios = map(statistics.median, zip(*rounds, strict=True))
            print("streams : sample {:.2f}, by computing {:.2f}".format(*ratios))
            longer = min(100_000, 4 * options.length)
            others = threading.Thread(target=streams, args=(port, options.streams, longer))
            others.start()
            time.sleep(0.5)
            show(f"first event beside {options.streams} streams", first_bytes(port, 40), "ms")
            others.join()
            begun = memory(process)
            tenth = max(1, options.requests // 10)
            for n in range(options.requests):
                ask(
                    port,
                    {
                        "prompt": "Once " * (n % 7),
                        "max_tokens": 20 + n % 80,
                        "temperature": 0.5 + n % 50 / 100,
                    },
                )
                if (n + 1) % tenth == 0:
                    print(f"after {n + 1:6,} requests {memory(process):6.1f} MB (at first {begun:.1f})")


if __name__ == "__main__":
    main()
