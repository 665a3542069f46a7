"""Loss curves: what is drawn where, as SVG, as PNG and as characters."""

from __future__ import annotations

import itertools
import math
import re
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.cli.views import chart, powers
from charrnn.errors import CharrnnError, ConfigError
from charrnn.training import plotting
from charrnn.training.curves import HEIGHT, WIDTH, Curves, Labels, apart, power_ticks, svg, ticks

WORDS = Labels("tales", "LSTM 2 x 8", "training (dropout 0.5)", "validation")
ROWS = [
    {"step": 10, "epoch": 1.0, "train_loss": 3.0, "val_loss": 2.5},
    {"step": 20, "epoch": 2.0, "train_loss": 2.0, "val_loss": 1.5},
    {"step": 30, "epoch": 3.0, "train_loss": 1.0, "val_loss": 2.0},
]
SVG = "{http://www.w3.org/2000/svg}"
LOSSES = st.none() | st.floats() | st.integers()


def test_a_history_becomes_points_and_its_best_moment():
    curves = Curves.of(ROWS)
    assert curves.training == ((1.0, 3.0), (2.0, 2.0), (3.0, 1.0))
    assert curves.best == (2.0, 1.5)
    assert curves.bounds() == (3.0, 1.0, 3.0)


def test_losses_that_are_no_numbers_are_left_out():
    rows = [{"epoch": n, "train_loss": x, "val_loss": None} for n, x in enumerate((math.nan, 1.0, math.inf))]
    curves = Curves.of(rows)
    assert curves.training == ((1.0, 1.0),)
    assert curves.best is None
    assert not Curves.of([])


@pytest.mark.parametrize(
    ("low", "high", "parts", "labels"),
    [
        (0.0, 15.0, 8, ["0", "2", "4", "6", "8", "10", "12", "14"]),
        (1.36, 2.64, 5, ["1.5", "2.0", "2.5"]),
        (1.40, 1.44, 4, ["1.40", "1.41", "1.42", "1.43", "1.44"]),
        (0.0, 12_000.0, 3, ["0", "5,000", "10,000"]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, parts: int, labels: list[str]):
    assert [label for _, label in ticks(low, high, parts)] == labels


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e9), st.integers(1, 20))
def test_ticks_lie_inside_and_are_few(low: float, span: float, parts: int):
    found = ticks(low, low + span, parts)
    slack = 1e-6 * span + 1e-9 * abs(low)
    assert len(found) <= parts + 1
    assert all(low - slack <= value <= low + span + slack for value, _ in found)


def circles(drawing: ElementTree.Element) -> list[tuple[float, float, float]]:
    return [tuple(float(c.attrib[k]) for k in ("cx", "cy", "r")) for c in drawing.iter(f"{SVG}circle")]  # type: ignore[misc]


def test_the_svg_has_both_curves_and_the_best_moment():
    drawing = ElementTree.fromstring(svg(Curves.of(ROWS), WORDS))
    lines = [p.attrib["points"].split() for p in drawing.iter(f"{SVG}polyline")]
    assert [len(points) for points in lines] == [3, 3]
    words = [element.text for element in drawing.iter(f"{SVG}text")]
    for part in ("tales", "LSTM 2 x 8", "training (dropout 0.5)", "validation", "epoch"):
        assert part in words
    assert "best 1.5000 at epoch 2.0" in words
    *_, (x, y, radius) = circles(drawing)
    assert radius == 5
    assert f"{x:.1f},{y:.1f}" == lines[1][1]  # on the second evaluation
    heights = [float(point.split(",")[1]) for point in lines[0]]
    assert heights == sorted(heights)  # a falling loss goes down


@given(st.lists(st.tuples(st.floats() | st.integers(), LOSSES, LOSSES), max_size=6), st.text(max_size=20))
def test_any_history_and_any_name_give_a_picture_that_can_be_read(rows, name):
    history = [{"epoch": epoch, "train_loss": a, "val_loss": b} for epoch, a, b in rows]
    curves = Curves.of(history)
    if not curves:
        return
    drawing = ElementTree.fromstring(svg(curves, Labels(name, name, name, name)))
    for x, y, _ in circles(drawing):
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT


