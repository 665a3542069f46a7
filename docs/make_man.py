"""Writes docs/man/, a page of the manual for each command, from what `--help` has: python docs/make_man.py"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import charrnn  # noqa: E402
from charrnn.cli import parsing  # noqa: E402
from charrnn.cli.examples import GUIDES  # noqa: E402

FOLDER = Path(__file__).parent / "man"
EXIT_STATUS = (
    "0 done, 1 it could not be done (one line says why, and what to do), 2 used wrongly, 129 the terminal "
    "was closed, 130 Ctrl-C, 143 SIGTERM. A closed pipe ends quietly."
)


def pages() -> dict[str, str]:
    """Each page by the name of its file."""
    return {f"{name}.1": page for name, page in _of(parsing.program(), ("charrnn",), "")}


def _of(command: Any, words: tuple[str, ...], line: str) -> list[tuple[str, str]]:
    """The page of a command, and of those inside it."""
    context = command.context_class(command, info_name=" ".join(words), **command.context_settings)
    inner = dict(getattr(command, "commands", {}))
    name, full = "-".join(words), " ".join(words)
    line = line or "learn to write like a text file"
    out = [f'.TH {_text(name.upper())} 1 "" "charrnn {charrnn.__version__}" "charrnn"']
    out += [".SH NAME", _text(f"{name} - {line[:1].lower()}{line[1:].rstrip('.')}")]
    out += [".SH SYNOPSIS", f".B {_text(full)}", _text(" ".join(command.collect_usage_pieces(context)))]
    out += [".SH DESCRIPTION"]
    for number, paragraph in enumerate((command.help or "").strip().split("\n\n")):
        out += [".PP"] * (number > 0) + [_text(" ".join(paragraph.split()))]
    if inner:
        out += [".SH COMMANDS"]
        for word, one in inner.items():
            out += [".TP", f".B {_text(word)}", _text(str(one.short_help))]
    for heading, rows in _options(command, context).items():
        out += [f".SH {_text(heading.upper())}"]
        for names, text in rows:
            out += [".TP", f".B {_text(names)}", _text(text)]
    guide = GUIDES.get(" ".join(words[1:]))
    if guide is not None:
        out += [".SH EXAMPLES", ".nf", *map(_text, guide.examples), ".fi"]
    out += [".SH EXIT STATUS", _text(EXIT_STATUS)]
    also = [f"{name}-{word}(1)" for word in inner] or ["-".join(words[:-1]) + "(1)"]
    out += [".SH SEE ALSO", _text(", ".join([*also, *([f"docs/{guide.page}"] if guide else [])]))]
    found = [(name, "\n".join(out) + "\n")]
    for word, one in inner.items():
        found += _of(one, (*words, word), str(one.short_help))
    return found


def _options(command: Any, context: Any) -> dict[str, list[tuple[str, str]]]:
    """What the help lists, by heading."""
    found: dict[str, list[tuple[str, str]]] = {}
    for param in command.get_params(context):
        if not param.hidden:
            argument = param.param_type_name == "argument"
            heading = getattr(param, "rich_help_panel", None) or ("Arguments" if argument else "Options")
            found.setdefault(heading, []).append((parsing._names(param), param.help or ""))
    return found


def _text(text: str) -> str:
    """The text, in which nothing is a request or an escape of roff."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + escaped if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    made = pages()
    for path in FOLDER.glob("*.1"):
        if path.name not in made:
            path.unlink()
    for name, page in made.items():
        (FOLDER / name).write_text(page, encoding="utf-8", newline="\n")
