"""`boosted` on yes-or-no requests: a logistic regression, and trees that start from its log-odds.

On few answers trees learn less than the regression alone, and add nothing to it; on many they find
what it cannot say.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.platform.events import EventLog
from penchant.platform.recipes import BoostedRecipe
from penchant.platform.requests import Requests
from penchant.trainers.boosted.answer_lens import AnswerLens, answer_lens, training_features
from penchant.trainers.boosted.logistic import Logistic, fit_logistic
from penchant.trainers.boosted.trees import Trees, fit_trees
from penchant.trainers.member import Past, write_member

__all__ = ["AnswerMember", "fit_answers"]

#: Trees need so many answers. On likes they lost .002 on 2,000 and gained .001 on 20,000.
_ENOUGH_FOR_TREES = 10_000


@dataclass(frozen=True, kw_only=True)
class AnswerMember:
    """What is known of items, weights of features, and trees where answers were enough."""

    recipe: BoostedRecipe
    lens: AnswerLens
    logistic: Logistic
    trees: Trees | None

    @property
    def num_parameters(self) -> int:
        trees = 0 if self.trees is None else self.trees.num_parameters
        return self.lens.num_parameters + self.logistic.num_parameters + trees

    def score(self, log: EventLog, requests: Requests) -> NDArray[np.float32]:
        """Log-odds of a yes, shape (R, 1)."""
        features = self.lens.rows(log, requests)
        odds = self.logistic.log_odds(features)
        if self.trees is not None and len(odds):
            odds += self.trees.log_odds(features)
        return odds.astype(np.float32)[:, None]

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        if self.trees is not None:
            self.trees.save(directory)
        state = {**self.lens.state(), "trees": self.trees is not None}
        weights = {f"logistic_{name}": array for name, array in vars(self.logistic).items()}
        write_member(directory, self.recipe, state, {**self.lens.tensors(), **weights})

    @classmethod
    def read(
        cls,
        directory: Path,
        recipe: BoostedRecipe,
        state: dict[str, Any],
        tensors: dict[str, NDArray[Any]],
    ) -> AnswerMember:
        """What `save` wrote."""
        return cls(
            recipe=recipe,
            lens=AnswerLens.read(recipe.window, state, tensors),
            logistic=Logistic(
                mean=tensors["logistic_mean"],
                scale=tensors["logistic_scale"],
                weights=tensors["logistic_weights"],
            ),
            trees=Trees.load(directory, recipe.bags) if state["trees"] else None,
        )


def fit_answers(
    recipe: BoostedRecipe, past: Past, requests: Requests, label: NDArray[np.float32]
) -> AnswerMember:
    """Learn from requests before the cut-off and their labels, shape (R,)."""
    lens = answer_lens(recipe.window, past)
    features = training_features(lens, past, requests)
    logistic = fit_logistic(features, label)
    trees = None
    if len(label) >= _ENOUGH_FOR_TREES:
        trees = fit_trees(recipe, features, label, start=logistic.log_odds(features))
    return AnswerMember(recipe=recipe, lens=lens, logistic=logistic, trees=trees)