def test_names_of_curves_that_end_together_stand_apart():
    rows = [{"epoch": 1.0, "train_loss": 1.5, "val_loss": 1.5001}]
    drawing = ElementTree.fromstring(svg(Curves.of(rows), WORDS))
    ys = [
        float(t.attrib["y"]) for t in drawing.iter(f"{SVG}text") if t.text in (WORDS.training, "validation")
    ]
    assert abs(ys[0] - ys[1]) >= 12


# the file


@pytest.mark.parametrize("name", ["loss.jpg", "loss", "loss.svg.txt", ".svg"])
def test_another_suffix_is_refused_before_anything_is_done(name: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"ends in \.svg or \.png"):
        plotting.check(tmp_path / name)


def test_a_folder_is_no_file(tmp_path: Path):
    (tmp_path / "a.svg").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        plotting.check(tmp_path / "a.svg")


def test_a_png_without_matplotlib_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plotting, "find_spec", lambda name: None)
    with pytest.raises(CharrnnError, match=r"charrnn\[plot\]"):
        plotting.check(tmp_path / "a.png")


def test_a_drawing_is_written_whole_and_the_same_each_time(tmp_path: Path):
    plotting.draw(tmp_path / "new" / "a.SVG", ROWS, WORDS)
    plotting.draw(tmp_path / "b.svg", ROWS, WORDS)
    first = (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "new" / "a.SVG").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["b.svg"]


def test_an_empty_history_and_a_place_that_cannot_be_written_are_named(tmp_path: Path):
    with pytest.raises(CharrnnError, match="there is no loss of tales"):
        plotting.draw(tmp_path / "a.svg", [], WORDS)
    (tmp_path / "file").write_text("")
    with pytest.raises(CharrnnError, match=r"a\.svg cannot be written: Not a directory"):
        plotting.draw(tmp_path / "file" / "a.svg", ROWS, WORDS)


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="Matplotlib is not installed")
def test_a_png_is_one(tmp_path: Path):
    plotting.draw(tmp_path / "a.png", ROWS, Labels("$x_", "a", "b", "c"))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


# in characters


def shown(points, mark=None, width=20, height=5):
    rows = chart.draw([chart.Line(points, "cyan")], mark, "green", width, height)
    return ["".join(text for text, _ in row) for row in rows], rows


def dots(lines: list[str]) -> set[tuple[int, int]]:
    """(column, row) of every dot."""
    bits = (0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80)
    found = set()
    for (row, line), x, y in itertools.product(enumerate(lines), range(2), range(4)):
        for column, cell in enumerate(line[chart.LABEL_WIDTH :]):
            if 0x2800 <= ord(cell) <= 0x28FF and (ord(cell) - 0x2800) & bits[x][y]:
                found.add((2 * column + x, 4 * row + y))
    return found


def test_a_falling_line_goes_from_the_upper_left_to_the_lower_right():
    lines, _ = shown([(0.0, 2.0), (1.0, 1.0)])
    assert [len(line) for line in lines] == [chart.LABEL_WIDTH + 20] * 5
    found = dots(lines)
    assert (0, 0) in found
    assert (39, 19) in found
    assert {column for column, _ in found} == set(range(40))  # no gap
    heights = [max(row for c, row in found if c == column) for column in range(40)]
    assert heights == sorted(heights)


def test_labels_stand_where_their_values_are():
    lines, _ = shown([(0.0, 2.0), (1.0, 1.0)], height=5)
    assert lines[0].startswith("   2.0 ")
    assert lines[-1].startswith("   1.0 ")
    assert not lines[1][: chart.LABEL_WIDTH].strip()


@pytest.mark.parametrize("high", [2.0, 2e6, 2.3e25])
def test_the_labels_of_exploded_losses_have_room(high: float):
    rows = chart.draw([chart.Line([(0.0, 1.0), (1.0, high)], "cyan")], None, "", 20, 6)
    assert {len(row[0][0]) for row in rows} == {chart.LABEL_WIDTH}


