"""Greedy selection against Caruana's algorithm written down apart, and against every multiset."""

from __future__ import annotations

import json
import runpy
from collections import Counter
from dataclasses import replace
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss

from penchant.ensembles.combiners.combiner import quality
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.predictions import Predictions
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block

CASES = runpy.run_path(str(Path(__file__).with_name("autogluon_selection.py")))
ORACLE = json.loads(CASES["PLACE"].read_text())


def blend(seed: int, members: int, *, binary: bool = False, size: int = 60) -> Predictions:
    random = np.random.default_rng(seed)
    label = (random.random(size) < 0.4).astype(np.float32)
    target = random.integers(0, 8, size).astype(np.int32)
    scores = {}
    for at, strength in enumerate(random.random(members) * 1.5):
        part = random.normal(size=(size, 1 if binary else 8))
        if binary:
            part[:, 0] += strength * (2 * label - 1)
        else:
            part[np.arange(size), target] += strength
        scores[f"m{at}"] = part.astype(np.float32)
    requests = Requests(
        row=np.arange(size),
        user=np.arange(size, dtype=np.int32),
        time_ms=np.zeros(size, dtype=np.int64),
        end=np.zeros(size, dtype=np.int64),
        target_offsets=np.zeros(size + 1, dtype=np.int64) if binary else np.arange(size + 1),
        target=np.zeros(0, dtype=np.int32) if binary else target,
        target_seen=np.zeros(0 if binary else size, dtype=np.bool_),
        candidate=np.zeros(size, dtype=np.int32) if binary else None,
        label=label if binary else None,
    )
    return Predictions(block=Block.BLEND, requests=requests, scores=scores)


def value_of(predictions: Predictions, chosen: list[str], metric: str) -> float:
    """Quality of the plain mean of the chosen members' scores."""
    mean = np.mean([predictions.scores[name].astype(np.float64) for name in chosen], axis=0)
    return quality(mean.astype(np.float32), predictions.requests, metric)


def caruana(predictions: Predictions, metric: str, rounds: int) -> dict[str, float]:
    """Selection with replacement as in AutoGluon's EnsembleSelection, ties to the first.

    Each round adds the member whose addition makes the mean best; after the last round the
    ensemble is cut back to the first round at which it was best.
    """
    chosen: list[str] = []
    trajectory = []
    for _ in range(rounds):
        values = [value_of(predictions, [*chosen, m], metric) for m in predictions.scores]
        chosen.append(list(predictions.scores)[int(np.argmax(values))])
        trajectory.append(max(values))
    best = chosen[: int(np.argmax(trajectory)) + 1]
    return {name: count / len(best) for name, count in Counter(best).items()}


@pytest.mark.parametrize("metric", ["ndcg@5", "mrr@8", "auc", "log_loss", "brier"])
@pytest.mark.parametrize("seed", range(5))
def test_selection_is_caruanas(seed, metric):
    predictions = blend(seed, members=5, binary="@" not in metric)
    found = GreedyCombiner(max_rounds=12, patience=12).fit(predictions, metric).shares
    assert found == pytest.approx(caruana(predictions, metric, rounds=12))


@pytest.mark.parametrize("metric", ["ndcg@5", "log_loss"])
def test_two_rounds_are_the_best_pair_that_holds_the_best_member(metric):
    """Every multiset of two is tried."""
    for seed in range(8):
        predictions = blend(seed, members=4, binary=metric == "log_loss")
        single = max(predictions.scores, key=lambda m: value_of(predictions, [m], metric))
        pairs = [p for p in combinations_with_replacement(predictions.scores, 2) if single in p]
        best = max(value_of(predictions, list(pair), metric) for pair in pairs)
        found = GreedyCombiner(max_rounds=2).fit(predictions, metric).shares
        chosen = [m for m, weight in found.items() for _ in range(round(2 * weight))]
        assert value_of(predictions, chosen, metric) == pytest.approx(best)


def test_it_is_never_below_the_best_single_and_near_the_best_multiset_of_four():
    for seed in range(8):
        predictions = blend(seed, members=4)
        found = GreedyCombiner(max_rounds=4, patience=4).fit(predictions, "ndcg@5").shares
        size = next(n for n in range(1, 5) if all(round(n * w, 9) % 1 == 0 for w in found.values()))
        mine = value_of(
            predictions, [m for m, w in found.items() for _ in range(round(size * w))], "ndcg@5"
        )
        singles = [value_of(predictions, [m], "ndcg@5") for m in predictions.scores]
        everything = [
            value_of(predictions, list(multiset), "ndcg@5")
            for n in range(1, 5)
            for multiset in combinations_with_replacement(predictions.scores, n)
        ]
        assert max(singles) <= mine <= max(everything)
        assert mine >= max(singles) + 0.5 * (max(everything) - max(singles))


