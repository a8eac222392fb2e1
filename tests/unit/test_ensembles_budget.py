"""Combiners within a budget: what they pick fits it, whatever it limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from penchant.ensembles.combinations.cascade import Cascade
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combiners.average import MeanCombiner
from penchant.ensembles.combiners.budget import Budget
from penchant.ensembles.combiners.cascade_fit import CascadeCombiner
from penchant.ensembles.combiners.combiner import quality
from penchant.ensembles.combiners.combiners import make_combiners
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.comparing.choice import Cost
from penchant.ensembles.comparing.fitting import fit_all
from penchant.ensembles.comparing.options import make_options, way_options
from penchant.ensembles.comparing.savings import cascade_curve
from penchant.ensembles.comparing.unseen import UnseenUsers
from penchant.ensembles.predictions import Predictions
from penchant.platform.config import Ensemble
from penchant.platform.errors import ConfigError
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block

SIZE, ITEMS = 240, 12
COST_MS = {"m0": 9.0, "m1": 4.0, "m2": 3.0, "m3": 2.0, "m4": 1.0}


def blend() -> Predictions:
    """Five members with noise of their own; the slower a member, the better it is."""
    random = np.random.default_rng(4)
    target = random.integers(0, ITEMS, SIZE).astype(np.int32)
    scores = {}
    for at, name in enumerate(COST_MS):
        part = random.normal(size=(SIZE, ITEMS))
        part[np.arange(SIZE), target] += 1.6 - 0.15 * at
        scores[name] = part.astype(np.float32)
    requests = Requests(
        row=np.arange(SIZE),
        user=np.arange(SIZE, dtype=np.int32) // 2,
        time_ms=np.zeros(SIZE, dtype=np.int64),
        end=np.zeros(SIZE, dtype=np.int64),
        target_offsets=np.arange(SIZE + 1),
        target=target,
        target_seen=np.zeros(SIZE, dtype=np.bool_),
    )
    facts = np.column_stack([np.arange(SIZE) % 40, *np.ones((4, SIZE))]).astype(np.float32)
    return Predictions(block=Block.BLEND, requests=requests, scores=scores, facts=facts)


@pytest.fixture(scope="module")
def predictions() -> Predictions:
    return blend()


def test_a_budget_admits_what_is_within_all_of_its_limits():
    budget = Budget(max_latency_ms=4, max_members=2, max_cost_ms=5, score_ms=COST_MS)
    assert str(budget) == "4 ms and 2 member(s) and a cost of 5 ms"
    assert budget.alone(list(COST_MS)) == ["m1", "m2", "m3", "m4"]  # m0 takes 9 ms
    assert budget.first(list(COST_MS)) == ["m1", "m4"]  # 4 + 3 and 4 + 2 cost more than 5
    assert budget.first(list(COST_MS), 1) == ["m1"]
    assert not budget.admits(["m3", "m4"], "m2")  # the third
    assert budget.admits(["m3", "m4"], "m4")


def test_a_budget_that_no_member_fits_or_that_nobody_can_check_is_refused():
    with pytest.raises(ConfigError, match=r"no member fits 0\.5 ms: the fastest, m4, takes 1 ms"):
        Budget(max_latency_ms=0.5, score_ms=COST_MS).alone(list(COST_MS))
    with pytest.raises(ConfigError, match="the fastest, m2, takes 3 ms"):  # of those there are
        Budget(max_latency_ms=0.5, score_ms=COST_MS).first(["m1", "m2"])
    with pytest.raises(ConfigError, match="needs the time that each member takes"):
        Budget(max_cost_ms=0.5)


@pytest.mark.parametrize(
    "limits",
    [{"max_members": 2}, {"max_latency_ms": 3.0}, {"max_cost_ms": 6.0},
     {"max_members": 3, "max_latency_ms": 4.0, "max_cost_ms": 7.5}],
)  # fmt: skip
def test_every_combiner_keeps_to_the_budget(predictions, limits):
    settings = Ensemble(**limits, bags=4, combiners=NAMES)
    made = make_combiners(settings, "next_item", COST_MS)
    assert [one.name for one in made] == list(settings.combiners)
    for one in made:
        found = one.fit(predictions, "ndcg@5")
        times = [COST_MS[name] for name in found.shares]
        latency = max(times)
        if isinstance(found, Cascade):
            latency = sum(max(COST_MS[name] for name in stage) for stage in found.asked)
        assert latency <= limits.get("max_latency_ms", latency), one.name
        assert len(times) <= limits.get("max_members", len(times)), one.name
        cost = found.expected_cost_ms() if isinstance(found, Cascade) else sum(times)
        assert cost <= limits.get("max_cost_ms", cost), one.name


NAMES = ("mean", "median", "rank_mean", "reciprocal_rank", "greedy", "weights", "layers", "gate",
         "stack", "cascade")  # fmt: skip


def test_greedy_selection_goes_on_within_the_limit(predictions):
    """Of two members it is not what is left of five, but the best that two can be."""
    budget = Budget(max_members=2, score_ms=COST_MS)
    found = GreedyCombiner(budget=budget).fit(predictions, "ndcg@5")
    whole = GreedyCombiner().fit(predictions, "ndcg@5")
    assert len(found.weights) == 2 < len(whole.weights)
    value = quality(found.merge(predictions.scores, None), predictions.requests, "ndcg@5")
    best = max(quality(s, predictions.requests, "ndcg@5") for s in predictions.scores.values())
    assert value > best


def test_an_average_takes_the_best_members_that_fit(predictions):
    budget = Budget(max_latency_ms=4, max_cost_ms=7, score_ms=COST_MS)
    assert set(MeanCombiner(budget=budget).fit(predictions, "ndcg@5").weights) == {"m1", "m2"}


def test_the_way_ends_in_what_is_fitted_and_gets_better_with_every_member(predictions):
    greedy = GreedyCombiner()
    way = greedy.path(predictions, "ndcg@5")
    assert way[-1] is greedy.fit(predictions, "ndcg@5")
    assert [len(made.weights) for made in way] == list(range(1, len(way) + 1))
    values = [
        quality(made.merge(predictions.scores, None), predictions.requests, "ndcg@5")
        for made in way
    ]
    assert values == sorted(values)
    assert len(GreedyCombiner(bags=3).path(predictions, "ndcg@5")) == 1


def test_without_limits_greedy_selection_and_the_cascades_curve_are_made_once(monkeypatch):
    """Gate, stack and cascade begin with what `greedy` has found, whatever members take."""
    fresh, on = blend(), []
    for kind in (GreedyCombiner, CascadeCombiner):
        name = "_fit" if kind is GreedyCombiner else "_curve"
        work = getattr(kind, name)

        def counted(self, predictions, metric, kind=kind, work=work):
            if predictions is fresh:
                on.append(kind)
            return work(self, predictions, metric)

        monkeypatch.setattr(kind, name, counted)
    settings = Ensemble(combiners=("greedy", "gate", "stack", "cascade"))
    made = make_combiners(settings, "next_item", COST_MS)
    for one in made:
        one.fit(fresh, "ndcg@5")
    assert cascade_curve(made, fresh, "ndcg@5")
    assert on == [GreedyCombiner, CascadeCombiner]


def test_where_a_member_more_helps_nothing_the_way_names_each_size_once(predictions):
    """Half of the halves' ways stand still: the first of a size counts, with its own quality."""
    costs = {name: Cost(score_ms=cost, params=1) for name, cost in COST_MS.items()}
    way = [_linear("m0"), _linear("m0", "m1"), _linear("m0", "m1"), _linear("m0", "m1", "m2"),
           _linear(*COST_MS)]  # fmt: skip
    greedy = _Way(way)
    unseen = UnseenUsers(predictions, "ndcg@5", "m0", 200, 0)
    unseen.way = lambda _: [0.1, 0.2, 0.3, 0.4]
    [fitted] = fit_all([greedy], predictions, "ndcg@5", unseen)
    found = way_options(costs, [fitted], predictions, "ndcg@5", unseen)
    assert [(o.name, o.quality) for o in found] == [("greedy of 2", 0.2), ("greedy of 3", 0.4)]


