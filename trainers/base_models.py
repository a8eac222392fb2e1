"""The language models that members begin with, found before anything is fitted."""

from __future__ import annotations

from collections.abc import Iterable

from penchant.platform.recipes import (
    Alike,
    PersonalRecipe,
    Recipe,
    SequenceRecipe,
    TextRecipe,
    ZeroShotRecipe,
)

__all__ = ["find_models", "language_models_of"]


def find_models(recipes: Iterable[Recipe]) -> None:
    """Look for every language model: what is misspelt is told before hours of other members.

    Raises:
        ConfigError: one is nowhere to be found.
    """
    names = dict.fromkeys(name for recipe in recipes for name in language_models_of(recipe))
    if names:
        from penchant.platform.language_models import resolve_model  # brings transformers

        for name in names:
            resolve_model(name)


def language_models_of(recipe: Recipe) -> list[str]:
    """Names of the language models that fitting this member begins with."""
    match recipe:
        case TextRecipe() | ZeroShotRecipe():
            return [recipe.base]
        case SequenceRecipe(text=str(name), init_from=None):  # else the source may bring its own
            return [name]
        case PersonalRecipe(alike=Alike(text=name)):
            return [name]
    return []
