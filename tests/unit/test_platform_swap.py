"""A log is whole or absent, kept while it is right, and shows no user's id if asked so."""

import hashlib
import hmac
import json
from pathlib import Path

import polars as pl
import pytest

from penchant.platform.config import Data, Files
from penchant.platform.errors import ConfigError, DataError
from penchant.platform.events import EventLog, read_log_card, read_user_ids
from penchant.platform.ingest import ingest
from penchant.platform.swap import workspace


def data_of(path: Path, columns: tuple[str, ...], unit: str = "s", **settings) -> Data:
    mapped = {name: name for name in columns}
    return Data(events=Files(paths=(str(path),), columns=mapped, time_unit=unit), **settings)


def load(folder: Path, rows: list[dict], **settings) -> dict:
    """Ingest rows from one Parquet file."""
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(folder / "events.parquet")
    data = data_of(folder / "events.parquet", tuple(rows[0]), **settings)
    return ingest(data, folder / "run" / "log", folder / "run" / "quarantine.parquet")


def test_a_log_is_kept_until_its_source_or_settings_change(tmp_path):
    rows = [{"user": 1, "item": 2, "time": 3}, {"user": 1, "item": 2, "time": 3}]
    told: list[str] = []
    first = load(tmp_path, rows)
    data = data_of(tmp_path / "events.parquet", ("user", "item", "time"))
    place = tmp_path / "run" / "log", tmp_path / "run" / "quarantine.parquet"
    assert ingest(data, *place, progress=told.append) == first == read_log_card(place[0])
    assert told == ["kept the log of 2 events: settings and files are the same"]
    merged = ingest(data.model_copy(update={"merge": True}), *place)
    assert merged["events"] == 1
    again = load(tmp_path, [*rows, {"user": 4, "item": 2, "time": 3}])
    assert again["events"] == 3
    place[1].unlink()
    ingest(data, *place)
    assert place[1].exists()


def test_a_failed_build_leaves_the_earlier_log_and_no_traces(tmp_path):
    load(tmp_path, [{"user": 1, "item": 2, "time": 3}])
    with pytest.raises(DataError, match="none of 1 rows can be used .*time missing: 1"):
        load(tmp_path, [{"user": 1, "item": 2, "time": None}])
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["log", "quarantine.parquet"]
    assert EventLog.open(tmp_path / "run" / "log").num_events == 1


def test_what_a_killed_build_left_is_removed(tmp_path):
    left = tmp_path / "run" / ".log-building-gone" / "parts"
    left.mkdir(parents=True)
    load(tmp_path, [{"user": 1, "item": 2, "time": 3}])
    assert not left.parent.exists()


def test_a_build_that_is_alive_is_left_alone(tmp_path):
    with workspace(tmp_path / "log") as one, workspace(tmp_path / "log") as other:
        assert one != other
        assert one.is_dir()
        assert other.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_other_files_is_never_replaced(tmp_path):
    place = tmp_path / "run" / "log"
    place.mkdir(parents=True)
    (place / "thesis.tex").touch()
    with pytest.raises(DataError, match="holds files but no event log"):
        load(tmp_path, [{"user": 1, "item": 2, "time": 3}])
    assert (place / "thesis.tex").exists()


def test_user_ids_are_kept_as_keyed_hashes_in_log_and_quarantine(tmp_path, monkeypatch):
    rows = [{"user": 42, "item": 1, "time": 1}, {"user": 42, "item": None, "time": 1}]
    monkeypatch.setenv("KEY", "secret")
    load(tmp_path, rows, hash_users_with="KEY")
    expected = hmac.new(b"secret", b"42", hashlib.sha256).hexdigest()[:32]
    assert read_user_ids(tmp_path / "run" / "log") == [expected]
    assert pl.read_parquet(tmp_path / "run" / "quarantine.parquet")["user"].item() == expected
    assert "secret" not in json.dumps(read_log_card(tmp_path / "run" / "log"))
    monkeypatch.setenv("KEY", "another")
    load(tmp_path, rows, hash_users_with="KEY")
    assert read_user_ids(tmp_path / "run" / "log") != [expected]


def test_a_key_that_is_not_set_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("KEY", raising=False)
    with pytest.raises(ConfigError, match="environment variable KEY, which is not set"):
        load(tmp_path, [{"user": 1, "item": 2, "time": 3}], hash_users_with="KEY")
