"""`Linear`: a weighted mean of members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from penchant.ensembles.normalize import Normalization

__all__ = ["Linear"]


class Linear(BaseModel):
    """Weights of members, positive, with a sum of 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["linear"] = "linear"
    normalization: Normalization
    weights: dict[str, float] = Field(min_length=1)

    @property
    def shares(self) -> Mapping[str, float]:
        """The weights."""
        return self.weights

    @property
    def needs_facts(self) -> bool:
        """Never."""
        return False

    def merge(
        self, parts: Mapping[str, NDArray[np.float32]], facts: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """Weighted mean, shape (R, C); weights of missing members go to the others in proportion.

        Args:
            parts: normalised scores, (R, C) each.
            facts: not looked at.
        """
        present = {name: weight for name, weight in self.weights.items() if name in parts}
        whole = sum(present.values())
        total = np.zeros(next(iter(parts.values())).shape, dtype=np.float32)
        for name, weight in present.items():
            total += np.float32(weight / whole) * parts[name]
        return total
