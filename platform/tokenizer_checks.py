"""Whether a tokenizer and a language model belong together, as far as their numbers tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from penchant.platform.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["check_tokenizer"]

_MARKS = ("bos", "eos", "pad", "cls", "sep")


def check_tokenizer(
    name: str, tokenizer: PreTrainedTokenizerBase, settings: Mapping[str, Any], tokens: int
) -> None:
    """See that every token has a vector, and that both mean the same by their special tokens.

    Args:
        settings: what the model's config.json says.
        tokens: of the model's vocabulary.

    Raises:
        ConfigError: they do not belong together, or nothing could fill up or end a text.
    """
    # marks that are added for pictures or sounds stand in no text
    foreign = set(tokenizer.added_tokens_decoder) - set(tokenizer.all_special_ids)
    ids = (one for one in tokenizer.get_vocab().values() if one not in foreign)
    highest = max(ids, default=-1)
    if highest >= tokens:
        raise ConfigError(
            f"base model {name!r} has vectors of {tokens} tokens, but its tokenizer gives ids up "
            f"to {highest}; expected at most {tokens - 1}: they do not belong together. Use the "
            "tokenizer that came with the weights."
        )
    _check_marks(name, tokenizer, settings, tokens)
    if tokenizer.pad_token is None and tokenizer.eos_token is None and tokenizer.sep_token is None:
        raise ConfigError(
            f"base model {name!r} has a tokenizer that names no `pad_token`, `eos_token` or "
            "`sep_token`; expected one of them, to fill up texts with. Name it in the model's "
            "tokenizer_config.json, or use the tokenizer that came with the weights."
        )


def _check_marks(
    name: str, tokenizer: PreTrainedTokenizerBase, settings: Mapping[str, Any], tokens: int
) -> None:
    """A config may name another of the tokenizer's special tokens, but no word of it.

    Both happens in models as they come: several ends of a text, the end where another pads, ids of
    the class that no vocabulary of this size has.
    """
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    for mark in _MARKS:
        key = f"{mark}_token_id"
        own, named = getattr(tokenizer, key), _ids(settings, key)
        inside = {token for token in named if 0 <= token < tokens}
        if own is not None and inside and not inside & {own, *special}:
            words = ", ".join(repr(tokenizer.convert_ids_to_tokens(one)) for one in sorted(inside))
            raise ConfigError(
                f"base model {name!r} has `{key}` {', '.join(map(str, sorted(inside)))} in its "
                f"config.json, but for its tokenizer that is the word {words}, and {key} is {own}; "
                "expected the same: they do not belong together. Use the tokenizer that came with "
                "the weights, or correct config.json where you know that it is wrong."
            )


def _ids(settings: Mapping[str, Any], key: str) -> list[int]:
    inner = settings.get("text_config")
    found = settings.get(key, inner.get(key) if isinstance(inner, dict) else None)
    return [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, int)]
