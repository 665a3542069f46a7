"""What is running here, for reports."""

from __future__ import annotations

from typing import Any

import charrnn


def versions() -> dict[str, Any]:
    """Versions of charrnn and of what it needs, and what the CPU is and can do; None: unknown."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from charrnn.system.cpu import cpu

    found: dict[str, Any] = {"charrnn": charrnn.__version__, "python": platform.python_version()}
    for name in ("numpy", "numba"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    name, instructions = cpu()
    return found | {"system": platform.platform(), "cpu": name, "instructions": instructions}
