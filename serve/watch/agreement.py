"""What each member said of the items that were answered, and how far members lie apart.

Disagreement needs no labels: when it grows, members see users whom they did not learn from.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import special

from penchant.serve.routes.observe import Seen

__all__ = ["disagreement", "is_binary", "member_scores"]

#: Items that are compared: whoever answers a request waits for it.
_MOST = 100


def is_binary(seen: Seen) -> bool:
    """Whether the answer is a yes or a no for each candidate; otherwise it is a ranking."""
    scores = seen.verdict.scores
    return scores is not None and scores.shape[1] == 1


def member_scores(seen: Seen) -> dict[str, NDArray[np.float32]]:
    """Scores of each member that answered for the K items of the answer, each of shape (K,)."""
    wanted = len(seen.answer.results)
    columns: NDArray[np.int32] | None = seen.columns
    if is_binary(seen):
        found = {name: scores[:, 0] for name, scores in seen.verdict.members.items()}
    elif columns is not None:
        found = {name: scores[0, columns] for name, scores in seen.verdict.members.items()}
    else:
        found = {}
    return {name: scores for name, scores in found.items() if len(scores) == wanted}


def disagreement(scores: Mapping[str, NDArray[np.float32]], *, binary: bool) -> float | None:
    """How far members lie apart on the first 100 items of one answer; 0 where they agree.

    Of items that every member was asked for (for others it has -inf). A ranking: 1 - the mean of
    Spearman's correlation over pairs of members, in [0, 2]; a member that gives all items the
    same score orders nothing and is left out. `binary`: largest less smallest probability, the
    mean over the candidates, in [0, 1].

    Args:
        scores: member -> shape (K,).

    Returns:
        None where there is nothing to compare.
    """
    if len(scores) < 2:
        return None
    table = np.stack([row[:_MOST] for row in scores.values()]).astype(np.float64)
    table = table[:, np.isfinite(table).all(axis=0)]
    if binary:
        chances = special.expit(table)
        return float(np.ptp(chances, axis=0).mean()) if chances.size else None
    ranks = np.stack([_ranks(row) for row in table])
    ranks -= (table.shape[1] + 1) / 2
    length = np.sqrt((ranks**2).sum(axis=1))
    ranks, length = ranks[length > 0], length[length > 0]
    if len(ranks) < 2:
        return None
    # Of unit vectors, the sum over pairs is half of what the square of the sum has too much.
    total = ((ranks / length[:, None]).sum(axis=0) ** 2).sum()
    pairs = len(ranks) * (len(ranks) - 1)
    return float(np.clip(1 - (total - len(ranks)) / pairs, 0.0, 2.0))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, ties at their mean; `scipy.stats.rankdata` takes fifty times as long."""
    ordered = np.sort(values)
    below = np.searchsorted(ordered, values, side="left")
    up_to = np.searchsorted(ordered, values, side="right")
    return np.asarray((below + up_to + 1) / 2, dtype=np.float64)
