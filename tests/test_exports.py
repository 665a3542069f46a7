"""`charrnn export torch` and `export onnx`: other libraries compute of a model what charrnn computes."""

from __future__ import annotations

import ast
import builtins
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import record_readme
from support.calls import call
from support.cells import CELLS
from support.environment import ROOT
from support.random_models import LINES, make
from support.toy_models import toy

from charrnn import api
from charrnn.checkpoint import model_file
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.errors import CheckpointError, VocabularyError
from charrnn.exports import onnx_graph, torch_script
from charrnn.labels import Column
from charrnn.nn.network import Model
from charrnn.nn.workers import Workers

WITHOUT = "ONNX is not installed: pip install onnx onnxruntime"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exports")
    model_file.save(make(characters="Port\n"), path / "m.safetensors")
    model_file.save(make(cell="esn", characters="Port\n"), path / "echo.safetensors")
    return path


# --- PyTorch: tests/record_readme.py has run these lines with it ------------------------------------------


def test_the_lines_are_those_of_the_page_that_pytorch_has_run() -> None:
    lines = [(torch_script.FOLDER / name).read_text("utf-8") for name in ("network.txt", "counts.txt")]
    assert lines == record_readme.blocks(record_readme.PAGE)
    assert lines[0].count(torch_script.FILE) == lines[0].count(torch_script.PROMPT) == 1


def test_the_script_names_the_file_and_the_prompt_whatever_is_in_them(folder: Path) -> None:
    name = "odd 'quoted\".safetensors"
    (folder / name).write_bytes((folder / "m.safetensors").read_bytes())
    done = call("export", "torch", "-m", name, "--prompt", "toP", cwd=folder)
    assert (done.returncode, done.stderr) == (0, b"")
    script = done.stdout.decode()
    constants = {node.value for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Constant)}
    assert {name, "toP"} <= constants
    assert "m.safetensors" not in constants
    assert "counts" not in script


def test_a_line_end_in_a_name_ends_no_comment(tmp_path: Path) -> None:
    script = torch_script.torch_script(make(characters="Port\n"), tmp_path / "a\nimport os.safetensors", "P")
    assert not [node for node in ast.walk(ast.parse(script)) if ast.unparse(node) == "import os"]


def test_counts_have_their_lines_in_the_script() -> None:
    _, model = next(record_readme.with_counts())
    script = api.torch_script(model, "m.safetensors")
    assert (torch_script.FOLDER / "counts.txt").read_text("utf-8") in script
    assert re.search(r"in p\[-1\]\.topk\(5\)", script)


def test_the_prompt_is_of_the_models_characters() -> None:
    model = make(characters="xyz")
    assert "for c in 'x'" in api.torch_script(model, "m.safetensors")
    with pytest.raises(VocabularyError, match="never seen the character 'P'"):
        api.torch_script(model, "m.safetensors", "P")


@pytest.mark.parametrize("settings", [{"cell": "esn"}, {"span": 4}])
def test_what_has_no_lines_is_refused_by_name(settings) -> None:
    with pytest.raises(CheckpointError, match=r"no lines for (Reservoir|Retrospection)"):
        api.torch_script(make(**settings), "m.safetensors")


# --- ONNX ----------------------------------------------------------------------------------------------


def session(data: bytes):
    runtime = pytest.importorskip("onnxruntime", reason=WITHOUT)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def expected(model: Checkpoint, ids: np.ndarray) -> np.ndarray:
    network = Model(model.config, workers=Workers(1))
    network.load_tensors(model.tensors)
    return network.forward(ids.astype(np.int32))[0]


def zeros(model: Checkpoint, B: int) -> dict[str, np.ndarray]:
    config = model.config
    shape = (config.num_layers, B, config.hidden_size)
    return {part: np.zeros(shape, np.float32) for part in config.recurrence.state}


@pytest.mark.parametrize(("cell", "nonlinearity"), CELLS)
def test_a_runtime_computes_the_same_logits(cell: str, nonlinearity: str) -> None:
    """Over a window of several texts and, one character at a time, from state to state."""
    pytest.importorskip("onnx", reason=WITHOUT)
    for norm, residual, D in itertools.product((False, True), (False, True), (0, 4, 6)):
        settings = {"norm": norm, "residual": residual, "embedding_size": D, "scale": 0.6}
        model = make(cell=cell, nonlinearity=nonlinearity, characters="Port\n", **settings)
        ids = np.random.default_rng(1).integers(0, 5, (9, 3))
        ids[0] = 5  # START
        wanted, run = expected(model, ids), session(api.onnx_model(model))
        (found, *_) = run.run(None, {"ids": ids, **zeros(model, 3)})
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
        state = zeros(model, 3)
        for t in range(len(ids)):
            logits, *after = run.run(None, {"ids": ids[t : t + 1], **state})
            state = dict(zip(state, after, strict=True))
            np.testing.assert_allclose(logits[0], wanted[t], rtol=0, atol=1e-5)


