"""The combiner: asks all members at once and answers, at the deadline, from those that did.

It lives in the ingress: a deployment of its own would add a hop of 2 ms to an addition. A member
that fails, is overloaded, answers nonsense or is late is left out and the weights of the others
are scaled up, so that one broken member costs quality and never an answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.artefacts.artefact import Ensemble
from penchant.ensembles.artefacts.cold import combine_cold
from penchant.ensembles.combinations.cascade import Cascade
from penchant.ensembles.combinations.combination import Combination
from penchant.ensembles.normalize import normalize
from penchant.serve.answering.cold import ColdVerdict, refusal
from penchant.serve.answering.history import Question, merge
from penchant.serve.wire.schema import LeftOut

__all__ = ["AskMember", "DownError", "OverloadedError", "Panel", "Verdict"]

logger = logging.getLogger(__name__)


class OverloadedError(Exception):
    """A member has as many requests waiting as it may have."""


class DownError(Exception):
    """A member's process is gone, or does not move; it is being looked after."""


class AskMember(Protocol):
    """How a member is reached."""

    async def __call__(self, member_id: str, question: Question) -> NDArray[np.float32] | None:
        """Its scores; None where it cannot give sound ones.

        Shape (R, C), or (1, N) where the question has texts.

        Raises:
            OverloadedError: it takes no more questions at the moment.
            DownError: its process is gone.
            Exception: whatever can go wrong on the way; the member is then left out.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the members say together."""

    scores: NDArray[np.float32] | None  # (R, C); None where no member answered
    probabilities: NDArray[np.float64] | None  # (R, C); None where scores were not calibrated
    members: Mapping[str, NDArray[np.float32]]  # of those that answered, each (R, C)
    left_out: list[LeftOut]
    latency_ms: Mapping[str, float] = field(default_factory=dict)  # of those that answered
    cold: ColdVerdict | None = None  # of the question's texts; None where nobody has read them


