"""The sample that judges an epoch is spread over all of `select`."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.platform.requests import Requests
from penchant.trainers.sequence.judging import judged_requests


@pytest.mark.parametrize("size", [0, 7, 999, 1000, 1001, 1900, 2000, 3781])
def test_it_reaches_from_the_first_request_to_the_last(size: int) -> None:
    """They stand user by user: the first thousand are the first users."""
    select = Requests(
        row=np.arange(size),
        user=np.arange(size, dtype=np.int32),
        time_ms=np.zeros(size, dtype=np.int64),
        end=np.zeros(size, dtype=np.int64),
        target_offsets=np.arange(size + 1),
        target=np.zeros(size, dtype=np.int32),
        target_seen=np.zeros(size, dtype=np.bool_),
    )
    row = judged_requests(select).row
    assert len(row) == min(size, 1000)
    assert len(np.unique(row)) == len(row)
    if size:
        assert row[0] == 0
        assert row[-1] >= size - -(-size // 1000)
