"""A process that makes an automaton of an expression, run by charrnn.expressions, which may end it any time.

stdin: one object of JSON, {"pieces", "characters", "end", "memory"}. The pieces make up the expression: each
is a text, or [a class such as "\\\\w", whether it stands in brackets]. `characters` are the model's, in one
text; `end` is a character that is none of them; `memory` is how many bytes may be used.

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
    try:
        import outlines_core  # noqa: F401
    except ImportError:
        answer: dict[str, Any] = {"missing": "outlines-core"}
    else:
        try:
            answer = _automaton(asked["pieces"], asked["characters"], asked["end"])
        except ValueError as problem:
            answer = {"error": str(problem)}
    json.dump(answer, sys.stdout)


def _automaton(pieces: list[Any], characters: str, end: str) -> dict[str, Any]:
    from outlines_core import Index, Vocabulary

    ids: dict[str | bytes, list[int]] = {}
    # Single bytes, too: the library refuses an expression with a place where nothing of its vocabulary fits,
    # though the rest of it may fit ("Paris|Orléans" without an é).
    for n, token in enumerate([*characters, end, *(bytes([n]) for n in range(256))]):
        ids.setdefault(token if isinstance(token, bytes) else token.encode(), [n + 1])  # 0: its own end
    vocabulary = Vocabulary(0, ids)

    def index(expression: str) -> tuple[Any, dict[int, dict[int, int]]]:
        # The library's automata follow the first of alternatives only up to its end: of "ab|abc" nothing
        # would ever be abc. With a last character that comes nowhere else, there is one end for all.
        found = Index(f"(?:{expression}){end}", vocabulary)
        return found, found.get_transitions()

    def members(name: str) -> str:
        """The class as a list: its automaton has as many states as one character, whatever it holds."""
        found, transitions = index(name)
        edges = transitions[found.get_initial_state()]
        own = sorted(n - 1 for n in edges if 0 < n <= len(characters))
        # A class without members is not empty brackets, which would take in what follows.
        return "".join(f"\\x{{{ord(characters[n]):X}}}" for n in own) or f"\\x{{{ord(end):X}}}"

    classes = {piece[0]: "" for piece in pieces if not isinstance(piece, str)}
    for name in classes:
        classes[name] = members(name)
    whole = "".join(
        piece if isinstance(piece, str) else classes[piece[0]] if piece[1] else f"[{classes[piece[0]]}]"
        for piece in pieces
    )
    found, transitions = index(whole)
    numbers = {state: n for n, state in enumerate(transitions)}
    final_states = found.get_final_states()
    last = len(characters) + 1  # the id of `end`
    return {
        "start": numbers.get(found.get_initial_state(), -1),
        "states": [
            [[n - 1, numbers[to]] for n, to in edges.items() if 0 < n < last and to in numbers]
            for edges in transitions.values()
        ],
        "final": [edges.get(last) in final_states for edges in transitions.values()],
    }


if __name__ == "__main__":
    main()
