"""Item vectors made with a language model: what an item's text says, as numbers."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from penchant.platform.item_tokens import TokenLists
from penchant.platform.language_models import load_model, load_tokenizer, weights_digest

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

__all__ = ["item_vectors", "text_tokens", "text_vectors"]

_log = logging.getLogger(__name__)
_BATCH = 64
_MAX_TOKENS = 64
_CHUNK = 10_000  # texts that are tokenised at once


def item_vectors(name: str, texts: list[str], cache: Path | None) -> NDArray[np.float32]:
    """Mean-pooled, normalised vectors of item texts, shape (V, width); kept in `cache`, if any.

    Mean pooling over real tokens is how the MiniLM sentence encoders were trained (Reimers and
    Gurevych 2019). An item without a text has the zero vector.
    """
    if cache is None:
        return _encode(name, texts)
    # what lies in a directory may change under its name; an alias' package may not
    weights = [weights_digest(name)] if Path(name).is_dir() else []
    digest = hashlib.sha256("\0".join([str(name), *weights, *texts]).encode()).hexdigest()[:16]
    path = cache / f"{Path(name).name}-{digest}.safetensors"
    if path.exists():
        vectors: NDArray[np.float32] = load_file(path)["vectors"]
        return vectors
    _log.info("encoding %d item texts with %s", len(texts), name)
    vectors = _encode(name, texts)
    cache.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{id(texts)}")
    save_file({"vectors": vectors}, partial)
    partial.replace(path)
    return vectors


def text_tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> TokenLists:
    """Token ids of each text with the model's own special tokens, cut to its first 64.

    The name of a special token inside a text is read as plain letters, as `tokenizer_pieces` does.
    """
    lists: list[list[int]] = []
    for begin in range(0, len(texts), _CHUNK):
        lists += tokenizer(
            [text or " " for text in texts[begin : begin + _CHUNK]],  # some make none of no text
            truncation=True,
            max_length=_MAX_TOKENS,
            split_special_tokens=True,
            return_attention_mask=False,
        )["input_ids"]
    return TokenLists.of(lists)


def text_vectors(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """Unit vectors of texts side by side, shape (P, width): the mean of the real tokens' states.

    Args:
        ids: shape (P, L), filled up on the right.
        mask: 1 at real tokens, same shape.
    """
    from torch.nn.functional import normalize

    states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    weight = mask[:, :, None].to(states.dtype)
    return normalize((states * weight).sum(1) / weight.sum(1).clamp(min=1), dim=1)


def _encode(name: str, texts: list[str]) -> NDArray[np.float32]:
    """Equal texts are read once: items of one brand and size often say the same."""
    import torch

    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    tokenizer, model = load_tokenizer(name), load_model(name)
    tokens = text_tokens(tokenizer, list(places))
    order = np.argsort(tokens.lengths, kind="stable")  # like lengths, less padding
    vectors = np.zeros((len(places), model.config.hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for begin in range(0, len(order), _BATCH):
            at = order[begin : begin + _BATCH]
            lengths = tokens.lengths[at]
            mask = np.arange(lengths.max(initial=1))[None, :] < lengths[:, None]
            ids = np.full(mask.shape, tokenizer.pad_token_id, dtype=np.int64)
            ids[mask] = tokens.take(at).ids
            seen = torch.from_numpy(mask.astype(np.int64))
            vectors[at] = text_vectors(model, torch.from_numpy(ids), seen).numpy()
    vectors[[not text for text in places]] = 0.0
    return vectors[[places[text] for text in texts]]
