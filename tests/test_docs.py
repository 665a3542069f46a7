"""The documentation is held to the program: options, links, examples, PyTorch's reading of a model."""

from __future__ import annotations

import ast
import hashlib
import importlib
import re
import runpy
import shutil
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import record_classifying
import record_readme

from charrnn.inference.numpy_network import PlainNetwork
from charrnn.nn.network import Model
from charrnn.nn.workers import Workers
from charrnn.tasks.reading.classify import Classifier
from charrnn.training.planning.writing import plan

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKE_COMMANDS = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))
COMMANDS = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


@pytest.mark.process
def test_the_command_reference_is_what_help_says():
    assert MAKE_COMMANDS["page"]() == COMMANDS, "run: python docs/make_commands.py"


def test_the_manual_is_what_help_says():
    made = runpy.run_path(str(ROOT / "docs" / "make_man.py"))["pages"]()
    there = {path.name: path.read_text("utf-8") for path in (ROOT / "docs" / "man").iterdir()}
    assert made == there, "run: make man"
    assert {"charrnn.1", "charrnn-train.1", "charrnn-export-page.1"} <= made.keys()


@pytest.mark.process
@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_a_page_of_the_manual_is_shown_whole_and_without_a_warning():
    for name in ("charrnn.1", "charrnn-sample.1", "charrnn-enumerate.1"):
        page = ROOT / "docs" / "man" / name
        words = ["groff", "-man", "-Tascii", "-ww", "-P-cbou", str(page)]
        done = subprocess.run(words, capture_output=True, check=True, timeout=60)
        assert done.stderr == b""
        if name == "charrnn-enumerate.1":
            assert "charrnn enumerate -n 3 --match '.*(ton|burg)'" in done.stdout.decode()


def test_the_image_is_made_of_files_that_are_there_and_that_docker_is_shown():
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    names = {name for some in copied for name in some}
    assert all((ROOT / name).exists() for name in names)
    shown = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] == "!"}
    assert names == shown
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = [*wheel["packages"], *wheel["force-include"], *wheel["shared-data"], "README.md", "LICENSE"]
    assert all(any(f"{name}/".startswith(f"{one}/") for one in names) for name in needed)


def test_no_number_stands_as_the_default_of_what_is_planned():
    machine = [lambda network, batch, window, speed=speed: speed for speed in (1e3, 1e5, 1e7)]
    plans = [plan(n, 65, {}, speed).settings for n in (11, 10**4, 10**6, 10**9) for speed in machine]
    train = COMMANDS.split("## charrnn train\n")[1].split("\n## ")[0]
    for name in set().union(*plans) - {"minutes", "epochs", "most_epochs", "val_split"}:
        option = {"learning_rate": "lr"}.get(name, name.replace("_", "-"))
        (line,) = re.findall(rf"^  --{option} .*$", train, re.M)
        assert re.search(r"\[(suits the (text|network)|as wide as a layer|0\.1 at the most)\]", line), line


def test_every_option_in_the_readme_exists():
    commands = re.findall(
        r"^(?:\$ )?(?:.*\| )?charrnn (\w+)(.*?)(?:#.*)?$", "\n".join(blocks("(?:sh|console)")), re.M
    )
    assert {name for name, _ in commands} == set(MAKE_COMMANDS["COMMANDS"])
    for name, rest in commands:
        options = re.findall(r"(?<!\S)(--?[a-z][a-z-]*)", rest.split("|")[0])
        known = COMMANDS.split(f"## charrnn {name}\n")[1].split("\n## ")[0]
        for option in options:
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", known), f"charrnn {name} has no {option}"


def test_every_variable_that_is_read_stands_in_the_table():
    table = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    documented = set(re.findall(r"`(\w+)`", " ".join(rows)))
    read = set()
    for path in (ROOT / "charrnn").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "env" not in text:
            continue
        nodes = list(ast.walk(ast.parse(text)))
        uses = [node for node in nodes if getattr(node, "attr", "") in ("environ", "environb", "getenv")]
        names = [name for node in nodes for name in _variable(node)]
        assert len(names) == len(uses), f"{path.name} reads a variable in a way that is not seen here"
        read |= set(names)
    assert {"CHARRNN_CACHE_DIR", "CHARRNN_DEBUG", "TERM"} <= read
    assert read <= documented
    assert {name for name in documented if name.startswith("CHARRNN_")} <= read


