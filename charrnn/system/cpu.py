"""What the CPU is called, and which instructions that matter here it has."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path

_ABOUT = Path("/proc/cpuinfo")
VECTORS = (
    "sse4_2", "avx", "fma", "f16c", "avx2", "avx512f", "avx512bw", "avx512vl", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_bf16", "asimd", "asimddp", "bf16", "sve", "sve2",
)  # fmt: skip


def cpu() -> tuple[str, list[str] | None]:
    """Its name, and which of VECTORS it has; None where the system does not say."""
    fields: dict[str, str] = {}
    with suppress(OSError):
        for line in _ABOUT.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip().lower(), value.strip())
    flags = fields.get("flags", fields.get("features"))
    # Not platform.processor(), which starts a process. Windows has a variable, and no /proc.
    name = fields.get("model name") or os.environ.get("PROCESSOR_IDENTIFIER") or platform.machine()
    return name, None if flags is None else [name for name in VECTORS if name in flags.split()]
