"""What several origins say together: means and intervals by hand, and the verdict's count."""

from __future__ import annotations

from typing import Any

import pytest

from penchant.ensembles.comparing.over_origins import gains_of, pooled, with_origins
from penchant.platform.intervals import Interval


def report(differences: dict[str, dict[str, float | None]], metric: str = "ndcg@10", **more: Any):
    """As `build_report` makes it, of one origin."""
    return {
        "metric": metric,
        "blocks": {"test": "2017-11-01T00:00:00+00:00", "end": "2017-12-01T00:00:00+00:00"},
        "members": [{"id": "a", "test": {metric: {"mean": 0.3}}}],
        "best_single": "a",
        "recommended": "greedy",
        "verdict": "Ship greedy.",
        "ensembles": [
            {"name": name, "difference_to_best_single": {metric: value}}
            for name, value in differences.items()
        ],
    } | more


def around(mean: float, half: float) -> dict[str, float | None]:
    return {"mean": mean, "low": mean - half, "high": mean + half}


def test_the_mean_of_two_origins_has_half_the_root_of_their_squared_half_widths() -> None:
    """Half-widths of .03 and .04: their squares add up to .05 squared, halved for the mean."""
    found = pooled([Interval(0.02, -0.01, 0.05), Interval(0.06, 0.02, 0.10)])
    assert (found.mean, found.low, found.high) == pytest.approx((0.04, 0.015, 0.065))


def test_four_equal_origins_halve_an_interval_and_one_keeps_its_own() -> None:
    one = Interval(0.1, 0.0, 0.2)
    assert pooled([one]) == one
    found = pooled([one] * 4)
    assert (found.low, found.high) == pytest.approx((0.05, 0.15))


def test_without_earlier_origins_a_report_stays_as_it_is() -> None:
    alone = report({"greedy": around(0.1, 0.01)})
    assert with_origins(alone, []) == alone


def test_every_combination_is_pooled_and_the_verdict_counts_the_recommended_one() -> None:
    latest = report({"greedy": around(0.02, 0.03), "mean": around(-0.01, 0.01)})
    earlier = [
        report({"greedy": around(0.06, 0.04), "mean": around(-0.02, 0.01)}, recommended="a"),
        report({"greedy": around(-0.02, 0.12)}),  # where there was too little for another
    ]
    found = with_origins(latest, earlier)
    assert [one["recommended"] for one in found["origins"]] == ["a", "greedy"]
    assert found["origins"][0]["differences"]["mean"] == around(-0.02, 0.01)
    together = found["over_origins"]
    assert together["origins"] == 3
    assert "independent" in together["method"]
    greedy, mean = together["gains"]["greedy"], together["gains"]["mean"]
    assert (greedy["origins"], greedy["better"]) == (3, 2)
    assert greedy["gain"] == pytest.approx({"mean": 0.02, "low": 0.02 - 0.13 / 3, "high": 0.19 / 3})
    assert (mean["origins"], mean["better"]) == (2, 0)
    assert found["verdict"] == (
        "Ship greedy. On test, greedy was better than the best single member in 2 of 3 origins; "
        "over them the difference is +0.0200 [-0.0233, +0.0633]."
    )


def test_gains_on_unseen_users_of_blend_are_pooled_too() -> None:
    """Of options, which are over the best member that fits; members and points have no gain."""

    def options(mean: float, half: float) -> dict[str, Any]:
        gain = around(mean, half)
        return {"options": [{"name": "greedy", "gain": gain}, {"name": "a"}]}

    latest = report({"greedy": around(0.5, 0.1)}, **options(0.02, 0.03))
    earlier = report({"greedy": around(0.7, 0.1)}, **options(0.06, 0.04))
    assert gains_of(latest) == {"greedy": Interval(0.02, 0.02 - 0.03, 0.05)}
    found = with_origins(latest, [earlier])["over_origins"]["gains"]["greedy"]
    assert found["unseen_users"] == pytest.approx({"mean": 0.04, "low": 0.015, "high": 0.065})
    assert found["gain"]["mean"] == pytest.approx(0.6)


def test_of_a_loss_better_is_below_zero() -> None:
    losses = [
        report({"greedy": around(mean, 0.01)}, metric="log_loss") for mean in (-0.02, -0.01, 0.01)
    ]
    found = with_origins(losses[0], losses[1:])["over_origins"]["gains"]["greedy"]
    assert found["better"] == 2
    assert found["gain"]["mean"] == pytest.approx(-0.02 / 3)


def test_a_figure_that_does_not_exist_is_no_origin() -> None:
    nothing: dict[str, float | None] = {"mean": None, "low": None, "high": None}
    latest = report({"greedy": around(0.02, 0.01), "mean": nothing})
    found = with_origins(latest, [report({"greedy": nothing, "mean": nothing})])
    assert list(found["over_origins"]["gains"]) == ["greedy"]
    assert found["over_origins"]["gains"]["greedy"]["origins"] == 1


def test_where_a_member_is_recommended_the_verdict_stays() -> None:
    latest = report({"greedy": around(0.02, 0.01)}, recommended="a", verdict="Ship a alone.")
    assert with_origins(latest, [latest])["verdict"] == "Ship a alone."