def _variable(node):
    """The name in os.environ.get("NAME"), os.environ["NAME"] or os.getenv("NAME"), in a list."""
    name = None
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.getenv"):
        name = node.args[0]
    elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
        name = node.slice
    return [name.value] if isinstance(name, ast.Constant) else []


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", *ROOT.glob("*/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.process
@pytest.mark.compiled
def test_python_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("corpus.txt", "other.txt"):
        (tmp_path / name).write_text("Once there was a king, and once a queen.\n" * 30)
    ran = 0
    for block in blocks("python"):
        code = compile(block.replace("minutes=3", "steps=3"), "README.md", "exec")
        exec(code, {})
        ran += 1
    assert ran == 1
    assert re.search(r"^\d\.\d+$", capsys.readouterr().out, re.M)  # the bits a character


def test_the_readme_is_no_longer_than_one_reads():
    assert len(README.splitlines()) <= 200


def test_make_has_the_two_commands():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in README
        assert re.search(rf"^{target}:", makefile, re.M)
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_pytorch_reads_every_kind_of_model_as_its_page_says():
    """What the lines of docs/pytorch.md computed when PyTorch ran them (record_readme.py) are our logits."""
    recorded = np.load(record_readme.RECORDING)
    again = "run tests/record_readme.py"
    assert str(recorded["code"]) == hashlib.sha256(record_readme.code().encode()).hexdigest(), again
    assert f"PyTorch {recorded['torch']}" in " ".join(record_readme.PAGE.read_text("utf-8").split())
    workers = Workers(1)
    for name, model in record_readme.models():
        assert record_readme.digest(model) == str(recorded[f"file/{name}"]), again
        network = Model(model.config, workers=workers)
        network.load_tensors(model.tensors)
        ids = [model.config.vocab_size, *model.vocabulary.encode("Port")]
        logits, _ = network.forward(np.array(ids, np.int32)[:, None])
        np.testing.assert_allclose(logits[:, 0], recorded[f"logits/{name}"], rtol=0, atol=1e-5, err_msg=name)


def test_pytorch_adds_counts_as_the_page_says():
    recorded, again = np.load(record_readme.OF_COUNTS), "run tests/record_readme.py"
    lines = "".join(record_readme.blocks(record_readme.PAGE))
    assert str(recorded["code"]) == hashlib.sha256(lines.encode()).hexdigest(), again
    for name, model in record_readme.with_counts():
        assert record_readme.digest(model) == str(recorded[f"file/{name}"]), again
        model = model.given((1,)) if model.columns else model
        network = PlainNetwork(model)
        state, alone = network.initial_state(), PlainNetwork(replace(model, counts=None))
        state_alone = alone.initial_state()
        for character, expected in zip(
            [network.vocab_size, *model.vocabulary.encode("Port")], recorded[f"p/{name}"], strict=True
        ):
            found, state = network.step(character, state)
            logits, state_alone = alone.step(character, state_alone)
            np.testing.assert_allclose(np.exp(found), expected, rtol=2e-5, atol=1e-7, err_msg=name)
            q = np.exp(logits - logits.max())
            assert abs(q / q.sum() - expected).max() > 1e-3  # counts matter


def test_pytorch_reads_classifiers_as_their_page_says():
    recorded = np.load(record_classifying.RECORDING)
    again = "run tests/record_classifying.py"
    assert str(recorded["code"]) == hashlib.sha256(record_classifying.code().encode()).hexdigest(), again
    for name, model in record_classifying.models():
        assert record_readme.digest(model) == str(recorded[f"file/{name}"]), again
        (found,) = Classifier(model, 1).probabilities(["Port"])
        expected = recorded[f"probabilities/{name}"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5, err_msg=name)


def test_each_dependency_says_why():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    extras = [requirement for some in project["optional-dependencies"].values() for requirement in some]
    for requirement in (*project["dependencies"], *extras):
        lines = [line for line in text.splitlines() if f'"{requirement}"' in line]
        assert lines
        assert all("#" in line for line in lines), requirement


@pytest.mark.parametrize("name", ["places.txt", "tales.txt"])
def test_the_corpora_are_as_described(name):
    text = (ROOT / "corpora" / name).read_text(encoding="utf-8")
    if name == "places.txt":
        lines = text.splitlines()
        assert len(lines) >= 3_000
        assert lines == sorted(set(lines))
        assert all(line == line.strip() and line for line in lines)
    else:
        assert len(text.encode()) >= 60_000
        assert text.isascii()


@pytest.mark.parametrize("folder", ["bench", "docs"])
def test_what_a_script_imports_is_there(folder):
    """Most of them take minutes, so no test runs them."""
    for path in sorted((ROOT / folder).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "charrnn":
                module = importlib.import_module(node.module)
                for name in node.names:
                    if not hasattr(module, name.name):  # it may be a module
                        importlib.import_module(f"{node.module}.{name.name}")
