"""What a notebook shows of the functions' results: tables, pictures, and texts in colours."""

from __future__ import annotations

import ast
import re
import sys
import types
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from support.environment import ROOT
from support.random_models import LINES, make

import charrnn
from charrnn import api
from charrnn.tasks.dynamic_evaluation import DynamicEvaluation
from charrnn.tasks.evaluation import Evaluation

CHARACTERS = "\n &<>ab"


class Shown(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.titles, self.tags = "", [], set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.titles += [value for name, value in attrs if name == "title"]

    def handle_data(self, data):
        self.text += data


def test_a_text_is_coloured_by_its_surprise() -> None:
    model, text = make(characters=CHARACTERS), "ab <a>&\n"
    heat = api.heat(model, text)
    np.testing.assert_allclose(heat.numbers, api.score(model, text) / np.log(2), rtol=1e-6)
    shown = Shown(heat._repr_html_())
    assert shown.text.replace("↵", "").startswith(text)
    assert shown.tags <= {"pre", "span", "p"}
    assert shown.titles[0].startswith("a (U+0061): ")
    assert "bits a character, 8 characters" in shown.text
    assert api.heat(model, "")._repr_html_()


def test_a_text_is_coloured_by_a_unit_with_what_comes_next() -> None:
    for form in ({}, {"text": LINES}):
        heat = api.heat(make(characters=CHARACTERS, **form), "ab\n<b>", unit="2:1")
        assert len(heat.numbers) == len(heat.notes) == 6
        assert all("; next '" in title for title in Shown(heat._repr_html_()).titles)
    assert "0 characters" in api.heat(make(), "", unit="1:0")._repr_html_()


def test_an_evaluation_is_a_table_of_its_figures() -> None:
    plain = Shown(Evaluation(1.5, 1234)._repr_html_()).text
    assert plain == "loss1.5000characters1,234bpc2.1640perplexity4.4817"
    page = DynamicEvaluation(1.5, 9, 1.25)._repr_html_()
    assert ElementTree.fromstring(page).tag == "table"
    assert "<th>dynamic loss</th><td>1.2500</td>" in page


def test_curves_are_a_picture_once_there_is_a_loss(tmp_path: Path) -> None:
    model = make(characters=CHARACTERS)
    assert "no loss was measured yet" in api.curves(model)._repr_html_()
    model.history.append({"step": 1, "epoch": 1.0, "train_loss": 2.0, "val_loss": 2.1})
    root = ElementTree.fromstring(api.curves(model)._repr_html_())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "LSTM 2 x 6" in ElementTree.tostring(root, encoding="unicode")


@pytest.mark.process
@pytest.mark.compiled
def test_progress_is_shown_by_the_events_as_the_page_says(tmp_path: Path, monkeypatch, capsys) -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```$", Path(ROOT, "docs/notebooks.md").read_text("utf-8"), re.M | re.S
    )
    (tmp_path / "corpus.txt").write_text("Once there was a king, and once a queen.\n" * 30, encoding="utf-8")
    (tmp_path / "other.txt").write_text("Once a queen.\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    pictures: list[str] = []
    display = types.SimpleNamespace(update=lambda shown: pictures.append(shown._repr_html_()))
    module = types.ModuleType("IPython.display")
    module.display = lambda *_, **__: display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    exec(
        compile(
            blocks[1].replace("minutes=3", "steps=50, hidden_size=4, num_layers=1"), "notebooks.md", "exec"
        ),
        {},
    )
    assert pictures
    assert all(picture.startswith("<svg") for picture in pictures)
    assert "loss" in capsys.readouterr().out
    for of_another, own in (("How odd is thsi?", "Once a king."), ("a text", "queen"), ("2:7", "1:3")):
        blocks[0] = blocks[0].replace(of_another, own)
    lines = map(ast.unparse, ast.parse(blocks[0]).body)
    results = [eval(line, {"charrnn": charrnn}) for line in lines]
    assert all(result._repr_html_() for result in results)


@pytest.mark.parametrize("name", ["curves", "heat", "rank_units", "watch_unit", "holding"])
def test_the_functions_are_the_packages(name: str) -> None:
    assert getattr(charrnn, name) is getattr(api, name)
