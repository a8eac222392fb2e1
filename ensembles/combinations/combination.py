"""What a fitted combiner is: scores of members in, one score for each candidate out.

A combination is data (pydantic), so that an artefact holds it as JSON. It takes whatever members
answered: one that is missing costs quality, never an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.normalize import Normalization, normalize

__all__ = ["Combination", "combine"]

Scores = Mapping[str, NDArray[np.float32]]


class Combination(Protocol):
    """A fitted combiner; a pydantic model whose `kind` tells it from the others."""

    @property
    def normalization(self) -> Normalization:
        """How members' scores are made comparable before they are merged."""
        ...

    @property
    def shares(self) -> Mapping[str, float]:
        """How much each member that is needed counts; the sum is 1."""
        ...

    @property
    def needs_facts(self) -> bool:
        """Whether `merge` looks at the facts of a request (`facts.py`)."""
        ...

    def merge(self, parts: Scores, facts: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """One score for each candidate, shape (R, C); larger is better.

        Args:
            parts: normalised scores of the members that answered, at least one, each (R, C).
            facts: shape (R, F); None where the combination needs none.
        """
        ...

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """The combination as JSON."""
        ...


def combine(
    combination: Combination, scores: Scores, facts: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Scores of the members that are there, normalised and merged; shape (R, C).

    An ensemble of one passes its member's scores unchanged.
    """
    if len(combination.shares) == 1:
        return scores[next(iter(combination.shares))]
    how = combination.normalization
    parts = {name: normalize(scores[name], how) for name in combination.shares if name in scores}
    return combination.merge(parts, facts)
