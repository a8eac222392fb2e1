"""How an epoch is judged: on which requests of `select`, and by what."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penchant.platform.metrics import ranking_metrics, target_ranks
from penchant.platform.requests import Requests
from penchant.trainers.member import Past
from penchant.trainers.score import seen_items
from penchant.trainers.sequence.network import basket_loss

__all__ = ["judged_ranking", "judged_requests"]

#: Requests of `select` that judge an epoch; the standard error of a loss is then about 1%.
_JUDGED = 1000


def judged_requests(select: Requests, most: int = _JUDGED) -> Requests:
    """An even sample of `select`, from its first request to its last: they stand user by user."""
    size = min(most, len(select))
    return select.take(np.arange(size) * len(select) // max(size, 1))


def judged_ranking(
    scores: NDArray[np.float32], judged: Requests, past: Past
) -> tuple[Tensor, NDArray[np.float64]]:
    """Loss and NDCG@10 of each request, both (R,), seen items aside where they are not asked for.

    Args:
        scores: of all items, shape (R, V).
    """
    if past.spec.exclude_seen:
        scores = np.where(seen_items(past.log, judged), np.float32(-np.inf), scores)
    counts = np.diff(judged.target_offsets)
    request = torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
    target = torch.from_numpy(judged.target.astype(np.int64))
    losses = basket_loss(torch.from_numpy(scores), target, request)
    return losses, ranking_metrics(target_ranks(scores, judged), judged)["ndcg@10"]
