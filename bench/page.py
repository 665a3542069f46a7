"""What a page takes in Chromium: until it can write, until the first character, and characters a second.

    python bench/page.py [--hidden 128] [--repeats 5]

A model of prose with random weights (LSTM of 2 layers, 65 characters) is opened from file://, without a
window. Of many texts of 0.2 s the quickest counts: others may use the machine. It needs chromium and
chromium-driver.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import numpy as np
from support.browser import Browser, browser

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import ModelConfig, TextConfig
from charrnn.pages.page import page
from charrnn.vocabulary import Vocabulary

CHARACTERS = "\n !,-.'?" + "".join(map(chr, [*range(65, 91), *range(97, 123)])) + "éèàüö"
WITHOUT_VECTORS = """
const Whole = Blob;
Blob = function (parts, options) {
  return new Whole(options ? ["WebAssembly = undefined;", ...parts] : parts, options);
};
"""
FIRST = (
    "const from = performance.now(); return charrnn.write({length: 1}).then(() => performance.now() - from)"
)
SPEED = """
const [length, runs] = arguments;
async function best(most, left) {
  const from = performance.now();
  await charrnn.write({seed: left, length});
  const speed = Math.max(most, 1000 * length / (performance.now() - from));
  return left ? best(speed, left - 1) : speed;
}
return best(0, runs);
"""
RUNS = 20


def model(hidden: int) -> Checkpoint:
    """A network of random weights that writes varied text."""
    vocabulary = Vocabulary("".join(sorted(CHARACTERS)))
    config = ModelConfig(len(vocabulary), hidden_size=hidden, num_layers=2, embedding_size=hidden)
    random = np.random.default_rng(0)
    shapes = config.parameter_shapes().items()
    tensors = {
        name: (shape[-1] ** -0.5 * random.standard_normal(shape)).astype(np.float32) for name, shape in shapes
    }
    return Checkpoint(config, vocabulary, TextConfig(), tensors)


def measure(found: Browser, path: Path, length: int, repeats: int) -> tuple[str, float, float, float]:
    """The kernels' name, milliseconds until the page can write and to a first character, and the speed."""
    ready, first, speeds = [], [], []
    name = ""
    for _ in range(repeats):
        found.open(path.as_uri())
        answer: Any = found.run("return charrnn.ready.then((is) => [is.kernels, performance.now()])")
        name = answer[0]
        ready.append(answer[1])
        first.append(found.run(FIRST))
        speeds.append(found.run(SPEED, length, RUNS))
    return name, min(ready), min(first), max(speeds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, browser() as found:
        path = Path(folder, "page.html")
        path.write_text(page(model(options.hidden), "bench"), "utf-8")
        print(f"LSTM 2 x {options.hidden}, {path.stat().st_size:,} bytes")
        for length, script in ((6_000, ""), (500, WITHOUT_VECTORS)):
            found.command("Page.addScriptToEvaluateOnNewDocument", source=script)
            name, ready, first, speed = measure(found, path, length, options.repeats)
            print(
                f"{name:16}  ready {ready:5.0f} ms  first {first:5.1f} ms  {speed:8,.0f} characters/s",
                flush=True,
            )


if __name__ == "__main__":
    main()
