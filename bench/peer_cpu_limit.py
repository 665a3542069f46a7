"""For trainers of Lightning: training that ends after so many minutes of the process's CPU time."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch.callbacks import Callback


class CpuLimit(Callback):  # type: ignore[misc]
    """As Lightning's own `max_time`, by another clock: other processes on the machine do not count."""

    def __init__(self, minutes: float) -> None:
        self._seconds, self._began = minutes * 60, 0.0

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock."""
        self._began = time.process_time()

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Stop when the time is up."""
        if time.process_time() - self._began >= self._seconds:
            trainer.should_stop = True
