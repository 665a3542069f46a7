"""How much of the CPUs a container, or any other control group of Linux, lets its processes use.

A quota does not take CPUs away: all are seen, and whoever runs more threads than it pays for is stopped for
the rest of each period, with all threads, those too that others wait for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def cpu_quota(root: Path = ROOT) -> float | None:
    """CPUs, 1.5 for example: the smallest quota of this process's groups and those above; None: no quota.

    What cannot be read or understood is no quota.
    """
    return min(_quotas(root), default=None)


def _quotas(root: Path) -> Iterator[float]:
    mounts = list(_mounts(root))
    for version, group in _groups(root):
        for mounted_version, inside, mounted in mounts:
            if mounted_version != version:
                continue
            below = _below(PurePosixPath(group), PurePosixPath(inside))
            for above in [below, *below.parents]:
                quota = READ[version](root / mounted.lstrip("/") / above)
                if quota is not None and quota > 0:
                    yield quota


def _groups(root: Path) -> Iterator[tuple[int, str]]:
    """The version of control groups, and this process's group, where CPUs may have quotas.

    See cgroups(7): `4:cpu,cpuacct:/group` is version 1, `0::/group` version 2.
    """
    for line in _lines(root / "proc/self/cgroup"):
        fields = line.split(":", 2)
        if len(fields) == 3 and (not fields[1] or "cpu" in fields[1].split(",")):
            yield (1 if fields[1] else 2), fields[2]


def _mounts(root: Path) -> Iterator[tuple[int, str, str]]:
    """The version, which group is mounted, and where.

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
    """Where the group is below the one that is mounted: that itself where it is not, as seen from outside."""
    if ".." in group.parts or not group.is_relative_to(inside):
        return PurePosixPath()
    return group.relative_to(inside)


def _version_2(folder: Path) -> float | None:
    """`150000 100000`, microseconds of each period; or `max 100000`."""
    fields = " ".join(_lines(folder / "cpu.max")).split()
    return _share(*fields) if len(fields) == 2 else None


def _version_1(folder: Path) -> float | None:
    """The same in two files; -1: there is none."""
    limit, period = ("".join(_lines(folder / f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
    return _share(limit, period)


READ = {1: _version_1, 2: _version_2}


def _share(limit: str, period: str) -> float | None:
    try:
        return int(limit) / int(period)
    except (ValueError, ZeroDivisionError, OverflowError):
        return None


def _unescaped(path: str) -> str:
    """A space is written as \\040."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _lines(path: Path) -> list[str]:
    try:
        return os.fsdecode(path.read_bytes()).splitlines()
    except OSError:
        return []
