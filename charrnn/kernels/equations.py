"""A cell's equations as loops over rows, each written out as the source of a function and then compiled.

The loops are for charrnn.kernels.machine: one call does all rows of a step, and the kernels around it are the
same for every cell. Equations have any number of arguments; Numba has no loop over them, hence the source.

The loops of training find rows in a table (see `buffers`); those of writing take addresses of C-contiguous
arrays.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import marshal
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from charrnn.kernels import activations, cells
from charrnn.kernels.jit import njit
from charrnn.kernels.machine import doubles, floats, word_at

Array = np.ndarray[Any, Any]
Loops = Callable[..., None]

# What the table of training has, in this order; each array (T, B, padded), or with one more or a single step.
BUFFERS = ("gates", "recurrent", "h", "rest", "output", "kept", "d_output", "d_h", "d_rest")
_WORD = np.intp(np.dtype(np.intp).itemsize)


def buffers(H: int, arrays: tuple[Array, ...]) -> Array:
    """The table: H, then for each of BUFFERS its address and the bytes from step to step and row to row."""
    rows = [
        (array.ctypes.data, array.strides[0] if len(array) > 1 else 0, array.strides[1]) for array in arrays
    ]
    return np.array([H, *(word for row in rows for word in row)], np.intp)


@njit()
def _place(table: int, buffer: int, t: int, b: int) -> int:
    """The address of a row."""
    entry = table + (1 + 3 * buffer) * _WORD
    return word_at(entry) + t * word_at(entry + _WORD) + b * word_at(entry + 2 * _WORD)


@functools.cache
def forward(cell: Any, dtype: Any) -> Loops:
    """The gates of rows b0 to b1 of step t become activations, and the state after it and the output h'."""
    body = [f"{name} = {place}" for name, place in _training_rows(cell, "forward")]
    first = 0
    for activation, group in groupby(cell.activated, lambda gate: cell.gates[gate]):
        width = len(list(group))
        # Loops start at 0: where an index might be negative, there is no vector code.
        body.append(f"x = {_row('gates', first, width)}")
        body.append(f"for j in range({f'{width} * H' if width > 1 else 'H'}):")
        if cell.separate_hidden_bias:
            body.insert(-1, f"x_h = {_row('recurrent', first, width)}")
        body.append(f"    x[j] = {activation}(x[j]{' + x_h[j]' if cell.separate_hidden_bias else ''})")
        first += width
    written: set[str] = set()
    equations = {}
    for n, stage in enumerate(cell.forward(activations)):
        equations[f"stage_{n}"] = stage.equation
        reads = [f"{name}_after[j]" if name in written else f"{name}[j]" for name in stage.reads]
        written.update({*stage.writes} & {*cell.state})
        targets = [f"{name}_after[j]" if name in cell.state else f"{name}[j]" for name in stage.writes]
        body += ["for j in range(H):", f"    {', '.join(targets)} = stage_{n}({', '.join(reads)})"]
        if "h" in stage.writes:
            body.append("    output[j] = h_after[j]")
    return _training(cell, "forward", dtype, body, equations)


@functools.cache
def backward(cell: Any, dtype: Any) -> Loops:
    """The activations of rows b0 to b1 of step t become gradients of the gates.

    The state's gradient, `d_h` and `d_rest`, becomes that of the state before the step, without what comes
    through the recurrent product.
    """
    stage = cell.backward(activations)
    body = [f"{name} = {place}" for name, place in _training_rows(cell, "backward")]
    body += ["for j in range(H):"]
    reads = ("output[j] + d_h[j]" if name == "d_h" else f"{name}[j]" for name in stage.reads)
    gradients = [f"d_{name}_" for name in stage.writes]
    body.append(f"    {', '.join(gradients)} = stage_0({', '.join(reads)})")
    for name in stage.writes:
        activation = cell.gates.get(name)
        if activation:
            body.append(f"    d_{name}_ = through_{activation}(d_{name}_, {name}[j])")
    for part in cell.state:
        body.append(f"    d_{part}[j] = {f'd_{part}_' if part in stage.writes else '0'}")
    for name in stage.writes:
        if name not in cell.state:
            body.append(f"    {name}[j] = d_{name}_")
        if cell.separate_hidden_bias and cell.gates.get(name):
            body.append(f"    {name}_h[j] = d_{name}_")
    return _training(cell, "backward", dtype, body, {"stage_0": stage.equation})


