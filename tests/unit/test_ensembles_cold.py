"""Items outside the catalogue on the catalogue's scale, by hand; averages alone can do it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from penchant.ensembles.artefacts.cold import combine_cold, merges_cold
from penchant.ensembles.combinations.cascade import Cascade, Stage
from penchant.ensembles.combinations.combination import combine
from penchant.ensembles.combinations.gated import Gated, Split
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combinations.stacked import Stacked
from penchant.ensembles.combiners.average import Median
from penchant.ensembles.combiners.fusion import RankMean, ReciprocalRank
from penchant.ensembles.normalize import normalize, normalize_beside

INF = np.float32(np.inf)
HOWS = ("zscore", "softmax", "rank")


def row(*values: float) -> np.ndarray:
    return np.array([values], dtype=np.float32)


def drawn(width: int = 12) -> np.ndarray:
    return np.random.default_rng(0).normal(3, 5, size=(40, width)).astype(np.float32)


def test_a_z_score_takes_mean_and_spread_of_the_known():
    # mean 2, standard deviation sqrt(2)
    found = normalize_beside(row(0, 2, 12), row(0, 2, 2, 4), "zscore")
    np.testing.assert_allclose(found, np.array([[-2, 0, 10]]) / math.sqrt(2), rtol=1e-6)


def test_a_softmax_gives_the_share_as_one_item_more():
    known = row(0, math.log(2), math.log(5))  # powers 1, 2, 5
    found = normalize_beside(row(math.log(2), math.log(8), -1e30), known, "softmax")
    np.testing.assert_allclose(found, [[2 / 10, 8 / 16, 0]], rtol=1e-6)


def test_a_rank_is_that_of_its_equals_or_midway_between_its_neighbours():
    known = row(5, 9, 5, 1)  # 0.5, 1, 0.5, 0
    found = normalize_beside(row(5, 9, 1), known, "rank")
    np.testing.assert_allclose(found, [[0.5, 1, 0]], atol=1e-6)
    # Places from 0: 9, then 5 and 5 at 1 and 2, then 1 at 3; one step is a third.
    between = normalize_beside(row(10, 7, 3, 0), known, "rank")
    np.testing.assert_allclose(between, [[1 + 0.5 / 3, 1 - 0.5 / 3, 0.5 / 3, -0.5 / 3]], atol=1e-6)


@pytest.mark.parametrize("how", ["zscore", "rank"])
def test_a_score_that_a_known_item_has_is_worth_what_that_is(how):
    scores = drawn()
    np.testing.assert_allclose(
        normalize_beside(scores, scores, how), normalize(scores, how), atol=1e-6
    )


@pytest.mark.parametrize("how", HOWS)
def test_the_order_holds_among_the_items_and_beside_the_known(how):
    """Ranks may tie: two items between the same neighbours."""
    known, more = drawn(), drawn(20)[:, 12:]
    found, place = normalize_beside(more, known, how), normalize(known, how)
    rising = np.take_along_axis(found, np.argsort(more, axis=1), axis=1)
    assert (np.diff(rising, axis=1) >= 0).all()
    if how != "softmax":  # where a share of its own is always less than that of a known twin
        assert ((found[:, :, None] > place[:, None]) == (more[:, :, None] > known[:, None])).all()


@pytest.mark.parametrize("how", HOWS)
def test_what_is_not_asked_for_changes_nothing(how):
    known, more = drawn(), drawn(20)[:, 12:]
    padded = np.insert(known, [0, 5, 12], -INF, axis=1)
    expected = normalize_beside(more, known, how)
    np.testing.assert_allclose(normalize_beside(more, padded, how), expected, atol=1e-6)


@pytest.mark.parametrize("how", HOWS)
def test_it_is_finite_beside_equals_beside_nothing_and_far_out(how):
    for known in (row(7, 7, 7), row(-INF, -INF), row(-1e30, 0, 1e30)):
        assert np.isfinite(normalize_beside(row(-1e20, 7, 1e20), known, how)).all()


@pytest.mark.parametrize("how", [*HOWS, "none"])
def test_the_type_is_that_of_scores(how):
    assert normalize_beside(drawn(), drawn(), how).dtype == np.float32


def test_weights_of_members_that_cannot_read_go_to_the_others():
    linear = Linear(normalization="zscore", weights={"own": 0.5, "a": 0.375, "b": 0.125})
    known = {"own": row(9, 1), "a": row(0, 2), "b": row(0, 4)}  # a: mean 1, 1; b: mean 2, 2
    found = combine_cold(linear, {"a": row(3, 1), "b": row(-2, 2)}, known)
    np.testing.assert_allclose(found, [[0.75 * 2 + 0.25 * -2, 0]], atol=1e-6)


def test_an_item_with_the_scores_of_a_known_one_has_its_score():
    linear = Linear(normalization="zscore", weights={"a": 0.25, "b": 0.75})
    known = {"a": drawn(), "b": drawn(24)[:, 12:]}
    np.testing.assert_allclose(
        combine_cold(linear, known, known), combine(linear, known), atol=1e-6
    )


def test_one_member_alone_passes_unchanged_whatever_combines_it():
    alone = RankMean(normalization="zscore", members=("a",), depth=50)
    np.testing.assert_array_equal(combine_cold(alone, {"a": row(7, 3)}, {}), row(7, 3))


def test_log_odds_need_no_known_scores():
    linear = Linear(normalization="none", weights={"a": 0.25, "b": 0.75})
    found = combine_cold(linear, {"a": row(4), "b": row(0)}, {})
    np.testing.assert_allclose(found, [[1]])


def test_a_median_is_that_of_the_members_that_read():
    median = Median(normalization="none", members=("own", "a", "b"))
    np.testing.assert_allclose(combine_cold(median, {"a": row(4), "b": row(0)}, {}), [[2]])


def test_a_gate_weighs_by_the_request():
    gated = Gated(
        normalization="none",
        splits=[Split(fact="history_events", edges=[5.0])],
        weights=[{"a": 1.0}, {"own": 0.5, "a": 0.125, "b": 0.375}],
        sizes=[0.5, 0.5],
    )
    cold = {"a": np.float32([[4], [4]]), "b": np.float32([[0], [0]])}
    facts = np.float32([[1, 0, 0, 0, 0], [9, 0, 0, 0, 0]])
    np.testing.assert_allclose(combine_cold(gated, cold, {}, facts), [[4], [1]])


def test_others_need_all_members():
    names = ("a", "b")
    stages = [
        Stage(weights={"a": 1.0}, least_certainty=1.0, reached=1.0),
        Stage(weights={"a": 0.5, "b": 0.5}, least_certainty=None, reached=0.5),
    ]
    half = {"a": 0.5, "b": 0.5}
    for combination in (
        RankMean(normalization="zscore", members=names, depth=50),
        ReciprocalRank(normalization="zscore", members=names, depth=50, k=60),
        Stacked(normalization="zscore", counts=half, base=half, num_facts=0),
        Cascade(
            normalization="zscore",
            signal="margin",
            k=1,
            stages=stages,
            cost_ms={"a": 1.0, "b": 2.0},
        ),
    ):
        assert not merges_cold(combination)
        with pytest.raises(TypeError, match="only averages"):
            combine_cold(combination, {"a": row(1)}, {"a": row(1, 2)})
