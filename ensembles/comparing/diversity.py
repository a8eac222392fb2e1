"""How alike members are: those that agree on everything cannot help one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from penchant.ensembles.comparing.judge import Sheet

__all__ = ["Diversity", "diversity", "list_overlap", "rank_correlation"]


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """Members compared pair by pair, M x M, on the test block."""

    members: list[str]
    correlation: NDArray[np.float64]  # Spearman: of quality a request, or of `binary` scores
    overlap: NDArray[np.float64] | None = None  # share of the top `k` in common; `next_item` only
    k: int | None = None


def diversity(
    scores: Mapping[str, NDArray[np.float32]], sheets: Mapping[str, Sheet], metric: str
) -> Diversity:
    """Compare M members pair by pair.

    Args:
        scores: member -> shape (R, C).
        sheets: what each member's scores were worth.
        metric: the target metric; its `k` is the length of the lists that are compared.
    """
    length = metric.partition("@")[2]
    if not length:
        odds = {name: part[:, 0] for name, part in scores.items()}
        return Diversity(members=list(scores), correlation=rank_correlation(odds))
    values = {name: sheet.values[metric] for name, sheet in sheets.items()}
    return Diversity(
        members=list(scores),
        correlation=rank_correlation(values),
        overlap=list_overlap(scores, int(length)),
        k=int(length),
    )


def list_overlap(scores: Mapping[str, NDArray[np.float32]], k: int) -> NDArray[np.float64]:
    """Share of their top k that each two of M members have in common, over all requests; (M, M).

    Candidates that are not asked for (-inf) stand in no list. Of candidates that tie at the edge
    of a list any may stand in it.

    Args:
        scores: member -> shape (R, C).
    """
    tops = [_top(part, k) for part in scores.values()]
    columns = np.concatenate(tops)
    rows = np.repeat(np.arange(len(tops)), [len(top) for top in tops])
    size = next(iter(scores.values())).size
    lists = sparse.csr_array(
        (np.ones(len(columns), dtype=np.int64), (rows, columns)), shape=(len(tops), size)
    )
    common = (lists @ lists.T).toarray().astype(np.float64)
    lengths = np.diag(common)
    longest = np.maximum(np.maximum(lengths[:, None], lengths[None, :]), 1)
    return np.asarray(common / longest)


def rank_correlation(
    values: Mapping[str, NDArray[np.float64]] | Mapping[str, NDArray[np.float32]],
) -> NDArray[np.float64]:
    """Spearman's rank correlation of each two of M members' values; (M, M).

    NaN where a member's values are all equal: nothing can go up or down with them.

    Args:
        values: member -> shape (R,), quality of each request or score of its candidate.
    """
    ranks = np.stack([stats.rankdata(column) for column in values.values()])
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    unit = centred / np.where(length > 0, length, np.nan)
    return np.asarray(np.clip(unit @ unit.T, -1.0, 1.0))


def _top(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Flat positions, in (R, C), of every request's k best candidates."""
    size, width = scores.shape
    length = min(k, width)
    best = np.argpartition(scores, width - length, axis=1)[:, width - length :]
    asked = np.isfinite(np.take_along_axis(scores, best, axis=1))
    flat = best + np.arange(size)[:, None] * width
    return np.asarray(flat[asked], dtype=np.int64)
