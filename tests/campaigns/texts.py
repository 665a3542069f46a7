"""Reads corpora of every kind of bytes.

    python -m tests.campaigns.texts --texts 5000 --seed 1

What is text in the encoding comes back character by character, as Python itself decodes it; what is not is
refused in one printable line. Files may grow, shrink or go while they are read; there are pipes, sockets,
folders that contain themselves, and .gz files that are cut short or expand a thousandfold.

Every command that reads is given one line of --line-size bytes (a gigabyte needs 3 GB of memory, the file
included): it ends, or Ctrl-C ends it, with the memory of the ids where it trains or measures, and that of a
short line where it reads line by line.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import math
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from charrnn.config import TextConfig
from charrnn.errors import CharrnnError
from charrnn.text.corpus import Corpus
from charrnn.text.reading import read

from ..support.environment import environment
from .harness import Report, TooLong, at_most, command, hear_ctrl_c, scratch

SECONDS = 30
MEMORY_CONSTANT = 40_000_000  # bytes: the table of all code points, and buffers
PROCESS_MEMORY = 400_000_000  # of a command with all that it imports
LINE_SECONDS = 5.0  # until a command that reads a long line is interrupted
ANSWER_SECONDS = 1.0
CHARACTER_BYTES = 250  # of memory for each different character
PIECES = [
    b"she sells sea shells\n", b"\r\n", b"\r", b"\n\n", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3\xa9",
    b"\xc3", b"\xed\xa0\x80", b"\xed\xb0\x80", b"\xc0\xaf", b"\xf0\x9f\x98\x80", b"\xf4\x90\x80\x80", b"\xf8",
    b"\xe2\x80\xa8", b"\xc2\x85", b"\x1a", b"\x1b[31m", b"\x1f\x8b", b"%PDF-", b"PK\x03\x04", b"a" * 5000,
    "日本語".encode(), "é".encode("utf-16"), "日".encode("shift-jis"), b"+AGE-", b"\\ud800",
]  # fmt: skip
ENCODINGS = [
    "utf-8",
    "utf-8",
    "utf-8",
    "latin-1",
    "utf-16",
    "utf-8-sig",
    "shift-jis",
    "ascii",
    "utf-7",
    "cp1252",
]


def expected(content: bytes, text: TextConfig) -> str | None:
    """The characters, as Python decodes them; None: it is no text."""
    if text.bytes:
        characters = content.decode("latin-1")
    else:
        if text.encoding == "utf-16" and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
            return None  # which of the two it is, nobody knows
        try:
            characters = content.decode(text.encoding)
        except UnicodeError:
            return None
        if any("\ud800" <= c <= "\udfff" for c in characters):
            return None
        if not text.keep_newlines:
            characters = characters.replace("\r\n", "\n").replace("\r", "\n")
        characters = re.sub("(?m)^\ufeff+", "", characters)
    if text.lines:
        lines = [line for line in characters.split("\n") if line]
        characters = "".join(f"{line}\n" for line in lines)
    return characters


def characters(corpus: Corpus) -> str:
    return corpus.vocabulary.decode(corpus.documents.ids)


class Texts:
    def __init__(self, folder: Path, report: Report, seed: int) -> None:
        self.folder, self.report = folder, report
        self.random = random.Random(seed)

    def refused(self, what: str, work: Callable[[], object]) -> bool:
        """Whether it is refused, in one line."""
        try:
            work()
        except CharrnnError as error:
            self.report.check(str(error).isprintable(), f"{what}: says {str(error)!r}")
            return True
        return False

    def random_bytes(self, number: int) -> None:
        choice = self.random
        content = b"".join(
            choice.choice(PIECES) if choice.random() < 0.8 else choice.randbytes(choice.randrange(9))
            for _ in range(choice.choice((1, 2, 5, 40)))
        )
        text = TextConfig(
            encoding=choice.choice(ENCODINGS), bytes=choice.random() < 0.1, lines=choice.random() < 0.3,
            keep_newlines=choice.random() < 0.3,
        )  # fmt: skip
        path = self.folder / "text.txt"
        path.write_bytes(content)
        what = f"text {number}: {content[:60]!r}, {text}"
        wanted = expected(content, text)
        found: list[str] = []
        if self.refused(what, lambda: found.append(characters(read([path], text)))):
            # Binary files and those of other kinds are refused although they may be decoded.
            told = wanted is None or len(wanted) < 2 or b"\0" in content
            told = told or content.startswith(
                (b"%PDF-", b"PK\x03\x04", b"\x1f\x8b", b"\xff\xfe", b"\xfe\xff")
            )
            self.report.check(told, f"{what}: it is refused")
            self.report.count("refused")
        else:
            self.report.check(found[0] == wanted, f"{what}: it is read as {found[0][:60]!r}")
            self.report.count("read")

    def changing(self) -> None:
        """A file that grows, shrinks, or goes while it is read."""
        path = self.folder / "changing.txt"
        for change in ("grow", "shrink", "remove", "replace"):
            path.write_bytes("é".encode() * 2_000_000)
            done = threading.Event()

            def meddle(change: str = change, done: threading.Event = done) -> None:
                while not done.is_set():
                    try:
                        if change == "grow":
                            with open(path, "ab") as file:
                                file.write(b"more\n")
                        elif change == "shrink":
                            os.truncate(path, path.stat().st_size // 2)
                        elif change == "remove":
                            path.unlink()
                        else:
                            path.with_suffix(".new").write_bytes(b"other\n" * 9)
                            path.with_suffix(".new").replace(path)
                    except OSError:
                        return

            thread = threading.Thread(target=meddle)
            thread.start()
            if change == "grow":
                threading.Timer(0.3, done.set).start()
            refused = self.refused(f"a file that changes: {change}", lambda: read([path]))
            done.set()
            thread.join()
            path.unlink(missing_ok=True)
            self.report.count("changing refused" if refused else "changing read")

    def special(self) -> None:
        """What is no ordinary file."""
        report, folder = self.report, self.folder / "special"
        folder.mkdir()
        fifo = folder / "pipe"
        os.mkfifo(fifo)
        writer = threading.Thread(target=lambda: fifo.write_text("she sells sea shells\n" * 99))
        writer.start()
        report.check(characters(read([fifo])) == "she sells sea shells\n" * 99, "a pipe is not read")
        writer.join()
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(folder / "socket"))
            report.check(self.refused("a socket", lambda: read([folder / "socket"])), "a socket is read")
            (folder / "loop").mkdir()
            (folder / "loop" / "again").symlink_to(folder / "loop")
            (folder / "loop" / "self").symlink_to(folder / "loop" / "self")
            (folder / "loop" / "a.txt").write_text("sea")
            report.check(characters(read([folder])) == "sea", "a folder with a loop is not read once")
        report.check(self.refused("a link to itself", lambda: read([folder / "loop" / "self"])), "it is read")
        for _ in range(4):
            report.count("special files")

    def compressed(self) -> None:
        path = self.folder / "text.txt.gz"
        whole = gzip.compress(b"she sells sea shells\n" * 999)
        for end in range(0, len(whole), 3):
            path.write_bytes(whole[:end])
            report_name = f"a .gz cut at {end}"
            self.report.check(self.refused(report_name, lambda: read([path])), f"{report_name} is read")
            self.report.count("cut .gz")
        for at in range(0, len(whole) * 8, 11):
            damaged = bytearray(whole)
            damaged[at // 8] ^= 1 << at % 8
            path.write_bytes(damaged)
            if not self.refused("a damaged .gz", lambda: read([path])):
                same = characters(read([path])) == "she sells sea shells\n" * 999
                self.report.check(same, f"a .gz with bit {at} flipped is read as another text")
            self.report.count("damaged .gz")

    def large(self, size: int) -> None:
        """Texts of one line, of one character, of all characters, a .gz bomb: memory is that of the ids."""
        every = "".join(map(chr, [*range(0x20, 0xD800), *range(0xE000, 0x110000)]))[:size]
        for name, content in (
            ("one line", b"she sells sea shells " * (size // 21)),
            ("one character", b"a" * size),
            ("line ends", b"\n" * size),
            ("CRs", b"\r" * size),
            ("200,000 characters", every[:200_000].encode() * 2),
            ("all characters", every.encode()),
            ("a .gz bomb", gzip.compress(b"a" * size, 1)),
        ):
            path = self.folder / ("large.gz" if "gz" in name else "large.txt")
            path.write_bytes(content)
            del content
            tracemalloc.start()
            try:
                corpus = read([path])
                ids = corpus.documents.ids.nbytes
                different = CHARACTER_BYTES * len(corpus.vocabulary)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            self.report.check(
                peak < 1.25 * ids + different + MEMORY_CONSTANT,
                f"{name}: {peak:,} bytes of memory for {ids:,} of ids",
            )
            path.unlink()
            self.report.count("large")

    def one_line(self, size: int) -> None:
        """Every command that reads, on a text without a line end."""
        path, out = self.folder / "line.txt", self.folder / "out"
        words = ["she", "sells", "sea", "shells", "by", "the", "shore", "tide", "foam", "salt", "wind"]
        block = " ".join(self.random.choices(words, k=100_000)).encode() + b" "
        with path.open("wb") as file:
            for left in range(size, 0, -len(block)):
                file.write(block[:left])
        models = [self.folder / f"{kind}.safetensors" for kind in ("prose", "lines")]
        train = ["train", path, "--steps", 3, "--hidden-size", 32, "--num-layers", 1, "-q"]
        self.one_command("train", [*train, "-o", models[0]], size, ends=True)
        self.one_command("train --lines", [*train, "--lines", "-o", models[1]], size, ends=True)
        for model in models:
            read = ["-m", model, path]
            self.one_command("eval", ["eval", model, path], size)
            self.one_command("eval --dynamic", ["eval", model, path, "--dynamic"], size)
            for name, call in (
                ("score", ["score", *read]),
                ("score --top", ["score", *read, "--top", 3]),
                ("score --heat", ["score", *read, "--heat", "--color", "always"]),
                ("score --html", ["score", *read, "--html", out]),
                ("classify", ["classify", "-m", model, *read]),
                ("compress", ["compress", *read, "-o", out]),
            ):
                self.one_command(name, call, 0)
            for option in ("--prompt", "--prompts"):
                self.one_command(
                    f"sample {option}", ["sample", "-m", model, option, "-", "-n", 5], 0, stdin=path
                )
        left = sorted(
            file.name for file in self.folder.glob("*") if file.suffix not in (".txt", ".safetensors")
        )
        self.report.check("out" not in left and ".out.tmp" not in left, f"one line: it leaves {left}")
        path.unlink()

    def one_command(
        self, name: str, words: list[object], ids: int, *, ends: bool = False, stdin: Path | None = None
    ) -> None:
        """It ends by itself, or with Ctrl-C after a while; its memory is that of so many bytes of ids.

        What is given on stdin is a prompt, which may be too long.
        """
        with open(stdin or os.devnull, "rb") as given:
            process = subprocess.Popen(
                command(*words), stdin=given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                env=environment(),
            )  # fmt: skip
        peak, begun, asked = 0, time.monotonic(), math.inf
        while process.poll() is None and time.monotonic() < asked + SECONDS:
            with contextlib.suppress(OSError, IndexError):
                peak = (
                    int(Path(f"/proc/{process.pid}/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
                )
            if not ends and asked == math.inf and time.monotonic() > begun + LINE_SECONDS:
                process.send_signal(signal.SIGINT)
                asked = time.monotonic()
            time.sleep(0.01)
        took = time.monotonic() - asked
        process.kill()
        said = process.communicate()[1]
        what = f"one line: {name}"
        wanted = (0,) if ends else (0, 130) if stdin is None else (0, 1, 130)
        self.report.check(process.returncode in wanted, f"{what}: exit code {process.returncode}: {said!r}")
        self.report.check(b"Traceback" not in said and said.count(b"\n") <= 1, f"{what}: says {said!r}")
        self.report.check(took < ANSWER_SECONDS, f"{what}: Ctrl-C is answered after {took:.1f} s")
        self.report.check(peak < PROCESS_MEMORY + 1.25 * ids, f"{what}: {peak:,} bytes of memory")
        self.report.count("one line")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--texts", type=int, default=5000)
    parser.add_argument("--size", type=int, default=200_000_000, help="bytes of the large ones")
    parser.add_argument("--line-size", type=int, default=50_000_000, help="bytes of the one line; 0: none")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    hear_ctrl_c()
    report = Report("hostile texts")
    with scratch() as folder:
        texts = Texts(folder, report, options.seed)
        kinds: list[Callable[[], None]] = [texts.changing, texts.special, texts.compressed]
        kinds += [lambda n=n: texts.random_bytes(n) for n in range(options.texts)]  # type: ignore[misc]
        large = [lambda: texts.large(options.size)]
        if options.line_size:
            large.append(lambda: texts.one_line(options.line_size))
        for work in kinds + large:
            try:
                with at_most(SECONDS if work not in large else 0):
                    work()
            except TooLong:
                report.breaks(f"{work} takes more than {SECONDS} s")
            except Exception as error:
                report.breaks(f"{work}: {type(error).__name__}: {error}")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
