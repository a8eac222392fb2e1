"""Scores of any models, from a table alone: combined, compared, and told about."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import ndcg_score, roc_auc_score

from penchant.ensembles.comparing.foreign import compare_scores, look_closer, read_scores
from penchant.ensembles.comparing.segments import segments_of_requests
from penchant.platform.errors import ConfigError, DataError


def drawn(
    strengths=(1.0, 1.0), users: int = 80, per_user: int = 4, candidates: int = 12, seed: int = 0
) -> pl.DataFrame:
    """Requests of half the size in each block; each model sees the one target with own noise."""
    random = np.random.default_rng(seed)
    number = users * per_user
    request = np.repeat(np.arange(number), candidates)
    target = np.zeros((number, candidates), dtype=np.int64)
    target[np.arange(number), random.integers(candidates, size=number)] = 1
    flat = target.reshape(-1)
    models = {
        f"m{at}": random.normal(size=len(flat)) + strength * flat
        for at, strength in enumerate(strengths)
    }
    return pl.DataFrame(
        {
            "request": request,
            "user": request % users,
            "time": request * 1000,
            "candidate": np.tile(np.arange(candidates), number),
            "target": flat,
            "block": np.where(request < number // 2, "blend", "test"),
            **models,
        }
    )


def answers(size: int = 1200, seed: int = 0) -> pl.DataFrame:
    """One candidate a request; both models see the label with noise of their own."""
    random = np.random.default_rng(seed)
    label = random.integers(2, size=size)
    odds = {name: random.normal(size=size) + 1.5 * label - 0.75 for name in ("a", "b")}
    return pl.DataFrame(
        {
            "request": np.arange(size),
            "user": np.arange(size) % 100,
            "time": np.arange(size),
            "candidate": np.arange(size) % 7,
            "target": label,
            "block": np.where(np.arange(size) < size // 2, "blend", "test"),
            **odds,
        }
    )


def test_models_with_noise_of_their_own_are_better_together():
    scores = read_scores(drawn())
    found = compare_scores(scores.blend, scores.test, "ndcg@10", bootstrap=200)
    assert {made.combiner for made in found.comparison.candidates} == {"mean", "greedy"}
    for made in found.comparison.candidates:
        assert made.blend_gain.low > 0
        assert made.difference["ndcg@10"].low > 0
    assert found.comparison.recommended is not None
    assert found.verdict().startswith(f"Use {found.comparison.recommended.combiner} of 2 models")
    assert found.notes == ["cut-offs unknown, so a leak cannot be ruled out: m0, m1"]


def test_the_table_holds_what_a_peer_library_measures():
    """With ten candidates the top ten are all of them."""
    scores = read_scores(drawn(candidates=10))
    found = compare_scores(scores.blend, scores.test, "ndcg@10", bootstrap=100)
    table = found.table()
    assert table["name"].to_list() == ["m0", "m1", "mean", "greedy"]
    assert table["models"].to_list()[:3] == [1, 1, 2]
    values = dict(zip(table["name"], table["ndcg@10"], strict=True))
    assert {name: values[name] for name in ("m0", "m1")} == pytest.approx(peer_ndcg(scores.test))
    peer = peer_ndcg(scores.blend)
    assert found.comparison.blend == pytest.approx(peer)
    assert found.comparison.best_single == max(peer, key=peer.get)
    gain = values["mean"] - values[found.comparison.best_single]
    assert table["gain"][2] == pytest.approx(gain)
    assert table["gain"][0] is None


def peer_ndcg(predictions) -> dict[str, float]:
    """scikit-learn's NDCG over all candidates of each request."""
    truth = np.zeros((len(predictions.requests), 10))
    truth[np.arange(len(truth)), predictions.requests.target] = 1
    return {name: ndcg_score(truth, part) for name, part in predictions.scores.items()}


