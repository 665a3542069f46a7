"""The command line's drawings, its advice and its dynamic evaluation, in real processes."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.calls import call
from support.environment import environment
from support.model_files import write_model
from support.processes import TEXT, TINY, command, posix


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("losses")
    (folder / "corpus.txt").write_text(TEXT)
    write_model(folder / "prose.safetensors")
    return folder


def words(path: Path) -> list[str | None]:
    """The texts in a drawing."""
    return [element.text for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def test_training_draws_its_losses_and_says_how_to_do_better(folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "new" / "loss.svg"
    args = ("--steps", 12, "--dropout", 0.1, "--counts", 0, *TINY, "-o", tmp_path / "m.safetensors")
    result = call("train", folder / "corpus.txt", *args, "--plot", picture)
    assert (result.returncode, result.stdout) == (0, b"")
    assert {"corpus", "training (dropout 0.1)", "validation"} <= set(words(picture))
    assert any(re.fullmatch(r"best \d\.\d{4} at epoch [\d.]+", word or "") for word in words(picture))
    assert "it could learn more" in result.stderr.decode()
    assert "Try --steps 24 or" in result.stderr.decode()


@pytest.mark.parametrize(
    ("name", "said", "code"),
    [
        ("loss.jpg", "ends in .svg or .png", 2),
        (".", "", 2),
        ("file/loss.svg", "file/loss.svg cannot be written: Not a directory: ", 1),
        (f"{'x' * 252}.svg", "cannot be written: File name too long: write elsewhere with --plot", 1),
    ],
)
def test_where_nothing_can_be_drawn_nothing_is_trained(
    folder: Path, tmp_path: Path, name: str, said: str, code: int
) -> None:
    (tmp_path / "file").touch()
    model = tmp_path / "m.safetensors"
    words = ("train", folder / "corpus.txt", "--steps", 1, *TINY, "-o", model, "--plot", name)
    result = call(*words, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (code, b"")
    assert said in result.stderr.decode()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@posix
def test_a_drawing_replaces_nothing_that_training_reads_or_writes(folder: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "texts" / "corpus.svg"
    corpus.parent.mkdir()
    corpus.write_text(TEXT)
    (tmp_path / "link.svg").symlink_to(corpus)
    (tmp_path / "later.svg").symlink_to("m.safetensors")
    (tmp_path / "resume.svg").symlink_to("m.resume.safetensors")
    before = sorted(tmp_path.iterdir())
    for out, plot, what in (
        ("x.svg", "x.svg", "the model file"),
        ("x.svg", "texts/../x.svg", "the model file"),
        ("m.safetensors", "later.svg", "the model file"),
        ("m.safetensors", "resume.svg", "the file that --resume needs"),
        ("m.safetensors", "link.svg", "a file of the corpus"),
    ):
        result = call("train", "texts", "--steps", 1, *TINY, "-o", out, "--plot", plot, cwd=tmp_path)
        assert (result.returncode, result.stdout) == (2, b"")
        said = result.stderr.decode().splitlines()[0]
        assert said.startswith(f"charrnn: error: {plot} is {what}, which would be lost: ")
        assert said.endswith("--plot")
    assert sorted(tmp_path.iterdir()) == before
    assert corpus.read_text() == TEXT


def test_info_does_not_draw_over_the_model(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.svg"
    model.write_bytes((folder / "prose.safetensors").read_bytes())
    result = call("info", model, "--plot", model)
    assert (result.returncode, result.stdout) == (2, b"")
    assert b"m.svg is the model, which would be lost" in result.stderr
    assert call("info", model).returncode == 0


@posix
def test_a_drawing_that_cannot_be_written_any_more_costs_no_model(folder: Path, tmp_path: Path) -> None:
    model, pictures = tmp_path / "m.safetensors", tmp_path / "pictures"
    pictures.mkdir()
    args = ("--epochs", 40, *TINY, "-o", model, "--json", "--plot", pictures / "loss.svg")
    with subprocess.Popen(
        command("train", folder / "corpus.txt", *args),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        pictures.rmdir()
        pictures.touch()
        _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    last = said.decode().splitlines()[-1]
    assert last.startswith(f"charrnn: error: {pictures / 'loss.svg'} cannot be written: Not a directory: ")
    assert call("info", model).returncode == 0


def test_info_draws_any_model(folder: Path, tmp_path: Path) -> None:
    result = call("info", folder / "prose.safetensors", "--plot", tmp_path / "a.svg")
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout == call("info", folder / "prose.safetensors").stdout
    assert {"prose", "best 2.7500 at epoch 1.0", "training", "validation"} <= set(words(tmp_path / "a.svg"))


def test_without_validation_the_second_curve_is_the_training_text(folder: Path, tmp_path: Path) -> None:
    args = ("--steps", 4, *TINY[:-4], "--val-fraction", 0, "--threads", 1, "-o", tmp_path / "m.safetensors")
    assert call("train", folder / "corpus.txt", *args, "--plot", tmp_path / "a.svg").returncode == 0
    assert call("info", tmp_path / "m.safetensors", "--plot", tmp_path / "b.svg").returncode == 0
    assert "training text" in words(tmp_path / "a.svg")
    assert "training text" in words(tmp_path / "b.svg")


def test_dynamic_evaluation_is_a_figure_of_its_own(folder: Path) -> None:
    args = ("eval", folder / "prose.safetensors", folder / "corpus.txt")
    static = json.loads(call(*args, "--json").stdout)
    both = json.loads(call(*args, "--dynamic", "--json").stdout)
    assert list(both) == [*static, "dynamic_loss", "dynamic_bpc"]
    assert {name: both[name] for name in static} == static
    assert both["dynamic_loss"] < static["loss"]  # the same sentence forty times
    first, second = call(*args, "--dynamic").stdout.decode().splitlines()
    assert first.startswith(f"loss {static['loss']:.4f} nats/char")
    assert second == (
        f"dynamic loss {both['dynamic_loss']:.4f} nats/char, {both['dynamic_bpc']:.4f} bits/char"
    )
    faster = json.loads(call(*args, "--dynamic", "--rate", 0.002, "--segment", 10, "--json").stdout)
    assert faster["dynamic_loss"] < both["dynamic_loss"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rate", 0.1), "--rate is an option of --dynamic"),
        (("--dynamic", "--segment", 0), "segment is 0: give a whole number from 1"),
        (("--dynamic", "--decay", 2), "decay is 2.0: give a number from 0 to 1"),
        (("--dynamic", "--rate", "nan"), "rate is nan"),
    ],
)
def test_wrong_settings_of_dynamic_evaluation_are_named(
    folder: Path, options: tuple[object, ...], said: str
) -> None:
    result = call("eval", folder / "prose.safetensors", folder / "corpus.txt", *options)
    assert (result.returncode, result.stdout) == (2, b"")
    assert said in result.stderr.decode()


def on_terminal(rows: int, columns: int, *args: object, cwd: Path) -> tuple[int, str]:
    """The exit code, and what a terminal of this size is sent."""
    import fcntl
    import os
    import pty
    import struct
    import subprocess
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    variables = environment(TERM="xterm", PYTHONIOENCODING="utf-8")
    with subprocess.Popen(command(*args), stderr=theirs, env=variables, cwd=cwd) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # the other side has gone
            pass
        os.close(ours)
        return process.wait(60), shown.decode()


@posix
@pytest.mark.parametrize(("rows", "columns"), [(40, 100), (24, 80), (12, 60), (5, 30)])
def test_the_live_view_draws_what_the_terminal_has_room_for(
    folder: Path, tmp_path: Path, rows: int, columns: int
) -> None:
    args = ("train", folder / "corpus.txt", "--steps", 30, *TINY, "-o", "m.safetensors")
    code, text = on_terminal(rows, columns, *args, cwd=tmp_path)
    assert code == 0
    assert bool(re.search(r"[\u2801-\u28ff]", text)) == (rows >= 24)
    assert "validation" in text
    assert "write with it" in text
    assert re.findall(r"step (\d+)  epoch", text)[-1] == "30" or rows < 12
    words = text[text.rindex("done after") :].partition("write with it")[0].splitlines()
    assert all(len(line) <= columns for line in words)
    assert "parameters in m.safetensors" in " ".join(words)


@posix
@pytest.mark.parametrize("columns", [30, 90])
def test_an_error_breaks_between_words(tmp_path: Path, columns: int) -> None:
    path = tmp_path / "no-such-text-with-a-name-of-some-length.txt"
    said = call("info", path).stderr.decode()
    code, text = on_terminal(24, columns, "info", path, cwd=tmp_path)
    assert code == 1
    assert text.split() == said.split()
    assert all(len(line) <= columns or " " not in line for line in text.splitlines())
