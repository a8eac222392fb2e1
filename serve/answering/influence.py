"""What a score was made of: the events that moved it, and the members' parts.

An item's influence is the score with all events minus the score without that item's: each variant
of the history is an ordinary question, so it is what the ensemble itself would have said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.combinations.combination import Combination
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.normalize import normalize
from penchant.serve.answering.history import Question
from penchant.serve.answering.panel import Verdict

__all__ = ["MAX_ITEMS", "Influence", "influence", "shares", "without_item"]

#: Items that are left out in turn, the newest of the history.
MAX_ITEMS = 64
#: Variants that are asked at a time: a batch of the members', which have others to answer too.
_AT_ONCE = 8

Scores = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Influence:
    """Effects of T items on the scores of C candidates."""

    item: NDArray[np.int32]  # (T,), the newest first
    time_ms: NDArray[np.int64]  # (T,), of each item's newest event
    effect: NDArray[np.float64]  # (T, C); not finite where there is no such score
    events: int  # that were left out in turn


def without_item(question: Question, item: int) -> Question:
    """The question of a user who never had this item."""
    kept = question.item != item
    group = question.group
    if group is not None:
        group = np.unique(group[kept], return_inverse=True)[1].astype(np.int32)
    return replace(
        question,
        item=question.item[kept],
        time_ms=question.time_ms[kept],
        kind=question.kind[kept],
        value=question.value[kept],
        group=group,
    )


async def influence(
    question: Question,
    whole: Verdict,
    picked: Callable[[Scores], Scores],
    ask: Callable[[Question], Awaitable[Verdict | None]],
) -> Influence:
    """Leave out the newest `MAX_ITEMS` items of the history, one at a time.

    A variant that other members answered than the whole question says nothing about the item, and
    counts as not tried.

    Args:
        question: with the whole history.
        whole: what the members said to it.
        picked: the candidates' scores, shape (C,), out of a verdict's.
        ask: puts a variant to the members; None where there is no time for it.
    """
    newest_first = question.item[::-1]
    distinct, place = np.unique(newest_first, return_index=True)
    items = distinct[np.argsort(place)][:MAX_ITEMS]
    room = asyncio.Semaphore(_AT_ONCE)

    async def effect(item: int) -> NDArray[np.float64] | None:
        async with room:
            verdict = await ask(without_item(question, item))
        if verdict is None or verdict.scores is None or whole.scores is None:
            return None
        if _absent(verdict) != _absent(whole):
            return None
        with np.errstate(invalid="ignore"):  # -inf - -inf, of items that are not asked for
            return np.subtract(picked(whole.scores), picked(verdict.scores), dtype=np.float64)

    effects = await asyncio.gather(*(effect(int(item)) for item in items))
    tried = np.array([found is not None for found in effects], dtype=np.bool_)
    rows = [found for found in effects if found is not None]
    newest_ms = question.time_ms[::-1][np.sort(place)][:MAX_ITEMS]
    return Influence(
        item=items[tried],
        time_ms=newest_ms[tried],
        effect=np.stack(rows) if rows else np.zeros((0, 0)),
        events=int(np.isin(question.item, items[tried]).sum()),
    )


def shares(combination: Combination, members: Mapping[str, Scores]) -> dict[str, Scores] | None:
    """Each member's part of the combined scores, shape (R, C), whose sum they are.

    None where the combination is no sum. A normalised score is one among those of its request, so
    that a share depends on what else could have been asked for.

    Args:
        combination: of the ensemble.
        members: scores of those that answered, shape (R, C) each.
    """
    if len(combination.shares) == 1:
        return dict(members)
    if not isinstance(combination, Linear):
        return None
    whole = sum(combination.weights[name] for name in members)
    return {
        name: np.float32(combination.weights[name] / whole)
        * normalize(scores, combination.normalization)
        for name, scores in members.items()
    }


def _absent(verdict: Verdict) -> set[str]:
    return {left_out.member for left_out in verdict.left_out}
