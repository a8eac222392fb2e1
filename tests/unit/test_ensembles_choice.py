"""Costs, the Pareto front, and choosing within a budget."""

from __future__ import annotations

import pytest

from penchant.ensembles.combiners.budget import Budget
from penchant.ensembles.comparing.choice import Cost, Option, choose, pareto
from penchant.platform.errors import ConfigError
from penchant.platform.intervals import Interval

COSTS = {"slow": Cost(score_ms=40, params=900), "mid": Cost(score_ms=8, params=50),
         "fast": Cost(score_ms=1, params=7)}  # fmt: skip
SCORE_MS = {name: cost.score_ms for name, cost in COSTS.items()}
SLOW = Option.of("slow", ["slow"], COSTS, 0.30, select=0.31)
MID = Option.of("mid", ["mid"], COSTS, 0.29, select=0.30)
FAST = Option.of("fast", ["fast"], COSTS, 0.25, select=0.26)


def pair(name: str, used: list[str], low: float, high: float, over: float = 0.30) -> Option:
    """A combination whose gain is over a single member of this quality: `slow`, if none is said."""
    gain = Interval((low + high) / 2, low, high)
    return Option.of(name, used, COSTS, over + gain.mean, gain=gain)


ALL = pair("all", ["slow", "mid", "fast"], 0.01, 0.03)
OPEN = pair("open", ["slow", "fast"], -0.01, 0.09)
QUICK = pair("quick", ["mid", "fast"], 0.004, 0.008, over=0.29)


def test_a_combination_costs_the_sum_and_is_as_slow_as_its_slowest():
    assert (ALL.work_ms, ALL.latency_ms, ALL.params, ALL.members) == (49, 40, 957, 3)


def test_the_stages_of_a_cascade_wait_for_each_other():
    """8 ms for `mid` beside `fast`, then 40 for `slow`; at once it would be 40."""
    stages = [["mid", "fast"], ["slow"]]
    made = Option.of("cascade", ["slow", "mid", "fast"], COSTS, 0.3, stages=stages, work_ms=12.0)
    assert made.latency_ms == 48
    alone = Option.of("mid", ["mid"], COSTS, 0.29, select=0.30)
    sure = Option.of(
        "cascade", ["mid", "fast"], COSTS, 0.31, gain=Interval(0.02, 0.01, 0.03),
        stages=[["fast"], ["mid"]],
    )  # fmt: skip
    for limit, wanted in ((8.5, alone), (9, sure)):
        within = Budget(max_latency_ms=limit, score_ms=SCORE_MS)
        assert choose([alone, sure], low_is_good=False, budget=within) is wanted


def test_a_cascade_that_seldom_asks_everyone_costs_less():
    assert Option.of("cascade", ["slow", "fast"], COSTS, 0.3, work_ms=9.0).work_ms == 9.0


def test_on_the_front_is_what_nothing_beats_at_its_price():
    """`twin` is as good and as dear as `mid`; `quick` is dearer than `mid` and better."""
    twin = Option.of("twin", ["mid"], COSTS, 0.29, select=0.30)
    worse = Option.of("worse", ["slow"], COSTS, 0.28, select=0.1)
    front = pareto([ALL, SLOW, MID, FAST, QUICK, twin, worse], low_is_good=False)
    assert [option.name for option in front] == ["fast", "mid", "quick", "slow", "all"]


def test_of_a_loss_the_front_goes_down():
    dear = Option.of("dear", ["slow"], COSTS, 0.4, select=0.4)
    cheap = Option.of("cheap", ["fast"], COSTS, 0.5, select=0.5)
    bad = Option.of("bad", ["mid"], COSTS, 0.6, select=0.6)
    assert pareto([dear, cheap, bad], low_is_good=True) == [cheap, dear]


@pytest.mark.parametrize(
    ("budget", "name"),
    [
        ({}, "all"),  # the larger mean of `open` is not sure
        ({"max_members": 2}, "slow"),
        ({"max_members": 1}, "slow"),
        ({"max_latency_ms": 8}, "quick"),  # surely above `mid`, the best that is so fast
        ({"max_latency_ms": 8, "max_members": 1}, "mid"),
        ({"max_latency_ms": 1}, "fast"),
        ({"max_cost_ms": 49}, "all"),
        ({"max_cost_ms": 48}, "slow"),
        ({"max_cost_ms": 9}, "quick"),
        ({"max_cost_ms": 8}, "mid"),
    ],
)
def test_the_best_that_fits_is_chosen_and_a_combination_only_where_it_is_sure(budget, name):
    """`quick` gains over `mid`, and loses against `slow` where that is within the budget."""
    within = Budget(**budget, score_ms=SCORE_MS)
    rival = within.admits((), "slow")
    quick = pair("quick", ["mid", "fast"], -0.006, -0.002) if rival else QUICK
    options = [SLOW, MID, FAST, ALL, OPEN, quick]
    assert choose(options, low_is_good=False, budget=within).name == name


def test_select_names_the_best_single_whatever_blend_says():
    lucky = Option.of("lucky", ["fast"], COSTS, 0.40, select=0.10)
    assert choose([SLOW, lucky], low_is_good=False) is SLOW


def test_of_a_loss_a_sure_gain_lies_below_zero():
    alone = Option.of("alone", ["mid"], COSTS, 0.30, select=0.30)
    better = Option.of("better", ["mid", "fast"], COSTS, 0.28, gain=Interval(-0.02, -0.03, -0.01))
    maybe = Option.of("maybe", ["mid", "slow"], COSTS, 0.27, gain=Interval(-0.03, -0.07, 0.01))
    assert choose([alone, better, maybe], low_is_good=True) is better


def test_a_budget_that_nothing_fits_is_refused_with_the_fastest():
    within = Budget(max_latency_ms=0.5, score_ms=SCORE_MS)
    with pytest.raises(ConfigError, match="the fastest, fast, takes 1 ms"):
        choose([SLOW, FAST], low_is_good=False, budget=within)
