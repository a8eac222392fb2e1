"""Refitting: the same recipe with a later cut-off, once nothing is left to choose.

Staleness is real: members with a weight an item lose 3 to 5% in two months on groceries. `select`
is now learned from and can stop nothing, so a trained member ends where its first fit was best, on
the same schedule of learning rates, and is a mean of epochs if the first fit was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penchant.platform.recipes import Recipe, SequenceRecipe, TextRecipe, recipe_id
from penchant.platform.store import RunDirectory

__all__ = ["REFIT", "refit_recipes"]

#: Ends the id of a refitted member.
REFIT = "@refit"


def refit_recipes(run: RunDirectory, recipes: Sequence[Recipe]) -> list[Recipe]:
    """Recipes for the refit, under the ids of the first fit."""
    return [_fixed(run, r) if isinstance(r, SequenceRecipe | TextRecipe) else r for r in recipes]


def _fixed(run: RunDirectory, recipe: SequenceRecipe | TextRecipe) -> SequenceRecipe | TextRecipe:
    name = recipe_id(recipe)
    facts = run.member_facts(name)
    losses = [epoch["select_loss"] for epoch in facts["history"]]
    last = losses.index(min(losses))
    update: dict[str, Any] = {"name": name, "patience": recipe.epochs}
    mean = facts["history"][-1].get("mean")
    if mean is not None and mean["select_loss"] < min(losses):
        last = max(mean["averaged"])
    elif isinstance(recipe, SequenceRecipe):
        update["average"] = None
    return recipe.model_copy(update=update | {"stop_after": last + 1})
