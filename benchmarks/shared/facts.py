"""What a benchmark's figures depend on beside the code: the machine, and versions."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any


def facts(*packages: str) -> dict[str, dict[str, Any]]:
    """`machine` and `versions`, for a benchmark's JSON: of Python, Penchant and these packages."""
    return {
        "machine": {
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "load": os.getloadavg()[0],
        },
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("penchant", *packages)},
        },
    }
