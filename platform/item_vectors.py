"""Item vectors made with a language model: what an item's text says, as numbers."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from penchant.platform.language_models import load_model, load_tokenizer

__all__ = ["item_vectors"]

_log = logging.getLogger(__name__)
_BATCH = 64
_MAX_TOKENS = 64


def item_vectors(name: str, texts: list[str], cache: Path) -> NDArray[np.float32]:
    """Mean-pooled, normalised vectors of item texts, shape (V, width); kept in `cache`.

    Mean pooling over real tokens is how the MiniLM sentence encoders were trained (Reimers and
    Gurevych 2019). An item without a text has the zero vector.
    """
    digest = hashlib.sha256("\0".join([str(name), *texts]).encode()).hexdigest()[:16]
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


def _encode(name: str, texts: list[str]) -> NDArray[np.float32]:
    import torch

    tokenizer, model = load_tokenizer(name), load_model(name)
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))  # like lengths, less padding
    vectors = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for begin in range(0, len(order), _BATCH):
            at = order[begin : begin + _BATCH]
            tokens = tokenizer(
                [texts[i] or " " for i in at],  # some decoders make no token of an empty text
                padding=True,
                padding_side="right",
                truncation=True,
                max_length=_MAX_TOKENS,
                return_tensors="pt",
            )
            ids, seen = tokens["input_ids"], tokens["attention_mask"]
            states = model(input_ids=ids, attention_mask=seen).last_hidden_state
            mask = seen[:, :, None].to(states.dtype)
            pooled = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            vectors[at] = torch.nn.functional.normalize(pooled, dim=1).numpy()
    vectors[[not text for text in texts]] = 0.0
    return vectors
