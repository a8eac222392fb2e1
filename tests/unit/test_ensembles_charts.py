"""The report's charts, tables and sentences: what they show follows from the figures."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

from penchant.ensembles.page import charts, figures, tables
from penchant.platform.intervals import Interval

BLOCKS = {
    "train": "2017-01-01T00:00:00+00:00",
    "select": "2017-10-01T00:00:00+00:00",
    "blend": "2017-11-01T00:00:00+00:00",
    "test": "2017-12-01T00:00:00+00:00",
    "end": "2018-01-01T00:00:00+00:00",
}


def member(name: str, mean: float, **more: Any) -> dict[str, Any]:
    test = {"ndcg@10": {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}}
    return {"id": name, "kind": "sequence", "window": {"days": None}, "test": test} | more


def ensemble(name: str, mean: float, low: float, high: float, p: float) -> dict[str, Any]:
    difference = {"mean": mean, "low": low, "high": high, "p": p}
    return {
        "name": name,
        "combiner": "greedy",
        "test": {"ndcg@10": {"mean": 0.3 + mean}},
        "difference_to_best_single": {"ndcg@10": difference},
    }


def report(**parts: Any) -> dict[str, Any]:
    return {"metric": "ndcg@10", "members": [], "ensembles": []} | parts


def compared(recommended: str) -> dict[str, Any]:
    return report(
        members=[member("single", 0.3100)],
        best_single="single",
        ensembles=[
            ensemble("gains", 0.0031, 0.0016, 0.0047, 0.001),
            ensemble("open", -0.0008, -0.0022, 0.0006, 0.262),
            ensemble("loses", -0.0173, -0.0201, -0.0145, 0.0004),
        ],
        recommended=recommended,
    )


def rows_with(chart: charts.Chart | None, key: str) -> list[dict[str, Any]]:
    assert chart is not None
    found: list[dict[str, Any]] = next(r for r in chart.spec["datasets"].values() if key in r[0])
    return found


def test_differences_are_coloured_by_what_their_interval_proves() -> None:
    rows = rows_with(charts.differences(compared("gains")), "tone")
    assert {row["name"]: row["tone"] for row in rows} == {
        "gains": "gain",
        "open": "open",
        "loses": "loss",
    }


def test_the_heat_map_orders_windows_and_sizes_and_keeps_the_best_of_a_cell() -> None:
    members = [
        member("a", 0.31, window={"days": None}, size="d128x2"),
        member("b", 0.25, window={"days": 60.0}, size="d64x2"),
        member("c", 0.26, window={"days": 60.0}, size="d64x2"),
        member("d", 0.24, window={"days": 7.0}, size="d128x2"),
        member("e", 0.99, size=None),  # no sequence member
    ]
    chart = charts.search_grid(report(members=members))
    rows = rows_with(chart, "value")
    assert [(row["window"], row["size"], row["value"]) for row in rows] == [
        ("7d", "d128x2", 0.24),
        ("60d", "d64x2", 0.26),
        ("all", "d128x2", 0.31),
    ]
    assert chart is not None
    assert chart.spec["layer"][0]["encoding"]["x"]["sort"] == ["d64x2", "d128x2"]
    assert "the best is shown" in chart.caption


def test_the_heat_map_reads_select_where_one_member_has_no_test() -> None:
    select = {"ndcg@10": {"mean": 0.2}}
    members = [
        member("a", 0.31, size="d64x2", select=select),
        member("b", 0.31, size="d32x1", select=select, test={}),
    ]
    chart = charts.search_grid(report(members=members))
    assert [row["value"] for row in rows_with(chart, "value")] == [0.2, 0.2]
    assert chart is not None
    assert "on the select block" in chart.caption


def test_one_sized_member_makes_no_heat_map() -> None:
    assert charts.search_grid(report(members=[member("a", 0.3, size="d64x2")])) is None


def test_the_heat_map_of_contribution_adds_up_the_weights_of_a_cell() -> None:
    """`gains` is recommended: its weights count, and a member without any has none."""
    found = compared("gains")
    found["members"] += [
        member("a", 0.31, window={"days": None}, size="d64x2"),
        member("b", 0.25, window={"days": 60.0}, size="d64x2"),
        member("c", 0.26, window={"days": 60.0}, size="d64x2"),
        member("d", 0.24, window={"days": 60.0}, size="d32x1"),
    ]
    found["ensembles"][0]["weights"] = {"single": 0.5, "a": 0.25, "b": 0.2, "c": 0.05}
    found["ensembles"][1]["weights"] = {"d": 1.0}
    chart = charts.contribution_grid(found)
    rows = rows_with(chart, "value")
    assert {(row["window"], row["size"]): row["value"] for row in rows} == {
        ("60d", "d64x2"): 0.25,
        ("60d", "d32x1"): 0.0,
        ("all", "d64x2"): 0.25,
    }
    assert chart is not None
    assert "gains (recommended)" in chart.caption
    assert "All sequence members together have 50.0%" in chart.caption
    nearest = charts.contribution_grid(found | {"recommended": "single"})
    assert nearest is not None
    assert "gains (the nearest to a gain on test)" in nearest.caption
    del found["ensembles"][0]["weights"]
    assert charts.contribution_grid(found) is None


def test_a_week_has_the_block_it_starts_in() -> None:
    """Select starts on Sunday 1 October: the week of Monday 25 September is still train."""
    weeks = ("2016-12-26", "2017-09-25", "2017-10-02", "2017-11-27", "2017-12-04", "2018-01-01")
    weekly = [{"start": week, "events": 10} for week in weeks]
    chart = charts.events_a_week(report(blocks=BLOCKS, data={"per_week": weekly}))
    blocks = [row["block"] for row in rows_with(chart, "events")]
    assert blocks == ["train", "train", "select", "blend", "test", "after"]
    assert len(rows_with(chart, "at")) == 4


def test_learning_curves_share_a_scale_and_ring_the_lowest_select_loss() -> None:
    histories = ([(6.0, 5.9), (5.0, 5.5), (4.0, 5.7)], [(7.0, 6.5)])
    members = [
        member(
            f"m{at}",
            0.3,
            history=[
                {"epoch": epoch, "train_loss": train, "select_loss": select}
                for epoch, (train, select) in enumerate(history, 1)
            ],
        )
        for at, history in enumerate(histories)
    ]
    found = charts.learning_curves(report(members=[*members, member("none", 0.3)]))
    assert list(found) == ["m0", "m1"]
    curves = list(found.values())
    domains = [curve.spec["layer"][0]["encoding"]["y"]["scale"]["domain"] for curve in curves]
    assert domains == [[4.0, 7.0], [4.0, 7.0]]
    axes = [curve.spec["layer"][0]["encoding"]["x"]["axis"]["values"] for curve in curves]
    assert axes == [[1, 2, 3], [1]]
    assert curves[0].label == "Loss by epoch of m0: select is lowest, 5.5000, in epoch 2."


@pytest.mark.parametrize(
    ("metric", "low", "high", "expected"),
    [
        ("ndcg@10", 0.001, 0.003, True),
        ("ndcg@10", -0.003, -0.001, False),
        ("ndcg@10", -0.001, 0.003, None),
        ("ndcg@10", 0.0, 0.003, None),
        ("log_loss", 0.001, 0.003, False),
        ("log_loss", -0.003, -0.001, True),
    ],
)
def test_a_gain_is_an_interval_on_the_good_side_of_zero(
    metric: str, low: float, high: float, expected: bool | None
) -> None:
    assert figures.is_gain(Interval((low + high) / 2, low, high), metric) is expected


def test_the_evidence_says_how_large_and_how_sure() -> None:
    """0.0031 of 0.3100 is 1.0%."""
    assert figures.evidence(compared("gains")).replace("\xa0", " ") == (
        "The ensemble gains is better than single, the best single member, by 0.0031 NDCG@10 "
        "(1.0%). The 95% interval of the difference, between +0.0016 and +0.0047, does not hold "
        "zero (p = 0.001)."
    )
    assert "holds zero: the test block proves no difference" in figures.evidence(compared("open"))
    assert "loses is worse than single" in figures.evidence(compared("loses"))


def test_the_evidence_for_a_single_member_is_the_nearest_ensemble() -> None:
    chosen = compared("single")
    del chosen["ensembles"][0]
    assert "The ensemble open differs from single" in figures.evidence(chosen)


def test_there_is_no_evidence_where_nothing_was_compared() -> None:
    assert figures.evidence(report(best_single="single")) == ""


def test_members_stand_best_first_with_repeat_and_explore_apart() -> None:
    split = {"ndcg@10/explore": {"mean": 0.05}, "recall@10": {"mean": 0.2}}
    split |= {"ndcg@10/repeat": {"mean": 0.4}}
    worse, better = member("worse", 0.2), member("better", 0.3)
    better["test"] |= split
    table = tables.members(report(members=[worse, better], best_single="better"))
    assert table is not None
    assert [column.title for column in table.columns][1:4] == ["NDCG@10", "Repeat", "Explore"]
    assert [row[0].text for row in table.rows] == ["better", "worse"]
    assert [cell.text for cell in table.rows[0][1:4]] == ["0.3000", "0.4000", "0.0500"]
    assert table.rows[0][1].note == "0.2900 to 0.3100"
    assert table.rows[1][2].text == figures.MISSING


def test_examples_in_the_figures_hold() -> None:
    assert doctest.testmod(figures).failed == 0
