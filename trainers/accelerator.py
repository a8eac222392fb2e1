"""The device that this process computes on, and batches brought to it."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch

__all__ = ["moved", "own_device"]

T = TypeVar("T")


def own_device() -> torch.device:
    """The GPU that Ray gave to this process; the CPU where it gave none.

    Ray hides GPUs from processes that did not ask for one.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def moved(batch: T, device: torch.device) -> T:
    """A batch with all its tensors on a device: batches are made on the CPU."""
    on_device: Any = batch
    if isinstance(batch, torch.Tensor):
        on_device = batch.to(device)
    elif isinstance(batch, tuple):
        on_device = tuple(moved(part, device) for part in batch)
    elif is_dataclass(batch) and not isinstance(batch, type):
        parts = {field.name: moved(getattr(batch, field.name), device) for field in fields(batch)}
        on_device = replace(batch, **parts)
    found: T = on_device
    return found
