"""What is promised: each level by itself, also where two need the same list or one needs none."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from penchant.ensembles.combinations.combination import combine
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.page.promise_tables import promises
from penchant.ensembles.predictions import Predictions
from penchant.ensembles.promises import assurance
from penchant.ensembles.promises.assurance import Assurance, assure, promise
from penchant.ensembles.promises.choose_calibrator import best_calibrator
from penchant.ensembles.promises.conformal import fit_top_set
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block


def block(name: Block, ranks: list[int]) -> Predictions:
    """Requests whose one target has these ranks, of four items."""
    size = len(ranks)
    requests = Requests(
        row=np.arange(size),
        user=np.arange(size).astype(np.int32),
        time_ms=np.zeros(size, dtype=np.int64),
        end=np.zeros(size, dtype=np.int64),
        target_offsets=np.arange(size + 1),
        target=np.array(ranks, dtype=np.int32) - 1,
        target_seen=np.zeros(size, dtype=np.bool_),
    )
    scores = np.tile(-np.arange(4, dtype=np.float32), (size, 1))
    return Predictions(block=name, requests=requests, scores={"a": scores})


@pytest.fixture
def assured(monkeypatch):
    """What can be promised after a blend block and a test block of these ranks."""

    def make(blend: list[int], test: list[int]) -> Assurance:
        blocks = {Block.BLEND: block(Block.BLEND, blend), Block.TEST: block(Block.TEST, test)}
        monkeypatch.setattr(assurance, "read_predictions", lambda _, name, __: blocks[name])
        alone = Linear(normalization="none", weights={"a": 1.0})
        return assure(SimpleNamespace(), alone, promise(SimpleNamespace(), {"a": alone})["a"])

    return make


def test_two_levels_that_need_the_same_list_are_both_promised(assured) -> None:
    """Nine requests: 80% needs the 8th smallest rank, 90% the 9th; both are 2."""
    found = assured([1] * 5 + [2] * 4, [1, 2, 2, 3])
    assert {level: kept.size for level, kept in found.sets.items()} == {0.8: 2, 0.9: 2}
    told = found.to_json()["sets"]
    assert [(one["promised"], one["size"]) for one in told] == [(0.8, 2), (0.9, 2)]
    assert [one["coverage"]["mean"] for one in told] == [0.75, 0.75]
    assert all(one["weeks"] for one in told)
    assert "90% was promised and 75.0% kept on test: 15.0 points under" in found.to_json()["drift"]


def test_combinations_are_promised_together_what_each_is_promised_alone(monkeypatch) -> None:
    """One of them has its members normalised, one takes a member's scores as they are."""
    blend = block(Block.BLEND, [1, 1, 2, 3, 1, 2, 1, 4, 2])
    draw = np.random.default_rng(0)
    scores = {name: draw.normal(size=(9, 4)).astype(np.float32) for name in ("a", "b")}
    blend = replace(blend, scores=scores)
    monkeypatch.setattr(assurance, "read_predictions", lambda *_: blend)
    both = {
        "single": Linear(normalization="none", weights={"a": 1.0}),
        "mean": Linear(normalization="zscore", weights={"a": 0.5, "b": 0.5}),
    }
    found = promise(SimpleNamespace(), both)
    for name, combination in both.items():
        merged = combine(combination, scores, None)
        assert found[name].calibrator == best_calibrator(merged, blend)
        sizes = [fit_top_set(merged, blend, level, "some").size for level in (0.8, 0.9)]
        assert [kept.size for kept in found[name].lists] == sizes


def test_a_level_that_too_few_requests_can_promise_is_told_as_such(assured) -> None:
    """Five requests: 80% needs the 5th of five (6 x .8 = 4.8), 90% the 6th (5.4)."""
    found = assured([1, 1, 1, 1, 3], [1, 4])
    assert {level: kept.size for level, kept in found.sets.items()} == {0.8: 3, 0.9: None}
    one, none = json.loads(json.dumps(found.to_json(), allow_nan=False))["sets"]
    assert one["coverage"]["mean"] == 0.5
    nothing = {"mean": None, "low": None, "high": None}
    assert none == {"size": None, "promised": 0.9, "coverage": nothing, "weeks": []}
    table = promises({"assurance": found.to_json()})
    assert table is not None
    assert [row[0].text for row in table.rows] == [
        "one of the first 3",
        "too few requests of blend for any list",
    ]
    assert [cell.text for cell in table.rows[1][2:]] == ["–", "–"]