class _Way(GreedyCombiner):
    """Greedy selection whose way is given."""

    def __init__(self, way):
        super().__init__()
        object.__setattr__(self, "given", way)

    def path(self, predictions, metric):
        return self.given


def _linear(*names: str) -> Linear:
    return Linear(normalization="none", weights={name: 1 / len(names) for name in names})


def options(predictions: Predictions, rival: str) -> list:
    costs = {name: Cost(score_ms=cost, params=1) for name, cost in COST_MS.items()}
    unseen = UnseenUsers(predictions, "ndcg@5", "m0", 200, 0, rival)
    fitted = list(fit_all([GreedyCombiner()], predictions, "ndcg@5", unseen))
    values = {
        name: quality(part, predictions.requests, "ndcg@5")
        for name, part in predictions.scores.items()
    }
    made = make_options(costs, fitted, values, "m0")
    return [*made, *way_options(costs, fitted, predictions, "ndcg@5", unseen)]


def test_a_cascades_latency_is_that_of_its_stages_one_after_the_other(predictions):
    costs = {name: Cost(score_ms=cost, params=1) for name, cost in COST_MS.items()}
    unseen = UnseenUsers(predictions, "ndcg@5", "m0", 200, 0)
    combiner = CascadeCombiner(COST_MS, keep=0.5)
    [cascade] = list(fit_all([combiner], predictions, "ndcg@5", unseen))
    stages = cascade.combination.asked
    assert len(stages) > 1
    made = make_options(costs, [cascade], {"m0": 0.3}, "m0")
    found = next(option for option in made if option.name == "cascade")
    assert found.latency_ms == sum(max(COST_MS[name] for name in stage) for stage in stages)
    assert found.latency_ms > max(COST_MS[name] for stage in stages for name in stage)
    assert found.work_ms == cascade.combination.expected_cost_ms()


