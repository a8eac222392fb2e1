"""What is recommended: gains that are sure however many are compared, at all origins together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combiners.budget import Budget
from penchant.ensembles.comparing.comparison import Candidate, Comparison
from penchant.ensembles.comparing.verdict import verdict
from penchant.platform.intervals import Interval, Resampler
from penchant.platform.significance import family_sign_flip_p

MADE = Linear(normalization="none", weights={"a": 0.5, "b": 0.5})


def interval(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 0.5)


def candidate(name: str, gain: Interval, p: float = 0.001) -> Candidate:
    return Candidate(
        combiner=name,
        combination=MADE,
        blend=0,
        blend_gain=gain,
        gain_within=gain,
        gain_p=p,
        test={},
        difference={},
    )


def comparison(
    gains: Mapping[str, tuple[float, float]],
    metric: str = "ndcg@10",
    earlier: Sequence[Mapping[str, tuple[float, float]]] = (),
    **more,
) -> Comparison:
    return Comparison(
        metric=metric,
        best_single="a",
        select={},
        members={},
        candidates=[candidate(name, interval(*gain)) for name, gain in gains.items()],
        earlier=[{name: interval(*gain) for name, gain in one.items()} for one in earlier],
        **more,
    )


@pytest.mark.parametrize(
    ("metric", "gains", "chosen"),
    [
        ("ndcg@10", {"mean": (-0.1, 0.3), "greedy": (-0.2, 0.4)}, "a"),
        ("ndcg@10", {"mean": (0.1, 0.3), "greedy": (-0.2, 0.9)}, "mean"),
        ("ndcg@10", {"mean": (0.1, 0.3), "greedy": (0.05, 0.5)}, "greedy"),
        ("ndcg@10", {"mean": (0.0, 0.3)}, "a"),
        ("log_loss", {"mean": (0.1, 0.3), "greedy": (-0.3, -0.1)}, "greedy"),
        ("log_loss", {"mean": (-0.5, -0.1), "greedy": (-0.3, -0.1)}, "mean"),
        ("ndcg@10", {}, "a"),
    ],
)
def test_only_a_sure_gain_is_recommended_and_the_largest_of_them(metric, gains, chosen):
    assert comparison(gains, metric).choice == chosen


def test_a_gain_that_chance_brings_to_one_of_so_many_is_not_sure():
    for p, chosen in ((0.05, "greedy"), (0.06, "a")):
        made = [candidate("greedy", interval(0.01, 0.03), p)]
        assert replace(comparison({}), candidates=made).choice == chosen


@pytest.mark.parametrize(
    ("earlier", "chosen"),
    [
        ([{"greedy": (0.01, 0.03)}], "greedy"),
        ([{"greedy": (-0.02, 0.0)}], "a"),  # over both .005 +- .007
        ([{"greedy": (-0.01, 0.01)}], "greedy"),  # over both .01 +- .007
        ([{"greedy": (-0.03, 0.03)}, {"greedy": (-0.03, 0.03)}], "a"),  # .0067 +- .0145
        ([{"mean": (-0.5, -0.4)}], "greedy"),  # greedy was not compared there
    ],
)
def test_a_gain_has_to_be_sure_at_the_latest_origin_and_over_all(earlier, chosen):
    assert comparison({"greedy": (0.01, 0.03)}, earlier=earlier).choice == chosen


def test_earlier_origins_alone_recommend_nothing():
    """.01 +- .02 and three times .15 +- .05: .46 / 4, +- the root of .0079, / 4."""
    found = comparison({"greedy": (-0.01, 0.03)}, earlier=[{"greedy": (0.1, 0.2)}] * 3)
    assert found.choice == "a"
    assert verdict(found) == (
        "Ship a alone: on users of the blend block that fitted no weights, no ensemble was surely "
        "better. The nearest, greedy, gained +0.0100 [-0.0100, +0.0300] at the latest origin, "
        "which is not sure, and +0.1150 [+0.0928, +0.1372] over 4 origins."
    )


def test_the_verdict_says_what_all_origins_say_of_what_wins():
    earlier = [{"greedy": (0.01, 0.03), "mean": (0.1, 0.2)}]
    assert verdict(comparison({"greedy": (0.01, 0.03)}, earlier=earlier)) == (
        "Ship the ensemble greedy of 2 members: on users of the blend block that fitted no weights "
        "it gained +0.0200 [+0.0100, +0.0300]. Over such users of 2 origins it gained +0.0200 "
        "[+0.0129, +0.0271]."
    )
    earlier = [{"greedy": (-0.02, 0.0)}]
    assert verdict(comparison({"greedy": (0.01, 0.03)}, earlier=earlier)) == (
        "Ship a alone: on users of the blend block that fitted no weights, no ensemble was surely "
        "better. The nearest, greedy, gained +0.0200 [+0.0100, +0.0300] at the latest origin, and "
        "+0.0050 [-0.0021, +0.0121] over 2 origins, which is not sure."
    )


def test_within_a_budget_the_best_member_that_fits_stands_alone():
    limited = {"budget": Budget(max_members=1), "rival": "b"}
    found = comparison({"greedy": (-0.1, 0.1)}, **limited)
    assert found.choice == "b"
    assert found.shipped.shares == {"b": 1.0}
    assert verdict(found) == (
        "Within 1 member(s), ship b alone: on users of the blend block that fitted no weights, no "
        "ensemble within it was surely better."
    )
    told = verdict(comparison({"greedy": (0.1, 0.3)}, **limited))
    assert told.endswith("[+0.1000, +0.3000] over b, the best single member within it.")


def test_where_nothing_gains_anything_one_comparison_in_twenty_recommends_something_at_most():
    """Ten combinations of 150 users, alike in part; most users see no difference, some a large one.

    Of 200 such comparisons 5% are 10; uncorrected, each of ten has a chance of 2.5% of its own.
    """
    random, user = np.random.default_rng(0), np.arange(150)
    resampler = Resampler(user.astype(np.int32), 200, 0)
    recommended = {"as if each were alone": 0, "corrected": 0}
    for seed in range(200):
        shared, own = (
            random.standard_t(4, size=(150, width)) * (random.random((150, width)) < 0.4)
            for width in (1, 10)
        )
        gains = resampler.differences(0.5 * shared + own)
        p = family_sign_flip_p(0.5 * shared + own, user, 299, seed)
        for how, chances in (("as if each were alone", [0.0] * 10), ("corrected", p)):
            pairs = zip(gains, chances, strict=True)
            made = [candidate(str(at), gain, chance) for at, (gain, chance) in enumerate(pairs)]
            recommended[how] += replace(comparison({}), candidates=made).recommended is not None
    assert recommended["as if each were alone"] > 2 * 10
    assert recommended["corrected"] <= 10