class Panel:
    """The members of an ensemble and its weights.

    Args:
        ensemble: weights and normalisation; its members need not be loaded.
        ask: reaches a member by its id.
        readers: those that can be asked about texts.
    """

    def __init__(self, ensemble: Ensemble, ask: AskMember, readers: Sequence[str] = ()) -> None:
        self._ensemble, self._ask, self._readers = ensemble, ask, readers
        self.refusal = refusal(ensemble.combination, readers)

    @property
    def combination(self) -> Combination:
        """How the members are combined."""
        return self._ensemble.combination

    def rehearse(self, question: Question) -> None:
        """Combine scores that nobody gave, so that what combining imports is imported; blocks."""
        nothing = np.zeros(self._shape(question), dtype=np.float32)
        members = [name for names in self._stages() for name in names]
        self._ensemble.probabilities(self._combine(question, dict.fromkeys(members, nothing)))

    async def judge(self, question: Question, timeout_s: float) -> Verdict:
        """Ask everybody, wait for at most `timeout_s`, combine.

        A cascade asks its cheap members first, and the others only where those are not sure. Items
        that the catalogue does not have are asked about beside, of the members that read.

        Raises:
            TypeError: the question has texts, and the panel refuses them.
        """
        until = time.monotonic() + timeout_s
        if not question.texts:
            return await self._judge_catalogue(question, until)
        known, cold = await asyncio.gather(
            self._judge_catalogue(replace(question, texts=()), until),
            self._ask_about_texts(replace(question, candidate=None), until),
        )
        left_out = {left.member: left for left in (*cold.left_out, *known.left_out)}
        return replace(
            known,
            left_out=list(left_out.values()),
            latency_ms={**cold.latency_ms, **known.latency_ms},
            cold=self._judge_cold(question, known.members, cold.members),
        )

    async def _judge_catalogue(self, question: Question, until: float) -> Verdict:
        if not question.rows:  # only unknown items are asked about
            nothing = np.zeros((0, 1), dtype=np.float32)
            chances = self._ensemble.probabilities(nothing)
            return Verdict(scores=nothing, probabilities=chances, members={}, left_out=[])
        heard = await self._hear(self._stages(), question, until)
        if not heard.members:
            return heard
        combined = self._combine(question, heard.members)
        chances = None
        if self._ensemble.calibrator is None or not heard.left_out:  # it was fitted on all of them
            chances = self._ensemble.probabilities(combined)
        return replace(heard, scores=combined, probabilities=chances)

    async def _ask_about_texts(self, question: Question, until: float) -> Verdict:
        """What each member that reads says of the texts, (1, N) each; nothing is combined."""
        return await self._hear([self._readers], question, until)

    def _judge_cold(
        self,
        question: Question,
        known: Mapping[str, NDArray[np.float32]],
        cold: Mapping[str, NDArray[np.float32]],
    ) -> ColdVerdict | None:
        """The texts' scores combined, on the scale of the catalogue's."""
        made, binary = self._ensemble.combination, question.candidate is not None
        if made.normalization != "none" and len(made.shares) > 1:
            cold = {name: scores for name, scores in cold.items() if name in known}
        if not cold:
            return None
        facts = None
        if made.needs_facts:
            alone = replace(question, candidate=None, texts=())
            facts = self._ensemble.facts(*merge([alone], len(self._ensemble.item_ids)))
        scores = combine_cold(made, cold, known, facts)[0]
        chances = None
        if binary and cold.keys() == made.shares.keys():  # what the calibrator was fitted on
            chances = self._ensemble.probabilities(scores[:, None])
        return ColdVerdict(
            scores=scores,
            probabilities=None if chances is None else chances[:, 0],
            members={name: part[0] for name, part in cold.items()},
        )

    def _stages(self) -> Sequence[Sequence[str]]:
        made = self._ensemble.combination
        return made.asked if isinstance(made, Cascade) else [list(made.shares)]

    def _sure(self, scores: Mapping[str, NDArray[np.float32]]) -> bool:
        """Whether a cascade needs nobody else."""
        made = self._ensemble.combination
        if not isinstance(made, Cascade) or not scores:
            return False
        parts = {name: normalize(part, made.normalization) for name, part in scores.items()}
        return not made.needed(parts).any()

    async def _hear(
        self, stages: Sequence[Sequence[str]], question: Question, until: float
    ) -> Verdict:
        """What members say, stage by stage until one is sure; nothing is combined.

        A stage that is not heard by half of the time that is left does not keep the next one from
        being asked. Its members may still answer meanwhile, and be sure: then nobody else counts.
        """
        latency_ms: dict[str, float] = {}

        async def timed(name: str) -> NDArray[np.float32] | None:
            began = time.monotonic()
            try:
                return await self._ask(name, question)
            finally:
                latency_ms[name] = (time.monotonic() - began) * 1000

        tasks: dict[str, asyncio.Task[NDArray[np.float32] | None]] = {}
        heard: dict[str, NDArray[np.float32] | LeftOut] = {}
        try:
            for at, names in enumerate(stages):
                late = len(tasks) > len(heard)
                tasks |= {name: asyncio.create_task(timed(name)) for name in names}
                left_s = max(until - time.monotonic(), 0.0)
                by = until if at == len(stages) - 1 else until - left_s / 2
                # Only who is late may make needless what the others say.
                each = asyncio.FIRST_COMPLETED if late else asyncio.ALL_COMPLETED
                await self._listen(stages, tasks, heard, by, each, self._shape(question))
                if (sure := self._sure_stage(stages, heard)) is not None:
                    heard = {name: heard[name] for stage in stages[: sure + 1] for name in stage}
                    break
            else:
                for name in tasks:
                    heard.setdefault(name, LeftOut(member=name, reason="deadline"))
        finally:  # the client may be gone: then nobody waits for the members either
            for task in tasks.values():
                task.cancel()
        members = _answers(heard)
        return Verdict(
            scores=None,
            probabilities=None,
            members=members,
            left_out=[found for found in heard.values() if isinstance(found, LeftOut)],
            latency_ms={name: latency_ms[name] for name in members},
        )

    async def _listen(
        self,
        stages: Sequence[Sequence[str]],
        tasks: Mapping[str, asyncio.Task[NDArray[np.float32] | None]],
        heard: dict[str, NDArray[np.float32] | LeftOut],
        by: float,
        each: str,
        shape: tuple[int, int],
    ) -> None:
        """Add to `heard` what members say: until `by`, or all have answered, or a stage is sure."""
        while waiting := [task for name, task in tasks.items() if name not in heard]:
            left_s = max(by - time.monotonic(), 0.0)
            done, _ = await asyncio.wait(waiting, timeout=left_s, return_when=each)
            heard |= {n: _outcome(n, task, shape) for n, task in tasks.items() if task in done}
            if not done or self._sure_stage(stages, heard) is not None:
                return

    def _sure_stage(
        self,
        stages: Sequence[Sequence[str]],
        heard: Mapping[str, NDArray[np.float32] | LeftOut],
    ) -> int | None:
        """The first stage that has been heard and is sure; the last one need not be."""
        known: dict[str, NDArray[np.float32]] = {}
        for at, names in enumerate(stages[:-1]):
            if any(name not in heard for name in names):
                return None
            known |= _answers({name: heard[name] for name in names})
            if self._sure(known):
                return at
        return None

    def _shape(self, question: Question) -> tuple[int, int]:
        """Of a member's answer."""
        if question.texts:
            return 1, len(question.texts)
        return question.rows, len(self._ensemble.item_ids) if question.candidate is None else 1

    def _combine(
        self, question: Question, scores: Mapping[str, NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        ensemble, facts = self._ensemble, None
        if ensemble.combination.needs_facts:
            facts = ensemble.facts(*merge([question], len(ensemble.item_ids)))
        return ensemble.combine(scores, facts)


def _outcome(
    name: str, task: asyncio.Task[NDArray[np.float32] | None], shape: tuple[int, int]
) -> NDArray[np.float32] | LeftOut:
    if not task.done() or task.cancelled():
        return LeftOut(member=name, reason="deadline")
    error = task.exception()
    if error is None:
        scores = task.result()
        if scores is not None and scores.shape == shape:
            return scores
        return LeftOut(member=name, reason="failed")
    if isinstance(error, OverloadedError):
        return LeftOut(member=name, reason="overloaded")
    if isinstance(error, DownError):
        return LeftOut(member=name, reason="down")
    # The type alone: a message might repeat what a user sent.
    logger.warning("member %s failed: %s", name, type(error).__name__)
    return LeftOut(member=name, reason="failed")


def _answers(
    heard: Mapping[str, NDArray[np.float32] | LeftOut],
) -> dict[str, NDArray[np.float32]]:
    return {name: found for name, found in heard.items() if not isinstance(found, LeftOut)}
