"""What is measured, section by section: each returns comparisons, which `tables.py` shows."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import machine
from measure import (
    Comparison,
    Side,
    Unavailable,
    Workers,
    compare,
    facts,
    peak_megabytes,
    python,
    seconds_to_end,
    seconds_to_first_byte,
    seconds_to_line,
)
from networks import TRAINED, VOCABULARY, Network, flops_per_character

CHARRNN = "charrnn"
CHARRNN_BF16 = "charrnn bfloat16"
TORCH = "PyTorch float32"
TORCH_BF16 = "PyTorch bfloat16"
TORCH_MALLOC = "PyTorch float32, malloc"
TORCH_BF16_MALLOC = "PyTorch bfloat16, malloc"
NUMPY = "NumPy"
PEAK_OURS = "product: charrnn float32"
PEAK_NUMPY = "product: NumPy float32"
PEAK_TORCH = "product: PyTorch float32"
PEAK_BF16 = "product: PyTorch bfloat16"
TORCH_MODULE = "nn.LSTM"
TORCH_CELLS = "nn.LSTMCell"
TORCH_SCRIPT = "PyTorch"
TYPER = "import typer"
BARE = "bare Python"

HERE = sys.executable


@dataclass
class Bench:
    """What was asked for, and what is there to be measured."""

    folder: Path  # for files that are thrown away
    seconds: float = 2.0  # of a measurement
    rounds: int = 5
    megabytes: int = 500  # of the text whose training shows the memory
    corpus: Path | None = None  # None: a synthetic text
    torch_python: str = HERE
    say: Callable[[str], None] = print
    torch: str = ""  # PyTorch's version; empty: it cannot be imported
    torch_missing: str = ""  # why
    ours: dict[str, Any] = field(default_factory=dict)

    def look(self) -> None:
        """Find out what is there.

        Raises:
            Unavailable: charrnn itself is not.
        """
        self.ours = facts(python(HERE, "ours.py", "facts"), self.environment())
        try:
            self.torch = facts(python(self.torch_python, "peer_torch.py", "facts"), {})["version"]
        except Unavailable as reason:
            self.torch_missing = str(reason)

    def environment(self, **more: str) -> dict[str, str]:
        return machine.environment() | more

    def text(self) -> Path:
        """The corpus of all training: the given one, or a megabyte of random characters."""
        if self.corpus is not None:
            return self.corpus
        return self.synthetic(1_100_000)

    def synthetic(self, characters: int, vocabulary: int = VOCABULARY, *, lines: bool = False) -> Path:
        """Random characters; with `lines`, one of them ends a line."""
        path = self.folder / f"text-{characters}-{vocabulary}{'-lines' if lines else ''}.txt"
        if not path.exists():
            arguments = ["--out", path, "--characters", characters, "--vocabulary", vocabulary]
            seconds_to_end(python(HERE, "ours.py", "text", *arguments, *(["--lines"] if lines else [])), {})
        return path

    def model(self, network: Network) -> Path:
        """A model file with random weights, which take as long as others."""
        path = self.folder / f"{network.cell}-{network.layers}-{network.hidden}.safetensors"
        if not path.exists():
            command = python(HERE, "ours.py", "model", "--out", path, *network.arguments())
            seconds_to_end(command, self.environment())
        return path

    def charrnn(self, *arguments: object) -> list[str]:
        """The command line, as `charrnn` starts it."""
        return [HERE, "-m", "charrnn", *map(str, arguments)]

    def torch_environments(self) -> dict[str, dict[str, str]]:
        """Suffix of the side's name -> what PyTorch runs in."""
        plain = {"": self.environment()}
        return plain | ({", malloc": self.environment(**machine.MALLOC)} if machine.has_glibc() else {})


def training(bench: Bench) -> list[Comparison]:
    """Characters a second of whole training steps; the peak is measured in the same rounds."""
    result = []
    with ExitStack() as all_rows:
        peaks = Workers(all_rows, min(bench.seconds, 0.5))
        peaks.add(PEAK_OURS, python(HERE, "ours.py", "peak"), bench.environment())
        peaks.add(PEAK_NUMPY, python(HERE, "peer_numpy.py", "peak"), bench.environment())
        if bench.torch:
            command = python(bench.torch_python, "peer_torch.py", "peak")
            peaks.add(PEAK_TORCH, command, bench.environment())
            if machine.has_bfloat16():
                peaks.add(PEAK_BF16, [*command, "--bf16"], bench.environment())
        networks: list[Network | None] = [*TRAINED, None]  # None: the default recipe
        for network in networks:
            bench.say(f"training: {network.name if network else 'the default recipe'}")
            with ExitStack() as row:
                result.append(_trained(bench, network, Workers(row, bench.seconds), peaks))
    return result


def _trained(bench: Bench, network: Network | None, workers: Workers, peaks: Workers) -> Comparison:
    corpus = ("--corpus", bench.text())
    arguments = ["--recipe"] if network is None else network.arguments()
    command = python(HERE, "ours.py", "train", *corpus, *arguments)
    workers.add(CHARRNN, command, bench.environment())
    if CHARRNN not in workers.facts:
        raise Unavailable(f"charrnn does not train here: {workers.missing[CHARRNN]}")
    if bench.ours["trains_in_bfloat16"]:
        workers.add(CHARRNN_BF16, [*command, "--precision", "bfloat16"], bench.environment())
    network = Network(**workers.facts[CHARRNN]["network"])
    if bench.torch:
        command = python(bench.torch_python, "peer_torch.py", "train", *corpus, *network.arguments())
        for suffix, environment in bench.torch_environments().items():
            workers.add(TORCH + suffix, command, environment)
            workers.add(TORCH_BF16 + suffix, [*command, "--bf16"], environment)
    vocabulary = workers.facts[CHARRNN]["vocabulary"]
    flops = flops_per_character(network.cell, network.layers, network.hidden, vocabulary)
    name = network.name + (f", norm, skips, dropout {network.dropout:g}" if network.norm else "")
    result = compare(name, "characters/s", {**workers.sides, **peaks.sides}, bench.rounds, flops)
    result.missing |= workers.missing | peaks.missing
    return result


