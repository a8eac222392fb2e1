"""Metrics of yes-or-no requests: one candidate, a score that is a log-odds, a label of 0 or 1."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["auc", "binary_per_request"]


def binary_per_request(
    log_odds: NDArray[np.float32], label: NDArray[np.float32]
) -> Mapping[str, NDArray[np.float64]]:
    """Log loss, Brier score and accuracy at 0.5 of each request, each of shape (R,)."""
    odds = log_odds.astype(np.float64)
    chance = special.expit(odds)
    return {
        "log_loss": np.logaddexp(0.0, odds) - label * odds,
        "brier": (chance - label) ** 2,
        "accuracy": ((odds > 0) == (label > 0.5)).astype(np.float64),
    }


def auc(
    scores: NDArray[np.float32],
    label: NDArray[np.float32],
    weight: NDArray[np.float64] | None = None,
) -> float:
    """Chance that a yes is scored above a no; ties count half. NaN without both kinds.

    Args:
        weight: how often each request counts, shape (R,); by default once.
    """
    _, level = np.unique(scores, return_inverse=True)
    counted = np.ones(len(scores)) if weight is None else weight
    yes = np.bincount(level, weights=counted * label)
    no = np.bincount(level, weights=counted * (1 - label))
    below = np.cumsum(no) - no
    pairs = yes.sum() * no.sum()
    return float((yes * (below + no / 2)).sum() / pairs) if pairs else float("nan")
