"""Loops over rows that apply a cell's equations, generated as source and then compiled.

They are called by machine.native_calls: one call handles all rows of a step, and the kernels around it are
the same for every cell. Source is generated because Numba cannot loop over an equation's arguments.

The loops of training find rows through a table (see `buffers`); those of writing take addresses of
C-contiguous arrays.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

import numpy as np
from numba.extending import register_jitable

from charrnn.kernels import activations, exact_layers
from charrnn.kernels.machine.generated import generated
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.machine.native_calls import WORD, _doubles_at, _floats_at, word_at

Array = np.ndarray[Any, Any]
Loops = Callable[..., None]

# The arrays in the table of training, in this order: (T, B, padded), or with T + 1 steps, or one.
BUFFERS = ("gates", "recurrent", "h", "rest", "output", "kept", "d_output", "d_h", "d_rest")


def buffers(widths: tuple[int, ...], arrays: tuple[Array, ...]) -> Array:
    """The table: the widths of the state's parts, of which the first is H.

    Then, in training, for each of BUFFERS its address and the bytes from step to step and row to row.
    """
    rows = [
        (array.ctypes.data, array.strides[0] if len(array) > 1 else 0, array.strides[1]) for array in arrays
    ]
    return np.array([*widths, *(word for row in rows for word in row)], np.intp)


@njit()
def _place(buffers: int, buffer: int, t: int, b: int) -> int:
    """The address of a row."""
    entry = buffers + 3 * buffer * WORD
    return word_at(entry) + t * word_at(entry + WORD) + b * word_at(entry + 2 * WORD)


@functools.cache
def forward(cell: Any, dtype: Any) -> Loops:
    """The loop that turns the gates of rows b0 to b1 of step t into activations, the new state and output."""
    stages = cell.forward(activations)
    return _training(cell, "forward", dtype, _forward(cell, stages, writes=False), stages)


@functools.cache
def backward(cell: Any, dtype: Any) -> Loops:
    """The loop that turns the activations of rows b0 to b1 of step t into gradients of the gates.

    The gradient of the state, `d_h` and `d_rest`, becomes that of the state before the step, except for the
    part through the recurrent product.
    """
    stage = cell.backward(activations)
    at = "" if stage.rows else "[j]"
    reads = [
        f"row_d_output{at} + row_d_h{at}" if name == "d_h" else f"row_{name}{at}" for name in stage.reads
    ]  # fmt: skip
    values = {name: f"value_{name}" for name in stage.writes}
    call = _called(0, values.values(), reads)
    if stage.rows:
        body = [call, *(f"row_d_{part}[:] = {values.get(part, 0)}" for part in cell.state)]
        body.append("for j in range(H):")
        values = {name: f"{value}[j]" for name, value in values.items()}
    else:
        body = ["for j in range(H):", f"    {call}"]
    for name, value in values.items():
        if activation := cell.gates.get(name):
            body.append(f"    {value} = through_{activation}({value}, row_{name}[j])")
    if not stage.rows:
        body += [f"    row_d_{part}[j] = {values.get(part, 0)}" for part in cell.state]
    for name, value in values.items():
        if name not in cell.state:
            body.append(f"    row_{name}[j] = {value}")
        if cell.separate_hidden_bias and cell.gates.get(name):
            body.append(f"    row_{name}_h[j] = {value}")
    return _training(cell, "backward", dtype, body, (stage,))


@functools.cache
def writing(cell: Any) -> Loops:
    """Rows 0 to `rows` of a state, (B, S), anew, from u = W_ih x + b_ih and w = W_hh h + b_hh, both (B, G*H).

    The table has the widths of the state's parts, the addresses and widths of state, u and w, and the address
    of gates, (G*H,), for the activations of a row.
    """
    stages = cell.forward(exact_layers)
    first = len(cell.state)
    places = dict(
        zip(("h", "input", "recurrent"), (_row_of_table(first + n) for n in (0, 2, 4)), strict=True)
    )
    places |= {"gates": _word(first + 6), "rest": f"{places['h']} + H * size"}
    places |= {f"{name}_after": places[name] for name in ("h", "rest")}
    body = _located(cell, places, _forward(cell, stages, writes=True))
    body = ["H = word_at(table)", "for b in range(rows):", *body]
    names = _names([stage.equation for stage in stages], exact_layers, np.float32)
    return generated(f"{cell.name}_writing", "table, rows", body, names, cell.forward, cell.backward)


@functools.cache
def elementwise(equation: Callable[..., Any]) -> Loops:
    """y = equation(of)(*x), elementwise; the table has H, and the addresses and widths of y and of each x."""
    function = equation(exact_layers)
    count = function.__code__.co_argcount
    rows = [f"    row_{n} = array({_row_of_table(1 + 2 * n)}, H)" for n in range(1 + count)]
    call = _called(0, ["row_0[j]"], [f"row_{n}[j]" for n in range(1, 1 + count)])
    body = ["H = word_at(table)", "for b in range(rows):", *rows, "    for j in range(H):", f"        {call}"]
    names = _names([function], exact_layers, np.float32)
    return generated(f"{equation.__name__}_writing", "table, rows", body, names, equation)


def _forward(cell: Any, stages: tuple[Any, ...], *, writes: bool) -> list[str]:
    """A row's gates become activations in their place, and then the state after the step.

    When text is written, they are added up from `input` and `recurrent`, the state after the step takes the
    place of the one before, and nothing is kept.
    """
    body, first, apart = [], 0, cell.separate_hidden_bias
    for activation, group in groupby(cell.gates.values()):
        width = len(list(group))
        if activation or writes:
            read = {"y": "input"} if writes else {"x": "gates"}
            if (activation and apart) or (writes and not apart):
                read["z"] = "recurrent"
            arrays = {"x": "gates", **read}.items()
            body += [f"{name} = {_row(buffer, first, width)}" for name, buffer in arrays]
            # Loops start at 0: where an index might be negative, there is no vector code.
            total = " + ".join(f"{name}[j]" for name in read)
            body += [f"for j in range({width} * H):", f"    x[j] = {activation or ''}({total})"]
        first += width
    written: set[str] = set()
    for n, stage in enumerate(stages):
        at, to, indent = ("", "[:]", "") if stage.rows else ("[j]", "[j]", "    ")
        reads = [f"after_{name}{at}" if name in written else f"row_{name}{at}" for name in stage.reads]
        written.update({*stage.writes} & {*cell.state})
        targets = [f"after_{name}{to}" if name in cell.state else f"row_{name}{to}" for name in stage.writes]
        if writes:
            later = {name for other in stages[n + 1 :] for name in other.reads} | {*cell.state}
            pairs = zip(stage.writes, targets, strict=True)
            targets = [target if name in later else "_" for name, target in pairs]
        body += [] if stage.rows else ["for j in range(H):"]
        body.append(indent + _called(n, targets, reads))
        if "h" in stage.writes and not writes:
            body.append(f"{indent}row_output{to} = after_h{to}")
    return body


def _called(n: int, writes: Iterable[str], reads: Iterable[str]) -> str:
    """The source of a call of a stage."""
    return f"{', '.join(writes)} = stage_{n}({', '.join(reads)})"


def _rows(cell: Any) -> Iterator[tuple[str, str]]:
    """The names of all arrays of row b and step t, each with its source."""
    for n, gate in enumerate(cell.gates):
        yield f"row_{gate}", _row("gates", n)
        yield f"row_{gate}_h", _row("recurrent", n)
    for n, name in enumerate(cell.kept):
        yield f"row_{name}", _row("kept", n)
    yield "row_output", _row("output")
    yield "row_d_output", _row("d_output")
    for n, part in enumerate(cell.state):
        buffer = "rest" if n else "h"
        before = " + ".join(_width(cell, k) for k in range(1, n)) or "0"
        for name, suffix in (("row", buffer), ("after", f"{buffer}_after"), ("row_d", f"d_{buffer}")):
            yield f"{name}_{part}", f"array(at_{suffix} + ({before}) * size, {_width(cell, n)})"


def _row(buffer: str, part: int = 0, parts: int = 1) -> str:
    """The source of `parts` * H numbers of a row, from part * H on."""
    return f"array(at_{buffer}{f' + {part} * H * size' if part else ''}, {parts} * H)"


def _width(cell: Any, n: int) -> str:
    """The source of the width of the state's n-th part."""
    return _word(n) if n and cell.widths else "H"


