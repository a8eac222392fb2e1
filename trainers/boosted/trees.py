"""Growing LightGBM's trees: settings that both kinds of `boosted` member share."""

from __future__ import annotations

import lightgbm
import numpy as np
from numpy.typing import NDArray

from penchant.platform.recipes import BoostedRecipe

__all__ = ["TREES_FILE", "fit_trees", "tree_parameters"]

TREES_FILE = "trees.txt"


def fit_trees(
    recipe: BoostedRecipe,
    features: NDArray[np.float32],
    answers: NDArray[np.float32],
    start: NDArray[np.float64] | None = None,
) -> lightgbm.Booster:
    """Trees whose sum is the log-odds of a yes, or what is to be added to those of `start`.

    Args:
        features: shape (R, F); NaN marks a missing one.
        answers: 0 or 1, shape (R,).
        start: log-odds that the trees begin from, shape (R,).
    """
    settings = _settings(recipe)
    data = lightgbm.Dataset(features, label=answers, init_score=start, params=settings)
    return lightgbm.train(settings, data, num_boost_round=recipe.trees)


def tree_parameters(trees: lightgbm.Booster) -> int:
    """Leaf values and thresholds: a tree of L leaves has L and L - 1."""
    leaves: int = sum(tree["num_leaves"] for tree in trees.dump_model()["tree_info"])
    return 2 * leaves - int(trees.num_trees())


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
