"""When the compiled loop takes over from NumPy, as a test decides it, and for which CPU it is compiled."""

from __future__ import annotations

from typing import Any

import pytest

from charrnn.inference import engines, writing_loop
from charrnn.inference.numpy_network import PlainNetwork
from charrnn.kernels.machine import jit

compiled_only = pytest.mark.skipif(jit.JIT_DISABLED, reason="nothing is compiled")
AVX2 = "+avx2,+fma,+avx,+sse4.2,+sse4.1,+ssse3,+sse3,+sse2,+popcnt,+bmi,+bmi2"  # as Numba takes it


def has_longer_vectors() -> bool:
    """Whether this CPU has longer vectors than AVX2's. Without, all tests run on what AVX2 has."""
    import llvmlite.binding as llvm

    try:
        features = llvm.get_host_cpu_features()
        return bool(features.get("avx2") and features.get("avx512f"))
    except RuntimeError:
        return False


def let_load(monkeypatch, loader: Any) -> None:
    """Let it load the compiled loop, of whatever kind."""
    monkeypatch.setattr(engines, "loader_of", lambda kind: loader)


class Ready:
    """Stands in for the loader: the compiled loop is there after so many pieces (0: at once), or never."""

    def __init__(self, after: int | None) -> None:
        self.kernels: Any = None
        self._after = after
        self.considered = 0
        self._become_ready()

    def account(self, seconds: float, characters: int) -> None:
        assert seconds >= 0
        assert characters > 0

    def consider(self, left: int, network: PlainNetwork) -> None:
        self._become_ready()
        self.considered += 1

    def _become_ready(self) -> None:
        if self.considered == self._after and not jit.JIT_DISABLED:
            self.kernels = writing_loop


class AlwaysTogether:
    """Stands in for the pace: no call is timed."""

    def __init__(self, team: int) -> None:
        self.members = team

    def longest(self, characters: int) -> int:
        return characters

    def account(self, members: int, characters: int, seconds: float) -> None:
        assert members == self.members
        assert characters > 0
        assert seconds > 0
