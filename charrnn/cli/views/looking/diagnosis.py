"""What `charrnn diagnose` shows of a network or a run: lines for people, a chart, SVG, figures for JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from charrnn.cli.views import chart, powers
from charrnn.cli.views.chart import Span
from charrnn.cli.wording import count
from charrnn.diagnosis.findings import FAINT, Clipping, Diagnosis, Layer, RunDiagnosis, reach

WIDTH, HEIGHT = 64, 10  # of a chart, in characters
STYLES = ("cyan", "yellow", "green", "magenta", "blue", "bright_black")
SHOWN_LAGS = 6  # columns of the table
SHOWN_UNITS = 12
_NAME = 12  # columns for the name of a row

Row = list[Span]  # of characters, each with its style


def of_network(found: Diagnosis) -> Iterator[Row]:
    """The rows about a network."""
    over = f"mean norm at {count(found.places[0])} places"
    yield [(f"gradient of the loss by the state k characters before, {over}", "")]
    curves = [(name, _in_view(enumerate(values))) for name, values in _gradients(found)]
    styles = {name: STYLES[n % len(STYLES)] for n, (name, _) in enumerate(curves)}
    if found.lags > 1 and any(points for _, points in curves):
        drawn = [chart.Line(points, styles[name]) for name, points in curves]
        yield from chart.draw(drawn, None, "", WIDTH, HEIGHT, powers=True)
        yield _axis("1", f"k = {found.lags}")
    lags = _shown(found.lags)
    yield [(" " * _NAME + "".join(f"{f'k = {k}':>9}" for k in lags) + f"{f'{FAINT:.0%} until':>11}", "dim")]
    for name, values in _gradients(found):
        far = reach(values)
        end = str(far) if far < found.lags else f"> {far}"
        figures = "".join(f"{values[k - 1]:9.1e}" for k in lags) + f"{end:>11}"
        yield [(f"{name:<{_NAME}}", styles[name]), (figures, "")]
    yield [("", "")]
    yield [(f"{'gates':<{_NAME}}share at the lower and the upper end of their range", "")]
    for k, layer in enumerate(found.layers):
        shares = (f"{gate} {low:4.0%} {high:4.0%}" for gate, (low, high) in layer.gates.items())
        yield [(f"{f'layer {k + 1}':<{_NAME}}{'     '.join(shares)}", "")]
    yield [("", "")]
    for k, layer in enumerate(found.layers):
        yield [(f"{'units' if k == 0 else '':<{_NAME}}layer {k + 1}: {_idle(layer)}", "")]
    yield [(f"{'clipping':<{_NAME}}{_clipping(found.clipping, 'steps from here on')}", "")]
    yield [(f"{'advice':<{_NAME}}{found.advice}", "")]


def of_run(found: RunDiagnosis) -> Iterator[Row]:
    """The rows about a run."""
    yield [("norm of the gradient by step, before clipping", "")]
    if points := _in_view(found.points):
        clip = math.log10(found.clipping.clip)
        drawn = [chart.Line([(0.0, clip), (1.0, clip)], STYLES[1]), chart.Line(points, STYLES[0])]
        yield from chart.draw(drawn, None, "", WIDTH, HEIGHT, powers=True)
        yield _axis(count(found.points[0][0]), f"step {count(found.points[-1][0])}")
    yield [(f"{'clipping':<{_NAME}}{_clipping(found.clipping, 'reported steps')}", "")]
    yield [(f"{'advice':<{_NAME}}{found.advice}", "")]


def svg(found: Diagnosis | RunDiagnosis, name: str, network: str = "") -> str:
    """The curves of a network called `name`, or of a run, as a picture."""
    if isinstance(found, RunDiagnosis):
        clip, about = found.clipping.clip, _clipping(found.clipping, "reported steps")
        words = powers.Words(name, about, "step", "norm of the gradient, before clipping")
        return powers.svg([powers.Curve(found.points, "norm")], words, (clip, f"clip {clip:g}"))
    words = powers.Words(name, network, "characters back", "gradient of the loss by the state, mean norm")
    return powers.svg(
        [powers.Curve([*enumerate(values, 1)], name) for name, values in _gradients(found)], words
    )


def figures(found: Diagnosis | RunDiagnosis) -> dict[str, Any]:
    """The figures for JSON."""
    if isinstance(found, RunDiagnosis):
        return {
            "clipping": _clipping_figures(found.clipping) | {"late_share": found.late_share},
            "norms": [{"step": step, "grad_norm": norm} for step, norm in found.points],
            "advice": found.advice,
        }
    layers = [
        {
            "gradients": layer.gradients,
            "reach": {part: reach(values) for part, values in layer.gradients.items()},
            "gates": {gate: {"low": low, "high": high} for gate, (low, high) in layer.gates.items()},
            "units": layer.units,
            "idle": list(layer.idle),
        }
        for layer in found.layers
    ]
    return {
        "layers": layers,
        "places": found.places,
        "characters": found.characters,
        "clipping": _clipping_figures(found.clipping),
        "seq_len": found.seq_len,
        "advice": found.advice,
    }


def _clipping_figures(found: Clipping) -> dict[str, Any]:
    return asdict(found) | {"share": found.share}


def _gradients(found: Diagnosis) -> Iterator[tuple[str, list[float]]]:
    for k, layer in enumerate(found.layers):
        for part, values in layer.gradients.items():
            yield f"layer {k + 1} {part}", values


def _in_view(points: Iterable[tuple[int, float]]) -> list[chart.Point]:
    """From the left of a chart to its right, each y as a power of ten; without what has none."""
    points = list(points)
    first, last = points[0][0], points[-1][0]
    across = max(1, last - first)
    return [((x - first) / across, math.log10(y)) for x, y in points if 0 < y < math.inf]


def _axis(first: str, last: str) -> Row:
    """What stands below a chart."""
    return [(f"{'':{chart.LABEL_WIDTH}}{first}{last:>{WIDTH - len(first)}}", "dim")]


def _shown(lags: int) -> list[int]:
    """1, 2, 4, .. and the last one: at most SHOWN_LAGS of them, those in between left out."""
    found = [1 << n for n in range(lags.bit_length()) if 1 << n < lags] + [lags]
    while len(found) > SHOWN_LAGS:
        del found[len(found) // 2]
    return found


def _idle(layer: Layer) -> str:
    if not layer.idle:
        return f"all {count(layer.units)} move"
    named = ", ".join(map(str, layer.idle[:SHOWN_UNITS])) + ", ..." * (len(layer.idle) > SHOWN_UNITS)
    return f"{count(len(layer.idle))} of {count(layer.units)} never move: {named}"


def _clipping(found: Clipping, steps: str) -> str:
    over = f"; {count(found.overflowed)} overflow" if found.overflowed else ""
    return (
        f"{count(found.clipped)} of {count(found.steps)} {steps} exceed {found.clip:g}; "
        f"median {found.median:.3g}, largest {found.largest:.3g}{over}"
    )
