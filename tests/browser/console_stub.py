"""A service that answers the console with canned data, in the shapes of the real one.

Its items' texts hold markup that must never come alive. It takes one API key, and it can be told to
be degraded or not ready.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from penchant.serve.routes.console_page import ConsoleExample, console_router
from penchant.serve.routes.explain import Explanation
from penchant.serve.wire.schema import Answer, EnsembleCard

__all__ = ["DAY_MS", "HOSTILE", "KEY", "NOW_MS", "Stub"]

KEY = "pk_right"
NOW_MS = 1_512_129_600_000  # 2017-12-01T12:00:00Z
DAY_MS = 86_400_000
HOSTILE = '<img src=x onerror="window.hurt=1"><script>window.hurt=1</script> milk & "bread"'
TEXTS = {"1082185": "Bananas", "981760": HOSTILE, "1029743": "Milk, 1 gallon", "995242": ""}
#: Score of the ensemble, probability, and scores of `rebuy` and `neighbours`.
SCORES: dict[str, tuple[float, float, float, float | None]] = {
    "1082185": (2.5, 0.31, 0.9, 7.0),
    "981760": (1.25, 0.12, 0.5, 9.0),
    "1029743": (-0.5, 0.034, 0.7, None),
    "995242": (-1.0, 0.0004, 0.1, 1.0),
}


@dataclass
class Stub:
    """The service, what it is told to be, and what it was asked."""

    task: str = "next_item"
    name: str = "average"
    degraded: bool = False
    ready: bool = True
    keyed: bool = True
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def app(self) -> FastAPI:
        """Routes of the real service, answered out of this file."""
        app = FastAPI()
        app.include_router(console_router(_examples()))
        app.add_api_route("/healthz", lambda: {"status": "ok"})
        app.add_api_route("/readyz", self._readyz)
        app.add_api_route("/v1/ensemble", self._ensemble)
        for path in ("/v1/recommend", "/v1/score", "/v1/explain"):
            app.add_api_route(path, self._answer, methods=["POST"])
        return app

    def _readyz(self) -> JSONResponse:
        if self.ready:
            return JSONResponse(
                {"status": "ready", "ensemble": self.name, "version": "3f2a9c01d4e7"}
            )
        return _trouble(503, "no member answers", {"Retry-After": "1"})

    def _ensemble(self, request: Request) -> JSONResponse:
        return self._refusal(request) or JSONResponse(self._card().model_dump())

    async def _answer(self, request: Request) -> JSONResponse:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        body = await request.json()
        path = request.url.path
        self.asked.append((path, body))
        problems = [
            {"place": f"body.history.{at}.time", "problem": "expected a time before the request's"}
            for at, event in enumerate(body["history"])
            if event["item"] == "late"
        ]
        if problems:
            return _trouble(422, "a field is not as expected", problems=problems)
        if path == "/v1/explain":
            return JSONResponse(self._explanation(body))
        ids = body.get("candidates", list(SCORES))[: body.get("k", 100)]
        answer = self._head(body) | {"results": [_result(item, body) for item in ids]}
        return JSONResponse(Answer.model_validate(answer).model_dump(exclude_unset=True))

    def _refusal(self, request: Request) -> JSONResponse | None:
        given = request.headers.get("authorization")
        if not self.keyed or given == f"Bearer {KEY}":
            return None
        return _trouble(401, "no valid API key", {"WWW-Authenticate": "Bearer"})

    def _head(self, body: dict[str, Any]) -> dict[str, Any]:
        left_out = [{"member": "neighbours", "reason": "deadline"}] if self.degraded else []
        return {
            "request_id": "5d41402abc4b2a76b9719d911017c592",
            "ensemble": self.name,
            "version": "3f2a9c01d4e7",
            "time_ms": NOW_MS,
            "degraded": self.degraded,
            "cold_start": not body["history"],
            "left_out": left_out,
            "used_events": len(body["history"]),
            "ignored_events": 0,
        }

    def _explanation(self, body: dict[str, Any]) -> dict[str, Any]:
        (item,) = body["candidates"]
        score, probability, rebuy, neighbours = SCORES[item]
        members = [
            {"member": "rebuy", "weight": 0.6, "score": rebuy, "share": score + 0.5},
            {"member": "neighbours", "weight": 0.4, "score": neighbours, "share": -0.5},
        ]
        events = [
            {"item": "1082185", "text": "Bananas", "time_ms": NOW_MS - DAY_MS, "effect": 1.5},
            {"item": "981760", "text": HOSTILE, "time_ms": NOW_MS - 3 * DAY_MS, "effect": -0.75},
            {"item": "995242", "text": None, "time_ms": NOW_MS - 40 * DAY_MS, "effect": 0.02},
        ]
        result = {"item": item, "text": TEXTS[item] or None, "score": score}
        result |= {"probability": probability, "members": members, "events": events}
        told = self._head(body) | {"explained_events": 2, "results": [result]}
        return Explanation.model_validate(told).model_dump()

    def _card(self) -> EnsembleCard:
        window = {"days": None, "events": None, "half_life_days": None}
        members = [
            {"id": "rebuy", "kind": "personal", "weight": 0.6}
            | {"window": window | {"half_life_days": 30.0}},
            {"id": "neighbours", "kind": "item_item", "weight": 0.4, "window": window},
            {"id": "reader", "kind": "sequence", "weight": 0.0, "size": "d64x2"}
            | {"window": window | {"days": 180.0, "events": 200}},
        ]
        test = {
            "ndcg@10": {"mean": 0.2314, "low": 0.2241, "high": 0.2388},
            "recall@10": {"mean": 0.1987, "low": 0.19, "high": 0.2071},
            "ndcg@10/explore": {"mean": None, "low": None, "high": None},
        }
        facts = {
            "name": self.name,
            "version": "3f2a9c01d4e7",
            "task": self.task,
            "unit": "group",
            "has_groups": True,
            "types": ["buy", "coupon"],
            "exclude_seen": False,
            "normalization": "zscore",
            "items": 68_377,
            "metric": "ndcg@10",
            "data_until": "2017-10-02T00:00:00+00:00",
            "test": test,
            "members": members,
        }
        return EnsembleCard.model_validate(facts)


def _result(item: str, body: dict[str, Any]) -> dict[str, Any]:
    score, probability, rebuy, neighbours = SCORES[item]
    result: dict[str, Any] = {"item": item, "score": score, "probability": probability}
    if TEXTS[item]:
        result["text"] = TEXTS[item]
    if body["members"]:
        result["members"] = {"rebuy": rebuy, "neighbours": neighbours}
    return result


def _trouble(
    status: int,
    error: str,
    headers: dict[str, str] | None = None,
    problems: list[dict[str, str]] | None = None,
) -> JSONResponse:
    body = {"error": error, "problems": problems or [], "request_id": "r-1"}
    return JSONResponse(body, status, headers)


def _examples() -> list[ConsoleExample]:
    history = [
        {"item": "1082185", "time": NOW_MS - DAY_MS, "type": "buy", "value": 2.0},
        {"item": "981760", "time": NOW_MS - 3 * DAY_MS, "type": "coupon", "value": 1.0},
    ]
    grouped = [event | {"group": "basket 7"} for event in history]
    body = {"time": NOW_MS, "history": history, "candidates": ["995242", "981760"]}
    return [
        ConsoleExample(title="Two events", body=body),
        ConsoleExample(title=f"A basket {HOSTILE}", body=body | {"history": grouped}),
        ConsoleExample(title="A new user", body={"history": []}),
    ]
