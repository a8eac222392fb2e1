"""Ingest: the order of events, groups, merging and ids, against a log that is made by hand."""

import random
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from penchant.platform import ingest as ingest_module
from penchant.platform.config import Data, Files
from penchant.platform.errors import DataError
from penchant.platform.events import Catalog, EventLog, read_log_card, read_user_ids
from penchant.platform.ingest import ingest

COLUMNS = {name: name for name in ("user", "item", "time", "type", "value", "group")}


def data_of(path: Path, *, columns: tuple[str, ...], unit: str = "s", **settings) -> Data:
    mapped = {name: COLUMNS[name] for name in columns}
    return Data(
        events=Files(paths=(str(path),), columns=mapped, time_unit=unit),
        **settings,
    )


def load(folder: Path, rows: list[dict], **settings) -> tuple[dict, EventLog]:
    """Ingest rows from one Parquet file."""
    folder.mkdir(exist_ok=True)
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(folder / "events.parquet")
    data = data_of(folder / "events.parquet", columns=tuple(rows[0]), **settings)
    card = ingest(data, folder / "run" / "log", folder / "run" / "quarantine.parquet")
    return card, EventLog.open(folder / "run" / "log")


def readable(folder: Path) -> dict[str, list[tuple]]:
    """Events of each user as (item id, ms, type, value, group within the user)."""
    directory = folder / "run" / "log"
    log, items = EventLog.open(directory), Catalog.open(directory).item_ids
    types = read_log_card(directory)["types"]
    events = {}
    for at, user in enumerate(read_user_ids(directory)):
        rows = range(log.offsets[at], log.offsets[at + 1])
        first = 0 if log.group is None else log.group[rows[0]]
        events[user] = [
            (
                items[log.item[row]],
                int(log.time_ms[row]),
                types[log.kind[row]],
                float(log.value[row]),
                None if log.group is None else int(log.group[row] - first),
            )
            for row in rows
        ]
    return events


def random_rows(seed: int, num_rows: int = 300) -> list[dict]:
    draw = random.Random(seed)
    return [
        {
            "user": draw.randrange(12),
            "item": f"i{draw.randrange(9)}",
            "time": draw.randrange(6),
            "type": draw.choice(["view", "buy"]),
            "value": draw.choice([1.0, 2.5]),
            "group": draw.choice([None, 1, 2]),
        }
        for _ in range(num_rows)
    ]


def by_hand(rows: list[dict]) -> dict[str, list[tuple]]:
    """The promised log: tuples sorted by (time, the group's first row, row), then runs of keys."""
    firsts: dict[tuple, int] = {}
    users = defaultdict(list)
    for at, row in enumerate(rows):
        key = (row["user"], row["time"], row["group"])
        first = at if row["group"] is None else firsts.setdefault(key, at)
        users[str(row["user"])].append((row["time"], first, at, row))
    log = {}
    for user in sorted(users):
        number, previous, log[user] = -1, None, []
        for time, _, _, row in sorted(users[user], key=lambda entry: entry[:3]):
            number += row["group"] is None or row["group"] != previous
            previous = row["group"]
            log[user].append((row["item"], time * 1000, row["type"], row["value"], number))
    return log


@pytest.mark.parametrize("seed", range(3))
def test_the_log_is_what_sorting_by_hand_gives(seed, tmp_path):
    rows = random_rows(seed)
    load(tmp_path, rows)
    assert readable(tmp_path) == by_hand(rows)


def test_shards_and_batches_change_the_place_of_users_and_nothing_else(tmp_path, monkeypatch):
    rows = random_rows(5)
    monkeypatch.setattr(ingest_module, "EVENTS_PER_SHARD", 40)
    monkeypatch.setattr("penchant.platform.table_files.BATCH_ROWS", 7)
    card, log = load(tmp_path, rows)
    assert len(card["shards"]) > 1
    assert readable(tmp_path) == by_hand(rows)
    assert (np.diff(log.group) >= 0).all()
    assert len(log.group_starts) - 1 == 1 + int(log.group[-1])


def test_merging_adds_up_equal_rows_where_the_first_of_them_stood(tmp_path):
    row = {"user": "u", "item": "a", "time": 1, "value": 2.0, "group": "g"}
    rows = [row, {**row, "item": "b"}, row, {**row, "group": "h"}, {**row, "time": 2}]
    card, log = load(tmp_path, rows, merge=True)
    assert card["merged"] == 1
    assert log.item.tolist() == [0, 1, 0, 0]
    assert log.value.tolist() == [4.0, 2.0, 2.0, 2.0]
    assert log.group.tolist() == [0, 0, 1, 2]


def test_without_a_value_merged_rows_are_counted(tmp_path):
    row = {"user": "u", "item": "a", "time": 1}
    card, log = load(tmp_path, [row, row, {**row, "time": 2}], merge=True)
    assert log.value.tolist() == [2.0, 1.0]
    assert card["merged"] == 1


