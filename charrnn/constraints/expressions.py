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

SECONDS = 2  # of computing for one expression; a usual one takes a tenth of that
PATIENCE = 5  # times as many seconds by the clock, on a busy machine; alone where computing cannot be bounded
MEMORY = 2**30  # bytes, where the system can bound them
MAX_STATES = 2**16
MAX_EDGES = 2**24
MAX_LENGTH = 10_000  # characters of an expression

SYNTAX = "see docs/control.md for what can be written"
_WORKER = Path(__file__).with_name("expression_worker.py")

Piece = str | tuple[str, str]


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
    others = (chr(n) for n in range(0x10FFFF, 0, -1) if chr(n) not in characters and chr(n) not in expression)
    begin, end = next(others), next(others)
    answer = _ask(
        {
            "pieces": _pieces(expression),
            "characters": characters,
            "begin": begin,
            "end": end,
            "memory": MEMORY,
            "seconds": SECONDS,
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
            command, input=json.dumps(question).encode(), capture_output=True, timeout=PATIENCE * SECONDS
        )
    except subprocess.TimeoutExpired:
        raise _too_large(expression) from None
    except OSError as problem:
        raise SamplingError(
            f"Python cannot be started to read the expression: {printable(problem.strerror or str(problem))}"
        ) from problem
    if done.returncode != 0:  # it had no more memory, or time
        raise _too_large(expression)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _too_large(expression: str) -> ConfigError:
    return ConfigError(
        f"the automaton of {quoted(expression)} would be too large",
        "give a simpler expression: smaller counts, and fewer choices before them",
    )


def _pieces(expression: str) -> list[Piece]:
    """The expression, cut where a set of characters stands, "." or "\\w" or "[^a]": (the set, its flags).

    An automaton that knows all of Unicode's letters is large, one of the model's letters is not. Raises
    ConfigError for what is no expression, or none of whole texts.
    """
    pieces: list[Piece] = []
    flags = ""
    groups: list[tuple[int, str]] = []  # where the open ones begin, and the flags outside
    brackets: list[int] = []
    at = 0

    def refuse(what: str) -> NoReturn:
        raise ConfigError(f"{quoted(expression)} has {what} at position {at}", SYNTAX)

    while found := _TOKEN.match(expression, at):
        token = found[0]
        if token == "\\":
            refuse("a backslash with nothing after it")
        if brackets or token.startswith("["):
            if token.startswith("["):
                brackets.append(at)
            elif token == "]":
                opened = brackets.pop()
                if not brackets:
                    pieces.append((expression[opened : found.end()], flags))
        elif found["class"]:
            pieces.append((token, flags))
        elif found["flags"]:
            if unknown := set(token) - set("(?-:)" + _FLAGS):
                refuse(f"the flag {min(unknown)}, which is not known here,")
            if token.endswith(":"):
                groups.append((at, flags))
            flags = _changed(flags, token)
            pieces.append(token)
        elif found["around"]:
            refuse("look-around, which an automaton does not have,")
        elif found["backward"]:
            refuse("a back-reference, which an automaton does not have,")
        elif found["boundary"]:
            refuse(f"{token}, which an automaton does not have,")
        elif found["anchor"]:
            # All of a text must match: its start and its end are where the expression's are.
            if (token, at) != ("^", 0) and (token, at) != ("$", len(expression) - 1):
                refuse(f"{token}, which only says something at the start or the end,")
        else:
            pieces.append(token)
            if token == "(":
                groups.append((at, flags))
            elif token == ")":
                if not groups:
                    refuse("a ) without its (")
                flags = groups.pop()[1]
        at = found.end()
    if brackets:
        at = brackets[0]
        refuse("a [ that is not closed")
    if groups:
        at = groups[-1][0]
        refuse("a ( that is not closed")
    return pieces


def _changed(flags: str, token: str) -> str:
    """The flags after "(?i-s)" or "(?i-s:"."""
    on, _, off = token.partition("-")
    return "".join(flag for flag in _FLAGS if (flag in flags or flag in on) and flag not in off)


_FLAGS = "imsU"
_TOKEN = re.compile(
    r"""
    (?P<class> \\[wWdDsS] | \\[pP](?:\{[^{}]*\}|[A-Za-z]) | \. )
    | (?P<boundary> \\[bB<>] )
    | (?P<anchor> \\[Az] | [\^$] )
    | (?P<backward> \\[1-9] )
    | (?P<around> \(\?<?[=!] )
    | (?P<flags> \(\?[A-Za-z]*(?:-[A-Za-z]*)?[:)] )
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
    except RecursionError:
        return "it is nested too deeply"
    except (re.error, OverflowError) as problem:
        return str(getattr(problem, "msg", problem))
    return "it has something that the syntax does not know"
