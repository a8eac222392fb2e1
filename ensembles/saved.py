"""Combinations read back from an artefact's JSON, each by its `kind`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from penchant.ensembles.average import Median
from penchant.ensembles.cascade import Cascade
from penchant.ensembles.combination import Combination
from penchant.ensembles.fusion import RankMean, ReciprocalRank
from penchant.ensembles.gated import Gated
from penchant.ensembles.linear import Linear
from penchant.ensembles.stacked import Stacked

__all__ = ["parse_combination"]

_SAVED: TypeAdapter[Combination] = TypeAdapter(
    Annotated[
        Linear | Median | RankMean | ReciprocalRank | Gated | Stacked | Cascade,
        Field(discriminator="kind"),
    ]
)


def parse_combination(content: Mapping[str, Any]) -> Combination:
    """A combination from an artefact's JSON.

    Raises:
        pydantic.ValidationError: it is none.
    """
    return _SAVED.validate_python(content)
