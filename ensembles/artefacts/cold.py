"""Items that the catalogue does not have, scored by those members that read their texts.

Each such item is scored by itself, on the scale of the catalogue's scores of the same request, of
which it changes none. Members that cannot read are left out and the weights of the others scaled
up, as where a member has failed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.combinations.combination import Combination
from penchant.ensembles.combinations.gated import Gated
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combiners.average import Median
from penchant.ensembles.normalize import normalize_beside

__all__ = ["combine_cold", "merges_cold"]

Scores = Mapping[str, NDArray[np.float32]]


def merges_cold(combination: Combination) -> bool:
    """Whether a combination can say something of an item that only some of its members score.

    Averages can. Fused ranks would need its place on lists that it is not part of; trees have never
    seen an item without most of its scores; a cascade may end before a member that reads.
    """
    return len(combination.shares) == 1 or isinstance(combination, Linear | Median | Gated)


def combine_cold(
    combination: Combination,
    cold: Scores,
    known: Scores,
    facts: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Scores of N items that the catalogue does not have, shape (R, N).

    Args:
        combination: one that `merges_cold`.
        cold: the items' scores by the members that read them, at least one, (R, N) each.
        known: the same members' scores of the catalogue, (R, V) each; not looked at where scores
            are comparable as they are: those of one member, or log-odds.
        facts: shape (R, F); None where the combination needs none.

    Raises:
        TypeError: the combination cannot.
    """
    if not merges_cold(combination):
        raise TypeError("only averages score an item that the catalogue does not have")
    if len(combination.shares) == 1:
        return cold[next(iter(combination.shares))]
    how = combination.normalization
    if how == "none":
        return combination.merge(cold, facts)
    parts = {name: normalize_beside(part, known[name], how) for name, part in cold.items()}
    return combination.merge(parts, facts)
