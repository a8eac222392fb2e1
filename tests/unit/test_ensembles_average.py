"""The mean of the best few."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.ensembles.average import MeanCombiner
from penchant.ensembles.predictions import Predictions
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block


@pytest.fixture
def predictions() -> Predictions:
    """One request for item 0 of seven; member k puts it on place k + 1."""
    scores = {}
    for name, place in {"c": 2, "a": 0, "e": 4, "b": 1, "d": 3, "f": 5}.items():
        row = np.arange(7, 0, -1, dtype=np.float32)
        row[1 : place + 1] += 1  # these pass item 0
        row[0] = 7 - place - 0.5 + (place == 0)
        scores[name] = row[None]
    requests = Requests(
        row=np.zeros(1, dtype=np.int64),
        user=np.zeros(1, dtype=np.int32),
        time_ms=np.zeros(1, dtype=np.int64),
        end=np.zeros(1, dtype=np.int64),
        target_offsets=np.array([0, 1]),
        target=np.array([0], dtype=np.int32),
        target_seen=np.zeros(1, dtype=np.bool_),
    )
    return Predictions(block=Block.BLEND, requests=requests, scores=scores)


@pytest.mark.parametrize(
    ("top", "chosen"), [(1, "a"), (3, "abc"), (5, "abcde"), (6, "abcdef"), (99, "abcdef")]
)
def test_the_best_few_on_blend_weigh_the_same(top, chosen, predictions):
    weights = MeanCombiner(top=top).fit(predictions, "mrr@10").shares
    assert weights == pytest.approx({name: 1 / len(chosen) for name in chosen})
    assert list(weights) == list(chosen)  # best first


def test_five_by_default():
    assert MeanCombiner().top == 5
