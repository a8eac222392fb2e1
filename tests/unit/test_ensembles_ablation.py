"""What a combination loses without each of its members."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from penchant.ensembles import predictions
from penchant.ensembles.combinations import combination as combinations
from penchant.ensembles.combinations.combination import combine
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combiners.average import MeanCombiner
from penchant.ensembles.comparing import ablation
from penchant.ensembles.comparing.ablation import ablate
from penchant.ensembles.comparing.judge import Judge
from penchant.ensembles.normalize import normalize
from penchant.ensembles.predictions import Predictions
from penchant.platform.requests import all_requests
from penchant.platform.timeline import Block


@pytest.fixture
def blocks(world):
    """Yes-or-no answers: `good` knows them, `noise` does not; on blend and on test."""
    here = world("binary")
    requests = all_requests(here.log, here.spec, here.until_ms, 2**62)
    random = np.random.default_rng(0)
    draw = random.normal(size=(2, len(requests), 1)).astype(np.float32)
    scores = {"good": draw[0] + 4 * requests.label[:, None] - 2, "noise": draw[1]}
    return [
        Predictions(block=block, requests=requests, scores=scores)
        for block in (Block.BLEND, Block.TEST)
    ]


def dropped(blocks, combination: Linear):
    blend, test = blocks
    judge = Judge(test.requests, None, "auc", 100, seed=0)
    whole = judge.sheet(combine(combination, test.scores))
    found = ablate(MeanCombiner(), combination, blend, test, "auc", judge, whole)
    return found, judge


def test_without_the_good_member_much_is_lost_and_without_noise_something_is_won(blocks):
    found, judge = dropped(blocks, MeanCombiner().fit(blocks[0], "auc"))
    assert found.how == "refit"
    changes = {part.member: part.change for part in found.members}
    assert changes["good"].high < 0 < changes["noise"].low
    left = judge.target(judge.sheet(blocks[1].scores["noise"])).mean
    both = judge.target(judge.sheet(sum(blocks[1].scores.values()))).mean
    assert changes["good"].mean == pytest.approx(left - both)


def test_of_very_many_scores_members_are_left_out_and_weights_stay(blocks, monkeypatch):
    monkeypatch.setattr(ablation, "_CELLS", 10)
    found, judge = dropped(
        blocks, Linear(normalization="none", weights={"good": 0.3, "noise": 0.7})
    )
    assert found.how == "left out"
    assert [(part.member, part.share) for part in found.members] == [("noise", 0.7), ("good", 0.3)]
    alone = judge.target(judge.sheet(blocks[1].scores["good"])).mean
    mixed = 0.3 * blocks[1].scores["good"] + 0.7 * blocks[1].scores["noise"]
    assert found.members[0].change.mean == pytest.approx(
        alone - judge.target(judge.sheet(mixed)).mean, abs=1e-6
    )


def test_a_combination_of_one_has_nothing_to_drop(blocks):
    assert dropped(blocks, Linear(normalization="none", weights={"good": 1.0}))[0] is None


@pytest.mark.parametrize("cells", [10, 10**9])
def test_test_is_normalised_once_however_many_members_are_dropped(blocks, monkeypatch, cells):
    """Three members: one pass over each, not one for every pair, and the figures stay."""
    blend, test = (
        replace(
            block, scores={**block.scores, "more": block.scores["good"] ** 2}, normalization=how
        )
        for block, how in zip(blocks, ("rank", "none"), strict=True)
    )
    combination = Linear(normalization="rank", weights={"good": 0.5, "noise": 0.3, "more": 0.2})
    monkeypatch.setattr(ablation, "_CELLS", cells)
    passes: list[int] = []

    def counted(scores, how):
        passes.append(1)
        return normalize(scores, how)

    monkeypatch.setattr(predictions, "normalize", counted)
    monkeypatch.setattr(combinations, "normalize", counted)
    found, judge = dropped((blend, test), combination)
    assert len(passes) == 3 + 3  # and three for what the whole was worth
    for part in found.members:
        rest = {name: scores for name, scores in test.scores.items() if name != part.member}
        left = combination
        if found.how == "refit":
            left = MeanCombiner().fit(
                replace(blend, scores={n: blend.scores[n] for n in rest}), "auc"
            )
        expected = judge.target_difference(
            judge.sheet(combine(left, rest)), judge.sheet(combine(combination, test.scores))
        )
        assert part.change == expected
