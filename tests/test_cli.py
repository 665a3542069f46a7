"""The command line as a user meets it: processes, pipes and signals are real where they matter."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from support.calls import call
from support.environment import environment
from support.model_files import CHARACTERS, write_model
from support.processes import SIGNALS, TEXT, TINY, TINY_NETWORK, UNCACHED, command, failed, posix, run

import charrnn
import charrnn.cli
from charrnn.system import cpu

ROOT = Path(__file__).parent.parent
COMMANDS = list(charrnn.cli.COMMANDS)
GROUPS = {name: place for name, (place, _) in charrnn.cli.COMMANDS.items() if isinstance(place, dict)}
EVERY = [*COMMANDS, *(f"{group} {name}" for group, place in GROUPS.items() for name in place)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "corpus.txt").write_text(TEXT)
    return folder


@pytest.fixture(scope="module")
def prose(folder: Path) -> Path:
    return write_model(folder / "prose.safetensors")


@pytest.fixture(scope="module")
def lines(folder: Path) -> Path:
    return write_model(folder / "lines.safetensors", lines=True)


@pytest.fixture(scope="module")
def raw(folder: Path) -> Path:
    return write_model(folder / "raw.safetensors", bytes=True)


# help, version, start-up


@pytest.mark.parametrize("name", EVERY)
def test_help_of_a_command_names_every_option_with_a_line(name: str) -> None:
    result = run(*name.split(), "--help", COLUMNS="80")
    assert result.returncode == 0
    assert result.stderr == b""
    rows = [line for line in result.stdout.decode().splitlines() if line.startswith("  -")]
    assert rows
    for row in rows:
        names, _, text = row.strip().partition("  ")
        assert text.strip(), f"{names} has no help on its line"
        assert len(row) <= 80
    assert not re.search(rb"^ {10}", result.stdout, re.MULTILINE), "a line is continued"


def test_the_shell_can_complete_options_and_choices() -> None:
    def completed(words: str) -> list[str]:
        variables = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
        return run(_CHARRNN_COMPLETE="complete_bash", **variables).stdout.decode().split()

    assert completed("charrnn tra") == ["train"]
    assert completed("charrnn train --hid") == ["--hidden-size"]
    assert completed("charrnn export p") == ["page"]
    assert completed("charrnn train --cell ") == ["lstm", "gru", "rnn", "esn", "ntm"]


@pytest.mark.parametrize("words", [(), ("next",), ("export",), ("export", "page")])
def test_help_is_a_word_too(words: tuple[str, ...]) -> None:
    assert run("help", *words).stdout == run(*words, "--help").stdout != b""
    assert b"there is no command trian: did you mean train?" in run("help", "trian").stderr


def test_help_lists_the_commands() -> None:
    result = run("--help")
    assert result.returncode == 0
    words = {line.split()[0] for line in result.stdout.decode().splitlines() if line.strip()}
    assert set(COMMANDS) <= words


def test_no_command_shows_help_on_stderr_as_wrong_usage() -> None:
    result = run()
    assert (result.returncode, result.stdout) == (2, b"")
    assert b"train" in result.stderr


def test_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert charrnn.__version__ == project["version"]
    assert run("--version").stdout.decode().strip() == f"charrnn {project['version']}"


def test_version_tells_what_it_runs_on_as_json() -> None:
    for words in (("--version", "--json"), ("--json", "--version")):
        found = json.loads(call(*words).stdout)
        assert found["charrnn"] == charrnn.__version__
        assert found["python"] == platform.python_version()
        assert found["numpy"] == metadata.version("numpy")
        assert found["numba"] == metadata.version("numba")
        assert found["cpu"]
        assert found["instructions"] is None or {*found["instructions"]} <= {*cpu.VECTORS}
    assert b"give it behind, or --version --json" in call("--json", "models").stderr


def test_instructions_are_those_of_the_system_or_unknown(tmp_path: Path, monkeypatch) -> None:
    about = tmp_path / "cpuinfo"
    about.write_text("model name\t: A: B\nflags\t\t: fpu avx avx512_bf16 avx2x\n\nmodel name\t: C\n")
    monkeypatch.setattr(cpu, "_ABOUT", about)
    assert cpu.cpu() == ("A: B", ["avx", "avx512_bf16"])
    monkeypatch.setattr(cpu, "_ABOUT", tmp_path / "none")
    assert cpu.cpu()[1] is None


@pytest.mark.parametrize(
    ("shell", "begins"), [("zsh", b"#compdef charrnn"), ("bash", b"_charrnn_completion()")]
)
def test_completion_of_a_shell_that_is_named_is_shown(shell: str, begins: bytes) -> None:
    assert call("--show-completion", shell).stdout.startswith(begins)
    refused = call("--show-completion", "tcsh")
    assert refused.returncode == 2
    assert b"give one of bash, zsh, fish, powershell, pwsh" in refused.stderr


# What reads or writes a character after another on one thread, or computes nothing.
UNTHREADED = {"next", "info", "models", "export page", "export torch", "export onnx", *GROUPS}


@pytest.mark.parametrize("name", [name for name in EVERY if name not in UNTHREADED])
def test_a_command_that_computes_takes_a_number_of_threads(name: str) -> None:
    assert b"  --threads N " in call(name, "--help").stdout
    needed = {"fill": ["a?"], "eval": ["x", "-"]}.get(name, ["-"])
    done = call(name, *needed, "--threads", 0)
    assert done.returncode == 2
    assert b"threads is 0: give a whole number from 1 to 1024" in done.stderr


@pytest.mark.parametrize(
    "args", [("--help",), ("train", "--help"), ("train", "x", "--bytes", "--encoding", "ascii")]
)
def test_start_up_imports_nothing_heavy(args: tuple[str, ...]) -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "charrnn", *args],
        capture_output=True,
        env=environment(),
        timeout=60,
    )
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.decode().splitlines()}
    assert imported.isdisjoint({"numpy", "numba", "rich", "safetensors", "pydantic", "prompt_toolkit"})
    assert ("charrnn.cli.options" in imported) == ("train" in args)  # which the commands import
    assert "charrnn.cli.prompts" not in imported  # which another command imports


def test_a_short_sample_imports_no_compiler(prose: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "charrnn", "sample", "-m", str(prose), "-n", "20"],
        capture_output=True,
        env=environment(),
        timeout=60,
    )
    assert result.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.decode().splitlines()}
    assert "numpy" in imported
    assert imported.isdisjoint({"numba", "llvmlite", "rich", "pydantic"})


def test_every_public_name_is_there() -> None:
    for name in charrnn.__all__:
        assert getattr(charrnn, name) is not None
    assert set(charrnn.__all__) <= set(dir(charrnn))
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = charrnn.nothing_like_this


# the command was used wrongly: exit code 2


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("trian",), "there is no command trian: did you mean train?"),
        (("frobnicate",), "there is no command frobnicate"),
        (("export", "pgae"), "there is no command pgae: did you mean page?"),
        (("train",), "CORPUS... is missing"),
        (("train", "x", "--hiden-size", "3"), "did you mean --hidden-size?"),
        (("train", "x", "--hidden-size", "three"), "--hidden-size is 'three'"),
        (("train", "x", "--lr"), "--lr"),
        (("train", "x", "--bytes", "--encoding", "ascii"), "--bytes and --encoding"),
        (("sample", "--on-unknown", "perhaps"), "on-unknown is 'perhaps'"),
        (("sample", "--count", "0"), "count is 0"),
        (("sample", "--count", "9" * 30), "count is 9999"),
        (("eval", "m.safetensors"), "CORPUS... is missing"),
        (("info", "a", "b"), "b"),
        (("train", ""), "CORPUS... is an empty path"),
        (("train", "a.txt", ""), "CORPUS... is an empty path"),
        (("train", "a.txt", "-o", ""), "--out is an empty path"),
        (("train", "a.txt", "--init-from", ""), "--init-from is an empty path"),
        (("train", "a.txt", "--plot", ""), "--plot is an empty path"),
        (("sample", "-m", ""), "--model is an empty path"),
        (("sample", "--prompts", ""), "--prompts is an empty path"),
        (("classify", "-m", "a", "-m", ""), "--model is an empty path"),
        (("info", ""), "[MODEL] is an empty path"),
        (("eval", "", "a.txt"), "[MODEL] CORPUS... is an empty path"),
        (("score", ""), "[FILE...] is an empty path"),
        (("score", "--html", ""), "--html is an empty path"),
        (("compress", ""), "[FILE] is an empty path"),
        (("score", "-m", "a", "-m", "b"), "--model is given twice: give it once"),
        (("sample", "--prompt", "a", "--prompt=b", "--prompt", "c"), "--prompt is given 3 times"),
        (("sample", "--drop-until"), "--drop-until leaves out what --until says"),
        (("sample", "--interactive", "--json"), "--interactive is given with an option"),
    ],
)
def test_wrong_usage_is_two_lines_and_exit_code_2(args: tuple[str, ...], said: str) -> None:
    result = call(*args)
    assert (result.returncode, result.stdout) == (2, b"")
    error, hint = result.stderr.decode().splitlines()
    assert error.startswith("charrnn: error: ")
    assert said.lower() in error.lower()
    known = args[0] if args[0] in COMMANDS else ""
    assert hint == f"try '{' '.join(filter(None, ['charrnn', known, '--help']))}'"


REPEATABLE = {
    ("sample", "--model"), ("sample", "--until"), ("sample", "--ban"), ("enumerate", "--model"),
    ("fill", "--model"), ("next", "--model"), ("classify", "--model"), ("train", "--val"),
    ("train", "--label-field"), ("train", "--strip"), ("serve", "--model"), ("serve", "--cors"),
    ("sample", "--label"), ("enumerate", "--label"), ("fill", "--label"), ("next", "--label"),
    ("score", "--label"), ("compress", "--label"), ("decompress", "--label"), ("sample", "--fix"),
    ("export onnx", "--label"),
}  # fmt: skip
ONCE = {
    ("train", "--init-from"), ("train", "--split"), ("train", "--shuffle-fields"),
    ("sample", "--prompt"), ("sample", "--prompts"), ("sample", "--prompts-json"), ("sample", "--match"),
    ("sample", "--only"),
    ("enumerate", "--prompt"), ("enumerate", "--match"), ("score", "--model"), ("compress", "--model"),
    ("decompress", "--model"), ("restore", "--model"), ("tag", "--model"), ("rewrite", "--model"),
    ("serve", "--unix"), ("eval", "--model"), ("info", "--model"), ("diagnose", "--model"),
    ("diagnose", "--events"), ("export page", "--model"), ("export torch", "--model"),
    ("export onnx", "--model"), ("export torch", "--prompt"), ("neurons", "--model"), ("neurons", "--find"),
}  # fmt: skip
THE_LAST_COUNTS = dict.fromkeys(
    ("N", "[N]", "NAME", "K", "P", "T", "X", "M", "E", "MB", "TAU", "ETA", "BITS", "P,P,...", "PATH", "HOST"),
    ("1", "2"),
) | {
    "N[:T[:W]]": ("1", "2"),
    "LAYER:UNIT": ("1:0", "1:1"),
    "error|skip": ("error", "skip"),
    "auto|always|never": ("always", "never"),
    "tanh|relu": ("tanh", "relu"),
    "additive|dot": ("additive", "dot"),
}


@pytest.mark.parametrize("name", EVERY)
def test_an_option_given_twice_is_repeatable_or_an_error_unless_it_is_a_number_or_a_name(name: str) -> None:
    """Nobody's file or text is dropped without a word."""
    from charrnn.cli import parsing
    from charrnn.cli.process import UsageError

    command: Any = parsing.program()
    for word in name.split():
        command = command.commands[word]
    arguments = ["x"] * sum(param.param_type_name == "argument" for param in command.params)
    for param in command.params:
        if param.param_type_name == "argument" or param.is_flag:
            continue
        option, metavar = param.opts[-1], param.metavar
        twice = [*arguments, param.opts[0], "1", f"{option}=1"]
        if (name, option) in REPEATABLE:
            values = command.make_context(name, twice).params[param.name]
            assert values == ["1", "1"]
        elif (name, option) in ONCE:
            with pytest.raises(UsageError, match=f"{option} is given twice: give it once"):
                command.make_context(name, twice)
        else:
            first, last = THE_LAST_COUNTS[metavar]
            values = command.make_context(name, [*arguments, option, first, option, last]).params
            assert str(values[param.name]) in (last, f"{last}.0")


