"""What a step of fine-tuning learns from: the loss of a worker's requests."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from penchant.platform.recipes import TextRecipe
from penchant.trainers.course import Group
from penchant.trainers.text.network import Gather
from penchant.trainers.text.plan import TextStep

__all__ = ["text_loss"]


def text_loss(network: Any, recipe: TextRecipe, step: TextStep, group: Group) -> torch.Tensor:
    """Weighted sum over this worker's requests, with smoothed labels.

    Args:
        network: a `TextNetwork`, or DeepSpeed's engine around one.
        step: on the network's device.
    """
    smooth = recipe.label_smoothing
    if step.pool is None or step.hidden is None or step.log_q is None:
        wanted = step.wanted * (1 - smooth) + 0.5 * smooth
        each = functional.binary_cross_entropy_with_logits(
            network(step.text, None), wanted, reduction="none"
        )
        return (each * step.weight).sum()
    logits = network(step.text, step.pool, Gather(group.rank, group.workers, step.items))
    # Items come into the pool as often as they are chosen; log-Q takes that out again (Yi 2019).
    logits = logits - step.log_q
    logits = logits.masked_fill(step.hidden, -1e9)
    asked_for = (~step.hidden).to(logits.dtype)
    even = asked_for / asked_for.sum(1, keepdim=True)
    wanted = step.wanted * (1 - smooth) + even * smooth
    each = -(wanted * functional.log_softmax(logits, dim=1)).sum(1)
    return (each * step.weight).sum()
