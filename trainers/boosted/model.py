"""`boosted`: gradient-boosted trees over the features of a request's candidates (LightGBM).

The best single model on groceries in our own study: what every neural claim has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penchant.platform.errors import DataError
from penchant.platform.events import EventLog
from penchant.platform.recipes import BoostedRecipe
from penchant.platform.requests import Requests, latest_requests
from penchant.trainers.boosted.answers import AnswerMember, fit_answers
from penchant.trainers.boosted.features import counting_features
from penchant.trainers.boosted.habits import habit_features
from penchant.trainers.boosted.item_facts import item_facts
from penchant.trainers.boosted.pairs import Pairs, candidate_pairs, own_items
from penchant.trainers.boosted.returns import Returns, fit_returns
from penchant.trainers.boosted.trees import Trees, draws, fit_trees
from penchant.trainers.member import Past, read_card, read_tensors, write_member

__all__ = ["BoostedMember", "fit_boosted"]

_CHUNK = 500  # requests whose features are held at once


@dataclass(frozen=True, kw_only=True)
class _Lens:
    """Turns requests for the whole catalogue into rows of features. V items, C popular ones."""

    recipe: BoostedRecipe
    facts: NDArray[np.float32]  # (V, facts)
    popular: NDArray[np.int32]  # (C,)
    returns: Returns

    def rows(self, log: EventLog, requests: Requests) -> tuple[Pairs, NDArray[np.float32]]:
        """The pairs that the trees rank, and their features, shape (pairs, features)."""
        own = own_items(log, requests, self.recipe.window)
        pairs = candidate_pairs(log, requests, own.history, self.popular)
        counted = counting_features(log, requests, own, pairs)
        habits = habit_features(log, requests, own, pairs, self.returns)
        return pairs, np.concatenate([counted, habits, self.facts[pairs.item]], axis=1)


@dataclass(frozen=True, kw_only=True)
class BoostedMember:
    """Trees over the items of the catalogue, and what they know of each item."""

    lens: _Lens
    trees: Trees
    num_parameters: int

    @property
    def recipe(self) -> BoostedRecipe:
        return self.lens.recipe

    def score(self, log: EventLog, requests: Requests) -> NDArray[np.float32]:
        """Log-odds of the pairs that the trees rank; the rest stands below, by popularity."""
        parts = [
            self._score_chunk(log, requests.take(np.arange(at, min(at + _CHUNK, len(requests)))))
            for at in range(0, len(requests), _CHUNK)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, log.num_items), dtype=np.float32)

    def _score_chunk(self, log: EventLog, requests: Requests) -> NDArray[np.float32]:
        pairs, features = self.lens.rows(log, requests)
        odds = self.trees.log_odds(features).astype(np.float32)
        lowest = np.full(len(requests), np.inf, dtype=np.float32)
        np.minimum.at(lowest, pairs.request, odds)
        log_share = np.log(self.lens.facts[:, 0])
        scores: NDArray[np.float32] = lowest[:, None] + (log_share - log_share.max())[None, :]
        scores[pairs.request, pairs.item] = odds
        return scores

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.trees.save(directory)
        tensors = {
            "facts": self.lens.facts,
            "popular": self.lens.popular,
            **vars(self.lens.returns),
        }
        write_member(directory, self.recipe, {"num_parameters": self.num_parameters}, tensors)

    @classmethod
    def load(cls, directory: Path) -> BoostedMember | AnswerMember:
        """A member of either task."""
        recipe, state = read_card(directory)
        if not isinstance(recipe, BoostedRecipe):
            raise TypeError(f"{directory} holds a {recipe.kind} member, expected boosted")
        tensors = read_tensors(directory)
        if "facts" not in tensors:
            return AnswerMember.read(directory, recipe, state, tensors)
        if state.get("positive_above") is not None or "hazard" not in tensors:
            raise DataError(
                f"{directory} holds a boosted member of an earlier Penchant, with other features. "
                "Fit the member again."
            )
        lens = _Lens(
            recipe=recipe,
            facts=tensors["facts"],
            popular=tensors["popular"],
            returns=Returns(hazard=tensors["hazard"], survival=tensors["survival"]),
        )
        trees = Trees.load(directory, recipe.bags)
        return cls(lens=lens, trees=trees, num_parameters=state["num_parameters"])


def fit_boosted(recipe: BoostedRecipe, past: Past) -> BoostedMember | AnswerMember:
    """Learn from the latest requests before the cut-off, and a share of what was not chosen.

    Raises:
        DataError: there are no requests to learn from.
    """
    requests = latest_requests(past.log, past.spec, past.until_ms, recipe.fit_requests, recipe.seed)
    if not len(requests):
        raise DataError(
            "boosted: no request lies before the cut-off; expected some to learn from. "
            "Move the blocks later, or lower requests.min_items."
        )
    if requests.label is not None:
        return fit_answers(recipe, past, requests, requests.label)
    facts = item_facts(past)
    popular = np.argsort(-facts[:, 0], kind="stable")[: recipe.popular_candidates]
    lens = _Lens(
        recipe=recipe, facts=facts, popular=popular.astype(np.int32), returns=fit_returns(past)
    )
    random = np.random.default_rng(recipe.seed)
    features, answers, drawn = [], [], []
    for at in range(0, len(requests), _CHUNK):
        chunk = requests.take(np.arange(at, min(at + _CHUNK, len(requests))))
        pairs, rows = lens.rows(past.log, chunk)
        chosen = _chosen(past.log, chunk, pairs)
        # 96 of 100 pairs are not chosen: more requests teach more than all of their pairs
        of_bags = draws(recipe, chosen, random)
        kept = of_bags.any(axis=0)
        features.append(rows[kept])
        answers.append(chosen[kept])
        drawn.append(of_bags[:, kept])
    trees = fit_trees(
        recipe,
        np.concatenate(features),
        np.concatenate(answers),
        drawn=np.concatenate(drawn, axis=1),
    )
    return BoostedMember(lens=lens, trees=trees, num_parameters=trees.num_parameters)


def _chosen(log: EventLog, requests: Requests, pairs: Pairs) -> NDArray[np.float32]:
    """1 where a pair is a target, shape (pairs,)."""
    request = np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))
    targets = request * np.int64(log.num_items) + requests.target
    chosen = np.isin(pairs.request * np.int64(log.num_items) + pairs.item, targets)
    return chosen.astype(np.float32)
