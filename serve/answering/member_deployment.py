"""Members as a replica: they load, prove that they work, and answer questions in batches."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.artefacts.artefact import Ensemble
from penchant.platform.errors import DataError, RunError
from penchant.serve.answering.batcher import Batcher
from penchant.serve.answering.card import version_of
from penchant.serve.answering.carrier import Answers, Asked
from penchant.serve.answering.history import Question, merge
from penchant.serve.answering.readiness import ready_members, sound
from penchant.serve.watch.meters import MemberMeters
from penchant.trainers.member import ReadsTexts
from penchant.trainers.text.engine import EngineName, HasEngine

__all__ = ["MAX_BATCH", "MemberReplica", "answer_all"]

logger = logging.getLogger(__name__)

#: Questions that are scored together, and events that they may read in all.
MAX_BATCH = 16
_MAX_BATCH_COST = 1_000_000

#: A batch that takes longer is stuck, and so is the replica.
_STUCK_S = 60.0

Scores = NDArray[np.float32]


class MemberReplica:
    """One member of an ensemble, or several small ones, ready before they take traffic.

    Args:
        directory: the ensemble's artefact.
        version: of the ensemble that it must hold.
        members: which of its members.
        threads: CPUs that they may compute on.
        engine: of members with a language model.
        beside: other deployments of the same version, which Serve is to start with this one.

    Raises:
        DataError: the artefact is not whole, or another version.
        RunError: a member's numbers are not sound, or not those of the day it was saved.
    """

    def __init__(
        self,
        directory: str,
        version: str,
        members: Sequence[str],
        threads: int = 1,
        engine: EngineName = "auto",
        beside: Sequence[object] = (),
    ) -> None:
        with _uncollected():
            ensemble = ready_members(Path(directory), members, threads=threads, engine=engine)
        found = version_of(Path(directory))  # asked last: whatever was loaded is of it
        if found != version:
            raise DataError(
                f"{directory} holds version {found} by now, expected {version}, which is live: put "
                "back what it held, or deploy it again."
            )
        self._meters = {name: MemberMeters(version, name) for name in members}
        self._looked_up: dict[str, tuple[int, int]] = {}
        self._ensemble = ensemble
        self._batcher = Batcher[Asked, Answers](
            self._answer,
            lambda asked: asked.question.cost,
            awaited=lambda asked: asked.question.awaited,
            max_batch=MAX_BATCH,
            max_cost=_MAX_BATCH_COST,
        )

    async def score(self, asked: Sequence[Asked]) -> list[Answers]:
        """For each question the scores by member; None where they are not sound.

        Shape (R, C) each, or (1, N) where the question has texts.
        """
        return await asyncio.gather(*(self._batcher.ask(one) for one in asked))

    async def alive(self) -> None:
        """A sign of life, from the event loop: questions are computed in a thread beside it."""

    def _answer(self, asked: Sequence[Asked]) -> Sequence[Answers]:
        """What each question's members say of it; a member reads all that ask it at once."""
        answers: list[dict[str, Scores | None]] = [{} for _ in asked]
        for name in dict.fromkeys(name for one in asked for name in one.members):
            at = [place for place, one in enumerate(asked) if name in one.members]
            questions = [asked[place].question for place in at]
            began = time.monotonic()
            scored = answer_all(self._ensemble, name, questions)
            meters = self._meters[name]
            cost = sum(question.cost for question in questions)
            meters.batch(size=len(at), cost=cost, seconds=time.monotonic() - began)
            meters.queue(self._batcher.waiting)
            self._tell_cache(name)
            for place, scores in zip(at, scored, strict=True):
                answers[place][name] = scores
        return answers

    def _tell_cache(self, name: str) -> None:
        member = self._ensemble.members[name]
        if isinstance(member, HasEngine) and member.cache is not None:
            hits, misses = member.cache.hits, member.cache.misses
            before = self._looked_up.get(name, (0, 0))
            self._meters[name].cache(hits=hits - before[0], misses=misses - before[1])
            self._looked_up[name] = (hits, misses)

    def forget(self) -> None:
        """Empty the caches: what they hold came from users' histories."""
        for member in self._ensemble.members.values():
            if isinstance(member, HasEngine) and member.cache is not None:
                member.cache.clear()

    def check_health(self) -> None:
        """Serve replaces a replica whose check raises.

        Raises:
            RunError: a batch does not come to an end.
        """
        if self._batcher.busy_s > _STUCK_S:
            raise RunError(f"a batch has taken {self._batcher.busy_s:.0f} s: the replica is stuck")


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which would look through all that is loaded, over and over.

    A third of the time that torch takes to import is that. Serve collects once afterwards, and has
    what stays not looked through again.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def answer_all(
    ensemble: Ensemble, member_id: str, questions: Sequence[Question]
) -> list[Scores | None]:
    """Scores of each question: (R, C) of what the catalogue has, or (1, N) of its texts.

    None where the member fails at a question.
    """
    known = iter(_of_catalogue(ensemble, member_id, [q for q in questions if not q.texts]))
    # After the others, which have left their histories in the member's cache.
    return [_of_texts(ensemble, member_id, q) if q.texts else next(known) for q in questions]


def _of_texts(ensemble: Ensemble, member_id: str, question: Question) -> Scores | None:
    member = ensemble.members[member_id]
    if not isinstance(member, ReadsTexts):
        return None
    try:
        log, requests = merge([question], len(ensemble.item_ids))
        scores = member.cold_scores(log, requests, question.texts)
    except Exception as error:  # as below
        logger.warning("member %s failed at texts: %s", member_id, type(error).__name__)
        return None
    return scores if np.isfinite(scores).all() else None


def _of_catalogue(
    ensemble: Ensemble, member_id: str, questions: Sequence[Question]
) -> list[Scores | None]:
    if not questions:
        return []
    ends = np.cumsum([question.rows for question in questions])
    try:
        log, requests = merge(questions, len(ensemble.item_ids))
        scores = ensemble.member_scores(member_id, log, requests)
        parts = np.split(scores, ends[:-1])
        return [part if sound(part) else None for part in parts]
    except Exception as error:  # whatever a member does, the others' questions want their answers
        if len(questions) == 1:
            logger.warning("member %s failed at a question: %s", member_id, type(error).__name__)
            return [None]
        return [one for q in questions for one in _of_catalogue(ensemble, member_id, [q])]
