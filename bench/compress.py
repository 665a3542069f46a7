"""How small a text becomes: charrnn beside xz, bzip2 and, where 7-Zip is installed, PPMd.

    python bench/compress.py tinyshakespeare.txt -m checkpoints/tinyshakespeare.safetensors
    python bench/compress.py tinyshakespeare.txt -m m.safetensors --first 1000000

Prints a Markdown table. charrnn's file is decompressed again and compared, byte by byte. A model that was
trained on the text knows it: with the model counted, its file is part of what must be kept to have the text
again.
"""

from __future__ import annotations

import argparse
import bz2
import lzma
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import charrnn
from charrnn.api import compress, decompress


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("-m", "--model", type=Path, required=True)
    parser.add_argument("--first", type=int, metavar="N", help="only the first N bytes")
    a = parser.parse_args()
    data = a.corpus.read_bytes()[: a.first]
    model = charrnn.load(a.model)
    begun = time.perf_counter()
    packed = b"".join(compress(model, [data]))
    middle = time.perf_counter()
    if b"".join(decompress(model, [packed])) != data:
        raise SystemExit("what was decompressed is not what was compressed")
    end = time.perf_counter()
    weights = a.model.stat().st_size
    rows = {
        "charrnn, model not counted": len(packed),
        "charrnn, model counted": len(packed) + weights,
        "PPMd (7-Zip, order 16)": ppmd(data),
        "bzip2 -9": len(bz2.compress(data, 9)),
        "xz -9e": len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)),
    }
    print(f"{a.corpus.name}, {len(data):,} bytes\n")
    print("| | bytes | bits a byte |\n|---|---:|---:|")
    for name, size in rows.items():
        if size is not None:
            print(f"| {name} | {size:,} | {8 * size / len(data):.3f} |")
    speeds = (len(data) / (middle - begun), len(data) / (end - middle))
    print("\ncharrnn: {:,.0f} bytes/s compressing, {:,.0f} decompressing".format(*speeds))


def seven_zip() -> str | None:
    """The path of 7-Zip, if it is installed."""
    return next(filter(None, map(shutil.which, ("7zz", "7z", "7za"))), None)


def ppmd(data: bytes, order: int = 16) -> int | None:
    """Bytes of 7-Zip's PPMd, its archive's head included, or None where there is no 7-Zip."""
    program = seven_zip()
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "text").write_bytes(data)
        command = [program, "a", "-bd", f"-m0=PPMd:o={order}:mem=256m", "out.7z", "text"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return (Path(folder) / "out.7z").stat().st_size


if __name__ == "__main__":
    main()