def test_baskets_of_one_moment_do_not_interleave(tmp_path):
    rows = [{"user": 1, "item": i, "time": 0, "group": i % 2} for i in range(4)]
    _, log = load(tmp_path, rows)
    assert log.item.tolist() == [0, 2, 1, 3]
    assert log.group.tolist() == [0, 0, 1, 1]


def test_rows_without_a_group_stand_alone(tmp_path):
    rows = [{"user": 1, "item": i, "time": 0, "group": g} for i, g in enumerate([None, None, 5, 5])]
    _, log = load(tmp_path, rows)
    assert log.group.tolist() == [0, 1, 2, 2]


def test_one_event_one_item_one_user(tmp_path):
    card, log = load(tmp_path, [{"user": "only", "item": "one", "time": 7}])
    assert (card["users"], card["items"], card["events"]) == (1, 1, 1)
    assert (card["types"], card["has_groups"]) == (["event"], False)
    assert card["first_ms"] == card["last_ms"] == 7000
    assert (log.item.tolist(), log.kind.tolist(), log.value.tolist()) == ([0], [0], [1.0])
    assert log.group is None
    assert log.offsets.tolist() == [0, 1]


def test_a_shard_is_mapped_without_a_copy(tmp_path):
    _, log = load(tmp_path, random_rows(1))
    assert not log.item.flags.owndata
    assert not log.item.flags.writeable


def test_integer_ids_become_decimal_text_and_meet_the_item_table(tmp_path):
    rows = [{"user": 10, "item": 9, "time": 1}, {"user": 9, "item": 10, "time": 1}]
    pl.DataFrame(rows).write_parquet(tmp_path / "e.parquet")
    pl.DataFrame({"id": [8, 9], "name": ["eight", "nine"]}).write_parquet(tmp_path / "i.parquet")
    items = Files(paths=(str(tmp_path / "i.parquet"),), columns={"item": "id", "text": "name"})
    data = data_of(tmp_path / "e.parquet", columns=("user", "item", "time"), items=items)
    card = ingest(data, tmp_path / "log", tmp_path / "q.parquet")
    catalog = Catalog.open(tmp_path / "log")
    assert read_user_ids(tmp_path / "log") == ["10", "9"]
    assert (catalog.item_ids, catalog.item_texts) == (["10", "9"], ["", "nine"])
    assert (card["items_without_text"], card["items_never_chosen"]) == (1, 1)


def test_ids_that_are_integers_in_one_file_and_texts_in_another_are_the_same_ids(tmp_path):
    frame = pl.DataFrame({"user": [1], "item": [2], "time": [3]})
    frame.write_parquet(tmp_path / "a.parquet")
    frame.cast({"user": pl.String, "item": pl.UInt64}).write_parquet(tmp_path / "b.parquet")
    data = data_of(tmp_path / "*.parquet", columns=("user", "item", "time"))
    card = ingest(data, tmp_path / "log", tmp_path / "q.parquet")
    assert (card["users"], card["items"], card["events"]) == (1, 1, 2)


def test_the_order_of_files_and_rows_does_not_matter_where_times_differ(tmp_path):
    rows = [{"user": i % 3, "item": i % 4, "time": i} for i in range(20)]
    first, _ = load(tmp_path / "a", rows)
    second, _ = load(tmp_path / "b", rows[::-1])
    other, _ = load(tmp_path / "c", [*rows[:-1], {**rows[-1], "item": 0}])
    assert first["fingerprint"] == second["fingerprint"] != other["fingerprint"]


def test_equal_times_keep_the_order_of_files_and_rows(tmp_path):
    for name, item in (("b", "y"), ("a", "x")):
        pl.DataFrame({"user": [1], "item": [item], "time": [0]}).write_parquet(
            tmp_path / f"{name}.parquet"
        )
    paths = tuple(str(tmp_path / f"{name}.parquet") for name in "ba")
    columns = {name: name for name in ("user", "item", "time")}
    data = Data(events=Files(paths=paths, columns=columns, time_unit="s"))
    ingest(data, tmp_path / "log", tmp_path / "q.parquet")
    log = EventLog.open(tmp_path / "log")
    assert [Catalog.open(tmp_path / "log").item_ids[item] for item in log.item] == ["y", "x"]


def test_more_types_than_a_byte_holds_are_refused(tmp_path):
    rows = [{"user": 1, "item": 2, "time": 3, "type": f"t{i}"} for i in range(128)]
    with pytest.raises(DataError, match="128 types"):
        load(tmp_path, rows)


def test_naive_datetimes_are_utc(tmp_path):
    rows = [{"user": 1, "item": 2, "time": datetime(1970, 1, 2)}]
    _, log = load(tmp_path, rows, unit="auto")
    assert log.time_ms.tolist() == [86_400_000]
