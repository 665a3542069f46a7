"""Calls every command with every option and values of all kinds.

    python -m tests.campaigns.commands --calls 5000 --seed 1

The options are those that the commands declare, so that a new one is tried without a word here. Each call
ends with exit code 0, 1 or 2 in time, or when it is told to, says what was wrong in one line, and shows no
traceback. The calls are made within one process, but for a share of them, and those that take long.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import typer

from charrnn.cli import parsing, process
from charrnn.cli.commands import COMMANDS

from ..support.environment import environment
from .harness import ROOT, Report, TooLong, at_most, command, limit_memory, scratch
from .models import small_models

SECONDS = 20  # that a call may take
TRAINING_SECONDS = 0.2  # then it is told to stop
WRITTEN = 20_000  # bytes, then nobody reads on
ADDRESS_SPACE = 8 << 30
REAL = 50  # every so many calls are made in a process of their own

NUMBERS = [
    "0", "-0", "1", "2", "3", "7", "-1", "0.0", "0.5", "1.0", "1e-3", "0.999999", "1e-12", "1e3", "64",
    "1024", "1025", "16384", "16385", "65536", "65537", "1e6", "1000001",
    str(2**31), str(2**32), str(2**63 - 1),
    str(2**63), str(2**64), "1" + "0" * 30, "9" * 400, "9" * 5000, "1e400", "-1e400", "1e-400", "nan", "-nan",
    "inf", "-inf", "0x10", "1_000", " 3 ", "３", "1,5", "",
]  # fmt: skip
TEXTS = [
    "", " ", "a", "sea", "the", "-", "--", "-x", "\n", "\x1b[31mred\x07", "\x9b2J", "é", "日", "\U0001f600",
    "\udcff", "x" * 300, "x" * 100_000, "%s%n{}", "utf-8", "utf-16", "latin-1", "hex", "idna", "undefined",
    "unicode_escape", "rot13", "lstm", "gru", "rnn", "tanh", "relu", "error", "skip", "bfloat16", "float32",
    "/", ".", "..", "/dev/null", "/proc/self/mem",
]  # fmt: skip

EXPLODING = [  # expressions whose automata, or whose search by backtracking, are huge; and broken ones
    "(a+)+$", "(a|aa)*b", "(.*a){20}", "(.*a.{12})*", "(a?){300}a{300}", "((a{1,100}){1,100}){1,100}",
    ".{1000}.*.{1000}", "(.*)(.*)(.*)(.*)x", "[^a]{5000}", r"\p{L}{1,500}x\p{N}{1,500}", r"\w{500}\W{500}",
    "((((((((((a*)*)*)*)*)*)*)*)*)*", "(s|e|a|h|l)*" * 20, "x{0,99999}", "a{2147483648}", "[" * 500,
    "(" * 5000, "|" * 5000, "(?:" * 200 + "a" + ")*" * 200, "\\", "[z-a]", "(?=a)b", r"(a)\1", "(?i)SEA",
    "(?P<a", "a**", "{3}", "[[:alpha:]]", "\\x{110000}", "^sea$", "", "(|)", "[^\\s\\S]",
]  # fmt: skip
PATTERNS = [
    "s?a",
    "she ___",
    "*",
    "?",
    "___",
    "?" * 60,
    "___" * 40,
    "* * * *",
    "the ? ___ é*",
    "\\?\\*",
    "a" * 999,
]
ATOMS = ["a", "s", ".", "[a-z]", r"\w", "[^x]", "(?:sea|shells)", r"\d", "é", r"\p{Lu}", " "]
REPETITIONS = ["", "", "", "*", "+", "?", "+?", "{3}", "{2,50}", "{0,1000}", "{7,}"]


class Pipe(io.RawIOBase):
    """stdout whose reader goes after a while."""

    def __init__(self) -> None:
        self.content = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if len(self.content) > WRITTEN:
            raise BrokenPipeError(32, "Broken pipe")
        self.content += bytes(data)
        return len(data)


class Caller:
    """Makes calls up, and makes them."""

    def __init__(self, folder: Path, report: Report, seed: int) -> None:
        self.folder, self.report = folder, report
        self.random = random.Random(seed)
        self.commands = parsing.program().commands
        (folder / "empty.txt").touch()
        (folder / "one.txt").write_text("a")
        (folder / "bad.txt").write_bytes(b"abc\xff\xfe\x00def")
        (folder / "esc\x1b[31m.txt").write_text("ab" * 50)
        (folder / "a folder").mkdir()
        (folder / "a folder" / "b.txt").write_text("she sells\n" * 9)
        self.models = []
        for number, (content, kind) in enumerate(small_models(folder)):
            path = folder / f"{kind}{number}.safetensors"
            path.write_bytes(content)
            self.models.append(path.name)
        for path in folder.glob("run*"):
            path.unlink()
        self.corpora = [path.name for path in folder.iterdir() if path.suffix != ".safetensors"]

    def arguments(self) -> list[str]:
        """A call, most of it sensible, some of it not."""
        name = self.random.choice(list(COMMANDS))
        declared = self.commands[name]
        params = declared.get_params(typer.Context(declared))
        words = [name]
        if self.random.random() < 0.02:
            words = [self.random.choice(TEXTS), *words]
        for param in params:
            if param.param_type_name == "argument" and self.random.random() < 0.97:
                words.append(self._argument(str(param.metavar)))
        options = [param for param in params if param.param_type_name == "option"]
        for param in self.random.sample(options, min(len(options), self.random.choice((0, 1, 1, 2, 3, 6)))):
            flag = self.random.choice([*param.opts, *param.secondary_opts])
            if flag in ("--help", "-h") and self.random.random() < 0.9:
                continue
            words.append(flag)
            if not param.is_flag and self.random.random() < 0.98:
                words.append(self._value(param))
        if name == "train":
            if not {"-o", "--out"} & set(words):
                words += ["-o", self.random.choice(("m.safetensors", "n.safetensors", "sub/m"))]
            if not {"--hidden-size"} & set(words):
                words += ["--hidden-size", "4"]
            if self.random.random() < 0.5:
                words.append("--force")
        return words

    def _argument(self, metavar: str) -> str:
        if metavar == "PATTERN" and self.random.random() < 0.9:
            return self.random.choice(PATTERNS)
        known = self.models if "MODEL" in metavar else self.corpora
        if self.random.random() < 0.85:
            return self.random.choice(known)
        return self.random.choice([*self.models, *self.corpora, *TEXTS])

    def _value(self, param: Any) -> str:
        metavar = str(param.metavar)
        if self.random.random() < 0.1:
            return self.random.choice(NUMBERS + TEXTS)
        if metavar == "REGEX":
            return self._expression()
        if "PATH" in metavar:
            return self.random.choice([*self.models, *TEXTS])
        if metavar.startswith("P,P"):
            return ",".join(self.random.choices(NUMBERS, k=self.random.randrange(4)))
        if metavar in ("NAME", "TEXT", "TEXT|-", "CHARS") or "|" in metavar:
            return self.random.choice([*TEXTS, *metavar.split("|")])
        return self.random.choice(NUMBERS)

    def _expression(self, depth: int = 0) -> str:
        draw = self.random
        if draw.random() < 0.3:
            return draw.choice(EXPLODING)
        parts = []
        for _ in range(draw.randrange(1, 5)):
            nested = depth < 4 and draw.random() < 0.4
            atom = f"({self._expression(depth + 1)})" if nested else draw.choice(ATOMS)
            parts.append(atom + draw.choice(REPETITIONS))
        return draw.choice(("", "|")).join(parts)

    # --- within this process

    def call(self, words: list[str]) -> None:
        pipe, said = Pipe(), io.StringIO()
        stdin = io.TextIOWrapper(
            io.BytesIO(b"the sea \xc3\xa9\n" * self.random.randrange(20)), encoding="utf-8"
        )
        streams = sys.stdin, sys.stdout, sys.stderr
        sys.stdin, sys.stderr = stdin, said
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(pipe, 1), encoding="utf-8", write_through=True)
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        ended = None
        began = time.monotonic()
        process.StopRequest.__call__ = lambda request: (  # type: ignore[method-assign]
            request.reason or ("time" if time.monotonic() - began > TRAINING_SECONDS else None)
        )
        try:
            with at_most(SECONDS):
                ended = int(process.outcome(parsing.invoke, words, COMMANDS))
        except TooLong:
            ended = None
        finally:
            sys.stdin, sys.stdout, sys.stderr = streams
            for number, handler in before.items():
                signal.signal(number, handler)
        if ended is None:  # somebody who asks for the best of a billion texts is to be able to stop it
            self.call_process(words)
            return
        self._judge(words, ended, said.getvalue())

    def call_process(self, words: list[str]) -> None:
        """As a user does: a process, ended from outside when it works too long."""
        with subprocess.Popen(
            command(*words),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment(PYTHONIOENCODING="utf-8:surrogateescape"),
            preexec_fn=lambda: limit_memory(ADDRESS_SPACE),
        ) as running:  # fmt: skip
            assert running.stdout is not None
            stdout = running.stdout
            threading.Thread(target=lambda: (stdout.read(WRITTEN), stdout.close()), daemon=True).start()
            running.stdout = None
            try:
                _, said = running.communicate(b"the sea\n", timeout=3)
            except subprocess.TimeoutExpired:
                running.send_signal(signal.SIGTERM)
                try:
                    _, said = running.communicate(timeout=SECONDS)
                except subprocess.TimeoutExpired:
                    running.kill()
                    self._judge(words, None, "")
                    return
        code = running.returncode
        if code == 143:  # our own signal
            code, said = 0, b""
        self._judge(words, code, said.decode("utf-8", "replace"))

    def _judge(self, words: list[str], code: int | None, said: str) -> None:
        shown = " ".join(word if len(word) < 60 else word[:20] + "..." for word in words)
        shown = shown.encode("unicode_escape").decode()
        report = self.report
        report.count(f"exit code {code}" if code is not None else "no end")
        report.check(code in (0, 1, 2), f"{shown}: exit code {code}: {said[-300:]}")
        lines = said.split("\n")
        errors = [line for line in lines if line.startswith("charrnn: error: ")]
        report.check(
            "Traceback" not in said and "error: unexpected" not in said, f"{shown}: says {said[-500:]}"
        )
        for line in lines:
            report.check(line.isprintable(), f"{shown}: says {line!r}")
        if code in (1, 2) and words:
            helped = "Usage:" in said
            report.check(
                helped or len(errors) == 1, f"{shown}: code {code}, {len(errors)} errors: {said[-300:]}"
            )
        elif code == 0:
            report.check(not errors, f"{shown}: code 0, says {said[-300:]}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    np.seterr(all="ignore")
    report = Report("hostile commands")
    with scratch() as folder:
        caller = Caller(folder, report, options.seed)
        os.chdir(folder)
        limit_memory(ADDRESS_SPACE)
        for number in range(options.calls):
            words = caller.arguments()
            if number % REAL == REAL - 1:
                caller.call_process(words)
            else:
                caller.call(words)
        os.chdir(ROOT)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