@pytest.mark.parametrize("layers", [1, 3])
def test_any_number_of_layers_has_its_states(layers: int) -> None:
    pytest.importorskip("onnx", reason=WITHOUT)
    model = make(characters="Port\n", num_layers=layers)
    ids = np.random.default_rng(1).integers(0, 5, (6, 1))
    (found, *states) = session(api.onnx_model(model)).run(None, {"ids": ids, **zeros(model, 1)})
    np.testing.assert_allclose(found, expected(model, ids), rtol=0, atol=1e-5)
    assert [state.shape for state in states] == [(layers, 1, 6)] * 2


def test_the_end_of_a_text_is_an_output_and_the_metadata_say_which() -> None:
    pytest.importorskip("onnx", reason=WITHOUT)
    model = toy(characters="ab", split="blank", cell="lstm")
    run = session(api.onnx_model(model))
    about = json.loads(run.get_modelmeta().custom_metadata_map["charrnn"])
    assert about == {"characters": "ab", "start": 3, "end": 2}
    ids = np.array([[3], [0], [1]])
    (found, *_) = run.run(None, {"ids": ids, **zeros(model, 1)})
    assert found.shape == (3, 1, 3)
    np.testing.assert_allclose(found, expected(model, ids), rtol=0, atol=1e-5)


def test_the_same_model_gives_the_same_bytes_and_a_label_is_in_them() -> None:
    pytest.importorskip("onnx", reason=WITHOUT)
    model = make(text=LINES, labels=(2,))
    model = replace(model, columns=(Column("x", ("A", "B"), (1, 1)),))
    first, second = api.given(model, "A"), api.given(model, "B")
    assert api.onnx_model(first) == api.onnx_model(first) != api.onnx_model(second)


def test_the_lines_of_the_page_write(folder: Path, monkeypatch, capsys) -> None:
    pytest.importorskip("onnxruntime", reason=WITHOUT)
    (folder / "tales.onnx").write_bytes(api.onnx_model(make(characters="Port\n")))
    (block,) = re.findall(
        r"^```python\n(.*?)^```$", Path(ROOT, "docs/onnx.md").read_text("utf-8"), re.M | re.S
    )
    monkeypatch.chdir(folder)
    exec(compile(block, "onnx.md", "exec"), {})
    written = capsys.readouterr().out
    assert len(written) == 300
    assert {*written} <= {*"Port\n"}


def test_the_command_writes_a_file_and_says_that_counts_are_left_out(folder: Path) -> None:
    pytest.importorskip("onnx", reason=WITHOUT)
    _, counted = next(record_readme.with_counts())
    model_file.save(counted, folder / "counted.safetensors")
    done = call("export", "onnx", "-m", "counted.safetensors", "-o", "c.onnx", cwd=folder)
    assert done.returncode == 0
    note, size = done.stderr.decode().splitlines()
    assert note.startswith("note: the graph leaves out the model's counts")
    assert size.startswith(f"{(folder / 'c.onnx').stat().st_size:,} bytes in c.onnx")
    piped = call("export", "onnx", "-m", "counted.safetensors", cwd=folder)
    assert piped.stdout == (folder / "c.onnx").read_bytes()


def test_without_the_library_one_line_says_how_to_get_it(folder: Path, monkeypatch) -> None:
    real = builtins.__import__

    def without(name, *rest):
        if name == "onnx":
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    done = call("export", "onnx", "-m", "m.safetensors", "-o", "m.onnx", cwd=folder)
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert line.endswith("needs onnx, which is not installed: pip install 'charrnn[onnx]'")
    assert not (folder / "m.onnx").exists()


def test_a_reservoir_is_refused_by_name(folder: Path) -> None:
    pytest.importorskip("onnx", reason=WITHOUT)
    done = call("export", "onnx", "-m", "echo.safetensors", "-o", "echo.onnx", cwd=folder)
    assert done.returncode == 1
    assert "ONNX has no operator for Reservoir" in done.stderr.decode()


@pytest.mark.parametrize("target", ["torch", "onnx"])
def test_a_model_is_not_written_over(folder: Path, target: str) -> None:
    done = call("export", target, "-m", "m.safetensors", "-o", "m.safetensors", cwd=folder)
    assert done.returncode == 2
    assert "the model" in done.stderr.decode()


def test_operators_are_those_of_cells_that_there_are() -> None:
    assert set(onnx_graph.OPERATORS) == set(torch_script.CELLS)
