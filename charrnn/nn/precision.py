"""The choice between float32 and bfloat16 matrix products; the latter are twice as fast on some CPUs.

Only the operands of matrix products are rounded to bfloat16 (nn.operands). Training reaches the same loss in
as many steps, within the noise between seeds (bench/precision.py), so speed alone decides.
"""

from __future__ import annotations

from typing import Any

from charrnn.config import ModelConfig, TrainPrecision
from charrnn.errors import CharrnnError, TrainingError
from charrnn.kernels.products import amx
from charrnn.kernels.products.tile import HAS_BFLOAT16, HAS_FAST_BFLOAT16
from charrnn.ranks.ranks import Ranks

# The hidden size from which bfloat16 pays: at 128, float32 takes 1.3 times as long (Zen 5), at 512 twice. For
# a smaller network, compiling the rounding kernels takes as long as they save.
SMALLEST = 128


def choose(wanted: TrainPrecision, network: ModelConfig) -> TrainPrecision:
    """float32 or bfloat16: `wanted`, or for "auto" the faster one on this CPU.

    Raises:
        TrainingError: this CPU has no instructions for `wanted`.
    """
    if wanted == "auto":
        wide = network.hidden_size >= SMALLEST and network.kind == "writer"
        return "bfloat16" if wide and is_fast() else "float32"
    require(wanted, "train with --precision float32, which works everywhere")
    return wanted


def agreed(wanted: TrainPrecision, ranks: Ranks) -> tuple[TrainPrecision, str]:
    """What is wanted, as far as all ranks have it, and what to say if not all have what others have.

    Raises:
        TrainingError: a rank has no instructions for it.
    """
    if ranks.size == 1:
        return wanted, ""
    with ranks.asking(_tell, [()] * ranks.size):
        told = ranks.gather(_abilities())
    lacking = [rank for rank, (has, *_) in enumerate(told) if not has]
    if wanted == "bfloat16" and lacking:
        raise TrainingError(
            f"rank {lacking[0]} has a CPU without bfloat16 instructions (AVX512_BF16)",
            "train with --precision float32, which works everywhere",
        )
    if wanted == "auto" and len(set(told)) > 1:
        return "float32", "not all ranks have the same bfloat16 instructions: all use float32"
    return wanted, ""


def _abilities() -> tuple[bool, bool, bool]:
    """Whether this CPU has bfloat16, whether that is fast, and whether by AMX, which rounds otherwise."""
    return HAS_BFLOAT16, is_fast(), amx.tile_address() != 0


def _tell(ranks: Ranks, held: Any) -> Any:
    """On another rank: say what its CPU has."""
    ranks.gather(_abilities())
    return held


def is_fast() -> bool:
    """Whether this CPU multiplies faster in bfloat16 than in float32."""
    return HAS_FAST_BFLOAT16 or amx.tile_address() != 0


def require(precision: TrainPrecision, hint: str, error: type[CharrnnError] = TrainingError) -> None:
    """
    Raises:
        error: this CPU has no instructions for the precision; `hint` says what to do.
    """
    if precision == "bfloat16" and not HAS_BFLOAT16:
        raise error("this CPU has no bfloat16 instructions (AVX512_BF16)", hint)
