"""Batches out of whatever has gathered while the last batch was computed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from penchant.serve.answering.pace import Pace
from penchant.serve.answering.priority import yield_to_answers

__all__ = ["Batcher"]

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


class Batcher(Generic[Asked, Answered]):
    """Answers whatever has gathered while the last batch was answered, in one thread beside.

    Nobody waits for a batch to fill: alone, a question is answered at once, and batches grow with
    the load. (`serve.batch` waits a fixed time instead, also when there is nothing to wait for.)
    A batch holds no more than can be answered in `target_s`, by what questions took lately: work
    that is slow anyway gains little from company, and whoever answers the last batch shall have the
    next one waiting while callers read and ask anew. What nobody awaits is computed in a thread
    that the machine puts behind all others (on Linux, where threads have their own niceness).

    Args:
        answer: answers a batch, in order.
        cost: what a question costs, in units of `max_cost`.
        awaited: whether somebody waits for the answer to a question.
        max_batch: questions that are answered together.
        max_cost: what they may cost in all; one that costs more is answered alone.
        target_s: what a batch should take at most.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Asked]], Sequence[Answered]],
        cost: Callable[[Asked], int],
        *,
        awaited: Callable[[Asked], bool] = lambda _: True,
        max_batch: int,
        max_cost: int,
        target_s: float = 0.1,
    ) -> None:
        self._answer, self._cost, self._awaited = answer, cost, awaited
        self._max_batch, self._max_cost = max_batch, max_cost
        self._target_s, self._pace = target_s, Pace()
        self._waiting: list[tuple[Asked, asyncio.Future[Answered]]] = []
        self._worker: asyncio.Task[None] | None = None
        self._ahead = ThreadPoolExecutor(max_workers=1, thread_name_prefix="score")
        self._behind = ThreadPoolExecutor(1, "score-behind", yield_to_answers)
        self._began: float | None = None

    @property
    def waiting(self) -> int:
        """Questions that are not being answered yet."""
        return len(self._waiting)

    @property
    def busy_s(self) -> float:
        """How long the batch has taken that is under way; 0 where none is."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    async def ask(self, question: Asked) -> Answered:
        """The answer to one question; a caller that is cancelled takes its question back."""
        answer: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        try:
            while batch := self._next_batch():
                await self._answer_batch(batch)
        finally:  # else nobody would be answered any more
            self._worker = None

    async def _answer_batch(self, batch: list[tuple[Asked, asyncio.Future[Answered]]]) -> None:
        """Answer these questions, or tell each of them what went wrong."""
        questions = [question for question, _ in batch]
        executor = self._ahead if any(map(self._awaited, questions)) else self._behind
        self._began = began_s = time.monotonic()
        try:
            loop = asyncio.get_running_loop()
            answers = await loop.run_in_executor(executor, self._answer, questions)
            self._pace.note(time.monotonic() - began_s, len(batch))
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        finally:
            self._began = None

    def _next_batch(self) -> list[tuple[Asked, asyncio.Future[Answered]]]:
        waiting = [pair for pair in self._waiting if not pair[1].done()]
        size, cost = 0, 0
        largest = min(len(waiting), self._pace.affordable(self._target_s, self._max_batch))
        while size < largest:
            cost += self._cost(waiting[size][0])
            if size and cost > self._max_cost:
                break
            size += 1
        self._waiting = waiting[size:]
        return waiting[:size]
