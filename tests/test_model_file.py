"""checkpoint: what was saved comes back; a damaged model is refused, whatever is wrong with it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from support import model_files as files
from support.environment import ROOT, environment
from support.refusals import refusal

from charrnn.checkpoint.model_file import (
    FORMAT_VERSION,
    Checkpoint,
    glance,
    load,
    load_resume,
    resume_path,
    save,
    save_resume,
)
from charrnn.config import ModelConfig, TextConfig
from charrnn.errors import CheckpointError
from charrnn.nn.cells import learning

STATE = {"step": 3, "losses": [0.1, None], "random": 2**127, "nested": {"a": "é\U0001f600"}}


def saved(tmp_path: Path, checkpoint: Checkpoint, name: str = "m.safetensors") -> bytes:
    save(checkpoint, tmp_path / name)
    return (tmp_path / name).read_bytes()


def assert_same(actual: Checkpoint, expected: Checkpoint) -> None:
    for field in dataclasses.fields(Checkpoint):
        if field.name != "tensors":
            assert getattr(actual, field.name) == getattr(expected, field.name), field.name
    assert list(actual.tensors) == list(expected.config.parameter_shapes())
    for name, tensor in actual.tensors.items():
        assert tensor.dtype == np.float32
        assert tensor.tobytes() == np.ascontiguousarray(expected.tensors[name]).tobytes()


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a small valid model file."""
    return saved(tmp_path_factory.mktemp("whole"), files.checkpoint())


# What was saved comes back


@pytest.mark.parametrize("cell", learning())
@pytest.mark.parametrize("embedding_size", [0, 3])
@pytest.mark.parametrize("norm", [True, False])
def test_what_was_saved_comes_back(tmp_path: Path, cell: str, embedding_size: int, norm: bool) -> None:
    checkpoint = files.checkpoint(
        cell=cell, embedding_size=embedding_size, norm=norm, num_layers=2, dropout=0.25
    )
    save(checkpoint, tmp_path / "m.safetensors")
    assert_same(load(tmp_path / "m.safetensors"), checkpoint)
    assert_same(load(str(tmp_path / "m.safetensors")), checkpoint)


@settings(deadline=None)  # it writes to the disk
@given(
    characters=st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(
        lambda text: "".join(sorted(set(text)))
    )
)
def test_every_vocabulary_comes_back(characters: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.safetensors")
        checkpoint = files.checkpoint(characters=characters)
        save(checkpoint, path)
        assert_same(load(path), checkpoint)


def test_what_is_unknown_comes_back(tmp_path: Path) -> None:
    row = {"step": 1, "epoch": 1, "train_loss": None, "val_loss": None}
    known = files.checkpoint()
    checkpoint = Checkpoint(known.config, known.vocabulary, TextConfig(), known.tensors, history=[row])
    save(checkpoint, tmp_path / "m.safetensors")
    back = load(tmp_path / "m.safetensors")
    assert_same(back, checkpoint)
    assert (back.best_val_loss, back.run, back.settings) == (None, "", {})


def test_same_contents_give_the_same_bytes(tmp_path: Path) -> None:
    first = files.checkpoint()
    second = dataclasses.replace(
        files.checkpoint(),
        tensors=dict(reversed(first.tensors.items())),
        settings=dict(reversed(first.settings.items())),
    )
    content = saved(tmp_path, first)
    assert saved(tmp_path, second, "other.safetensors") == content
    assert saved(tmp_path, load(tmp_path / "m.safetensors")) == content


def test_other_contents_give_other_bytes(tmp_path: Path) -> None:
    first = saved(tmp_path, files.checkpoint(seed=0))
    assert saved(tmp_path, files.checkpoint(seed=1)) != first
    assert saved(tmp_path, dataclasses.replace(files.checkpoint(), run="else")) != first


def test_bytes_do_not_depend_on_the_process(tmp_path: Path) -> None:
    program = """
        import sys
        from support import model_files as files
        from charrnn.checkpoint.model_file import save
        save(files.checkpoint(), sys.argv[1])
    """
    contents = set()
    for seed in "12":
        path = tmp_path / f"{seed}.safetensors"
        folders = os.pathsep.join([ROOT, str(Path(__file__).parent)])
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), str(path)],
            env=environment(PYTHONHASHSEED=seed, PYTHONPATH=folders),
            check=True,
        )
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_arrays_in_any_memory_order_are_saved_by_value(tmp_path: Path) -> None:
    plain = files.checkpoint(hidden_size=3)
    odd = {}
    for name, tensor in plain.tensors.items():
        spread = np.zeros((*tensor.shape[:-1], 2 * tensor.shape[-1]), np.float32)
        spread[..., ::2] = tensor
        odd[name] = np.asfortranarray(tensor) if tensor.ndim == 2 else spread[..., ::2]
    assert not odd["rnn.weight_hh_l0"].flags.c_contiguous
    assert not odd["decoder.bias"].flags.c_contiguous
    content = saved(tmp_path, plain)
    assert saved(tmp_path, dataclasses.replace(plain, tensors=odd), "odd.safetensors") == content