def test_a_binary_task_is_compared_by_its_own_metric():
    scores = read_scores(answers(), task="binary")
    found = compare_scores(scores.blend, scores.test, "auc", bootstrap=200)
    for name, table in found.comparison.members.items():
        expected = roc_auc_score(scores.test.requests.label, scores.test.scores[name][:, 0])
        assert table["auc"].mean == pytest.approx(expected)
    assert {made.combiner for made in found.comparison.candidates} == {"mean", "greedy"}
    assert found.comparison.candidates[0].combination.normalization == "none"
    with pytest.raises(ConfigError, match="ndcg@10"):
        compare_scores(scores.blend, scores.test, "ndcg@10")


def test_weights_are_not_fitted_on_a_handful_of_labels():
    scores = read_scores(answers(size=300), task="binary")
    found = compare_scores(scores.blend, scores.test, "auc", combiners=["greedy"], bootstrap=100)
    assert [made.combiner for made in found.comparison.candidates] == ["mean"]
    assert "blend: fewer than 200 labels of one kind: no weights are fitted" in found.notes


def test_repeats_are_told_apart_only_where_they_are_known():
    frame = drawn()
    scores = read_scores(frame)
    found = compare_scores(scores.blend, scores.test, "ndcg@10", bootstrap=100)
    assert set(found.comparison.members["m0"]) == {"ndcg@10", "recall@10", "hr@10", "mrr@10"}
    told = read_scores(frame.with_columns(seen=pl.col("candidate") < 6))
    found = compare_scores(told.blend, told.test, "ndcg@10", seen=told.seen, bootstrap=100)
    assert {"ndcg@10/repeat", "ndcg@10/explore"} <= set(found.comparison.members["m0"])


def test_requests_without_a_target_are_left_out_of_scores_and_of_seen():
    frame = drawn().with_columns(
        seen=pl.col("candidate") < 6,
        target=pl.when(pl.col("request") % 10 == 9).then(0).otherwise("target"),
    )
    scores = read_scores(frame)
    found = compare_scores(scores.blend, scores.test, "hr@3", seen=scores.seen, bootstrap=100)
    rest = read_scores(frame.filter(pl.col("request") % 10 != 9))
    expected = compare_scores(rest.blend, rest.test, "hr@3", seen=rest.seen, bootstrap=100)
    assert found.notes[:2] == [
        f"{block}: 16 of 160 requests have no target and are left out"
        for block in ("blend", "test")
    ]
    assert found.table().drop("p", "ceiling").equals(expected.table().drop("p"))


def test_where_requests_were_left_out_their_share_is_a_ceiling_beside_the_metric():
    """One in ten requests has its target among no candidates: the metric is at most .9 of all."""
    frame = drawn().with_columns(
        target=pl.when(pl.col("request") % 10 == 9).then(0).otherwise("target"),
    )
    scores = read_scores(frame)
    found = compare_scores(scores.blend, scores.test, "hr@3", bootstrap=100)
    assert set(found.table()["ceiling"]) == {0.9}
    assert "10.0% of the requests of test have no target" in found.to_markdown()
    told = {one["block"]: one for one in found.to_json()["ceilings"]}
    assert [told[block]["answerable"] for block in ("blend", "test")] == [0.9, 0.9]
    assert (told["test"]["requests"], told["test"]["targets"]) == (160, 144)


def test_one_model_has_nothing_to_be_combined_with():
    scores = read_scores(drawn(strengths=(1.0,)))
    found = compare_scores(scores.blend, scores.test, "ndcg@10", bootstrap=100)
    assert found.comparison.candidates == []
    assert found.comparison.recommended is None
    assert found.table()["name"].to_list() == ["m0"]
    assert found.verdict().startswith("Use m0 alone")
    assert found.notes[0] == "blend: m0 is the only member: there is nothing to combine"


