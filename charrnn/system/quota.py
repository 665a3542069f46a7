"""The CPU quota of a container, or of any other Linux control group.

A quota does not hide CPUs: a process still sees all of them, but if it uses up its quota with more threads,
all its threads are stopped for the rest of the period, even those that others wait for.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")
FILES = {1: ("cpu.cfs_quota_us", "cpu.cfs_period_us"), 2: ("cpu.max",)}  # by the version of cgroups


def cpu_quota(root: Path = ROOT) -> float | None:
    """The smallest quota of this process's groups and their parents, in CPUs, such as 1.5. None: no quota.

    Files that cannot be read or parsed are ignored.
    """
    return min(_quotas(root), default=None)


def available_threads() -> int:
    """The number of CPUs that this process may use, limited by its CPU quota."""
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on; respects PYTHON_CPU_COUNT
        cpus = os.process_cpu_count() or 1
    elif hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    quota = cpu_quota()
    return max(1, cpus if quota is None else min(cpus, math.ceil(quota)))


def _quotas(root: Path) -> Iterator[float]:
    mounts = list(_mounts(root))
    for version, group in _groups(root):
        for mounted_version, inside, mounted in mounts:
            if mounted_version != version:
                continue
            below = _below(PurePosixPath(group), PurePosixPath(inside))
            for above in [below, *below.parents]:
                quota = _quota(root / mounted.lstrip("/") / above, version)
                if quota is not None and quota > 0:
                    yield quota


def _groups(root: Path) -> Iterator[tuple[int, str]]:
    """The cgroup version and path of each of this process's groups that may have a CPU quota.

    See cgroups(7): `4:cpu,cpuacct:/group` is version 1, `0::/group` version 2.
    """
    for line in _lines(root / "proc/self/cgroup"):
        fields = line.split(":", 2)
        if len(fields) == 3 and (not fields[1] or "cpu" in fields[1].split(",")):
            yield (1 if fields[1] else 2), fields[2]


def _mounts(root: Path) -> Iterator[tuple[int, str, str]]:
    """The cgroup version, mounted group and mount point of each cgroup file system.

    See proc(5): `36 35 98:0 /group /sys/fs/cgroup rw shared:1 - cgroup2 cgroup rw`.
    """
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, system = before.split(), after.split()
        if len(fields) < 5 or len(system) < 3:
            continue
        inside, mounted = (_unescaped(field) for field in fields[3:5])
        if system[0] == "cgroup2":
            yield 2, inside, mounted
        elif system[0] == "cgroup" and "cpu" in system[2].split(","):
            yield 1, inside, mounted


def _below(group: PurePosixPath, inside: PurePosixPath) -> PurePosixPath:
    """The group's path relative to the mounted group; empty if it lies outside of that."""
    if ".." in group.parts or not group.is_relative_to(inside):
        return PurePosixPath()
    return group.relative_to(inside)


def _quota(folder: Path, version: int) -> float | None:
    """From a quota and its period in microseconds, such as `150000 100000`; `max 100000`, -1: no quota."""
    numbers = " ".join(line for name in FILES[version] for line in _lines(folder / name)).split()
    try:
        limit, period = map(int, numbers)
        return limit / period
    except (ValueError, ZeroDivisionError, OverflowError):
        return None


def _unescaped(path: str) -> str:
    """Decodes octal escapes, such as \\040 for a space."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _lines(path: Path) -> list[str]:
    try:
        return os.fsdecode(path.read_bytes()).splitlines()
    except OSError:
        return []
