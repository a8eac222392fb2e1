"""Nothing is lost: each row is in the log, merged into one of its rows, or in the quarantine."""

import random
from pathlib import Path

import polars as pl
import pytest

from penchant.platform.config import Data, Files
from penchant.platform.errors import DataError
from penchant.platform.events import EventLog
from penchant.platform.ingest import ingest


def data_of(path: Path, columns: tuple[str, ...], unit: str = "s", **settings) -> Data:
    mapped = {name: name for name in columns}
    return Data(events=Files(paths=(str(path),), columns=mapped, time_unit=unit), **settings)


def test_nothing_is_lost_and_every_refused_row_is_kept_with_its_reason(tmp_path):
    (tmp_path / "a.csv").write_text(
        "user,item,time,value,group\n"
        "u1,a,2020-01-01,1,\n"
        ",a,2020-01-01,1,g\n"
        "u1,  ,2020-01-01,1,g\n"
        "u1,a,,1,g\n"
        "u1,a,yesterday,1,g\n"
        "u1,a,1850-01-01,1,g\n"
        "u1,a,2020-01-01,,g\n"
        "u1,a,2020-01-01,much,g\n"
        "u1,a,2020-01-01,inf,g\n"
        "u1,a,2020-01-02,2,g\n"
        "u1,a,2020-01-02,3,g\n"
    )
    columns = ("user", "item", "time", "value", "group")
    data = data_of(tmp_path / "a.csv", columns, unit="auto", merge=True)
    card = ingest(data, tmp_path / "log", tmp_path / "q.parquet")
    assert (card["rows_read"], card["events"], card["quarantined"], card["merged"]) == (11, 2, 8, 1)
    refused = pl.read_parquet(tmp_path / "q.parquet")
    assert refused.select("row", "reason").rows() == [
        (2, "user missing"),
        (3, "item missing"),
        (4, "time missing"),
        (5, "time cannot be read"),
        (6, "time out of range (before 1900 or after 2200)"),
        (7, "value missing"),
        (8, "value not a number"),
        (9, "value not a number"),
    ]
    assert refused["time"].to_list()[3] == "yesterday"
    assert set(refused["file"]) == {str(tmp_path / "a.csv")}
    assert card["reasons"]["value not a number"] == 2
    assert sum(card["reasons"].values()) == card["quarantined"]


@pytest.mark.parametrize("seed", range(3))
def test_counts_add_up_whatever_is_missing(seed, tmp_path):
    draw = random.Random(seed)
    rows = [
        {"user": draw.randrange(5), "item": f"i{draw.randrange(4)}", "time": 0, "value": 2.5}
        for _ in range(300)
    ]
    for row in rows:
        if draw.random() < 0.2:
            row[draw.choice(["user", "item", "time", "value"])] = None
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(tmp_path / "e.parquet")
    data = data_of(tmp_path / "e.parquet", ("user", "item", "time", "value"), merge=True)
    card = ingest(data, tmp_path / "log", tmp_path / "q.parquet")
    log = EventLog.open(tmp_path / "log")
    assert card["quarantined"] > 0
    assert card["merged"] > 0
    assert card["rows_read"] == 300 == card["events"] + card["quarantined"] + card["merged"]
    assert log.num_events == card["events"]
    refused = pl.read_parquet(tmp_path / "q.parquet")
    kept = [row for at, row in enumerate(rows, start=1) if at not in set(refused["row"])]
    assert log.value.sum() == sum(row["value"] for row in kept)


def test_no_refused_row_still_writes_an_empty_quarantine(tmp_path):
    pl.DataFrame({"user": [1], "item": [2], "time": [3]}).write_parquet(tmp_path / "e.parquet")
    data = data_of(tmp_path / "e.parquet", ("user", "item", "time"))
    ingest(data, tmp_path / "log", tmp_path / "q.parquet")
    refused = pl.read_parquet(tmp_path / "q.parquet")
    assert refused.height == 0
    assert refused.columns[:3] == ["file", "row", "reason"]


def test_a_source_without_rows_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("user,item,time\n")
    data = data_of(tmp_path / "a.csv", ("user", "item", "time"))
    with pytest.raises(DataError, match="found no rows"):
        ingest(data, tmp_path / "log", tmp_path / "q.parquet")
