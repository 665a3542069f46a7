"""A model -> a script that opens it in PyTorch: the lines of docs/pytorch.md, with a file and a prompt."""

from __future__ import annotations

from pathlib import Path

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.errors import CheckpointError, printable
from charrnn.nn.modules.dropout import Dropout
from charrnn.nn.modules.embedding import Embedding
from charrnn.nn.modules.layer_norm import LayerNorm
from charrnn.nn.modules.linear import Linear
from charrnn.nn.modules.recurrent import Recurrent

FOLDER = Path(__file__).parent
FILE, PROMPT = '"m.safetensors"', '"Port"'  # as the lines have them
CELLS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
_HEAD = """# What {name} expects after a text, in PyTorch. Made by: charrnn export torch
# pip install numpy safetensors torch
"""
_TAIL = """
# What comes next, the most probable first, as `charrnn next` tells it.
for chance, i in zip(*(found.tolist() for found in {p}[-1].topk({most}))):
    print(f"{{chance:.4f}}", repr(info["vocabulary"][i]) if i < len(info["vocabulary"]) else "the end")
"""


def torch_script(checkpoint: Checkpoint, path: str | Path, prompt: str) -> str:
    """The script that opens the model in the file `path`.

    Raises:
        CheckpointError: a part of the network is none that the lines know.
    """
    for module in checkpoint.config.network().flat():
        is_known = isinstance(module, (Dropout, Embedding, LayerNorm, Linear))
        if not is_known and not (isinstance(module, Recurrent) and module.cell.name in CELLS):
            raise CheckpointError(
                f"the script has no lines for {module!r}", "see docs/pytorch.md, or give another model"
            )
    lines = (FOLDER / "network.txt").read_text("utf-8")
    lines = lines.replace(FILE, repr(str(path))).replace(PROMPT, repr(prompt))
    if checkpoint.counts is not None:
        lines += (FOLDER / "counts.txt").read_text("utf-8")
    p = "logits.softmax(1)" if checkpoint.counts is None else "p"
    tail = _TAIL.format(p=p, most=min(5, checkpoint.config.outputs))
    return _HEAD.format(name=printable(Path(path).name)) + lines + tail
