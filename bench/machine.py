"""The machine that is measured: what it is, and on how many threads all sides run."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

from charrnn.system import cpu as processor

# glibc then keeps the memory that a step gives back: worth up to a third of PyTorch's time.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "67108864",
}


def threads() -> int:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> float:
    """How many processes were running or ready to, on average over the last minute; 0 where unknown."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def environment() -> dict[str, str]:
    """Every library runs on all CPUs of this process, no more and no fewer."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    return dict.fromkeys(names, str(threads())) | {"PYTHONWARNINGS": "ignore"}


def has_glibc() -> bool:
    """Whether the malloc settings mean anything here."""
    return platform.libc_ver()[0] == "glibc"


def cpu() -> str:
    """The processor's name, as the system has it."""
    named = _sysctl("machdep.cpu.brand_string") if sys.platform == "darwin" else ""
    return named or processor.cpu()[0]


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16; elsewhere a large product would take minutes."""
    if sys.platform == "darwin":
        return _sysctl("hw.optional.arm.FEAT_BF16") == "1"
    return bool({"amx_bf16", "avx512_bf16", "bf16"} & {*(processor.cpu()[1] or ())})


def describe() -> dict[str, str]:
    """What a reader must know to judge the figures."""
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    count = threads()
    return {
        "cpu": f"{cpu()}, {count} core{'s' if count > 1 else ''}",
        "system": system,
        "python": f"Python {platform.python_version()}",
    }


def _sysctl(name: str) -> str:
    done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
    return done.stdout.strip()
