"""How a measured process talks: it says that it is ready, and then measures whenever it is told to.

Standard library only: the interpreter that runs it may have PyTorch and nothing of charrnn.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

# With BENCH_CPU_TIME=1, work is measured by the CPU time of its process: where others use the machine, too.
CLOCK = time.process_time if os.environ.get("BENCH_CPU_TIME") else time.perf_counter


def say(**values: Any) -> None:
    """One JSON object on a line of stdout, at once."""
    print(json.dumps(values), flush=True)


def quickest(seconds: float, work: Callable[[], object]) -> float:
    """Seconds of the quickest of the calls that fit into so many of the clock, at least one."""
    best, begun = float("inf"), time.perf_counter()
    while time.perf_counter() - begun < seconds or best == float("inf"):
        before = CLOCK()
        work()
        best = min(best, CLOCK() - before)
    return best


def serve(measure: Callable[[float], float], **facts: Any) -> None:
    """Say `facts`, then for each line of stdin, a number of seconds, what was measured for so long.

    What comes before this call (imports, compiling, warming up) is in no measurement.
    """
    say(ready=True, **facts)
    for line in sys.stdin:
        say(value=measure(float(line)))
