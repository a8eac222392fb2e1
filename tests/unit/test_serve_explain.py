"""Effects of events and parts of members are those that can be worked out by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from penchant.ensembles.artefacts.artefact import Ensemble
from penchant.ensembles.combinations.combination import Combination
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combiners.average import Median
from penchant.platform.config import Requests
from penchant.platform.events import Catalog
from penchant.serve.answering.desk import Desk
from penchant.serve.answering.history import Question, Reader
from penchant.serve.answering.influence import shares, without_item
from penchant.serve.answering.panel import AskMember, Panel, Verdict
from penchant.serve.gate.guard import Guard
from penchant.serve.gate.keys import KeyRing
from penchant.serve.routes.explain import ExplainBody
from penchant.serve.routes.ingress import make_app
from penchant.serve.versions.traffic import LiveDesks, Split
from penchant.serve.wire.schema import EnsembleCard

NOW_MS = 1_512_129_600_000
IDS = [f"i{at}" for at in range(100)]
#: What `count` says of each item before anything happened; an item's every event adds 2 to it.
START = np.linspace(5.0, 0.0, 100, dtype=np.float32)


async def ask(member_id: str, question: Question) -> NDArray[np.float32]:
    """`count` counts; `pair` gives i1 a 6 if i0 was had; `basket` gives i2 the number of groups."""
    scores = np.zeros(100, dtype=np.float32)
    if member_id == "count":
        scores = START + 2 * np.bincount(question.item, minlength=100)
    if member_id == "pair" and 0 in question.item:
        scores[1] = 6.0
    if member_id == "basket" and question.group is not None and len(question.group):
        scores[2] = question.group[-1] + 1
    found = scores[None] if question.candidate is None else scores[question.candidate][:, None]
    return found.astype(np.float32)


def desk(combination: Combination, ask: AskMember = ask, **spec: Any) -> Desk:
    requests = Requests.model_validate({"unit": "group"} | spec)
    ensemble = Ensemble(
        name="test",
        members={},
        combination=combination,
        requests=requests,
        item_ids=IDS,
        card={},
    )
    card = EnsembleCard(
        name="test",
        version="abc",
        task=requests.task,
        unit=requests.unit,
        has_groups=True,
        types=["buy"],
        exclude_seen=requests.exclude_seen,
        normalization=combination.normalization,
        items=100,
        metric="ndcg@10",
        data_until=None,
        test={},
        members=[],
    )
    catalog = Catalog(item_ids=IDS, item_texts=["apples", *[""] * 99])
    reader = Reader(catalog=catalog, types=["buy"], has_groups=True, requests=requests)
    return Desk(card=card, reader=reader, panel=Panel(ensemble, ask), now_ms=lambda: NOW_MS)


def linear(how: Any = "none", **weights: float) -> Linear:
    return Linear(normalization=how, weights=weights)


def history(*items: str) -> list[dict[str, Any]]:
    """A basket of each item, a second apart, the last one a second ago."""
    return [
        {"item": item, "time": NOW_MS - 1000 * (len(items) - at)} for at, item in enumerate(items)
    ]


def send(
    to: Desk, body: Mapping[str, Any], guard: Guard | None = None, **headers: str
) -> httpx.Response:
    app = make_app(LiveDesks(Split(primary=to)), guard=guard)

    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.post("/v1/explain", json=body, headers=given)

    return asyncio.run(go())


def explained(to: Desk, body: Mapping[str, Any], **headers: str) -> dict[str, Any]:
    response = send(to, body, **headers)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = json.loads(response.content)
    return answer


def test_an_effect_is_the_score_with_everything_minus_the_score_without() -> None:
    body = {"history": history("i1", "i0", "i7", "i1"), "candidates": ["i1", "i0"]}
    answer = explained(desk(linear(count=0.75, pair=0.25)), body)
    first, second = answer["results"]
    assert first["score"] == pytest.approx(0.75 * (float(START[1]) + 4) + 0.25 * 6)
    assert "text" not in first
    assert first["events"] == [
        {"item": "i1", "time_ms": NOW_MS - 1000, "effect": pytest.approx(3.0)},
        {"item": "i0", "text": "apples", "time_ms": NOW_MS - 3000, "effect": pytest.approx(1.5)},
    ]
    assert first["members"] == [
        {
            "member": "count",
            "weight": 0.75,
            "score": pytest.approx(float(START[1]) + 4),
            "share": pytest.approx(0.75 * (float(START[1]) + 4)),
        },
        {"member": "pair", "weight": 0.25, "score": 6.0, "share": pytest.approx(1.5)},
    ]
    assert second["text"] == "apples"
    assert [(e["item"], e["effect"]) for e in second["events"]] == [("i0", pytest.approx(1.5))]
    assert (answer["used_events"], answer["explained_events"]) == (4, 4)
    assert (answer["degraded"], answer["cold_start"], answer["version"]) == (False, False, "abc")


def test_effects_may_be_negative_and_the_strongest_ten_come_first() -> None:
    async def lowers(member_id: str, question: Question) -> NDArray[np.float32]:
        return np.full((1, 100), -question.item.sum(), dtype=np.float32)

    items = [f"i{at}" for at in range(1, 15)]
    answer = explained(
        desk(linear(a=1.0), lowers), {"history": history(*items), "candidates": ["i0"]}
    )
    events = answer["results"][0]["events"]
    assert [event["effect"] for event in events] == [-14.0 + at for at in range(10)]


def test_the_newest_64_items_are_tried_and_their_events_counted() -> None:
    items = [f"i{at}" for at in range(70)]
    body = {"history": history(*items, "i69", "i3"), "candidates": ["i0", "i3"]}
    answer = explained(desk(linear(count=1.0)), body)
    # Newest first: i3, i69 (twice each), then i68 down to i7: 64 items with 66 events.
    assert (answer["used_events"], answer["explained_events"]) == (72, 66)
    assert answer["results"][0]["events"] == []
    assert answer["results"][1]["events"][0]["effect"] == 4.0


def test_baskets_stay_apart_when_one_between_them_is_gone() -> None:
    answer = explained(
        desk(linear(basket=1.0)), {"history": history("i5", "i6", "i5"), "candidates": ["i2"]}
    )
    effects = {event["item"]: event["effect"] for event in answer["results"][0]["events"]}
    assert effects == {"i5": 2.0, "i6": 1.0}


def test_a_yes_or_no_is_explained_by_candidate() -> None:
    spec: dict[str, Any] = {"task": "binary", "unit": "event", "positive_above": 0.5}
    body = {"history": history("i1", "i0"), "candidates": ["i0", "i1"]}
    answer = explained(desk(linear(count=0.5, pair=0.5), **spec), body)
    found = [
        {event["item"]: event["effect"] for event in result["events"]}
        for result in answer["results"]
    ]
    assert found == [{"i0": 1.0}, {"i1": 1.0, "i0": pytest.approx(3.0)}]
    odds = answer["results"][0]["score"]
    assert answer["results"][0]["probability"] == pytest.approx(1 / (1 + np.exp(-odds)))


def test_normalised_parts_sum_to_the_score_and_other_combinations_have_none() -> None:
    body = {"history": history("i0", "i1"), "candidates": ["i0", "i1", "i99"]}
    for result in explained(desk(linear("zscore", count=0.6, pair=0.4)), body)["results"]:
        assert sum(m["share"] for m in result["members"]) == pytest.approx(
            result["score"], rel=1e-5
        )
    median = Median(normalization="zscore", members=("count", "pair"))
    for result in explained(desk(median), body)["results"]:
        assert [m["share"] for m in result["members"]] == [None, None]


def test_parts_of_members_that_are_left_make_up_the_whole() -> None:
    scores = {"a": np.array([[1.0, 2.0]], dtype=np.float32)}
    found = shares(linear(a=0.25, b=0.75), scores)
    assert found is not None
    np.testing.assert_allclose(found["a"], scores["a"])
    alone = shares(linear("zscore", a=1.0), scores)
    assert alone is not None
    np.testing.assert_allclose(alone["a"], scores["a"])


def test_a_variant_that_others_answered_explains_nothing() -> None:
    async def breaks(member_id: str, question: Question) -> NDArray[np.float32] | None:
        if member_id == "pair" and 0 not in question.item:
            return None
        return await ask(member_id, question)

    body = {"history": history("i0", "i1"), "candidates": ["i1"]}
    answer = explained(desk(linear(count=0.5, pair=0.5), breaks), body)
    assert [event["item"] for event in answer["results"][0]["events"]] == ["i1"]
    assert (answer["used_events"], answer["explained_events"]) == (2, 1)


def test_what_is_not_tried_by_the_deadline_is_left_out() -> None:
    async def slow(member_id: str, question: Question) -> NDArray[np.float32]:
        if len(question.item) < 2:
            await asyncio.sleep(5)
        return await ask(member_id, question)

    body = {"history": history("i0", "i1"), "candidates": ["i1"]}
    answer = explained(desk(linear(count=1.0), slow), body, x_deadline_ms="200")
    assert answer["results"][0]["events"] == []
    assert (answer["explained_events"], answer["degraded"]) == (0, False)


@pytest.mark.parametrize(("deadline_ms", "left_s"), [("300", 0.27), ("100", 0.09)])
def test_variants_leave_as_much_of_the_deadline_for_the_way_back_as_the_question(
    monkeypatch: pytest.MonkeyPatch, deadline_ms: str, left_s: float
) -> None:
    """30 ms, or a tenth of it. No time passes while they are asked."""
    still = SimpleNamespace(monotonic=lambda: 100.0)
    for module in ("gate.gate", "answering.desk", "routes.explain"):
        monkeypatch.setattr(f"penchant.serve.{module}.time", still)
    to, waits_s = desk(linear(count=1.0)), list[float]()
    judge = to.panel.judge

    async def noted(question: Question, timeout_s: float) -> Verdict:
        waits_s.append(timeout_s)
        return await judge(question, 10.0)

    monkeypatch.setattr(to.panel, "judge", noted)
    body = {"history": history("i0", "i1"), "candidates": ["i1"]}
    assert explained(to, body, x_deadline_ms=deadline_ms)["explained_events"] == 2
    assert waits_s == [pytest.approx(left_s)] * 3


def test_an_item_that_is_not_asked_for_and_an_empty_history_have_no_reasons() -> None:
    async def masked(member_id: str, question: Question) -> NDArray[np.float32]:
        scores = await ask(member_id, question)
        scores[:, question.item] = -np.inf
        return scores

    to = desk(linear(count=0.5, pair=0.5), masked, exclude_seen=True)
    result = explained(to, {"history": history("i1"), "candidates": ["i1"]})["results"][0]
    assert (result["score"], result["events"]) == (None, [])
    assert [m["share"] for m in result["members"]] == [None, None]
    answer = explained(to, {"history": [], "candidates": ["i1"]})
    assert (answer["cold_start"], answer["explained_events"]) == (True, 0)
    assert answer["results"][0]["events"] == []


def test_without_an_item_the_rest_stays_as_it_was() -> None:
    body = {"history": history("i3", "i4", "i3", "i5"), "candidates": ["i1"]}
    asked = ExplainBody.model_validate(body)
    question, _ = desk(linear(count=1.0)).reader.question(asked, NOW_MS)
    rest = without_item(question, 3)
    assert rest.item.tolist() == [4, 5]
    assert rest.time_ms.tolist() == [NOW_MS - 3000, NOW_MS - 1000]
    assert rest.group is not None
    assert rest.group.tolist() == [0, 1]
    assert without_item(rest, 77).item.tolist() == [4, 5]


def test_every_variant_counts_for_the_rate_of_its_key(tmp_path: Path) -> None:
    """One request for reasons is up to 65 questions to the members."""
    ring = KeyRing(tmp_path)
    guard, token = Guard(ring=ring), ring.add("shop", rate_per_s=1.0, burst=2)
    body = {"history": history("i0", "i1", "i0", "i2"), "candidates": ["i3"]}
    to = desk(linear(count=1.0))
    assert send(to, body, guard, x_api_key=token).status_code == 200
    held = send(to, body, guard, x_api_key=token)
    assert (held.status_code, held.headers["retry-after"]) == (429, "3")  # 1 + 3, less a burst of 2