def test_loaded_tensors_can_be_trained_on(tmp_path: Path) -> None:
    saved(tmp_path, files.checkpoint())
    for tensor in load(tmp_path / "m.safetensors").tensors.values():
        assert tensor.flags.writeable
        assert tensor.flags.c_contiguous
        assert tensor.dtype.isnative


def test_the_safetensors_library_opens_it_and_the_vocabulary_indexes_by_id(tmp_path: Path) -> None:
    checkpoint = files.checkpoint(characters="\nab\U0001f600")
    path = tmp_path / "m.safetensors"
    save(checkpoint, path)
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
    assert list(metadata) == ["charrnn"]
    record = json.loads(metadata["charrnn"])
    assert [record["vocabulary"][k] for k in range(4)] == ["\n", "a", "b", "\U0001f600"]
    assert list(record) == sorted(record)
    assert record["format_version"] == 1
    for name, tensor in safetensors.numpy.load_file(path).items():
        np.testing.assert_array_equal(tensor, checkpoint.tensors[name])


@pytest.mark.skipif(sys.platform == "win32", reason="a notion of Unix")
def test_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        saved(tmp_path, files.checkpoint())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "m.safetensors").stat().st_mode) == 0o640


def test_loading_takes_about_the_memory_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save(files.checkpoint(cell="lstm", hidden_size=500, embedding_size=500), path)
    size = path.stat().st_size
    tracemalloc.start()
    try:
        checkpoint = load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 8_000_000
    assert sum(t.nbytes for t in checkpoint.tensors.values()) < peak < 1.3 * size + 1_000_000


def test_a_file_that_lies_about_its_sizes_takes_no_memory(tmp_path: Path, content: bytes) -> None:
    def claim(header: dict[str, Any]) -> None:
        header["decoder.bias"].update(shape=[2**40], data_offsets=[0, 2**42])

    damaged = files.with_header(content, claim)
    header_that_is_not_there = (99_999_999).to_bytes(8, "little") + content[8:]
    tracemalloc.start()
    try:
        refusal(load, tmp_path, damaged)
        refusal(load, tmp_path, header_that_is_not_there)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


# A save that fails


def replaced(**changes: Any) -> Callable[[Checkpoint], Checkpoint]:
    return lambda checkpoint: dataclasses.replace(checkpoint, **changes)


