"""The models that there are, by name: which one is meant, which is the newest, and what is said of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support import model_files
from support.calls import call

from charrnn import api
from charrnn.checkpoint import library as module
from charrnn.checkpoint.library import bundled, find, models, names, newest
from charrnn.checkpoint.model_file import save
from charrnn.errors import CheckpointError


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three folders with models, of which a is in all, and each is newer than those before."""
    found = [tmp_path / "here" / "checkpoints", tmp_path / "shared", tmp_path / "data" / "charrnn" / "models"]
    monkeypatch.setenv("CHARRNN_MODELS", os.pathsep.join([str(tmp_path / "gone"), str(found[1])]))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr("platformdirs.user_data_path", lambda name, appauthor: tmp_path / "data" / name)
    for folder, own in zip(found, "bcd", strict=True):
        folder.mkdir(parents=True)
        for name in ("a", own):
            path = folder / f"{name}.safetensors"
            save(model_files.checkpoint(), path)
            when = 1000 + ord(own) + ord(name)
            os.utime(path, (when, when))
    monkeypatch.chdir(tmp_path / "here")
    return found


# --- which there are ---------------------------------------------------------------------------------


def test_the_newest_come_first_each_name_once_and_those_of_the_program_last(folders: list[Path]) -> None:
    assert names() == ["d", "c", "b", "a", "english", "places"]
    assert [path.parent for path in models()[:4]] == [
        folders[2],
        folders[1],
        Path("checkpoints"),
        Path("checkpoints"),
    ]


def test_newest_is_the_model_written_last(tmp_path: Path) -> None:
    written = {
        "old.safetensors": 1000,
        "new.safetensors": 1001,
        "new.resume.safetensors": 2000,
        ".new.safetensors": 2000,
        ".x.safetensors.tmp": 2000,
        "notes.txt": 2000,
    }
    for name, when in written.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (when, when))
    (tmp_path / "folder.safetensors").mkdir()
    assert newest(tmp_path) == tmp_path / "new.safetensors"
    os.utime(tmp_path / "old.safetensors", (1500, 1500))
    assert newest(str(tmp_path)) == tmp_path / "old.safetensors"


def test_newest_is_none_where_there_is_no_model(tmp_path: Path) -> None:
    assert newest(tmp_path / "missing") is None
    assert newest(tmp_path) is None
    (tmp_path / "m.resume.safetensors").touch()
    assert newest(tmp_path) is None
    (tmp_path / "file").touch()
    assert newest(tmp_path / "file") is None


def test_the_bundled_model_is_found_in_the_package_then_in_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "charrnn" / "checkpoint" / "library.py"))
    assert bundled("places") is None
    checkout = tmp_path / "checkpoints" / "places.safetensors"
    checkout.parent.mkdir()
    checkout.touch()
    assert bundled("places") == checkout
    installed = tmp_path / "charrnn" / "bundled" / "places.safetensors"
    installed.parent.mkdir(parents=True)
    installed.touch()
    assert bundled("places") == installed


def test_a_model_that_comes_with_the_program_is_not_the_newest_wherever_it_lies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = bundled("english")
    assert path is not None
    assert newest(path.parent) is None or newest(path.parent) not in (path, bundled("places"))


# --- which one is meant ------------------------------------------------------------------------------


def test_a_name_means_the_model_of_the_first_folder_that_has_it(folders: list[Path]) -> None:
    assert find("a") == Path("checkpoints/a.safetensors")
    assert find("c") == folders[1] / "c.safetensors"
    assert find("d") == folders[2] / "d.safetensors"
    assert find("places") == bundled("places")
    assert api.load("c").config == model_files.checkpoint().config


@pytest.mark.parametrize("path", ["x.safetensors", "folder/x", "checkpoints/a.safetensors", "there"])
def test_what_is_a_path_is_taken_as_it_is(path: str, folders: list[Path]) -> None:
    Path("there").mkdir()
    assert find(path) == Path(path)
    assert find(Path("a")) == Path("a")


def test_a_name_that_no_model_has_is_told_beside_those_like_it(folders: list[Path]) -> None:
    with pytest.raises(CheckpointError, match="no model 'plces', and no such file: did you mean places"):
        find("plces")
    with pytest.raises(CheckpointError, match="charrnn models lists those that there are"):
        find("q")
    with pytest.raises(CheckpointError):
        api.load("\ud800")


# --- the command -------------------------------------------------------------------------------------


def test_the_command_lists_them(folders: list[Path]) -> None:
    (folders[0] / "damaged.safetensors").write_bytes(b"nothing")
    done = call("models")
    header, *rows = done.stdout.decode().splitlines()
    assert header.split() == ["model", "kind", "size", "loss", "text", "file"]
    assert [row.split()[0] for row in rows] == names()[1:]
    file = str(folders[2] / "d.safetensors")
    assert rows[0].split() == ["d", "writer", "0.0", "MB", "1.5000", "3", "characters", file]
    assert "note: checkpoints/damaged.safetensors is not a model file" in done.stderr.decode()
    listed = [json.loads(line) for line in call("models", "--json").stdout.splitlines()]
    assert [one["name"] for one in listed] == names()[1:]
    assert listed[3]["path"] == "checkpoints/a.safetensors"
    assert listed[3]["bytes"] == (folders[0] / "a.safetensors").stat().st_size
    assert listed[3]["best_val_loss"] == 1.5


def test_every_command_takes_a_name(folders: list[Path]) -> None:
    Path("t.txt").write_text("ab\n")
    assert call("sample", "-m", "c", "-n", "5").returncode == 0
    assert call("sample", "-m", "c:2", "-m", "d", "-n", "5").returncode == 0
    same = [
        call("info", *words).stdout for words in (("d",), ("-m", "d"), (str(folders[2] / "d.safetensors"),))
    ]
    assert same[0] == same[1] == same[2]
    assert call("info").stdout == call("info", "b").stdout  # the newest in checkpoints/
    figures = [call("eval", *words).stdout for words in (("b", "t.txt"), ("-m", "b", "t.txt"))]
    assert figures[0] == figures[1] != b""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("info", "a", "-m", "a"), "the model is given twice"),
        (("eval", "a"), "CORPUS... is missing"),
        (("eval",), "CORPUS... is missing"),
        (("eval", "-m", "a"), "CORPUS... is missing"),
    ],
)
def test_what_is_missing_or_too_much_is_told(words: tuple[str, ...], said: str, folders: list[Path]) -> None:
    done = call(*words)
    assert (done.returncode, done.stdout) == (2, b"")
    assert said in done.stderr.decode()


def test_the_shell_completes_names(folders: list[Path]) -> None:
    from charrnn.cli.options import model_names

    assert model_names("") == names()
    assert model_names("pl") == ["places"]
