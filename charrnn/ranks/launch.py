"""Whether a launcher has started this process as one of several, seen from what it sets."""

from __future__ import annotations

import os
from typing import NamedTuple


class Launch(NamedTuple):
    """This process among those that were started together."""

    rank: int
    size: int


def launched() -> Launch | None:
    """None: no launcher has started it, or Slurm has as the only one of a step, such as a shell."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "")  # which only srun sets
    if tasks == "1":
        return None
    told = (
        (os.environ.get("PMI_RANK", ""), os.environ.get("PMI_SIZE", "")),  # MPICH, Intel MPI
        (os.environ.get("OMPI_COMM_WORLD_RANK", ""), os.environ.get("OMPI_COMM_WORLD_SIZE", "")),
        (os.environ.get("SLURM_PROCID", ""), tasks),
    )
    for rank, size in told:
        if rank.isdecimal() and size.isdecimal() and int(rank) < int(size):
            return Launch(int(rank), int(size))
    return None
