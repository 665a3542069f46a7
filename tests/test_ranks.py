"""Several processes that MPI connects: the same bytes, one voice, and an end when one of them fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import mpirun
from support.environment import environment
from support.mpirun import needs_mpi
from support.processes import TEXT, TINY, run
from support.threaded_ranks import led

from charrnn.checkpoint import model_file
from charrnn.errors import TrainingError
from charrnn.nn import precision
from charrnn.ranks.launch import Launch, launched
from charrnn.ranks.mpi import threads_of

RUN = ("train", "text.txt", "-o", "m.safetensors", "--shards", 4, *TINY)
MANY = ("--steps", 1_000_000)  # more than there is time for
TOLD = (
    "PMI_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "SLURM_PROCID",
    "SLURM_STEP_NUM_TASKS",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def model(folder: Path) -> bytes:
    return (folder / "m.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"PMI_RANK": "1", "PMI_SIZE": "4"}, Launch(1, 4)),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"}, Launch(0, 1)),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3"}, Launch(2, 3)),
        ({"SLURM_PROCID": "0"}, None),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "PMI_RANK": "0", "PMI_SIZE": "1"}, None),
        ({"PMI_RANK": "4", "PMI_SIZE": "4"}, None),
        ({"PMI_RANK": "x", "PMI_SIZE": "4"}, None),
    ],
)
def test_a_launcher_is_known_by_what_it_sets(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: Launch | None
) -> None:
    for name in TOLD:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launched() == expected


@pytest.mark.parametrize(
    ("told", "threads"),
    [
        ([("a", range(8)), ("a", range(8))], [4, 4]),
        ([("a", range(4)), ("a", range(4, 8))], [4, 4]),
        ([("a", range(2)), ("b", range(8)), ("b", range(8)), ("b", range(8))], [2, 2, 2, 2]),
        ([("a", range(2))] * 5, [1] * 5),
    ],
)
def test_the_ranks_of_a_host_share_the_cpus_that_they_have_in_common(told: Any, threads: list[int]) -> None:
    known = [(host, frozenset(cpus)) for host, cpus in told]
    assert [threads_of(rank, known) for rank in range(len(known))] == threads


@pytest.mark.parametrize(
    ("abilities", "wanted", "expected"),
    [
        ([(True, True, False)] * 2, "auto", "auto"),
        ([(True, True, False), (True, True, True)], "auto", "float32"),
        ([(True, True, False), (False, False, False)], "auto", "float32"),
        ([(True, True, False), (False, False, False)], "float32", "float32"),
        ([(True, True, False), (True, False, False)], "bfloat16", "bfloat16"),
    ],
)
def test_all_ranks_use_what_each_of_them_has(
    monkeypatch: pytest.MonkeyPatch, abilities: list[Any], wanted: Any, expected: str
) -> None:
    left = list(abilities)
    monkeypatch.setattr(precision, "_abilities", lambda: left.pop())
    found, said = led(2, lambda ranks: precision.agreed(wanted, ranks))
    assert found == expected
    assert bool(said) == (found != wanted)


def test_a_precision_that_one_rank_lacks_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_abilities", lambda: (False, False, False))
    with pytest.raises(TrainingError, match="rank 0 has a CPU without bfloat16"):
        led(2, lambda ranks: precision.agreed("bfloat16", ranks))


@needs_mpi
def test_ranks_write_the_bytes_that_one_process_writes(folder: Path) -> None:
    steps = ("--steps", 30, "-q", "--force")
    assert run(*RUN, *steps, cwd=folder).returncode == 0
    alone = model(folder)
    for ranks in (1, 2, 4):
        found = mpirun.run(ranks, *RUN, *steps, cwd=folder)
        assert (found.returncode, found.stdout, found.stderr) == (0, b"", b"")
        assert model(folder) == alone
    assert sorted(path.name for path in folder.iterdir()) == ["m.safetensors", "text.txt"]


SHARES = """
from charrnn.counts.learning import divided
from charrnn.ranks import arrays

