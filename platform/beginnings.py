"""What members begin with: names of language models, and of members of earlier runs."""

from __future__ import annotations

from penchant.platform.recipes import PersonalRecipe, Recipe

__all__ = ["beginnings"]


def beginnings(recipe: Recipe) -> dict[str, str]:
    """By the key that says it: `base`, `text`, `alike.text` and `init_from`, as far as they are."""
    named = {key: getattr(recipe, key, None) for key in ("base", "text", "init_from")}
    if isinstance(recipe, PersonalRecipe) and recipe.alike is not None:
        named["alike.text"] = recipe.alike.text
    return {key: name for key, name in named.items() if name is not None}
