"""What watches a front forgets a user, also where that takes two attempts."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

import pytest

from penchant.serve.watch.feedback import FeedbackBook, Outcome, read_feedback
from penchant.serve.watch.user_hash import hash_user, user_key
from penchant.serve.watch.watchers import FORGOTTEN, Watchers

from .test_watch_prediction_log import rows, seen


def test_what_came_of_a_forgotten_users_requests_is_forgotten_once_its_file_can_be_changed(
    tmp_path: Path,
) -> None:
    watchers = Watchers(tmp_path, "one")
    for request_id, user in (("r1", "ann"), ("r2", "bob")):
        watchers.observer.answered(seen(request_id, user=user))
    told = [Outcome(request_id=r, item="a", label=1, time=1) for r in ("r1", "r2")]
    FeedbackBook(tmp_path, "other").add(told)
    broken = tmp_path / "feedback-a.sqlite"
    broken.mkdir()
    for _ in range(2):
        with pytest.raises(sqlite3.Error):
            watchers.forget(["ann"])
    broken.rmdir()
    watchers.forget(["ann"])
    watchers.close()
    (noted,) = (json.loads(line) for line in (tmp_path / FORGOTTEN).read_text().splitlines())
    assert noted["user_hash"] == hash_user(user_key(tmp_path), "ann")
    assert "ann" not in (tmp_path / FORGOTTEN).read_text()
    assert {row["request_id"] for row in rows(tmp_path)} == {"r2"}
    assert read_feedback(tmp_path)["request_id"].to_list() == ["r2"]


def test_outcomes_from_before_the_log_begins_go_with_the_next_user_who_is_forgotten(
    tmp_path: Path,
) -> None:
    """Old files are deleted: whose answers those were is not known any more."""
    watchers = Watchers(tmp_path, "one")
    watchers.observer.answered(seen("r2", user="bob"))
    watchers.flush()
    day_ms = 86_400_000
    for name, age_ms in (("gone", day_ms), ("r2", 0)):
        told = [Outcome(request_id=name, item="a", label=1, time=1)]
        now_ms = time.time_ns() // 1_000_000 - age_ms
        FeedbackBook(tmp_path, "other", now_ms=lambda at=now_ms: at).add(told)
    watchers.forget(["ann"])
    assert read_feedback(tmp_path)["request_id"].to_list() == ["r2"]
    watchers.forget(["bob"])
    watchers.close()
    assert read_feedback(tmp_path).is_empty()