def _word(n: int) -> str:
    """The source of a word of the table."""
    return f"word_at(table + {n * int(WORD)})"


def _row_of_table(n: int) -> str:
    """The source of the address of row b of an array, from its address and its rows' width in the table."""
    return f"{_word(n)} + b * {_word(n + 1)} * size"


def _located(cell: Any, places: dict[str, str], body: list[str]) -> list[str]:
    """The body for a row, indented, after what is wanted of the rows, and of the places that these need."""

    def wanted(lines: Iterable[tuple[str, str]], text: list[str]) -> list[str]:
        names = {*re.findall(r"\w+", "\n".join(text))}
        return [f"{name} = {source}" for name, source in lines if name in names]

    body = wanted(_rows(cell), body) + body
    body = wanted([(f"at_{name}", source) for name, source in places.items()], body) + body
    return [f"    {line}" for line in body]


def _training(cell: Any, way: str, dtype: Any, body: list[str], stages: tuple[Any, ...]) -> Loops:
    """The loop over rows of a step, which are found in the table."""
    places = {name: f"place(buffers, {name}, t, b)" for name in BUFFERS}
    places |= {f"{name}_after": f"place(buffers, {name}, t + 1, b)" for name in ("h", "rest")}
    lines = ["H = word_at(table)", f"buffers = table + {len(cell.state) * int(WORD)}"]
    lines += ["for b in range(b0, b1):", *_located(cell, places, body)]
    name = f"{way}_{np.dtype(dtype).name}"
    names = _names([stage.equation for stage in stages], activations, dtype)
    return generated(f"{cell.name}_{name}", "table, t, b0, b1", lines, names, cell.forward, cell.backward)


def _names(equations: list[Callable[..., Any]], of: Any, dtype: Any) -> dict[str, Any]:
    """What the source of a loop refers to."""
    double = np.dtype(dtype) == np.float64
    return {
        "__name__": __name__,
        "array": _doubles_at if double else _floats_at,
        "place": _place,
        # Typed, or Numba would compile `place` for each literal.
        **{name: np.intp(n) for n, name in enumerate(BUFFERS)},
        "size": np.intp(8 if double else 4),
        "word_at": word_at,
        **{key: value for key, value in vars(of).items() if key in _FUNCTIONS},
        **{f"stage_{n}": register_jitable(equation) for n, equation in enumerate(equations)},
    }


_FUNCTIONS = ("sigmoid", "tanh", "relu", "through_sigmoid", "through_tanh", "through_relu")
