"""Reads questions, has them judged, writes answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from fastapi import HTTPException, Response
from numpy.typing import NDArray
from pydantic import BaseModel

from penchant.serve.answering.cold import Candidates, cold_results, read_candidates
from penchant.serve.answering.history import Question, Reader, trial_question
from penchant.serve.answering.panel import Panel, Verdict
from penchant.serve.wire.fields import Event
from penchant.serve.wire.schema import (
    Answer,
    Ask,
    EnsembleCard,
    RecommendBody,
    RefusedError,
    Result,
    ScoreBody,
)

__all__ = ["Answered", "Asked", "Desk", "Errand"]

_Body = TypeVar("_Body", bound=Ask)

_RETRY_AFTER_S = 1
#: Members that are not up by then are greeted by the first requests.
_GREET_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Errand:
    """What goes with a question."""

    request_id: str
    until: float  # when its answer has to be there, on the clock of `time.monotonic`
    awaited: bool = True  # nobody waits for a shadow's answer


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A body that was read. C items are asked about."""

    question: Question
    ignored: int  # events of unknown items
    items: NDArray[np.int32]  # (C,)
    columns: NDArray[np.int32] | None  # (C,), where a row of scores has them; None: C rows of one
    about: Candidates | None = None  # of a body that names them


@dataclass(frozen=True, kw_only=True)
class Answered:
    """An answer, and what the members said."""

    answer: Answer
    verdict: Verdict
    columns: NDArray[np.int32] | None  # of the verdict's one row, for each known item; None: row i
    whole: bool = False  # the best of all that the ensemble ranks, as on the test block
    shown: BaseModel | None = None  # what is sent instead, where more was asked for

    def response(self) -> Response:
        """The answer over HTTP. What was not set is left out; a score that is null says so."""
        body = (self.shown or self.answer).model_dump_json(exclude_unset=True)
        return Response(body, media_type="application/json")


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Answers questions for one ensemble."""

    card: EnsembleCard
    reader: Reader
    panel: Panel
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000

    async def greet(self, timeout_s: float = _GREET_S) -> bool:
        """Ask every member once, so that the first request finds the ways to them open.

        Returns:
            Whether at least one of them answered.
        """
        asked = trial_question(self.reader.requests, 0, has_groups=self.reader.has_groups)
        return (await self.panel.judge(asked, timeout_s)).scores is not None

    def recalled(self, body: _Body, stored: Sequence[Event] | None) -> _Body:
        """The body with a user's stored events as its history; unchanged where None are given."""
        if stored is None:
            return body
        asked_ms = self.now_ms() if body.time is None else body.time
        history = self.reader.fitting(stored, asked_ms)
        return body.model_copy(update={"time": asked_ms, "history": history})

    async def score(self, body: ScoreBody, errand: Errand) -> Answered:
        """Scores of the candidates in the order in which they were asked about."""
        return await self.score_asked(self.read(body), errand, members=body.members)

    async def score_asked(self, asked: Asked, errand: Errand, *, members: bool) -> Answered:
        """Scores of what a body asks about."""
        verdict = await self.judge(asked.question, errand)
        if not len(asked.items) and verdict.cold is None:
            raise _nobody()
        results = self._results(verdict, asked.items, asked.columns, members=members)
        if asked.about is not None and asked.about.cold:
            calibrated = verdict.probabilities is not None
            found = cold_results(asked.about.cold, verdict.cold, calibrated=calibrated)
            known, cold = iter(results), iter(found)
            results = [next(cold) if unknown else next(known) for unknown in asked.about.is_cold]
        return self._answer(asked, verdict, results, errand)

    def read(self, body: ScoreBody, refusal: str | None = None) -> Asked:
        """What a body asks.

        Args:
            refusal: why items that the catalogue does not have are refused; by default they are
                where the ensemble cannot score them.

        Raises:
            RefusedError: it does not fit the ensemble.
        """
        binary = self.card.task == "binary"
        refused = self.panel.refusal if refusal is None else refusal
        about = read_candidates(body.candidates, self.reader.catalog, refused)
        texts = tuple(one["text"] for one in about.cold)
        known = about.items if binary else None
        question, ignored = self.reader.question(body, self.now_ms(), known, texts)
        columns = None if binary else about.items
        return Asked(
            question=question, ignored=ignored, items=about.items, columns=columns, about=about
        )

    async def recommend(self, body: RecommendBody, errand: Errand) -> Answered:
        """The best items, best first."""
        if self.card.task == "binary":
            raise RefusedError("body", "a binary ensemble ranks no catalogue: ask /v1/score")
        if body.exclude_seen is False and self.card.exclude_seen:
            raise RefusedError(
                "body.exclude_seen", "this ensemble was made never to ask for seen items"
            )
        index = self.reader.catalog.item_index
        only = None if body.only is None else _known(body.only, index)
        question, ignored = self.reader.question(body, self.now_ms())
        verdict = await self.judge(question, errand)
        scores = _scores(verdict)[0].copy()
        if only is not None:
            others = np.ones(len(scores), dtype=np.bool_)
            others[only] = False
            scores[others] = -np.inf
        if body.exclude_seen:
            scores[question.item] = -np.inf
        scores[[index[item] for item in body.exclude if item in index]] = -np.inf
        best = np.argsort(-scores, kind="stable")[: body.k]
        chosen = best[np.isfinite(scores[best])].astype(np.int32)
        results = self._results(verdict, chosen, chosen, members=body.members)
        asked = Asked(question=question, ignored=ignored, items=chosen, columns=chosen)
        as_on_test = self.card.exclude_seen or not body.exclude_seen
        whole = as_on_test and only is None and not body.exclude
        return replace(self._answer(asked, verdict, results, errand), whole=whole)

    async def judge(self, question: Question, errand: Errand) -> Verdict:
        """What the members say, with scores.

        Raises:
            HTTPException: 503 where no member answered.
        """
        asked = replace(question, awaited=errand.awaited)
        verdict = await self.panel.judge(asked, errand.until - time.monotonic())
        if verdict.scores is None:
            raise _nobody()
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
        self, asked: Asked, verdict: Verdict, results: list[Result], errand: Errand
    ) -> Answered:
        answer = Answer(
            request_id=errand.request_id,
            ensemble=self.card.name,
            version=self.card.version,
            time_ms=asked.question.asked_ms,
            degraded=bool(verdict.left_out),
            left_out=verdict.left_out,
            cold_start=not len(asked.question.item),
            used_events=len(asked.question.item),
            ignored_events=asked.ignored,
            results=results,
        )
        return Answered(answer=answer, verdict=verdict, columns=asked.columns)


def _known(only: Sequence[str], index: Mapping[str, int]) -> list[int]:
    """The codes of items to choose from."""
    for at, item in enumerate(only):
        if item not in index:
            raise RefusedError(f"body.only.{at}", "no item of the catalogue has this id")
    return [index[item] for item in only]


def _nobody() -> HTTPException:
    return HTTPException(
        503,
        "no member answered; try again, or allow more with X-Deadline-Ms",
        {"Retry-After": str(_RETRY_AFTER_S)},
    )


def _scores(verdict: Verdict) -> NDArray[np.float32]:
    if verdict.scores is None:
        raise TypeError("a verdict without scores is answered with 503 before")
    return verdict.scores
