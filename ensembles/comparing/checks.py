"""Predictions that cannot be compared are refused, and what is odd about the others is told.

Nothing is mended silently: a refusal names the member, how many scores and the first request; what
is left out or worth knowing comes back as notes, with its count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.predictions import Blend, Predictions, Test
from penchant.platform.errors import DataError
from penchant.platform.requests import Requests
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block
from penchant.trainers.refit import REFIT

__all__ = ["FEW_USERS", "check_blocks", "check_cutoffs", "check_predictions"]

#: With fewer users the intervals are shown with a warning: a bootstrap of few units is too narrow.
FEW_USERS = 50
_NAMED = 3  # members that a message spells out
_WHAT_HELPS = "Score the block again with this member, or leave it out of the comparison."
_FINITE = "a finite number for each candidate (-inf where a ranking does not ask for it)"
_OTHERS = "candidate(s) that the first member has not, or the other way round"
_SAME = "all members to score the same candidates of a request"

B = TypeVar("B", bound=Block)


@dataclass(frozen=True)
class _Fault:
    """What is wrong with one member's scores."""

    member: str
    number: int
    first: int  # position of the first request with it


def check_predictions(
    predictions: Predictions[B], ids: Sequence[str] | None = None
) -> tuple[Predictions[B], list[str]]:
    """The predictions that can be compared, and notes on what was left out or is odd.

    Requests without a target are left out: no metric is defined for them. Members whose scores are
    constant stay (they order nothing, ties count at their mean rank) and are told, as are a member
    that stands alone and a block of fewer than `FEW_USERS` users.

    Args:
        predictions: M members on R requests.
        ids: names of the requests in messages, shape (R,); by default their row of the log.

    Raises:
        DataError: request ids come twice, scores are NaN or infinite, members scored different
            candidates, or there is nothing to judge.
    """
    named = predictions.requests.row.astype(str).tolist() if ids is None else ids
    block = predictions.block
    if not predictions.scores:
        raise DataError(f"{block}: got no member, expected at least one. Fit some first.")
    _refuse_duplicates(predictions.requests, named, block)
    _refuse(predictions, _unusable(predictions), named, "scores that are NaN or infinite", _FINITE)
    _refuse(predictions, _other_candidates(predictions), named, _OTHERS, _SAME)
    judged, notes = _judged(predictions)
    return judged, [*notes, *_oddities(judged)]


def check_blocks(blend: Predictions[Blend], test: Predictions[Test]) -> None:
    """Refuse blocks that are mixed up: all of `test` comes after all of `blend`.

    Raises:
        DataError: a request is in both, a request of `test` is not later than all of `blend`, or
            the blocks have different members.
    """
    ours, theirs = blend.requests, test.requests
    both = np.intersect1d(ours.row, theirs.row)
    if len(both):
        raise DataError(
            f"{len(both)} request(s) are in blend and in test (first: {both[0]}): expected each "
            "in one block, since weights fitted on a request cannot be judged on it."
        )
    if set(blend.scores) != set(test.scores):
        odd = ", ".join(sorted(set(blend.scores) ^ set(test.scores)))
        raise DataError(f"{odd}: scores in one block only, expected every member in both blocks.")
    if not len(ours) or not len(theirs):
        raise DataError(
            f"blend has {len(ours)} request(s) and test {len(theirs)}: expected some in both. "
            "Move the time at which blend ends."
        )
    last = ours.time_ms.max()
    early = int((theirs.time_ms <= last).sum())
    if early:
        raise DataError(
            f"blocks are mixed up: {early} of {len(theirs)} requests of test are not later than "
            f"the last one of blend ({_moment(last)}); expected test to begin after blend has "
            "ended. Cut both at one moment."
        )


def check_cutoffs(
    run: RunDirectory, member_ids: Sequence[str], block: Block, start_ms: int
) -> list[str]:
    """Refuse members that have learned from the block that they are judged on.

    Args:
        run: where the members are kept; `until_ms` of a member's metrics.json is its cut-off.
        block: the block whose scores are used, not before `test` for refits.
        start_ms: when it begins.

    Returns:
        A note on members of older runs, which do not say up to when they were fitted.

    Raises:
        DataError: a member was fitted on events from the block or later: a leak.
    """
    unknown = []
    for name in member_ids:
        if name.endswith(REFIT) and block is not Block.TEST:
            raise DataError(
                f"{name} is a refit, which may have learned from {block}: expected members as they "
                "were first fitted. Refits are for serving, with weights that are fixed before."
            )
        facts = run.member_facts(name)
        until = facts.get("until_ms")
        if until is None:
            unknown.append(name)
        elif until > start_ms:
            raise DataError(
                f"{name} was fitted on events up to {_moment(until)}, after {block} begins "
                f"({_moment(start_ms)}): a leak. Fit it again up to the start of {block}, or "
                "earlier."
            )
    if not unknown:
        return []
    return [f"{_some(unknown)}: no cut-off on record, so a leak cannot be ruled out"]


