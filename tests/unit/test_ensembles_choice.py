"""Costs and the Pareto front."""

from __future__ import annotations

from penchant.ensembles.comparing.choice import Cost, Option, pareto
from penchant.platform.intervals import Interval

COSTS = {"slow": Cost(score_ms=40, params=900), "mid": Cost(score_ms=8, params=50),
         "fast": Cost(score_ms=1, params=7)}  # fmt: skip
SLOW = Option.of("slow", ["slow"], COSTS, 0.30)
MID = Option.of("mid", ["mid"], COSTS, 0.29)
FAST = Option.of("fast", ["fast"], COSTS, 0.25)


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


def test_a_cascade_that_seldom_asks_everyone_costs_less():
    assert Option.of("cascade", ["slow", "fast"], COSTS, 0.3, work_ms=9.0).work_ms == 9.0


def test_on_the_front_is_what_nothing_beats_at_its_price():
    """`twin` is as good and as dear as `mid`; `quick` is dearer than `mid` and better."""
    twin = Option.of("twin", ["mid"], COSTS, 0.29)
    worse = Option.of("worse", ["slow"], COSTS, 0.28)
    front = pareto([ALL, SLOW, MID, FAST, QUICK, twin, worse], low_is_good=False)
    assert [option.name for option in front] == ["fast", "mid", "quick", "slow", "all"]


def test_of_a_loss_the_front_goes_down():
    dear = Option.of("dear", ["slow"], COSTS, 0.4)
    cheap = Option.of("cheap", ["fast"], COSTS, 0.5)
    bad = Option.of("bad", ["mid"], COSTS, 0.6)
    assert pareto([dear, cheap, bad], low_is_good=True) == [cheap, dear]
