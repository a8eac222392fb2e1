"""Bodies and headers drawn from the application's own OpenAPI, right ones and wrong ones.

With members that always answer, no request may end in a server error, and every answer is one that
the description names. What is drawn is the same each time (`conftest.py`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
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
from penchant.serve.versions.traffic import LiveDesks, Split
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


def app(task: Task) -> Any:
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
        types=["buy", "0"],
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
    return make_app(LiveDesks(Split(primary=desk)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "mode"),
    [
        ("next_item", GenerationMode.POSITIVE),
        ("binary", GenerationMode.POSITIVE),
        ("next_item", GenerationMode.NEGATIVE),
    ],
)
def test_nothing_that_is_drawn_breaks_it(task: Task, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app(task))
    statuses: Counter[int] = Counter()
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
            statuses[response.status_code] += 1
            case.validate_response(response, checks=checks)

        draw()
    assert statuses[422 if mode is GenerationMode.NEGATIVE else 200] > 10  # it came that far
