"""What a cascade keeps of the gain at which share of the time: in the report and on the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from penchant.ensembles.combiners.cascade_fit import CascadeCombiner
from penchant.ensembles.combiners.combiner import quality
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.comparing.savings import cascade_curve, try_curve
from penchant.ensembles.page.cascade_chart import savings as chart_of
from penchant.ensembles.page.cascade_chart import savings_words
from penchant.ensembles.page.markdown import markdown
from penchant.ensembles.page.report import write_report
from penchant.ensembles.predictions import Predictions
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())
COSTS = {"cheap": 1.0, "dear": 9.0}


def blend(size: int = 300, seed: int = 0) -> Predictions:
    """Half of the requests are plain, and both members get them right; on the rest `dear` does."""
    random, target = np.random.default_rng(seed), np.arange(size, dtype=np.int32) % 12
    scores = {}
    for name, strength in (("cheap", 0.5), ("dear", 2.0)):
        part = random.normal(size=(size, 12))
        part[np.arange(size), target] += np.where(np.arange(size) % 2 == 0, 6.0, strength)
        scores[name] = part.astype(np.float32)
    requests = Requests(
        row=np.arange(size),
        user=(np.arange(size) // 3).astype(np.int32),
        time_ms=np.zeros(size, dtype=np.int64),
        end=np.zeros(size, dtype=np.int64),
        target_offsets=np.arange(size + 1),
        target=target,
        target_seen=np.zeros(size, dtype=np.bool_),
    )
    return Predictions(block=Block.BLEND, requests=requests, scores=scores)


def report(*points: tuple[float, float], gain: float = 0.1, **more: Any) -> dict[str, Any]:
    """Of (share of the time, share of the gain), of 20 ms."""
    made = [
        {"members": at, "work_ms": 20 * time, "time_share": time, "quality": 0.3, "kept": kept}
        for at, (time, kept) in enumerate(points, 1)
    ]
    test = {"ndcg@10": {"mean": 0.3}}
    return {
        "schema": 1,
        "name": "small",
        "task": "next_item",
        "metric": "ndcg@10",
        "members": [{"id": "one", "kind": "personal", "window": {}, "test": test}],
        "ensembles": [],
        "cascade": {"base_gain": gain, "base_ms": 20.0, "points": made},
    } | more


def later(predictions: Predictions) -> Predictions:
    """The same members on requests of `test`."""
    return replace(predictions, block=Block.TEST)


def made(predictions: Predictions, metric: str = "ndcg@3") -> dict[str, Any]:
    curve = cascade_curve([GreedyCombiner(), CascadeCombiner(COSTS)], predictions, metric)
    assert curve is not None
    return try_curve(curve, later(blend(seed=1)), metric).to_json(metric)


def test_the_report_has_the_curve_of_the_cascade_with_shares_of_the_bases_time() -> None:
    predictions = blend()
    found = made(predictions)
    alone = {n: quality(p, predictions.requests, "ndcg@3") for n, p in predictions.scores.items()}
    merged = GreedyCombiner().fit(predictions, "ndcg@3").merge(predictions.scores, None)
    whole = quality(merged, predictions.requests, "ndcg@3")
    assert found["base_ms"] == 10.0
    assert found["base_gain"] == pytest.approx(whole - alone["cheap"])
    first, last = found["points"][0], found["points"][-1]
    assert (first["members"], first["time_share"], first["kept"]) == (1, 0.1, 0.0)
    assert first["quality"] == pytest.approx(alone["cheap"])
    assert last["kept"] >= 1
    for point in found["points"]:
        assert point["time_share"] == pytest.approx(point["work_ms"] / 10)
        kept = (point["quality"] - alone["cheap"]) / found["base_gain"]
        assert point["kept"] == pytest.approx(kept)
    jsonschema.Draft202012Validator(SCHEMA).validate(report() | {"cascade": found})


def test_every_cascade_is_tried_on_test_with_the_thresholds_of_blend() -> None:
    """Against the cascade's own merge, as serving does it, and the shares that come to a stage."""
    predictions, test = blend(), later(blend(seed=1))
    curve = CascadeCombiner(COSTS).curve(predictions, "ndcg@3")
    found = made(predictions)
    alone = quality(test.scores["cheap"], test.requests, "ndcg@3")
    base = quality(curve.base.merge(test.scores, None), test.requests, "ndcg@3")
    assert found["base_gain_on_test"] == pytest.approx(base - alone)
    assert any(len(point.cascade.stages) > 1 for point in curve.points)
    for point, told in zip(curve.points, found["points"], strict=True):
        cascade = point.cascade
        value = quality(cascade.merge(test.scores), test.requests, "ndcg@3")
        work_ms = cascade.expected_cost_ms(cascade.reached_by(test.scores))
        assert told["test"]["quality"] == pytest.approx(value)
        assert told["test"]["work_ms"] == pytest.approx(work_ms)
        assert told["test"]["time_share"] == pytest.approx(work_ms / 10)
        assert told["test"]["kept"] == pytest.approx((value - alone) / (base - alone))


