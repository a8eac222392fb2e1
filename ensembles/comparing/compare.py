"""The comparison: which member is best, which combination beats it, and how sure that is.

Each block does one job. `select` names the best single member, `blend` fits the combiners and says
whether their gain is real (on users that the weights were not fitted on), `test` is read once, for
the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.combinations.cascade import Cascade
from penchant.ensembles.combiners.combiner import Combiner, quality
from penchant.ensembles.comparing.ablation import Ablation, ablate
from penchant.ensembles.comparing.checks import check_cutoffs, check_predictions
from penchant.ensembles.comparing.choice import Cost, Option
from penchant.ensembles.comparing.comparison import Candidate, Comparison
from penchant.ensembles.comparing.diversity import diversity
from penchant.ensembles.comparing.fitting import Fitted, fit_all, fittable, merged
from penchant.ensembles.comparing.judge import Judge, Sheet
from penchant.ensembles.comparing.segments import judge_segments, segments_of
from penchant.ensembles.comparing.unseen import UnseenUsers
from penchant.ensembles.normalize import Normalization
from penchant.ensembles.predictions import Blend, Predictions, Test, read_predictions
from penchant.platform.intervals import Interval
from penchant.platform.metrics import sign_of
from penchant.platform.prepared import Prepared
from penchant.platform.significance import holm
from penchant.platform.timeline import Block
from penchant.trainers.score import seen_items

__all__ = ["Candidate", "Comparison", "compare", "judge_block", "make_judge"]


@dataclass(frozen=True, kw_only=True)
class _Tested:
    """What combinations and members were worth on `test`."""

    judge: Judge
    scores: Predictions[Test]
    sheets: Mapping[str, Sheet]  # of members
    combined: Mapping[str, tuple[Sheet, NDArray[np.float32]]]  # of combinations, with their scores


def compare(prepared: Prepared, member_ids: list[str], tell: Callable[[str], None]) -> Comparison:
    """Fit every combiner on `blend`, judge everything once on `test`.

    Raises:
        DataError: a member's predictions are missing or torn.
    """
    settings, metric = prepared.experiment.ensemble, prepared.experiment.requests.metric
    sign = sign_of(metric)
    select = _qualities(prepared, member_ids)
    best = max(select, key=lambda name: select[name])
    tell(f"best single member on select: {best}")
    start_ms, _ = prepared.blocks.span_ms(Block.BLEND)
    everything: Predictions[Blend] = read_predictions(prepared, Block.BLEND, member_ids)
    for note in [
        *check_cutoffs(prepared.run, member_ids, Block.BLEND, start_ms),
        *check_predictions(everything)[1],
    ]:
        tell(note)
    costs = _costs(prepared, member_ids)
    cost_ms = {name: cost.score_ms for name, cost in costs.items()}
    blend, combiners = fittable(everything, settings, cost_ms, tell)
    del everything
    fitted = _fit(combiners, blend, best, prepared, tell)
    tested = _test(prepared, member_ids, fitted, blend.normalization, tell)
    single = tested.sheets[best]
    combined = {name: sheet for name, (sheet, _) in tested.combined.items()}
    p = tested.judge.permutation_p(list(combined.values()), single)
    candidates = [
        Candidate(
            combiner=one.combiner.name,
            combination=one.combination,
            blend=one.value,
            blend_gain=one.gain,
            test=tested.judge.table(combined[one.combiner.name]),
            difference=tested.judge.differences(combined[one.combiner.name], single),
            permutation_p=raw,
            holm_p=corrected,
        )
        for one, raw, corrected in zip(fitted, p, holm(p), strict=True)
    ]
    values = {
        name: sign * quality(part, blend.requests, metric) for name, part in blend.scores.items()
    }
    select = {name: sign * value for name, value in select.items()}
    tell("segments of test")
    segments = judge_segments(
        tested.judge,
        segments_of(prepared.log, tested.judge.requests, prepared.blocks.select_ms),
        metric,
        (single, tested.scores.scores[best]),
        tested.combined,
    )
    return Comparison(
        metric=metric,
        best_single=best,
        max_latency_ms=settings.max_latency_ms,
        max_members=settings.max_members,
        select=select,
        members={name: tested.judge.table(sheet) for name, sheet in tested.sheets.items()},
        candidates=candidates,
        blend=values,
        options=_options(costs, fitted, select, values, best),
        segments=segments,
        ablation=_ablation(fitted, blend, tested, metric, tell),
        diversity=diversity(tested.scores.scores, tested.sheets, metric),
    )


def judge_block(
    prepared: Prepared, block: Block, member_ids: list[str]
) -> dict[str, dict[str, Interval]]:
    """Metrics of members on a block, each with its interval."""
    if not member_ids:
        return {}
    judge, requests = make_judge(prepared, block), prepared.requests[block]
    return {
        name: judge.table(judge.sheet(prepared.run.read_predictions(block, name, requests.row)))
        for name in member_ids
    }


def _qualities(prepared: Prepared, member_ids: list[str]) -> dict[str, float]:
    """Quality of each member on `select`, larger is better."""
    requests, metric = prepared.requests[Block.SELECT], prepared.experiment.requests.metric
    return {
        name: quality(
            prepared.run.read_predictions(Block.SELECT, name, requests.row), requests, metric
        )
        for name in member_ids
    }


def make_judge(prepared: Prepared, block: Block) -> Judge:
    """Judges scores on a block as the experiment says."""
    requests, settings = prepared.requests[block], prepared.experiment.ensemble
    seen = None if requests.label is not None else seen_items(prepared.log, requests)
    metric = prepared.experiment.requests.metric
    return Judge(requests, seen, metric, settings.bootstrap, settings.seed)


def _fit(
    combiners: list[Combiner],
    blend: Predictions[Blend],
    best: str,
    prepared: Prepared,
    tell: Callable[[str], None],
) -> list[Fitted]:
    """Everything that `blend` says; larger values are better but for losses."""
    settings, metric = prepared.experiment.ensemble, prepared.experiment.requests.metric
    unseen = UnseenUsers(blend, metric, best, settings.bootstrap, settings.seed)
    fitted = []
    for one in fit_all(combiners, blend, metric, unseen):
        size, gain = len(one.combination.shares), one.gain.mean
        tell(f"{one.combiner.name}: {size} members, unseen users of blend {gain:+.4f}")
        fitted.append(one)
    return fitted


def _test(
    prepared: Prepared,
    member_ids: list[str],
    fitted: list[Fitted],
    how: Normalization,
    tell: Callable[[str], None],
) -> _Tested:
    """The one reading of `test`."""
    tell(f"judging {len(member_ids)} members and {len(fitted)} combinations on test")
    judge = make_judge(prepared, Block.TEST)
    test: Predictions[Test] = read_predictions(prepared, Block.TEST, member_ids)
    for note in check_predictions(test)[1]:
        tell(note)
    combined, normal = {}, test.normalized(how)
    for one in fitted:
        scores = merged(one.combination, test, normal)
        combined[one.combiner.name] = (judge.sheet(scores), scores)
    sheets = {name: judge.sheet(scores) for name, scores in test.scores.items()}
    return _Tested(judge=judge, scores=test, sheets=sheets, combined=combined)


def _costs(prepared: Prepared, member_ids: list[str]) -> dict[str, Cost]:
    costs = {}
    for name in member_ids:
        facts = prepared.run.member_facts(name)
        costs[name] = Cost(score_ms=facts["score_ms"], params=facts["params"])
    return costs


def _options(
    costs: Mapping[str, Cost],
    fitted: list[Fitted],
    select: Mapping[str, float],
    values: Mapping[str, float],
    best: str,
) -> list[Option]:
    """Every member and every combination with its quality on `blend` and its cost."""
    found = [
        Option.of(name, [name], costs, value, select=select[name]) for name, value in values.items()
    ]
    for one in fitted:
        made = one.combination
        found.append(
            Option.of(
                one.combiner.name,
                list(made.shares),
                costs,
                values[best] + one.gain.mean,
                gain=one.gain,
                work_ms=made.expected_cost_ms() if isinstance(made, Cascade) else None,
            )
        )
    return found


def _ablation(
    fitted: list[Fitted],
    blend: Predictions[Blend],
    tested: _Tested,
    metric: str,
    tell: Callable[[str], None],
) -> list[Ablation]:
    """Of the combination that is best on unseen users, whether it is recommended or not."""
    sign = sign_of(metric)
    one = max(fitted, key=lambda fit: sign * fit.gain.mean)
    tell(f"{one.combiner.name} without each of its members")
    sheet, _ = tested.combined[one.combiner.name]
    found = ablate(one.combiner, one.combination, blend, tested.scores, metric, tested.judge, sheet)
    return [] if found is None else [found]