def test_help_comes_before_a_complaint_about_repeats() -> None:
    result = call("score", "-m", "a", "-m", "b", "--help")
    assert result.returncode == 0
    assert b"Usage: charrnn score" in result.stdout


def test_values_out_of_range_are_wrong_usage(folder: Path, prose: Path) -> None:
    for args in (
        ("sample", "-m", prose, "--temp", "-1"),
        ("sample", "-m", prose, "--top-p", "2"),
        ("sample", "-m", prose, "--precision", "float16"),
        ("train", folder / "corpus.txt", "--hidden-size", "0"),
        ("train", folder / "corpus.txt", "--steps", "3", "--epochs", "1"),
    ):
        result = call(*args, cwd=folder)
        assert (result.returncode, result.stdout) == (2, b""), args
        assert result.stderr.startswith(b"charrnn: error: ")


# it could not be done: exit code 1


def test_missing_files_are_named_on_one_line(folder: Path, prose: Path) -> None:
    assert "no.txt" in failed(call("train", "no.txt", cwd=folder))
    assert "no.safetensors" in failed(call("sample", "-m", "no.safetensors", cwd=folder))
    assert "no.safetensors" in failed(call("info", "no.safetensors", cwd=folder))
    assert "no.txt" in failed(call("eval", prose, "no.txt", cwd=folder))


