"""Whether matrix products multiply in float32 or in bfloat16, which some CPUs do twice as fast.

Only what matrix products read is rounded to bfloat16 (nn.operands). Training comes to the same loss in
as many steps, within the noise between seeds (bench/precision.py), so there speed alone decides.
"""

from __future__ import annotations

from charrnn.config import ModelConfig, TrainPrecision
from charrnn.errors import CharrnnError, TrainingError
from charrnn.kernels.products import amx
from charrnn.kernels.products.tile import HAS_BFLOAT16, HAS_FAST_BFLOAT16

# Hidden units from which on it pays: at 128, steps take 1.3 times as long in float32 (Zen 5), at 512 twice.
# A smaller network is trained so quickly that compiling what rounds would cost what it saves.
SMALLEST = 128


def choose(wanted: TrainPrecision, network: ModelConfig) -> TrainPrecision:
    """float32 or bfloat16: what is wanted, or for auto the faster of them on this CPU.

    Raises:
        TrainingError: the CPU cannot do what is wanted.
    """
    if wanted == "auto":
        wide = network.hidden_size >= SMALLEST
        return "bfloat16" if wide and is_fast() else "float32"
    require(wanted, "train with --precision float32, which works everywhere")
    return wanted


def is_fast() -> bool:
    """Whether this CPU multiplies faster in bfloat16 than in float32."""
    return HAS_FAST_BFLOAT16 or amx.tile_address() != 0


def require(precision: TrainPrecision, hint: str, error: type[CharrnnError] = TrainingError) -> None:
    """Refuse what this CPU cannot do.

    Raises:
        error: it has no instructions for the precision; `hint` says what to do.
    """
    if precision == "bfloat16" and not HAS_BFLOAT16:
        raise error("this CPU has no bfloat16 instructions (AVX512_BF16)", hint)
