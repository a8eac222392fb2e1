"""What combiners are fitted on, and how their results are put together: quicker, and the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from penchant.ensembles.combinations.combination import combine
from penchant.ensembles.combiners.combiner import quality
from penchant.ensembles.comparing.fitting import fit_all, fittable, merged
from penchant.ensembles.comparing.unseen import UnseenUsers, half_of
from penchant.ensembles.predictions import Predictions
from penchant.platform.config import Ensemble
from penchant.platform.errors import ConfigError
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block

SETTINGS = Ensemble(combiners=("mean", "rank_mean", "greedy", "weights", "layers"), bootstrap=200)


def asked(target: np.ndarray, users: int) -> Requests:
    """A request for each target; users come one after the other."""
    size = len(target)
    return Requests(
        row=np.arange(size),
        user=(np.arange(size) % users).astype(np.int32),
        time_ms=np.zeros(size, dtype=np.int64),
        end=np.zeros(size, dtype=np.int64),
        target_offsets=np.arange(size + 1),
        target=target.astype(np.int32),
        target_seen=np.zeros(size, dtype=np.bool_),
    )


@pytest.fixture
def pool() -> Predictions:
    """Three members of 400 requests; users of both halves come one after the other."""
    random, size, width = np.random.default_rng(3), 400, 15
    target = random.integers(0, width, size)
    scores = {}
    for name, strength in (("a", 1.5), ("b", 1.2), ("c", 0.0)):
        part = random.normal(size=(size, width))
        part[np.arange(size), target] += strength
        scores[name] = (10 * part + 3).astype(np.float32)
    return Predictions(block=Block.BLEND, requests=asked(target, users=90), scores=scores)


def test_halves_come_one_after_the_other_and_nothing_is_lost(pool: Predictions) -> None:
    blend, combiners = fittable(pool, SETTINGS, "ndcg@10", None, lambda _: None)
    assert [combiner.name for combiner in combiners] == list(SETTINGS.combiners)
    assert blend.normalization == SETTINGS.normalize
    half = half_of(blend.requests)
    assert (np.diff(half) >= 0).all()
    assert sorted(blend.requests.row) == list(range(400))
    expected = pool.take(blend.requests.row).normalized(SETTINGS.normalize)
    for name, scores in expected.scores.items():
        np.testing.assert_array_equal(blend.scores[name], scores)


def test_the_order_of_requests_changes_no_gain_and_no_weight(pool: Predictions) -> None:
    blend, combiners = fittable(pool, SETTINGS, "ndcg@10", None, lambda _: None)
    as_it_was = pool.normalized(SETTINGS.normalize)
    found = [
        list(fit_all(combiners, some, "ndcg@10", UnseenUsers(some, "ndcg@10", "a", 200, 0)))
        for some in (blend, as_it_was)
    ]
    for ordered, other in zip(*found, strict=True):
        assert ordered.gain.mean == pytest.approx(other.gain.mean, abs=1e-6)
        assert ordered.gain.low == pytest.approx(other.gain.low, abs=1e-6)
        assert ordered.combination.shares == pytest.approx(dict(other.combination.shares), abs=1e-4)


def test_scores_that_were_normalised_once_for_all_give_what_each_alone_gives(
    pool: Predictions,
) -> None:
    blend, combiners = fittable(pool, SETTINGS, "ndcg@10", None, lambda _: None)
    normal = pool.normalized(blend.normalization)
    for combiner in combiners:
        made = combiner.fit(blend, "ndcg@10")
        expected = combine(made, pool.scores, pool.facts)
        np.testing.assert_array_equal(merged(made, pool, normal), expected)
    alone = combiners[2].fit(replace(blend, scores={"b": blend.scores["b"]}), "ndcg@10")
    np.testing.assert_array_equal(merged(alone, pool, normal), pool.scores["b"])


def answers(pool: Predictions) -> Predictions:
    """The same members' log-odds of one candidate, with as many yes as no."""
    size = len(pool.requests)
    requests = replace(
        pool.requests,
        target_offsets=np.zeros(size + 1, dtype=np.int64),
        target=np.zeros(0, dtype=np.int32),
        target_seen=np.zeros(0, dtype=np.bool_),
        candidate=np.zeros(size, dtype=np.int32),
        label=(np.arange(size) % 2).astype(np.float32),
    )
    scores = {name: part[:, :1] for name, part in pool.scores.items()}
    return replace(pool, requests=requests, scores=scores)


@pytest.mark.parametrize("asked", [("rank_mean",), ("reciprocal_rank", "rank_mean")])
def test_combiners_of_which_none_suits_the_task_are_refused(pool: Predictions, asked) -> None:
    words = rf"combiners: {', '.join(asked)} cannot be used here \(binary requests .* of mean, med"
    with pytest.raises(ConfigError, match=words) as told:
        fittable(answers(pool), Ensemble(combiners=asked), "auc", {"a": 1.0}, lambda _: None)
    suited = str(told.value).partition("at least one of ")[2]
    assert "cascade" in suited
    assert "rank_mean" not in suited


def test_a_cascade_alone_is_refused_where_no_time_is_known(pool: Predictions) -> None:
    with pytest.raises(ConfigError, match="cascade cannot be used here") as told:
        fittable(pool, Ensemble(combiners=("cascade",)), "ndcg@10", None, lambda _: None)
    assert "rank_mean" in str(told.value).partition("at least one of ")[2]


def test_a_combiner_that_is_left_out_is_told(pool: Predictions) -> None:
    told: list[str] = []
    settings = Ensemble(combiners=("mean", "rank_mean", "cascade"))
    _, combiners = fittable(answers(pool), settings, "auc", None, told.append)
    assert [combiner.name for combiner in combiners] == ["mean"]
    assert told[0] == (
        "combiners left out: rank_mean, cascade (binary requests give candidates no places; "
        "a cascade needs the time that each model takes)"
    )


@pytest.mark.parametrize("metric", ["recall@20", "recall@50", "recall@100"])
def test_an_average_is_worth_on_the_shortlist_what_it_is_worth_on_everything(metric: str) -> None:
    """The targets are on it; so must be what averages of unlike members put above them."""
    random, size, width = np.random.default_rng(0), 300, 3000
    target = random.integers(0, width, size)
    scores = {}
    for name in ("a", "b", "c", "d", "e"):
        part = random.normal(size=(size, width)).astype(np.float32)
        part[np.arange(size), target] += 0.8
        scores[name] = part
    requests = asked(target, users=size)
    whole = Predictions(block=Block.BLEND, requests=requests, scores=scores)
    settings = Ensemble(combiners=("mean",), bootstrap=200)
    short, [mean] = fittable(whole, settings, metric, None, lambda _: None)
    assert short.scores["a"].shape[1] < width
    made = mean.fit(short, metric)
    on_everything = quality(combine(made, whole.scores), requests, metric)
    on_the_shortlist = quality(made.merge(short.scores, None), short.requests, metric)
    assert on_the_shortlist == pytest.approx(on_everything, abs=0.01)