def test_a_cascade_within_a_limit_of_latency_has_stages_that_add_up_to_it(predictions):
    """Without the limit these members make a cascade that is slower than the slowest of them."""
    limit = 4.0
    some = {name: part for name, part in predictions.scores.items() if COST_MS[name] <= limit}
    free = CascadeCombiner(COST_MS, keep=0.5).fit(replace(predictions, scores=some), "ndcg@5")
    budget = Budget(max_latency_ms=limit, score_ms=COST_MS)
    base = GreedyCombiner(budget=budget)
    kept = CascadeCombiner(COST_MS, keep=0.5, base=base).fit(predictions, "ndcg@5")
    free_ms, kept_ms = (
        sum(max(COST_MS[name] for name in stage) for stage in made.asked) for made in (free, kept)
    )
    assert kept_ms <= limit < free_ms


def test_points_of_the_way_have_the_quality_on_users_that_fitted_no_weights(predictions):
    """Each half's way is judged on the other half, by hand."""
    found = {option.name: option for option in options(predictions, "m0")}
    assert "greedy of 2" in found
    assert "greedy of 1" not in found
    user = predictions.requests.user
    halves = [predictions.take(np.flatnonzero(user % 2 == fold)) for fold in (0, 1)]
    values = [
        quality(
            GreedyCombiner().path(one, "ndcg@5")[1].merge(other.scores, None),
            other.requests,
            "ndcg@5",
        )
        for one, other in (halves, halves[::-1])
    ]
    two = found["greedy of 2"]
    assert two.quality == pytest.approx(np.mean(values), abs=1e-6)
    assert (two.members, two.gain) == (2, None)


def test_the_gain_within_a_budget_is_paired_with_the_best_member_within_it(predictions):
    """The mean moves by the difference of the two members, and the interval with the pairing."""
    over_best = next(o for o in options(predictions, "m0") if o.name == "greedy")
    over_rival = next(o for o in options(predictions, "m4") if o.name == "greedy")
    qualities = [
        quality(predictions.scores[name], predictions.requests, "ndcg@5") for name in ("m0", "m4")
    ]
    moved = over_rival.gain.mean - over_best.gain.mean
    assert moved == pytest.approx(qualities[0] - qualities[1])
    assert over_rival.quality == over_best.quality


def test_a_copy_of_the_rival_gains_nothing_for_sure_however_noisy_the_best_is(predictions):
    """Unpaired, a combination that is the rival itself would have the width of two members."""
    unseen = UnseenUsers(predictions, "ndcg@5", "m0", 200, 0, "m4")
    only = replace(predictions, scores={"m4": predictions.scores["m4"]})
    over_best, over_rival = unseen.gain(_Always(GreedyCombiner().fit(only, "ndcg@5")))
    assert (over_rival.mean, over_rival.low, over_rival.high) == (0, 0, 0)
    assert over_best.low < over_best.mean < 0


class _Always:
    name, tasks = "always", frozenset({"next_item"})

    def __init__(self, made):
        self.made = made

    def fit(self, predictions, metric):
        return self.made


def test_bags_and_sorted_start_of_the_experiment_reach_greedy_selection():
    settings = Ensemble.model_validate({"bags": 20, "sorted_start": 5, "combiners": NAMES})
    made = {one.name: one for one in make_combiners(settings, "next_item", COST_MS)}
    assert (made["greedy"].bags, made["greedy"].start) == (20, 5)
    assert (made["gate"].base.bags, made["cascade"].base.bags) == (1, 1)
    assert (made["gate"].base.start, made["cascade"].base.start) == (5, 5)
