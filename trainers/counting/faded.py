"""Histories that fade: what each item of a user's past still weighs when something is asked."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from penchant.platform.events import EventLog
from penchant.platform.history import history_of
from penchant.platform.recipes import ItemItemRecipe
from penchant.platform.requests import Requests

__all__ = ["faded_histories"]


def faded_histories(recipe: ItemItemRecipe, log: EventLog, requests: Requests) -> sparse.csr_matrix:
    """Faded weight of each item in each history, shape (R, V); an item counts by its last event."""
    history = history_of(log, requests, recipe.window)
    weight = np.ones(len(history.row))
    if recipe.half_life_events is not None:
        age_events = requests.end[history.request] - 1 - history.row
        weight = np.exp2(-age_events / recipe.half_life_events)
    if recipe.window.half_life_days is not None:
        weight *= np.exp2(-history.age_days / recipe.window.half_life_days)
    key = history.request * np.int64(log.num_items) + log.item[history.row]
    _, from_end = np.unique(key[::-1], return_index=True)
    last = len(key) - 1 - from_end
    return sparse.csr_matrix(
        (weight[last].astype(np.float32), (history.request[last], log.item[history.row[last]])),
        shape=(len(requests), log.num_items),
    )
