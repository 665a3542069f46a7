"""The benchmark's pure parts: what it counts, how it takes turns, what it shows. Nothing here is timed."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import charrnn
from charrnn.config import ModelConfig, TrainConfig
from charrnn.nn.cells import learning
from charrnn.text.reading import read
from charrnn.text.validation import split

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "bench"))  # where its scripts find each other
machine, measure, networks, odd_lines, ours, precision, report, sections, speed, tables = (
    importlib.import_module(name)
    for name in (
        "machine", "measure", "networks", "odd_lines", "ours", "precision", "report", "sections", "speed",
        "tables",
    )
)  # fmt: skip
MARKED = "# Title\n\n<!-- speed -->\nold | table\n<!-- /speed -->\n\nThe rest.\n"


def comparison(what: str, flops: int = 0, **values: list[float]) -> Any:
    """Sides by the names of `sections`: CHARRNN=[...], TORCH=[...]."""
    return measure.Comparison(
        what, "characters/s", {getattr(sections, name): v for name, v in values.items()}, flops=flops
    )


# --- what is counted -------------------------------------------------------------------------------


def test_flops_of_the_example_in_the_docstring():
    assert networks.flops_per_character("lstm", 2, 128, 65) == 1_229_568
    assert "1,229,568" in networks.flops_per_character.__doc__


@pytest.mark.parametrize("cell", learning())
@pytest.mark.parametrize("layers", [1, 2, 5])
def test_flops_are_six_for_each_weight_but_those_of_the_first_look_up(cell: Any, layers: int):
    config = ModelConfig(31, cell=cell, hidden_size=24, num_layers=layers, embedding_size=24, norm=False)
    weights = sum(
        shape[0] * shape[1]
        for name, shape in config.parameter_shapes().items()
        if len(shape) == 2 and name not in ("embedding.weight", "rnn.weight_ih_l0")
    )
    assert networks.flops_per_character(cell, layers, 24, 31) == 6 * weights


def test_the_share_is_of_the_best_product_in_any_row():
    quiet = comparison("a", 10, CHARRNN=[4e9, 5e9, 9e9], PEAK_NUMPY=[90.0, 80.0], PEAK_TORCH=[100.0])
    busy = comparison("b", 10, CHARRNN=[5e9], PEAK_NUMPY=[20.0], PEAK_BF16=[900.0])
    peak = tables.peak([quiet, busy])
    assert peak == 100.0  # bfloat16 is not float32
    assert tables.share_of_peak(quiet, peak) == pytest.approx(0.5)
    assert tables.share_of_peak(busy, peak) == pytest.approx(0.5)
    assert tables.share_of_peak(busy, None) is None


def test_the_synthetic_text_has_the_characters_that_are_asked_for(tmp_path: Path):
    for size in (65, 4096):
        assert len(set(ours.alphabet(size))) == size
    path = tmp_path / "text.txt"
    for lines in (False, True):
        ours.run_text(argparse.Namespace(out=path, characters=10_000, vocabulary=65, lines=lines))
        text = path.read_bytes()
        assert len(text) == 10_000  # a byte each
        assert len(set(text)) == 65
        assert (b"\n" in text) == lines


# --- taking turns ----------------------------------------------------------------------------------


@pytest.fixture
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SETTLE", 0.0)


@pytest.mark.usefixtures("_no_pauses")
def test_sides_take_turns():
    calls: list[str] = []

    def side(name: str) -> Callable[[], float]:
        return lambda: calls.append(name) or float(len(calls))

    result = measure.compare("what", "unit", {"a": side("a"), "b": side("b")}, rounds=3)
    assert "".join(calls) == "ababab"
    assert result.values == {"a": [1.0, 3.0, 5.0], "b": [2.0, 4.0, 6.0]}


@pytest.mark.usefixtures("_no_pauses")
def test_a_side_that_fails_is_named_and_left_out_of_all_rounds():
    outcomes: Iterator[float] = iter([1.0])

    def fails() -> float:
        for value in outcomes:
            return value
        raise measure.Unavailable("it broke")

    result = measure.compare("what", "unit", {"good": lambda: 2.0, "bad": fails}, rounds=3)
    assert result.values == {"good": [2.0] * 3}
    assert result.missing == {"bad": "it broke"}
    assert result.value("bad") is None
    assert result.ratio("good", "bad") is None


def test_a_ratio_is_taken_within_each_round():
    row = measure.Comparison("what", "unit", {"a": [2.0, 20.0, 9.0], "b": [1.0, 10.0, 3.0]})
    assert row.ratio("a", "b") == 2.0  # 9 : 3 would be the ratio of the medians


def test_a_worker_measures_when_it_is_told_to(tmp_path: Path):
    script = tmp_path / "worker.py"
    script.write_text(
        "from serve import serve\nprint('noise of a library')\nserve(lambda s: 2 * s, size=7)\n"
    )
    environment = {"PYTHONPATH": str(ROOT / "bench")}
    with measure.Worker([sys.executable, str(script)], environment) as worker:
        assert worker.facts["size"] == 7
        assert [worker(0.5), worker(4.0)] == [1.0, 8.0]


def test_a_worker_that_cannot_start_says_why(tmp_path: Path):
    script = tmp_path / "worker.py"
    script.write_text("raise SystemExit('no such thing here')\n")
    with pytest.raises(measure.Unavailable, match="no such thing here"):
        measure.Worker([sys.executable, str(script)], {})


def test_an_interpreter_that_is_not_there_is_unavailable(tmp_path: Path):
    with pytest.raises(measure.Unavailable, match="no-python"):
        measure.facts([str(tmp_path / "no-python"), "peer_torch.py"], {})


# --- what is shown ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"), (0, "0"), (123_456, "123,000"), (999_900, "1,000,000"), (1234, "1,230"),
        (41.04, "41.0"), (1.0, "1.00"), (0.07123, "0.0712"),
    ],
)  # fmt: skip
def test_numbers_have_three_significant_digits(value: float | None, shown: str):
    assert report.number(value) == shown


def test_a_plain_table_has_straight_columns():
    table = report.Table(("what", "speed"), (("a", "1,230"), ("longer name", "4")), "A note.")
    assert table.plain().splitlines() == [
        "what         speed",
        "-----------  -----",
        "a            1,230",
        "longer name      4",
        "A note.",
    ]


def test_a_markdown_table_has_numbers_on_the_right():
    table = report.Table(("what", "a", "b"), (("x", "1", "2"),))
    assert table.markdown() == "| what | a | b |\n|---|---:|---:|\n| x | 1 | 2 |"


def test_the_training_table_compares_like_with_like_and_best_with_best():
    row = comparison("LSTM 2 x 128", 1, CHARRNN=[30.0], TORCH=[5.0], TORCH_MALLOC=[10.0], TORCH_BF16=[20.0])
    table = tables.training([row])
    cells = dict(zip(table.header, table.rows[0], strict=True))
    assert cells["float32 : float32"] == "3.00 x"
    assert cells["best : best"] == "1.50 x"


def test_without_torch_there_are_no_columns_of_it():
    row = comparison("LSTM 2 x 128", 1, CHARRNN=[30.0], PEAK_NUMPY=[1.0])
    row.missing[sections.TORCH] = "No module named 'torch'"
    assert not [name for name in tables.training([row]).header if "PyTorch" in name or ":" in name]
    results = {"training": [row.to_dict()]}
    assert speed.missing(results) == ["LSTM 2 x 128: no PyTorch float32: No module named 'torch'"]


def test_the_command_names_no_path_of_this_machine():
    parsed = speed._parser().parse_args(
        ["/home/me/a.txt", "--torch-python", "/home/me/bin/python", "--json", "/tmp/a", "--rounds", "7"]
    )
    assert speed.command(parsed) == "python bench/speed.py a.txt --torch-python PATH --rounds 7"


def test_a_block_is_replaced_and_nothing_else():
    page = report.replace_block(MARKED, "speed", "new\n")
    assert page == "# Title\n\n<!-- speed -->\n\nnew\n\n<!-- /speed -->\n\nThe rest.\n"
    assert report.replace_block(page, "speed", "new") == page


@pytest.mark.parametrize(
    "page",
    ["no markers", "<!-- speed --> only", "<!-- /speed --><!-- speed -->", MARKED + MARKED],
)
def test_a_page_without_a_place_for_the_block_is_refused(page: str):
    with pytest.raises(report.BlockError, match="<!-- /speed -->"):
        report.replace_block(page, "speed", "new")


def test_reduced_precision_is_compared_with_numpy_where_there_is_any():
    row = comparison("one text", CHARRNN=[8.0], CHARRNN_BF16=[12.0], NUMPY=[4.0])
    table = tables.sampling([row])
    assert dict(zip(table.header, table.rows[0], strict=True))["charrnn bfloat16 : NumPy"] == "3.00 x"


def test_the_curves_of_both_precisions_have_each_evaluation_of_each_seed():
    a = argparse.Namespace(corpus=Path("a.txt"), steps=20)
    seeds = []
    for seed in range(2):
        runs = {name: precision.Training(iter(())) for name in precision.PRECISIONS}
        for offset, run in enumerate(runs.values()):
            run.losses = {10: 2.0 + seed + offset / 8, 20: 1.0 + seed + offset / 8}
        seeds.append(runs)
    found = precision.curves(a, seeds)
    assert [(run.recipe, run.seed) for run in found] == [
        ("float32", 0), ("bfloat16", 0), ("float32", 1), ("bfloat16", 1)
    ]  # fmt: skip
    assert {run.what for run in found} == {"a, 20 steps"}
    assert [point[1:4:2] for point in found[3].points] == [(10, 3.125), (20, 2.125)]


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """What --json wrote after measuring everything."""
    results: dict[str, Any] = {
        "machine": {"cpu": "Some CPU, 2 cores", "system": "Linux 6", "python": "Python 3.11.7"},
        "versions": {"charrnn": "0.1.0", "NumPy": "2.4.6", "PyTorch": "2.13.0"},
        "rounds": 5,
        "command": "python bench/speed.py",
        "training": [comparison("LSTM 1 x 128", 5, CHARRNN=[2e9], PEAK_NUMPY=[20.0]).to_dict()],
        "sampling": [comparison("LSTM 2 x 128, one text", CHARRNN=[9.0], NUMPY=[3.0]).to_dict()],
        "start": [comparison("charrnn --help", CHARRNN=[0.1], TYPER=[0.05]).to_dict()],
        "memory": [comparison("training on a text of 500 MB", CHARRNN=[900.0]).to_dict()],
    }
    path = tmp_path / "speed.json"
    path.write_text(json.dumps(results), encoding="utf-8")
    return path


def test_the_readme_gets_every_table_and_what_was_measured_where(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    readme = tmp_path / "README.md"
    readme.write_text(MARKED, encoding="utf-8")
    speed.main(["--read", str(measured), "--write", "--page", str(readme)])
    page = readme.read_text(encoding="utf-8")
    assert page.startswith("# Title\n")
    assert page.endswith("\n\nThe rest.\n")
    for part in (
        "Some CPU, 2 cores",
        "NumPy 2.4.6",
        "PyTorch 2.13.0",
        "took turns: 5",
        "`python bench/speed.py`",
    ):
        assert part in page
    assert "| LSTM 1 x 128 | 2,000,000,000 | 50 % |" in page
    assert "| LSTM 2 x 128, one text | 9.00 | 3.00 | 3.00 x |" in page
    assert "| charrnn --help | 0.100 s | import typer 0.0500 s (2.00 x) |" in page
    assert "| training on a text of 500 MB | 900 MB |" in page
    assert "old | table" not in page
    assert "LSTM 1 x 128" in capsys.readouterr().out


def test_the_readme_is_refused_before_anything_is_measured(tmp_path: Path):
    readme = tmp_path / "README.md"
    readme.write_text("no place", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"README\.md: the page needs"):
        speed.main(["--write", "--page", str(readme)])
    readme.write_text(MARKED, encoding="utf-8")
    with pytest.raises(SystemExit, match="needs every section: sampling, start, training"):
        speed.main(["--only", "memory", "--write", "--page", str(readme)])
    assert readme.read_text(encoding="utf-8") == MARKED


def test_figures_of_two_machines_do_not_meet_in_one_file(measured: Path):
    with pytest.raises(SystemExit, match="another machine: Some CPU, 2 cores"):
        speed.main(["--read", str(measured), "--only", "start"])


def test_a_section_that_does_not_exist_is_named():
    with pytest.raises(SystemExit, match="no section sampleing; there are training, sampling"):
        speed.main(["--only", "sampleing"])


def test_held_out_lines_are_those_that_training_did_not_see():
    model, path = charrnn.load(ROOT / "checkpoints" / "places.safetensors"), ROOT / "corpora" / "places.txt"
    every = odd_lines.lines_of(path, model, held_out=False)
    held_out = odd_lines.lines_of(path, model, held_out=True)
    newline = model.vocabulary.characters.index("\n")
    training, validation = split(read([path], model.text).documents, TrainConfig(steps=1), newline)
    assert every == path.read_text(encoding="utf-8").splitlines()
    assert len(held_out) == round(0.1 * len(every))
    assert (
        sum(len(line) + 1 for line in held_out)
        == len(validation)
        == sum(map(len, every)) + len(every) - len(training)
    )


def test_every_library_is_told_how_many_threads_there_are():
    values = {value for name, value in machine.environment().items() if name.endswith("NUM_THREADS")}
    assert values == {str(machine.threads())}


def test_every_script_is_described():
    page = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
    scripts = {path.name for path in (ROOT / "bench").glob("*.py")}
    assert scripts == set(re.findall(r"`(\w+\.py)`", page))
