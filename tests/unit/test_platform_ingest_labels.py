"""Labels on their way into the log: kept where given, refused where odd, absent where absent."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from penchant.platform import ingest as ingest_module
from penchant.platform.config import Data, Files
from penchant.platform.errors import ConfigError, DataError
from penchant.platform.events import EventLog, read_log_card, read_user_ids
from penchant.platform.ingest import ingest
from penchant.platform.schema import LOG_SCHEMA

BARE = ("user", "item", "time")
ALL = (*BARE, "label", "label_time")


def load(folder: Path, frame: pl.DataFrame, columns=ALL, unit="s", **settings) -> EventLog:
    folder.mkdir(exist_ok=True)
    frame.write_parquet(folder / "e.parquet")
    files = Files(
        paths=(str(folder / "e.parquet"),), columns={c: c for c in columns}, time_unit=unit
    )
    ingest(Data(events=files, **settings), folder / "log", folder / "q.parquet")
    return EventLog.open(folder / "log")


def table(rows: list[tuple], columns=ALL) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=list(columns), orient="row", infer_schema_length=None)


def test_labels_come_through_with_their_times(tmp_path):
    rows = [(1, "a", 5, 1, 9), (1, "b", 6, None, None), (1, "c", 7, 0, None), (1, "d", 8, 1, None)]
    log = load(tmp_path, table(rows))
    np.testing.assert_array_equal(log.label, np.array([1, np.nan, 0, 1], dtype=np.float32))
    assert log.label.dtype == np.float32
    assert log.label_ms.tolist() == [9000, 6000, 7000, 8000]  # at the event where not given
    assert not log.label.flags.owndata


def test_a_label_without_a_label_time_is_known_at_the_event(tmp_path):
    log = load(tmp_path, table([(1, "a", 5, True), (1, "a", 6, None)], ALL[:4]), ALL[:4])
    np.testing.assert_array_equal(log.label, [1, np.nan])
    assert log.label_ms is None


def test_labels_follow_their_users_into_shards(tmp_path, monkeypatch):
    rows = [(u, f"i{t}", t, (u + t) % 2 if t % 3 else None, t + u) for t in range(9, -1, -1)
            for u in range(20)]  # fmt: skip
    whole = load(tmp_path / "one", table(rows))
    monkeypatch.setattr(ingest_module, "EVENTS_PER_SHARD", 40)
    monkeypatch.setattr("penchant.platform.table_files.BATCH_ROWS", 7)
    parts = load(tmp_path / "many", table(rows))
    assert len(read_log_card(tmp_path / "many" / "log")["shards"]) > 1
    for folder, log in (("one", whole), ("many", parts)):
        users = read_user_ids(tmp_path / folder / "log")
        found = {
            (int(users[u]), int(t) // 1000): (None if np.isnan(y) else int(y), int(k) // 1000)
            for u, t, y, k in zip(log.user, log.time_ms, log.label, log.label_ms, strict=True)
        }
        assert found == {(u, t): (y, known) for u, _, t, y, known in rows}


def test_merging_keeps_labels_and_joins_only_equal_ones(tmp_path):
    rows = [(1, "a", 5, 1, 9)] * 2 + [(1, "a", 5, None, None)] * 2 + [(1, "a", 5, 0, None)]
    log = load(tmp_path, table(rows), merge=True)
    np.testing.assert_array_equal(log.label, [1, np.nan, 0])
    assert log.value.tolist() == [2, 2, 1]


def test_odd_labels_are_refused_with_their_reasons(tmp_path):
    (tmp_path / "e.csv").write_text(
        "user,item,time,label,label_time\n"
        "u,a,2020-01-01,1,2020-01-05\n"
        "u,a,2020-01-02,,\n"
        "u,a,2020-01-03,2,\n"
        "u,a,2020-01-04,yes,\n"
        "u,a,2020-01-05,0.5,\n"
        "u,a,2020-01-06,1,soon\n"
        "u,a,2020-01-07,1,1850-01-01\n"
        "u,a,2020-01-08, 0 , \n"
    )
    files = Files(paths=(str(tmp_path / "e.csv"),), columns={c: c for c in ALL})
    card = ingest(Data(events=files), tmp_path / "log", tmp_path / "q.parquet")
    assert pl.read_parquet(tmp_path / "q.parquet").select("row", "reason", "label").rows() == [
        (3, "label neither 0 nor 1", "2"),
        (4, "label neither 0 nor 1", "yes"),
        (5, "label neither 0 nor 1", "0.5"),
        (6, "label_time cannot be read", "1"),
        (7, "label_time out of range (before 1900 or after 2200)", "1"),
    ]
    assert card["rows_read"] == 8 == card["events"] + card["quarantined"]
    np.testing.assert_array_equal(EventLog.open(tmp_path / "log").label, [1, np.nan, 0])


def test_a_label_column_without_any_value_asks_nothing(tmp_path):
    log = load(tmp_path, table([(1, "a", 5, None, None)]))
    assert np.isnan(log.label).all()
    assert log.label_ms.tolist() == [5000]


def test_columns_of_types_that_cannot_be_labels_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"'label' \(label\) has the type Date, expected a number"):
        load(tmp_path, table([(1, "a", 5, date(2020, 1, 1), 9)]))
    with pytest.raises(ConfigError, match=r"'label_time' holds numbers .* Set data.events.time_u"):
        load(tmp_path, table([(1, "a", date(2020, 1, 1), 1, 9)]), unit="auto")


def test_a_log_without_labels_is_as_if_there_were_none(tmp_path):
    frame = table([(1, "a", 5, 1, 9), (2, "b", 6, None, None)])
    log = load(tmp_path / "with", frame, BARE)
    load(tmp_path / "without", frame.select(BARE), BARE)
    assert log.label is None
    assert log.label_ms is None
    for name in ("events-00000.arrow", "users.arrow", "items.arrow"):
        one, two = ((tmp_path / f / "log" / name).read_bytes() for f in ("with", "without"))
        assert one == two
    columns = pl.read_ipc_schema(tmp_path / "with" / "log" / "events-00000.arrow")
    assert list(columns) == list(LOG_SCHEMA)[:4] == ["item", "time", "type", "value"]
    card = read_log_card(tmp_path / "with" / "log")
    assert not any("label" in name for name in card)
