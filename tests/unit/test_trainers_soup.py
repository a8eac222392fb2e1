"""Weights of the best epochs: which are kept, and what their mean is."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from penchant.trainers.soup import Kept, best_epochs, keep_epoch, mean_weights, weights_of

__all__: list[str] = []


def course(*losses: float) -> list[dict[str, Any]]:
    return [{"select_loss": loss} for loss in losses]


def weights(value: float) -> dict[str, torch.Tensor]:
    return {"a/b": torch.full((2,), value), "steps": torch.tensor([int(value)])}


def test_the_best_come_first_and_the_earlier_of_equal_ones() -> None:
    assert best_epochs(course(3, 1, 2, 1), 3) == [1, 3, 2]
    assert best_epochs(course(3), 2) == [0]


def test_only_the_weights_of_the_best_epochs_stay() -> None:
    losses, kept = (5.0, 3.0, 4.0, 6.0, 2.0), Kept()
    held = []
    for at in range(len(losses)):
        kept = keep_epoch(
            kept, best_epochs(course(*losses[: at + 1]), 2), at, partial(weights, float(at))
        )
        held.append(sorted({int(name.partition("/")[0]) for name in kept}))
    assert held == [[0], [0, 1], [1, 2], [1, 2], [1, 4]]
    assert torch.equal(weights_of(kept, 4)["a/b"], torch.full((2,), 4.0))


def test_the_mean_is_of_numbers_and_leaves_counts_alone() -> None:
    kept = Kept()
    for at in range(2):
        kept = keep_epoch(kept, [0, 1], at, partial(weights, 1.0 + 4 * at))
    mean = mean_weights(kept, [0, 1])
    assert torch.equal(mean["a/b"], torch.full((2,), 3.0))
    assert torch.equal(mean["steps"], torch.tensor([1]))
