"""`stack`: boosted trees that correct greedy selection, LambdaMART or yes and no (LightGBM).

Burges, "From RankNet to LambdaRank to LambdaMART" (2010). Trees from scratch have to learn again
what a weighted mean knows, from a few thousand requests; on groceries they end no better. So the
mean is where the trees start, and how many there are is decided on users that they did not see:
none, if none help.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import lightgbm
import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from penchant.ensembles.combinations.stacked import Candidates, Stacked, candidates, placed
from penchant.ensembles.combiners.combiner import BOTH_TASKS, quality, refuse_other_blocks
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.predictions import Blend, Predictions
from penchant.platform.requests import Requests

__all__ = ["StackCombiner"]

#: Numbers of trees are tried in steps of so many.
_STEP = 10
#: Two would leave half of the requests to learn from: too few for trees that help with all of them.
_FOLDS = 4


@dataclass(frozen=True)
class _Slice:
    """Requests, the mean of their candidates, and the pairs that trees correct."""

    requests: Requests
    base: NDArray[np.float32]  # (R, C)
    pairs: Candidates


@dataclass(frozen=True)
class StackCombiner:
    """At most `max_trees` trees on top of what greedy selection finds."""

    max_trees: int = 60

    @property
    def name(self) -> str:
        return "stack"

    @property
    def tasks(self) -> frozenset[str]:
        return BOTH_TASKS

    def fit(self, predictions: Predictions[Blend], metric: str) -> Stacked:
        refuse_other_blocks(predictions)
        base = GreedyCombiner().fit(predictions, metric).weights  # `greedy` may have found it
        # In an order of their own, so that the order in which things come decides nothing.
        ordered = predictions.take(np.argsort(predictions.requests.row, kind="stable"))
        members = sorted(ordered.scores)
        if len(members) == 1:  # a combination of one passes its scores on, whatever trees say
            return Stacked(normalization=ordered.normalization, counts=base, base=base, num_facts=0)
        facts = ordered.facts
        bare = Stacked(
            normalization=ordered.normalization,
            counts=_counts(members, base, None),
            base=base,
            num_facts=0 if facts is None else facts.shape[1],
        )
        bare = bare.model_copy(update={"steepness": _steepness(_slice(bare, ordered))})
        number = _helpful_trees(bare, ordered, metric, self.max_trees)
        if not number:
            return Stacked(normalization=bare.normalization, counts=base, base=base, num_facts=0)
        trees = _train(_slice(bare, ordered), metric, number)
        counts = _counts(members, base, trees)
        text = trees.model_to_string()
        return Stacked(**{**bare.model_dump(), "counts": counts, "trees": text})


def _slice(bare: Stacked, predictions: Predictions[Blend]) -> _Slice:
    scores = predictions.scores
    base = bare.start(scores)
    pairs = candidates(scores, base, predictions.facts, list(bare.counts))
    return _Slice(predictions.requests, base, pairs)


def _steepness(part: _Slice) -> float:
    """What makes the mean a log-odds of being chosen from the list (McFadden 1974).

    Trees take it for one: their steps are too large for z-scores, and on groceries half of their
    gain is lost. Scores of yes or no are log-odds already.
    """
    if part.requests.label is not None or not len(part.pairs.row):
        return 1.0
    pairs = part.pairs
    score = part.base[pairs.row, pairs.column].astype(np.float64)
    chosen = _answers(part)
    starts = np.flatnonzero(np.diff(pairs.row, prepend=-1))
    score -= np.repeat(np.maximum.reduceat(score, starts), np.diff([*starts, len(score)]))
    number = np.add.reduceat(chosen, starts)

    def loss(steepness: float) -> float:
        lists = np.log(np.add.reduceat(np.exp(steepness * score), starts))
        return float(number @ lists - steepness * (chosen @ score))

    return float(optimize.minimize_scalar(loss, bounds=(0.01, 100), method="bounded").x)


def _helpful_trees(bare: Stacked, predictions: Predictions[Blend], metric: str, most: int) -> int:
    """The number of trees that is best on users whose requests they were not fitted on."""
    _, user = np.unique(predictions.requests.user, return_inverse=True)
    values = np.zeros(most // _STEP + 1)
    for fold in range(_FOLDS):
        fit_on, asked = np.flatnonzero(user % _FOLDS != fold), np.flatnonzero(user % _FOLDS == fold)
        if not len(fit_on) or not len(asked):
            return 0
        trees = _train(_slice(bare, predictions.take(fit_on)), metric, most)
        unseen = _slice(bare, predictions.take(asked))
        total = np.zeros(len(unseen.pairs.row))
        for at in range(len(values)):
            scores = placed(unseen.base, unseen.pairs, total)
            values[at] += len(asked) * quality(scores, unseen.requests, metric)
            total += trees.predict(
                unseen.pairs.features,
                start_iteration=at * _STEP,
                num_iteration=_STEP,
                raw_score=True,
                num_threads=1,
            )
    return int(np.argmax(values)) * _STEP  # the first, so the fewest, of equals


def _train(part: _Slice, metric: str, number: int) -> lightgbm.Booster:
    settings = _settings(metric)
    pairs, requests = part.pairs, part.requests
    group = np.bincount(pairs.row, minlength=len(requests))
    data = lightgbm.Dataset(
        pairs.features,
        label=_answers(part),
        group=group[group > 0] if requests.label is None else None,
        init_score=part.base[pairs.row, pairs.column],
        params=settings,
    )
    return lightgbm.train(settings, data, num_boost_round=number)


def _answers(part: _Slice) -> NDArray[np.float32]:
    """1 where a pair is a target, or the label of its request. Shape (K,)."""
    pairs, requests = part.pairs, part.requests
    if requests.label is not None:
        return requests.label[pairs.row]
    chosen = np.zeros(part.base.shape, dtype=np.float32)
    asker = np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))
    chosen[asker, requests.target] = 1
    return chosen[pairs.row, pairs.column]


def _settings(metric: str) -> dict[str, object]:
    settings: dict[str, object] = {
        "objective": "binary",
        "boost_from_average": False,
        "learning_rate": 0.05,
        "num_leaves": 7,  # 15 and 31 learn the requests by heart
        "min_data_in_leaf": 40,
        "lambda_l2": 10.0,
        "feature_fraction": 0.5,
        "max_bin": 63,
        "seed": 0,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    name, _, length = metric.partition("@")
    if length:
        # What stands below twice the list that a user sees can hardly reach it.
        settings |= {
            "objective": "lambdarank",
            "lambdarank_truncation_level": 2 * int(length),
            "min_data_in_leaf": 200,  # a request has a hundred pairs
        }
    return settings


def _counts(
    members: list[str], base: Mapping[str, float], trees: lightgbm.Booster | None
) -> dict[str, float]:
    """Half by weight, half by splits; every member has one split more, since all are averaged."""
    splits = np.ones(len(members))
    if trees is not None:
        found = trees.feature_importance("split")
        splits += found[: len(members)] + found[len(members) : 2 * len(members)]
    return {
        name: base.get(name, 0.0) / 2 + float(split / splits.sum()) / 2
        for name, split in zip(members, splits, strict=True)
    }
