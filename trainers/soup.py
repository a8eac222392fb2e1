"""The weights of a training's best epochs, and their mean, which is often better than any of them.

Source: Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization";
Wortsman et al. 2022, "Model soups", where a mean is kept only if it is better on held-out data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Kept", "best_epochs", "keep_epoch", "mean_state", "mean_weights", "weights_of"]

#: Weights of several epochs as one mapping, as a checkpoint holds them: `<epoch>/<name>`.
Kept = dict[str, Tensor]


def best_epochs(epochs: Sequence[Mapping[str, Any]], most: int) -> list[int]:
    """The epochs of least loss on `select`, best first; of equal ones the earlier.

    Args:
        epochs: what each epoch did, with its `select_loss`.
        most: so many at most.
    """
    order = sorted(range(len(epochs)), key=lambda at: epochs[at]["select_loss"])
    return order[:most]


def keep_epoch(
    kept: Kept, wanted: Sequence[int], last: int, weights: Callable[[], Mapping[str, Tensor]]
) -> Kept:
    """What is kept after the epoch `last`; `weights` copies its weights, if they are wanted."""
    now = {name: t for name, t in kept.items() if int(name.partition("/")[0]) in wanted}
    if last in wanted:
        now |= {f"{last}/{name}": t for name, t in weights().items()}
    return now


def weights_of(kept: Kept, epoch: int) -> dict[str, Tensor]:
    """The weights of one epoch that is kept."""
    begin = f"{epoch}/"
    return {name[len(begin) :]: t for name, t in kept.items() if name.startswith(begin)}


def mean_weights(kept: Kept, epochs: Sequence[int]) -> dict[str, Tensor]:
    """The mean of several epochs' weights."""
    return mean_state([weights_of(kept, epoch) for epoch in epochs])


def mean_state(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several states; what is no floating-point number is the first one's."""
    return {
        name: torch.stack([state[name] for state in states]).mean(0)
        if first.is_floating_point()
        else first
        for name, first in states[0].items()
    }
