"""Items that the catalogue does not have: how they are asked about, and what is said of them.

Members that read texts score them (`trainers.member.ReadsTexts`); they are asked with a question of
their own beside the one about the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.artefacts.cold import merges_cold
from penchant.ensembles.combinations.combination import Combination
from penchant.platform.events import Catalog
from penchant.serve.wire.schema import MAX_UNKNOWN, Candidate, RefusedError, Result

__all__ = [
    "NO_READER",
    "Candidates",
    "ColdVerdict",
    "cold_results",
    "read_candidates",
    "refusal",
]

Scores = Mapping[str, NDArray[np.float32]]

#: Why an ensemble refuses unknown items, after "no item of the catalogue has this id".
NO_READER = (
    "the ensemble scores no item by its text alone: it has to be in the data that members learn "
    "from"
)
_UNKNOWN = "no item of the catalogue has this id"


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """What is asked about: C items of the catalogue and N others, in one order."""

    items: NDArray[np.int32]  # (C,)
    cold: tuple[Candidate, ...] = ()  # N of them
    is_cold: NDArray[np.bool_]  # (C + N,), of each in the order of the body


@dataclass(frozen=True, kw_only=True)
class ColdVerdict:
    """What members say together of N items that the catalogue does not have."""

    scores: NDArray[np.float32]  # (N,)
    probabilities: NDArray[np.float64] | None  # (N,); None where scores were not calibrated
    members: Scores  # of those that scored them, each (N,)


def read_candidates(
    asked: Sequence[str | Candidate], catalog: Catalog, refused: str | None
) -> Candidates:
    """Which items a body asks about. The text of a known one is not looked at.

    Args:
        refused: why items that the catalogue does not have are not scored; None where they are.

    Raises:
        RefusedError: such an item is not scored, has no text, or is one too many.
    """
    index, items = catalog.item_index, list[int]()
    cold, is_cold = list[Candidate](), np.zeros(len(asked), dtype=np.bool_)
    for at, one in enumerate(asked):
        code = index.get(one if isinstance(one, str) else one["id"])
        if code is not None:
            items.append(code)
            continue
        place = f"body.candidates.{at}"
        if isinstance(one, str):
            hint = "" if refused is not None else "; it can be scored if its text is given too"
            raise RefusedError(place, _UNKNOWN + hint)
        if refused is not None:
            raise RefusedError(place, f"{_UNKNOWN}, and {refused}")
        if not one["text"].strip():
            raise RefusedError(place, f"{_UNKNOWN}, and its text is blank")
        if len(cold) == MAX_UNKNOWN:
            raise RefusedError(
                place, f"expected at most {MAX_UNKNOWN} items that the catalogue does not have"
            )
        cold.append(one)
        is_cold[at] = True
    return Candidates(items=np.array(items, dtype=np.int32), cold=tuple(cold), is_cold=is_cold)


def refusal(combination: Combination, readers: Sequence[str]) -> str | None:
    """Why an ensemble scores no items that the catalogue does not have; None where it does.

    Args:
        readers: its members that read texts.
    """
    if not readers:
        return NO_READER
    if merges_cold(combination):
        return None
    return (
        "the ensemble scores no item by its text alone: its way to combine members needs the "
        "scores of all of them"
    )


def cold_results(
    cold: Sequence[Candidate], verdict: ColdVerdict | None, *, calibrated: bool
) -> list[Result]:
    """Results of N items that the catalogue does not have; their texts are not repeated.

    Args:
        verdict: None where no member has read them in time.
        calibrated: whether items of the catalogue have a probability.
    """
    results = []
    for at, one in enumerate(cold):
        facts: dict[str, Any] = {"item": one["id"], "score": None, "unknown": True, "members": {}}
        if calibrated:
            facts["probability"] = None
        if verdict is not None:
            facts["score"] = float(verdict.scores[at])
            facts["members"] = {name: float(own[at]) for name, own in verdict.members.items()}
        if verdict is not None and verdict.probabilities is not None:
            facts["probability"] = float(verdict.probabilities[at])
        results.append(Result(**facts))
    return results
