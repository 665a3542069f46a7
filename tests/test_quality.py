"""The benchmark of quality: its texts, its recipes, its tables, and a run from end to end."""

from __future__ import annotations

import argparse
import gettext
import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "bench"))  # where its scripts find each other
learned, learning, measure, ours, quality, recipes, texts = (
    importlib.import_module(name)
    for name in ("learned", "learning", "measure", "ours", "quality", "recipes", "texts")
)
TALES = ROOT / "corpora" / "tales.txt"


def finished(recipe: str, loss: float | None, *, side: str = "charrnn", seed: int = 1, **values: Any) -> Any:
    """A run on the same text."""
    text = {"name": "tales", "lines": False, "characters": 9, "sha256": "abc"}
    budget = values.pop("budget", {"minutes": 3.0})
    return learned.Run(text, side, recipe, [], budget, seed, loss=loss, **values)


# --- texts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "name", "source", "lines", "first", "shown"),
    [
        ("/home/me/a.txt", "a", "/home/me/a.txt", False, None, "a.txt"),
        ("n=names.txt:lines", "n", "names.txt", True, None, "n=names.txt:lines"),
        ("t=/x/a.txt:first=20:lines", "t", "/x/a.txt", True, 20, "t=a.txt:first=20:lines"),
        (r"C:\texts\a.txt:first=7", r"C:\texts\a", r"C:\texts\a.txt", False, 7, None),
        ("stdlib", "stdlib", "stdlib", False, None, "stdlib"),
    ],
)
def test_a_text_is_named_as_the_readme_says(spec, name, source, lines, first, shown):
    parsed = texts.parse(spec)
    assert (parsed.source, parsed.lines, parsed.first) == (source, lines, first)
    if shown is not None:
        assert parsed.name == name
        assert str(parsed) == shown  # without this machine's folders


def test_a_text_may_be_judged_by_the_tenth_before_the_last(tmp_path: Path):
    whole = TALES.read_text()[:3001]
    text = texts.find(f"again={TALES}:first=3001:earlier", tmp_path)
    assert text.path.read_text() == whole[:2701]
    held_out = text.path.read_text()[-round(text.held_out * 2701) :]
    assert held_out == whole[2401:2701]
    with pytest.raises(measure.Unavailable, match="lines are held out by the seed"):
        texts.find(f"{TALES}:lines:earlier", tmp_path)


def test_a_text_is_cut_and_copied(tmp_path: Path):
    text = texts.find(f"tiny={TALES}:first=2000", tmp_path)
    assert (text.name, text.lines, text.characters) == ("tiny", False, 2000)
    assert text.path.read_text() == TALES.read_text()[:2000]


