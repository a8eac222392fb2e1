"""Feedback twice, late and out of order comes to the same; bodies are bounded."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from penchant.platform.errors import DataError
from penchant.serve.watch import feedback as feedback_module
from penchant.serve.watch.feedback import (
    MAX_OUTCOMES,
    FeedbackBody,
    FeedbackBook,
    Outcome,
    feedback_router,
    read_feedback,
)
from penchant.serve.wire.schema import RefusedError

NOW_MS = 1_700_000_000_000


def outcome(label: Any = 1, time: int = NOW_MS, *, item: str = "a") -> Outcome:
    return Outcome(request_id="r1", item=item, label=label, time=time)


def book(service: Path, writer: str = "one") -> FeedbackBook:
    return FeedbackBook(service, writer, now_ms=lambda: NOW_MS)


def known(service: Path) -> list[tuple[Any, ...]]:
    return sorted(read_feedback(service).rows())


def test_the_same_twice_changes_nothing(tmp_path: Path) -> None:
    kept = book(tmp_path)
    first = kept.add([outcome(), outcome(0, item="b")])
    again = kept.add([outcome(), outcome(0, item="b")])
    assert (first.accepted, first.unchanged) == (2, 0)
    assert (again.accepted, again.unchanged) == (0, 2)
    assert known(tmp_path) == [("r1", "a", "1", NOW_MS), ("r1", "b", "0", NOW_MS)]


def test_the_latest_stands_whatever_the_order_of_arrival(tmp_path: Path) -> None:
    told = [outcome(0, NOW_MS - 20), outcome(1, NOW_MS - 10), outcome("chosen", NOW_MS)]
    for number, order in enumerate(itertools.permutations(told)):
        kept = book(tmp_path / str(number))
        for one in order:
            kept.add([one])
        assert known(tmp_path / str(number)) == [("r1", "a", "chosen", NOW_MS)]


def test_of_one_body_the_latest_stands_too(tmp_path: Path) -> None:
    kept = book(tmp_path)
    answer = kept.add([outcome(1, NOW_MS), outcome(0, NOW_MS - 1)])
    assert (answer.accepted, answer.unchanged) == (1, 1)
    assert known(tmp_path) == [("r1", "a", "1", NOW_MS)]


def test_what_is_known_outlives_the_process(tmp_path: Path) -> None:
    assert book(tmp_path).add([outcome()]).accepted == 1
    assert book(tmp_path).add([outcome()]).unchanged == 1
    assert len(known(tmp_path)) == 1


def test_of_what_two_processes_were_told_the_latest_stands(tmp_path: Path) -> None:
    one, other = book(tmp_path, "one"), book(tmp_path, "other")
    one.add([outcome(1, NOW_MS - 5), outcome(0, NOW_MS, item="b"), outcome(1, item="c")])
    other.add([outcome(0, NOW_MS), outcome(1, NOW_MS - 5, item="b"), outcome(1, item="d")])
    assert known(tmp_path) == [
        ("r1", "a", "0", NOW_MS),
        ("r1", "b", "0", NOW_MS),
        ("r1", "c", "1", NOW_MS),
        ("r1", "d", "1", NOW_MS),
    ]


def test_of_two_tellings_about_one_moment_the_first_to_come_stands(tmp_path: Path) -> None:
    for writer, label, came_ms in (("one", 1, NOW_MS + 9), ("other", 0, NOW_MS + 8)):
        FeedbackBook(tmp_path, writer, lambda came_ms=came_ms: came_ms).add([outcome(label)])
    assert known(tmp_path) == [("r1", "a", "0", NOW_MS)]


def test_many_threads_of_two_processes_lose_nothing(tmp_path: Path) -> None:
    books = [book(tmp_path, "one"), book(tmp_path, "other")] * 4

    def tell(at: int) -> None:
        for n in range(10):
            books[at].add([outcome(item=f"{at}-{n}"), outcome(at % 2, NOW_MS + n, item="same")])

    with ThreadPoolExecutor(len(books)) as threads:
        list(threads.map(tell, range(len(books))))
    assert len(known(tmp_path)) == 8 * 10 + 1


def test_the_file_of_before_each_process_had_its_own_is_read_and_forgotten_from(
    tmp_path: Path,
) -> None:
    book(tmp_path).add([outcome(1, NOW_MS - 5), outcome(item="b")])
    (tmp_path / "feedback-one.sqlite").rename(tmp_path / "feedback.sqlite")
    with closing(sqlite3.connect(tmp_path / "feedback.sqlite")) as old:
        old.execute("PRAGMA journal_mode = WAL")
    kept = book(tmp_path)
    kept.add([outcome(0, NOW_MS)])
    assert known(tmp_path) == [("r1", "a", "0", NOW_MS), ("r1", "b", "1", NOW_MS)]
    assert kept.forget({"r1"}) == 3
    assert known(tmp_path) == []


def test_where_the_disk_cannot_be_written_to_it_is_tried_again(tmp_path: Path) -> None:
    away = tmp_path / "service"
    away.write_text("a file where the directory should be")
    kept = book(away)
    app = FastAPI()
    app.include_router(feedback_router(kept))
    with TestClient(app) as client:
        body = {"outcomes": [{"request_id": "r1", "item": "a", "label": 1, "time": 1}]}
        refused = client.post("/v1/feedback", json=body)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        away.unlink()
        assert client.post("/v1/feedback", json=body).json() == {"accepted": 1, "unchanged": 0}
    assert known(away) == [("r1", "a", "1", 1)]


def test_a_future_outcome_is_refused_and_its_body_with_it(tmp_path: Path) -> None:
    kept = book(tmp_path)
    with pytest.raises(RefusedError) as caught:
        kept.add([outcome(), outcome(time=NOW_MS + 3_600_000, item="b")])
    assert caught.value.place == "body.outcomes.1.time"
    assert known(tmp_path) == []


def test_requests_of_a_forgotten_user_lose_their_outcomes(tmp_path: Path) -> None:
    kept = book(tmp_path)
    kept.add([outcome(), outcome(item="b"), Outcome(request_id="r2", item="a", label=1, time=1)])
    assert kept.forget({"r1", "r9"}) == 2
    assert kept.forget({"r1"}) == 0
    assert kept.forget([]) == 0
    assert known(tmp_path) == [("r2", "a", "1", 1)]


def test_a_file_is_bounded_and_what_came_first_goes(tmp_path: Path) -> None:
    """Anybody with a key may tell of requests that never were."""
    now = iter(range(NOW_MS, NOW_MS + 1000))
    kept = FeedbackBook(tmp_path, "one", now_ms=lambda: next(now), max_bytes=200_000)
    ids = [uuid.uuid4().hex for _ in range(10_000)]  # as fronts make them
    sizes, numbers = [], []
    for at in range(0, len(ids), 50):
        told = [Outcome(request_id=one, item="a", label=1, time=1) for one in ids[at : at + 50]]
        assert kept.add(told).accepted == 50
        sizes.append((tmp_path / "feedback-one.sqlite").stat().st_size)
        with closing(sqlite3.connect(tmp_path / "feedback-one.sqlite")) as database:
            numbers.append(database.execute("SELECT count(*) FROM feedback").fetchone()[0])
    assert max(sizes) < 300_000
    lost = [1 - (after - 50) / before for before, after in zip(numbers, numbers[1:], strict=False)]
    assert 0.05 < max(lost) < 0.15  # a tenth at a time, whatever the ids are
    left = set(read_feedback(tmp_path)["request_id"])
    assert set(ids[-1000:]) <= left
    assert not left & set(ids[:1000])


@pytest.mark.parametrize("label", [True, False, 1.0, 2, -1, "1", "Chosen", None])
def test_a_label_is_0_1_or_chosen(label: Any) -> None:
    content = {"request_id": "r1", "item": "a", "label": label, "time": NOW_MS}
    with pytest.raises(ValueError, match="label"):
        FeedbackBody.model_validate({"outcomes": [content]})


def post(service: Path, content: str | bytes) -> httpx.Response:
    kept = book(service)
    app = FastAPI()
    app.include_router(feedback_router(kept))

    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            headers = {"content-type": "application/json"}
            return await client.post("/v1/feedback", content=content, headers=headers)

    return asyncio.run(go())


ONE = '{"request_id": "r1", "item": "a", "label": 1, "time": "2020-01-02T12:00:00Z"}'


def test_it_is_told_over_http(tmp_path: Path) -> None:
    response = post(tmp_path, f'{{"outcomes": [{ONE}, {ONE}]}}')
    assert (response.status_code, response.json()) == (200, {"accepted": 1, "unchanged": 1})
    assert known(tmp_path) == [("r1", "a", "1", 1_577_966_400_000)]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ('{"outcomes": []}', 422),
        (f'{{"outcomes": [{", ".join([ONE] * (MAX_OUTCOMES + 1))}]}}', 422),
        (f'{{"outcomes": [{ONE}], "user": "ann"}}', 422),
        (f'{{"outcomes": [{ONE.replace("r1", "r 1")}]}}', 422),
        (f'{{"outcomes": [{ONE.replace("2020", "3020")}]}}', 422),
        (f'{{"outcomes": [{ONE}], "outcomes": [{ONE}]}}', 400),
    ],
)
def test_bodies_are_bounded_and_hold_nothing_unknown(
    tmp_path: Path, content: str, status: int
) -> None:
    assert post(tmp_path, content).status_code == status
    assert known(tmp_path) == []


def test_where_it_cannot_be_kept_the_client_is_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: FeedbackBook, outcomes: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(FeedbackBook, "add", full)
    response = post(tmp_path, f'{{"outcomes": [{ONE}]}}')
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


def test_a_file_that_others_hold_keeps_no_client_waiting_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them would wait for its own turn after the others', in threads that all share."""
    monkeypatch.setattr(feedback_module, "_PATIENCE_S", 0.3)
    kept = book(tmp_path)
    kept.add([outcome()])
    app = FastAPI()
    app.include_router(feedback_router(kept))
    body = {"outcomes": [{"request_id": "r2", "item": "a", "label": 1, "time": 1}]}

    async def go() -> tuple[list[int], float]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            began = time.monotonic()
            sent = [client.post("/v1/feedback", json=body) for _ in range(60)]
            codes = [answer.status_code for answer in await asyncio.gather(*sent)]
            return codes, time.monotonic() - began

    with closing(sqlite3.connect(tmp_path / "feedback-one.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        codes, took_s = asyncio.run(go())
        other.execute("ROLLBACK")
    assert codes == [503] * 60
    assert took_s < 3  # and not five seconds for each


def test_without_a_book_there_is_no_feedback_and_a_broken_one_is_named(tmp_path: Path) -> None:
    assert read_feedback(tmp_path).is_empty()
    (tmp_path / "feedback.sqlite").write_text("no database at all, but long enough to be read")
    with pytest.raises(DataError, match=r"feedback\.sqlite cannot be read"):
        read_feedback(tmp_path)
