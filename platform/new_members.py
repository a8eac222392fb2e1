"""What is asked of members that are to be fitted, and not of those that were: they have to load."""

from __future__ import annotations

from collections.abc import Iterable

from penchant.platform.ensemble_settings import TAKEN_NAMES
from penchant.platform.recipes import Recipe, SequenceRecipe

__all__ = ["check_new_members"]


def check_new_members(recipes: Iterable[Recipe]) -> None:
    """Names tell members from one another and from combinations; averages are of what was trained.

    Raises:
        ValueError: a name is taken, or a member would hold vectors that nobody has made.
    """
    named: dict[str, Recipe] = {}
    for recipe in recipes:
        if recipe.name in TAKEN_NAMES:
            raise ValueError(
                f"{recipe.name} is what a combination is called: choose another name for the member"
            )
        if recipe.name is not None and named.setdefault(recipe.name, recipe) != recipe:
            # a name is a member's id: the second one would not be fitted
            raise ValueError(
                f"two members are called {recipe.name}: give each a name of its own, or none"
            )
        if isinstance(recipe, SequenceRecipe):
            _refuse_mean_vectors(recipe)


def _refuse_mean_vectors(recipe: SequenceRecipe) -> None:
    if recipe.text_training and (recipe.average or len(recipe.kept_epochs or ()) > 1):
        raise ValueError(
            "text_training goes with one epoch's weights: the mean of several epochs' item "
            "vectors is not what their mean language model says. Leave `average` out"
        )
