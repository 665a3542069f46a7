"""The surroundings of the tests: nobody's variables, and no test without an end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import forks, warming
from support.compiled_loop import compiled_only
from support.environment import ROOT, environment
from support.processes import command

SCRUBBED = Path(ROOT, "tests", "support", "environment.py")
HOSTILE = {
    "PYTHONUNBUFFERED": "1", "PYTHONPATH": "/nowhere", "PYTHONWARNINGS": "error", "PYTHONHOME": "/nowhere",
    "NUMBA_NUM_THREADS": "1", "NUMBA_DISABLE_JIT": "1", "CHARRNN_DEBUG": "1", "CHARRNN_CACHE_DIR": "/no",
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "COLUMNS": "9", "LINES": "3",
    "NO_COLOR": "1", "FORCE_COLOR": "1", "COLORTERM": "truecolor", "CLICOLOR_FORCE": "1", "MAKEFLAGS": "-k",
    "PYTEST_ADDOPTS": "--nonsense", "COMP_WORDS": "x", "_CHARRNN_COMPLETE": "complete_bash",
}  # fmt: skip
NEEDED = {
    "PATH": "/bin", "HOME": "/home", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "CI": "true", "TMPDIR": "/tmp",
    "PIP_INDEX_URL": "x", "https_proxy": "x", "SSL_CERT_FILE": "x", "REQUESTS_CA_BUNDLE": "x",
    "OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "1024",
}  # fmt: skip


def test_only_what_is_needed_reaches_a_command() -> None:
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    done = subprocess.run(
        [sys.executable, "-I", SCRUBBED, sys.executable, "-I", "-c", program],
        env=HOSTILE | NEEDED, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    given = json.loads(done.stdout)
    assert given.items() >= NEEDED.items()
    assert not given.keys() & HOSTILE.keys()


def test_nothing_else_reaches_what_a_test_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**HOSTILE, "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    given = environment(COLUMNS="80")
    assert given.keys() & (HOSTILE.keys() | {"TERM"}) == {"PYTHONPATH", "NUMBA_DISABLE_JIT", "COLUMNS"}
    assert given["PYTHONPATH"] == ROOT
    assert given["COLUMNS"] == "80"


def test_this_process_is_scrubbed_too() -> None:
    assert os.environ.keys() & HOSTILE.keys() <= {"PYTHONPATH", "NUMBA_DISABLE_JIT"}


def test_there_is_one_environment_for_all_tests() -> None:
    for path in Path(ROOT, "tests").rglob("*.py"):
        if path not in (SCRUBBED, Path(__file__)):
            assert "**os.environ" not in path.read_text(encoding="utf-8"), path


def test_the_makefile_runs_everything_scrubbed() -> None:
    makefile = Path(ROOT, "Makefile").read_text()
    (install,) = re.findall("^PIP_INSTALL = (.*)$", makefile, re.MULTILINE)
    recipes = [
        line.replace("$(PIP_INSTALL)", install) for line in re.findall("^\t.*", makefile, re.MULTILINE)
    ]
    runs = [line for line in recipes if "$(BIN)" in line or "$(PYTHON) -m" in line]
    assert len(runs) == 12
    assert all(" $(SCRUBBED) " in line for line in runs)


@compiled_only
@pytest.mark.parametrize("part", warming.PARTS)
def test_what_is_compiled_beforehand_can_be(part: str) -> None:
    for compile_them in warming.PARTS[part]:
        compile_them()


def test_a_test_that_waits_for_ever_fails(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    assert 0 < float(pytestconfig.getini("timeout")) <= 300
    endless = tmp_path / "test_endless.py"
    endless.write_text(
        "import subprocess, sys\n"
        "def test_endless():\n"
        "    with subprocess.Popen(\n"
        "        [sys.executable, '-c', 'import os; os.read(0, 1)'],\n"
        "        stdin=subprocess.PIPE, stdout=subprocess.PIPE,\n"
        "    ) as process:\n"
        "        process.stdout.readline()\n"
    )
    words = ["-m", "pytest", "-c", Path(ROOT, "pyproject.toml"), "--rootdir", tmp_path, "-o", "timeout=2"]
    done = subprocess.run(
        [sys.executable, *words, "-p", "no:cacheprovider", endless],
        capture_output=True, text=True, cwd=tmp_path, env=environment(), timeout=100,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Timeout" in done.stderr + done.stdout
    assert "test_endless" in done.stderr + done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, all are started anew")
def test_a_fork_is_a_child_like_any_other(tmp_path: Path) -> None:
    def line_of(process: subprocess.Popen[bytes]) -> list[str]:
        return Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")

    words = command("score", "-m", Path(ROOT, "checkpoints", "places.safetensors"), "-")
    for end, code in ((subprocess.Popen.kill, -9), (subprocess.Popen.terminate, 143)):
        with subprocess.Popen(
            words, env=environment(), cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"Port\n")
            process.stdin.flush()
            assert process.stdout.readline().endswith(b"\tPort\n")
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert f"\nPPid:\t{os.getpid()}\n" in status
            assert Path(f"/proc/{process.pid}/cwd").resolve() == tmp_path.resolve()
            assert words[1:] != line_of(process)[1:-1]  # it is one
            end(process)
            assert process.wait(timeout=60) == code


def started(**told: object) -> dict[str, Any]:
    """What subprocess is told of a process, as far as forks are concerned."""
    usual = {"close_fds": True, "start_new_session": False, "process_group": -1, "env": environment()}
    return {**dict.fromkeys(forks.PARAMETERS[1:]), "args": command("info"), **usual, **told}


@pytest.mark.parametrize("name", ["PYTHONUTF8", "NUMBA_NUM_THREADS", "LC_ALL"])
def test_what_libraries_read_at_their_import_is_told_to_a_process_of_its_own(name: str) -> None:
    assert forks.request(started(env=environment(COLUMNS="80"))) is not None
    assert forks.request(started(env=environment(**{name: "1"}))) is None
    assert forks.request(started(args=["sh", "-c", "true"])) is None


@pytest.mark.parametrize("name", ["HOME", "CHARRNN_CACHE_DIR", "CHARRNN_DEBUG"])
def test_what_charrnn_reads_at_its_import_is_told_to_one_that_has_not_imported_it(
    name: str, tmp_path: Path
) -> None:
    assert forks.imports_the_same(started(env=environment(COLUMNS="80", CHARRNN_MODELS="x"), cwd=tmp_path))
    assert not forks.imports_the_same(started(env=environment(**{name: "/another"})))
    assert forks.request(started(env=environment(**{name: "/another"}))) is not None
    (tmp_path / "charrnn").mkdir()
    assert not forks.imports_the_same(started(cwd=tmp_path))
