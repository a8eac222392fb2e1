"""What is asked of members that are to be fitted, and not of those that were: they have to load."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from penchant.platform.ensemble_settings import TAKEN_NAMES
from penchant.platform.recipes import Recipe, SequenceRecipe, TextRecipe, ZeroShotRecipe

__all__ = ["check_kinds", "check_new_members", "check_settings"]

Task = Literal["next_item", "binary"]


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


def check_kinds(recipes: Iterable[Recipe], task: Task, *, asks_labels: bool) -> None:
    """Some kinds rank items alone, and one counts what labels are none of.

    Raises:
        ValueError: a member cannot do the task.
    """
    kinds = {recipe.kind for recipe in recipes}
    if task == "binary" and kinds & {"sequence", "item_item"}:
        raise ValueError(
            "sequence and item_item members rank items; `task: binary` takes popularity, "
            "personal, boosted, text and zero_shot members, and no `search`"
        )
    if asks_labels and "personal" in kinds:
        raise ValueError(
            "personal members count the values of a user's events, and labels are no values: "
            "give `positive_above`, or use popularity, boosted, text and zero_shot members"
        )


def check_settings(recipes: Iterable[Recipe], task: Task) -> None:
    """Every setting does something. A run that was made before is opened all the same.

    Raises:
        ValueError: one acts in the other task only.
    """
    for recipe in recipes:
        if isinstance(recipe, TextRecipe | ZeroShotRecipe):
            recipe.check_task(task)


def _refuse_mean_vectors(recipe: SequenceRecipe) -> None:
    if recipe.text_training and (recipe.average or len(recipe.kept_epochs or ()) > 1):
        raise ValueError(
            "text_training goes with one epoch's weights: the mean of several epochs' item "
            "vectors is not what their mean language model says. Leave `average` out"
        )