def test_a_text_given_as_a_model_is_refused(folder: Path) -> None:
    assert "corpus.txt" in failed(call("info", folder / "corpus.txt"))


def test_terminal_escapes_in_a_name_do_not_reach_the_terminal(folder: Path) -> None:
    result = call("info", "\x1b[31mred", cwd=folder)
    assert b"\x1b" not in result.stderr
    assert "red" in failed(result)


def test_an_unknown_character_in_the_prompt_is_named_or_skipped(prose: Path) -> None:
    error = failed(call("sample", "-m", prose, "--prompt", "a€b"))
    assert "U+20AC" in error
    assert "--on-unknown skip" in error
    skipped = call("sample", "-m", prose, "--prompt", "a€b", "--seed", 1, "--on-unknown", "skip")
    assert skipped.stdout == call("sample", "-m", prose, "--prompt", "ab", "--seed", 1).stdout


@posix
def test_a_full_disk_behind_stdout_is_one_line(prose: Path) -> None:
    with open("/dev/full", "wb") as full:
        for args in (("sample", "-m", prose), ("info", prose), ("--help",), ("train", "-h"), ("--version",)):
            result = subprocess.run(
                command(*args), stdout=full, stderr=subprocess.PIPE, env=environment(), timeout=60
            )
            assert failed(result) == "charrnn: error: cannot write to stdout: No space left on device"