def test_the_mark_lies_over_all_lines():
    lines, rows = shown([(0.0, 2.0), (1.0, 1.0)], mark=(1.0, 1.0))
    assert lines[-1][-1] == "●"
    assert rows[-1][-1] == ("●", "green")


def test_a_steep_beginning_leaves_the_picture_and_does_not_flatten_the_rest():
    points = [(n / 100, 9.0 if n < 5 else 2.0 - n / 100) for n in range(100)]
    low, high = chart.scale([points], 8)
    assert (low, high) == (1.0, 2.0)
    lines, _ = shown(points, height=8)
    assert 0 not in {column for column, _ in dots(lines)}  # too high to be seen


def test_the_scale_moves_seldom():
    def scale(loss):
        return chart.scale([[(0.0, 3.0), (1.0, loss)]], 8)

    assert len({scale(1.5 + n / 1000) for n in range(400)}) < 4


@given(
    st.lists(st.tuples(st.floats(-1, 2), st.floats()), max_size=8),
    st.integers(1, 30),
    st.integers(1, 12),
)
def test_any_points_give_a_picture_of_the_size_asked_for(points, width, height):
    points = [(x, y) for x, y in points if not 1e9 < abs(y) < math.inf]
    lines, _ = shown(points, width=width, height=height)
    assert len(lines) == height
    assert all(re.fullmatch(rf".{{{chart.LABEL_WIDTH},}}[⠀-⣿ ]{{{width}}}", line) for line in lines)


@given(st.lists(st.floats(0, 400), max_size=8), st.floats(0, 30))
def test_heights_are_moved_apart_in_their_order_and_around_their_middle(heights: list[float], gap: float):
    moved = apart(heights, gap)
    order = sorted(range(len(heights)), key=heights.__getitem__)
    assert all(moved[b] - moved[a] >= gap - 1e-9 for a, b in itertools.pairwise(order))
    assert sum(moved) == pytest.approx(sum(heights), abs=1e-6)
    assert apart(moved, gap) == pytest.approx(moved)


def test_powers_of_ten_have_round_labels_where_they_are():
    assert [label for _, label in power_ticks(-1.2, 0.5, 8)] == ["1e-1", "2e-1", "5e-1", "1", "2"]
    assert [label for _, label in power_ticks(-31.0, 4.0, 8)][:3] == ["1e-30", "1e-25", "1e-20"]
    rows = chart.draw([chart.Line([(0.0, 0.0), (1.0, -4.0)], "cyan")], None, "", 20, 9, powers=True)
    labels = [row[0][0].strip() for row in rows]
    assert labels == ["1", "", "1e-1", "", "1e-2", "", "1e-3", "", "1e-4"]


@given(st.floats(-40, 40), st.floats(0, 60), st.integers(1, 20))
def test_powers_lie_inside_and_are_few(low: float, span: float, parts: int):
    found = power_ticks(low, low + span, parts)
    assert len(found) <= parts + 1
    assert all(low <= value <= low + span for value, _ in found)
    assert found or span < powers.LEAST_SPAN
    assert all(math.isclose(float(label), 10**value) for value, label in found)


CURVES = st.lists(st.tuples(st.floats(0, 1e6), st.floats()), max_size=5).map(sorted)


@given(st.lists(st.tuples(CURVES, st.text(max_size=5)), max_size=4), st.text(max_size=9))
def test_a_picture_of_powers_is_well_formed_whatever_the_points(drawn, words: str):
    lines = [powers.Curve(points, name) for points, name in drawn]
    root = ElementTree.fromstring(powers.svg(lines, powers.Words(words, words, "k", "norm"), (2.0, words)))
    shown = [points for points, _ in drawn if any(0 < y < math.inf for _, y in points)]
    assert len(list(root.iter(f"{SVG}polyline"))) == len(shown)
    for curve in root.iter(f"{SVG}polyline"):
        for place in curve.attrib["points"].split():
            x, y = map(float, place.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT
