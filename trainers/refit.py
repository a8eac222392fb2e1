"""Refitting: the same recipe with a later cut-off, once nothing is left to choose.

Staleness is real: members with a weight an item lose 3 to 5% in two months on groceries. `select`
is now learned from and can choose nothing, so a trained member takes the epochs that its first fit
took, or their mean if that was one, on the same schedule of learning rates.
"""

from __future__ import annotations

from collections.abc import Sequence

from penchant.platform.errors import ConfigError
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
    if parts := facts.get("soup_of"):
        raise ConfigError(
            f"{name} is the mean of {', '.join(parts)}: it has no training of its own that could "
            "be done again. Combine without it, or serve the ensemble as it is."
        )
    if recipe.kept_epochs is not None:
        return recipe.model_copy(update={"name": name})
    history = facts["history"]
    losses = [epoch["select_loss"] for epoch in history]
    taken = [losses.index(min(losses))]
    mean = history[-1].get("mean")
    if mean is not None and mean["select_loss"] < min(losses):
        taken = mean["averaged"]
    return recipe.model_copy(
        update={
            "name": name,
            "kept_epochs": tuple(epoch + 1 for epoch in taken),
            **({"epoch_members": None} if isinstance(recipe, SequenceRecipe) else {}),
        }
    )
