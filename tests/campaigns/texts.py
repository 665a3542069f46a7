"""Reads corpora of every kind of bytes.

    python -m tests.campaigns.texts --texts 5000 --seed 1

What is text in the encoding comes back character by character, as Python itself decodes it; what is not is
refused in one printable line. Files may grow, shrink or go while they are read; there are pipes, sockets,
folders that contain themselves, and .gz files that are cut short or expand a thousandfold.
"""

from __future__ import annotations

import argparse
import gzip
import os
import random
import socket
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from charrnn.config import TextConfig
from charrnn.corpus import Corpus, read
from charrnn.errors import CharrnnError

from .harness import Report, TooLong, at_most, scratch

SECONDS = 30
MEMORY_CONSTANT = 40_000_000  # bytes: the table of all code points, and buffers
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
        characters = characters.removeprefix("\ufeff")
        if not text.keep_newlines:
            characters = characters.replace("\r\n", "\n").replace("\r", "\n")
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
        every = "".join(map(chr, [*range(0x20, 0xD800), *range(0xE000, 0x110000)]))
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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--texts", type=int, default=5000)
    parser.add_argument("--size", type=int, default=200_000_000, help="bytes of the large ones")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    report = Report("hostile texts")
    with scratch() as folder:
        texts = Texts(folder, report, options.seed)
        kinds: list[Callable[[], None]] = [texts.changing, texts.special, texts.compressed]
        kinds += [lambda n=n: texts.random_bytes(n) for n in range(options.texts)]  # type: ignore[misc]
        kinds.append(lambda: texts.large(options.size))
        for work in kinds:
            try:
                with at_most(SECONDS if work is not kinds[-1] else 0):
                    work()
            except TooLong:
                report.breaks(f"{work} takes more than {SECONDS} s")
            except Exception as error:
                report.breaks(f"{work}: {type(error).__name__}: {error}")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
