"""How often a yes was answered about an item, and about others of its kind.

For candidates that somebody else was asked about before. What is new to everybody, such as this
month's campaign, has no record: its kind has one. A kind is what the item's text says first.

Letters: V items.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penchant.platform.requests import all_requests
from penchant.trainers.member import Past

__all__ = ["answer_odds", "kinds_of"]

_ANSWERS = 20.0  # answers that the mean of all items counts for
_ITEMS = 1.0  # items that a kind of its own counts for


def answer_odds(past: Past, kind: NDArray[np.int64]) -> NDArray[np.float32]:
    """Shape (V, 2): log-odds of a yes over those of all answers, of the item and of its kind.

    The kind's are the mean of its other items that somebody was asked about; zero where there are
    none.

    Args:
        kind: of each item, shape (V,); -1 for none.
    """
    asked = all_requests(past.log, past.spec, np.iinfo(np.int64).min, past.until_ms)
    size = past.log.num_items
    if asked.candidate is None or asked.label is None or not len(asked):
        return np.zeros((size, 2), dtype=np.float32)
    number = np.bincount(asked.candidate, minlength=size)
    yes = np.bincount(asked.candidate, asked.label, size)
    overall = (yes.sum() + 1) / (number.sum() + 2)
    rate = (yes + _ANSWERS * overall) / (number + _ANSWERS)
    own = np.log(rate / (1 - rate)) - np.log(overall / (1 - overall))
    counted = (number > 0) & (kind >= 0)
    place = np.maximum(kind, 0)
    total = np.bincount(place[counted], own[counted], int(kind.max(initial=0)) + 1)
    items = np.bincount(place[counted], minlength=len(total))
    others = items[place] - counted
    of_kind = (total[place] - np.where(counted, own, 0.0)) / (others + _ITEMS)
    return np.stack([own, np.where(kind >= 0, of_kind, 0.0)], axis=1).astype(np.float32)


def kinds_of(texts: Sequence[str], num_items: int) -> NDArray[np.int64]:
    """Kind of each item, shape (V,): equal words before the first mark are equal kinds."""
    if not texts:
        return np.full(num_items, -1, dtype=np.int64)
    heads = [re.split(r"[:;,]", text, maxsplit=1)[0].strip().lower() for text in texts]
    _, kind = np.unique(np.array(heads), return_inverse=True)
    return np.where(np.array([bool(head) for head in heads]), kind, -1).astype(np.int64)
