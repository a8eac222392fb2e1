"""Bodies and headers drawn from the application's own OpenAPI, right ones and wrong ones.

With members that always answer, no request may end in a server error, and every answer is one that
the description names. What is drawn is the same each time (`conftest.py`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray
from schemathesis import GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)

from penchant.ensembles.artefacts.artefact import Ensemble
from penchant.ensembles.combinations.linear import Linear
from penchant.platform.config import Requests
from penchant.platform.events import Catalog
from penchant.serve.answering.desk import Desk
from penchant.serve.answering.history import Question, Reader
from penchant.serve.answering.panel import Panel
from penchant.serve.routes.ingress import make_app
from penchant.serve.users.asked_users import AskedUsers
from penchant.serve.users.users import SqliteUsers
from penchant.serve.versions.traffic import LiveDesks, Split
from penchant.serve.watch.feedback import FeedbackBook, feedback_router
from penchant.serve.wire.schema import EnsembleCard, MemberCard

#: Short ids, so that drawn ones are now and then known.
CATALOG = Catalog(item_ids=["0", "1", "a"], item_texts=["apples", "", "cheese"])
Task = Literal["next_item", "binary"]


async def ask(member_id: str, question: Question) -> NDArray[np.float32]:
    await asyncio.sleep(0)
    if question.texts:
        return np.zeros((1, len(question.texts)), dtype=np.float32)
    rows = 1 if question.candidate is None else len(question.candidate)
    return np.zeros((rows, 3 if question.candidate is None else 1), dtype=np.float32)


@pytest.fixture
def users(tmp_path: Path) -> Iterator[AskedUsers]:
    with closing(AskedUsers(SqliteUsers(tmp_path / "users.sqlite"))) as made:
        yield made


@pytest.fixture
def book(tmp_path: Path) -> FeedbackBook:
    return FeedbackBook(tmp_path, "front")


def app(task: Task, users: AskedUsers, book: FeedbackBook) -> Any:
    """With all that is kept; /metrics needs Ray."""
    requests = Requests.model_validate(
        {"unit": "event", "task": task} | ({"positive_above": 0.5} if task == "binary" else {})
    )
    linear = Linear(normalization="none" if task == "binary" else "zscore", weights={"one": 1.0})
    ensemble = Ensemble(
        name="test",
        members={},
        combination=linear,
        requests=requests,
        item_ids=CATALOG.item_ids,
        card={},
    )
    card = EnsembleCard(
        name="test",
        version="abc",
        task=task,
        unit="event",
        has_groups=True,
        types=["0"],
        exclude_seen=False,
        normalization=linear.normalization,
        items=3,
        metric="ndcg@10",
        data_until=None,
        test={},
        members=[MemberCard(id="one", kind="personal", weight=1.0, window={})],
    )
    reader = Reader(catalog=CATALOG, types=card.types, has_groups=True, requests=requests)
    desk = Desk(card=card, reader=reader, panel=Panel(ensemble, ask, ["one"]))
    parts = [feedback_router(book)]
    return make_app(LiveDesks(Split(primary=desk)), parts=parts, users=users)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "mode"),
    [
        ("next_item", GenerationMode.POSITIVE),
        ("binary", GenerationMode.POSITIVE),
        ("next_item", GenerationMode.NEGATIVE),
        ("binary", GenerationMode.NEGATIVE),
    ],
)
def test_nothing_that_is_drawn_breaks_it(
    task: Task, mode: GenerationMode, users: AskedUsers, book: FeedbackBook
) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app(task, users, book))
    statuses: Counter[tuple[str, int]] = Counter()
    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and operation.method == "get":
            continue  # takes nothing that could be wrong

        @settings(max_examples=40, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def draw(case: schemathesis.Case) -> None:
            response = case.call()
            statuses[case.path, response.status_code] += 1
            # Who allows less than a second cannot always have an answer; all others must.
            allowed_ms = str((case.headers or {}).get("X-Deadline-Ms", ""))
            hurried = (
                response.status_code == 503 and allowed_ms.isdecimal() and int(allowed_ms) < 1000
            )
            case.validate_response(response, checks=checks[1:] if hurried else checks)

        draw()
    expected = 422 if mode is GenerationMode.NEGATIVE else 200
    good = {path: number for (path, status), number in statuses.items() if status == expected}
    assert sum(good.values()) > 10  # it came that far
    assert {"/v1/events", "/v1/feedback"} <= good.keys()
