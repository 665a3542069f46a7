"""Kills training runs at every step of their saves, and at random moments, and looks at what is left.

    python -m tests.campaigns.crashes --kills 1000 --seed 1

After each kill the model file, if one was announced, is whole and no older than the last announcement; all
else in the folder is known by name; and `resume` ends with the bytes of the run that nobody interrupted, and
a clean folder.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import resume_path
from charrnn.config import ModelConfig
from charrnn.errors import CharrnnError
from charrnn.events import Finished, Saved, Unsaved
from charrnn.nn.learning.compilation import compile_kernels
from charrnn.training import run
from charrnn.training.locking import lock_path

from .harness import Child, Faults, Report, leave, scratch

TEXT = "she sells sea shells by the sea shore, and the shells she sells are sea shells.\n" * 8
SETTINGS = {
    "hidden_size": 6, "num_layers": 1, "embedding_size": 3, "batch_size": 2, "seq_len": 8, "steps": 12,
    "evaluations": 4, "dropout": 0.1, "val_fraction": 0.1, "threads": 1,
}  # fmt: skip
# What a fault says: each of these a system call may answer at any time.
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT)

At = Callable[[int, str], Callable[..., object] | None]


@dataclass
class Outcome:
    """How one run went, as far as it could say."""

    code: int  # exit code; negative: killed by this signal
    announced: int  # step of the last model that it said was saved; -1: none
    evaluated: bool  # that model had been evaluated
    calls: int  # to the system, about files
    unsaved: int  # times that it said a file could not be written
    error: str  # why it ended early; empty: it did not
    reason: str  # of its end


class Folder:
    """A folder in which one model is trained again and again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.corpus = path.parent / "shells.txt"
        self.corpus.write_text(TEXT)
        self.out = path / "m.safetensors"

    def empty(self) -> None:
        self.path.mkdir(exist_ok=True)
        for path in self.path.iterdir():
            path.unlink()

    def names(self) -> set[str]:
        return {path.name for path in self.path.iterdir()} if self.path.exists() else set()

    def start(self, at: At | None = None, *, before: Callable[[], None] = lambda: None) -> Child:
        """A run in a process of its own; `at` meddles with its calls to the system."""

        def work(say: Callable[[str], None]) -> None:
            run.REPORT_SECONDS = run.SAVE_SECONDS = 0.0  # type: ignore[assignment]
            faults = Faults(self.path, at or (lambda call, name: None))
            faults.install()
            before()
            try:
                for event in api.train(self.corpus, out=self.out, resume=True, **SETTINGS):
                    if isinstance(event, Saved) and event.kind == "model":
                        say(f"saved {event.step}")
                    elif isinstance(event, Unsaved):
                        say("unsaved")
                    elif isinstance(event, Finished):
                        say(f"finished {event.reason}")
            except CharrnnError as error:
                say(f"error {type(error).__name__}: {error}")
                leave(1)
            finally:
                say(f"calls {faults.calls}")

        return Child(work)


def outcome_of(child: Child) -> Outcome:
    code, lines = child.wait()
    found = Outcome(code, -1, True, 0, 0, "", "")
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "saved":
            found.announced = max(found.announced, int(rest))
        elif word == "unsaved":
            found.unsaved += 1
        elif word == "calls":
            found.calls = int(rest)
        elif word == "error":
            found.error = rest
        elif word == "finished":
            found.reason = rest
    return found


