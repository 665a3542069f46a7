"""Hosts on one machine, which are network namespaces, with cables between them that can be slow, or cut."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

LAUNCHER = "10.97.0.254"
# As MPICH's launcher calls ssh. Each host has a name of its own, and pays no heed to files of another's.
_ON_HOST = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
host=charrnn${1#10.97.0.1}; shift
exec ip netns exec "$host" unshare --uts sh -c "hostname $host; $*"
"""


def missing() -> str:
    """Why there can be no such hosts here; empty if there can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "network namespaces need root"
    lacking = [program for program in ("ip", "tc", "unshare", "hostname") if shutil.which(program) is None]
    return f"there is no {lacking[0]}" if lacking else ""


class Hosts:
    """So many network namespaces, each with a cable to the bridge between them."""

    def __init__(self, folder: Path, size: int) -> None:
        self.size, self._script = size, folder / "on_host"
        self._script.write_text(_ON_HOST)
        self._script.chmod(0o700)

    def launcher(self) -> list[str]:
        """What tells MPICH's launcher of them."""
        variables = {
            "UCX_TLS": "tcp,self",
            "UCX_NET_DEVICES": "e0",
            "FI_PROVIDER": "tcp",
            "FI_TCP_IFACE": "e0",
        }
        tcp = [word for name, value in variables.items() for word in ("-genv", name, value)]
        addresses = ",".join(f"10.97.0.1{n}" for n in range(self.size))
        where = ["-launcher", "ssh", "-launcher-exec", str(self._script), "-hosts", addresses]
        return [*tcp, *where, "-localhost", LAUNCHER]

    def cut(self, host: int) -> None:
        _ip("link", "set", f"charrnnv{host}", "down")

    def mend(self) -> None:
        for host in range(self.size):
            _ip("link", "set", f"charrnnv{host}", "up")
        time.sleep(3)  # until the bridge knows the way again

    def slow_down(self, megabits: int, milliseconds: float) -> str:
        """Let each cable carry so many megabits a second, so late. Returns what this kernel cannot do."""
        shaped = f"tbf rate {megabits}mbit burst {max(32, megabits // 8)}kb latency 100ms".split()
        late = f"netem delay {milliseconds}ms limit 10000".split()
        found = ""
        for host in range(self.size):
            inside = ["netns", "exec", f"charrnn{host}", "tc", "qdisc", "replace", "dev", "e0"]
            _ip(*inside, "root", "handle", "1:", *shaped)
            if subprocess.run(["ip", *inside, "parent", "1:", *late], capture_output=True).returncode:
                found = "this kernel has no netem: nothing is late"
            outside = ["tc", "qdisc", "replace", "dev", f"charrnnv{host}", "root", *shaped]
            subprocess.run(outside, check=True, capture_output=True)
        return found


@contextlib.contextmanager
def hosts(folder: Path, size: int) -> Iterator[Hosts]:
    """So many hosts; the folder is for what starts processes there."""
    with contextlib.ExitStack() as held:
        _ip("link", "add", "charrnnbr", "type", "bridge")
        held.callback(_ip, "link", "del", "charrnnbr")
        _ip("addr", "add", f"{LAUNCHER}/24", "dev", "charrnnbr")
        _ip("link", "set", "charrnnbr", "up")
        for n in range(size):
            name, cable = f"charrnn{n}", f"charrnnv{n}"
            _ip("netns", "add", name)
            held.callback(_ip, "netns", "del", name)
            _ip("link", "add", cable, "type", "veth", "peer", "name", "e0", "netns", name)
            held.callback(_ip, "link", "del", cable)  # at once, not some time after the host
            _ip("link", "set", cable, "master", "charrnnbr", "up")
            for words in (f"addr add 10.97.0.1{n}/24 dev e0", "link set e0 up", "link set lo up"):
                _ip("netns", "exec", name, "ip", *words.split())
            _ip("netns", "exec", name, "ip", "route", "add", "default", "via", LAUNCHER)
        yield Hosts(folder, size)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
