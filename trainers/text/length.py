"""Whether what a recipe writes is ever longer than its language model reads."""

from __future__ import annotations

from transformers import PreTrainedConfig

from penchant.platform.errors import ConfigError
from penchant.platform.positions import most_tokens
from penchant.platform.recipes import TextRecipe, ZeroShotRecipe

__all__ = ["refuse_too_long"]


def refuse_too_long(
    recipe: TextRecipe | ZeroShotRecipe, config: PreTrainedConfig, size: int, around: str
) -> None:
    """See that the longest history and item fit beside what stands around them.

    Args:
        config: of the base model.
        size: tokens of what stands around them.
        around: what that is, in words.

    Raises:
        ConfigError: they do not.
    """
    limit = most_tokens(config)
    history = recipe.history
    needed = history.max_tokens + history.item_tokens + size
    if limit is not None and needed > limit:
        raise ConfigError(
            f"{recipe.kind}: history.max_tokens {history.max_tokens} + history.item_tokens "
            f"{history.item_tokens} + {size} {around} are {needed} tokens, but {recipe.base} reads "
            f"at most {limit}. Lower history.max_tokens."
        )