def test_losses_have_their_own_sign_in_the_report() -> None:
    predictions = blend()
    curve = CascadeCombiner(COSTS).curve(predictions, "ndcg@3")
    found = try_curve(curve, later(predictions), "ndcg@3")
    assert found.to_json("log_loss")["base_gain"] == -curve.base_gain
    assert found.to_json("log_loss")["points"][0]["test"]["quality"] == -found.tried[0].value


def test_without_a_cascade_there_is_no_curve() -> None:
    assert cascade_curve([GreedyCombiner()], blend(), "ndcg@3") is None
    assert savings_words({"metric": "ndcg@10"}) == ""
    assert chart_of({"metric": "ndcg@10"}) is None


def test_the_page_says_what_is_kept_on_test_by_what_keeps_enough_on_blend() -> None:
    found = report((0.1, 0.0), (0.4, 0.96), (1.0, 1.0))
    shares = ((0.1, 0.0), (0.45, 0.88), (1.0, 0.9))
    for point, (time, kept) in zip(found["cascade"]["points"], shares, strict=True):
        point["test"] = {"work_ms": 20 * time, "time_share": time, "quality": 0.3, "kept": kept}
    found["cascade"]["base_gain_on_test"] = 0.02
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    said = "On the test block that cascade keeps 88% of the gain, +0.0200 NDCG@10, at 45% of the"
    assert said in savings_words(found)
    chart = chart_of(found)
    assert chart is not None
    assert "Open circles" in chart.caption
    found["cascade"]["base_gain_on_test"] = -0.01
    assert "gains nothing that could be kept" in savings_words(found)
    assert "Open circles" not in chart_of(found).caption


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (
            [(0.1, 0.0), (0.5, 0.96), (1.0, 1.0)],
            "95% of the gain at 50% of the time is reached: half of the time keeps 96%, and 95% "
            "takes 50% of it",
        ),
        (
            [(0.1, 0.0), (0.48, 0.79), (0.793, 0.95), (1.0, 1.0)],
            "95% of the gain at 50% of the time is not reached: half of the time keeps 79%, and "
            "95% takes 79.3% of it",
        ),
        (
            [(0.6, 0.0), (1.0, 1.0)],
            "95% of the gain at 50% of the time is not reached: none takes so little, and 95% "
            "takes 100% of it",
        ),
    ],
)
def test_the_page_says_whether_95_percent_at_half_of_the_time_is_reached(points, said) -> None:
    assert savings_words(report(*points)).startswith(said)
    chart = chart_of(report(*points))
    assert chart is not None
    rows = next(rows for rows in chart.spec["datasets"].values() if "work_ms" in rows[0])
    assert [(row["time_share"], row["kept"]) for row in rows] == points


def test_where_there_is_no_gain_nothing_is_said_to_be_kept() -> None:
    """All of nothing is kept at any price: that must not read as a goal that was reached."""
    free = [(0.1, 1.0), (1.0, 1.0)]
    for made in (report(*free, gain=-0.01), report(*free, gain=0.01, metric="log_loss")):
        assert "has no gain to keep" in savings_words(made)
        assert chart_of(made) is None
    one = report((1.0, 1.0), gain=0.0)
    assert "has nothing to leave out" in savings_words(one)
    assert chart_of(one) is None


def test_page_and_twin_have_the_sentence_and_the_page_the_curve(tmp_path: Path) -> None:
    made = report((0.1, 0.0), (1.0, 1.0))
    made["options"] = [
        {"name": name, "members": 1, "quality": 0.3, "latency_ms": 1.0, "work_ms": work}
        | {"params": 1, "pareto": True}
        for name, work in (("one", 1.0), ("two", 2.0))
    ]
    jsonschema.Draft202012Validator(SCHEMA).validate(made)
    page = write_report(made, tmp_path).read_text()
    assert 'id="chart-cascade"' in page
    assert "95% of the gain at 50% of the time is not reached" in page
    assert "95% of the gain at 50% of the time is not reached" in markdown(made)
