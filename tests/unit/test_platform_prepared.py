"""Prepared runs: what is there and still fits is kept, what does not fit is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from penchant.platform.config import Experiment
from penchant.platform.errors import ConfigError, DataError
from penchant.platform.prepared import (
    JUDGED_BLOCKS,
    experiment_digest,
    open_prepared,
    prepare,
)
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block

BASE = {
    "name": "small",
    "time": {"quantiles": {"select": 0.5, "blend": 0.7, "test": 0.9}},
    "members": [{"kind": "popularity"}],
}


@pytest.fixture
def csv(tmp_path) -> Path:
    lines = [f"u{u},i{(u + t) % 7},{t * 60_000 + u},{t % 2}" for u in range(5) for t in range(40)]
    path = tmp_path / "events.csv"
    path.write_text("\n".join(["user,item,time,value", *lines]) + "\n")
    return path


def experiment(csv: Path, **sections) -> Experiment:
    columns = {name: name for name in ("user", "item", "time", "value")}
    events = {"paths": [str(csv)], "columns": columns, "time_unit": "ms"}
    return Experiment.model_validate(BASE | {"data": {"events": events}} | sections)


def test_an_opened_run_is_the_prepared_one(csv, tmp_path):
    settings = experiment(
        csv,
        requests={"per_block": 20, "seed": 3},
        search={"windows": [{}], "sizes": [{}], "base": {"kind": "sequence"}},
    )
    made = prepare(settings, RunDirectory(tmp_path / "run"))
    opened = open_prepared(RunDirectory(tmp_path / "run"))
    assert opened.experiment == settings
    assert opened.blocks == made.blocks
    assert len(opened.catalog.item_ids) == opened.log.num_items == 7
    for block in JUDGED_BLOCKS:
        start, end = made.blocks.span_ms(block)
        asked = opened.requests[block]
        assert len(asked) <= 20
        assert ((asked.time_ms >= start) & (asked.time_ms < end)).all()
        np.testing.assert_array_equal(asked.row, made.requests[block].row)


def test_blocks_from_dates_use_the_spans_of_the_log(csv, tmp_path):
    dates = {
        "select": "1970-01-01T00:10:00",
        "blend": "1970-01-01T00:20:00",
        "test": "1970-01-01T00:30:00",
    }
    made = prepare(experiment(csv, time={"dates": dates}), RunDirectory(tmp_path / "run"))
    assert made.blocks.span_ms(Block.TRAIN) == (0, 600_000)
    assert made.blocks.span_ms(Block.TEST) == (1_800_000, 39 * 60_000 + 5)


def test_what_shapes_members_is_in_the_digest_and_the_rest_is_not(csv):
    plain = experiment(csv)
    same = [
        {"ensemble": {"seed": 9}},
        {"resources": {"workers": 3}},
        {"members": [{"kind": "personal"}]},
        {"refit": True},
        {"name": "another"},
    ]
    other = [
        {"requests": {"seed": 1}},
        {"requests": {"per_block": 5}},
        {"time": {"quantiles": {"select": 0.5, "blend": 0.7, "test": 0.8}}},
    ]
    digests = {experiment_digest(experiment(csv, **change)) for change in same}
    assert digests == {experiment_digest(plain)}
    others = {experiment_digest(experiment(csv, **change)) for change in other}
    assert len(others) == 3
    assert not others & digests


@pytest.mark.parametrize(
    ("sections", "error", "message"),
    [
        ({"requests": {"metric": "auc"}}, ConfigError, "expected one of ndcg@k, .* got 'auc'"),
        ({"requests": {"unit": "group"}}, ConfigError, "unit is `group`, but the events have no"),
        ({"requests": {"per_block": 10**9}}, ConfigError, r"are more scores than .*\.per_block"),
        (
            {
                "time": {
                    "dates": {"select": "2001-01-01", "blend": "2002-01-01", "test": "2003-01-01"}
                }
            },
            ConfigError,
            r"time\.blocks: expected train < select",
        ),
        (
            {
                "time": {
                    "dates": {
                        "select": "1970-01-01T00:10:00.010",
                        "blend": "1970-01-01T00:10:00.020",
                        "test": "1970-01-01T00:30:00",
                    }
                }
            },
            DataError,
            "block select .* holds no request",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(sections, error, message, csv, tmp_path):
    with pytest.raises(error, match=message):
        prepare(experiment(csv, **sections), RunDirectory(tmp_path / "run"))


GROUPED = {"kind": "sequence", "tokens": "group"}


@pytest.mark.parametrize(
    ("sections", "fits"),
    [
        ({"members": [GROUPED]}, False),
        ({"search": {"windows": [{}], "sizes": [{}], "base": GROUPED}}, False),
        ({"members": [GROUPED | {"tokens": "event"}]}, True),
        ({"members": [GROUPED], "requests": {"unit": "group"}}, True),
    ],
)
def test_a_network_of_whole_groups_is_not_asked_in_their_midst(csv, tmp_path, sections, fits):
    """It would be scored in states that it was never trained in."""
    rows = csv.read_text().splitlines()
    grouped = [f"{row},g{number // 4}" for number, row in enumerate(rows[1:])]
    csv.write_text("\n".join([f"{rows[0]},group", *grouped]))
    settings = experiment(csv, **sections).model_dump(mode="json", exclude_unset=True)
    settings["data"]["events"]["columns"]["group"] = "group"
    made = Experiment.model_validate(settings)
    if fits:
        prepare(made, RunDirectory(tmp_path / "run"))
    else:
        with pytest.raises(ConfigError, match="Set `tokens: event`, or ask `unit: group`"):
            prepare(made, RunDirectory(tmp_path / "run"))


def test_other_events_are_refused_though_the_log_of_those_before_is_gone(csv, tmp_path):
    run = RunDirectory(tmp_path / "run")
    prepare(experiment(csv), run)
    run.member("one").mkdir(parents=True)
    shutil.rmtree(run.log)
    prepare(experiment(csv), run)  # the same ones are read again
    shutil.rmtree(run.log)
    csv.write_text(csv.read_text().replace("i3", "x3"))
    with pytest.raises(DataError, match="fitted on other events"):
        prepare(experiment(csv), run)