def sampling(bench: Bench) -> list[Comparison]:
    """Characters a second when writing, one text at a time and many at once."""
    small, large = Network("lstm", 2, 128), Network("lstm", 3, 512)
    result = []
    for network, count in ((small, 1), (large, 1), (small, 64)):
        name = f"{network.name}, {'one text' if count == 1 else f'{count} texts at once'}"
        bench.say(f"sampling: {name}")
        size = ("--layers", network.layers, "--hidden", network.hidden, "--count", count)
        with ExitStack() as stack:
            workers = Workers(stack, bench.seconds)
            ours = python(HERE, "ours.py", "sample", "--model", bench.model(network), "--count", count)
            workers.add(CHARRNN, ours, bench.environment())
            workers.add(CHARRNN_BF16, [*ours, "--precision", "bfloat16"], bench.environment())
            workers.add(NUMPY, python(HERE, "peer_numpy.py", "sample", *size), bench.environment())
            if bench.torch:
                command = python(bench.torch_python, "peer_torch.py", "sample", *size)
                workers.add(TORCH_MODULE, command, bench.environment())
                workers.add(TORCH_CELLS, [*command, "--cells"], bench.environment())
            comparison = compare(name, "characters/s", workers.sides, bench.rounds)
            comparison.missing |= workers.missing
            result.append(comparison)
    return result


def start(bench: Bench) -> list[Comparison]:
    """Seconds from the start of a process to what its user waits for."""
    network, environment = Network("lstm", 2, 128), bench.environment()
    size = ("--layers", network.layers, "--hidden", network.hidden)
    model = bench.model(network)
    result = []

    def measured(what: str, sides: dict[str, Side]) -> None:
        bench.say(f"start: {what}")
        for side in sides.values():  # once for the file caches of the system and Python's
            with suppress(Unavailable):  # the next attempt says why
                side()
        result.append(compare(what, "s", sides, bench.rounds))

    first: dict[str, Side] = {
        CHARRNN: lambda: seconds_to_first_byte(bench.charrnn("sample", "-m", model, "-n", 200), environment),
        NUMPY: lambda: seconds_to_first_byte(python(HERE, "peer_numpy.py", "first", *size), environment),
    }
    if bench.torch:
        script = python(bench.torch_python, "peer_torch.py", "first", *size)
        first[TORCH_SCRIPT] = lambda: seconds_to_first_byte(script, environment)
    measured(f"the first character, {network.name}", first)
    measured(
        "charrnn --help",
        {
            CHARRNN: lambda: seconds_to_end(bench.charrnn("--help"), environment),
            TYPER: lambda: seconds_to_end([HERE, "-c", "import typer"], environment),
            BARE: lambda: seconds_to_end([HERE, "-c", "pass"], environment),
        },
    )
    text = bench.text()

    def first_step(cache: Path | None) -> float:
        """From `charrnn train` to the first step, with a new cache folder, or the one of the step before."""
        with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
            kept = {"CHARRNN_CACHE_DIR": str(cache or Path(folder) / "cache")}
            command = bench.charrnn("train", text, "--steps", 10**6, "--json", "-o", Path(folder) / "m")
            return seconds_to_line(command, environment | kept, lambda line: line.get("event") == "step")

    def torch_step() -> float:
        command = python(bench.torch_python, "peer_torch.py", "train", "--corpus", text, *size)
        return seconds_to_line(command, environment, lambda line: line.get("event") == "step")

    torch: dict[str, Side] = {TORCH_SCRIPT: torch_step} if bench.torch else {}
    cold: dict[str, Side] = {CHARRNN: lambda: first_step(None)}
    measured("the first training step, nothing cached", cold | torch)
    warm: dict[str, Side] = {CHARRNN: lambda: first_step(bench.folder / "cache")}
    measured("the first training step", warm | torch)
    return result


def memory(bench: Bench) -> list[Comparison]:
    """The most memory that training on a long text held, an evaluation and a saved model included."""
    path = bench.synthetic(bench.megabytes * 1_000_000, lines=True)

    def peak(*options: str) -> float:
        with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
            # The size that charrnn plans for half an hour on two cores. By steps it would take a smaller one.
            out = ("--steps", 10, "--hidden-size", 512, "--quiet", "-o", Path(folder) / "m")
            return peak_megabytes(bench.charrnn("train", path, *out, *options), bench.environment())

    sides: dict[str, Side] = {"": peak, ", each line a text (--lines)": lambda: peak("--lines")}
    result = []
    try:
        for how, side in sides.items():
            what = f"training on a text of {bench.megabytes} MB{how}"
            bench.say(f"memory: {what}")
            result.append(compare(what, "MB", {CHARRNN: side}, 1))
    finally:
        path.unlink()
    return result


SECTIONS: dict[str, Callable[[Bench], list[Comparison]]] = {
    "training": training,
    "sampling": sampling,
    "start": start,
    "memory": memory,
}
