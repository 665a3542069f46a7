"""A regular expression -> its deterministic automaton over a model's characters.

The automaton is made by outlines-core, whose engine is Rust's regex-automata. An expression may need more
states than there are atoms, so this happens in a process of its own, which is ended when it takes too long or
too much memory: no expression can hang or fill the one that asked.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from charrnn.errors import ConfigError, SamplingError, printable, quoted

SECONDS = 2.0  # for one expression; a usual one takes a tenth of that
MEMORY = 2**30  # bytes, where the system can bound them
MAX_STATES = 2**16
MAX_EDGES = 2**24
MAX_LENGTH = 10_000  # characters of an expression

SYNTAX = "see docs/control.md for what can be written"
_WORKER = Path(__file__).with_name("expression_worker.py")

Piece = str | tuple[str, bool]


@dataclass(frozen=True, eq=False, slots=True)
class Expression:
    """A deterministic automaton that reads characters of a vocabulary (V). Read-only."""

    table: npt.NDArray[np.int32]  # (S, V) the next state; -1: no word of the expression goes on like this
    final: npt.NDArray[np.bool_]  # (S,) whether a word ends here
    start: int


@functools.lru_cache(maxsize=16)
def compiled(expression: str, characters: str) -> Expression:
    """The automaton of an expression that whole texts must match, over these characters.

    The syntax is that of Rust's regex crate, Unicode's classes included. Look-around, back-references and
    word boundaries are no part of it; "^" at the start and "$" at the end say nothing and may stand there.

    Raises:
        ConfigError: it is no expression, or needs too many states, too much time or memory.
        SamplingError: the library is not installed.
    """
    if len(expression) > MAX_LENGTH:
        raise ConfigError(
            f"the expression has {len(expression):,} characters", f"give at most {MAX_LENGTH:,}"
        )
    answer = _ask(
        {
            "pieces": _pieces(expression),
            "characters": characters,
            "end": next(chr(n) for n in range(0x10FFFF, 0, -1) if chr(n) not in characters),
            "memory": MEMORY,
        },
        expression,
    )
    if "missing" in answer:
        raise SamplingError(
            f"{answer['missing']} is not installed, which makes automata of expressions",
            f"pip install {answer['missing']}",
        )
    if "error" in answer:
        raise ConfigError(f"{quoted(expression)} is no regular expression: {_why(expression)}", SYNTAX)
    states = answer["states"]
    if len(states) > MAX_STATES or len(states) * len(characters) > MAX_EDGES:
        raise _too_large(expression)
    table = np.full((max(len(states), 1), len(characters)), -1, np.int32)
    for row, edges in zip(table, states, strict=False):
        if edges:
            at, to = np.array(edges, np.int32).T
            row[at] = to
    final = np.array(answer["final"] or [False], np.bool_)
    table.flags.writeable = final.flags.writeable = False
    return Expression(table, final, max(answer["start"], 0))


def _ask(question: dict[str, Any], expression: str) -> dict[str, Any]:
    """What the worker answers."""
    # -P: the worker's folder, which is this package, is no place to import from.
    command = [sys.executable, "-P", str(_WORKER)]
    try:
        done = subprocess.run(
            command, input=json.dumps(question).encode(), capture_output=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        raise _too_large(expression) from None
    except OSError as problem:
        raise SamplingError(
            f"Python cannot be started to read the expression: {printable(problem.strerror or str(problem))}"
        ) from problem
    if done.returncode != 0:  # it had no more memory
        raise _too_large(expression)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _too_large(expression: str) -> ConfigError:
    return ConfigError(
        f"the automaton of {quoted(expression)} would be too large",
        "give a simpler expression: smaller counts, and fewer choices before them",
    )


def _pieces(expression: str) -> list[Piece]:
    """The expression, cut where a class such as "\\w" stands: (the class, whether it stands in brackets).

    An automaton that knows all of Unicode's letters is large, one of the model's letters is not. Raises
    ConfigError for what is no expression, or none of whole texts.
    """
    pieces: list[Piece] = []
    groups: list[int] = []  # where the open ones begin
    brackets: list[int] = []
    at = 0

    def refuse(what: str) -> NoReturn:
        raise ConfigError(f"{quoted(expression)} has {what} at position {at}", SYNTAX)

    while found := _TOKEN.match(expression, at):
        token = found[0]
        if found["class"]:
            pieces.append((token, bool(brackets)))
        elif token == "\\":
            refuse("a backslash with nothing after it")
        elif brackets:
            pieces.append(token)
            if token.startswith("["):
                brackets.append(at)
            elif token == "]":
                brackets.pop()
        elif token.startswith("["):
            pieces.append(token)
            brackets.append(at)
        elif found["around"]:
            refuse("look-around, which an automaton does not have,")
        elif found["backward"]:
            refuse("a back-reference, which an automaton does not have,")
        elif found["anchor"]:
            # All of a text must match: its start and its end are where the expression's are.
            if (token, at) != ("^", 0) and (token, at) != ("$", len(expression) - 1):
                refuse(f"{token}, which only says something at the start or the end,")
        else:
            pieces.append(token)
            if token == "(":
                groups.append(at)
            elif token == ")":
                if not groups:
                    refuse("a ) without its (")
                groups.pop()
        at = found.end()
    for opened, name in ((brackets, "["), (groups, "(")):
        if opened:
            at = opened[-1]
            refuse(f"a {name} that is not closed")
    return pieces


_TOKEN = re.compile(
    r"""
    (?P<class> \\[wWdDsS] | \\[pP](?:\{[^{}]*\}|[A-Za-z]) )
    | (?P<anchor> \\[bBAzZ<>] | [\^$] )
    | (?P<backward> \\[1-9] )
    | (?P<around> \(\?<?[=!] )
    | \\(?: x\{[^{}]*\} | . )?   # any other escape; alone it is the last character
    | \[\^?\]?                   # a ] that comes first is a character
    | .
    """,
    re.VERBOSE | re.DOTALL,
)


def _why(expression: str) -> str:
    """What is wrong with it, in the words of Python's own expressions, which are much the same."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(re.sub(r"\\[pP](\{[^{}]*\}|[A-Za-z])", "a", expression))
    except (re.error, OverflowError, RecursionError) as problem:
        return str(getattr(problem, "msg", problem))
    return "it has something that the syntax does not know"
