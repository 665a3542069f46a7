"""The AMX tile on an emulator of its instructions: what it reads, multiplies and writes, on any CPU."""

from __future__ import annotations

import ctypes
import platform
import threading

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from charrnn.config import ModelConfig
from charrnn.kernels.products import amx, tile
from charrnn.nn.network import Model, initial_tensors
from charrnn.nn.workers import Workers

PREFIX = "charrnn_emulated_"
NUMBER, BYTE = ctypes.c_int64, ctypes.c_uint8

x86 = pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="an x86 compiler")


class Emulator(threading.local):
    """The tile registers of a thread, as the manual describes them; what is not allowed fails."""

    def __init__(self) -> None:
        self.registers: list[np.ndarray] | None = None

    def ldtilecfg(self, address):
        memory = ctypes.string_at(address, 64)
        assert memory[0] == 1
        widths, heights = np.frombuffer(memory[16:32], np.uint16), memory[48:56]
        assert max(widths) <= 64
        assert max(heights) <= 16
        assert not any(memory[2:16] + memory[32:48] + memory[56:])  # reserved
        self.registers = [np.zeros((h, w // 4), np.uint32) for h, w in zip(heights, widths, strict=True)]

    def tilerelease(self):
        self.registers = None

    def tileloadd64(self, register, address, stride):
        for row, line in enumerate(self._lines(register)):
            line[:] = np.frombuffer(ctypes.string_at(address + row * stride, line.nbytes), np.uint32)

    def tilestored64(self, register, address, stride):
        for row, line in enumerate(self._lines(register)):
            ctypes.memmove(address + row * stride, line.tobytes(), line.nbytes)

    def tdpbf16ps(self, c, a, b):
        C, A, B = (self._lines(register) for register in (c, a, b))
        assert C.shape == (len(A), B.shape[1])
        assert A.shape[1] == len(B)
        product = np.einsum("rki,kni->rn", self._numbers(A), self._numbers(B))
        C[:] = (C.view(np.float32) + product).astype(np.float32).view(np.uint32)

    def _lines(self, register):
        assert self.registers is not None, "not configured"
        assert self.registers[register].size, "configured as empty"
        return self.registers[register]

    def _numbers(self, words):
        return np.stack([words << 16, words & 0xFFFF0000], -1).view(np.float32).astype(np.float64)


KINDS = {
    "ldtilecfg": [NUMBER], "tilerelease": [], "tileloadd64": [BYTE, NUMBER, NUMBER],
    "tilestored64": [BYTE, NUMBER, NUMBER], "tdpbf16ps": [BYTE] * 3,
}  # fmt: skip


def module(prefix):
    """LLVM's module with the tile as its one function."""
    word = ir.IntType(64)
    written = ir.Module("amx")
    function = ir.Function(written, ir.FunctionType(ir.VoidType(), [word] * len(tile.Tile._fields)), "tile")
    builder = ir.IRBuilder(function.append_basic_block())
    amx.emit_tile(builder, function.args, prefix)
    builder.ret_void()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.parse_assembly(str(written))


@pytest.fixture(scope="module")
def emulated():
    """(address of the tile, the emulator that it runs on)"""
    emulator, callbacks, failures = Emulator(), [], []

    def guarded(method):
        def call(*arguments):
            try:
                method(*arguments)
            except Exception as error:  # it cannot cross compiled code
                failures.append(error)

        return call

    for name, kinds in KINDS.items():
        callbacks.append(ctypes.CFUNCTYPE(None, *kinds)(guarded(getattr(emulator, name))))
        llvm.add_symbol(PREFIX + name, ctypes.cast(callbacks[-1], ctypes.c_void_p).value)
    machine = llvm.Target.from_default_triple().create_target_machine(opt=3, jit=True)
    compiled = module(PREFIX)
    engine = llvm.create_mcjit_compiler(compiled, machine)
    engine.finalize_object()
    yield engine.get_function_address("tile"), emulator
    assert not failures


def test_the_tile_multiplies(emulated):
    address, emulator = emulated
    function = ctypes.CFUNCTYPE(None, *[NUMBER] * len(tile.Tile._fields))(address)
    assert amx.multiplies(function)
    assert emulator.registers is None  # released


def less_deep(*arguments):
    *start, depth, ahead, ahead_k = arguments
    return *start, max(1, depth - 16), ahead, ahead_k


def test_a_tile_that_computes_something_else_is_found_out(emulated):
    address, _ = emulated
    function = ctypes.CFUNCTYPE(None, *[NUMBER] * len(tile.Tile._fields))(address)
    assert not amx.multiplies(lambda *arguments: None)
    assert not amx.multiplies(lambda rows, *arguments: function(max(1, rows - 1), *arguments))
    assert not amx.multiplies(lambda *arguments: function(*less_deep(*arguments)))


@x86
def test_llvm_knows_the_instructions():
    target = llvm.Target.from_triple("x86_64-unknown-linux-gnu")
    machine = target.create_target_machine(cpu="sapphirerapids", features="+amx-tile,+amx-bf16", opt=3)
    text = machine.emit_assembly(module("llvm.x86."))
    for name in ("ldtilecfg", "tileloadd", "tdpbf16ps", "tilestored", "tilerelease"):
        assert f"\t{name}" in text
    assert "call" not in text


@pytest.mark.skipif(not tile.HAS_BFLOAT16, reason="this CPU has no AVX512_BF16")
@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(20, hidden_size=40, embedding_size=40, dropout=0.2),
        ModelConfig(7, "gru", hidden_size=33, embedding_size=0, num_layers=2, norm=False),
        ModelConfig(40, "rnn", hidden_size=17, embedding_size=5),
    ],
    ids=lambda config: config.cell,
)
def test_a_network_on_it_has_the_gradients_of_the_other_tile(config, emulated, monkeypatch):
    """Whatever it reads beyond the ends of rows and sums must be zero."""
    rng = np.random.default_rng(2)
    T, B, V = 7, 5, config.vocab_size
    x, y = (rng.integers(0, V, (T, B)).astype(np.int32) for _ in range(2))
    results = []
    for address in (0, emulated[0]):
        monkeypatch.setattr(amx, "tile_address", lambda address=address: address)
        model = Model(config, workers=Workers(2), bfloat16=True)
        model.load_tensors(initial_tensors(config, 1))
        for _ in range(2):  # the second meets what the first left in the buffers
            loss, _ = model.gradient(x, y, dropout_seed=3)
        results.append((loss, model.gradients.flat.copy()))
    assert results[1][0] == pytest.approx(results[0][0], abs=1e-6)
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=0, atol=2e-5)


@pytest.mark.skipif(not {"amx-tile", "amx-bf16"} <= tile.FEATURES, reason="this CPU has no AMX")
def test_where_there_is_amx_it_is_used():
    assert amx.tile_address() != 0


def test_without_the_features_there_is_no_tile(monkeypatch):
    monkeypatch.setattr(amx, "FEATURES", tile.FEATURES - {"amx-tile"})
    assert amx.tile_address.__wrapped__() == 0


def test_a_system_that_does_not_grant_the_registers_gets_no_tile(monkeypatch):
    monkeypatch.setattr(amx, "FEATURES", tile.FEATURES | {"amx-tile", "amx-bf16"})
    monkeypatch.setattr(amx, "_granted", lambda: False)
    assert amx.tile_address.__wrapped__() == 0
