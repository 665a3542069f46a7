"""The commands, one module each: options, a call of charrnn.api, the output.

They may import all of the command line.
"""

from collections.abc import Mapping

Place = str | Mapping[str, tuple[str, str]]  # module and function; of a group, those of its commands
Places = Mapping[str, tuple[Place, str]]  # by the name of a command; and its line of help

_EXPORTS = {
    "page": ("sharing.export:page", "One HTML file that writes, in any browser."),
    "torch": ("sharing.export:torch", "A script that opens a model in PyTorch."),
    "onnx": ("sharing.export:onnx", "A network for ONNX's runtimes."),
}
COMMANDS: Places = {  # in the order of the help
    "train": ("train:train", "Learn to write like a text."),
    "sample": ("sample:sample", "Write new text with a model."),
    "serve": ("sharing.serve:serve", "Write for programs that ask over HTTP."),
    "export": (_EXPORTS, "Make a file of a model that needs no charrnn."),
    "enumerate": ("searches:enumerate_lines", "List the most probable lines."),
    "fill": ("searches:fill", "Fill the gaps of a text."),
    "eval": ("evaluate:evaluate", "Measure how well a model does on a text."),
    "diagnose": ("looking.diagnose:diagnose", "Show how a network learns and looks back."),
    "neurons": ("looking.neurons:neurons", "Show what single units of a network follow."),
    "info": ("info:info", "Show what a model is and how it was trained."),
    "models": ("info:models", "List the models that there are."),
    "score": ("score:score", "Say how surprising each line of a text is."),
    "next": ("next:next_", "Show what a model expects next."),
    "classify": ("classify:classify", "Say which label each line has."),
    "restore": ("readers:restore", "Put back accents, case, spaces or punctuation."),
    "tag": ("readers:tag", "Tag each character of each line."),
    "rewrite": ("readers:rewrite", "Rewrite each line, as pairs have taught."),
    "compress": ("compress:compress", "Make a file small with a model."),
    "decompress": ("compress:decompress", "Make a compressed file what it was."),
}
