"""Loops over rows that apply a cell's equations, generated as source and then compiled.

They are called by machine.native_calls: one call handles all rows of a step, and the kernels around it are
the same for every cell. Source is generated because Numba cannot loop over an equation's arguments.

The loops of training find rows through a table (see `buffers`); those of writing take addresses of
C-contiguous arrays.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from charrnn.kernels import activations, exact_layers
from charrnn.kernels.machine.jit import njit
from charrnn.kernels.machine.native_calls import doubles, floats, word_at

Array = np.ndarray[Any, Any]
Loops = Callable[..., None]

# The arrays in the table of training, in this order: (T, B, padded), or with T + 1 steps, or one.
BUFFERS = ("gates", "recurrent", "h", "rest", "output", "kept", "d_output", "d_h", "d_rest")
_WORD = np.intp(np.dtype(np.intp).itemsize)


def buffers(widths: tuple[int, ...], arrays: tuple[Array, ...]) -> Array:
    """The table: H; for each of BUFFERS its address, and its strides over steps and rows in bytes.

    Then, for each part of the state except h, its start in a row of `rest`, and its width.
    """
    rows = [
        (array.ctypes.data, array.strides[0] if len(array) > 1 else 0, array.strides[1]) for array in arrays
    ]
    parts = [(sum(widths[1:n]), widths[n]) for n in range(1, len(widths))]
    return np.array([widths[0], *(word for row in (*rows, *parts) for word in row)], np.intp)


@njit()
def _place(table: int, buffer: int, t: int, b: int) -> int:
    """The address of a row of a buffer."""
    entry = table + (1 + 3 * buffer) * _WORD
    return word_at(entry) + t * word_at(entry + _WORD) + b * word_at(entry + 2 * _WORD)


@functools.cache
def forward(cell: Any, dtype: Any) -> Loops:
    """The loop that turns the gates of rows b0 to b1 of step t into activations, the new state and output."""
    body, first = [], 0
    for activation, group in groupby(cell.activated, lambda gate: cell.gates[gate]):
        width = len(list(group))
        # Loops start at 0: LLVM does not vectorise loops whose index might be negative.
        body.append(f"x, n = {_row('gates', first, width)}, {width} * H")
        argument = "x[j]"
        if cell.separate_hidden_bias:
            body.append(f"y = {_row('recurrent', first, width)}")
            argument = "x[j] + y[j]"
        body += ["for j in range(n):", f"    x[j] = {activation}({argument})"]
        first += width
    written: set[str] = set()
    stages = cell.forward(activations)
    for n, stage in enumerate(stages):
        at, to, indent = ("", "[:]", "") if stage.rows else ("[j]", "[j]", "    ")
        reads = [f"after_{name}{at}" if name in written else f"row_{name}{at}" for name in stage.reads]
        written.update({*stage.writes} & {*cell.state})
        targets = [f"after_{name}{to}" if name in cell.state else f"row_{name}{to}" for name in stage.writes]
        body += [] if stage.rows else ["for j in range(H):"]
        body.append(indent + _called(n, targets, reads))
        if "h" in stage.writes:
            body.append(f"{indent}row_output{to} = after_h{to}")
    return _training(cell, "forward", dtype, body, stages)


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
    """Rows 0 to `rows` of a state anew, from u = W_ih x + b_ih and w = W_hh h + b_hh, both (B, N).

    The state's parts, (B, H) each, are `part` bytes apart.
    """
    lines = ["x, y = array(u + b * N * 4, N), array(w + b * N * 4, N)"]
    for n, part in enumerate(cell.state):
        lines.append(f"row_{part} = array(state + {n} * part + b * H * 4, H)")
    lines.append("for j in range(H):")
    values = {part: f"row_{part}[j]" for part in cell.state}
    for n, (gate, activation) in enumerate(cell.gates.items()):
        values[gate] = f"value_{gate}"
        place = f"{n} * H + j" if n else "j"
        if activation:
            lines.append(f"    value_{gate} = {activation}(x[{place}] + y[{place}])")
        elif cell.separate_hidden_bias:
            lines.append(f"    value_{gate}, value_{gate}_h = x[{place}], y[{place}]")
            values[f"{gate}_h"] = f"value_{gate}_h"
        else:
            lines.append(f"    value_{gate} = x[{place}] + y[{place}]")
    stages = cell.forward(exact_layers)
    for n, stage in enumerate(stages):
        reads = [values[name] for name in stage.reads]
        values |= {name: f"value_{name}" for name in stage.writes}
        lines.append(f"    {_called(n, [values[name] for name in stage.writes], reads)}")
    lines += [f"    row_{part}[j] = {values[part]}" for part in cell.state]
    body = ["for b in range(rows):", *(f"    {line}" for line in lines)]
    return _compilable(
        cell, "writing", "state, part, u, w, N, H, rows", body, stages, exact_layers, np.float32
    )


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
        buffer, column = ("rest", n - 1) if n else ("h", 0)
        for name, suffix in (("row", buffer), ("after", f"{buffer}_after"), ("row_d", f"d_{buffer}")):
            of_other_width = n and cell.widths is not None
            yield f"{name}_{part}", _part(suffix, column) if of_other_width else _row(suffix, column)


def _row(buffer: str, part: int = 0, parts: int = 1) -> str:
    """The source of `parts` * H numbers of a row, from part * H on."""
    return f"array(at_{buffer}{f' + {part} * H * size' if part else ''}, {parts} * H)"


def _part(buffer: str, n: int) -> str:
    """The source of a row of the n-th part of `rest`."""
    place = (1 + 3 * len(BUFFERS) + 2 * n) * int(_WORD)
    return f"array(at_{buffer} + word_at(table + {place}) * size, word_at(table + {place + int(_WORD)}))"


def _training(cell: Any, way: str, dtype: Any, body: list[str], stages: tuple[Any, ...]) -> Loops:
    """The loop over rows: the definitions of those arrays that the body uses, and the body."""

    def wanted(lines: Iterable[tuple[str, str]], text: list[str]) -> list[str]:
        names = {*re.findall(r"\w+", "\n".join(text))}
        return [f"{name} = {source}" for name, source in lines if name in names]

    body = wanted(_rows(cell), body) + body
    places = [(f"at_{name}", f"place(table, {name}, t, b)") for name in BUFFERS]
    places += [(f"at_{name}_after", f"place(table, {name}, t + 1, b)") for name in ("h", "rest")]
    body = wanted(places, body) + body
    lines = ["H = word_at(table)", "for b in range(b0, b1):", *(f"    {line}" for line in body)]
    name = f"{way}_{np.dtype(dtype).name}"
    return _compilable(cell, name, "table, t, b0, b1", lines, stages, activations, dtype)


def _compilable(
    cell: Any, name: str, head: str, body: list[str], stages: tuple[Any, ...], of: Any, dtype: Any
) -> Loops:
    """The function of this source. Its name is its key in the cache, and changes with the cell's file."""
    digest = hashlib.sha256("\n".join([head, *body]).encode())
    for file in sorted({inspect.getfile(function) for function in (cell.forward, cell.backward)}):
        digest.update(Path(file).read_bytes())
    name = f"{cell.name}_{name}_{digest.hexdigest()[:16]}"
    double = np.dtype(dtype) == np.float64
    names: dict[str, Any] = {
        "__name__": __name__,
        "array": _doubles_at if double else _floats_at,
        "place": _place,
        # Typed, or Numba would compile `place` for each literal.
        **{name: np.intp(n) for n, name in enumerate(BUFFERS)},
        "size": np.intp(8 if double else 4),
        "word_at": word_at,
        **{key: value for key, value in vars(of).items() if key in _FUNCTIONS},
        **{f"stage_{n}": register_jitable(stage.equation) for n, stage in enumerate(stages)},
    }
    source = "\n".join([f"def {name}({head}):", *(f"    {line}" for line in body)])
    exec(compile(source, inspect.getfile(cell.forward), "exec"), names)
    loops: Loops = names[name]
    return loops


_FUNCTIONS = ("sigmoid", "tanh", "relu", "through_sigmoid", "through_tanh", "through_relu")


@njit()
def _floats_at(address: int, n: int) -> Any:
    return carray(floats(address), (n,))


@njit()
def _doubles_at(address: int, n: int) -> Any:
    return carray(doubles(address), (n,))
