"""Files out of packages of PyPI, npm and Debian, each downloaded once by its name into a folder.

Standard library only; pip, apt-get and dpkg-deb do the work for PyPI and Debian.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

Members = Iterator[tuple[str, bytes]]  # of an archive: their paths and contents


def run(*command: str | Path, cwd: Path | None = None) -> bytes:
    """What a command prints."""
    return subprocess.run([*map(str, command)], cwd=cwd, check=True, stdout=subprocess.PIPE).stdout


def downloaded(folder: Path, name: str, *command: str) -> Path:
    """The file of this name pattern in the folder, which the command downloads if it is not there."""
    if not list(folder.glob(name)):
        run(*command, cwd=folder)
    return next(folder.glob(name))


def pip_package(folder: Path, name: str) -> Path:
    """A package of PyPI."""
    command = sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", name
    return downloaded(folder, f"{name}-*", *command)


def debian_package(folder: Path, name: str) -> Path:
    """A package of Debian."""
    # Its own user may have no right to write there.
    command = "apt-get", "download", "--quiet=2", "-o", "APT::Sandbox::User=root", name
    return downloaded(folder, f"{name}_*.deb", *command)


def npm_package(folder: Path, name: str) -> Path:
    """A package of npm, from the registry that npm is configured for."""
    if found := list(folder.glob(f"{name}-*.tgz")):
        return found[0]
    registry = run("npm", "config", "get", "registry").decode().strip()
    with urllib.request.urlopen(f"{registry.rstrip('/')}/{name}/latest") as answer:
        about = json.load(answer)
    path = folder / f"{name}-{about['version']}.tgz"
    with urllib.request.urlopen(about["dist"]["tarball"]) as answer:
        path.write_bytes(answer.read())
    return path


def version(archive: Path) -> str:
    """The version in an archive's name."""
    found = re.match(r".*?[-_](\d[^_]*?)(?:-py\d.*|_[a-z0-9]+\.deb|\.tgz|\.tar\.gz)$", archive.name)
    return found[1].replace("%3a", ":") if found else "?"


def members(archive: Path) -> Members:
    """The files in a wheel, a source archive, an npm package or a Debian package, one after another."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name in sorted(wheel.namelist()):
                yield name, wheel.read(name)
    elif archive.suffix == ".deb":
        with tarfile.open(fileobj=io.BytesIO(run("dpkg-deb", "--fsys-tarfile", archive))) as files:
            yield from _files(files)
    else:
        with tarfile.open(archive) as files:
            yield from _files(files)


def _files(files: tarfile.TarFile) -> Members:
    for member in files:
        if member.isfile() and (file := files.extractfile(member)) is not None:
            yield member.name, file.read()