@posix
def test_help_that_nobody_reads_ends_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    for args in (("--help",), ("train", "--help"), ("--version",)):
        result = subprocess.run(
            command(*args), stdout=write, stderr=subprocess.PIPE, env=environment(), timeout=60
        )
        assert (result.returncode, result.stderr) == (0, b"")
    os.close(write)


def test_debug_shows_where_an_error_came_from(folder: Path) -> None:
    result = run("info", "no.safetensors", cwd=folder, CHARRNN_DEBUG="1")
    assert result.returncode == 1
    assert b"Traceback" in result.stderr


# sample


def test_only_text_goes_to_stdout(prose: Path) -> None:
    result = run("sample", "-m", prose, "-n", 200, "--seed", 3)
    assert (result.returncode, result.stderr) == (0, b"")
    text = result.stdout.decode()
    assert text.endswith("\n")
    assert len(text) in (200, 201)  # a line end is added where the text has none
    assert set(text) <= set(CHARACTERS)


def test_the_same_seed_writes_the_same_text(prose: Path) -> None:
    args = ("sample", "-m", prose, "-n", 50, "--seed", 7)
    text = run(*args).stdout
    assert text == run(*args).stdout
    assert text != call(*args[:-1], 8).stdout


def test_text_is_utf8_whatever_the_locale(prose: Path) -> None:
    args = ("sample", "-m", prose, "--prompt", "-", "--echo", "-n", 5, "--seed", 1)
    result = run(*args, stdin="ä".encode(), PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert result.returncode == 0
    assert result.stdout.startswith("ä".encode())


def test_a_prompt_on_stdin_loses_only_its_last_line_end(prose: Path) -> None:
    args = ("sample", "-m", prose, "--echo", "-n", 5, "--seed", 1, "--prompt")
    piped = call(*args, "-", stdin=b"\xef\xbb\xbfab\r\ncd\n\n").stdout
    assert piped.startswith(b"ab\ncd\n")
    assert piped == call(*args, "ab\ncd\n").stdout


def test_a_prompt_that_is_no_utf8_is_one_line(prose: Path) -> None:
    error = failed(call("sample", "-m", prose, "--prompt", "-", stdin=b"abc\xff"))
    assert "byte 3" in error


def test_a_bytes_model_reads_and_writes_bytes(raw: Path) -> None:
    args = ("sample", "-m", raw, "--echo", "-n", 300, "--seed", 1, "--prompt")
    result = run(*args, "é")
    assert result.stdout.startswith("é".encode())
    assert len(result.stdout) in (302, 303)
    assert result.stdout == call(*args, "-", stdin="é".encode()).stdout


def test_texts_of_prose_are_set_apart_by_an_empty_line(prose: Path) -> None:
    args = ("sample", "-m", prose, "-n", 20, "--seed", 4)
    first = call(*args).stdout
    assert call(*args, "--count", 2).stdout.startswith(first + b"\n")


def test_many_texts_are_those_of_the_same_seed_and_fewer(prose: Path, lines: Path) -> None:
    for model in (prose, lines):
        many = call("sample", "-m", model, "-n", 30, "--seed", 4, "--count", 300)
        few = call("sample", "-m", model, "-n", 30, "--seed", 4, "--count", 7)
        assert (many.returncode, many.stderr) == (0, b"")
        assert many.stdout.startswith(few.stdout)
    assert many.stdout.count(b"\n") == 300


def test_weights_can_be_rounded(prose: Path) -> None:
    args = ("sample", "-m", prose, "-n", 2000, "--seed", 4)
    rounded = call(*args, "--precision", "bfloat16")
    assert rounded.stdout == call(*args, "--precision", "bfloat16").stdout
    assert rounded.stdout != call(*args).stdout == call(*args, "--precision", "float32").stdout


def test_a_lines_model_writes_ten_lines(lines: Path) -> None:
    result = call("sample", "-m", lines, "--seed", 2)
    assert result.stdout.count(b"\n") == 10
    assert result.stdout.endswith(b"\n")
    assert call("sample", "-m", lines, "--count", 3).stdout.count(b"\n") == 3
    assert call("sample", "-m", lines, "--prompt", "a", "-n", 5).stdout.count(b"\n") == 1


def test_until_ends_the_text(prose: Path) -> None:
    text = call("sample", "-m", prose, "--until", "e", "-n", 5000, "--seed", 1).stdout.decode()
    assert text.rstrip("\n").endswith("e")
    assert text.count("e") == 1


def test_each_of_several_stop_texts_ends_the_text_and_can_be_left_out(prose: Path) -> None:
    def written(*options: str) -> str:
        return call("sample", "-m", prose, "-n", 5000, "--seed", 1, *options).stdout.decode()[:-1]

    whole = written()
    first, second = sorted([whole.index("e"), whole.index("a")])
    assert first < second
    for stops in (("--until", "e", "--until", "a"), ("--until", "a", "--until", "e")):
        assert written(*stops) == whole[: first + 1]
        assert written(*stops, "--drop-until") == whole[:first]


def test_texts_as_json_have_their_seed_and_their_number(prose: Path, lines: Path, raw: Path) -> None:
    def texts(*options: object, stdin: bytes = b"") -> list[dict[str, object]]:
        result = call("sample", "--json", "-n", 30, *options, stdin=stdin)
        assert result.stderr == b""  # nobody watches
        return [json.loads(line) for line in result.stdout.decode().splitlines()]

    for model in (prose, lines):
        found = texts("-m", model, "--count", 3)
        seed = found[0]["seed"]
        assert [row["index"] for row in found] == [0, 1, 2]
        again = texts("-m", model, "--count", 3, "--seed", seed)
        assert again == found
    plain = call("sample", "-m", lines, "--count", 3, "-n", 30, "--seed", seed).stdout.decode()
    assert plain == "".join(f"{row['text']}\n" for row in found)
    (row,) = texts("-m", raw, "--seed", 1)
    data = call("sample", "-m", raw, "-n", 30, "--seed", 1).stdout[:-1]
    assert row["text"] == data.decode("utf-8", "replace")
    found = texts("-m", lines, "--prompts", "-", "--echo", "--count", 2, stdin="a\nä\n".encode())
    assert [(row["index"], str(row["text"])[0]) for row in found] == [(0, "a"), (1, "a"), (2, "ä"), (3, "ä")]


@posix
@pytest.mark.parametrize(
    ("options", "told"), [((), True), (("--seed", "7"), False), (("--temp", "0"), False), (("--json",), True)]
)
def test_a_seed_that_was_chosen_is_told_where_a_person_watches(
    lines: Path, options: tuple[str, ...], told: bool
) -> None:
    import pty

    watching, terminal = pty.openpty()
    words = ("sample", "-m", lines, "-n", 50, "--count", 2)
    arguments = command(*words, *options)
    result = subprocess.run(
        arguments, stdout=subprocess.PIPE, stderr=terminal, env=environment(), timeout=120
    )
    os.close(terminal)
    said = ""
    with suppress(OSError):  # Linux: nobody has the other end any more
        while data := os.read(watching, 1000):
            said += data.decode()
    os.close(watching)
    found = re.fullmatch(r"seed (\d+) \(--seed \1 writes this again\)\s+", said)
    assert bool(found) == told, said
    if found:
        again = call(*words, "--seed", found[1], *options)
        assert again.stdout == result.stdout
    else:
        assert said == ""


@posix
def test_a_closed_pipe_ends_quietly(prose: Path) -> None:
    with subprocess.Popen(
        command("sample", "-m", prose, "-n", 10_000_000),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert len(process.stdout.read(100)) == 100
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


@posix
def test_closed_standard_streams_leave_no_noise(prose: Path, tmp_path: Path) -> None:
    def shell(redirections: str) -> subprocess.CompletedProcess[bytes]:
        script = f'"$0" -m charrnn sample -m "$1" -n 5 --seed 1 {redirections}'
        return subprocess.run(
            ["sh", "-c", script, sys.executable, str(prose)],
            capture_output=True,
            env=environment(),
            cwd=tmp_path,
            timeout=60,
        )

    assert "stdout is closed" in failed(shell(">&-"))
    assert shell(">&- 2>&-").returncode == 1
    silent = shell("2>&- <&-")
    assert silent.returncode == 0
    assert silent.stdout == shell("").stdout != b""


@posix
@pytest.mark.parametrize(("name", "code"), SIGNALS)
def test_signals_end_a_sample_quietly(prose: Path, name: str, code: int) -> None:
    with subprocess.Popen(
        command("sample", "-m", prose, "-n", 1_000_000_000),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10)
        process.send_signal(signal.Signals[name])
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == code


# eval and info


def test_eval_prints_one_line(folder: Path, prose: Path) -> None:
    result = run("eval", prose, folder / "corpus.txt")
    assert (result.returncode, result.stderr) == (0, b"")
    pattern = r"loss \d\.\d{4} nats/char, \d\.\d{4} bits/char, perplexity \d+\.\d\d, 1760 characters\n"
    assert re.fullmatch(pattern, result.stdout.decode())


def test_eval_json_has_the_documented_keys(folder: Path, prose: Path) -> None:
    result = call("eval", prose, folder / "corpus.txt", "--json")
    values = json.loads(result.stdout)
    assert list(values) == ["loss", "bpc", "perplexity", "characters"]
    assert values["characters"] == len(TEXT)
    piped = call("eval", prose, "-", "--json", stdin=TEXT.encode())
    assert json.loads(piped.stdout) == values


def test_info_shows_the_model(prose: Path) -> None:
    result = call("info", prose)
    assert (result.returncode, result.stderr) == (0, b"")
    text = result.stdout.decode()
    for part in ("lstm", "1 x 8", "\\n abc", "2.7500", "steps 20", "█▁"):
        assert part in text
    assert "\x1b" not in text


def test_info_json_can_be_parsed(prose: Path) -> None:
    values = json.loads(call("info", prose, "--json").stdout)
    assert values["vocabulary"] == CHARACTERS
    assert values["model"]["hidden_size"] == 8
    assert [row["step"] for row in values["history"]] == [10, 20]


# train


def test_hello_world_is_learnt_by_heart(tmp_path: Path) -> None:
    model = tmp_path / "m.safetensors"
    trained = run("train", "-", "--steps", 300, "-o", model, stdin=b"hello world", cwd=tmp_path)
    assert (trained.returncode, trained.stdout) == (0, b"")
    args = ("sample", "-m", model, "--prompt", "h", "-n", 10, "--temp", 0, "--echo")
    assert run(*args).stdout == b"hello world\n"


def test_a_short_list_is_not_recited_and_a_shorter_one_is_said_to_be_unvalidated(tmp_path: Path) -> None:
    names = [
        f"{a}{b}{c}"
        for a in ("Bel", "Mar", "Tor", "Van", "Lin")
        for b in "aeiou"
        for c in ("no", "ka", "ris")
    ]
    (tmp_path / "names.txt").write_text("\n".join(names) + "\n")
    (tmp_path / "few.txt").write_text("\n".join(names[::6]) + "\n")
    trained = call("train", "names.txt", "--lines", "-o", "m", cwd=tmp_path)
    assert trained.returncode == 0
    assert b"too short" not in trained.stderr
    written = call("sample", "-m", "m", "--count", 100, "--seed", 1, cwd=tmp_path).stdout.decode()
    assert len(set(written.splitlines()) & set(names)) < 50
    few = call("train", "few.txt", "--lines", "-o", "few", cwd=tmp_path)
    assert few.returncode == 0
    assert b"note: the text is too short to keep a part of it for validation" in few.stderr
    asked = call("train", "few.txt", "--lines", "-o", "few", "--force", "--val-fraction", 0, cwd=tmp_path)
    assert b"too short" not in asked.stderr


def test_another_text_for_validation_is_shown_and_stands_in_the_command_that_goes_on(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.txt").write_text("over the dog jumps the lazy fox\n" * 30)
    args = ("train", folder / "corpus.txt", "--val", tmp_path / "other.txt", "--steps", 6, *TINY_NETWORK)
    result = call(*args, "-o", tmp_path / "m", "--keep-models", 2)
    said = result.stderr.decode().splitlines()
    assert result.returncode == 0
    assert said[:2] == ["text      corpus: 1,760 characters, 28 different", "judged by other: 960 characters"]
    assert len(list((tmp_path / "m.models").iterdir())) == 2
    assert call("info", tmp_path / "m", "--plot", tmp_path / "loss.svg").returncode == 0
    assert ">validation<" in (tmp_path / "loss.svg").read_text()
    for wrong in (("--val-fraction", 0.1), ("--val-split", "end")):
        refused = call(*args, "-o", tmp_path / "n", *wrong)
        assert refused.returncode == 2
        assert b"--val names another text" in refused.stderr
    assert call(*args[:3], tmp_path / "none.txt", *args[4:]).returncode == 1
    assert call("train", folder / "corpus.txt", "--val-split", "middle").returncode == 2


@posix
def test_a_stopped_run_says_with_what_text_to_go_on(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other text.txt").write_text("over the dog jumps the lazy fox\n" * 30)
    words = ("train", folder / "corpus.txt", "--val", "other text.txt", "--steps", 10**9, *TINY_NETWORK)
    with subprocess.Popen(
        command(*words, "--json", "--keep-models", 3, "-o", "m"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    (line,) = (line for line in said.decode().splitlines() if line.startswith("go on with: "))
    assert line.endswith("--val 'other text.txt' -o m --resume --keep-models 3")


STEP = {"event", "step", "epoch", "seconds", "train_loss"}
KEYS = {
    "step": STEP | {"chars_per_second", "learning_rate", "grad_norm"},
    "eval": STEP | {"val_loss", "val_bpc", "network_loss"},  # the last one where there are counts
    "save": {"event", "step", "epoch", "seconds", "val_loss"},
    "done": STEP | {"checkpoint", "parameters", "best_val_loss", "best_val_bpc"},
}


def test_json_events_have_the_documented_keys(folder: Path, tmp_path: Path) -> None:
    args = ("train", folder / "corpus.txt", "--steps", 6, *TINY, "--json")
    result = call(*args, "-o", tmp_path / "m.safetensors")
    assert result.returncode == 0
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert {event["event"] for event in events} == set(KEYS)
    for event in events:
        assert set(event) == KEYS[event["event"]]
    assert events[-1]["event"] == "done"
    assert Path(events[-1]["checkpoint"]) == tmp_path / "m.safetensors"
    assert b"\x1b" not in result.stderr


def test_progress_goes_to_stderr_as_plain_lines(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "my model.safetensors"
    result = run("train", folder / "corpus.txt", "--steps", 6, *TINY, "-o", model)
    assert (result.returncode, result.stdout) == (0, b"")
    said = result.stderr.decode()
    assert "\x1b" not in said
    assert "\r" not in said
    for part in ("corpus: 1,760 characters", "LSTM 1 x 8", "6 steps, 1 thread", "validation"):
        assert part in said
    assert said.endswith(f"write with it: charrnn sample -m '{model}'\n")
    quiet = call("train", folder / "corpus.txt", "--steps", 6, *TINY, "-o", model, "--force", "-q")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, b"", b"")


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def training(folder: Path, tmp_path: Path) -> Start:
    """Starts a run without an end and waits for its first step."""

    def start(*args: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command("train", folder / "corpus.txt", "--steps", 10**9, *TINY, "--json", *args),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            cwd=tmp_path,
        )
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["step"] >= 1
        return process

    return start


@posix
@pytest.mark.parametrize(("name", "code"), SIGNALS)
def test_a_signal_while_training_saves_and_says_how_to_go_on(
    training: Start, tmp_path: Path, name: str, code: int
) -> None:
    process = training("-o", "m.safetensors")
    process.send_signal(signal.Signals[name])
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert (tmp_path / "m.safetensors").exists()
    assert json.loads(stdout.splitlines()[-1])["event"] == "done"
    said = stderr.decode().splitlines()
    assert any(line.startswith("stopping: saving") for line in said)
    assert said[-1].startswith("go on with: charrnn train ")
    assert said[-1].endswith("-o m.safetensors --resume")


@posix
def test_a_terminal_that_is_closed_lets_training_save(folder: Path, tmp_path: Path) -> None:
    import pty

    for options in ((), ("--json",)):
        pid, screen = pty.fork()
        if pid == 0:
            os.chdir(tmp_path)
            words = ("train", folder / "corpus.txt", "--steps", 10**9, *TINY, "-o", "m.safetensors")
            os.execvpe(sys.executable, command(*words, *options, "--force"), environment(TERM="xterm"))
        try:
            shown = b""
            while b"chars/s" not in shown and b'"step"' not in shown:
                shown += os.read(screen, 65536)
            os.close(screen)  # which sends the signal; and a shell sends it again
            for _ in range(3):
                os.kill(pid, signal.SIGHUP)
                time.sleep(0.002)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 129
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert sorted(os.listdir(tmp_path)) == ["m.resume.safetensors", "m.safetensors"]
        for path in tmp_path.iterdir():
            path.unlink()


@posix
def test_nohup_goes_on_when_the_terminal_is_closed(folder: Path, tmp_path: Path) -> None:
    script = 'trap "" HUP; exec "$@"'  # as nohup does it
    words = command("train", folder / "corpus.txt", "--steps", 10**9, *TINY, "--json", "-o", "m.safetensors")
    with subprocess.Popen(
        ["sh", "-c", script, "sh", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment(), cwd=tmp_path,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())["step"]
        process.send_signal(signal.SIGHUP)
        steps = [json.loads(process.stdout.readline())["step"] for _ in range(8)]
        assert steps[-1] > steps[0] > first
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 143


@posix
@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="nothing is compiled")
def test_a_signal_while_kernels_are_compiled_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("train", folder / "corpus.txt", "-o", tmp_path / "models" / "m.safetensors", *TINY),
        stderr=subprocess.PIPE,
        env=environment(CHARRNN_CACHE_DIR=str(tmp_path / "cache")),
    )
    assert process.stderr is not None
    while b"compiling" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.decode().splitlines()[-1] == "stopped before the first step: nothing is written"
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@posix
@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="nothing is compiled")
def test_a_run_that_is_killed_while_kernels_are_compiled_just_starts_again(
    folder: Path, tmp_path: Path
) -> None:
    words = ("train", folder / "corpus.txt", *TINY, "--steps", 2, "-o", "m.safetensors")
    with subprocess.Popen(
        command(*words), stderr=subprocess.PIPE, cwd=tmp_path,
        env=environment(CHARRNN_CACHE_DIR=str(tmp_path / "cache")),
    ) as process:  # fmt: skip
        assert process.stderr is not None
        while b"compiling" not in process.stderr.readline():
            pass
        process.kill()
    left = (tmp_path / "m.resume.safetensors").read_bytes()
    for changed in ((), ("--hidden-size", 6)):
        (tmp_path / "m.safetensors").unlink(missing_ok=True)
        (tmp_path / "m.resume.safetensors").write_bytes(left)
        again = call(*words, *changed, cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "m.safetensors"]


@posix
def test_the_first_signal_asks_and_the_second_does_not_wait() -> None:
    script = """
import os, signal, time
from charrnn.cli.process import StopRequest
with StopRequest(lambda: print("asked", flush=True), lambda: print("restored", flush=True)) as stop:
    stop.saveable = True
    os.kill(os.getpid(), signal.SIGTERM)
    print(stop(), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)  # the same one: Slurm sends it to a rank and to its shepherd
    print("waits", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    print("still here", flush=True)
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env=environment(), timeout=60
    )
    assert result.returncode == 130
    assert result.stdout.decode().split() == ["asked", "SIGTERM", "waits", "restored"]


@posix
def test_training_saves_and_ends_quietly_when_nobody_reads_its_events(
    training: Start, tmp_path: Path
) -> None:
    with training("-o", "m.safetensors", "-q") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0
    assert (tmp_path / "m.safetensors").exists()


@posix
def test_a_terminal_gets_a_live_view_unless_colour_is_unwelcome(folder: Path, tmp_path: Path) -> None:
    import pty

    def stderr_of(**variables: str) -> bytes:
        ours, theirs = pty.openpty()
        args = ("train", folder / "corpus.txt", "--steps", 6, *TINY, "--force", "-o", "m")
        with subprocess.Popen(
            command(*args),
            stdout=subprocess.PIPE,
            stderr=theirs,
            env=environment(**{"TERM": "xterm", **variables}),
            cwd=tmp_path,
        ) as process:
            os.close(theirs)
            shown = b""
            try:
                while piece := os.read(ours, 65536):
                    shown += piece
            except OSError:  # Linux reports the other side's end as EIO
                pass
            os.close(ours)
            assert process.stdout is not None
            assert process.stdout.read() == b""
            assert process.wait(60) == 0
        return shown

    live = stderr_of()
    assert b"\x1b[?25l" in live  # the cursor is hidden,
    assert live.rindex(b"\x1b[?25h") > live.rindex(b"\x1b[?25l")  # and shown again at the end
    assert b"write with it" in live
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        plain = stderr_of(**variables)
        assert b"write with it" in plain
        assert b"\x1b" not in plain


@posix
def test_a_second_training_into_the_same_file_is_refused(
    training: Start, folder: Path, tmp_path: Path
) -> None:
    process = training("-o", "m.safetensors")
    error = failed(call("train", folder / "corpus.txt", "--steps", 5, "-o", "m.safetensors", cwd=tmp_path))
    assert f"m.safetensors is being trained by process {process.pid} on " in error
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert sorted(os.listdir(tmp_path)) == ["m.resume.safetensors", "m.safetensors"]


@posix
@pytest.mark.parametrize("options", [(), ("--force",), ("--resume",)])
def test_a_model_never_replaces_its_corpus(tmp_path: Path, options: tuple[str, ...]) -> None:
    corpus = tmp_path / "texts" / "c.txt"
    corpus.parent.mkdir()
    corpus.write_text(TEXT)
    (tmp_path / "link").symlink_to(corpus)
    (tmp_path / "m.resume.safetensors").symlink_to(corpus)
    for out in ("texts/c.txt", "link", corpus, "m.safetensors"):
        result = call("train", "texts", "-o", out, "--steps", 1, *TINY, *options, cwd=tmp_path)
        assert (result.returncode, result.stdout) == (2, b"")
        assert b" is a file of the corpus, which would be lost: write elsewhere" in result.stderr
    with corpus.open("rb") as stdin:
        words = command("train", "-", "-o", corpus, "--steps", 1, *TINY, *options)
        result = subprocess.run(words, stdin=stdin, capture_output=True, env=environment(), timeout=60)
    assert result.returncode == 2
    assert corpus.read_text() == TEXT
    assert sorted(os.listdir(tmp_path)) == ["link", "m.resume.safetensors", "texts"]


@posix
def test_a_disk_that_cannot_take_the_run_is_one_line_at_once(folder: Path, tmp_path: Path) -> None:
    script = 'ulimit -f 4; exec "$@"'
    args = command(
        "train", folder / "corpus.txt", "--steps", 6, *TINY, "-o", tmp_path / "m.safetensors", "--json"
    )
    result = subprocess.run(
        ["sh", "-c", script, "sh", *args],
        capture_output=True,
        env=environment(**UNCACHED),
        timeout=120,
        cwd=tmp_path,
    )
    assert result.returncode == 1, result.stderr
    last = result.stderr.decode().splitlines()[-1]
    assert last.startswith("charrnn: error: ")
    assert "File too large" in last
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("command", ["train", "eval", "score"])
def test_without_compiled_code_one_line_says_what_works(lines: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "corpus.txt").write_text(TEXT)
    words = {
        "train": ("corpus.txt", "-o", "m.safetensors", *TINY, "--steps", 1),
        "eval": (lines, "corpus.txt"),
        "score": ("-m", lines, "corpus.txt"),
    }[command]
    result = run(command, *words, cwd=tmp_path, NUMBA_DISABLE_JIT="1")
    assert failed(result).endswith(
        "NUMBA_DISABLE_JIT forbids: unset it; sample, next and enumerate work with it"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.txt"]
