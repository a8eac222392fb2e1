"""A member as a replica: loads itself, proves that it works, answers questions in batches."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.artefact import Ensemble, load_ensemble
from penchant.platform.errors import RunError
from penchant.platform.events import read_log_card
from penchant.serve.history import Question, merge, trial_question
from penchant.serve.schema import MAX_EVENTS

__all__ = ["MAX_BATCH", "Batcher", "MemberReplica", "answer_all"]

logger = logging.getLogger(__name__)

#: Questions that are scored together, and events that they may read in all.
MAX_BATCH = 16
_MAX_BATCH_COST = 1_000_000

Scores = NDArray[np.float32]


class Batcher:
    """Scores whatever has gathered while the last batch was scored.

    Nobody waits for a batch to fill: alone, a question is scored at once, and batches grow with
    the load. (`serve.batch` waits a fixed time instead, also when there is nothing to wait for.)
    """

    def __init__(self, score: Callable[[Sequence[Question]], Sequence[Scores | None]]) -> None:
        self._score = score
        self._waiting: list[tuple[Question, asyncio.Future[Scores | None]]] = []
        self._worker: asyncio.Task[None] | None = None
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="score")

    async def ask(self, question: Question) -> Scores | None:
        """Scores of one question; a caller that is cancelled takes its question back."""
        answer: asyncio.Future[Scores | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            questions = [question for question, _ in batch]
            scored = await loop.run_in_executor(self._executor, self._score, questions)
            for (_, answer), scores in zip(batch, scored, strict=True):
                if not answer.done():
                    answer.set_result(scores)
        self._worker = None

    def _next_batch(self) -> list[tuple[Question, asyncio.Future[Scores | None]]]:
        waiting = [pair for pair in self._waiting if not pair[1].done()]
        size, cost = 0, 0
        while size < min(len(waiting), MAX_BATCH):
            cost += waiting[size][0].cost
            if size and cost > _MAX_BATCH_COST:
                break
            size += 1
        self._waiting = waiting[size:]
        return waiting[:size]


class MemberReplica:
    """One member of an ensemble, ready before it takes traffic.

    Args:
        directory: the ensemble's artefact.
        member_id: which of its members.
        threads: CPUs that it may compute on.

    Raises:
        DataError: the artefact is not whole.
        RunError: the member's numbers are not sound.
    """

    def __init__(self, directory: str, member_id: str, threads: int = 1) -> None:
        ensemble = load_ensemble(Path(directory), only=[member_id])
        _limit_threads(threads)
        groups = read_log_card(Path(directory))["has_groups"]
        everything = min(len(ensemble.item_ids), MAX_EVENTS)
        for events in (0, everything):  # nobody, and somebody who has had every item
            trial = trial_question(ensemble.requests, events, has_groups=groups)
            if answer_all(ensemble, member_id, [trial])[0] is None:
                raise RunError(
                    f"member {member_id} of {directory} has no sound scores for a history of "
                    f"{events} events: expected finite numbers. Fit it again, or serve another."
                )
        self._batcher = Batcher(lambda asked: answer_all(ensemble, member_id, asked))

    async def score(self, question: Question) -> Scores | None:
        """Scores of shape (R, C); None where they are not sound."""
        return await self._batcher.ask(question)


def answer_all(
    ensemble: Ensemble, member_id: str, questions: Sequence[Question]
) -> list[Scores | None]:
    """Scores of each question, shape (R, C) each; None where the member fails at it."""
    ends = np.cumsum([question.rows for question in questions])
    try:
        log, requests = merge(questions, len(ensemble.item_ids))
        scores = ensemble.member_scores(member_id, log, requests)
        parts = np.split(scores, ends[:-1])
        return [part if _sound(part) else None for part in parts]
    except Exception as error:  # whatever a member does, the others' questions want their answers
        if len(questions) == 1:
            logger.warning("member %s failed at a question: %s", member_id, type(error).__name__)
            return [None]
        return [one for q in questions for one in answer_all(ensemble, member_id, [q])]


def _sound(scores: Scores) -> bool:
    """Whether all are numbers; -inf marks items that are not asked for."""
    return not bool(np.any(np.isnan(scores) | (scores == np.inf)))


def _limit_threads(threads: int) -> None:
    """Keep torch to the replica's CPUs; only sequence members bring it in."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