def _refuse_duplicates(requests: Requests, ids: Sequence[str], block: Block) -> None:
    _, first, number = np.unique(requests.row, return_index=True, return_counts=True)
    twice = first[number > 1]
    if len(twice):
        raise DataError(
            f"{block}: {len(twice)} request id(s) come more than once (first: {ids[twice.min()]}): "
            "expected each once. Give every request an id of its own."
        )


def _refuse(
    predictions: Predictions[B], faults: list[_Fault], ids: Sequence[str], what: str, expected: str
) -> None:
    if not faults:
        return
    told = [f"{f.member} has {f.number} {what} (first: request {ids[f.first]})" for f in faults]
    more = f"; {len(told) - _NAMED} more members have such" if len(told) > _NAMED else ""
    raise DataError(
        f"{predictions.block}: {'; '.join(told[:_NAMED])}{more}. Expected {expected}. {_WHAT_HELPS}"
    )


def _unusable(predictions: Predictions[B]) -> list[_Fault]:
    """Scores that are NaN or +inf, or -inf as a log-odds."""
    ranking = predictions.requests.label is None
    faults = []
    for name, part in predictions.scores.items():
        bad = ~np.isfinite(part)
        if ranking:
            bad &= ~np.isneginf(part)
        faults += _fault(name, bad)
    return faults


def _other_candidates(predictions: Predictions[B]) -> list[_Fault]:
    """Candidates that one member has and the first one has not, or the other way round."""
    names = list(predictions.scores)
    first = predictions.scores[names[0]]
    asked = np.isfinite(first)
    faults = []
    for name in names[1:]:
        part = predictions.scores[name]
        if part.shape != first.shape:
            raise DataError(
                f"{predictions.block}: {name} has scores of shape {part.shape}, {names[0]} of "
                f"{first.shape}. Expected {_SAME}. {_WHAT_HELPS}"
            )
        faults += _fault(name, np.isfinite(part) != asked)
    return faults


def _fault(name: str, bad: NDArray[np.bool_]) -> list[_Fault]:
    if not bad.any():
        return []
    return [_Fault(name, int(bad.sum()), int(np.flatnonzero(bad.any(axis=1))[0]))]


def _judged(predictions: Predictions[B]) -> tuple[Predictions[B], list[str]]:
    """The requests that a metric is defined for."""
    requests, block = predictions.requests, predictions.block
    if requests.label is not None:
        yes = int(requests.label.sum())
        if yes in (0, len(requests)):
            raise DataError(
                f"{block}: {yes} of {len(requests)} labels are yes, expected both kinds: nothing "
                "tells a good score from a bad one. Choose a longer block."
            )
        return predictions, []
    full = np.diff(requests.target_offsets) > 0
    without = int((~full).sum())
    if not full.any():
        raise DataError(
            f"{block}: none of {len(requests)} requests has a target: expected at least one "
            "candidate that was chosen in some of them. Choose another block, or mend the targets."
        )
    if not without:
        return predictions, []
    note = f"{block}: {without} of {len(requests)} requests have no target and are left out"
    return predictions.take(np.flatnonzero(full)), [note]


def _oddities(predictions: Predictions[B]) -> list[str]:
    notes, block = [], predictions.block
    if len(predictions.scores) == 1:
        only = next(iter(predictions.scores))
        notes.append(f"{block}: {only} is the only member: there is nothing to combine")
    if constant := _constant(predictions.scores, ranking=predictions.requests.label is None):
        notes.append(f"{block}: {_some(constant)}: constant scores, which order nothing")
    if predictions.requests.label is not None and (odd := _probabilities(predictions.scores)):
        notes.append(
            f"{block}: {_some(odd)}: all scores lie between 0 and 1, as probabilities do; log-odds "
            "are expected: log(p / (1 - p))"
        )
    users = len(np.unique(predictions.requests.user))
    if users < FEW_USERS:
        notes.append(
            f"{block}: {users} users, fewer than {FEW_USERS}: take the intervals as rough, they "
            "are likely too narrow"
        )
    return notes


def _constant(scores: Mapping[str, NDArray[np.float32]], *, ranking: bool) -> list[str]:
    """Members that give one score to all candidates of a request, or of all where each has one."""
    along = 1 if ranking else None
    found = []
    for name, part in scores.items():
        lowest = np.min(part, axis=along, where=np.isfinite(part), initial=np.inf)
        if np.all(np.max(part, axis=along) <= lowest):  # a row without candidates is no order
            found.append(name)
    return found


def _probabilities(scores: Mapping[str, NDArray[np.float32]]) -> list[str]:
    """Members whose scores look like chances: log-odds that never deny anything are none."""
    return [name for name, part in scores.items() if 0 <= part.min() < part.max() <= 1]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(int(time_ms) / 1000, UTC).isoformat(timespec="seconds")
