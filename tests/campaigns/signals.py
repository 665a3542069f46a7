"""Ends every command at random moments: by a signal, by closing its pipe, or by closing its terminal.

    python -m tests.campaigns.signals --ends 300 --seed 1

The process ends with 129, 130, 143, or quietly; its answer takes less than a second; it says no traceback; a
terminal gets its cursor back, and is as it was; a file that a command writes is whole or not there, with
nothing beside it; and `--resume` ends a training run as if it had not been interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import os
import pty
import random
import select
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from typing import NamedTuple

from charrnn.checkpoint import model_file

from ..support.environment import environment
from .harness import Report, command, hear_ctrl_c, scratch

TERMINAL = environment(TERM="xterm")
GRACE = 30.0  # until it is said to hang
TEXT = "she sells sea shells by the sea shore, and the shells she sells are sea shells.\n" * 400
# How to end it: the signals that are sent, and the exit codes, ours and the system's, before Python runs a
# line of ours.
HOW: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "SIGINT": ((signal.SIGINT,), (130, -2)),
    "SIGINT twice": ((signal.SIGINT, signal.SIGINT), (130, -2)),
    "SIGTERM": ((signal.SIGTERM,), (143, -15)),
    "SIGHUP": ((signal.SIGHUP,), (129, -1)),
    "closed terminal": ((), (129, -1)),
    "pipe": ((), (0,)),
}
TRAIN = ["--hidden-size", "16", "--num-layers", "1", "--embedding-size", "8", "--threads", "2"]


class Call(NamedTuple):
    """A command line that is ended.

    `writes`: it writes on and on, so that a closed pipe ends it. `out`: the file that it writes, and one that
    holds what that is to hold. `typed`: it is an editor, and this is typed into it. `cold`: no kernel is
    compiled yet.
    """

    name: str
    words: list[object]
    writes: bool = False
    out: tuple[Path, Path] | None = None
    typed: bytes = b""
    cold: bool = False


class Ender:
    def __init__(self, folder: Path, report: Report, seed: int, seconds: float) -> None:
        self.folder, self.report, self.seconds = folder, report, seconds
        self.random = random.Random(seed)
        self.slowest = 0.0
        self.corpus = folder / "corpus.txt"
        self.corpus.write_text(TEXT)
        self.large = folder / "large.txt"
        self.large.write_text(TEXT * 300)
        self.lines = folder / "lines.txt"  # no two alike
        words = TEXT.split()
        self.lines.write_text(
            "\n".join(" ".join(self.random.choices(words, k=12)) for _ in range(100_000)) + "\n"
        )
        self.model = folder / "model.safetensors"
        self.expected = folder / "expected.safetensors"
        self.small = folder / "small"
        self.page = folder / "page.html"
        self._run("train", self.corpus, *TRAIN, "--steps", 20, "-o", self.model)

    def _run(self, *words: object) -> None:
        quiet = ["-q"] * (words[0] != "score")
        subprocess.run(command(*words, *quiet), env=TERMINAL, check=True, capture_output=True)

    def _make_what_it_needs(self, call: Call) -> None:
        with_model = ("-m", self.model)
        made: dict[Path, tuple[object, ...]] = {
            self.expected: ("train", self.corpus, *TRAIN, "--steps", 800, "-o", self.expected),
            self.small: ("compress", *with_model, self.lines, "-o", self.small),
            self.page: ("score", *with_model, self.corpus, "--html", self.page),
        }
        needed = {*call.words, *(call.out or ()), *([self.expected] if call.name == "train" else [])}
        for path, words in made.items():
            if path in needed and not path.exists():
                self._run(*words)

    def calls(self) -> list[Call]:
        out = self.folder / "out.safetensors"
        with_model, others = ["-m", self.model], ["-m", self.model, "-m", self.expected]
        endless = [*with_model, "-n", 10**9]
        return [
            Call("train", ["train", self.corpus, *TRAIN, "--steps", 800, "-o", out]),
            Call("train --json", ["train", self.corpus, *TRAIN, "--steps", 800, "-o", out, "--json"], True),
            Call("train, reading", ["train", self.large, *TRAIN, "--steps", 10**9, "-o", out, "--force"]),
            Call("train, wide", ["train", self.corpus, "--hidden-size", 1024, "--steps", 10**9, "-o", out]),
            Call("train, compiling", ["train", self.corpus, *TRAIN, "--steps", 10**9, "-o", out], cold=True),
            Call("sample, compiling", ["sample", *with_model, "-n", 10**9], True, cold=True),
            Call("sample --interactive", ["sample", "--interactive", *with_model], typed=b"she \tsh\x1b[C"),
            Call("sample", ["sample", *endless], True),
            Call("sample many", ["sample", *with_model, "-n", 300, "--count", 10**6], True),
            Call("sample a mixture", ["sample", *others, "-n", 10**9], True),
            Call("sample --match", ["sample", *endless, "--match", "(she|sells| )*z?"], True),
            Call("sample --novel", ["sample", *endless, "--novel", 20], True),
            Call(
                "sample --exact",
                ["sample", *with_model, "--exact", "--match", "[a-z ]{60}", "--count", 10**6],
            ),
            Call("sample --prompts", ["sample", *with_model, "--prompts", self.lines, "-n", 50], True),
            Call("eval", ["eval", self.model, self.large]),
            Call("eval --dynamic", ["eval", self.model, self.large, "--dynamic"]),
            Call("score", ["score", *with_model, self.lines], True),
            Call("score --top", ["score", *with_model, self.lines, "--top", 5]),
            Call("score --heat", ["score", *with_model, self.lines, "--heat", "--color", "always"], True),
            Call("classify", ["classify", *others, self.lines], True),
            self._writing("score --html", "out.html", self.page, "score", self.corpus, option="--html"),
            self._writing("compress", "out.small", self.small, "compress", self.lines),
            self._writing("decompress", "out.txt", self.lines, "decompress", self.small),
            Call("enumerate", ["enumerate", *with_model, "-n", 10**6, "--match", "[a-z]{30}"]),
            Call("fill", ["fill", *with_model, "she ___ by ___ shore ___", "-n", 200, "--gap", 200]),
            Call("next", ["next", *with_model, "she "]),
            Call("info", ["info", self.model]),
            Call("--help", ["--help"]),
        ]

    def _writing(self, name: str, out: str, like: Path, *words: object, option: str = "-o") -> Call:
        path = self.folder / out
        return Call(name, [*words, "-m", self.model, option, path], out=(path, like))

    def end_one(self, only: str) -> None:
        call = self.random.choice([call for call in self.calls() if only in call.name])
        self._make_what_it_needs(call)
        name, words = call.name, call.words
        how = self.random.choice(
            ("SIGTERM",) if call.typed else ("SIGINT", "SIGTERM", "pipe", "SIGINT twice")
        )
        how = self.random.choice((how, how, "SIGHUP", "closed terminal", "SIGINT" if call.typed else how))
        if how == "closed terminal" and "--json" in words:
            how = "SIGHUP"
        terminal = how != "pipe" and "--json" not in words and self.random.random() < 0.4
        terminal = terminal or how == "closed terminal" or bool(call.typed)
        for path in self.folder.glob("*out*"):
            path.unlink()
        cache = self.folder / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        wait = self.random.uniform(0.0, 6.0 if call.cold or call.typed else 2.5)
        what = f"{name}, {how} after {wait:.2f} s{', on a terminal' if terminal else ''}"
        ours, theirs = pty.openpty() if terminal else (-1, -1)
        before = termios.tcgetattr(theirs) if terminal else []
        process = subprocess.Popen(
            command(*words),
            stdin=theirs if call.typed else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs if terminal else subprocess.PIPE,
            env={**TERMINAL, "CHARRNN_CACHE_DIR": str(cache)} if call.cold else TERMINAL,
            start_new_session=terminal,
            # The system tells those whose terminal it is that it was closed; when they end, it makes it new.
            preexec_fn=functools.partial(fcntl.ioctl, 2, termios.TIOCSCTTY, 0)
            if how == "closed terminal"
            else None,
        )
        said, stdout, closing = bytearray(), bytearray(), threading.Event()
        readers = []
        if terminal:
            readers.append(
                threading.Thread(target=_watch, args=(ours, said, call.typed, closing), daemon=True)
            )
        else:
            assert process.stderr is not None
            readers.append(threading.Thread(target=_drain, args=(process.stderr.fileno(), said), daemon=True))
        assert process.stdout is not None
        if how != "pipe":
            readers.append(
                threading.Thread(target=_drain, args=(process.stdout.fileno(), stdout), daemon=True)
            )
        for reader in readers:
            reader.start()
        time.sleep(wait)
        early = process.poll() is not None
        asked = time.monotonic()
        if how == "pipe":
            process.stdout.close()
        if how == "closed terminal":
            os.close(theirs)
            closing.set()
            readers[0].join()
            os.close(ours)
        for number in HOW[how][0]:
            process.send_signal(number)
            time.sleep(0.05 * (how == "SIGINT twice"))
        ends = call.writes or how != "pipe"
        try:
            process.wait(GRACE if ends else 0.5)
        except subprocess.TimeoutExpired:
            if ends:
                self.report.breaks(f"{what}: it does not end")
            process.kill()
            process.wait()
            early = True
        took = time.monotonic() - asked
        if terminal and how != "closed terminal":
            same = termios.tcgetattr(theirs) == before
            self.report.check(same, f"{what}: the terminal is not as it was")
            os.close(theirs)
        for reader in readers:
            reader.join(5)
        if how != "closed terminal":
            with contextlib.suppress(OSError):
                os.close(ours)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        # In its first moments the interpreter itself is interrupted, before it has read a line of charrnn.
        too_early = b"KeyboardInterrupt" in said and b"charrnn" not in said
        self.report.count("had ended" if early else "before its first line" if too_early else how)
        if not early and not too_early:
            self._judge(what, name, how, process.returncode, took, bytes(said))
            if call.out is not None:
                self._look(what, *call.out)
        if name == "train" and (self.folder / "out.safetensors").exists():
            self._resume(what, words)

    def _judge(self, what: str, name: str, how: str, code: int, took: float, said: bytes) -> None:
        report = self.report
        report.check(code in HOW[how][1] or code == 0, f"{what}: exit code {code}, says {said[-300:]!r}")
        report.check(b"Traceback" not in said and b"error:" not in said, f"{what}: says {said[-600:]!r}")
        if how != "pipe":  # a pipe is noticed when something is written
            self.slowest = max(self.slowest, took)
            report.check(took < self.seconds, f"{what}: it took {took:.2f} s")
        if how == "closed terminal":  # which is told nothing any more
            return
        for on, off in ((b"\x1b[?25l", b"\x1b[?25h"), (b"\x1b[?2004h", b"\x1b[?2004l")):
            report.check(said.rfind(off) >= said.rfind(on), f"{what}: {on!r} stays")

    def _look(self, what: str, out: Path, like: Path) -> None:
        left = {path.name for path in self.folder.glob("*out*")}
        self.report.check(left <= {out.name}, f"{what}: it leaves {sorted(left)}")
        whole = not out.exists() or out.read_bytes() == like.read_bytes()
        self.report.check(whole, f"{what}: {out.name} is not whole")

    def _resume(self, what: str, words: list[object]) -> None:
        out = self.folder / "out.safetensors"
        model_file.load(out)
        again = subprocess.run(
            command(*words, "--resume", "-q"), env=TERMINAL, capture_output=True, timeout=120
        )
        self.report.check(again.returncode == 0, f"{what}: resumed: {again.stderr!r}")
        same = out.read_bytes() == self.expected.read_bytes()
        self.report.check(same, f"{what}: the resumed run ends with other bytes")
        left = sorted(path.name for path in self.folder.glob("*out*"))
        self.report.check(left == ["out.safetensors"], f"{what}: the resumed run leaves {left}")


def _drain(descriptor: int, into: bytearray) -> None:
    with contextlib.suppress(OSError):  # Linux reports the other side's end of a terminal as EIO
        while piece := os.read(descriptor, 1 << 16):
            into += piece


def _watch(screen: int, into: bytearray, typed: bytes, closing: threading.Event) -> None:
    """Be a terminal, whose keys are pressed once an editor is there."""
    with contextlib.suppress(OSError):
        while not closing.is_set():
            if not select.select([screen], [], [], 0.02)[0]:
                continue
            if not (piece := os.read(screen, 1 << 16)):
                return
            into += piece
            os.write(screen, b"\x1b[1;1R" * piece.count(b"\x1b[6n"))  # where the cursor is
            if typed and b"Esc: end" in into:
                os.write(screen, typed)
                typed = b""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ends", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=1.0, help="in which each is to be answered")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="the commands whose names hold this")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup, all commands would ignore it
    hear_ctrl_c()
    report = Report("signals and pipes")
    with scratch() as folder:
        ender = Ender(folder, report, options.seed, options.seconds)
        for _ in range(options.ends):
            ender.end_one(options.only)
    print(f"slowest answer: {ender.slowest:.2f} s", file=sys.stderr)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