def test_a_constant_model_and_few_users_are_told():
    scores = read_scores(drawn(users=20).with_columns(m1=0.5))
    found = compare_scores(scores.blend, scores.test, "ndcg@10", bootstrap=100)
    assert [note.partition(",")[0] for note in found.notes[:4]] == [
        "blend: m1: constant scores",
        "blend: 20 users",
        "test: m1: constant scores",
        "test: 20 users",
    ]
    assert found.comparison.best_single == "m0"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"combiners": ["oracle"]}, "combiners: Input should be 'mean'.*, got 'oracle'"),
        ({"bootstrap": 3}, "bootstrap: Input should be greater than or equal to 100, got 3"),
    ],
)
def test_unknown_options_are_refused(options, message):
    scores = read_scores(drawn())
    with pytest.raises(ConfigError, match=message):
        compare_scores(scores.blend, scores.test, "ndcg@10", **options)


def test_predictions_made_by_hand_are_checked_as_tables_are():
    scores = read_scores(drawn())
    scores.blend.scores["m0"][3, 2] = np.nan
    with pytest.raises(DataError, match="m0 has 1 scores that are NaN"):
        compare_scores(scores.blend, scores.test, "ndcg@10")


def test_a_closer_look_parts_test_by_users_and_weeks_and_drops_each_model():
    """What `m1` brings is the difference to a comparison of a table without it."""
    frame = drawn().with_columns(time=pl.col("time") * 5000)  # 18 days
    scores = read_scores(frame)
    first = compare_scores(scores.blend, scores.test, "ndcg@10", bootstrap=200)
    assert (first.comparison.segments, first.comparison.ablation) == ([], [])
    found = look_closer(first, scores, bootstrap=200).comparison
    for by in ("users", "week"):
        parts = [part for part in found.segments if part.by == by]
        assert len(parts) > (by == "week")
        assert sum(part.requests for part in parts) == len(scores.test.requests)
        for made in found.candidates:
            gains = [part.differences[made.combiner].mean * part.requests for part in parts]
            whole = made.difference["ndcg@10"].mean
            assert sum(gains) / len(scores.test.requests) == pytest.approx(whole)
    [apart] = found.ablation
    assert apart.how == "refit"
    best = next(made for made in found.candidates if made.combiner == apart.combination)
    for part in apart.members:
        rest = next(name for name in scores.test.scores if name != part.member)
        change = found.members[rest]["ndcg@10"].mean - best.test["ndcg@10"].mean
        assert part.change.mean == pytest.approx(change)


def test_users_who_were_not_asked_in_blend_are_a_segment():
    random = np.random.default_rng(0)
    user, known = random.integers(30, size=50), np.arange(50) % 3 > 0
    requests = replace(
        read_scores(drawn()).test.requests.take(np.arange(50)), user=user.astype(np.int32)
    )
    found = {(part.by, part.name): part.requests for part in segments_of_requests(requests, known)}
    assert found["users", "new"].tolist() == np.flatnonzero(~known).tolist()
    assert found["users", "asked before"].tolist() == np.flatnonzero(known).tolist()


def test_what_was_found_goes_into_json_and_markdown():
    scores = read_scores(drawn())
    first = compare_scores(scores.blend, scores.test, "ndcg@10", bootstrap=100)
    found = look_closer(first, scores, bootstrap=100)
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["recommended"] == found.comparison.recommended.combiner
    assert {"segments", "ablation", "diversity"} <= set(told)
    gain = found.comparison.candidates[0].difference["ndcg@10"].mean
    assert told["combinations"][0]["difference"]["ndcg@10"]["mean"] == gain
    text = found.to_markdown()
    assert text.startswith(found.verdict())
    for row in found.table().rows(named=True):
        assert f"| {row['name']} | {row['models']} | {row['ndcg@10']:.4f} |" in text
    assert "### Segments of test" in text
    assert "without each of its models" in text
    assert "### Segments" not in first.to_markdown()


def test_a_binary_task_is_looked_at_closer_too():
    scores = read_scores(answers(), task="binary")
    found = compare_scores(scores.blend, scores.test, "auc", bootstrap=100)
    closer = look_closer(found, scores, bootstrap=100)
    assert {part.by for part in closer.comparison.segments} >= {"week"}
    assert closer.to_json()["ablation"][0]["ensemble"] in {"mean", "greedy"}
