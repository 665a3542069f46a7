"""A process that makes an automaton of an expression, run by expressions, which may end it any time.

stdin: one object of JSON, {"pieces", "characters", "begin", "end", "memory", "seconds"}. The pieces make up
the expression: each is a text, or [a set of characters such as "\\\\w", ".", or "[^a]", the flags it stands
under]. `characters` are the model's, in one text; `begin` and `end` are characters that are none of them, nor
in the expression; `memory` and `seconds` of computing are what may be used.

stdout: one object of JSON, {"missing": a package}, {"error": a text}, or {"start": a state, "states":
[[[character's index, next state], ..], ..], "final": [bool, ..]}; states are numbered from 0, and there is
none at the start where it is -1.

Imports nothing of charrnn: the file is run by its path, and starts quickly.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any


def main() -> None:
    asked = json.load(sys.stdin)
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (asked["memory"], asked["memory"]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (asked["seconds"], asked["seconds"] + 1))
    try:
        import outlines_core  # noqa: F401
    except ImportError:
        answer: dict[str, Any] = {"missing": "outlines-core"}
    else:
        try:
            answer = _automaton(asked["pieces"], asked["characters"], asked["begin"], asked["end"])
        except ValueError as problem:
            answer = {"error": str(problem)}
    json.dump(answer, sys.stdout)


def _automaton(pieces: list[Any], characters: str, begin: str, end: str) -> dict[str, Any]:
    from outlines_core import Index, Vocabulary

    ids: dict[str | bytes, list[int]] = {}
    # Single bytes, too: the library refuses an expression with a place where nothing of its vocabulary fits,
    # though the rest of it may fit ("Paris|Orléans" without an é).
    for n, token in enumerate([*characters, end, begin, *(bytes([n]) for n in range(256))]):
        ids.setdefault(token if isinstance(token, bytes) else token.encode(), [n + 1])  # 0: its own end
    vocabulary = Vocabulary(0, ids)
    last = len(characters) + 1  # the id of `end`, before that of `begin`

    def index(expression: str) -> tuple[Any, dict[int, dict[int, int]], int]:
        """The library's automaton, its transitions, and the state in which a text begins.

        The automata follow the first of alternatives only up to its end: of "ab|abc" nothing would ever be
        abc. With a last character that comes nowhere else, there is one end for all. And the library looks
        for matches that begin anywhere, too, of which there may be exponentially many ("[ab]{30}"): with a
        first character that comes nowhere else, there is one.
        """
        found = Index(f"{begin}(?:{expression}){end}", vocabulary)
        transitions = found.get_transitions()
        return found, transitions, transitions[found.get_initial_state()].get(last + 1, -1)

    def members(name: str, flags: str) -> str:
        """The set as a list of the model's characters, which `begin` is none of.

        The list's automaton has as many states as one character, whatever it holds.
        """
        _, transitions, start = index(f"(?{flags}:{name})" if flags else name)
        own = sorted(ord(characters[n - 1]) for n in transitions.get(start, {}) if 0 < n < last)
        ranges: list[list[int]] = []
        for code in own:
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
        # A set without members is not empty brackets, which would take in what follows.
        listed = "".join(f"\\x{{{low:X}}}-\\x{{{high:X}}}" for low, high in ranges or [[ord(end)] * 2])
        return f"(?-i:[{listed}])" if "i" in flags else f"[{listed}]"

    sets = {tuple(piece): "" for piece in pieces if not isinstance(piece, str)}
    for name, flags in sets:
        sets[name, flags] = members(name, flags)
    whole = "".join(piece if isinstance(piece, str) else sets[tuple(piece)] for piece in pieces)
    found, transitions, start = index(whole)
    numbers = {state: n for n, state in enumerate(transitions)}
    final_states = found.get_final_states()
    return {
        "start": numbers.get(start, -1),
        "states": [
            [[n - 1, numbers[to]] for n, to in edges.items() if 0 < n < last and to in numbers]
            for edges in transitions.values()
        ],
        "final": [edges.get(last) in final_states for edges in transitions.values()],
    }


if __name__ == "__main__":
    main()
