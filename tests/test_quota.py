"""The share of the CPUs that a container has, in trees of files such as Linux shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from charrnn.system import quota as quotas
from charrnn.system.quota import available_threads, cpu_quota

V2 = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "33 25 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw shared:11 - cgroup cgroup rw,cpu,cpuacct\n"
OTHERS = (
    "21 26 0:19 / /sys rw shared:7 - sysfs sysfs rw\n"
    "35 25 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
    "half a line\n\n"
)


def tree(root: Path, cgroup: str, mounts: str, **files: str) -> Path:
    """A file's name has `/` as `__`."""
    contents = {"proc/self/cgroup": cgroup, "proc/self/mountinfo": OTHERS + mounts}
    contents |= {f"sys/fs/cgroup/{name.replace('__', '/')}": text for name, text in files.items()}
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("limit", "quota"),
    [("150000 100000\n", 1.5), ("max 100000\n", None), ("400000 100000", 4.0), ("5", None)],
)
def test_a_container_that_sees_only_its_own_group_has_its_quota(
    tmp_path: Path, limit: str, quota: float | None
) -> None:
    assert cpu_quota(tree(tmp_path, "0::/\n", V2.format(root="/"), **{"cpu.max": limit})) == quota


def test_the_smallest_quota_up_the_tree_counts(tmp_path: Path) -> None:
    files = {
        "a__cpu.max": "300000 100000",
        "a__b__cpu.max": "max 100000",
        "a__b__c__cpu.max": "350000 100000",
    }
    files |= {"a__b__c__d__cpu.max": "50000 100000", "x__cpu.max": "10000 100000"}  # not this process's
    assert cpu_quota(tree(tmp_path, "0::/a/b/c\n", V2.format(root="/"), **files)) == 3.0


def test_a_group_is_found_below_the_one_that_is_mounted(tmp_path: Path) -> None:
    files = {"cpu.max": "300000 100000", "job__cpu.max": "200000 100000"}
    mounts = V2.format(root="/docker/f00d")
    assert cpu_quota(tree(tmp_path, "0::/docker/f00d/job\n", mounts, **files)) == 2.0


@pytest.mark.parametrize("group", ["/../elsewhere", "/docker/beef", "/"])
def test_of_a_group_outside_of_what_is_mounted_that_counts(tmp_path: Path, group: str) -> None:
    files = {"cpu.max": "300000 100000"}
    assert cpu_quota(tree(tmp_path, f"0::{group}\n", V2.format(root="/docker/f00d"), **files)) == 3.0


@pytest.mark.parametrize(("limit", "quota"), [("250000\n", 2.5), ("-1\n", None), ("0", None), ("x", None)])
def test_version_1_has_two_files_and_controllers_of_their_own(
    tmp_path: Path, limit: str, quota: float | None
) -> None:
    cgroup = "5:memory:/d/m\n4:cpu,cpuacct:/d/c\n2:cpuset:/d/s\n1:name=systemd:/d\n0::/d\n"
    files = {
        "cpu,cpuacct__d__c__cpu.cfs_quota_us": limit, "cpu,cpuacct__d__c__cpu.cfs_period_us": "100000\n",
        "cpu,cpuacct__cpu.cfs_quota_us": "-1\n", "cpu,cpuacct__cpu.cfs_period_us": "100000\n",
        "cpu,cpuacct__d__m__cpu.cfs_quota_us": "1\n", "cpu,cpuacct__d__m__cpu.cfs_period_us": "100000\n",
    }  # fmt: skip
    assert cpu_quota(tree(tmp_path, cgroup, V1.format(root="/"), **files)) == quota


def test_a_folder_with_a_space_is_found(tmp_path: Path) -> None:
    mounts = V2.format(root="/").replace("/sys/fs/cgroup", r"/sys/fs/cgroup/a\040b")
    assert cpu_quota(tree(tmp_path, "0::/\n", mounts, **{"a b__cpu.max": "100000 100000"})) == 1.0


@pytest.mark.parametrize(
    "damage", ["", "\0\xff\n", "0::", "::::\n:", "0:cpu:/\n", "max", "1 0", "-5 10", "nan 1"]
)
def test_what_is_broken_is_no_quota(tmp_path: Path, damage: str) -> None:
    for n, (cgroup, mounts, limit) in enumerate(
        [
            (damage, V2.format(root="/"), "100000 100000"),
            ("0::/\n", damage, "100000 100000"),
            ("0::/\n", V2.format(root="/"), damage),
            ("0::/\n", damage + " - " + damage, damage),
        ]
    ):
        found = cpu_quota(tree(tmp_path / str(n), cgroup, mounts, **{"cpu.max": limit}))
        assert found is None or (found == 1.0 and n == 0)  # "0::" is still the group that is mounted
    assert cpu_quota(tmp_path / "nothing") is None
    (tmp_path / "folder" / "proc" / "self" / "cgroup").mkdir(parents=True)
    assert cpu_quota(tmp_path / "folder") is None


@pytest.mark.parametrize(("quota", "threads"), [(None, 8), (0.2, 1), (1.0, 1), (1.5, 2), (3.0, 3), (64.0, 8)])
def test_there_are_no_more_threads_than_the_quota_pays_for(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, threads: int
) -> None:
    monkeypatch.setattr(quotas, "cpu_quota", lambda: quota)
    monkeypatch.setattr(quotas.os, "process_cpu_count", lambda: 8, raising=False)
    assert available_threads() == threads