def with_tensor(name: str, value: Any) -> Callable[[Checkpoint], Checkpoint]:
    return lambda c: dataclasses.replace(c, tensors={**c.tensors, name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_tensor("decoder.bias", np.array([0, np.nan, 0], np.float32)), "NaN or infinity"),
        (with_tensor("decoder.bias", np.array([0, -np.inf, 0], np.float32)), "NaN or infinity"),
        (with_tensor("decoder.bias", np.zeros(3)), "is float64, not float32"),
        (with_tensor("decoder.bias", np.zeros(3, ">f4")), "is >f4, not float32"),
        (with_tensor("decoder.bias", np.zeros(4, np.float32)), r"the shape \(4,\), not \(3,\)"),
        (with_tensor("extra", np.zeros(3, np.float32)), "no such tensor as 'extra'"),
        (replaced(tensors={}), "embedding.weight is missing"),
        (replaced(best_val_loss=np.nan), "no plain JSON"),
        (replaced(history=[{}]), "a row without step"),
        (replaced(settings={"x": object()}), "no plain JSON"),
        (replaced(settings={"path": "\udc80"}), "surrogate"),
        (replaced(config=ModelConfig(vocab_size=4)), "3 characters, its network 4"),
    ],
)
def test_what_load_would_refuse_is_not_saved(
    tmp_path: Path, change: Callable[[Checkpoint], Checkpoint], message: str
) -> None:
    old = saved(tmp_path, files.checkpoint())
    with pytest.raises(CheckpointError, match=rf"m.safetensors is not written: .*{message}"):
        save(change(files.checkpoint()), tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").read_bytes() == old
    assert os.listdir(tmp_path) == ["m.safetensors"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_failing_save_leaves_the_old_model_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    old = files.checkpoint(seed=1)
    saved(tmp_path, old)
    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(CheckpointError, match="No space left on device: free some space"):
            save(files.checkpoint(seed=2), tmp_path / "m.safetensors")
    assert_same(load(tmp_path / "m.safetensors"), old)
    assert os.listdir(tmp_path) == ["m.safetensors"]


def test_a_full_disk_is_one_line_and_leaves_the_old_model_whole(tmp_path: Path) -> None:
    pytest.importorskip("resource")  # not on Windows
    program = """
        import resource, sys
        sys.path[:0] = sys.argv[2:]
        from support import model_files as files
        from charrnn.checkpoint.model_file import CheckpointError, save
        big = files.checkpoint(hidden_size=64)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            save(big, sys.argv[1])
        except CheckpointError as error:
            print(error)
    """
    old = saved(tmp_path, files.checkpoint())
    path = str(tmp_path / "m.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), path, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"{path} cannot be written: File too large: ")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    assert (tmp_path / "m.safetensors").read_bytes() == old
    assert os.listdir(tmp_path) == ["m.safetensors"]


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder with a model in it, in which nothing may be made, not even by root."""
    folder = Path(tempfile.mkdtemp())  # not tmp_path: others may not enter the folders above it
    save(files.checkpoint(), folder / "m.safetensors")
    folder.chmod(0o555)
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    try:
        if is_root:
            os.seteuid(65534)
        if os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            pytest.skip("this system lets everybody write")
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_read_only_folder_is_one_line(read_only_folder: Path) -> None:
    old = (read_only_folder / "m.safetensors").read_bytes()
    for name in ("m.safetensors", "new.safetensors", "sub/new.safetensors"):
        with pytest.raises(CheckpointError, match=r"cannot be written: .*: check the permissions"):
            save(files.checkpoint(seed=1), read_only_folder / name)
    assert (read_only_folder / "m.safetensors").read_bytes() == old
    assert os.listdir(read_only_folder) == ["m.safetensors"]


# A file that is damaged


def record(**values: Any) -> Callable[[bytes], bytes]:
    return lambda content: files.with_record(content, lambda r: r.update(values))


def model(**values: Any) -> Callable[[bytes], bytes]:
    return lambda content: files.with_record(content, lambda r: r["model"].update(values))


def text(**values: Any) -> Callable[[bytes], bytes]:
    return lambda content: files.with_record(content, lambda r: r["text"].update(values))


def history(**values: Any) -> Callable[[bytes], bytes]:
    return record(history=[files.ROW, {**files.ROW, **values}])


def header(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    return lambda content: files.with_header(content, change)


def swap_shape(header: dict[str, Any]) -> None:
    header["decoder.weight"]["shape"].reverse()


def rename(header: dict[str, Any]) -> None:
    header["\x1b]0;title\x07"] = header.pop("decoder.bias")


def empty_extra(header: dict[str, Any]) -> None:
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name[0] != "_")
    header["\x1bextra"] = {"dtype": "F32", "shape": [0], "data_offsets": [end, end]}


def as_integers(header: dict[str, Any]) -> None:
    # 3 x 2 float32 take as many bytes as 3 x 1 int64
    header["decoder.weight"].update(dtype="I64", shape=[3, 1])


DAMAGE = [
    (record(format_version=None), "no format version"),
    (record(format_version=0), "no format version"),
    (record(format_version=True), "no format version"),
    (record(format_version="1"), "no format version"),
    (record(format_version=1.0), "no format version"),
    (record(extra=1), "unknown entry, 'extra'"),
    (record(kind="model"), "unknown entry, 'kind'"),
    (record(model=None), "not a table"),
    (record(model=[]), "not a table"),
    (record(model={}), "lacks cell, dropout"),
    (model(extra=1), "unknown settings, such as 'extra'"),
    (model(**{"\x1b[2J": 1}), "unknown settings"),
    (model(cell="LSTM"), "cell is 'LSTM'"),
    (model(cell="\x1b[2J" * 1000), "cell is"),
    (model(cell=["rnn"]), "cell is"),
    (model(cell="gru"), "rnn.weight_ih_l0 has the shape"),
    (model(nonlinearity=None), "nonlinearity is None"),
    (model(hidden_size=0), "hidden-size is 0"),
    (model(hidden_size=2.0), "hidden-size is 2.0"),
    (model(hidden_size=True), "hidden-size is True"),
    (model(hidden_size=10**39), "hidden-size is"),
    (model(hidden_size=3), "has the shape"),
    (model(num_layers=2), "l1 is missing"),
    (model(num_layers=10**9), "num-layers is"),
    (model(embedding_size=0), "has the shape"),
    (model(embedding_size=-1), "embedding-size is -1"),
    (model(norm=False), "no such tensor as 'norm_l0"),
    (model(norm=1), "norm is 1"),
    (model(residual="yes"), "residual is"),
    (model(dropout=1.5), "dropout is 1.5"),
    (model(dropout=10**39), "dropout is"),
    (model(dropout="0"), "dropout is"),
    (model(vocab_size=4), "3 characters, its network 4"),
    (model(vocab_size=10**9), "vocab-size is"),
    (record(vocabulary=None), "vocabulary is no text"),
    (record(vocabulary=["\n", "a", "b"]), "vocabulary is no text"),
    (record(vocabulary=""), "vocabulary is empty"),
    (record(vocabulary="\nba"), "not distinct and sorted"),
    (record(vocabulary="\naa"), "not distinct and sorted"),
    (record(vocabulary="\na\ud800"), "surrogate"),
    (record(vocabulary="\nabc"), "4 characters, its network 3"),
    (record(text=None), "not a table"),
    (record(text={}), "lacks"),
    (text(extra=1), "unknown settings"),
    (text(encoding=None), "encoding is None"),
    (text(encoding="\x1b[2J"), "encoding is"),
    (text(bytes=1), "bytes is 1"),
    (text(lines=None), "lines is None"),
    (record(history=None), "history is no list"),
    (record(history={}), "history is no list"),
    (record(history=[None]), "a row without"),
    (record(history=[{"step": 1}]), "a row without"),
    (history(extra=1), "a row without"),
    (history(step=1.5), "no number"),
    (history(step=True), "no number"),
    (history(step=None), "no number"),
    (history(epoch="1"), "no number"),
    (history(epoch=None), "no number"),
    (history(train_loss="1"), "no number"),
    (history(val_loss=False), "no number"),
    (history(val_loss=[]), "no number"),
    (history(val_loss=float("nan")), "holds NaN"),
    (record(best_val_loss="1"), "best validation loss is no number"),
    (record(best_val_loss=True), "best validation loss is no number"),
    (record(best_val_loss=float("inf")), "holds Infinity"),
    (record(run=None), "run is no text"),
    (record(run=3), "run is no text"),
    (record(settings=None), "settings are no table"),
    (record(settings=[]), "settings are no table"),
    (header(lambda h: h.pop("decoder.bias")), "begin where"),
    (header(swap_shape), r"decoder.weight has the shape (2, 3), not (3, 2)"),
    (header(rename), "decoder.bias is missing"),
    (header(empty_extra), r"no such tensor as '\x1bextra'"),
    (header(as_integers), "decoder.weight has the shape (3, 1), not (3, 2)"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_a_damaged_model_is_refused(
    tmp_path: Path, content: bytes, damage: Callable[[bytes], bytes], message: str
) -> None:
    error = refusal(load, tmp_path, damage(content))
    assert "is damaged: " in error.message
    assert message in error.message


def test_a_record_that_lacks_an_entry_is_refused(tmp_path: Path, content: bytes) -> None:
    header, _ = files.unpack(content)
    keys = list(json.loads(header["__metadata__"]["charrnn"]))
    assert len(keys) == 8
    for key in keys:
        damaged = files.with_record(content, lambda record, key=key: record.pop(key))
        wanted = "no format version" if key == "format_version" else f"lacks {key}"
        assert wanted in refusal(load, tmp_path, damaged).message


def test_a_bytes_model_with_characters_that_are_no_bytes_is_refused(tmp_path: Path) -> None:
    content = saved(tmp_path, files.checkpoint(characters="a\xff"))
    (tmp_path / "bytes.safetensors").write_bytes(text(bytes=True)(content))
    assert load(tmp_path / "bytes.safetensors").text.bytes
    content = saved(tmp_path, files.checkpoint(characters="a\u0100"))
    assert "no bytes" in refusal(load, tmp_path, text(bytes=True)(content)).message


def test_a_lines_model_that_cannot_end_a_line_is_refused(tmp_path: Path) -> None:
    content = saved(tmp_path, files.checkpoint(characters="ab"))
    assert "no line end" in refusal(load, tmp_path, text(lines=True)(content)).message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, -1])
def test_weights_that_are_no_numbers_are_refused(
    tmp_path: Path, content: bytes, value: float, at: int
) -> None:
    header, data = files.unpack(content)
    weights = np.frombuffer(data, np.float32).copy()
    weights[at] = value
    assert "NaN or infinity" in refusal(load, tmp_path, files.pack(header, weights.tobytes())).message


def test_a_newer_format_asks_for_an_upgrade(tmp_path: Path, content: bytes) -> None:
    error = refusal(
        load, tmp_path, files.with_record(content, lambda r: r.update(format_version=FORMAT_VERSION + 1, x=1))
    )
    assert "newer charrnn" in error.message
    assert error.hint == "upgrade charrnn"


def test_a_model_that_others_have_trained_is_refused(tmp_path: Path) -> None:
    content = safetensors.numpy.save(files.checkpoint().tensors, {"format": "pt"})
    assert "was not made by charrnn" in refusal(load, tmp_path, content).message


def test_a_corpus_is_not_a_model(tmp_path: Path) -> None:
    assert "is not a model file" in refusal(load, tmp_path, b"Once upon a time.\n" * 50).message


def test_every_truncation_is_refused(tmp_path: Path, content: bytes) -> None:
    for length in range(len(content)):
        refusal(load, tmp_path, content[:length])


def is_valid(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint that came from a file is one that could have been saved."""
    shapes = checkpoint.config.parameter_shapes()
    return (
        {name: tensor.shape for name, tensor in checkpoint.tensors.items()} == shapes
        and all(t.dtype == np.float32 and np.isfinite(t).all() for t in checkpoint.tensors.values())
        and len(checkpoint.vocabulary) == checkpoint.config.vocab_size
        and json.loads(json.dumps(checkpoint.settings, allow_nan=False)) == checkpoint.settings
        and all(row.keys() == files.ROW.keys() for row in checkpoint.history)
    )


def loads_validly_or_is_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.safetensors")
        path.write_bytes(content)
        try:
            checkpoint = load(path)
        except CheckpointError:
            return
        assert is_valid(checkpoint)
        save(checkpoint, path)  # whatever was accepted can be saved again
        assert_same(load(path), checkpoint)


def test_every_flipped_bit_of_the_header_is_refused_or_harmless(content: bytes) -> None:
    end = 8 + int.from_bytes(content[:8], "little")
    for position in range(end):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        loads_validly_or_is_refused(bytes(damaged))


@settings(deadline=None)  # it writes to the disk
@given(data=st.data())
def test_a_mutated_file_is_refused_or_valid(content: bytes, data: st.DataObject) -> None:
    mutated = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated)))
        until = at + data.draw(st.integers(0, 12))
        new = st.binary(max_size=8) | st.sampled_from(
            [b"0", b"9999999", b"-1", b"1e999", b"null", b"[]", b"{}", b'""', b"NaN", b"\\\\ud800"]
        )
        mutated[at:until] = data.draw(new)
    loads_validly_or_is_refused(bytes(mutated))


