"""Answers are kept whole and without users, in bounded room, and never in a request's way."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from penchant.platform.errors import DataError
from penchant.serve.answering.panel import Verdict
from penchant.serve.routes.observe import Seen
from penchant.serve.watch import prediction_files, prediction_log
from penchant.serve.watch.prediction_files import PredictionFiles
from penchant.serve.watch.prediction_log import PredictionLog
from penchant.serve.watch.prediction_rows import SCHEMA, as_table, entry
from penchant.serve.watch.user_hash import hash_user, user_key
from penchant.serve.wire.schema import Answer, LeftOut, Result


def seen(request_id: str = "r1", *, user: str | None = "ann", items: str = "ab") -> Seen:
    """A yes or no for each item; one member of two answered."""
    late = [LeftOut(member="two", reason="deadline")]
    answer = Answer(
        request_id=request_id,
        ensemble="greedy",
        version="v1",
        time_ms=123,
        degraded=True,
        left_out=late,
        used_events=1,
        ignored_events=0,
        results=[
            Result(item=item, score=1.0 - at, probability=0.5) for at, item in enumerate(items)
        ],
    )
    scores = np.arange(len(items), dtype=np.float32)[:, None]
    verdict = Verdict(scores=scores, probabilities=None, members={"one": scores}, left_out=late)
    return Seen(
        path="/v1/score",
        role="primary",
        answer=answer,
        verdict=verdict,
        columns=None,
        user=user,
        caller="shop",
        latency_ms=4.5,
    )


def rows(service: Path) -> list[dict[str, Any]]:
    files = sorted((service / "predictions").glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def wait_until(done: Any) -> None:
    until = time.monotonic() + 5
    while not done():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_row_for_each_item_with_all_that_is_known_but_the_user(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, "front#1")
    before = time.time_ns() // 1_000_000
    log.answered(seen())
    log.close()
    first, second = rows(tmp_path)
    assert before <= first.pop("answered_ms") <= time.time_ns() // 1_000_000
    assert first == {
        "request_id": "r1",
        "role": "primary",
        "ensemble": "greedy",
        "version": "v1",
        "path": "/v1/score",
        "binary": True,
        "time_ms": 123,
        "item": "a",
        "rank": 1,
        "whole": False,
        "score": 1.0,
        "probability": 0.5,
        "members": [{"member": "one", "score": 0.0}],
        "disagreement": None,
        "degraded": True,
        "left_out": [{"member": "two", "reason": "deadline"}],
        "latency_ms": 4.5,
        "caller": "shop",
        "user_hash": hash_user(user_key(tmp_path), "ann"),
    }
    assert (second["item"], second["rank"], second["members"][0]["score"]) == ("b", 2, 1.0)
    (file,) = (tmp_path / "predictions").glob("*.parquet")
    assert "front_1" in file.name
    assert b"ann" not in file.read_bytes()
    assert pq.ParquetFile(file).metadata.row_group(0).column(0).compression == "ZSTD"


def test_many_answers_make_the_rows_that_each_makes_alone() -> None:
    answers = [seen("r1"), seen("r2", user=None, items="abc"), seen("r3", items="")]
    entries = [entry(one, 10 * at) for at, one in enumerate(answers)]
    assert [len(one) for one in entries] == [2, 3, 0]
    one, two = np.float32([0.5, 0.25]), np.float32([3, 4])
    entries.append(replace(entries[0], members={"two": two, "one": one}))
    entries.append(replace(entries[0], members={}))
    together = as_table(entries, str.upper)
    alone = [as_table([one], str.upper).to_pylist() for one in entries]
    assert together.to_pylist() == [row for rows in alone for row in rows]
    assert [row["members"] for row in together.to_pylist()[5:]] == [
        [{"member": "two", "score": 3.0}, {"member": "one", "score": 0.5}],
        [{"member": "two", "score": 4.0}, {"member": "one", "score": 0.25}],
        [],
        [],
    ]
    assert together.schema == as_table([], str.upper).schema == SCHEMA


def test_somebody_without_an_id_has_no_hash(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, "a")
    log.answered(seen(user=None))
    log.close()
    assert {row["user_hash"] for row in rows(tmp_path)} == {None}
    assert not (tmp_path / "user-hash.key").exists()


def test_a_file_is_written_when_it_is_full_or_old(tmp_path: Path) -> None:
    full = PredictionLog(tmp_path / "full", "a", max_rows=4, max_file_age_s=60)
    full.answered(seen("r1"))
    full.answered(seen("r2"))
    wait_until(lambda: len(rows(tmp_path / "full")) == 4)
    full.answered(seen("r3"))
    old = PredictionLog(tmp_path / "old", "a", max_file_age_s=0.05)
    old.answered(seen())
    wait_until(lambda: rows(tmp_path / "old"))
    full.close()
    old.close()
    assert [row["request_id"] for row in rows(tmp_path / "full")[::2]] == ["r1", "r2", "r3"]
    assert not list(tmp_path.rglob("*.partial"))


def test_the_oldest_files_make_room(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, "a", max_bytes=1)
    for number in range(3):
        log.answered(seen(f"r{number}"))
        log.flush()
    log.close()
    assert {row["request_id"] for row in rows(tmp_path)} == {"r2"}
    assert log.dropped == 0


def test_small_files_become_one_when_they_are_old(tmp_path: Path) -> None:
    """Whoever forgets a user opens all: of one a minute there are too many after two days."""
    log = PredictionLog(tmp_path, "a")
    for number in range(64):
        log.answered(seen(f"r{number:02d}", user="ann" if number % 2 else "bob"))
        log.flush()
    before = rows(tmp_path)
    files = sorted((tmp_path / "predictions").glob("*.parquet"))
    assert len(files) == 64
    for file in files[:50]:
        os.utime(file, (0, 0))
    log.answered(seen("r64", user="bob"))
    log.flush()
    merged = sorted((tmp_path / "predictions").glob("*.parquet"))
    assert len(merged) == 16
    assert merged[0].name.split("-")[0] == files[0].name.split("-")[0]
    assert rows(tmp_path)[:-2] == before
    ann = hash_user(user_key(tmp_path), "ann")
    assert log.forget([ann]) == {f"r{number:02d}" for number in range(1, 64, 2)}
    assert {row["request_id"] for row in rows(tmp_path)} == {
        f"r{number:02d}" for number in range(0, 65, 2)
    }
    log.close()


def test_a_file_of_an_earlier_version_keeps_no_others_from_being_merged(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, "a")
    for number in range(40):
        log.answered(seen(f"r{number:02d}"))
        log.flush()
    files = sorted((tmp_path / "predictions").glob("*.parquet"))
    pq.write_table(pq.read_table(files[0]).drop_columns(["whole"]), files[0])
    for file in files:
        os.utime(file, (0, 0))
    log.answered(seen("r40"))
    log.close()
    merged = sorted((tmp_path / "predictions").glob("*.parquet"))
    assert len(merged) == 3  # it, those that became one, and the last
    assert merged[0] == files[0]


def test_what_a_dead_process_left_half_written_is_removed(tmp_path: Path) -> None:
    directory = tmp_path / "predictions"
    directory.mkdir()
    dead, busy = directory / "1.parquet.x.partial", directory / "2.parquet.y.partial"
    for file in (dead, busy):
        file.write_text("half")
    os.utime(dead, (0, 0))
    PredictionFiles(directory, "a", 1000).make_room()
    assert not dead.exists()
    assert busy.exists()


def test_a_disk_that_takes_nothing_costs_rows_and_one_line_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "predictions").write_text("in the way")  # as root, read-only bits hold nobody back
    lost: list[int] = []
    log = PredictionLog(tmp_path, "a", on_dropped=lost.append)
    with caplog.at_level(logging.WARNING):
        for number in range(5):
            log.answered(seen(f"r{number}"))
            log.flush()
        log.close()
    assert log.dropped == sum(lost) == 10
    assert len(caplog.records) == 1
    assert "2 rows lost so far (FileExistsError)" in caplog.text


def test_a_key_that_cannot_be_made_costs_rows_too(tmp_path: Path) -> None:
    (tmp_path / "user-hash.key").write_bytes(b"short")
    log = PredictionLog(tmp_path, "a")
    log.answered(seen())
    log.close()
    assert log.dropped == 2


def test_a_full_queue_drops_and_never_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_log, "_MAX_WAITING_ROWS", 5)
    log = PredictionLog(tmp_path, "a")
    with log._writing:  # the thread is stuck, as on a slow disk
        began = time.monotonic()
        for number in range(50):
            log.answered(seen(f"r{number}"))
        assert time.monotonic() - began < 1
        lost = log.dropped
    assert lost >= 80  # at most a few answers were taken before, and two wait
    log.close()
    assert len(rows(tmp_path)) == 100 - lost


def test_after_it_is_closed_answers_are_counted_as_lost(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, "a")
    log.close()
    log.answered(seen())
    assert log.dropped == 2


def test_a_user_is_forgotten_and_all_others_are_kept(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, "a")
    for number, user in enumerate(["ann", "bob", None]):
        log.answered(seen(f"r{number}", user=user))
    log.flush()
    log.answered(seen("r3", user="ann"))
    log.flush()
    log.answered(seen("r4", user="ann"))  # still in memory
    ann = hash_user(user_key(tmp_path), "ann")
    assert log.forget([ann]) == {"r0", "r3", "r4"}
    assert [row["request_id"] for row in rows(tmp_path)] == ["r1", "r1", "r2", "r2"]
    assert log.forget([ann]) == set()
    log.close()
    assert len(rows(tmp_path)) == 4
    (file,) = (tmp_path / "predictions").glob("*.parquet")
    assert pq.read_schema(file).names == SCHEMA.names


def test_nobody_is_forgotten_where_nothing_was_kept(tmp_path: Path) -> None:
    assert PredictionFiles(tmp_path / "none", "a", 1).forget(["x"]) == set()


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    key = user_key(tmp_path)
    assert user_key(tmp_path) == key
    assert len(key) == 32
    assert stat.S_IMODE((tmp_path / "user-hash.key").stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["user-hash.key"]
    (tmp_path / "user-hash.key").write_bytes(b"short")
    with pytest.raises(DataError, match="holds 5 bytes"):
        user_key(tmp_path)


def test_a_hash_depends_on_the_key_and_the_user() -> None:
    """BLAKE2b in keyed mode, as `b2sum` has no key: checked against hashlib's streaming form."""
    expected = hashlib.blake2b(key=b"k" * 32, digest_size=16)
    expected.update(b"ann")
    assert hash_user(b"k" * 32, "ann") == expected.hexdigest()
    assert hash_user(b"k" * 32, "bob") != hash_user(b"k" * 32, "ann") != hash_user(b"l" * 32, "ann")


