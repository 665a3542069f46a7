"""From comparisons to the tables that `speed.py` prints and that docs/figures.md shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sections as s
from measure import Comparison
from report import Table, number, percent, seconds, times

PEAKS = (s.PEAK_OURS, s.PEAK_NUMPY, s.PEAK_TORCH)
TORCH_TRAINING = (s.TORCH, s.TORCH_MALLOC, s.TORCH_BF16, s.TORCH_BF16_MALLOC)


def peak(rows: Sequence[Comparison]) -> float | None:
    """GFLOP/s of the best float32 product ever seen in these rows: what the machine can do at all."""
    return max((v for row in rows for name in PEAKS for v in row.values.get(name, ())), default=None)


def share_of_peak(row: Comparison, peak: float | None) -> float | None:
    """The counted FLOPs of training a second as a share of the peak."""
    speed = row.value(s.CHARRNN)
    return row.flops * speed / (1e9 * peak) if peak and speed else None


def _measured(rows: Sequence[Comparison], names: Sequence[str]) -> list[str]:
    """Of these sides, those that were measured in any row."""
    return [name for name in names if any(row.values.get(name) for row in rows)]


def training(rows: Sequence[Comparison]) -> Table:
    ours = _measured(rows, (s.CHARRNN, s.CHARRNN_BF16))
    torch = _measured(rows, TORCH_TRAINING)
    header = ["training, characters/s", *ours, "of the float32 peak", *torch]
    yardstick = s.TORCH_MALLOC if s.TORCH_MALLOC in torch else s.TORCH
    if torch:
        header += ["float32 : float32", "best : best"]
    body = []
    for row in rows:
        cells = [
            row.what,
            *(number(row.value(name)) for name in ours),
            percent(share_of_peak(row, peak(rows))),
        ]
        cells += [number(row.value(name)) for name in torch]
        if torch:
            best = row.ratio(row.best(ours) or "", row.best(torch))
            cells += [times(row.ratio(s.CHARRNN, yardstick)), times(best)]
        body.append(tuple(cells))
    peaks = []
    for name in _measured(rows, (*PEAKS, s.PEAK_BF16)):
        best = max(v for row in rows for v in row.values.get(name, ()))
        peaks.append(f"{name.partition(': ')[2]} {number(best)}")
    note = f"The best large matrix product on all cores, in GFLOP/s: {', '.join(peaks)}." if peaks else ""
    return Table(tuple(header), tuple(body), note)


def sampling(rows: Sequence[Comparison]) -> Table:
    ours = _measured(rows, (s.CHARRNN, s.CHARRNN_BF16))
    others = _measured(rows, (s.NUMPY, s.TORCH_MODULE, s.TORCH_CELLS))
    pairs = [(s.CHARRNN, name) for name in others]
    if s.NUMPY in others and s.CHARRNN_BF16 in ours:
        pairs.append((s.CHARRNN_BF16, s.NUMPY))
    header = ("writing, characters/s", *ours, *others, *(f"{a} : {b}" for a, b in pairs))
    body = []
    for row in rows:
        speeds = (number(row.value(name)) for name in (*ours, *others))
        body.append((row.what, *speeds, *(times(row.ratio(a, b)) for a, b in pairs)))
    return Table(header, tuple(body))


def start(rows: Sequence[Comparison]) -> Table:
    """Other sides stand where they mean something: what a row compares with differs from row to row."""
    header = ("from the start of the process to", s.CHARRNN, "others (charrnn : other)")
    body = []
    for row in rows:
        others = [
            f"{name} {seconds(row.value(name))} ({times(row.ratio(s.CHARRNN, name))})"
            for name in row.values
            if name != s.CHARRNN
        ]
        body.append((row.what, seconds(row.value(s.CHARRNN)), ", ".join(others)))
    return Table(header, tuple(body))


def memory(rows: Sequence[Comparison]) -> Table:
    body = tuple((row.what, f"{number(row.value(s.CHARRNN))} MB") for row in rows)
    return Table(("peak memory", s.CHARRNN), body)


TABLES: dict[str, Callable[[Sequence[Comparison]], Table]] = {
    "training": training,
    "sampling": sampling,
    "start": start,
    "memory": memory,
}
