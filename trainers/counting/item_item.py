"""`item_item`: a ridge regression of every item on a user's others, or on what came before it.

`similarity` is EASE (Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019): with
G the Gram matrix of users' items and P = inverse(G + regularization x I), the weights are
B = -P / diag(P) with a zero diagonal. `transition` learns from what was asked for next, see
`transition.py`. Histories may fade with the age in events or in days.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from penchant.platform.errors import ConfigError
from penchant.platform.events import EventLog
from penchant.platform.recipes import ItemItemRecipe
from penchant.platform.requests import Requests
from penchant.trainers.counting.faded import faded_histories
from penchant.trainers.counting.transition import transition_weights
from penchant.trainers.member import Past, read_card, read_tensors, write_member

__all__ = ["ItemItemMember", "fit_item_item"]

#: The inverse of a V x V matrix: 20,000 items take 3.2 GB and some minutes.
_MAX_ITEMS = 20_000


@dataclass(frozen=True)
class ItemItemMember:
    """Item-to-item weights applied to the user's faded history."""

    recipe: ItemItemRecipe
    weights: NDArray[np.float32]  # (V, V), from history item (row) to candidate (column)

    @property
    def num_parameters(self) -> int:
        return self.weights.size

    def score(self, log: EventLog, requests: Requests) -> NDArray[np.float32]:
        if requests.candidate is not None:
            raise ConfigError("item_item members rank items: they cannot answer a binary task.")
        faded = faded_histories(self.recipe, log, requests)
        return np.asarray(faded @ self.weights, dtype=np.float32)

    def save(self, directory: Path) -> None:
        write_member(directory, self.recipe, {}, {"weights": self.weights})

    @classmethod
    def load(cls, directory: Path) -> ItemItemMember:
        recipe, _ = read_card(directory)
        if not isinstance(recipe, ItemItemRecipe):
            raise TypeError(f"{directory} holds a {recipe.kind} member, expected item_item")
        return cls(recipe=recipe, weights=read_tensors(directory)["weights"])


def fit_item_item(recipe: ItemItemRecipe, past: Past) -> ItemItemMember:
    """Solve for the weights on what each user chose before the cut-off.

    Raises:
        ConfigError: the task is binary, or the catalogue is too large for a dense inverse.
    """
    if past.spec.task == "binary":
        raise ConfigError("item_item members rank items: remove them from a binary experiment.")
    num_items = past.log.num_items
    if num_items > _MAX_ITEMS:
        raise ConfigError(
            f"item_item inverts a matrix of items x items: expected at most {_MAX_ITEMS} items, "
            f"got {num_items}. Remove the member, or use coarser items."
        )
    if recipe.relation == "transition":
        weights = transition_weights(recipe, past)
    else:
        weights = _similarity_weights(recipe, past)
    return ItemItemMember(recipe=recipe, weights=weights)


def _similarity_weights(recipe: ItemItemRecipe, past: Past) -> NDArray[np.float32]:
    """What users have is told by what else they have, in any order; shape (V, V)."""
    num_items = past.log.num_items
    rows = past.rows()
    ones = np.ones(len(rows), dtype=np.float32)
    chosen = sparse.csr_matrix(
        (ones, (past.log.user[rows], past.log.item[rows])), shape=(past.log.num_users, num_items)
    )
    chosen.data[:] = 1.0  # had it or not: repeats are the business of `personal`
    gram = np.asarray((chosen.T @ chosen).todense(), dtype=np.float64)
    gram[np.diag_indices(num_items)] += recipe.regularization
    inverse = linalg.inv(gram, overwrite_a=True, check_finite=False)
    weights = np.asarray(inverse / -np.diag(inverse), dtype=np.float32)
    np.fill_diagonal(weights, 0.0)
    return weights
