"""Builds kernels.wasm from kernels.c with the compiler of PyPI's ziglang: make kernels"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
VERSION = "0.17.1"  # of ziglang: another one may place the same instructions otherwise
# -ffp-contract=off: no product and sum become one operation, which rounds once. A page's memory leaves the
# first 64 KiB to what the linker places: constants and the stack.
FLAGS = (
    "-target", "wasm32-freestanding", "-O2", "-msimd128", "-ffp-contract=off", "-nostdlib",
    "-Wl,--no-entry", "-Wl,--import-memory", "-Wl,--strip-all", "-Wl,-z,stack-size=16384",
)  # fmt: skip


def build(out: Path) -> None:
    """Write the compiled kernels. CalledProcessError: there is no ziglang, or it cannot compile them."""
    words = [sys.executable, "-m", "ziglang", "cc", *FLAGS, "-o", str(out), str(FOLDER / "kernels.c")]
    subprocess.run(words, check=True)


if __name__ == "__main__":
    build(FOLDER / "kernels.wasm")
