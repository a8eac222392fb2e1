"""The comparison: which member is best, which combination beats it, and how sure that is.

Each block does one job. `select` names the best single member, `blend` fits the combiners and says
whether their gain is real (on users that the weights were not fitted on), `test` is read once, for
the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.average import MeanCombiner
from penchant.ensembles.combination import Combination, combine
from penchant.ensembles.combiner import Combiner, quality
from penchant.ensembles.greedy import GreedyCombiner
from penchant.ensembles.judge import Judge
from penchant.ensembles.normalize import Normalization
from penchant.ensembles.predictions import Blend, Predictions, read_predictions
from penchant.platform import config
from penchant.platform.binary import binary_interval
from penchant.platform.intervals import Interval, Resampler
from penchant.platform.metrics import LOWER_IS_BETTER, ranking_metrics, target_ranks
from penchant.platform.prepared import Prepared
from penchant.platform.timeline import Block
from penchant.trainers.score import seen_items

__all__ = ["Candidate", "Comparison", "compare", "judge_block", "make_combiners"]

#: Fewer yes labels than this cannot fit weights: 43 chose the wrong member in our own study.
MIN_POSITIVES = 200
#: Candidates of each member that combinations are fitted on; metrics look at the first ten or so.
_SHORTLIST = 60


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A combination of members, and what is known of it."""

    combiner: str
    combination: Combination
    blend: float  # target metric where the weights were fitted: flattering, shown for the gap
    blend_gain: Interval  # over the best single, on users of `blend` that did not fit the weights
    test: Mapping[str, Interval]
    difference: Mapping[str, Interval]  # to the best single, on `test`


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that the comparison found."""

    metric: str
    best_single: str
    select: Mapping[str, float]  # member -> target metric on `select`
    members: Mapping[str, Mapping[str, Interval]]  # member -> metrics on `test`
    candidates: list[Candidate] = field(default_factory=list)

    @property
    def recommended(self) -> Candidate | None:
        """The combination to ship, or None for the best single member.

        Decided on `blend` alone: the gain's interval must lie on the good side of zero.
        """
        sign = -1 if self.metric in LOWER_IS_BETTER else 1
        sure = [
            candidate
            for candidate in self.candidates
            if min(sign * candidate.blend_gain.low, sign * candidate.blend_gain.high) > 0
        ]
        return max(sure, key=lambda c: sign * c.blend_gain.mean, default=None)


def make_combiners(settings: config.Ensemble) -> list[Combiner]:
    """The combiners that an experiment names."""
    known: dict[str, Combiner] = {
        "mean": MeanCombiner(),
        "greedy": GreedyCombiner(max_rounds=settings.max_rounds),
    }
    return [known[name] for name in settings.combiners]


def compare(prepared: Prepared, member_ids: list[str], tell: Callable[[str], None]) -> Comparison:
    """Fit every combiner on `blend`, judge everything once on `test`.

    Raises:
        DataError: a member's predictions are missing or torn.
    """
    experiment = prepared.experiment
    spec, settings = experiment.requests, experiment.ensemble
    how: Normalization = "none" if spec.task == "binary" else settings.normalize
    select = _qualities(prepared, member_ids, spec.metric)
    best = max(select, key=lambda name: select[name])
    tell(f"best single member on select: {best}")
    judge = _judge(prepared, Block.TEST)
    everything: Predictions[Blend] = read_predictions(prepared, Block.BLEND, member_ids)
    blend = everything.normalized(how).shortlist(_SHORTLIST)
    del everything
    sign = -1 if spec.metric in LOWER_IS_BETTER else 1
    fitted = []
    for combiner in _possible(make_combiners(settings), blend, tell):
        combination = combiner.fit(blend, spec.metric)
        merged = combination.merge(blend.scores, blend.facts)
        value = sign * quality(merged, blend.requests, spec.metric)
        gain = _gain(prepared, combiner, blend, best)
        size = len(combination.shares)
        tell(f"{combiner.name}: {size} members, unseen users of blend {gain.mean:+.4f}")
        fitted.append((combiner.name, combination, value, gain))
    del blend
    test = {name: _scores(prepared, Block.TEST, name) for name in member_ids}
    candidates = []
    for name, combination, value, gain in fitted:
        scores = combine(combination, test)
        candidates.append(
            Candidate(
                combiner=name,
                combination=combination,
                blend=value,
                blend_gain=gain,
                test=judge.table(scores),
                difference=judge.differences(scores, test[best]),
            )
        )
    return Comparison(
        metric=spec.metric,
        best_single=best,
        select={name: sign * value for name, value in select.items()},
        members={name: judge.table(scores) for name, scores in test.items()},
        candidates=candidates,
    )


def judge_block(
    prepared: Prepared, block: Block, member_ids: list[str]
) -> dict[str, dict[str, Interval]]:
    """Metrics of members on a block, each with its interval."""
    judge = _judge(prepared, block) if member_ids else None
    return {
        name: judge.table(_scores(prepared, block, name))
        for name in member_ids
        if judge is not None
    }


def _qualities(prepared: Prepared, member_ids: list[str], metric: str) -> dict[str, float]:
    requests = prepared.requests[Block.SELECT]
    return {
        name: quality(_scores(prepared, Block.SELECT, name), requests, metric)
        for name in member_ids
    }


def _scores(prepared: Prepared, block: Block, member_id: str) -> NDArray[np.float32]:
    return prepared.run.read_predictions(block, member_id, prepared.requests[block].row)


def _judge(prepared: Prepared, block: Block) -> Judge:
    requests, settings = prepared.requests[block], prepared.experiment.ensemble
    seen = None if requests.label is not None else seen_items(prepared.log, requests)
    metric = prepared.experiment.requests.metric
    return Judge(requests, seen, metric, settings.bootstrap, settings.seed)


def _possible(
    combiners: list[Combiner], blend: Predictions[Blend], tell: Callable[[str], None]
) -> list[Combiner]:
    """Weights are fitted only where there is enough to fit them on."""
    label = blend.requests.label
    if label is None or min(label.sum(), (1 - label).sum()) >= MIN_POSITIVES:
        return combiners
    tell(f"blend holds {int(label.sum())} yes labels, fewer than {MIN_POSITIVES}: mean only")
    return [c for c in combiners if c.name == "mean"] or [MeanCombiner()]


def _gain(prepared: Prepared, combiner: Combiner, blend: Predictions[Blend], best: str) -> Interval:
    """Gain over the best single member on users whose requests did not fit the weights."""
    metric = prepared.experiment.requests.metric
    half = blend.requests.user % 2
    combined = np.empty_like(blend.scores[best])
    for fold in (0, 1):
        fit_on, asked = np.flatnonzero(half == fold), np.flatnonzero(half != fold)
        if not len(fit_on) or not len(asked):
            return Interval(0.0, 0.0, 0.0, 1.0)
        combination = combiner.fit(blend.take(fit_on), metric)
        held_out = blend.take(asked)
        combined[asked] = combination.merge(held_out.scores, held_out.facts)
    settings, requests = prepared.experiment.ensemble, blend.requests
    resampler = Resampler(requests.user, settings.bootstrap, settings.seed)
    single = blend.scores[best]
    if requests.label is not None:
        return binary_interval(
            metric, combined[:, 0], requests.label, resampler, other=single[:, 0]
        )
    k = int(metric.partition("@")[2])
    ours, theirs = (
        ranking_metrics(target_ranks(scores, requests), requests, k)[metric]
        for scores in (combined, single)
    )
    return resampler.difference(ours, theirs)
