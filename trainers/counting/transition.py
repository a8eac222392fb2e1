"""Transitions: what is chosen next, as a ridge regression on what came before.

Choi et al., "Session-aware Linear Item-Item Models for Session-based Recommendation" (WWW 2021),
where it is called SLIT: with X the faded histories of past requests and Y what was then chosen,
B = inverse(X'X + regularization x I) X'Y. Other than in EASE an item may tell of itself, and the
order counts: who has seen the second part is seldom looking for the first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from penchant.platform.recipes import ItemItemRecipe
from penchant.platform.requests import Requests, latest_requests
from penchant.trainers.counting.faded import faded_histories
from penchant.trainers.member import Past

__all__ = ["transition_weights"]

#: Newest requests that are learned from; more do not change a matrix that they have filled.
_MOST_REQUESTS = 200_000
_CHUNK = 5_000  # requests whose histories are held at a time


def transition_weights(recipe: ItemItemRecipe, past: Past) -> NDArray[np.float32]:
    """From an item of the history (row) to one that is chosen next (column), shape (V, V)."""
    num_items = past.log.num_items
    asked = latest_requests(past.log, past.spec, past.until_ms, _MOST_REQUESTS, seed=0)
    before = np.zeros((num_items, num_items))
    then = np.zeros((num_items, num_items))
    for begin in range(0, len(asked), _CHUNK):
        part = asked.take(np.arange(begin, min(begin + _CHUNK, len(asked))))
        faded = faded_histories(recipe, past.log, part)
        before += (faded.T @ faded).toarray()
        then += (faded.T @ _chosen(part, num_items)).toarray()
    before[np.diag_indices(num_items)] += recipe.regularization
    weights = linalg.solve(
        before, then, assume_a="pos", overwrite_a=True, overwrite_b=True, check_finite=False
    )
    return np.asarray(weights, dtype=np.float32)


def _chosen(requests: Requests, num_items: int) -> sparse.csr_matrix:
    """The targets of each request, shape (R, V)."""
    ones = np.ones(len(requests.target), dtype=np.float32)
    return sparse.csr_matrix(
        (ones, requests.target, requests.target_offsets), shape=(len(requests), num_items)
    )
