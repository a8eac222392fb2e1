"""Costs, cut-offs and limits of models that are not ours."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest

from penchant.ensembles.comparing.foreign import (
    ForeignScores,
    compare_scores,
    look_closer,
    read_scores,
)
from penchant.platform.errors import ConfigError, DataError

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())
COST_MS = {"slow": 9.0, "middle": 3.0, "quick": 1.0}
BEGIN = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def scores() -> ForeignScores:
    """Three models with noise of their own; the slower, the better. Blend begins on 1 May."""
    random, candidates, number = np.random.default_rng(0), 12, 400
    target = np.zeros((number, candidates), dtype=np.int64)
    target[np.arange(number), random.integers(candidates, size=number)] = 1
    flat, request = target.reshape(-1), np.repeat(np.arange(number), candidates)
    strengths = dict(zip(COST_MS, (1.8, 1.4, 1.2), strict=True))
    return read_scores(
        pl.DataFrame(
            {
                "request": request,
                "user": request % 90,
                "time": int(BEGIN.timestamp() * 1000) + request * 3_600_000,
                "candidate": np.tile(np.arange(candidates), number),
                "target": flat,
                "block": np.where(request < number // 2, "blend", "test"),
                **{
                    name: random.normal(size=len(flat)) + strength * flat
                    for name, strength in strengths.items()
                },
            }
        )
    )


def compared(scores: ForeignScores, **more):
    return compare_scores(scores.blend, scores.test, "ndcg@10", bootstrap=100, **more)


def test_with_costs_there_are_prices_and_a_cascade_as_in_a_run(scores):
    found = compared(scores, cost_ms=COST_MS, combiners=["mean", "greedy", "cascade"])
    assert [made.combiner for made in found.comparison.candidates] == ["mean", "greedy", "cascade"]
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    options = {option["name"]: option for option in told["options"]}
    assert {name: options[name]["work_ms"] for name in COST_MS} == COST_MS
    assert options["mean"]["work_ms"] == 13
    assert options["mean"]["params"] is None
    assert told["cascade"]["points"][0]["test"]["work_ms"] == 1
    without = compared(scores, combiners=["mean", "cascade"])
    assert [made.combiner for made in without.comparison.candidates] == ["mean"]
    assert "a cascade needs the time that each model takes" in " ".join(without.notes)


def test_limits_are_kept_and_gains_are_over_the_best_that_fits(scores):
    found = compared(scores, cost_ms=COST_MS, max_latency_ms=5.0, max_members=2)
    for made in found.comparison.candidates:
        assert set(made.combination.shares) <= {"middle", "quick"}
    assert found.comparison.best_single == "slow"
    assert found.comparison.alone == "middle"
    assert found.verdict().startswith("Within 5 ms and 2 member(s), use ")
    assert found.to_json()["budget"] == {"max_latency_ms": 5.0, "max_members": 2}
    closer = look_closer(found, scores, bootstrap=100)
    assert {part.member for part in closer.comparison.ablation[0].members} <= {"middle", "quick"}
    two = compared(scores, max_members=2)  # needs no costs
    assert all(len(made.combination.shares) <= 2 for made in two.comparison.candidates)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"cost_ms": {"slow": 1.0}}, "one cost for each model .* those of middle, quick"),
        ({"cost_ms": COST_MS | {"other": 1.0}}, "those of other"),
        ({"cost_ms": COST_MS | {"slow": -1.0}}, r"got \{'slow': -1.0\}, expected milliseconds"),
        ({"cost_ms": COST_MS | {"slow": float("nan")}}, "expected milliseconds"),
        ({"max_cost_ms": 3.0}, "a limit of time needs cost_ms"),
        ({"cost_ms": COST_MS, "max_latency_ms": 0.0}, "max_latency_ms: Input should be greater"),
        ({"cost_ms": COST_MS, "max_latency_ms": 0.5}, "the fastest, quick, takes 1 ms"),
        ({"fitted_until": {"other": BEGIN}}, "fitted_until names other"),
    ],
)
def test_terms_that_cannot_be_meant_are_refused(scores, more, message):
    with pytest.raises(ConfigError, match=message):
        compared(scores, **more)


def test_a_model_that_is_called_as_a_combination_is_refused(scores):
    """Nobody could tell which of the two a verdict means."""
    named = [
        replace(part, scores={"mean" if n == "slow" else n: s for n, s in part.scores.items()})
        for part in (scores.blend, scores.test)
    ]
    with pytest.raises(ConfigError, match="models are called mean, as combinations are"):
        compare_scores(*named, "ndcg@10", bootstrap=100)


def test_a_combiner_that_is_named_twice_is_compared_once(scores):
    found = compared(scores, combiners=("greedy", "mean", "greedy"))
    assert [one.combiner for one in found.comparison.candidates] == ["greedy", "mean"]


def test_a_model_that_has_learned_from_blend_is_refused(scores):
    """Up to the first request is fine, a moment later is a leak; naive times are UTC."""
    until = dict.fromkeys(COST_MS, BEGIN)
    assert compared(scores, fitted_until=until).notes == []
    late = until | {"quick": BEGIN + timedelta(milliseconds=1)}
    with pytest.raises(DataError, match=r"fitted quick until 2024-05-01T00:00:00\.001.* a leak"):
        compared(scores, fitted_until=late)
    east = timezone(timedelta(hours=2))
    for same in (BEGIN.replace(tzinfo=None), BEGIN.astimezone(east)):
        assert compared(scores, fitted_until=until | {"quick": same}).notes == []


def test_cut_offs_that_nobody_told_are_told_as_unknown(scores):
    notes = compared(scores, fitted_until={"slow": BEGIN}).notes
    assert notes == ["cut-offs unknown, so a leak cannot be ruled out: middle, quick"]


@pytest.mark.parametrize("more", [{}, {"cost_ms": COST_MS, "max_members": 2}])
def test_the_page_is_that_of_a_run_and_its_json_keeps_the_contract(scores, tmp_path, more):
    found = look_closer(compared(scores, **more), scores, bootstrap=100)
    page = found.to_html(tmp_path, "three models").read_text()
    report = json.loads((tmp_path / "report.json").read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    assert report["verdict"] == found.verdict()
    assert report["notes"] == found.notes
    assert "<h1>three models</h1>" in page
    assert found.verdict() in page.replace("&#39;", "'")
    assert "A model from elsewhere." in page
    assert "all of the history" not in page
