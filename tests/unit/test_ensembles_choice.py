"""Costs, the Pareto front, and choosing within a budget."""

from __future__ import annotations

import pytest

from penchant.ensembles.comparing.choice import Cost, Option, choose, pareto
from penchant.platform.errors import ConfigError
from penchant.platform.intervals import Interval

COSTS = {"slow": Cost(score_ms=40, params=900), "mid": Cost(score_ms=8, params=50),
         "fast": Cost(score_ms=1, params=7)}  # fmt: skip
SLOW = Option.of("slow", ["slow"], COSTS, 0.30, select=0.31)
MID = Option.of("mid", ["mid"], COSTS, 0.29, select=0.30)
FAST = Option.of("fast", ["fast"], COSTS, 0.25, select=0.26)


def pair(name: str, used: list[str], low: float, high: float) -> Option:
    """A combination whose gain is over `slow`."""
    gain = Interval((low + high) / 2, low, high)
    return Option.of(name, used, COSTS, 0.30 + gain.mean, gain=gain)


ALL = pair("all", ["slow", "mid", "fast"], 0.01, 0.03)
OPEN = pair("open", ["slow", "fast"], -0.01, 0.09)
QUICK = pair("quick", ["mid", "fast"], -0.006, -0.002)


def test_a_combination_costs_the_sum_and_is_as_slow_as_its_slowest():
    assert (ALL.work_ms, ALL.latency_ms, ALL.params, ALL.members) == (49, 40, 957, 3)


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
    ],
)
def test_the_best_that_fits_is_chosen_and_a_combination_only_where_it_is_sure(budget, name):
    options = [SLOW, MID, FAST, ALL, OPEN, QUICK]
    assert choose(options, low_is_good=False, **budget).name == name


def test_select_names_the_best_single_whatever_blend_says():
    lucky = Option.of("lucky", ["fast"], COSTS, 0.40, select=0.10)
    assert choose([SLOW, lucky], low_is_good=False) is SLOW


def test_of_a_loss_a_sure_gain_lies_below_zero():
    alone = Option.of("alone", ["mid"], COSTS, 0.30, select=0.30)
    better = Option.of("better", ["mid", "fast"], COSTS, 0.28, gain=Interval(-0.02, -0.03, -0.01))
    maybe = Option.of("maybe", ["mid", "slow"], COSTS, 0.27, gain=Interval(-0.03, -0.07, 0.01))
    assert choose([alone, better, maybe], low_is_good=True) is better


def test_a_budget_that_nothing_fits_is_refused_with_the_fastest():
    with pytest.raises(ConfigError, match="the fastest, fast, takes 1 ms"):
        choose([SLOW, FAST], low_is_good=False, max_latency_ms=0.5)