class Campaign:
    def __init__(self, folder: Folder, report: Report, seed: int) -> None:
        self.folder, self.report = folder, report
        self.random = random.Random(seed)
        config = ModelConfig(
            len(set(TEXT)), hidden_size=SETTINGS["hidden_size"], num_layers=1,
            embedding_size=SETTINGS["embedding_size"], dropout=0.1,
        )  # fmt: skip
        for _ in compile_kernels(config):  # here, so that children have them
            pass
        folder.empty()
        started = time.monotonic()
        whole = outcome_of(folder.start())
        self.seconds = time.monotonic() - started
        assert whole.reason == "budget", whole
        self.expected = folder.out.read_bytes()
        self.calls = whole.calls
        self.litter = {
            "m.safetensors", resume_path(folder.out).name, lock_path(folder.out).name,
            ".m.safetensors.tmp", f".{resume_path(folder.out).name}.tmp",
        }  # fmt: skip
        report.check(folder.names() == {"m.safetensors"}, f"an ordinary run leaves {folder.names()}")

    def look(self, what: str, announced: int) -> None:
        """At what a killed or failed run has left."""
        report, folder = self.report, self.folder
        report.check(folder.names() <= self.litter, f"{what}: it leaves {folder.names() - self.litter}")
        step = -1
        if folder.out.exists():
            try:
                model = model_file.load(folder.out)
                step = model.history[-1]["step"] if model.history else 0
            except CharrnnError as error:
                report.breaks(f"{what}: {error}")
        report.check(
            step >= announced, f"{what}: the model is of step {step}, step {announced} was announced"
        )
        if resume_path(folder.out).exists():
            try:
                model_file.load_resume(resume_path(folder.out))
            except CharrnnError as error:
                report.breaks(f"{what}: {error}")

    def ends_well(self, what: str) -> None:
        """A last run ends as if nothing had happened."""
        last = outcome_of(self.folder.start())
        self.report.check(not last.error and last.code == 0, f"{what}: then {last}")
        if self.folder.out.exists():
            same = self.folder.out.read_bytes() == self.expected
            self.report.check(same, f"{what}: the resumed run ends with other bytes")
        names = self.folder.names()
        self.report.check(names == {"m.safetensors"}, f"{what}: the resumed run leaves {names}")

    def kill(self, what: str, start: Callable[[], Child], wait: float | None = None) -> None:
        """A run from an empty folder that is killed, perhaps again when it is resumed, and then is not."""
        self.folder.empty()
        announced = -1
        for attempt in range(1 + self.random.randrange(3)):
            child = start()
            if wait is not None:
                time.sleep(self.random.uniform(0, wait))
                os.kill(child.pid, signal.SIGKILL)
            outcome = outcome_of(child)
            announced = max(announced, outcome.announced)
            name = f"{what}, attempt {attempt}"
            killed = outcome.code in (-signal.SIGKILL, KILLED)
            self.report.check(killed or outcome.code == 0, f"{name}: {outcome}")
            self.report.count("killed" if killed else "done before")
            self.look(name, announced)
        self.ends_well(what)

    # --- what is done -------------------------------------------------------------------------

    def kill_at_calls(self, kills: int) -> None:
        """Before or after the k-th call to the system, for every k, or in the middle of a write."""
        while self.report.tried < kills:
            cases = [(k, when) for k in range(1, self.calls + 1) for when in ("before", "after")]
            self.random.shuffle(cases)
            for k, when in cases:
                if self.report.tried >= kills:
                    break
                self.kill(
                    f"killed {when} call {k}", lambda k=k, when=when: self.folder.start(killing(k, when))
                )

    def kill_at_moments(self, kills: int) -> None:
        """By a signal, at any moment."""
        end = self.report.tried + kills
        while self.report.tried < end:
            self.kill("killed by SIGKILL", self.folder.start, wait=self.seconds)

    def fail_at_calls(self, faults: int) -> None:
        """The k-th call fails, or it and those that follow it, for a while or for ever."""
        for number in range(faults):
            self.folder.empty()
            k = 1 + number % self.calls
            code = self.random.choice(ERRORS)
            calls = self.random.choice((1, 1, 3, 30, 10**9))
            short = self.random.random() < 0.3
            what = f"{errno.errorcode[code]} at call {k}, {calls} times{', short' if short else ''}"
            outcome = outcome_of(self.folder.start(failing(k, calls, code, short)))
            self.look(what, outcome.announced)
            if outcome.error:
                self.report.count("ended with one line")
                self.report.check(outcome.code == 1, f"{what}: {outcome}")
            else:
                self.report.count("went on")
                self.report.check(outcome.reason == "budget", f"{what}: {outcome}")
                same = self.folder.out.exists() and self.folder.out.read_bytes() == self.expected
                self.report.check(same, f"{what}: it ends with other bytes")
            temporary = {n for n in self.folder.names() if n.endswith(".tmp")}
            # What cannot be removed stays, until it can be.
            self.report.check(calls > 1 or not temporary, f"{what}: it leaves {temporary}")
            self.ends_well(what)


KILLED = 9


def killing(k: int, when: str) -> At:
    """Ends the process at the k-th call: before it, after it, or with half of it written."""
    real = {name: getattr(os, name) for name in (*Faults.PATHS, *Faults.DESCRIPTORS)}

    def at(call: int, name: str) -> Callable[..., object] | None:
        if call != k:
            return None
        if when == "before":
            leave(KILLED)

        def last(target: object, *args: object, **options: object) -> None:
            if name == "write":
                (data,) = args
                real["write"](target, bytes(data)[: len(data) // 2])  # type: ignore[call-overload, arg-type]
            else:
                real[name](target, *args, **options)
            leave(KILLED)

        return last

    return at


def failing(k: int, calls: int, code: int, short: bool) -> At:
    """From the k-th call on, so many calls fail; a write may have been half done before that."""
    write = os.write

    def at(call: int, name: str) -> Callable[..., object] | None:
        if not k <= call < k + calls:
            return None
        if name in ("close", "fstat"):  # a descriptor that is open is open
            return None
        if name == "write" and short:

            def half(descriptor: int, data: bytes) -> int:
                if len(data) < 2:
                    raise OSError(code, os.strerror(code))
                return write(descriptor, data[: len(data) // 2])

            return half
        raise OSError(code, os.strerror(code))

    return at


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="half at calls, half at random moments")
    parser.add_argument("--faults", type=int, default=1000, help="calls to the system that fail")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    code = 0
    with scratch() as path:
        folder = Folder(path / "out")
        for title, work in (
            ("crashes at each call", lambda c: c.kill_at_calls(-(-options.kills // 2))),
            ("crashes at random moments", lambda c: c.kill_at_moments(options.kills // 2)),
            ("failing calls", lambda c: c.fail_at_calls(options.faults)),
        ):
            report = Report(title)
            work(Campaign(folder, report, options.seed))
            code |= report.finish()
    return code


if __name__ == "__main__":
    sys.exit(main())
