"""`EvenShares`: what combinations have in common in which every member counts the same."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from penchant.ensembles.normalize import Normalization

__all__ = ["EvenShares"]


class EvenShares(BaseModel):
    """Members without weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    normalization: Normalization
    members: tuple[str, ...] = Field(min_length=1)

    @property
    def shares(self) -> Mapping[str, float]:
        """The same for all."""
        return {name: 1 / len(self.members) for name in self.members}

    @property
    def needs_facts(self) -> bool:
        """Never."""
        return False
