"""Combinations read back from an artefact's JSON, each by its `kind`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from penchant.ensembles.combinations.cascade import Cascade
from penchant.ensembles.combinations.combination import Combination
from penchant.ensembles.combinations.gated import Gated
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combinations.stacked import Stacked
from penchant.ensembles.combiners.average import Median
from penchant.ensembles.combiners.fusion import RankMean, ReciprocalRank

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
