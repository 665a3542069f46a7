"""The process that compiles an expression into an automaton, started by charrnn.constraints.expressions.

stdin: a JSON object, {"pieces", "characters", "begin", "end", "memory", "seconds"}. The pieces make up the
expression: each is a text, or a pair [a character class such as "\\\\w", ".", or "[^a]", the flags in force].
`characters` are the model's, in one text; `begin` and `end` are characters that occur neither there nor in
the expression; `memory` (bytes) and `seconds` (of CPU time) are limits.

stdout: a JSON object, {"missing": a package}, {"error": a text}, or {"start": a state, "states":
[[[character's index, next state], ..], ..], "final": [bool, ..]}. States are numbered from 0; a start of -1
means that nothing matches.

The file is run by its path and imports nothing of charrnn, so that it starts quickly.
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
        answer = _automaton(asked["pieces"], asked["characters"], asked["begin"], asked["end"])
    except ImportError:
        answer = {"missing": "outlines-core"}
    except ValueError as problem:
        answer = {"error": str(problem)}
    json.dump(answer, sys.stdout)


def _automaton(pieces: list[Any], characters: str, begin: str, end: str) -> dict[str, Any]:
    from outlines_core import Index, Vocabulary

    ids: dict[str | bytes, list[int]] = {}
    # Single bytes are added because the library refuses an expression if at some point no token of its
    # vocabulary fits, even where an alternative does ("Paris|Orléans" without an é).
    for n, token in enumerate([*characters, end, begin, *(bytes([n]) for n in range(256))]):
        ids.setdefault(token if isinstance(token, bytes) else token.encode(), [n + 1])  # 0: the library's end
    vocabulary = Vocabulary(0, ids)
    last = len(characters) + 1  # the id of `end`, before that of `begin`

    def index(expression: str) -> tuple[Any, dict[int, dict[int, int]], int]:
        """The library's automaton, its transitions, and the start state of a text.

        The library stops at the end of the first alternative that matches: "ab|abc" would never match abc. A
        unique last character makes all alternatives end together. It also searches for matches that begin
        anywhere, whose automaton may be exponentially large ("[ab]{30}"): a unique first character anchors
        it.
        """
        found = Index(f"{begin}(?:{expression}){end}", vocabulary)
        transitions = found.get_transitions()
        return found, transitions, transitions[found.get_initial_state()].get(last + 1, -1)

    def members(name: str, flags: str) -> str:
        """The class as a list of the model's characters.

        However long the list, its automaton has as few states as that of one character.
        """
        _, transitions, start = index(f"(?{flags}:{name})" if flags else name)
        own = sorted(ord(characters[n - 1]) for n in transitions.get(start, {}) if 0 < n < last)
        ranges: list[list[int]] = []
        for code in own:
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
        # An empty class cannot be written as empty brackets, which would swallow what follows them.
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
