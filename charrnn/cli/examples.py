"""What the help of each command ends with: two examples, and its page. `make man` takes them, too."""

from __future__ import annotations

from typing import NamedTuple


class Guide(NamedTuple):
    """How one begins with a command, and where to read on."""

    page: str  # in docs/
    examples: tuple[str, str]


GUIDES = {
    "train": Guide(
        "quality.md",
        ("charrnn train corpus.txt", "charrnn train names.txt --lines --minutes 10"),
    ),
    "sample": Guide(
        "control.md",
        (
            "charrnn sample --count 5 --seed 7",
            "charrnn sample -m tales --prompt Once -n 300 --temp 0.8",
        ),
    ),
    "serve": Guide(
        "serving.md",
        ("charrnn serve -m tales --port 8080", "charrnn serve -m tales --print-llm-config"),
    ),
    "enumerate": Guide(
        "search.md",
        (
            "charrnn enumerate -n 20 --prompt 'New '",
            "charrnn enumerate -n 3 --match '.*(ton|burg)'",
        ),
    ),
    "fill": Guide("search.md", ("charrnn fill 'B?r___in'", "charrnn fill -m tales 'the k???' --part")),
    "eval": Guide(
        "adaptive.md",
        ("charrnn eval -m tales other.txt", "charrnn eval -m tales other.txt --adaptive"),
    ),
    "diagnose": Guide(
        "diagnosing.md",
        ("charrnn diagnose -m tales corpus.txt", "charrnn diagnose --events run.jsonl"),
    ),
    "neurons": Guide(
        "neurons.md",
        (
            "charrnn neurons -m tales corpus.txt --find words",
            "charrnn neurons -m tales corpus.txt --unit 1:3 --html unit.html",
        ),
    ),
    "info": Guide("models.md", ("charrnn info tales", "charrnn info tales --plot loss.svg")),
    "models": Guide("models.md", ("charrnn models", "charrnn models --json")),
    "score": Guide(
        "reading.md",
        ("charrnn score -m tales corpus.txt --top 10", "charrnn score -m tales corpus.txt --html heat.html"),
    ),
    "next": Guide("reading.md", ("charrnn next San --top 3", "charrnn next -m tales 'Once upon' --json")),
    "classify": Guide(
        "classifying.md",
        (
            "charrnn classify -m surnames names.txt --top 3",
            "charrnn classify -m tales -m names corpus.txt",
        ),
    ),
    "restore": Guide(
        "restoring.md", ("charrnn restore -m cs plain.txt", "charrnn restore -m cs plain.txt --json")
    ),
    "tag": Guide("tagging.md", ("charrnn tag -m cuts texts.txt", "charrnn tag -m cuts texts.txt --json")),
    "rewrite": Guide(
        "rewriting.md", ("charrnn rewrite -m say words.txt", "charrnn rewrite -m say words.txt -n 3 --align")
    ),
    "compress": Guide(
        "reading.md",
        (
            "charrnn compress corpus.txt -o corpus.crnn",
            "charrnn compress -m tales corpus.txt --adaptive -o small.crnn",
        ),
    ),
    "decompress": Guide(
        "reading.md",
        ("charrnn decompress corpus.crnn -o again.txt", "charrnn decompress -m tales small.crnn"),
    ),
    "export page": Guide(
        "page.md",
        (
            "charrnn export page -m tales -o tales.html",
            "charrnn export page -m tales --precision float32 -o exact.html",
        ),
    ),
    "export torch": Guide(
        "pytorch.md",
        ("charrnn export torch -m tales", "charrnn export torch -m tales --prompt Once -o tales.py"),
    ),
    "export onnx": Guide(
        "onnx.md",
        (
            "charrnn export onnx -m tales -o tales.onnx",
            "charrnn export onnx -m origins --label Greek -o greek.onnx",
        ),
    ),
}
