"""`POST /v1/explain`: a score, the members' parts of it, and the events that moved it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from penchant.platform.events import Catalog
from penchant.serve.answering.desk import Answered, Desk, Errand
from penchant.serve.answering.history import Question
from penchant.serve.answering.influence import MAX_ITEMS, Influence, influence, shares
from penchant.serve.answering.panel import Verdict
from penchant.serve.wire.fields import Bounded
from penchant.serve.wire.schema import Answer, AskedCandidate, LeftOut, Result, ScoreBody

__all__ = [
    "EventPart",
    "ExplainBody",
    "Explained",
    "Explanation",
    "MemberPart",
    "explain",
    "variants",
]

MAX_EXPLAINED = 5
_TOP_EVENTS = 10
#: Scores are float32: what is smaller, as a part of the score, is no effect.
_ROUNDING = 1e-6
_NO_COLD = "an unknown item's score is not explained: ask /v1/score for the score alone"


class ExplainBody(ScoreBody):
    """Why does the user get these scores?"""

    candidates: Annotated[list[AskedCandidate], Bounded(MAX_EXPLAINED, least=1)] = Field(
        description="Known items; answered in this order."
    )


class MemberPart(BaseModel):
    """What a member made of the candidate."""

    member: str
    weight: float = Field(description="As it was fitted, with all members there.")
    score: float | None = Field(description="Its own, before it was made comparable.")
    share: float | None = Field(
        description="Its part of the ensemble's score, which is the sum of these: its normalised "
        "score by its weight. Scores are normalised among those of one request. Null where the "
        "ensemble is no weighted sum."
    )


class EventPart(BaseModel):
    """What the user's events of one item did to the score."""

    item: str
    text: str | None = None
    time_ms: int = Field(description="Of the newest of them.")
    effect: float = Field(description="The score minus what it would be without these events.")


class Explained(BaseModel):
    """A candidate's score, and what it was made from."""

    item: str
    text: str | None = None
    score: float | None
    probability: float | None = None
    members: list[MemberPart] = Field(description="Of those that answered.")
    events: list[EventPart] = Field(
        description=f"The {_TOP_EVENTS} that moved the score most, whichever way."
    )


class Explanation(BaseModel):
    """Scores and their reasons."""

    request_id: str
    ensemble: str
    version: str
    time_ms: int
    degraded: bool
    left_out: list[LeftOut]
    cold_start: bool
    used_events: int
    ignored_events: int
    explained_events: int = Field(
        description="How many of the used events were tried without: those of the newest "
        f"{MAX_ITEMS} items, as far as the deadline allowed."
    )
    results: list[Explained]


async def explain(desk: Desk, body: ExplainBody, errand: Errand) -> Answered:
    """Score the candidates, and score them again without each item of the history.

    Raises:
        RefusedError: the body does not fit the ensemble.
        HTTPException: 503 where no member answered.
    """
    asked = desk.read(body, refusal=_NO_COLD)
    scored = await desk.score_asked(asked, errand, members=True)

    def picked(scores: NDArray[np.float32]) -> NDArray[np.float32]:
        return scores[:, 0] if asked.columns is None else scores[0, asked.columns]

    async def ask(question: Question) -> Verdict | None:
        left_s = errand.until - time.monotonic()  # as for the whole question: the rest is travel
        return await desk.panel.judge(question, left_s) if left_s > 0 else None

    moved = await influence(asked.question, scored.verdict, picked, ask)
    parts = shares(desk.panel.combination, scored.verdict.members)
    results = []
    for at, result in enumerate(scored.answer.results):
        own = {name: _number(picked(part)[at]) for name, part in (parts or {}).items()}
        facts = result.model_dump(exclude_unset=True) | {
            "members": _member_parts(desk.panel.combination.shares, result, own),
            "events": _event_parts(desk.reader.catalog, moved, at, result.score),
        }
        results.append(Explained(**facts))
    shown = _explanation(scored.answer, moved.events, results)
    return replace(scored, shown=shown)


def variants(body: ExplainBody) -> int:
    """Questions that its reasons take beside the one for the score, at most."""
    return min(len({event["item"] for event in body.history or ()}), MAX_ITEMS)


def _member_parts(
    weights: Mapping[str, float], result: Result, own: Mapping[str, float | None]
) -> list[MemberPart]:
    return [
        MemberPart(member=name, weight=weights[name], score=score, share=own.get(name))
        for name, score in (result.members or {}).items()
    ]


def _event_parts(
    catalog: Catalog, moved: Influence, at: int, score: float | None
) -> list[EventPart]:
    """Items by their effect on one candidate, largest first; those that did nothing left out."""
    if score is None or not len(moved.item):
        return []
    effect = moved.effect[:, at]
    strength = np.where(np.isfinite(effect), np.abs(effect), 0.0)
    parts = []
    for place in np.argsort(-strength, kind="stable")[:_TOP_EVENTS]:
        if strength[place] <= _ROUNDING * max(1.0, abs(score)):
            break
        item = int(moved.item[place])
        facts: dict[str, Any] = {"item": catalog.item_ids[item]}
        if catalog.item_texts[item]:
            facts["text"] = catalog.item_texts[item]
        facts |= {"time_ms": int(moved.time_ms[place]), "effect": float(effect[place])}
        parts.append(EventPart(**facts))
    return parts


def _explanation(answer: Answer, explained: int, results: list[Explained]) -> Explanation:
    return Explanation(
        request_id=answer.request_id,
        ensemble=answer.ensemble,
        version=answer.version,
        time_ms=answer.time_ms,
        degraded=answer.degraded,
        left_out=answer.left_out,
        cold_start=answer.cold_start,
        used_events=answer.used_events,
        ignored_events=answer.ignored_events,
        explained_events=explained,
        results=results,
    )


def _number(score: float) -> float | None:
    return float(score) if np.isfinite(score) else None
