"""`POST /v1/batch`: many questions in one body, each with an answer or a trouble of its own."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, NamedTuple, Self, TypeVar

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException

from penchant.serve.answering.desk import Answered
from penchant.serve.gate.refusals import unprocessable
from penchant.serve.wire.fields import STRICT, Bounded, Event
from penchant.serve.wire.schema import (
    Answer,
    Problem,
    RecommendBody,
    RefusedError,
    ScoreBody,
    Trouble,
)

__all__ = [
    "MAX_BATCH_EVENTS",
    "MAX_REQUESTS",
    "BatchAnswer",
    "BatchBody",
    "BatchEntry",
    "BatchRequest",
    "answer_batch",
]

logger = logging.getLogger(__name__)

MAX_REQUESTS = 64
#: Events that the questions of one body may have in all, those that are stored included.
MAX_BATCH_EVENTS = 100_000
#: Questions that are put to the members at a time, as many as they answer together, while these
#: come back in time for the others.
_AT_ONCE = 16
#: Users who are looked up at a time: so many histories may come beyond the bound of events.
_RECALLED_AT_ONCE = 8

_T = TypeVar("_T")

Question = ScoreBody | RecommendBody
Recall = Callable[[Question], Awaitable[list[Event] | None]]
AskOne = Callable[[Question, list[Event] | None, str], Awaitable[Answered]]


class BatchRequest(BaseModel):
    """One question, of either kind."""

    model_config = STRICT

    score: ScoreBody | None = Field(default=None, description="As for /v1/score.")
    recommend: RecommendBody | None = Field(default=None, description="As for /v1/recommend.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.score is None) == (self.recommend is None):
            raise PydanticCustomError("batch_request", "expected either score or recommend")
        return self

    @property
    def body(self) -> Question:
        """The question."""
        body = self.score or self.recommend
        if body is None:
            raise TypeError("a request without a question is refused before")
        return body

    @property
    def name(self) -> str:
        """Which kind it is."""
        return "recommend" if self.score is None else "score"


class BatchBody(BaseModel):
    """Many questions."""

    model_config = STRICT

    requests: Annotated[list[BatchRequest], Bounded(MAX_REQUESTS, least=1)] = Field(
        description=f"Their histories may have {MAX_BATCH_EVENTS} events in all."
    )


class BatchEntry(BaseModel):
    """What came of one question."""

    status: int = Field(description="As the question would have had by itself.")
    answer: Answer | None = Field(default=None, description="Where the status is 200.")
    trouble: Trouble | None = Field(default=None, description="Where it is another.")


class BatchAnswer(BaseModel):
    """What came of each question, in their order."""

    request_id: str = Field(description="Followed by -0, -1, ... it is each question's own.")
    results: list[BatchEntry]


async def answer_batch(
    body: BatchBody, request_id: str, recall: Recall, ask: AskOne, until: float
) -> BatchAnswer:
    """Answer all questions, some at a time, under the one deadline that `recall` and `ask` keep.

    Args:
        body: the questions.
        request_id: of the whole.
        recall: stored events of the user whom a question names, None where it has a history.
        ask: puts a question with its stored events; the text follows the request's id.
        until: when the answers have to be there, on the clock of `time.monotonic`.

    Raises:
        RefusedError: there are too many events.
    """
    recalled = await _recall_all(body, request_id, recall)
    turns = _Turns(sum(not isinstance(stored, BatchEntry) for stored in recalled), until)

    async def one(at: int, request: BatchRequest) -> BatchEntry:
        stored = recalled[at]
        if isinstance(stored, BatchEntry):
            return stored
        place = _Place(at, request.name, request_id)
        async with turns.turn():
            found = await _settled(ask(request.body, stored, f"-{at}"), place)
        if isinstance(found, BatchEntry):
            return found
        return BatchEntry(status=200, answer=found.answer)

    entries = await asyncio.gather(*(one(at, r) for at, r in enumerate(body.requests)))
    return BatchAnswer(request_id=request_id, results=entries)


class _Turns:
    """Lets some questions through at a time, none for longer than leaves time for the others.

    A question gives its place up when it has its answer, or has had its share of the time that is
    left. It is then still waited for, beside those that come after it: a member that is slow costs
    each of them that member, and none of them its answer.

    Args:
        questions: that will come.
        until: when the last of them has to be answered, on the clock of `time.monotonic`.
    """

    def __init__(self, questions: int, until: float) -> None:
        self._room, self._to_come, self._until = asyncio.Semaphore(_AT_ONCE), questions, until

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Inside, a question is asked."""
        await self._room.acquire()
        rounds = math.ceil(self._to_come / _AT_ONCE)
        self._to_come -= 1
        held = True

        def leave() -> None:
            nonlocal held
            if held:
                held = False
                self._room.release()

        share_s = max(self._until - time.monotonic(), 0.0) / rounds
        timer = asyncio.get_running_loop().call_later(share_s, leave)
        try:
            yield
        finally:
            timer.cancel()
            leave()


async def _recall_all(
    body: BatchBody, request_id: str, recall: Recall
) -> list[list[Event] | None | BatchEntry]:
    """What `recall` gives for each question; no further user is looked up beyond the bound."""
    events = sum(len(request.body.history or ()) for request in body.requests)
    room = asyncio.Semaphore(_RECALLED_AT_ONCE)

    async def one(at: int, request: BatchRequest) -> list[Event] | None | BatchEntry:
        nonlocal events
        async with room:
            _check(events)
            found = await _settled(recall(request.body), _Place(at, request.name, request_id))
        events += len(found) if isinstance(found, list) else 0
        return found

    recalled = await asyncio.gather(*(one(at, r) for at, r in enumerate(body.requests)))
    _check(events)
    return recalled


def _check(events: int) -> None:
    if events > MAX_BATCH_EVENTS:
        raise RefusedError("body.requests", f"expected at most {MAX_BATCH_EVENTS} events in all")


class _Place(NamedTuple):
    at: int
    name: str  # score or recommend
    batch_id: str

    @property
    def request_id(self) -> str:
        return f"{self.batch_id}-{self.at}"


async def _settled(work: Awaitable[_T], place: _Place) -> _T | BatchEntry:
    """What comes of a piece of work, or the entry of the question that failed."""
    try:
        return await work
    except RefusedError as error:
        where = f"body.requests.{place.at}.{place.name}{error.place.removeprefix('body')}"
        trouble = unprocessable([Problem(place=where, problem=error.problem)], place.request_id)
        return BatchEntry(status=422, trouble=trouble)
    except HTTPException as error:
        return _failed(error.status_code, error.detail, place)
    except Exception as error:  # the other questions want their answers
        # The type alone: a message might repeat what a user sent.
        logger.error("request %s: %s", place.request_id, type(error).__name__)
        return _failed(500, "internal error", place)


def _failed(status: int, error: str, place: _Place) -> BatchEntry:
    return BatchEntry(status=status, trouble=Trouble(error=error, request_id=place.request_id))
