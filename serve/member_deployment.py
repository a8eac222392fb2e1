"""Members as a replica: they load, prove that they work, and answer questions in batches."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.artefact import Ensemble, load_ensemble
from penchant.ensembles.self_test import SelfTest
from penchant.platform.errors import RunError
from penchant.platform.events import read_log_card
from penchant.serve.batcher import Batcher
from penchant.serve.card import version_of
from penchant.serve.history import Question, merge, trial_question
from penchant.serve.schema import MAX_EVENTS
from penchant.serve.watch.meters import MemberMeters

__all__ = ["MAX_BATCH", "MemberReplica", "answer_all"]

logger = logging.getLogger(__name__)

#: Questions that are scored together, and events that they may read in all.
MAX_BATCH = 16
_MAX_BATCH_COST = 1_000_000

#: A batch that takes longer is stuck, and so is the replica.
_STUCK_S = 60.0

Scores = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    members: Sequence[str]
    question: Question


class MemberReplica:
    """One member of an ensemble, or several small ones, ready before they take traffic.

    Args:
        directory: the ensemble's artefact.
        members: which of its members.
        threads: CPUs that they may compute on.
        beside: other deployments of the same version, which Serve is to start with this one.

    Raises:
        DataError: the artefact is not whole.
        RunError: a member's numbers are not sound, or not those of the day it was saved.
    """

    def __init__(
        self,
        directory: str,
        members: Sequence[str],
        threads: int = 1,
        beside: Sequence[object] = (),
    ) -> None:
        ensemble = load_ensemble(Path(directory), only=members)
        _limit_threads(threads)
        test = SelfTest.read(Path(directory), len(ensemble.item_ids))
        groups = read_log_card(Path(directory))["has_groups"]
        for name in members:
            _refuse_changed(ensemble, name, test)
            _refuse_unsound(ensemble, name, has_groups=groups)
        version = version_of(Path(directory))
        self._meters = {name: MemberMeters(version, name) for name in members}
        self._ensemble = ensemble
        self._batcher = Batcher[_Asked, dict[str, Scores | None]](
            self._answer,
            lambda asked: asked.question.cost,
            max_batch=MAX_BATCH,
            max_cost=_MAX_BATCH_COST,
        )

    async def score(
        self, members: Sequence[str], question: Question
    ) -> Mapping[str, Scores | None]:
        """Scores of shape (R, C) by member; None where they are not sound."""
        return await self._batcher.ask(_Asked(members=members, question=question))

    def _answer(self, asked: Sequence[_Asked]) -> list[dict[str, Scores | None]]:
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
            for place, scores in zip(at, scored, strict=True):
                answers[place][name] = scores
        return answers

    def check_health(self) -> None:
        """Serve replaces a replica whose check raises.

        Raises:
            RunError: a batch does not come to an end.
        """
        if self._batcher.busy_s > _STUCK_S:
            raise RunError(f"a batch has taken {self._batcher.busy_s:.0f} s: the replica is stuck")


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


def _refuse_changed(ensemble: Ensemble, name: str, test: SelfTest) -> None:
    scores = ensemble.member_scores(name, test.log, test.requests)
    difference = test.difference(name, scores)
    if difference > 1:
        raise RunError(
            f"member {name} of {ensemble.name} fails its self-test: its scores differ from those "
            f"of the day it was saved by {difference:.0f} times what is allowed. Its libraries, or "
            "the processor, are others than then: save the ensemble again here."
        )


def _refuse_unsound(ensemble: Ensemble, name: str, *, has_groups: bool) -> None:
    """Ask about nobody, and about somebody who has had every item."""
    for events in (0, min(len(ensemble.item_ids), MAX_EVENTS)):
        trial = trial_question(ensemble.requests, events, has_groups=has_groups)
        if answer_all(ensemble, name, [trial])[0] is None:
            raise RunError(
                f"member {name} of {ensemble.name} has no sound scores for a history of "
                f"{events} events: expected finite numbers. Fit it again, or serve another."
            )


def _sound(scores: Scores) -> bool:
    """Whether all are numbers; -inf marks items that are not asked for."""
    return not bool(np.any(np.isnan(scores) | (scores == np.inf)))


def _limit_threads(threads: int) -> None:
    """Keep torch to the replica's CPUs; only members with a network bring it in."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
