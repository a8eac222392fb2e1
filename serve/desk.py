"""Reads questions, has them judged, writes answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import HTTPException, Request, Response
from numpy.typing import NDArray

from penchant.serve.gate import ARRIVED, REQUEST_ID
from penchant.serve.history import Question, Reader, trial_question
from penchant.serve.panel import Panel, Verdict
from penchant.serve.schema import (
    Answer,
    EnsembleCard,
    RecommendBody,
    RefusedError,
    Result,
    ScoreBody,
)

__all__ = ["Desk"]

_RETRY_AFTER_S = 1

#: Members that are not up by then are greeted by the first requests.
_GREET_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Answers the two questions for one ensemble."""

    card: EnsembleCard
    reader: Reader
    panel: Panel
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000

    async def greet(self) -> None:
        """Ask every member once, so that the first request finds the ways to them open."""
        asked = trial_question(self.reader.requests, 0, has_groups=self.reader.has_groups)
        await self.panel.judge(asked, _GREET_S)

    async def score(self, body: ScoreBody, request: Request, deadline_ms: int) -> Response:
        """Scores of the candidates in the order in which they were asked about."""
        binary = self.card.task == "binary"
        asked = self.reader.candidates(body.candidates)
        question, ignored = self.reader.question(body, self.now_ms(), asked if binary else None)
        verdict = await self._judge(question, request, deadline_ms)
        chosen = None if binary else asked
        results = self._results(verdict, asked, chosen, members=body.members)
        return self._answer(question, ignored, verdict, results, request)

    async def recommend(self, body: RecommendBody, request: Request, deadline_ms: int) -> Response:
        """The best items, best first."""
        if self.card.task == "binary":
            raise RefusedError("body", "a binary ensemble ranks no catalogue: ask /v1/score")
        if body.exclude_seen is False and self.card.exclude_seen:
            raise RefusedError(
                "body.exclude_seen", "this ensemble was made never to ask for seen items"
            )
        question, ignored = self.reader.question(body, self.now_ms())
        verdict = await self._judge(question, request, deadline_ms)
        scores = _scores(verdict)[0].copy()
        if body.exclude_seen:
            scores[question.item] = -np.inf
        index = self.reader.catalog.item_index
        scores[[index[item] for item in body.exclude if item in index]] = -np.inf
        best = np.argsort(-scores, kind="stable")[: body.k]
        chosen = best[np.isfinite(scores[best])].astype(np.int32)
        results = self._results(verdict, chosen, chosen, members=body.members)
        return self._answer(question, ignored, verdict, results, request)

    async def _judge(self, question: Question, request: Request, deadline_ms: int) -> Verdict:
        spent_s = time.monotonic() - request.scope["state"][ARRIVED]
        verdict = await self.panel.judge(question, deadline_ms / 1000 - spent_s)
        if verdict.scores is None:
            raise HTTPException(
                503,
                "no member answered; try again, or allow more with X-Deadline-Ms",
                {"Retry-After": str(_RETRY_AFTER_S)},
            )
        return verdict

    def _results(
        self,
        verdict: Verdict,
        items: NDArray[np.int32],
        columns: NDArray[np.int32] | None,
        *,
        members: bool,
    ) -> list[Result]:
        """Results of K items, found at these columns of one row, or in K rows of one column."""

        def picked(scores: NDArray[np.floating]) -> list[float | None]:
            flat = scores[:, 0] if columns is None else scores[0, columns]
            return [float(score) if np.isfinite(score) else None for score in flat]

        catalog = self.reader.catalog
        scores = picked(_scores(verdict))
        chances = None if verdict.probabilities is None else picked(verdict.probabilities)
        own = {m: picked(s) for m, s in verdict.members.items()} if members else {}
        results = []
        for at, item in enumerate(items):
            facts: dict[str, Any] = {"item": catalog.item_ids[item], "score": scores[at]}
            if catalog.item_texts[item]:
                facts["text"] = catalog.item_texts[item]
            if chances is not None and scores[at] is not None:
                facts["probability"] = chances[at]
            if members:
                facts["members"] = {name: values[at] for name, values in own.items()}
            results.append(Result(**facts))
        return results

    def _answer(
        self,
        question: Question,
        ignored: int,
        verdict: Verdict,
        results: list[Result],
        request: Request,
    ) -> Response:
        answer = Answer(
            request_id=request.scope["state"][REQUEST_ID],
            ensemble=self.card.name,
            version=self.card.version,
            time_ms=question.asked_ms,
            degraded=bool(verdict.left_out),
            left_out=verdict.left_out,
            used_events=len(question.item),
            ignored_events=ignored,
            results=results,
        )
        # What was not set is left out; a score that is null was set, and says so.
        return Response(answer.model_dump_json(exclude_unset=True), media_type="application/json")


def _scores(verdict: Verdict) -> NDArray[np.float32]:
    if verdict.scores is None:
        raise TypeError("a verdict without scores is answered with 503 before")
    return verdict.scores
