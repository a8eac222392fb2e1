"""The user's own items among those that are scored: what the copy head of `text` reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from penchant.platform.events import EventLog
from penchant.platform.history import history_of, item_counts
from penchant.platform.recipes import TextRecipe
from penchant.platform.requests import Requests
from penchant.trainers.text.network import Own

__all__ = ["own_items", "places"]


def own_items(
    log: EventLog, requests: Requests, recipe: TextRecipe, items: NDArray[np.int64]
) -> Own:
    """Pairs of each request and its user's items that are among `items` (sorted, shape (Q,))."""
    history = history_of(log, requests, recipe.window)
    counts = item_counts(log, history, recipe.copy_half_lives_days)
    found, place = places(counts.item, items)
    return Own(
        request=torch.from_numpy(counts.request[found]),
        place=torch.from_numpy(place),
        counts=torch.from_numpy(np.log1p(counts.counts[found])),
    )


def places(
    wanted: NDArray[np.integer[Any]], items: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which of `wanted` are among the sorted `items`, and where those are."""
    at = np.minimum(np.searchsorted(items, wanted), len(items) - 1)
    found = items[at] == wanted
    return found, at[found]