def aged(directory: Path) -> None:
    for file in directory.glob("*.parquet"):
        os.utime(file, (0, 0))


def kept_by(tmp_path: Path, number: int) -> PredictionLog:
    """A log with so many files of one answer each, all of them old."""
    log = PredictionLog(tmp_path, "a")
    for at in range(number):
        log.answered(seen(f"r{at:02d}", user="ann"))
        log.flush()
    aged(tmp_path / "predictions")
    return log


def test_a_file_that_cannot_be_read_hinders_nobody(tmp_path: Path) -> None:
    """Such as one that was torn when the power went."""
    log = kept_by(tmp_path, 33)
    torn = sorted((tmp_path / "predictions").glob("*.parquet"))[1]
    torn.write_bytes(b"")
    os.utime(torn, (0, 0))
    log.answered(seen("late"))
    log.flush()
    left = sorted((tmp_path / "predictions").glob("*.parquet"))
    assert len(left) == 3  # the merged one, the torn one, the newest
    torn.unlink()
    assert len(rows(tmp_path)) == 2 * 33
    log.answered(seen("later"))
    log.close()
    assert log.dropped == 0


@pytest.mark.parametrize("left", [0, 20])
def test_a_merge_that_is_cut_off_loses_no_row_and_leaves_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    log = kept_by(tmp_path, 40)
    log.close()
    before = rows(tmp_path)
    unlink, number = Path.unlink, 0

    def die(path: Path, missing_ok: bool = False) -> None:
        nonlocal number
        number += path.suffix == ".parquet"
        if number > left:
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    dies = PredictionFiles(tmp_path / "predictions", "a", 1 << 30)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", die)
        with pytest.raises(KeyboardInterrupt):
            dies.make_room()
    aged(tmp_path / "predictions")
    PredictionFiles(tmp_path / "predictions", "b", 1 << 30).make_room()  # after a new start
    assert rows(tmp_path) == before


def test_what_was_merged_is_merged_again_and_larger_files_are_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = kept_by(tmp_path, 64)
    directory = tmp_path / "predictions"
    files = PredictionFiles(directory, "a", 1 << 30)
    files.make_room()
    assert len(list(directory.glob("*.parquet"))) == 5
    aged(directory)
    size = max(file.stat().st_size for file in directory.glob("*.parquet"))
    monkeypatch.setattr(prediction_files, "_MERGED_BYTES", size + 1)
    files.make_room()
    assert len(list(directory.glob("*.parquet"))) < 5  # two are enough where they are large enough
    assert len(rows(tmp_path)) == 128
    log.close()
