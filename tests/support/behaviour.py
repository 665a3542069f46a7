"""What charrnn does, as it was recorded: model files, outputs of commands, an interrupted run, an archive.

Every setting that a plan would choose is named, so that a recording changes only where what it shows does.
`tests/record_behaviour.py` makes the recordings; `tests/test_behaviour.py` holds that they are as they were.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

RECORDINGS = Path(__file__).parent.parent / "recordings" / "behaviour"
COMMANDS = RECORDINGS / "commands.json"
ARCHIVE = "prose.crnn"
INTERRUPTED = "interrupted.safetensors"

# Ten different characters, so that with ten hidden units a one-hot input has a skip connection, too.
_VERSE = (
    "she sells sea shells by the sea",
    "the shells she sells are by the bay",
    "a lass at the bay sells shells",
    "by the sea the tall lass yells",
    "all the bells at the bay yell",
)
TEXTS = {
    "prose.txt": "".join(
        line.replace("r", "l") + ("\n\n" if n % 7 == 3 else "\n")
        for n, line in enumerate(itertools.islice(itertools.cycle(_VERSE), 60))
    ),
    "lines.txt": "".join(
        f"{a}{b}{c}\n"
        for a, b, c in itertools.product(
            ("bea", "sal", "hel", "tay"), ("ba", "le", "ta", "sy"), ("", "l", "s", "tha")
        )
    ),
    "other.txt": "tell the lass at the sea\nthe bay yells\nshe sells bells at the bay\n" * 4,
    "unicode.txt": "Ünïcödé – Straße, Öl & 東京\nnaïve café: 12 €\n" * 12,
}

SIZES = ("--hidden-size", 10, "--seed", 3, "--threads", 2, "--precision", "float32")
LEARNING = (
    "--batch-size", 4, "--seq-len", 16, "--lr", 0.02, "--warmup", 0.1, "--weight-decay", 0.1, "--l1", 0,
    "--clip", 1, "--patience", 5, "--counts", 0,
)  # fmt: skip
SETTINGS = (*SIZES, *LEARNING, "--val-fraction", 0.1, "--val-split", "scattered", "--dropout", 0.1)
STEPS = ("--steps", 24)
CELLS = {
    "lstm": ("--cell", "lstm"),
    "gru": ("--cell", "gru"),
    "tanh": ("--cell", "rnn", "--nonlinearity", "tanh"),
    "relu": ("--cell", "rnn", "--nonlinearity", "relu"),
}


def models() -> Iterator[tuple[str, tuple[object, ...]]]:
    """The name of each model, and the words of the command that trains it, but for `-o`."""
    grid = itertools.product(CELLS, (False, True), (False, True), (0, 10))
    for n, (cell, norm, residual, embedding) in enumerate(grid):
        layers = 3 if (n + n // 8) % 2 else 1
        parts = [cell, "norm" * norm, "skip" * residual, "embedding" if embedding else "onehot"]
        yield "-".join(filter(None, parts)), (
            "train", "prose.txt", *SETTINGS, *STEPS, *CELLS[cell], "--num-layers", layers,
            "--norm" if norm else "--no-norm", "--residual" if residual else "--no-residual",
            "--embedding-size", embedding,
        )  # fmt: skip
    network = ("--num-layers", 2, "--embedding-size", 10, "--norm", "--residual")
    usual = (*SETTINGS, *STEPS, *CELLS["lstm"], *network)
    judged_by_another = (*SIZES, *LEARNING, "--dropout", 0.1, *STEPS, *CELLS["lstm"], *network)
    yield "lines", ("train", "lines.txt", "--lines", *usual)
    yield "lines-gru", ("train", "lines.txt", "--lines", *SETTINGS, *STEPS, *CELLS["gru"], *network)
    yield "bytes", ("train", "unicode.txt", "--bytes", *usual)
    yield "unicode", ("train", "unicode.txt", *usual)
    yield "end", ("train", "prose.txt", *usual, "--val-split", "end")
    yield "judged", ("train", "prose.txt", "--val", "other.txt", *judged_by_another)
    yield "files", ("train", "prose.txt", "other.txt", *usual)
    yield "epochs", ("train", "prose.txt", *SETTINGS, "--epochs", 1.5, *CELLS["lstm"], *network, "--l1", 0.01)


INTERRUPTED_AT = 13
PROSE, LINES, GRU = "lstm-norm-skip-embedding", "lines", "gru-norm-skip-embedding"


def commands() -> Iterator[tuple[tuple[object, ...], bytes]]:
    """Command lines over all commands, with what they read from stdin. Models are those of `models`."""

    def model(name: str) -> tuple[str, str]:
        return "-m", f"{name}.safetensors"

    prose, lines, raw = model(PROSE), model(LINES), model("bytes")
    sampled = ("sample", *prose, "--seed", 5, "-n", 80)
    for options in (
        (), ("--temp", 0), ("--temp", 1.3), ("--top-k", 3), ("--top-p", 0.7), ("--min-p", 0.2),
        ("--typical", 0.6),
        ("--mirostat", 1.5), ("--mirostat", 1.5, "--mirostat-rate", 0.4), ("--dry", 0.8, "--dry-length", 4),
        ("--dry", 2, "--dry-base", 2, "--dry-length", 2), ("--count", 3), ("--count", 2, "--best-of", 4),
        ("--prompt", "she "), ("--prompt", "she ", "--echo"), ("--until", "sh"),
        ("--until", "ll", "--until", "y"),
        ("--until", "sh", "--drop-until"), ("--match", "[a-z ]{10,20}"),
        ("--match", "(sea|bay| )+", "--exact"),
        ("--ban", "s", "--ban", "ll"), ("--only", "abel "), ("--novel", "8"), ("--novel",),
        ("--unique", "--count", 3),
        ("--json", "--count", 2), ("--prompt", "x"), ("--prompt", "xsx", "--on-unknown", "skip", "--echo"),
        ("--temp", -1), ("--match", "x+"), ("--match", "("),
    ):  # fmt: skip
        yield (*sampled, *options), b""
    named = ("sample", *lines, "--seed", 5)
    for options in (
        (), ("--count", 30), ("--novel", "--unique", "--count", 20), ("--match", "[bs]e?a.*"),
        ("--prompt", "b"),
        ("--match", "(be|sa)[a-z]{2,6}", "--exact", "--count", 5), ("--ban", "a"), ("--best-of", 5),
        ("-n", 3),
        ("--json", "--count", 3),
    ):  # fmt: skip
        yield (*named, *options), b""
    yield ("sample", *lines, "--seed", 5, "--prompts", "-", "--echo"), b"be\nsal\n\nta\n"
    yield ("sample", *lines, "--seed", 5, "--prompts", "-", "--count", 2), b"be\nx\n"
    yield ("sample", *prose, "--seed", 5, "-n", 40, "--prompt", "-", "--echo"), b"the sea\n"
    yield ("sample", *raw, "--seed", 5, "-n", 60), b""
    yield ("sample", *model("unicode"), "--seed", 5, "-n", 60), b""
    for name in ("gru-skip-onehot", "tanh-norm-embedding", "relu-norm-skip-onehot", "relu-embedding"):
        yield ("sample", *model(name), "--seed", 2, "-n", 120), b""
    mixed = ("-m", f"{PROSE}.safetensors:2", "-m", f"{GRU}.safetensors")
    yield ("sample", *mixed, "--seed", 5, "-n", 80), b""
    yield ("sample", *mixed, *lines, "--seed", 5, "--count", 5), b""
    yield ("sample", *mixed, "--seed", 5, "-n", 60, "--match", "[a-z ]+", "--dry", 1), b""
    for options in (
        ("-n", 10), ("-n", 5, "--prompt", "be"), ("-n", 5, "--match", "[bs].*a"), ("-n", 4, "--length", 3),
        ("--above", 0.01), ("-n", 3, "--json"), ("-n", 0), ("-n", 5, "--prompt", "x"),
    ):  # fmt: skip
        yield ("enumerate", *lines, *options), b""
    yield ("enumerate", *prose, "-n", 3), b""
    for pattern, *options in (
        ("b?a", "-n", 5), ("*ll*", "-n", 4), ("s___y", "-n", 4), ("b\\??", "-n", 2),
        ("she ?? by", "--part", "-n", 3),
        ("b*", "--beam", 4, "--gap", 5, "-n", 3), ("s?a", "-n", 2, "--json"), ("x?y",),
    ):  # fmt: skip
        yield ("fill", pattern, *lines, *options), b""
    for options in (
        (),
        ("--json",),
        ("--dynamic",),
        ("--dynamic", "--segment", 7, "--rate", 0.001, "--json"),
    ):
        yield ("eval", f"{PROSE}.safetensors", "other.txt", *options), b""
    yield ("eval", f"{LINES}.safetensors", "lines.txt"), b""
    yield ("eval", f"{PROSE}.safetensors", "-", "--on-unknown", "skip"), b"she yells, too\n"
    yield ("eval", f"{PROSE}.safetensors", "-"), b"she yells, too\n"
    yield ("eval", "bytes.safetensors", "unicode.txt"), b""
    for name in (PROSE, "lines-gru", "bytes"):
        yield ("info", f"{name}.safetensors"), b""
    yield ("info", f"{LINES}.safetensors", "--json"), b""
    odd = b"beatha\nsally\n\nxyz\nlllll\nbeatha\n"
    for options in (
        (), ("--top", 2), ("--threshold", 4), ("--total",), ("--json",), ("--total", "--json"),
        ("--unknown-bits", 9),
    ):  # fmt: skip
        yield ("score", *lines, *options, "-"), odd
    yield ("score", *prose, "other.txt"), b""
    yield ("score", *prose, "--heat", "-"), b"she sells\nzzz\n"
    yield ("score", *prose, "--html", "-", "-"), b"she sells\nzzz\n"
    yield ("score", *prose, "--svg", "-", "-"), b"she sells\nzzz\n"
    yield ("score", *raw, "-"), "Öl\nÜn\n".encode()
    for options in ((), ("she",), ("she ", "--top", 3), ("sh", "--temp", 0.5, "--json", "--top", 2), ("x",)):
        yield ("next", *options, *prose), b""
    yield ("next", *lines, "--top", 3), b""
    yield ("next", *raw, "--top", 4), b""
    yield ("next", "the sea", *mixed, "--top", 3), b""
    for options in ((), ("--prior", "0.9,0.1"), ("--json",), ("--prior", "1")):
        yield ("classify", *prose, *model("unicode"), *options, "-"), "she sells\nÖl 12\n\n".encode()
    yield ("classify", *prose, "-"), b"she sells\n"
    yield ("compress", *prose, "prose.txt", "-q"), b""
    yield ("compress", *lines, "-q"), "beatha\nsalé\n".encode()
    yield ("compress", *raw, "unicode.txt", "-q"), b""
    yield ("decompress", *prose, ARCHIVE), b""
    yield ("decompress", *model(GRU), ARCHIVE), b""
    yield ("decompress", *prose, "prose.txt"), b""
    yield ("train", "none.txt", "-q"), b""
    yield ("train", "-", "-q"), b""
    yield ("train", "prose.txt", "--steps", 1, "--epochs", 2), b""
    yield ("train", "prose.txt", "--cell", "xyz"), b""
    yield ("info", "none.safetensors"), b""
    yield ("sample", "-m", "prose.txt"), b""
    yield ("frobnicate",), b""
    yield ("--version",), b""


def text(output: bytes) -> str:
    """Output as JSON can hold it; bytes that are no text as lone surrogates."""
    return output.decode("utf-8", "surrogateescape")
