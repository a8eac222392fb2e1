"""Epochs of one training as members: candidates for an ensemble that cost no training.

Each is the member that its recipe says: the same training, of which one epoch is kept. So a refit
trains it like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

from penchant.platform.recipes import Recipe, SequenceRecipe, recipe_id
from penchant.platform.store import RunDirectory

__all__ = ["epoch_recipe", "epochs_in"]


def epoch_recipe(recipe: SequenceRecipe, epoch: int) -> SequenceRecipe:
    """The recipe of one epoch of a training, counted from 0."""
    told = epoch + 1  # as people count
    return recipe.model_copy(
        update={
            "name": f"{recipe_id(recipe)}-epoch-{told}",
            "kept_epochs": (told,),
            "epoch_members": None,
        }
    )


def epochs_in(run: RunDirectory, recipes: Sequence[Recipe]) -> list[str]:
    """Ids of the epochs that were kept as members of their own when these recipes were fitted."""
    return [
        path.parent.name
        for recipe in recipes
        if isinstance(recipe, SequenceRecipe) and recipe.epoch_members is not None
        for path in sorted(run.member("").glob(f"{recipe_id(recipe)}-epoch-*/metrics.json"))
        if "@" not in path.parent.name
    ]