@settings(deadline=None)  # it writes to the disk
@given(
    st.dictionaries(
        st.sampled_from(["format_version", "model", "vocabulary", "text", "history", "run"])
        | st.sampled_from(["best_val_loss", "settings", "kind"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
            max_leaves=5,
        ),
        min_size=1,
        max_size=2,
    )
)
def test_a_record_of_other_types_is_refused_or_valid(content: bytes, values: dict[str, Any]) -> None:
    loads_validly_or_is_refused(record(**values)(content))


# Resume files


def test_a_resume_file_gives_tensors_and_state_back(tmp_path: Path) -> None:
    tensors = {
        "adam.m": np.array([0.5, -np.inf, np.nan], np.float32),
        "position": np.array(2**62),
        "empty": np.zeros((0, 3), np.float32),
        "turned": np.arange(6).reshape(2, 3).T,
    }
    path = tmp_path / "m.resume.safetensors"
    save_resume(path, tensors, STATE)
    back, state = load_resume(path)
    assert state == STATE
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (back[name].dtype, back[name].shape) == (tensor.dtype, tensor.shape)
        np.testing.assert_array_equal(back[name], tensor)
    first = path.read_bytes()
    save_resume(path, back, state)
    assert path.read_bytes() == first


def test_a_resume_file_refuses_other_types(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="m is float64, not float32, int64 or unsigned"):
        save_resume(tmp_path / "r.safetensors", {"m": np.zeros(3)}, {})
    with pytest.raises(CheckpointError, match="no plain JSON"):
        save_resume(tmp_path / "r.safetensors", {}, {"x": np.nan})
    assert os.listdir(tmp_path) == []


def test_model_and_resume_file_are_not_taken_for_each_other(tmp_path: Path) -> None:
    model, resume = tmp_path / "m.safetensors", tmp_path / "m.resume.safetensors"
    save(files.checkpoint(), model)
    save_resume(resume, {}, STATE)
    with pytest.raises(CheckpointError, match="not a model: give the model beside it"):
        load(resume)
    with pytest.raises(CheckpointError, match="is a model, not the state of a run"):
        load_resume(model)


@pytest.mark.parametrize("state", [None, [], 3, "x"])
def test_a_resume_file_without_a_state_is_refused(tmp_path: Path, state: Any) -> None:
    path = tmp_path / "r.safetensors"
    save_resume(path, {}, {})
    path.write_bytes(record(state=state)(path.read_bytes()))
    with pytest.raises(CheckpointError, match="it holds no state"):
        load_resume(path)


def test_a_newer_resume_file_asks_for_an_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    save_resume(path, {}, {})
    path.write_bytes(record(format_version=FORMAT_VERSION + 1)(path.read_bytes()))
    with pytest.raises(CheckpointError, match="upgrade charrnn"):
        load_resume(path)


def test_every_truncation_of_a_resume_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    save_resume(path, {"a": np.zeros(3, np.float32)}, STATE)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            load_resume(path)


# Where files lie


@pytest.mark.parametrize(
    ("model", "resume"),
    [
        ("m.safetensors", "m.resume.safetensors"),
        ("a/b.c.safetensors", "a/b.c.resume.safetensors"),
        ("plain", "plain.resume.safetensors"),
        ("v1.5", "v1.5.resume.safetensors"),
    ],
)
def test_the_resume_file_lies_beside_the_model(model: str, resume: str) -> None:
    assert resume_path(model) == Path(resume)
    assert resume_path(Path(model)) == Path(resume)


def test_a_glance_shows_all_but_the_tensors(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save(files.checkpoint(), path)
    assert vars(glance(path)) == vars(load(path)) | {"tensors": {}}
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="damaged"):
        glance(tmp_path / "cut.safetensors")


def test_how_a_text_was_read_is_in_the_file_of_the_lowest_version_that_can_say_it(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    for text, version in (
        (TextConfig(encoding="cp1252", lines=True), 1),
        (TextConfig(normal_form="NFC"), 3),
        (TextConfig(encoding_errors="skip"), 3),
    ):
        save(dataclasses.replace(files.checkpoint(), text=text), path)
        assert load(path).text == text
        record = json.loads(files.unpack(path.read_bytes())[0]["__metadata__"]["charrnn"])
        assert record["format_version"] == version
        assert ("normal_form" in record["text"]) == (text.normal_form is not None)
