"""`score`, `next`, `classify`, `compress`, `decompress` as a user meets them, some in processes and pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support.calls import call
from support.environment import environment
from support.model_files import write_model
from support.processes import SIGNALS, UNCACHED, command, posix, run

ROOT = Path(__file__).parent.parent
NAMES = b"hello\nworld\n\nxyz\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    write_model(folder / "lines.safetensors", lines=True)
    write_model(folder / "prose.safetensors")
    write_model(folder / "raw.safetensors", bytes=True)
    (folder / "text").write_bytes(NAMES)
    return folder


def rows(result: subprocess.CompletedProcess[bytes]) -> list[tuple[float, str]]:
    assert (result.returncode, result.stderr) == (0, b""), result.stderr
    found = (line.split("\t", 1) for line in result.stdout.decode().splitlines())
    return [(float(score or "nan"), text) for score, text in found]


def error(result: subprocess.CompletedProcess[bytes], code: int = 1) -> str:
    assert result.returncode == code
    first, *rest = result.stderr.decode().splitlines()
    assert first.startswith("charrnn: error: ")
    assert len(rest) == (code == 2)  # try 'charrnn ... --help'
    assert b"Traceback" not in result.stderr
    return first


# score


def test_score_writes_a_figure_a_tab_and_the_line(folder: Path) -> None:
    result = call("score", "-m", folder / "lines.safetensors", folder / "text")
    assert [text for _, text in rows(result)] == ["hello", "world", "", "xyz"]
    assert call("score", "-m", folder / "lines.safetensors", stdin=NAMES).stdout == result.stdout


def test_score_json_says_more(folder: Path) -> None:
    result = call("score", "-m", folder / "lines.safetensors", "--json", folder / "text")
    first, _, empty, _ = found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [values["line"] for values in found] == ["hello", "world", "", "xyz"]
    assert [values["number"] for values in found] == [1, 2, 3, 4]
    assert first["characters"] == 6
    assert first["unknown"] == 0
    assert first["bpc"] == pytest.approx(first["bits"] / 6)
    assert (empty["bpc"], empty["bits"], empty["characters"]) == (None, None, 0)


def test_an_empty_line_has_no_figure_and_does_not_count_where_training_leaves_it_out(folder: Path) -> None:
    m = ("score", "-m", folder / "lines.safetensors", folder / "text")
    assert call(*m).stdout.splitlines()[2] == b"\t"
    assert "" not in [text for _, text in rows(call(*m, "--top", 9))]
    assert "" not in [text for _, text in rows(call(*m, "--threshold", -1))]
    prose = ("score", "-m", folder / "prose.safetensors", folder / "text")
    assert len(rows(call(*prose, "--top", 9))) == 4


def test_score_top_threshold_and_total_agree_with_all_lines(folder: Path) -> None:
    m = ("score", "-m", folder / "lines.safetensors", folder / "text")
    every = rows(call(*m))
    by_score = sorted((row for row in every if row[1]), reverse=True)
    assert rows(call(*m, "--top", 2)) == by_score[:2]
    middle = (by_score[1][0] + by_score[2][0]) / 2
    assert rows(call(*m, "--threshold", middle)) == [row for row in every if row[0] > middle]
    total = json.loads(call(*m, "--total", "--json").stdout)
    assert float(call(*m, "--total").stdout) == pytest.approx(total["bpc"], abs=1e-4)
    assert (total["lines"], total["characters"]) == (3, 16)
    evaluated = json.loads(call("eval", folder / "lines.safetensors", folder / "text", "--json").stdout)
    assert evaluated["characters"] == 16
    assert evaluated["bpc"] == pytest.approx(total["bpc"], abs=1e-6)


def test_score_writes_lines_as_they_were_whatever_their_bytes(folder: Path) -> None:
    lines = [b"caf\xc3\xa9", b"\xff\xfe\0", "☃\ttab".encode(), b"\x1b[31m"]
    for name in ("lines", "prose", "raw"):
        result = call("score", "-m", folder / f"{name}.safetensors", stdin=b"\n".join(lines))
        found = [line.split(b"\t", 1)[1] for line in result.stdout.splitlines()]
        assert found == lines, name
        assert result.returncode == 0
        values = call("score", "--json", "-m", folder / f"{name}.safetensors", stdin=b"\n".join(lines))
        assert [json.loads(v)["line"] for v in values.stdout.splitlines()][2] == "☃\ttab"


def test_score_of_nothing_is_nothing(folder: Path) -> None:
    m = ("score", "-m", folder / "lines.safetensors")
    assert call(*m).stdout == b""
    assert call(*m, "--total").stdout == b"0.0000\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--top", 0), "top is 0"),
        (("--top", "x"), "--top is 'x'"),
        (("--threshold", "nan"), "threshold is nan"),
        (("--total", "--top", 3), "--top and --total"),
        (("--unknown-bits", -1), "unknown-bits is -1"),
        (("--heat", "--top", 3), "--top is about lines"),
        (("--heat", "--json"), "--json is about lines"),
        (("--heat", "--color", "blue"), "color is 'blue'"),
        (("--html", "a", "--svg", "b"), "--html and --svg"),
    ],
)
def test_score_refuses_what_makes_no_sense(folder: Path, options: tuple[object, ...], words: str) -> None:
    result = call("score", "-m", folder / "lines.safetensors", *options, stdin=NAMES)
    assert words in error(result, 2)
    assert result.stdout == b""


def test_score_names_a_file_that_is_not_there(folder: Path) -> None:
    result = call("score", "-m", folder / "lines.safetensors", folder / "texts")
    assert "did you mean" in error(result)


def test_score_writes_a_line_before_the_next_has_come(folder: Path) -> None:
    with subprocess.Popen(
        command("score", "-m", folder / "lines.safetensors", "-"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(),
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        watchdog = threading.Timer(100, process.kill)
        watchdog.start()
        for word in (b"hello\n", b"world\n"):
            process.stdin.write(word)
            process.stdin.flush()
            assert process.stdout.readline().endswith(b"\t" + word)
        process.stdin.close()
        assert process.wait() == 0
        watchdog.cancel()


@pytest.mark.parametrize(
    "arguments",
    [
        ("score", "-m", "lines.safetensors", "-"),
        ("score", "-m", "prose.safetensors", "--heat", "-"),
        ("classify", "-m", "lines.safetensors", "-m", "prose.safetensors", "-"),
    ],
)
@posix
def test_a_reader_who_leaves_ends_it_quietly(folder: Path, arguments: tuple[str, ...]) -> None:
    with subprocess.Popen(
        command(*arguments), cwd=folder, env=environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        feeder = threading.Thread(target=_feed, args=(process.stdin,))
        feeder.start()
        process.stdout.readline()
        process.stdout.close()
        feeder.join()
        assert process.wait(timeout=100) == 0
        assert process.stderr.read() == b""


def _feed(stream: object) -> None:
    try:
        while True:
            stream.write(NAMES * 100)  # type: ignore[attr-defined]
    except OSError:
        pass


@posix
def test_ctrl_c_ends_it_with_130(folder: Path) -> None:
    with subprocess.Popen(
        command("score", "-m", folder / "lines.safetensors", "-"), env=environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=100) == 130
        assert process.stderr.read() == b""


# score --heat


def test_heat_without_colours_has_bars_and_with_them_escapes(folder: Path) -> None:
    m = ("score", "-m", folder / "prose.safetensors", "--heat", folder / "text")
    plain = call(*m).stdout.decode()
    assert plain.startswith("hello")
    assert "\x1b" not in plain
    assert "▃" in plain
    coloured = run(*m, "--color", "always", NO_COLOR="1", TERM="xterm-256color").stdout.decode()
    assert "\x1b[" in coloured
    assert "▃" not in coloured


def test_heat_never_replaces_what_it_reads(folder: Path, tmp_path: Path) -> None:
    text, model = tmp_path / "text", folder / "lines.safetensors"
    text.write_bytes(NAMES)
    (tmp_path / "link").symlink_to(text)
    for option, out in (("--html", text), ("--svg", tmp_path / "link"), ("--html", model)):
        said = error(call("score", "-m", model, text, option, out), 2)
        assert said.startswith(f"charrnn: error: {out} is ")
        assert option in said
    assert text.read_bytes() == NAMES
    assert call("info", model).returncode == 0


def test_a_page_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "page.html"
    said = error(call("score", "-m", folder / "lines.safetensors", folder / "text", "--html", out))
    assert f"{out} cannot be written: Not a directory: " in said
    assert "--html" in said


def test_heat_writes_pages_and_pictures(folder: Path, tmp_path: Path) -> None:
    m = ("score", "-m", folder / "prose.safetensors", folder / "text")
    for kind, begins in (("html", "<!doctype html>"), ("svg", "<svg ")):
        result = call(*m, f"--{kind}", tmp_path / "out")
        assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
        written = (tmp_path / "out").read_bytes()
        assert written.decode().startswith(begins)
        assert call(*m, f"--{kind}", "-").stdout == written
    assert "Not a directory" in error(call(*m, "--html", tmp_path / "out" / "in a file"))


# next


def test_next_shows_a_table(folder: Path) -> None:
    m = ("next", "hel", "-m", folder / "lines.safetensors")
    lines = call(*m, "--top", 3).stdout.decode().splitlines()
    assert len(lines) == 4
    assert lines[-1].endswith("26 more")
    assert sum(float(line.split()[0]) for line in lines) == pytest.approx(1, abs=1e-3)
    found = [json.loads(line) for line in call(*m, "--top", 0, "--json").stdout.splitlines()]
    assert len(found) == 29
    assert sum(values["probability"] for values in found) == pytest.approx(1)
    assert call("next", "-", "-m", folder / "lines.safetensors", stdin=b"hel\n").stdout == call(*m).stdout


def test_next_shows_bytes_as_bytes(tmp_path: Path) -> None:
    model = write_model(tmp_path / "raw.safetensors", bytes=True)
    rows = call("next", "-m", model, "--top", 0).stdout.decode().splitlines()
    assert sum(" 0xC3" in row for row in rows) == 1
    assert not any("Ã" in row for row in rows)
    assert sum("'e'" in row for row in rows) == 1
    result = call("next", "-m", model, "--top", 0, "--json").stdout.decode()
    found = {row["byte"]: row["character"] for row in map(json.loads, result.splitlines())}
    assert found.keys() == set(range(256))
    assert (found[0x65], found[0xC3]) == ("e", "\ufffd")


def test_next_needs_no_compiler(folder: Path) -> None:
    code = (
        "import sys; from charrnn import api; api.next_characters(sys.argv[1], 'a');"
        "sys.exit('numba' in sys.modules)"
    )
    args = [*command()[:1], "-c", code, str(folder / "lines.safetensors")]
    assert subprocess.run(args, env=environment()).returncode == 0


def test_next_refuses_what_makes_no_sense(folder: Path) -> None:
    m = ("next", "-m", folder / "lines.safetensors")
    assert "top is -1" in error(call(*m, "--top", -1), 2)
    assert "temp is -1" in error(call(*m, "--temp", -1), 2)
    assert "never seen" in error(call(*m, "X"))


# classify


def test_classify_names_a_model_its_probability_and_the_line(folder: Path) -> None:
    models = ("-m", folder / "lines.safetensors", "-m", folder / "raw.safetensors")
    result = call("classify", *models, stdin=NAMES)
    assert result.returncode == 0
    found = [line.split("\t") for line in result.stdout.decode().splitlines()]
    assert [row[2] for row in found] == ["hello", "world", "", "xyz"]
    assert found.pop(2)[:2] == ["", ""]  # training leaves it out
    assert {row[0] for row in found} <= {"lines", "raw"}
    assert all(0.5 <= float(row[1]) <= 1 for row in found)
    values, _, empty, _ = map(
        json.loads, call("classify", *models, "--json", stdin=NAMES).stdout.splitlines()
    )
    assert values["model"] == found[0][0]
    assert empty["model"] is empty["probability"] is None
    assert empty["posterior"] == empty["bits"] == {"lines": None, "raw": None}
    assert values["posterior"].keys() == values["bits"].keys() == {"lines", "raw"}
    sure = call("classify", *models, "--prior", "1,1e300", stdin=NAMES).stdout.decode().splitlines()
    assert all(line.startswith("raw\t1.0000\t") for line in sure if line.strip())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "nothing to choose between"),
        (("-m", "lines.safetensors"), "nothing to choose between"),
        (("-m", "lines.safetensors", "-m", "raw.safetensors", "--prior", "1"), "1 numbers for 2 models"),
        (("-m", "lines.safetensors", "-m", "raw.safetensors", "--prior", "a,b"), "prior is 'a,b'"),
        (("-m", "lines.safetensors", "-m", "raw.safetensors", "--prior", "0,1"), "not above 0"),
    ],
)
def test_classify_refuses_what_makes_no_sense(folder: Path, options: tuple[str, ...], words: str) -> None:
    assert words in error(call("classify", *options, cwd=folder, stdin=NAMES), 2)


# compress, decompress


@pytest.mark.parametrize("name", ["lines", "prose", "raw"])
def test_compress_and_decompress_in_pipes_and_files(folder: Path, tmp_path: Path, name: str) -> None:
    m = ("-m", folder / f"{name}.safetensors")
    data = NAMES + bytes(range(256)) + "☃\r\n".encode()
    packed = call("compress", *m, stdin=data)
    assert (packed.returncode, packed.stderr) == (0, b"")
    assert call("decompress", *m, stdin=packed.stdout).stdout == data
    (tmp_path / "in").write_bytes(data)
    result = call("compress", tmp_path / "in", "-o", tmp_path / "out", *m)
    assert b"bits a byte" in result.stderr
    assert (tmp_path / "out").read_bytes() == packed.stdout
    assert call("decompress", tmp_path / "out", "-o", tmp_path / "again", *m).returncode == 0
    assert (tmp_path / "again").read_bytes() == data


def test_decompress_refuses_and_writes_nothing(folder: Path, tmp_path: Path) -> None:
    m = ("-m", folder / "lines.safetensors")
    packed = call("compress", *m, stdin=NAMES).stdout
    bad = {
        "another model": (packed, ("-m", folder / "prose.safetensors")),
        "cut short": (packed[:-1], m),
        "damaged": (packed[:20] + bytes([packed[20] ^ 1]) + packed[21:], m),
        "no file that charrnn compress wrote": (NAMES, m),
    }
    for words, (data, model) in bad.items():
        result = call("decompress", *model, "-o", tmp_path / "out", stdin=data)
        assert words in error(result)
        assert result.stdout == b""
        assert list(tmp_path.iterdir()) == []
        result = call("decompress", *model, stdin=data)
        assert words in error(result)


def test_compress_names_a_file_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    m = ("-m", folder / "lines.safetensors")
    for name in ("compress", "decompress"):
        result = call(name, "none", "-o", tmp_path / "new" / "out", *m, cwd=tmp_path)
        assert error(result) == "charrnn: error: none does not exist: check the path"
        assert "cannot be read: Is a directory" in error(call(name, tmp_path, *m))
        assert list(tmp_path.iterdir()) == []


def test_compress_reads_a_gz_file_as_it_is(folder: Path, tmp_path: Path) -> None:
    m = ("-m", folder / "lines.safetensors")
    (tmp_path / "a.gz").write_bytes(b"no gzip at all")
    packed = call("compress", *m, tmp_path / "a.gz").stdout
    assert call("decompress", *m, stdin=packed).stdout == b"no gzip at all"


@posix
@pytest.mark.parametrize("name", ["compress", "decompress"])
def test_what_is_read_is_never_replaced(folder: Path, tmp_path: Path, name: str) -> None:
    model, text = tmp_path / "checkpoints" / "m.safetensors", tmp_path / "text"
    model.parent.mkdir()
    model.write_bytes((folder / "lines.safetensors").read_bytes())
    text.write_bytes(call("compress", "-m", model, stdin=NAMES).stdout if name == "decompress" else NAMES)
    (tmp_path / "link").symlink_to(text)
    before = {path: path.read_bytes() for path in (model, text)}
    for out, model_option in (
        (model, ("-m", model)),
        (model, ()),  # it is the newest
        (text, ("-m", model)),
        (tmp_path / "link", ("-m", model)),
        (tmp_path / "checkpoints" / ".." / "text", ("-m", model)),
    ):
        said = error(call(name, text, "-o", out, *model_option, cwd=tmp_path), 2)
        assert "which would be lost: write elsewhere with --out" in said
        assert said.startswith(f"charrnn: error: {out} is {'the model' if out == model else 'what is read'}")
    with open(text, "rb") as stdin:
        words = command(name, "-o", text, "-m", model)
        result = subprocess.run(words, stdin=stdin, capture_output=True, env=environment(), timeout=60)
    assert "is what is read" in error(result, 2)
    assert before == {path: path.read_bytes() for path in before}
    assert len(list(tmp_path.iterdir())) == 3


@posix
@pytest.mark.parametrize("name", ["compress", "decompress"])
def test_what_cannot_be_written_is_named_as_it_was_given(folder: Path, tmp_path: Path, name: str) -> None:
    m = ("-m", folder / "lines.safetensors")
    data = np.random.default_rng(0).bytes(10_000)
    data = call("compress", *m, stdin=data).stdout if name == "decompress" else data
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for out, reason in (
        ("file/x", "Not a directory: a folder in its path is a file; write elsewhere with --out"),
        (".", "Is a directory: write elsewhere with --out"),
        ("pipe", "It is a pipe or a device, no regular file: write elsewhere with --out"),
        ("/dev/full", "It is a pipe or a device, no regular file: write elsewhere with --out"),
    ):
        said = error(call(name, "-o", out, *m, stdin=data, cwd=tmp_path))
        assert said == f"charrnn: error: {out} cannot be written: {reason}"
    result = subprocess.run(
        ["sh", "-c", 'ulimit -f 4; exec "$@"', "sh", *command(name, "-o", "x", *m)],
        input=data, capture_output=True, env=environment(**UNCACHED), timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert error(result).startswith("charrnn: error: x cannot be written: File too large: raise the limit")
    assert sorted(os.listdir(tmp_path)) == ["file", "pipe"]


@posix
@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_said_without_names_of_ours(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ro").mkdir(0o555)
    words = ("compress", "-o", "ro/x", "-m", folder / "lines.safetensors")
    said = error(call(*words, stdin=NAMES, cwd=tmp_path))
    assert said.startswith("charrnn: error: ro/x cannot be written: Permission denied: check the permissions")


@posix
@pytest.mark.parametrize(("name", "code"), SIGNALS)
def test_compress_that_is_interrupted_leaves_nothing(
    folder: Path, tmp_path: Path, name: str, code: int
) -> None:
    words = command("compress", "-m", folder / "lines.safetensors", "-o", "new/folder/out")
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment()
    ) as process:
        assert process.stdin is not None
        process.stdin.write(NAMES * 30_000)
        process.stdin.flush()
        while not (tmp_path / "new" / "folder" / ".out.tmp").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.Signals[name])
        assert process.wait(60) == code
    assert os.listdir(tmp_path) == []
