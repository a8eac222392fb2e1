"""What each worker of a training really holds, to be told beside what was estimated."""

from __future__ import annotations

from typing import Any

import psutil
import torch

from penchant.trainers.course import Group
from penchant.trainers.zero.state import held_bytes

__all__ = ["held_by_worker"]


def held_by_worker(engine: Any, group: Group) -> list[dict[str, int]]:
    """Bytes that each worker holds between steps, in the order of ranks. Collective.

    Of `weights_bytes`, `optimizer_bytes`, and `process_bytes` of memory of the host in all; and the
    most that was in use on its GPU at once (`gpu_peak_bytes`), where it has one.
    """
    held = held_bytes(engine)
    mine = {
        "weights_bytes": held["weights"],
        "optimizer_bytes": held["optimizer"],
        "process_bytes": psutil.Process().memory_info().rss,
    }
    if engine.device.type == "cuda":
        mine["gpu_peak_bytes"] = torch.cuda.max_memory_allocated()
    table = torch.zeros(group.workers, len(mine), dtype=torch.float64)  # exact up to 2**53
    table[group.rank] = torch.tensor(list(mine.values()), dtype=torch.float64)
    rows = group.total(table).tolist()
    return [{name: int(v) for name, v in zip(mine, row, strict=True)} for row in rows]
