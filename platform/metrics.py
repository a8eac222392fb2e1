"""Metrics a request, and their means with intervals by user.

A rank counts ties at their mean: an item that shares its score with others stands in the middle
of them, so that the order of the catalogue decides nothing. All metrics are better when larger,
but for the two losses, which `LOWER_IS_BETTER` names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from penchant.platform.errors import ConfigError
from penchant.platform.requests import Requests

__all__ = [
    "LOWER_IS_BETTER",
    "check_metric",
    "per_request",
    "quick_metric",
    "quick_ranks",
    "ranking_metrics",
    "sign_of",
    "split_ranks",
    "target_ranks",
]

LOWER_IS_BETTER = frozenset({"log_loss", "brier"})
_RANKING = ("ndcg", "recall", "hr", "mrr")
_BINARY = ("auc", "log_loss", "brier", "accuracy")
_CHUNK = 256  # requests whose targets are compared with the catalogue at once


def sign_of(metric: str) -> int:
    """1 where larger is better, -1 for the losses: times it, every metric is to be large."""
    return -1 if metric in LOWER_IS_BETTER else 1


def check_metric(metric: str, task: str) -> None:
    """Refuse a metric that the task does not have.

    Raises:
        ConfigError: naming what the task has.
    """
    if task == "binary":
        known, valid = ", ".join(_BINARY), metric in _BINARY
    else:
        known = ", ".join(f"{name}@k" for name in _RANKING)
        valid = re.fullmatch(rf"({'|'.join(_RANKING)})@[1-9]\d*", metric) is not None
    if not valid:
        raise ConfigError(f"requests.metric: expected one of {known} for {task}, got {metric!r}.")


def target_ranks(scores: NDArray[np.float32], requests: Requests) -> NDArray[np.float64]:
    """Rank of each target among all candidates, 1 is best, ties at their mean. Shape (P,).

    Args:
        scores: shape (R, V); -inf marks items that are not asked for.
        requests: R requests with P targets.
    """
    return _ranks(scores, requests, None)[0]


def split_ranks(
    scores: NDArray[np.float32], requests: Requests, seen: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ranks as `target_ranks`, and those among the items that are seen or new as the target is.

    Args:
        seen: items that each user had before the request, shape (R, V).
    """
    return _ranks(scores, requests, seen)


def _ranks(
    scores: NDArray[np.float32], requests: Requests, seen: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    overall = np.empty(len(requests.target), dtype=np.float64)
    within = np.empty_like(overall)
    offsets = requests.target_offsets
    for begin in range(0, len(requests), _CHUNK):
        end = min(begin + _CHUNK, len(requests))
        inside = slice(offsets[begin], offsets[end])
        request = np.repeat(np.arange(begin, end), np.diff(offsets[begin : end + 1]))
        rows = scores[request]
        own = scores[request, requests.target[inside]][:, None]
        above, equal = rows > own, rows == own
        overall[inside] = np.count_nonzero(above, axis=1)
        overall[inside] += (np.count_nonzero(equal, axis=1) + 1) / 2
        not_asked_for = np.isneginf(own[:, 0])  # so not found
        overall[inside][not_asked_for] = np.inf
        if seen is not None:
            same = seen[request] == requests.target_seen[inside, None]
            within[inside] = np.count_nonzero(above & same, axis=1)
            within[inside] += (np.count_nonzero(equal & same, axis=1) + 1) / 2
            within[inside][not_asked_for] = np.inf
    return overall, within


def ranking_metrics(
    ranks: NDArray[np.float64],
    requests: Requests,
    k: int = 10,
    relevant: NDArray[np.bool_] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """NDCG, recall, hit rate and reciprocal rank at k of each request, each of shape (R,).

    NDCG is the sum of 1 / log2(1 + rank) over the targets in the top k, over the same sum for a
    perfect order (Jarvelin and Kekalainen 2002).

    Args:
        ranks: shape (P,), from `target_ranks`.
        requests: R requests with P targets.
        k: length of the list that a user would see.
        relevant: targets that count, shape (P,); a request without any is NaN.
    """
    request = np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))
    counted = np.ones(len(ranks), dtype=bool) if relevant is None else relevant
    hit = counted & (ranks <= k)

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.bincount(request, weights=values, minlength=len(requests))
        return sums.astype(np.float64)

    number = total(counted.astype(np.float64))
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])
    best = ideal[np.minimum(number, k).astype(int)]
    hits = total(hit.astype(np.float64))
    reciprocal = np.zeros(len(requests))
    np.maximum.at(reciprocal, request[hit], 1 / ranks[hit])
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            f"ndcg@{k}": total(np.where(hit, 1 / np.log2(1 + ranks), 0.0)) / best,
            f"recall@{k}": hits / number,
            f"hr@{k}": np.where(number > 0, (hits > 0).astype(np.float64), np.nan),
            f"mrr@{k}": np.where(number > 0, reciprocal, np.nan),
        }


def per_request(
    overall: NDArray[np.float64], within: NDArray[np.float64], requests: Requests, k: int = 10
) -> Mapping[str, NDArray[np.float64]]:
    """All ranking metrics of each request: over all items, over own items, over new items.

    `ndcg@10` ranks everything. `ndcg@10/repeat` ranks only the items that the user had before and
    `ndcg@10/explore` only the others, each against its own targets: in a ranking of everything the
    repeated items take nearly all places, and nothing could be said of the rest.

    Args:
        overall: of P targets among all candidates, shape (P,).
        within: the same among the candidates that are seen or new as the target is; both are from
            `split_ranks`.
    """
    found = dict(ranking_metrics(overall, requests, k))
    for split, wanted in (("repeat", True), ("explore", False)):
        relevant = requests.target_seen == wanted
        for name, values in ranking_metrics(within, requests, k, relevant).items():
            found[f"{name}/{split}"] = values
    return found


def quick_metric(scores: NDArray[np.float32], requests: Requests, metric: str) -> float:
    """Mean of one ranking metric, for loops that try many combinations; see `quick_ranks`."""
    name, _, length = metric.partition("@")
    ranks = quick_ranks(scores, requests, int(length))
    return float(ranking_metrics(ranks, requests, int(length))[f"{name}@{length}"].mean())


def quick_ranks(scores: NDArray[np.float32], requests: Requests, k: int) -> NDArray[np.float64]:
    """Ranks of the targets that reach the top k, infinity for the others. Shape (P,).

    They are ranked against the row's top scores alone: equal to `target_ranks` unless more than
    `k` candidates tie at the edge.
    """
    width = min(2 * k, scores.shape[1])
    top = np.partition(scores, scores.shape[1] - width, axis=1)[:, -width:]
    edge = np.sort(top, axis=1)[:, max(width - k, 0)]
    request = np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))
    own = scores[request, requests.target]
    ranks = np.full(len(own), np.inf)
    near = np.flatnonzero((own >= edge[request]) & np.isfinite(own))
    rows, mine = top[request[near]], own[near, None]
    ranks[near] = (rows > mine).sum(1) + ((rows == mine).sum(1) + 1) / 2
    return ranks
