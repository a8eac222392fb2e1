"""Scores of models that are not ours: read from anywhere, combined, compared.

A table in long form, one row a candidate of a request, one column of floats a model:

    request  user  time                 candidate  target  model_a  model_b
    r1       anna  2024-05-01 10:00:00  milk       1       0.71     2.3
    r1       anna  2024-05-01 10:00:00  bread      0       0.12     2.9

Ids are texts or integers; times are dates, datetimes, ISO texts (naive ones are UTC) or
milliseconds since 1970. `target` is 1 where the candidate was chosen, a score of -inf stands for
one that was not asked for. An optional `seen` says whether the user had the candidate before; it
splits metrics into repeat and explore.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.comparing.ablation import ablate
from penchant.ensembles.comparing.ceiling import recall_ceiling
from penchant.ensembles.comparing.checks import check_blocks, check_predictions
from penchant.ensembles.comparing.comparison import Candidate, Comparison
from penchant.ensembles.comparing.diversity import diversity
from penchant.ensembles.comparing.fitting import fittable, merged
from penchant.ensembles.comparing.foreign_blend import fit_on_blend
from penchant.ensembles.comparing.foreign_report import ForeignComparison
from penchant.ensembles.comparing.foreign_terms import cutoff_notes, make_terms
from penchant.ensembles.comparing.judge import Judge, Sheet
from penchant.ensembles.comparing.savings import try_curve
from penchant.ensembles.comparing.score_table import BlockLayout, Table, read_score_table
from penchant.ensembles.comparing.segments import judge_segments, segments_of_requests
from penchant.ensembles.predictions import Blend, Predictions, Test
from penchant.platform.metrics import check_metric, sign_of
from penchant.platform.significance import holm
from penchant.platform.timeline import Block

__all__ = [
    "ForeignComparison",
    "ForeignScores",
    "compare_scores",
    "look_closer",
    "read_scores",
]


@dataclass(frozen=True, kw_only=True)
class ForeignScores:
    """Predictions on both blocks; -inf fills the rows of requests with fewer candidates."""

    blend: Predictions[Blend]
    test: Predictions[Test]
    seen: NDArray[np.bool_] | None = None  # (R, C) of `test`: the user had the candidate before


def read_scores(
    table: Table,
    test: Table | None = None,
    *,
    task: Literal["next_item", "binary"] = "next_item",
    blend_until: date | None = None,
) -> ForeignScores:
    """Read scores of any models; no event log is needed.

    Where blend ends is said in one of three ways: a column `block` of "blend" and "test", the time
    `blend_until`, or a second table.

    Args:
        table: a Parquet file or a frame, of both blocks or, with `test`, of blend.
        test: the table of the test block.
        task: `binary` has one candidate a request, scores are log-odds and `target` is the label.
        blend_until: requests from this moment on are of the test block; naive ones are UTC.

    Raises:
        ConfigError: blocks are told in no way or in several.
        DataError: the table's columns, ids, times, targets or scores cannot be used.
    """
    read = read_score_table(table, test, task, blend_until)
    ours, theirs = (BlockLayout(read, block, task) for block in (Block.BLEND, Block.TEST))
    blend: Predictions[Blend] = Predictions(block=Block.BLEND, requests=ours.requests, scores={})
    tested: Predictions[Test] = Predictions(block=Block.TEST, requests=theirs.requests, scores={})
    columns = ((model, read.scores(model)) for model in read.models)
    pairs = [(model, ours.matrix(column), theirs.matrix(column)) for model, column in columns]
    blend = replace(blend, scores={model: part for model, part, _ in pairs})
    tested = replace(tested, scores={model: part for model, _, part in pairs})
    check_blocks(blend, tested)
    check_predictions(blend, ours.ids)  # here with ids as they were given, for messages
    check_predictions(tested, theirs.ids)
    return ForeignScores(blend=blend, test=tested, seen=theirs.seen)


def compare_scores(
    blend: Predictions[Blend],
    test: Predictions[Test],
    metric: str,
    *,
    seen: NDArray[np.bool_] | None = None,
    combiners: Sequence[str] = ("mean", "greedy"),
    bootstrap: int = 1000,
    cost_ms: Mapping[str, float] | None = None,
    fitted_until: Mapping[str, date] | None = None,
    max_latency_ms: float | None = None,
    max_members: int | None = None,
    max_cost_ms: float | None = None,
) -> ForeignComparison:
    """Fit every combiner on `blend`, judge everything once on `test`.

    Without a `select` block the best single member is the one that is best on `blend`: there it
    has the same advantage as the weights that are fitted on it, and `test` judges both.

    Args:
        metric: `ndcg@10` and the like, or `auc` and the like of a binary task.
        seen: whether the user had the candidate before, shape (R, C) of `test`; without it there
            are no figures of repeat and explore.
        combiners: names as in an experiment's `ensemble.combiners`.
        bootstrap: resamples of users behind every interval.
        cost_ms: milliseconds that each model takes for a request; cascades, limits of time and
            the Pareto front need it.
        fitted_until: the end of what each model has learned from; a naive time is UTC.
        max_latency_ms: limit of the slowest model, as in an experiment's `ensemble`; so are
            `max_members` and `max_cost_ms`.

    Raises:
        ConfigError: the metric, a combiner or a model is not known, or no model fits the limits.
        DataError: the predictions cannot be compared, see `checks.py`, or a model was fitted on
            what came after the first request of blend.
    """
    task = "next_item" if test.requests.label is None else "binary"
    check_metric(metric, task)
    asked_of = {
        "combiners": combiners,
        "bootstrap": bootstrap,
        "max_latency_ms": max_latency_ms,
        "max_members": max_members,
        "max_cost_ms": max_cost_ms,
    }
    terms = make_terms(blend.scores, cost_ms, asked_of)
    check_blocks(blend, test)
    late = cutoff_notes(fitted_until, list(blend.scores), int(blend.requests.time_ms.min()))
    asked, asked_before = test.requests.row, len(blend.requests)
    blend, notes = check_predictions(blend)
    test, more = check_predictions(test)
    notes += [note for note in more if note not in notes]
    if seen is not None:
        seen = seen[np.isin(asked, test.requests.row)]
    judge = Judge(test.requests, _known(seen, test), metric, bootstrap, terms.settings.seed)
    fitted = fit_on_blend(blend, metric, terms, notes.append)
    single = fitted.best_single
    sheets = {name: _sheet(judge, part, seen) for name, part in test.scores.items()}
    normal = test.normalized(fitted.normalization)
    combined = [_sheet(judge, merged(one.combination, test, normal), seen) for one in fitted.each]
    savings = None if fitted.curve is None else try_curve(fitted.curve, normal, metric)
    del normal
    p = judge.permutation_p(combined, sheets[single])
    candidates = [
        Candidate(
            combiner=one.combiner.name,
            combination=one.combination,
            blend=one.value,
            blend_gain=one.gain,
            gain_within=one.gain_within,
            gain_p=fitted.chances.get(one.combiner.name, 1.0),
            test=judge.table(sheet),
            difference=judge.differences(sheet, sheets[single]),
            permutation_p=raw,
            holm_p=corrected,
        )
        for one, sheet, raw, corrected in zip(fitted.each, combined, p, holm(p), strict=True)
    ]
    comparison = Comparison(
        metric=metric,
        best_single=single,
        budget=fitted.budget,
        rival=fitted.rival,
        select={},
        members={name: judge.table(sheet) for name, sheet in sheets.items()},
        candidates=candidates,
        blend=fitted.values,
        options=fitted.options,
        ceilings=[
            *recall_ceiling(blend, metric, asked_before),
            *recall_ceiling(test, metric, len(asked)),
        ],
        diversity=diversity(test.scores, sheets, metric),
        cascade=savings,
    )
    return ForeignComparison(comparison=comparison, notes=[*notes, *late], terms=terms)


def look_closer(
    found: ForeignComparison, scores: ForeignScores, *, bootstrap: int = 1000
) -> ForeignComparison:
    """The same comparison with segments of `test`, and with the best combination taken apart.

    Segments are of requests: users who were asked in `blend` or not, and calendar weeks. Of the
    combination that is best on unseen users, each model is dropped in turn (`ablation.py`), which
    fits it again: with many models that takes longer than `compare_scores` did.

    Args:
        found: what `compare_scores` found on these scores.
        bootstrap: resamples of users behind every interval.

    Raises:
        DataError: the predictions cannot be compared, see `checks.py`.
    """
    made, metric = found.comparison.candidates, found.comparison.metric
    if not made:
        return found
    blend, _ = check_predictions(scores.blend)
    test, _ = check_predictions(scores.test)
    seen = scores.seen
    if seen is not None:
        seen = seen[np.isin(scores.test.requests.row, test.requests.row)]
    best = max(made, key=lambda one: sign_of(metric) * one.blend_gain.mean)
    settings = found.terms.settings.model_copy(update={"combiners": (best.combiner,)})
    judge = Judge(test.requests, _known(seen, test), metric, bootstrap, settings.seed)
    short, [combiner] = fittable(blend, settings, metric, found.terms.cost_ms, _say_nothing)
    normal = test.normalized(short.normalization)
    combined = {one.combiner: merged(one.combination, test, normal) for one in made}
    judged = {name: _sheet(judge, part, seen) for name, part in combined.items()}
    single = _sheet(judge, test.scores[found.comparison.best_single], seen)
    parts = segments_of_requests(test.requests, np.isin(test.requests.user, blend.requests.user))
    whole = judged[best.combiner]
    apart = ablate(combiner, best.combination, short, test, metric, judge, whole)
    comparison = replace(
        found.comparison,
        segments=judge_segments(judge, parts, metric, single, judged),
        ablation=[] if apart is None else [apart],
    )
    return replace(found, comparison=comparison)


def _say_nothing(_: str) -> None:
    """What `compare_scores` has told already."""


def _known(seen: NDArray[np.bool_] | None, test: Predictions[Test]) -> NDArray[np.bool_] | None:
    """What the judge needs of a ranking; where nothing is known its splits are dropped later."""
    if test.requests.label is not None or seen is not None:
        return seen
    return np.zeros(next(iter(test.scores.values())).shape, dtype=bool)


def _sheet(judge: Judge, scores: NDArray[np.float32], seen: NDArray[np.bool_] | None) -> Sheet:
    sheet = judge.sheet(scores)
    if seen is not None:
        return sheet
    whole = {name: values for name, values in sheet.values.items() if "/" not in name}
    return replace(sheet, values=whole)