@pytest.mark.parametrize("spec", ["no-such-file.txt", f"{TALES}:first=0", f"{TALES}:lnes", "gettext-xx"])
def test_a_text_that_is_not_there_is_named(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(texts, "LOCALES", ())
    with pytest.raises(measure.Unavailable):
        texts.find(spec, tmp_path)


def test_the_library_is_cut_in_an_order_that_does_not_depend_on_the_file_system(tmp_path: Path):
    for folder, names in (("one", "abcdef"), ("two", "fcbdae")):
        for name in names:
            path = tmp_path / folder / name / f"{name}.py"
            path.parent.mkdir(parents=True)
            path.write_text(name * 10)
        for left_out in ("test/t.py", "site-packages/s.py", "_sysconfigdata_x.py"):
            path = tmp_path / folder / left_out
            path.parent.mkdir(exist_ok=True)
            path.write_text("?" * 10)
    one, two = (texts.stdlib(tmp_path / folder, 35) for folder in ("one", "two"))
    assert one == two
    assert len(one) == 35
    assert "?" not in texts.stdlib(tmp_path / "one", 10**6)
    assert len(texts.stdlib(tmp_path / "one", 10**6)) == 60


def catalogue(messages: dict[str, str]) -> bytes:
    """A .mo file, as the GNU gettext manual describes it."""
    import struct

    items = sorted((key.encode() + b"\0", value.encode() + b"\0") for key, value in messages.items())
    start = 28 + 16 * len(items)
    table, body = [b"", b""], b""
    for column in (0, 1):
        for item in items:
            table[column] += struct.pack("<II", len(item[column]) - 1, start + len(body))
            body += item[column]
    header = struct.pack("<7I", 0x950412DE, 0, len(items), 28, 28 + 8 * len(items), 0, start)
    return header + b"".join(table) + body


def test_translations_are_those_in_the_other_script_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    head = {"": "Content-Type: text/plain; charset=UTF-8\n"}
    for folder in ("ru/LC_MESSAGES", "vim90/lang/ru/LC_MESSAGES"):
        path = tmp_path / folder / "a.mo"
        path.parent.mkdir(parents=True)
        path.write_bytes(catalogue(head | {"no": "нет такого файла", "usage": "--help", "yes": "да"}))
    with (tmp_path / "ru/LC_MESSAGES/a.mo").open("rb") as file:
        assert gettext.GNUTranslations(file).gettext("yes") == "да"
    (tmp_path / "ru/LC_MESSAGES/damaged.mo").write_bytes(b"\xde\x12\x04\x95nothing")
    with pytest.raises(measure.Unavailable, match="only 22 characters"):
        texts.translations([tmp_path], "ru")
    monkeypatch.setattr(texts, "LEAST_TRANSLATED", 10)
    assert texts.translations([tmp_path], "ru") == "нет такого файла\n\nда\n\n"


def test_the_split_is_that_of_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "a.txt"
    text = "".join(f"line {n}\n" for n in range(100))
    path.write_text(text)

    def parts(lines: bool) -> tuple[str, str]:
        ours.run_split(argparse.Namespace(corpus=path, out=tmp_path, lines=lines, val_fraction=0.1, seed=7))
        train, validation = ((tmp_path / f"{name}.txt").read_text() for name in ("train", "validation"))
        said = json.loads(capsys.readouterr().out)
        assert said == {"characters": [len(train), len(validation)]}
        return train, validation

    assert parts(lines=False) == (text[:711], text[711:])
    train, validation = (part.splitlines() for part in parts(lines=True))
    assert len(validation) == 10
    assert sorted(train + validation) == sorted(text.splitlines())
    for lines in (train, validation):  # in no order that would tell the next line
        assert lines != sorted(lines, key=text.index)


# --- recipes ---------------------------------------------------------------------------------------


def test_a_recipe_is_a_name_and_options():
    recipe = recipes.parse("wide net: --hidden-size 512 --norm", "charrnn")
    assert (recipe.name, recipe.options) == ("wide net", ("--hidden-size", "512", "--norm"))
    assert recipe.has("--steps", "--hidden-size")
    assert not recipe.has("--minutes")
    assert recipes.parse("x: --minutes=3", "charrnn").has("--minutes")
    assert recipes.parse("default:", "charrnn").options == ()


@pytest.mark.parametrize("text", ["--hidden-size 3", ": --lr 1", "a: --seed 3", "a: -o x", "a: --json"])
def test_what_all_recipes_share_is_no_part_of_one(text: str):
    with pytest.raises(recipes.RecipeError):
        recipes.parse(text, "charrnn")


def test_pytorch_is_regularised_by_how_often_it_reads_the_text():
    """At the speeds that were measured: one, three and ten minutes of a megabyte, and a tiny text."""
    found = [recipes.regularised(passes)[1] for passes in (4.5, 13, 45, 1000)]
    assert found == ["0.05", "0.2", "0.3", "0.5"]


# --- what is shown ---------------------------------------------------------------------------------


def test_the_table_has_medians_over_seeds_and_the_difference_of_the_best():
    runs = [finished("wide", loss, seed=seed) for seed, loss in enumerate((1.40, 1.42, 1.41))]
    runs += [finished("deep", 1.5), finished("PyTorch", 1.431, side="PyTorch"), finished("failed", None)]
    table = learned.final(runs)
    cells = dict(zip(table.header, table.rows[0], strict=True))
    assert cells["nats a character"] == "tales, 3 minutes"
    assert cells["wide"] == "1.410 (1.400 to 1.420)"
    assert cells["deep"] == "1.500"
    assert cells["failed"] == "–"
    assert cells["best : best"] == "-0.021"
    assert "seeds 0, 1, 2" in table.note


def test_a_command_that_took_longer_than_its_minutes_is_named():
    runs = [finished("a", 1.0, seconds=179.0), finished("b", 1.0, side="PyTorch", seconds=182.5)]
    assert learned.final(runs).note == "PyTorch's commands took up to 2.5 s more than their minutes."


def test_loss_over_time_is_the_best_so_far():
    points = [(20.0, 10, 3.0, 2.5), (60.0, 20, 2.0, 1.5), (100.0, 30, 1.0, 1.8), (181.0, 40, 1.0, 1.4)]
    run = finished("a", 1.4, points=points)
    assert [run.until(share) for share in learned.MOMENTS] == [2.5, 2.5, 1.5, 1.5, 1.4]
    steps = finished("a", 1.4, points=points, budget={"steps": 40})
    assert [steps.until(share) for share in (0.25, 0.5, 1.0)] == [2.5, 1.5, 1.4]
    (table,) = learned.over_time([run])
    assert table.header == ("tales, 3 minutes", "a")
    assert table.rows[2] == ("90 s", "1.500")


def test_runs_are_the_same_by_text_recipe_budget_and_seed():
    keys = {
        finished("a", 1.0).key,
        finished("a", 2.0, seconds=3.0).key,  # what came of it does not matter
    }
    others = {
        finished("b", 1.0).key,
        finished("a", 1.0, seed=2).key,
        finished("a", 1.0, budget={"steps": 3}).key,
    }
    assert len(keys) == 1
    assert len(keys | others) == 4


def test_the_command_names_no_path_of_this_machine():
    options = ["--torch-python", "/home/me/python", "--json", "/tmp/q", "--minutes", "1,3"]
    a = quality._parser().parse_args(["x=/home/me/a.txt:lines", *options, "--recipe", "w: --hidden-size 512"])
    told = "--minutes 1,3 --recipe 'w: --hidden-size 512' --torch-python PATH"
    assert quality.command(a) == f"python bench/quality.py x=a.txt:lines {told}"


# --- from end to end -------------------------------------------------------------------------------


class Nothing:
    """A learner that ends the session before it learns."""

    torch, versions = "", {}  # type: ignore[var-annotated]

    def __init__(self, *_: Any) -> None: ...

    def look(self) -> None: ...

    def learn(self, *_: Any) -> None:
        sys.exit(1)


TINY = "tiny: --hidden-size 8 --num-layers 1 --batch-size 4 --seq-len 16"


def measured(*arguments: object) -> None:
    quality.main([*map(str, arguments)])


@pytest.mark.process
def test_an_interrupted_session_goes_on_where_it_was_and_the_readme_gets_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file, readme = tmp_path / "q.json", tmp_path / "README.md"
    readme.write_text("# Title\n\n<!-- quality -->\n<!-- /quality -->\n", encoding="utf-8")
    spec = f"tiny={TALES}:first=3000"
    alone = ["--no-torch", "--no-counting"]
    session = [spec, "--steps", 3, "--recipe", TINY, *alone, "--cached", "--json", file, "--read", file]
    measured(*session)
    (first,) = json.loads(file.read_text())["runs"]
    assert first["error"] == ""
    assert first["steps"] == 3
    assert first["chosen"]["hidden_size"] == 8
    assert [point[1] for point in first["points"]] == [1, 2, 3]
    assert min(point[3] for point in first["points"]) == pytest.approx(first["loss"])
    capsys.readouterr()
    measured(*session, "--seeds", "1,2", "--write", "--page", readme)
    runs = json.loads(file.read_text())["runs"]
    assert [run["seed"] for run in runs] == [1, 2]
    assert runs[0] == first  # not measured again
    shown = capsys.readouterr()
    assert "seed 1" not in shown.err
    assert "tiny, 3 steps" in shown.out
    page = readme.read_text(encoding="utf-8")
    assert "\npython bench/quality.py tiny=tales.txt:first=3000 --steps 3" in page
    assert "| tiny, 3 steps | " in page


@pytest.mark.process
def test_a_recipe_that_fails_is_named_and_the_session_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "q.json"
    measured(
        f"tiny={TALES}:first=3000", "--steps", 2, "--recipe", "broken: --hidden-size 0", "--recipe", TINY,
        "--no-torch", "--no-counting", "--cached", "--json", file,
    )  # fmt: skip
    broken, good = json.loads(file.read_text())["runs"]
    assert broken["loss"] is None
    assert "hidden-size is 0" in broken["error"]
    assert good["loss"] is not None
    assert "broken" in capsys.readouterr().err


@pytest.mark.process
@pytest.mark.parametrize("lines", ["", ":lines"])
def test_counts_alone_and_ppmd_stand_beside_what_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lines: str
):
    def sizes(data: bytes, order: int) -> int:
        return len(data) // (2 if order == 5 else 1)

    file = tmp_path / "q.json"
    monkeypatch.setattr(learning, "ppmd", sizes)  # half of the bytes: four bits each
    monkeypatch.setattr(quality, "seven_zip", lambda: "7z")
    measured(
        f"tiny={TALES}:first=3000{lines}", "--steps", 2, "--recipe", TINY, "--no-torch", "--cached",
        "--json", file,
    )  # fmt: skip
    network, counts, ppmd = json.loads(file.read_text())["runs"]
    assert [run["side"] for run in (network, counts, ppmd)] == ["charrnn", "Kneser-Ney", "PPMd"]
    assert 1.5 < counts["loss"] < network["loss"]
    assert ppmd["loss"] == pytest.approx(4 * math.log(2), rel=0.02)
    assert "Kneser-Ney" in capsys.readouterr().out.splitlines()[1]


def test_ppmd_is_left_out_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(quality, "seven_zip", lambda: None)
    monkeypatch.setattr(quality, "Learner", Nothing)
    with pytest.raises(SystemExit):
        measured(TALES, "--no-torch", "--json", tmp_path / "q.json")
    assert "without PPMd: no 7-Zip" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name texts to learn"),
        (("a.txt", "--recipe", "a:", "--recipe", "a: --lr 1"), "same name"),
        (("a.txt", "--recipe", "a: --seed 3"), "--seed is the same for all recipes"),
        (("--read", "no-such.json"), "no-such.json"),
        (("--write", "--page", str(ROOT / "LICENSE")), "the page needs <!-- quality -->"),
    ],
)
def test_what_cannot_be_measured_is_said_at_once(arguments: tuple[str, ...], said: str):
    with pytest.raises(SystemExit, match=said):
        measured(*arguments)