def test_log_odds_are_averaged_and_not_added_up():
    """The sum of good log-odds is overconfident: judged by it, adding a twin would look bad."""
    random = np.random.default_rng(0)
    odds = random.normal(0, 1.5, 4000)
    predictions = blend(0, members=1, binary=True, size=4000)
    label = (random.random(4000) < 1 / (1 + np.exp(-odds))).astype(np.float32)
    noise = random.normal(0, 1.0, (3, 4000))
    scores = {f"m{i}": (odds + noise[i]).astype(np.float32)[:, None] for i in range(3)}
    requests = Requests(**(vars(predictions.requests) | {"label": label}))
    fitted = (
        GreedyCombiner()
        .fit(Predictions(block=Block.BLEND, requests=requests, scores=scores), "log_loss")
        .shares
    )
    assert set(fitted) == set(scores)  # three independent errors: the mean of all is best
    mean = np.mean([part[:, 0] for part in scores.values()], axis=0)
    single = min(log_loss(label, 1 / (1 + np.exp(-part[:, 0]))) for part in scores.values())
    assert log_loss(label, 1 / (1 + np.exp(-mean))) < single - 0.02


def test_equal_members_do_not_share_the_weight_of_one():
    """The first of equals is taken, and adding it again gains nothing."""
    predictions = blend(3, members=1)
    twins = {"first": predictions.scores["m0"], "second": predictions.scores["m0"].copy()}
    found = (
        GreedyCombiner()
        .fit(Predictions(block=Block.BLEND, requests=predictions.requests, scores=twins), "ndcg@5")
        .shares
    )
    assert found == {"first": 1.0}


def test_it_ends_after_some_rounds_without_a_gain(monkeypatch):
    calls = []
    predictions = blend(3, members=2, binary=True)

    def counted(scores, requests, metric):
        calls.append(metric)
        return 0.0

    monkeypatch.setattr("penchant.ensembles.combiners.greedy.quality", counted)
    assert GreedyCombiner(patience=5).fit(predictions, "auc").shares == {"m0": 1.0}
    assert len(calls) == 2 * 6  # the first round, and five without a gain
    calls.clear()
    GreedyCombiner(max_rounds=3).fit(predictions, "auc")
    assert len(calls) == 2 * 3


@pytest.mark.parametrize("one", ORACLE["cases"], ids=str)
def test_selection_is_what_autogluon_itself_selected(one):
    """Its weights are kept in a file beside; `autogluon_selection.py` makes it, and the cases."""
    weights = one["weights"]
    predictions = autogluon_case(**{key: one[key] for key in one.keys() - {"weights"}})
    rounds = ORACLE["rounds"]
    found = GreedyCombiner(max_rounds=rounds, patience=rounds).fit(predictions, one["metric"])
    assert found.shares == pytest.approx(weights)


def autogluon_case(metric: str, seed: int, size: int, twins: bool) -> Predictions:
    scores, truth = CASES["case"](metric, seed, size, twins)
    requests = blend(seed, members=1, binary="@" not in metric, size=size).requests
    told = {"target": truth} if requests.label is None else {"label": truth.astype(np.float32)}
    return Predictions(block=Block.BLEND, requests=replace(requests, **told), scores=scores)


def test_a_sorted_start_takes_the_best_first():
    """With no rounds left to choose, the best prefix of the members by quality is what remains."""
    for seed in range(6):
        predictions = blend(seed, members=5)
        alone = {m: value_of(predictions, [m], "ndcg@5") for m in predictions.scores}
        ranked = sorted(alone, key=lambda m: -alone[m])
        prefixes = [ranked[:n] for n in range(1, 5)]
        values = [round(value_of(predictions, prefix, "ndcg@5"), 6) for prefix in prefixes]
        best = prefixes[values.index(max(values))]
        found = GreedyCombiner(start=4, max_rounds=4).fit(predictions, "ndcg@5").shares
        assert found == pytest.approx({name: 1 / len(best) for name in best})


def test_bags_are_averaged_selections_from_halves():
    """Of two members a half is one: bags of one member each, weighed by how often it was drawn."""
    predictions = blend(1, members=2)
    found = GreedyCombiner(bags=8).fit(predictions, "ndcg@5").shares
    assert all(round(8 * share, 9) % 1 == 0 for share in found.values())
    assert 0 < found["m0"] < 1  # both were drawn
    assert GreedyCombiner(bags=8).fit(predictions, "ndcg@5").shares == found


def test_bagging_keeps_the_weights_of_a_dominant_member_large():
    predictions = blend(0, members=4, size=200)
    perfect = predictions.scores["m0"].copy()
    perfect[np.arange(200), predictions.requests.target] += 50
    predictions = replace(predictions, scores=dict(predictions.scores) | {"m9": perfect})
    assert GreedyCombiner().fit(predictions, "mrr@5").shares == {"m9": 1.0}
    assert GreedyCombiner(bags=20).fit(predictions, "mrr@5").shares["m9"] > 0.4


def test_a_sample_decides_what_is_added_and_all_requests_where_to_stop():
    """Requests beyond the sample where only m0 is right end the way before the second member."""
    predictions = blend(2, members=2, size=60)
    plain = GreedyCombiner(sample=60).fit(predictions, "ndcg@5").shares
    assert GreedyCombiner(sample=10**6).fit(predictions, "ndcg@5").shares == plain
    right = predictions.scores["m0"].copy()
    right[np.arange(60), predictions.requests.target] += 50
    wrong = {"m0": right, "m1": 1000 * predictions.scores["m1"]}
    spoilt = replace(predictions, scores=wrong)
    assert GreedyCombiner(sample=7, start=2).fit(spoilt, "ndcg@5").shares == {"m0": 1.0}
