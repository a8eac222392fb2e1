"""`popularity`: what everybody chose, in a window before the cut-off.

Recency popularity beats famous models under honest splits; without it no claim stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penchant.platform.events import EventLog
from penchant.platform.recipes import PopularityRecipe
from penchant.platform.requests import Requests, all_requests
from penchant.platform.timeline import DAY_MS, Window
from penchant.trainers.member import Past, read_card, read_tensors, write_member

__all__ = ["PopularityMember", "fit_popularity", "item_log_odds", "item_shares"]

#: Events that every item is given beforehand, so that an unseen item has a share above zero.
_PRIOR_EVENTS = 0.5


def event_weights(past: Past, window: Window) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows inside the window before the cut-off, and the decayed weight of each.

    Raises nothing: a window in which nothing happened gives no rows, and shares stay even.
    """
    rows = past.rows()
    age_days = (past.until_ms - past.log.time_ms[rows]) / DAY_MS
    if window.days is not None:
        rows, age_days = rows[age_days <= window.days], age_days[age_days <= window.days]
    if window.events is not None:
        latest = np.argsort(age_days, kind="stable")[: window.events]
        rows, age_days = rows[latest], age_days[latest]
    if window.half_life_days is None:
        return rows, np.ones(len(rows))
    return rows, np.exp2(-age_days / window.half_life_days)


def item_shares(past: Past, window: Window) -> NDArray[np.float32]:
    """Share of each item in the window's events, shape (V,), all above zero."""
    rows, weights = event_weights(past, window)
    counts = np.bincount(past.log.item[rows], weights=weights, minlength=past.log.num_items)
    smoothed = counts + _PRIOR_EVENTS
    return np.asarray(smoothed / smoothed.sum(), dtype=np.float32)


def item_log_odds(past: Past, window: Window) -> NDArray[np.float32]:
    """Smoothed log-odds of a yes for each item, shape (V,); `binary` tasks."""
    rows, weights = event_weights(past, window)
    asked = all_requests(past.log, past.spec, np.iinfo(np.int64).min, past.until_ms)
    label = np.full(past.log.num_events, np.nan, dtype=np.float32)
    label[asked.row] = asked.label  # as far as it is known before the cut-off
    known = ~np.isnan(label[rows])
    rows, weights = rows[known], weights[known]
    item, yes = past.log.item[rows], label[rows] > 0.5
    total = np.bincount(item, weights=weights, minlength=past.log.num_items)
    chosen = np.bincount(item, weights=weights * yes, minlength=past.log.num_items)
    overall = (chosen.sum() + 1) / (total.sum() + 2)
    strength = 10.0  # an item's own record counts half once it has ten events
    rate = (chosen + strength * overall) / (total + strength)
    return np.asarray(np.log(rate / (1 - rate)), dtype=np.float32)


@dataclass(frozen=True)
class PopularityMember:
    """One number an item, the same for every user."""

    recipe: PopularityRecipe
    item_score: NDArray[np.float32]  # (V,), log share or log-odds

    @property
    def num_parameters(self) -> int:
        return len(self.item_score)

    def score(self, log: EventLog, requests: Requests) -> NDArray[np.float32]:
        if requests.candidate is not None:
            return self.item_score[requests.candidate][:, None]
        return np.tile(self.item_score, (len(requests), 1))

    def save(self, directory: Path) -> None:
        write_member(directory, self.recipe, {}, {"item_score": self.item_score})

    @classmethod
    def load(cls, directory: Path) -> PopularityMember:
        recipe, _ = read_card(directory)
        if not isinstance(recipe, PopularityRecipe):
            raise TypeError(f"{directory} holds a {recipe.kind} member, expected popularity")
        return cls(recipe=recipe, item_score=read_tensors(directory)["item_score"])


def fit_popularity(recipe: PopularityRecipe, past: Past) -> PopularityMember:
    """Count events before the cut-off."""
    if past.spec.task == "binary":
        return PopularityMember(recipe=recipe, item_score=item_log_odds(past, recipe.window))
    return PopularityMember(recipe=recipe, item_score=np.log(item_shares(past, recipe.window)))