arrays.BLOCK, arrays.LEAST, divided.TOGETHER, divided.SAMPLE = 64, 128, 100, 50
from charrnn.cli import main
main()
"""


@needs_mpi
def test_another_network_is_the_same_on_two_ranks_that_share_the_text(folder: Path) -> None:
    options = ("--cell", "gru", "--dropout", 0.2, "--embedding-size", 0, "--lines", "--counts", 1)
    given = (*RUN, *options, "--steps", 12, "-q", "--force")
    assert run(*given, cwd=folder).returncode == 0
    alone = model(folder)
    assert mpirun.ended(mpirun.start(2, *given, cwd=folder, program=SHARES)) == (0, [])
    assert model(folder) == alone


@needs_mpi
def test_a_text_that_is_learned_from_a_model_has_the_same_counts_on_two_ranks(folder: Path) -> None:
    tales = (Path(__file__).parent.parent / "corpora" / "tales.txt").read_text("utf-8")
    (folder / "text.txt").write_text(tales[:12_000], "utf-8")
    first = ("train", "text.txt", "-o", "old.safetensors", *TINY, "--counts", 1, "--steps", 2, "-q")
    assert run(*first, cwd=folder).returncode == 0
    (folder / "text.txt").write_text(tales[12_000:15_000], "utf-8")
    given = ("train", "text.txt", "-o", "m.safetensors", "--init-from", "old.safetensors", "--shards", 4)
    given = (*given, "--counts", 1, "--steps", 4, "-q", "--force")
    assert run(*given, cwd=folder).returncode == 0
    alone = model(folder)
    counts = model_file.load(folder / "m.safetensors").counts
    assert counts is not None
    assert counts.counts.is_merged
    assert mpirun.ended(mpirun.start(2, *given, cwd=folder, program=SHARES)) == (0, [])
    assert model(folder) == alone


@needs_mpi
def test_shards_that_learn_apart_write_the_same_on_two_ranks(folder: Path) -> None:
    given = (*RUN, "--sync-every", 5, "--steps", 23, "-q", "--force")
    assert run(*given, cwd=folder).returncode == 0
    alone = model(folder)
    assert mpirun.run(2, *given, cwd=folder).returncode == 0
    assert model(folder) == alone


@needs_mpi
def test_ctrl_c_saves_and_another_number_of_ranks_goes_on_to_the_same_bytes(folder: Path) -> None:
    steps = ("--steps", 200)
    assert run(*RUN, *steps, "-q", cwd=folder).returncode == 0
    straight = model(folder)
    started = mpirun.start(3, *RUN, *steps, "--force", "--json", cwd=folder)
    assert started.stdout is not None
    assert "step" in started.stdout.readline()
    started.send_signal(signal.SIGINT)
    code, _ = mpirun.ended(started)
    assert code in (0, 1 if mpirun.is_open_mpi() else 130)  # it may have been done
    found = mpirun.run(2, *RUN, "--resume", "-q", cwd=folder)
    assert found.returncode == 0, found.stderr
    assert model(folder) == straight


@needs_mpi
@pytest.mark.parametrize(("rank", "who"), [(1, "worker"), (0, "launched")])
def test_all_ranks_end_with_one_line_when_one_is_killed(folder: Path, rank: int, who: str) -> None:
    started = mpirun.start(3, *RUN, "-o", folder / "m.safetensors", *MANY, cwd=folder)
    mpirun.wait_for_steps(started)
    pids = mpirun.processes(started.pid)
    os.kill(pids[rank][who == "worker"], signal.SIGKILL)
    code, said = mpirun.ended(started)
    assert code != 0
    (line,) = said
    assert f"rank {rank} on " in line
    assert line.endswith("--resume goes on from the last save")
    assert not mpirun.left_of(str(folder))


FAILS = """
import os, sys
from charrnn.nn.learning import sharded

def fails(self, *how):
    if self._ranks.rank == 1 and self.optimizer.steps == 3:
        raise MemoryError
    return step(self, *how)

step, sharded.ShardedLearner.step = sharded.ShardedLearner.step, fails
from charrnn.cli import main
main()
"""


@needs_mpi
def test_all_ranks_end_with_one_line_when_one_of_them_fails(folder: Path) -> None:
    code, said = mpirun.ended(mpirun.start(2, *RUN, *MANY, cwd=folder, program=FAILS))
    assert code != 0
    (line,) = said
    assert "rank 1 on " in line
    assert "out of memory" in line


@needs_mpi
def test_without_mpi4py_there_is_one_line_and_no_run(folder: Path) -> None:
    (folder / "mpi4py.py").write_text("raise ImportError('there is none')")
    found = mpirun.run(2, *RUN, "--steps", 3, cwd=folder, PYTHONPATH=f"{folder}:{os.environ['PYTHONPATH']}")
    said = [line for line in found.stderr.decode().splitlines() if line.startswith("charrnn: ")]
    assert found.returncode == 1
    (line,) = said
    assert "pip install 'charrnn[mpi]'" in line
    assert not (folder / "m.safetensors").exists()


@needs_mpi
@pytest.mark.parametrize(
    ("options", "what"),
    [(("--shards", 1), "there are 2 ranks for 1 shard"), (("--cell", "esn"), "--cell esn learns from whole")],
)
def test_what_ranks_cannot_share_is_refused_once(folder: Path, options: Any, what: str) -> None:
    found = mpirun.run(2, *RUN[:4], *options, "--steps", 3, cwd=folder)
    first, _ = (line for line in found.stderr.decode().splitlines() if "charrnn" in line)
    assert found.returncode == 2
    assert first.startswith(f"charrnn: error: {what}")


@needs_mpi
def test_lines_and_losses_are_those_of_one_process(tmp_path: Path) -> None:
    text = "".join(f"Town {n}\nVille-{n % 7}\n\n" for n in range(100)) + "a" * 3000
    (tmp_path / "lines.txt").write_text(text)
    for words in (
        ("score", "-m", "places", "-"),
        ("eval", "-m", "places", "--on-unknown", "skip", "--json", "-"),
    ):
        alone, both = run(*words, stdin=text.encode()), mpirun.run(2, *words, stdin=text.encode())
        assert (both.returncode, both.stdout) == (0, alone.stdout)
        assert both.stderr == alone.stderr


@needs_mpi
def test_help_is_said_once() -> None:
    assert mpirun.run(2, "train", "--help").stdout == run("train", "--help").stdout


def test_a_command_that_no_launcher_has_started_imports_nothing_of_mpi() -> None:
    listed = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "charrnn", "train", "--help"],
        capture_output=True, text=True, env=environment(), timeout=mpirun.TIMEOUT,
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in listed.stderr.splitlines()}
    assert "charrnn.ranks.launch" in imported
    assert not imported & {
        "mpi4py",
        "numpy",
        "charrnn.ranks.mpi",
        "charrnn.ranks.ranks",
        "charrnn.ranks.shepherd",
    }
