"""Earlier origins ask the same questions, one length of `test` earlier each time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from penchant.platform.config import Experiment
from penchant.platform.errors import ConfigError
from penchant.platform.origins import earlier_experiments


def experiment(**time: object) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "x",
            "data": {"source": "groceries"},
            "time": time,
            "members": [{"kind": "popularity"}],
            "refit": True,
        }
    )


DATES = {"select": "2017-10-01", "blend": "2017-11-01", "test": "2017-12-01", "end": "2017-12-31"}


def test_dates_move_back_by_the_length_of_test() -> None:
    earlier = earlier_experiments(experiment(dates=DATES, origins=3))
    assert [then.time.dates["test"] for then in earlier] == [
        datetime(2017, 11, 1),
        datetime(2017, 10, 2),
    ]
    assert earlier[0].time.dates["end"] == datetime(2017, 12, 1)
    assert earlier[1].time.dates["select"] == datetime(2017, 8, 2)


def test_dates_with_and_without_a_zone_may_stand_together() -> None:
    dates = DATES | {"end": "2017-12-31T00:00:00Z"}
    (then,) = earlier_experiments(experiment(dates=dates, origins=2))
    assert then.time.dates["test"] == datetime(2017, 11, 1, tzinfo=UTC)
    assert then.time.dates["end"] == datetime(2017, 12, 1, tzinfo=UTC)


def test_quantiles_move_back_and_get_an_end() -> None:
    (then,) = earlier_experiments(
        experiment(quantiles={"select": 0.7, "blend": 0.8, "test": 0.9}, origins=2)
    )
    assert then.time.quantiles == {"select": 0.6, "blend": 0.7, "test": 0.8, "end": 0.9}


def test_an_earlier_origin_has_no_origins_and_no_refit_of_its_own() -> None:
    (then,) = earlier_experiments(experiment(dates=DATES, origins=2))
    assert (then.time.origins, then.refit) == (1, False)
    assert earlier_experiments(then) == []


@pytest.mark.parametrize(
    ("time", "words"),
    [
        ({"dates": {k: v for k, v in DATES.items() if k != "end"}, "origins": 2}, "no `end`"),
        ({"quantiles": {"select": 0.3, "blend": 0.5, "test": 0.7}, "origins": 3}, "fewer origins"),
    ],
)
def test_origins_that_cannot_be_are_refused(time: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        earlier_experiments(experiment(**time))
