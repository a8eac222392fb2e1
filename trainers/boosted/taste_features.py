"""Whether a user likes a candidate, by their own values so far and by what all users made of items.

The user's side is read from the request's own history, live; the items' side is what a member
learned up to its cut-off.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.platform.events import EventLog
from penchant.platform.history import history_of
from penchant.platform.item_tokens import Likeness
from penchant.platform.requests import Requests
from penchant.platform.timeline import Window
from penchant.trainers.boosted.taste import Taste, solve_rows

__all__ = ["TASTE_FEATURES", "taste_features"]

#: (half-life in events, events that a mean of zero counts for).
_PACES = ((np.inf, 5.0), (10.0, 2.0), (3.0, 1.0))
#: (power of the likeness, likeness that a mean of zero counts for).
_ALIKE = ((1, 0.5), (3, 0.05))

TASTE_FEATURES = (
    *(
        f"{reading}_{name}"
        for reading in ("yes", "place")
        for name in (
            *(f"over_items_{half_life:g}" for half_life, _ in _PACES),
            "of_item",
            "of_both",
            *(f"of_alike_{power}" for power, _ in _ALIKE),
        )
    ),
    "place_spread",
    "place_last",
    "by_factors",
    "user_events",
    "item_events",
)


def taste_features(
    log: EventLog, requests: Requests, window: Window, taste: Taste, likeness: Likeness
) -> NDArray[np.float32]:
    """`TASTE_FEATURES` of each request's candidate, shape (R, F); NaN where there is no history.

    Of both readings of a value: how the user's stand over what their items usually get, at three
    paces; how the candidate stands; the sum of both; and the mean over the user's items, weighted
    by how alike their texts are to the candidate's.
    """
    history, size = history_of(log, requests, window), len(requests)
    request, item = history.request, log.item[history.row]
    candidate = np.zeros(0, np.int32) if requests.candidate is None else requests.candidate
    age_events = requests.end[request] - 1 - history.row
    alike = np.minimum(likeness.of(item, candidate[request]), 1.0)

    def mean(
        of: NDArray[np.float64], weight: NDArray[np.float64], zeros: float
    ) -> NDArray[np.float64]:
        total = np.bincount(request, weight, size) + zeros
        return np.asarray(np.bincount(request, weight * of, size) / total, dtype=np.float64)

    columns, over, left = [], np.zeros(len(item)), np.zeros(len(item))
    for reading, overall, bias in zip(
        taste.readings(log.value[history.row]), taste.overall, taste.bias, strict=True
    ):
        over = reading - overall - bias[item]
        paces = [mean(over, np.exp2(-age_events / half), zeros) for half, zeros in _PACES]
        left = over - paces[0][request]
        columns += [*paces, bias[candidate], paces[0] + bias[candidate]]
        columns += [mean(left, alike**power, zeros) for power, zeros in _ALIKE]
    last = np.full(size, np.nan)
    last[request] = over  # events are in order: the newest stands
    number = np.bincount(request, minlength=size)
    spread = np.sqrt(np.bincount(request, left**2, size) / np.where(number > 2, number, np.nan))
    of_user = solve_rows(request, taste.factors[item], left, size)
    by_factors = (of_user * taste.factors[candidate]).sum(axis=1)
    columns += [spread, last, by_factors, number, taste.events[candidate]]
    return np.stack(columns, axis=1).astype(np.float32)