@functools.cache
def writing(cell: Any) -> Loops:
    """Rows 0 to `rows` of a state anew, from u = W_ih x + b_ih and w = W_hh h + b_hh, both (B, N).

    The state's parts, (B, H) each, are `part` bytes apart.
    """
    lines = ["u_b, w_b = array(u + b * N * 4, N), array(w + b * N * 4, N)"]
    for n, part in enumerate(cell.state):
        lines.append(f"{part} = array(state + {n} * part + b * H * 4, H)")
    lines.append("for j in range(H):")
    values = {part: f"{part}[j]" for part in cell.state}
    for n, (gate, activation) in enumerate(cell.gates.items()):
        values[gate] = f"{gate}_"
        place = "j" if n == 0 else f"{n} * H + j"
        if activation:
            lines.append(f"    {gate}_ = {activation}(u_b[{place}] + w_b[{place}])")
        elif cell.separate_hidden_bias:
            lines.append(f"    {gate}_, {gate}_h_ = u_b[{place}], w_b[{place}]")
            values[f"{gate}_h"] = f"{gate}_h_"
        else:
            lines.append(f"    {gate}_ = u_b[{place}] + w_b[{place}]")
    equations = {}
    for n, stage in enumerate(cell.forward(cells)):
        equations[f"stage_{n}"] = stage.equation
        reads = ", ".join(values[name] for name in stage.reads)
        values |= {name: f"{name}_" for name in stage.writes}
        lines.append(f"    {', '.join(values[name] for name in stage.writes)} = stage_{n}({reads})")
    lines += [f"    {part}[j] = {values[part]}" for part in cell.state]
    head = "state, part, u, w, N, H, rows"
    body = ["for b in range(rows):", *(f"    {line}" for line in lines)]
    return _compilable(cell, "writing", head, body, equations, cells, np.float32)


def _training_rows(cell: Any, way: str) -> Iterator[tuple[str, str]]:
    """Names of a cell's arrays of H numbers in the row b of step t, each with its source."""

    for n, gate in enumerate(cell.gates):
        yield gate, _row("gates", n)
        if cell.separate_hidden_bias:
            yield f"{gate}_h", _row("recurrent", n)
    yield "output", _row("d_output" if way == "backward" else "output")
    for n, name in enumerate(cell.kept):
        yield name, _row("kept", n)
    for n, part in enumerate(cell.state):
        buffer, column = ("h", 0) if n == 0 else ("rest", n - 1)
        yield part, _row(buffer, column)
        if way == "forward":
            yield f"{part}_after", _row(buffer, column, t="t + 1")
        else:
            yield f"d_{part}", _row(f"d_{buffer}", column)


def _row(buffer: str, part: int = 0, parts: int = 1, t: str = "t") -> str:
    """The source of `parts` times H numbers of a row, from part times H on."""
    place = f"place(table, {BUFFERS.index(buffer)}, {t}, b)" + (f" + {part} * H * size" if part else "")
    return f"array({place}, {f'{parts} * H' if parts > 1 else 'H'})"


def _training(cell: Any, way: str, dtype: Any, body: list[str], equations: dict[str, Any]) -> Loops:
    lines = ["H = word_at(table)", "for b in range(b0, b1):", *(f"    {line}" for line in body)]
    name = f"{way}_{np.dtype(dtype).name}"
    return _compilable(cell, name, "table, t, b0, b1", lines, equations, activations, dtype)


def _compilable(
    cell: Any, name: str, head: str, body: list[str], equations: dict[str, Any], of: Any, dtype: Any
) -> Loops:
    """The function of this source. Its name is another one where the equations are others: a cache has it."""
    digest = hashlib.sha256("\n".join([head, *body]).encode())
    for function in (cell.forward, cell.backward):
        digest.update(marshal.dumps(function.__code__.replace(co_filename=""), 2))
    name = f"{cell.name}_{name}_{digest.hexdigest()[:16]}"
    double = np.dtype(dtype) == np.float64
    names: dict[str, Any] = {
        "__name__": __name__,
        "array": _doubles_at if double else _floats_at,
        "place": _place,
        "size": np.intp(8 if double else 4),
        "word_at": word_at,
        **{key: value for key, value in vars(of).items() if key in _FUNCTIONS},
        **{key: register_jitable(equation) for key, equation in equations.items()},
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
