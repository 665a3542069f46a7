"""Where machine code is kept: a folder that can be written, and that nobody else can."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.calls import call
from support.environment import environment
from support.processes import NOWHERE, TEXT, TINY, copy_package, run

from charrnn.kernels.machine import cache, jit

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no folders of this kind")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder for temporary files, where none can be made at home."""
    monkeypatch.setenv("CHARRNN_CACHE_DIR", NOWHERE)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(cache, "SHARED", ())
    return tmp_path


def mine(temporary: Path, number: int = 0) -> Path:
    return temporary / (f"charrnn-{os.geteuid()}" + (f"-{number}" if number else ""))


def test_the_folder_that_was_asked_for_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARRNN_CACHE_DIR", str(tmp_path / "asked" / "for"))
    assert cache.folder("kernels") == tmp_path / "asked" / "for" / "kernels"
    assert (tmp_path / "asked" / "for" / "kernels").is_dir()


@posix
def test_else_a_temporary_one_that_is_the_users_alone(temporary: Path) -> None:
    before = os.umask(0)
    try:
        assert cache.folder("kernels") == mine(temporary) / "kernels"
    finally:
        os.umask(before)
    assert mine(temporary).stat().st_mode & 0o777 == 0o700
    assert cache.folder("kernels") == mine(temporary) / "kernels"  # found again


@posix
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_one_that_others_can_write_to_is_not_trusted(temporary: Path, mode: int) -> None:
    mine(temporary).mkdir()
    mine(temporary).chmod(mode)
    assert cache.folder("kernels") == mine(temporary, 1) / "kernels"
    assert list(mine(temporary).iterdir()) == []


@posix
def test_a_link_or_a_file_of_that_name_is_not_trusted(temporary: Path) -> None:
    (temporary / "elsewhere").mkdir(mode=0o700)
    mine(temporary).symlink_to(temporary / "elsewhere")
    mine(temporary, 1).touch()
    assert cache.folder("kernels") == mine(temporary, 2) / "kernels"
    assert list((temporary / "elsewhere").iterdir()) == []


@posix
def test_one_of_a_stranger_is_not_trusted(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = os.geteuid()
    for number in range(cache.NAMES):
        (temporary / (f"charrnn-{me + 1}" + (f"-{number}" if number else ""))).mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)  # whose folders are now another's
    assert cache.folder("kernels") is None
    assert [path for path in temporary.iterdir() if list(path.iterdir())] == []


@posix
@pytest.mark.parametrize(("mode", "trusted"), [(0o1777, True), (0o777, False), (0o770, False)])
def test_a_folder_where_others_can_rename_it_keeps_none(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, mode: int, trusted: bool
) -> None:
    shared = temporary / "shared"
    shared.mkdir()
    shared.chmod(mode)
    monkeypatch.setenv("TMPDIR", str(shared))
    assert (cache.folder("kernels") is not None) == trusted
    below = shared / "below"
    below.mkdir(mode=0o700)
    monkeypatch.setenv("TMPDIR", str(below))
    assert (cache.folder("kernels") is not None) == trusted


# What compiles the fewest kernels.
TRAIN = ("train", "-", *TINY, "--cell", "rnn", "--no-norm", "--no-residual", "--embedding-size", 0)


@posix
@pytest.mark.skipif(jit.JIT_DISABLED, reason="nothing is compiled")
def test_without_a_home_the_second_run_is_warm(tmp_path: Path) -> None:
    args = (*TRAIN, "--steps", 2, "-o", tmp_path / "m", "--force")
    assert call(*args, stdin=TEXT.encode()).returncode == 0
    assert jit.CACHE_DIR is not None
    mine(tmp_path).mkdir(mode=0o700)
    missing = shutil.ignore_patterns("loss.*")  # the first run need not compile all
    shutil.copytree(jit.CACHE_DIR, mine(tmp_path) / jit.CACHE_DIR.name, ignore=missing)
    variables = {"TMPDIR": str(tmp_path), "HOME": NOWHERE, "XDG_CACHE_HOME": ""}
    said = [run(*args, stdin=TEXT.encode(), cwd=tmp_path, **variables).stderr.decode() for _ in range(2)]
    assert "compiling kernels (first time on this machine)" in said[0]
    assert "compiling" not in said[1]


@pytest.mark.skipif(jit.JIT_DISABLED, reason="nothing is compiled")
def test_what_is_kept_is_loaded_without_what_only_compilation_needs(tmp_path: Path) -> None:
    args = (*TRAIN, "--steps", 2, "-o", tmp_path / "m", "--force", "--counts", 0)
    assert call(*args, stdin=TEXT.encode()).returncode == 0
    words = [sys.executable, "-X", "importtime", "-m", "charrnn", *map(str, args)]
    done = subprocess.run(
        words, input=TEXT.encode(), capture_output=True, env=environment(), check=True, timeout=120
    )
    imported = {line.rpartition(b"|")[2].strip().decode() for line in done.stderr.splitlines()}
    assert "numba.core.dispatcher" in imported
    assert not {"numba.np.linalg", "numba.cpython.setobj"} & imported


ASK = """
from charrnn.kernels.loops import equations
from charrnn.kernels.machine.jit import CACHE_DIR
from charrnn.nn.cells.gru import CELL
print(CACHE_DIR, *(way(CELL, "float32").__name__ for way in (equations.forward, equations.backward)))
"""


def test_another_cell_changes_no_cache_and_another_equation_changes_a_name(tmp_path: Path) -> None:
    copy_package(tmp_path)
    cells, variables = tmp_path / "charrnn/nn/cells", environment(CHARRNN_CACHE_DIR=str(tmp_path / "cache"))

    def asked() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-B", "-c", ASK], cwd=tmp_path, env=variables, capture_output=True, text=True,
        )  # fmt: skip
        assert not done.returncode, done.stderr
        return done.stdout.split()

    before = asked()
    text = (cells / "gru.py").read_text(encoding="utf-8")
    (cells / "other.py").write_text(text.replace('"gru"', '"other"'), encoding="utf-8")
    assert asked() == before
    (cells / "gru.py").write_text(text.replace("n + r * n_h", "n + z * n_h"), encoding="utf-8")
    folder, *names = asked()
    assert folder == before[0]
    assert not {*names} & {*before}
