"""Texts read by an engine: in batches of like lengths, each text once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from penchant.platform.text import TokenLists
from penchant.trainers.text.batches import Frame, Padded, filled, framed, like_lengths, row_keys
from penchant.trainers.text.engine import Engine, VectorCache
from penchant.trainers.text.network import TextNetwork

__all__ = ["Answer", "TorchEngine", "item_vectors", "log_odds", "read_texts", "unit"]

#: Turns pooled vectors (P, H) into what is said of them, (P, W).
Answer = Callable[[NDArray[np.float32]], NDArray[np.float32]]

# On a CPU, few: a call costs what about 30 tokens do, padding more (benchmarks/text_engines.py).
_CPU_BATCH_TOKENS = 256
_ACCELERATOR_BATCH_TOKENS = 4096


class TorchEngine:
    """The network itself, wherever it lies."""

    name = "torch"

    def __init__(self, network: TextNetwork) -> None:
        self._network = network
        on_cpu = network.base.device.type == "cpu"
        self.batch_tokens = _CPU_BATCH_TOKENS if on_cpu else _ACCELERATOR_BATCH_TOKENS

    def __call__(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        text = Padded(ids=torch.from_numpy(ids), mask=torch.from_numpy(mask))
        with torch.inference_mode():
            pooled: NDArray[np.float32] = self._network.vectors(text).float().cpu().numpy()
        return pooled


def read_texts(
    engine: Engine,
    answer: Answer,
    texts: TokenLists,
    frame: Frame,
    width: int,
    cache: VectorCache | None = None,
) -> NDArray[np.float32]:
    """What the model says of each framed text, shape (R, width); equal texts are read once.

    Args:
        answer: turns pooled vectors (P, H) into what is said of them, (P, width).
    """
    keys = row_keys(texts)
    rows = {key: row for row, key in enumerate(keys)}
    known = {} if cache is None else {k: v for k in rows if (v := cache.get(k)) is not None}
    new = np.array([row for key, row in rows.items() if key not in known], dtype=np.int64)
    for at in like_lengths(texts.lengths[new], engine.batch_tokens):
        text = filled(texts.take(new[at]), frame)
        said = answer(engine(text.ids.numpy(), text.mask.numpy()))
        for row, vector in zip(new[at].tolist(), said, strict=True):
            known[keys[row]] = vector
            if cache is not None:
                cache.put(keys[row], vector)
    found = np.empty((len(keys), width), dtype=np.float32)
    for row, key in enumerate(keys):
        found[row] = known[key]
    return found


def item_vectors(
    engine: Engine,
    items: TokenLists,
    frame: Frame,
    width: int,
    cache: VectorCache | None = None,
) -> NDArray[np.float32]:
    """Unit vectors of items, shape (N, width); one without a text has the zero vector."""
    vectors = read_texts(engine, unit, framed(items, frame), frame, width, cache)
    vectors[items.lengths == 0] = 0.0
    return vectors


def unit(pooled: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors of length one; those of length zero stay."""
    length = np.linalg.norm(pooled, axis=1, keepdims=True)
    return np.asarray(pooled / np.maximum(length, 1e-12), dtype=np.float32)


def log_odds(network: TextNetwork) -> Answer:
    """`binary`: what the head says of pooled vectors, shape (P, 1)."""

    def answer(pooled: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            odds = network.answered(torch.from_numpy(pooled).to(network.base.device))
            return np.asarray(odds.cpu().numpy())

    return answer
