"""The comparison: which member is best, which combination beats it, and how sure that is.

Each block does one job. `select` names the best single member, `blend` fits the combiners and says
whether their gain is real (on users that the weights were not fitted on), `test` is read once, for
the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from penchant.ensembles.combiners.cascade_fit import CascadeCurve
from penchant.ensembles.combiners.combiner import Combiner, quality
from penchant.ensembles.combiners.combiners import budget_of
from penchant.ensembles.comparing.ablation import Ablation, ablate
from penchant.ensembles.comparing.ceiling import Ceiling, recall_ceiling
from penchant.ensembles.comparing.choice import Cost
from penchant.ensembles.comparing.cold_start import judge_cold_start
from penchant.ensembles.comparing.comparison import Candidate, Comparison
from penchant.ensembles.comparing.diversity import diversity
from penchant.ensembles.comparing.fitting import Fitted, fit_all, fittable, merged
from penchant.ensembles.comparing.judge import Judge, Sheet
from penchant.ensembles.comparing.options import make_options, way_options
from penchant.ensembles.comparing.reading import read_checked
from penchant.ensembles.comparing.savings import Savings, cascade_curve, try_curve
from penchant.ensembles.comparing.segments import cold_parts, judge_segments, segments_of
from penchant.ensembles.comparing.unseen import UnseenUsers
from penchant.ensembles.normalize import Normalization
from penchant.ensembles.predictions import B, Blend, Predictions, Select, Test
from penchant.platform.intervals import Interval
from penchant.platform.metrics import sign_of
from penchant.platform.prepared import Prepared
from penchant.platform.requests import Requests
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
    combined: Mapping[str, Sheet]  # of combinations
    savings: Savings | None  # None: no cascade was compared


def compare(prepared: Prepared, member_ids: list[str], tell: Callable[[str], None]) -> Comparison:
    """Fit every combiner on `blend`, judge everything once on `test`.

    What is odd or left out is told, and kept as the comparison's `notes`.

    Raises:
        ConfigError: none of the experiment's combiners suits its task.
        DataError: a member's predictions are missing, torn or cannot be compared, or it has learned
            from a block that it is judged on.
    """
    settings, metric = prepared.experiment.ensemble, prepared.experiment.requests.metric
    sign = sign_of(metric)
    notes: list[str] = []
    ceilings: list[Ceiling] = []

    def note(text: str) -> None:
        if text not in notes:  # what is odd about a member may be so on every block
            notes.append(text)
            tell(text)

    def read(block: B) -> Predictions[B]:
        found, odd = read_checked(prepared, block, member_ids)
        for text in odd:
            note(text)
        asked = len(prepared.requests[cast(Block, block)])
        ceilings.extend(recall_ceiling(found, metric, asked))
        return found

    select = _qualities(read(Block.SELECT), metric)
    best = max(select, key=lambda name: select[name])
    tell(f"best single member on select: {best}")
    costs = _costs(prepared, member_ids)
    cost_ms = {name: cost.score_ms for name, cost in costs.items()}
    budget = budget_of(settings, cost_ms)
    rival = max(budget.alone(list(select)), key=lambda name: select[name])
    blend, combiners = fittable(read(Block.BLEND), settings, metric, cost_ms, note)
    unseen = UnseenUsers(blend, metric, best, settings.bootstrap, settings.seed, rival)
    fitted = _fit(combiners, blend, unseen, metric, tell)
    chances = unseen.chances()
    tell(f"judging {len(member_ids)} members and {len(fitted)} combinations on test")
    curve = cascade_curve(combiners, blend, metric)
    tested = _test(prepared, read(Block.TEST), fitted, blend.normalization, curve)
    single = tested.sheets[best]
    combined = tested.combined
    p = tested.judge.permutation_p(list(combined.values()), single)
    candidates = [
        Candidate(
            combiner=one.combiner.name,
            combination=one.combination,
            blend=one.value,
            blend_gain=one.gain,
            gain_within=one.gain_within,
            gain_p=chances.get(one.combiner.name, 1.0),
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
    asked = (prepared.log, tested.judge.requests, prepared.blocks.select_ms)
    segments = judge_segments(tested.judge, segments_of(*asked), metric, single, combined)
    cold = judge_cold_start(tested.judge, cold_parts(*asked), metric, tested.sheets, combined)
    return Comparison(
        metric=metric,
        best_single=best,
        budget=budget,
        rival=rival,
        select=select,
        members={name: tested.judge.table(sheet) for name, sheet in tested.sheets.items()},
        candidates=candidates,
        blend=values,
        options=[
            *make_options(costs, fitted, values, best),
            *way_options(costs, fitted, blend, metric, unseen),
        ],
        segments=segments,
        ceilings=ceilings,
        cold_start=cold,
        ablation=_ablation(fitted, blend, tested, metric, tell),
        diversity=diversity(tested.scores.scores, tested.sheets, metric),
        cascade=tested.savings,
        notes=notes,
    )


def judge_block(
    prepared: Prepared, block: Block, member_ids: list[str]
) -> dict[str, dict[str, Interval]]:
    """Metrics of members on a block, each with its interval."""
    if not member_ids:
        return {}
    requests = prepared.requests[block]
    judge = make_judge(prepared, requests)
    return {
        name: judge.table(judge.sheet(prepared.run.read_predictions(block, name, requests.row)))
        for name in member_ids
    }


def make_judge(prepared: Prepared, requests: Requests) -> Judge:
    """Judges scores on requests of a block as the experiment says."""
    settings, metric = prepared.experiment.ensemble, prepared.experiment.requests.metric
    seen = None if requests.label is not None else seen_items(prepared.log, requests)
    return Judge(requests, seen, metric, settings.bootstrap, settings.seed)


def _qualities(select: Predictions[Select], metric: str) -> dict[str, float]:
    """Quality of each member on `select`, larger is better."""
    return {name: quality(part, select.requests, metric) for name, part in select.scores.items()}


def _fit(
    combiners: list[Combiner],
    blend: Predictions[Blend],
    unseen: UnseenUsers,
    metric: str,
    tell: Callable[[str], None],
) -> list[Fitted]:
    """Everything that `blend` says; larger values are better but for losses."""
    fitted = []
    for one in fit_all(combiners, blend, metric, unseen):
        size, gain = len(one.combination.shares), one.gain.mean
        tell(f"{one.combiner.name}: {size} members, unseen users of blend {gain:+.4f}")
        fitted.append(one)
    return fitted


def _test(
    prepared: Prepared,
    test: Predictions[Test],
    fitted: list[Fitted],
    how: Normalization,
    curve: CascadeCurve | None,
) -> _Tested:
    """What everything was worth there."""
    judge = make_judge(prepared, test.requests)
    combined, normal = {}, test.normalized(how)
    for one in fitted:
        combined[one.combiner.name] = judge.sheet(merged(one.combination, test, normal))
    metric = prepared.experiment.requests.metric
    savings = None if curve is None else try_curve(curve, normal, metric)
    del normal
    sheets = {name: judge.sheet(scores) for name, scores in test.scores.items()}
    return _Tested(judge=judge, scores=test, sheets=sheets, combined=combined, savings=savings)


def _costs(prepared: Prepared, member_ids: list[str]) -> dict[str, Cost]:
    costs = {}
    for name in member_ids:
        facts = prepared.run.member_facts(name)
        costs[name] = Cost(score_ms=facts["score_ms"], params=facts["params"])
    return costs


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
    sheet = tested.combined[one.combiner.name]
    found = ablate(one.combiner, one.combination, blend, tested.scores, metric, tested.judge, sheet)
    return [] if found is None else [found]
