"""`personal`: the user's own items, by decayed frequency.

Groceries, news topics and music repeat: three of four items in a basket were bought before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penchant.platform.errors import ConfigError
from penchant.platform.events import EventLog
from penchant.platform.history import History, history_of, item_counts
from penchant.platform.recipes import PersonalRecipe
from penchant.platform.requests import Requests
from penchant.platform.timeline import Window
from penchant.trainers.counting.alike import AlikeTexts
from penchant.trainers.counting.popularity import item_log_odds, item_shares
from penchant.trainers.member import Past, read_card, read_tensors, write_member

__all__ = ["PersonalMember", "fit_personal"]

#: The population's taste that breaks ties is read from so many days before the cut-off.
_PRIOR_WINDOW = Window(days=60)


@dataclass(frozen=True)
class PersonalMember:
    """Decayed counts of the user's own items plus the population's share of each item.

    With `alike`, items whose texts are like those of the user's own items get a part of the counts.
    """

    recipe: PersonalRecipe
    prior: NDArray[np.float32]  # (V,), share of each item; log-odds of a yes for `binary`
    positive_above: float | None  # `binary` only
    alike: AlikeTexts | None = None

    @property
    def num_parameters(self) -> int:
        return len(self.prior) + (0 if self.alike is None else len(self.alike.shares.data))

    def score(self, log: EventLog, requests: Requests) -> NDArray[np.float32]:
        """Shape (R, V): log of (own decayed count + prior weight x share).

        The logarithm changes no order and keeps scores of frequent items within reach of others.
        """
        history = history_of(log, requests, self.recipe.window)
        if requests.candidate is not None:
            return self._binary(log, requests, history)
        kept = _in_large_groups(log, history, self.recipe.min_group_items)
        half_life = self.recipe.window.half_life_days or math.inf
        counts = item_counts(log, kept, [half_life])
        scores = counts.dense(len(requests), log.num_items)
        if self.recipe.alike is not None and self.alike is not None:
            own, size = counts.counts[:, 0], len(requests)
            near = self.alike.spread(counts.request, counts.item, own, size)
            scores += np.float32(self.recipe.alike.weight) * near
        scores += np.float32(self.recipe.prior_weight + 1e-6) * self.prior
        return np.log(scores, out=scores)

    def _binary(self, log: EventLog, requests: Requests, history: History) -> NDArray[np.float32]:
        """Shape (R, 1): log-odds of the user's own decayed rate of yes, smoothed to the item's."""
        half_life = self.recipe.window.half_life_days or math.inf
        weight = np.exp2(-history.age_days / half_life)
        yes = log.value[history.row] > np.float32(self.positive_above or 0.0)
        size = len(requests)
        total = np.bincount(history.request, weights=weight, minlength=size)
        chosen = np.bincount(history.request, weights=weight * yes, minlength=size)
        item_rate = 1 / (1 + np.exp(-self.prior[requests.candidate].astype(np.float64)))
        strength = 10.0 * self.recipe.prior_weight + 1e-6
        rate = (chosen + strength * item_rate) / (total + strength)
        rate = np.clip(rate, 1e-6, 1 - 1e-6)
        return np.asarray(np.log(rate / (1 - rate)), dtype=np.float32)[:, None]

    def save(self, directory: Path) -> None:
        tensors = {"prior": self.prior} | ({} if self.alike is None else self.alike.tensors())
        write_member(directory, self.recipe, {"positive_above": self.positive_above}, tensors)

    @classmethod
    def load(cls, directory: Path) -> PersonalMember:
        recipe, state = read_card(directory)
        if not isinstance(recipe, PersonalRecipe):
            raise TypeError(f"{directory} holds a {recipe.kind} member, expected personal")
        tensors = read_tensors(directory)
        return cls(
            recipe=recipe,
            prior=tensors["prior"],
            positive_above=state["positive_above"],
            alike=None if recipe.alike is None else AlikeTexts.from_tensors(tensors),
        )


def fit_personal(recipe: PersonalRecipe, past: Past) -> PersonalMember:
    """Only the prior is learned; histories are counted when a request is scored.

    Raises:
        ConfigError: `alike` in a binary task, or its language model cannot be used.
        DataError: `alike`, and no item has a text.
    """
    binary = past.spec.task == "binary"
    if recipe.alike is not None and binary:
        raise ConfigError(
            "personal.alike shares counts out to items that are ranked, and a binary task ranks "
            "none: expected no `alike`. Remove it."
        )
    prior = item_log_odds(past, Window()) if binary else item_shares(past, _PRIOR_WINDOW)
    alike = None if recipe.alike is None else AlikeTexts.find(recipe.alike, past)
    if recipe.alike is not None and alike is not None:
        every, weight = np.arange(len(prior)), np.float32(recipe.alike.weight)
        near = alike.spread(np.zeros_like(every), every, prior, rows=1)[0]
        prior = (prior + weight * near) / (1 + weight)
    return PersonalMember(
        recipe=recipe, prior=prior, positive_above=past.spec.positive_above, alike=alike
    )


def _in_large_groups(log: EventLog, history: History, min_items: int) -> History:
    """The history without groups (baskets) of fewer than `min_items` visible events."""
    if min_items == 1 or log.group is None or not len(history.row):
        return history
    group = log.group[history.row]
    new = (group[1:] != group[:-1]) | (history.request[1:] != history.request[:-1])
    run = np.concatenate([[0], np.cumsum(new)])
    kept = np.bincount(run)[run] >= min_items
    return History(
        start=history.start,
        request=history.request[kept],
        row=history.row[kept],
        age_days=history.age_days[kept],
    )
