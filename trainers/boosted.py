"""`boosted`: gradient-boosted trees over the features of a request's candidates (LightGBM).

The best single model on groceries in our own study: what every neural claim has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
from numpy.typing import NDArray

from penchant.platform.errors import DataError
from penchant.platform.events import EventLog
from penchant.platform.history import history_of
from penchant.platform.recipes import BoostedRecipe
from penchant.platform.requests import Requests, latest_requests
from penchant.trainers.features import Pairs, pair_features
from penchant.trainers.item_facts import item_facts
from penchant.trainers.member import Past, read_card, read_tensors, write_member
from penchant.trainers.type_features import type_features

__all__ = ["BoostedMember", "fit_boosted"]

_CHUNK = 500  # requests whose features are held at once
_TREES_FILE = "trees.txt"


@dataclass(frozen=True, kw_only=True)
class _Lens:
    """Turns requests into rows of features. V items, C popular ones."""

    recipe: BoostedRecipe
    facts: NDArray[np.float32]  # (V, facts)
    popular: NDArray[np.int32]  # (C,)
    positive_above: float | None  # `binary` only
    types: int = 0  # of events that are told apart, where labels are asked about

    def rows(self, log: EventLog, requests: Requests) -> tuple[Pairs, NDArray[np.float32]]:
        """The pairs that the trees rank, and their features, shape (pairs, features)."""
        pairs, features = pair_features(log, requests, self.recipe.window, self.popular)
        columns = [features, self.facts[pairs.item]]
        if self.positive_above is not None:
            columns.append(self._own_log_odds(log, requests)[pairs.request])
        if self.types:
            own = type_features(log, requests, self.recipe.window, self.types)
            columns.append(own[pairs.request])
        return pairs, np.concatenate(columns, axis=1)

    def _own_log_odds(self, log: EventLog, requests: Requests) -> NDArray[np.float32]:
        """Log-odds of the user's own yes, over everything and over the latest. Shape (R, 2)."""
        history = history_of(log, requests, self.recipe.window)
        yes = log.value[history.row] > np.float32(self.positive_above or 0.0)
        overall = 1 / (1 + np.exp(-self.facts[:, -1].astype(np.float64).mean()))
        columns = []
        for half_life in (np.inf, 10.0):
            age_events = requests.end[history.request] - 1 - history.row
            weight = np.exp2(-age_events / half_life)
            total = np.bincount(history.request, weights=weight, minlength=len(requests))
            chosen = np.bincount(history.request, weights=weight * yes, minlength=len(requests))
            rate = (chosen + 2 * overall) / (total + 2)
            columns.append(np.log(rate / (1 - rate)))
        return np.stack(columns, axis=1).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class BoostedMember:
    """Trees, and what they know of each item."""

    lens: _Lens
    trees: lightgbm.Booster
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
        width = log.num_items if requests.candidate is None else 1
        return np.concatenate(parts) if parts else np.zeros((0, width), dtype=np.float32)

    def _score_chunk(self, log: EventLog, requests: Requests) -> NDArray[np.float32]:
        pairs, features = self.lens.rows(log, requests)
        odds = np.asarray(self.trees.predict(features, raw_score=True), dtype=np.float32)
        if requests.candidate is not None:
            return odds[:, None]
        lowest = np.full(len(requests), np.inf, dtype=np.float32)
        np.minimum.at(lowest, pairs.request, odds)
        log_share = np.log(self.lens.facts[:, 0])
        scores: NDArray[np.float32] = lowest[:, None] + (log_share - log_share.max())[None, :]
        scores[pairs.request, pairs.item] = odds
        return scores

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.trees.save_model(str(directory / _TREES_FILE))
        state = {
            "positive_above": self.lens.positive_above,
            "types": self.lens.types,
            "num_parameters": self.num_parameters,
        }
        tensors = {"facts": self.lens.facts, "popular": self.lens.popular}
        write_member(directory, self.recipe, state, tensors)

    @classmethod
    def load(cls, directory: Path) -> BoostedMember:
        recipe, state = read_card(directory)
        if not isinstance(recipe, BoostedRecipe):
            raise TypeError(f"{directory} holds a {recipe.kind} member, expected boosted")
        lens = _Lens(
            recipe=recipe,
            positive_above=state["positive_above"],
            types=state.get("types", 0),  # members of before had none
            **read_tensors(directory),
        )
        trees = lightgbm.Booster(model_file=str(directory / _TREES_FILE))
        return cls(lens=lens, trees=trees, num_parameters=state["num_parameters"])


def fit_boosted(recipe: BoostedRecipe, past: Past) -> BoostedMember:
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
    facts = item_facts(past)
    popular = np.argsort(-facts[:, 0], kind="stable")[: recipe.popular_candidates]
    lens = _Lens(
        recipe=recipe,
        facts=facts,
        popular=popular.astype(np.int32),
        positive_above=past.spec.positive_above,
        types=len(past.types) if past.spec.asks_labels else 0,
    )
    random = np.random.default_rng(recipe.seed)
    features, answers = [], []
    for at in range(0, len(requests), _CHUNK):
        chunk = requests.take(np.arange(at, min(at + _CHUNK, len(requests))))
        pairs, rows = lens.rows(past.log, chunk)
        chosen = _answers(past.log, chunk, pairs)
        if chunk.label is None:
            # 96 of 100 pairs are not chosen: more requests teach more than all of their pairs
            kept = (chosen > 0) | (random.random(len(chosen)) < recipe.negative_share)
            rows, chosen = rows[kept], chosen[kept]
        features.append(rows)
        answers.append(chosen)
    settings = _settings(recipe)
    data = lightgbm.Dataset(
        np.concatenate(features), label=np.concatenate(answers), params=settings
    )
    trees = lightgbm.train(settings, data, num_boost_round=recipe.trees)
    leaves = sum(tree["num_leaves"] for tree in trees.dump_model()["tree_info"])
    return BoostedMember(lens=lens, trees=trees, num_parameters=2 * leaves - trees.num_trees())


def _answers(log: EventLog, requests: Requests, pairs: Pairs) -> NDArray[np.float32]:
    """1 where a pair is a target (or its label is a yes), shape (pairs,)."""
    if requests.label is not None:
        return requests.label
    request = np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))
    targets = request * np.int64(log.num_items) + requests.target
    chosen = np.isin(pairs.request * np.int64(log.num_items) + pairs.item, targets)
    return chosen.astype(np.float32)


def _settings(recipe: BoostedRecipe) -> dict[str, object]:
    return {
        "objective": "binary",
        "learning_rate": recipe.learning_rate,
        "num_leaves": recipe.leaves,
        "min_data_in_leaf": 100,
        "feature_fraction": 0.8,
        "bagging_fraction": 0.5,
        "bagging_freq": 5,
        "max_bin": 127,
        "seed": recipe.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,  # a second one gains a fifth alone, and costs 3x beside other work
        "verbosity": -1,
    }
