"""Bad predictions are refused with what, where and how many; odd ones are told, never mended."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from penchant.ensembles.comparing.checks import check_blocks, check_cutoffs, check_predictions
from penchant.ensembles.predictions import Predictions
from penchant.platform.errors import DataError
from penchant.platform.requests import Requests
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block


def requests(size: int = 60, *, users: int = 60, start_ms: int = 0, targets=None) -> Requests:
    """One target a request, item 0, unless `targets` says how many each has."""
    counts = np.ones(size, dtype=np.int64) if targets is None else np.array(targets)
    number = int(counts.sum())
    return Requests(
        row=np.arange(size) + start_ms,
        user=(np.arange(size) % users).astype(np.int32),
        time_ms=np.arange(size) + start_ms,
        end=np.zeros(size, dtype=np.int64),
        target_offsets=np.concatenate([[0], np.cumsum(counts)]),
        target=np.zeros(number, dtype=np.int32),
        target_seen=np.zeros(number, dtype=np.bool_),
    )


def made(asked: Requests | None = None, block: Block = Block.BLEND, names="abc") -> Predictions:
    asked = requests() if asked is None else asked
    random = np.random.default_rng(0)
    scores = {name: random.normal(size=(len(asked), 4)).astype(np.float32) for name in names}
    return Predictions(block=block, requests=asked, scores=scores)


def binary(label: list[int]) -> Predictions:
    size = len(label)
    asked = replace(
        requests(size, targets=[0] * size),
        candidate=np.zeros(size, dtype=np.int32),
        label=np.array(label, dtype=np.float32),
    )
    odds = np.linspace(-1, 1, size, dtype=np.float32)[:, None]
    return Predictions(block=Block.BLEND, requests=asked, scores={"a": odds, "b": -odds})


def test_good_predictions_pass_as_they_are_without_a_note():
    predictions = made()
    for part in predictions.scores.values():
        part[3, 2] = -np.inf  # not asked for, of any member
    judged, notes = check_predictions(predictions)
    assert judged is predictions
    assert notes == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused_by_member_count_and_first_request(bad):
    predictions = made()
    predictions.scores["b"][7, 1:3] = bad
    predictions.scores["b"][9, 0] = bad
    expected = r"blend: b has 3 scores that are NaN or infinite \(first: request 7\)\. Expected"
    with pytest.raises(DataError, match=expected):
        check_predictions(predictions)
    names = [f"order-{n}" for n in range(60)]
    with pytest.raises(DataError, match="first: request order-7"):
        check_predictions(predictions, names)


def test_a_few_bad_members_are_named_and_the_rest_counted():
    predictions = made(names="abcde")
    for part in predictions.scores.values():
        part[0, 0] = np.nan
    with pytest.raises(DataError, match=r"a has 1 .*; b has 1 .*; c has 1 .*; 2 more members"):
        check_predictions(predictions)


def test_a_log_odds_is_finite():
    predictions = binary([0, 1] * 30)
    predictions.scores["b"][5, 0] = -np.inf
    with pytest.raises(DataError, match=r"b has 1 scores .* \(first: request 5\)"):
        check_predictions(predictions)


def test_members_of_different_candidates_are_refused_with_how_many_differ():
    predictions = made()
    predictions.scores["c"][4, :2] = -np.inf
    with pytest.raises(DataError, match=r"c has 2 candidate\(s\) that .* \(first: request 4\)"):
        check_predictions(predictions)
    predictions = made()
    predictions.scores["b"] = predictions.scores["b"][:, :3]
    with pytest.raises(DataError, match=r"b has scores of shape \(60, 3\), a of \(60, 4\)"):
        check_predictions(predictions)


def test_a_request_id_that_comes_twice_is_refused():
    asked = requests()
    asked.row[[10, 20]] = asked.row[[5, 6]]
    with pytest.raises(DataError, match=r"2 request id\(s\) come more than once \(first: 5\)"):
        check_predictions(made(asked))


def test_requests_without_a_target_are_left_out_and_counted():
    asked = requests(5, targets=[1, 0, 2, 0, 1], users=5)
    judged, notes = check_predictions(made(asked))
    assert judged.requests.row.tolist() == [0, 2, 4]
    assert np.diff(judged.requests.target_offsets).tolist() == [1, 2, 1]
    assert notes[0] == "blend: 2 of 5 requests have no target and are left out"
    with pytest.raises(DataError, match="none of 2 requests has a target"):
        check_predictions(made(requests(2, targets=[0, 0])))


@pytest.mark.parametrize(("label", "yes"), [([0] * 60, 0), ([1] * 60, 60)])
def test_labels_of_one_kind_are_refused(label, yes):
    with pytest.raises(DataError, match=f"{yes} of 60 labels are yes, expected both kinds"):
        check_predictions(binary(label))


def test_constant_scores_are_told_and_stay():
    """Constant within each request orders nothing, even where requests differ."""
    predictions = made()
    predictions.scores["b"][:] = np.arange(60, dtype=np.float32)[:, None]
    for part in predictions.scores.values():
        part[0, 3] = -np.inf
    judged, notes = check_predictions(predictions)
    assert notes == ["blend: b: constant scores, which order nothing"]
    assert set(judged.scores) == {"a", "b", "c"}
    predictions.scores["b"][59, 0] += 1
    assert check_predictions(predictions)[1] == []


def test_a_constant_log_odds_is_told():
    predictions = binary([0, 1] * 30)
    predictions.scores["b"][:] = 0.3
    assert check_predictions(predictions)[1] == ["blend: b: constant scores, which order nothing"]


def test_one_member_has_nothing_to_be_combined_with():
    judged, notes = check_predictions(made(names="a"))
    assert notes == ["blend: a is the only member: there is nothing to combine"]
    assert list(judged.scores) == ["a"]
    with pytest.raises(DataError, match="got no member, expected at least one"):
        check_predictions(made(names=""))


def test_intervals_of_few_users_come_with_a_warning():
    assert check_predictions(made(requests(users=50)))[1] == []
    (note,) = check_predictions(made(requests(users=49)))[1]
    assert note.startswith("blend: 49 users, fewer than 50: take the intervals as rough")


def test_test_comes_after_blend():
    blend = made(requests(60))
    check_blocks(blend, made(requests(60, start_ms=60), Block.TEST))
    turned = made(requests(60, start_ms=60))
    with pytest.raises(DataError, match="60 of 60 requests of test are not later than"):
        check_blocks(turned, made(requests(60), Block.TEST))
    touching = requests(60, start_ms=60)
    touching.time_ms[:3] = 59
    with pytest.raises(DataError, match="3 of 60 requests of test are not later than"):
        check_blocks(blend, made(touching, Block.TEST))


def test_a_request_is_in_one_block():
    later = requests(60, start_ms=60)
    later.row[:2] = [8, 9]
    with pytest.raises(DataError, match=r"2 request\(s\) are in blend and in test \(first: 8\)"):
        check_blocks(made(), made(later, Block.TEST))


def test_both_blocks_have_requests_and_the_same_members():
    with pytest.raises(DataError, match=r"blend has 60 request\(s\) and test 0"):
        check_blocks(made(), made(requests(0), Block.TEST))
    other = made(requests(60, start_ms=60), Block.TEST, names="abx")
    with pytest.raises(DataError, match="c, x: scores in one block only"):
        check_blocks(made(), other)


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    """Members by cut-off; `old` is of a run that kept none."""
    run = RunDirectory(tmp_path)
    cutoffs = {"early": 900, "there": 1000, "late": 1001, "early@refit": 900, "old": None}
    for name, until in cutoffs.items():
        run.member(name).mkdir(parents=True)
        facts = {"train_s": 1.0} if until is None else {"train_s": 1.0, "until_ms": until}
        (run.member(name) / "metrics.json").write_text(json.dumps(facts))
    return run


def test_members_fitted_up_to_the_start_of_a_block_pass(run):
    assert check_cutoffs(run, ["early", "there"], Block.BLEND, 1000) == []


def test_a_member_fitted_past_the_start_of_a_block_is_a_leak(run):
    with pytest.raises(DataError, match=r"late was fitted on events up to 1970-01-01.*: a leak"):
        check_cutoffs(run, ["early", "late"], Block.BLEND, 1000)


def test_refits_are_for_serving_and_never_blended(run):
    with pytest.raises(DataError, match="early@refit is a refit"):
        check_cutoffs(run, ["early@refit"], Block.BLEND, 1000)
    assert check_cutoffs(run, ["early@refit"], Block.TEST, 1000) == []


def test_members_without_a_cutoff_on_record_are_told(run):
    (note,) = check_cutoffs(run, ["early", "old"], Block.BLEND, 1000)
    assert note == "old: no cut-off on record, so a leak cannot be ruled out"


def test_log_odds_that_look_like_probabilities_are_told():
    """Whoever brings scores from elsewhere has chances at hand, and every figure would be wrong."""
    predictions = binary([0, 1] * 30)
    chance = np.linspace(0, 1, 60, dtype=np.float32)[:, None]
    odds = np.linspace(-2, 2, 60, dtype=np.float32)[:, None]
    _, notes = check_predictions(replace(predictions, scores={"chance": chance, "odds": odds}))
    (told,) = [note for note in notes if "log-odds" in note]
    assert told.startswith("blend: chance: all scores lie between 0 and 1")
