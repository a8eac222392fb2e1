"""Growing LightGBM's trees: settings that both kinds of `boosted` member share.

Trees that are grown again on another draw of rows and columns err in other places; the mean of
several such models is better than each (bagging: Breiman 1996, "Bagging predictors").
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from penchant.platform.recipes import BoostedRecipe

if TYPE_CHECKING:
    import lightgbm

__all__ = ["Trees", "draws", "fit_trees"]


@dataclass(frozen=True)
class Trees:
    """One or several models of trees, whose log-odds are averaged."""

    bags: tuple[lightgbm.Booster, ...]

    @property
    def num_parameters(self) -> int:
        """Leaf values and thresholds: a tree of L leaves has L and L - 1."""
        return sum(_num_parameters(trees) for trees in self.bags)

    def log_odds(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of a yes, or what is to be added to those of the start, shape (R,)."""
        total = np.zeros(len(features))
        for trees in self.bags:
            total += np.asarray(trees.predict(features, raw_score=True))
        return total / len(self.bags)

    def save(self, directory: Path) -> None:
        for bag, trees in enumerate(self.bags):
            trees.save_model(str(directory / _file_name(bag)))

    @classmethod
    def load(cls, directory: Path, bags: int) -> Trees:
        """What `save` wrote."""
        import lightgbm  # here, since replicas of other members start sooner without

        names = [str(directory / _file_name(bag)) for bag in range(bags)]
        return cls(tuple(lightgbm.Booster(model_file=name) for name in names))


def fit_trees(
    recipe: BoostedRecipe,
    features: NDArray[np.float32],
    answers: NDArray[np.float32],
    *,
    drawn: NDArray[np.bool_] | None = None,
    start: NDArray[np.float64] | None = None,
) -> Trees:
    """Trees whose sum is the log-odds of a yes, or what is to be added to those of `start`.

    Args:
        features: shape (R, F); NaN marks a missing one.
        answers: 0 or 1, shape (R,).
        drawn: rows that each bag learns from, shape (bags, R); all of them without.
        start: log-odds that the trees begin from, shape (R,).
    """
    import lightgbm

    bags = []
    for bag in range(recipe.bags):
        rows = slice(None) if drawn is None or drawn[bag].all() else drawn[bag]
        settings = _settings(recipe, bag)
        data = lightgbm.Dataset(
            features[rows],
            label=answers[rows],
            init_score=None if start is None else start[rows],
            params=settings,
        )
        bags.append(lightgbm.train(settings, data, num_boost_round=recipe.trees))
    return Trees(tuple(bags))


def draws(
    recipe: BoostedRecipe, answers: NDArray[np.float32], random: np.random.Generator
) -> NDArray[np.bool_]:
    """Rows for each bag, shape (bags, R): every yes, and `negative_share` of the rest.

    Bags share no row of the rest, for as long as there are enough.
    """
    place = random.random(len(answers)) - recipe.negative_share * np.arange(recipe.bags)[:, None]
    return (answers > 0) | (place % 1.0 < recipe.negative_share)


def _file_name(bag: int) -> str:
    return f"trees-{bag}.txt" if bag else "trees.txt"


def _num_parameters(trees: lightgbm.Booster) -> int:
    leaves: int = sum(tree["num_leaves"] for tree in trees.dump_model()["tree_info"])
    return 2 * leaves - int(trees.num_trees())


def _settings(recipe: BoostedRecipe, bag: int) -> dict[str, object]:
    return {
        "objective": "binary",
        "learning_rate": recipe.learning_rate,
        "num_leaves": recipe.leaves,
        "min_data_in_leaf": 100,
        "feature_fraction": 0.8,
        "bagging_fraction": 0.5,
        "bagging_freq": 5,
        "max_bin": 127,
        "seed": recipe.seed * recipe.bags + bag,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,  # a second one gains a fifth alone, and costs 3x beside other work
        "verbosity": -1,
    }
