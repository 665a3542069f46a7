"""A regular expression -> its deterministic automaton over a model's characters.

The automaton is built by outlines-core, whose engine is Rust's regex-automata. Its size may be exponential in
that of the expression, so a process of its own builds it, with limits on time and memory: no expression can
hang the calling process or exhaust its memory.
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

SECONDS = 2  # of CPU time for one expression; a usual one takes a tenth of that
PATIENCE = 5  # times SECONDS of wall time, for busy machines; the only limit where CPU time has none
MEMORY = 2**30  # bytes, where the system can limit them
MAX_STATES = 2**16
MAX_EDGES = 2**24
MAX_LENGTH = 10_000  # characters of an expression

SYNTAX = "see docs/control.md for what can be written"
_WORKER = Path(__file__).with_name("expression_worker.py")

Piece = str | tuple[str, str]


@dataclass(frozen=True, eq=False, slots=True)
class Expression:
    """A deterministic automaton that reads characters of a vocabulary (V). Read-only."""

    table: npt.NDArray[np.int32]  # (S, V) the next state; -1: no match continues with this character
    final: npt.NDArray[np.bool_]  # (S,) whether a match may end here
    start: int


@functools.lru_cache(maxsize=16)
def compiled(expression: str, characters: str) -> Expression:
    """The automaton, over these characters, of an expression that whole texts must match.

    The syntax is that of Rust's regex crate with Unicode classes, but without look-around, back-references
    and word boundaries. "^" at the start and "$" at the end are allowed, and redundant.

    Raises:
        ConfigError: the expression is invalid, or needs too many states, too much time or memory.
        SamplingError: the library is not installed.
    """
    if len(expression) > MAX_LENGTH:
        raise ConfigError(
            f"the expression has {len(expression):,} characters", f"give at most {MAX_LENGTH:,}"
        )
    others = (chr(n) for n in range(0x10FFFF, 0, -1) if chr(n) not in characters and chr(n) not in expression)
    begin, end = next(others), next(others)
    question = {"pieces": _pieces(expression), "characters": characters, "begin": begin, "end": end}
    answer = _ask({**question, "memory": MEMORY, "seconds": SECONDS}, expression)
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
    """The worker's answer."""
    # -P: the worker must not import from its own folder, which is in this package.
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
    if done.returncode != 0:  # it ran out of memory or CPU time
        raise _too_large(expression)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _too_large(expression: str) -> ConfigError:
    return ConfigError(
        f"the automaton of {quoted(expression)} would be too large",
        "give a simpler expression: smaller counts, and fewer choices before them",
    )


def _pieces(expression: str) -> list[Piece]:
    """The expression, split at its character classes, such as "." or "\\w" or "[^a]": each is (class, flags).

    The worker narrows classes to the model's characters: an automaton over all Unicode letters is large.

    Raises:
        ConfigError: the expression is malformed, or uses what an automaton of whole texts does not have.
    """
    pieces: list[Piece] = []
    flags = ""
    groups: list[tuple[int, str]] = []  # where each open one begins, and the flags around it
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
        elif found.lastgroup in _ABSENT:
            refuse(f"{_ABSENT[found.lastgroup] or token}, which an automaton does not have,")
        elif found["anchor"]:
            # The whole text must match, so that only the outermost anchors have a meaning.
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


_ABSENT = {"around": "look-around", "backward": "a back-reference", "boundary": ""}
_FLAGS = "imsU"
_TOKEN = re.compile(
    r"""
    (?P<class> \\[wWdDsS] | \\[pP](?:\{[^{}]*\}|[A-Za-z]) | \. )
    | (?P<boundary> \\[bB<>] )
    | (?P<anchor> \\[Az] | [\^$] )
    | (?P<backward> \\[1-9] )
    | (?P<around> \(\?<?[=!] )
    | (?P<flags> \(\?[A-Za-z]*(?:-[A-Za-z]*)?[:)] )
    | \\(?: x\{[^{}]*\} | . )?   # any other escape, or a lone backslash at the end
    | \[\^?\]?                   # a ] that comes first is a literal
    | .
    """,
    re.VERBOSE | re.DOTALL,
)


def _why(expression: str) -> str:
    """What is wrong with the expression, according to Python's re, whose syntax is much the same."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(re.sub(r"\\[pP](\{[^{}]*\}|[A-Za-z])", "a", expression))
    except RecursionError:
        return "it is nested too deeply"
    except (re.error, OverflowError) as problem:
        return str(getattr(problem, "msg", problem))
    return "it has something that the syntax does not know"
