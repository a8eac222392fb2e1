"""Whether a pretraining is still sound: its losses and weights are numbers, on all workers."""

from __future__ import annotations

import math
from typing import Any

from penchant.platform.errors import RunError
from penchant.trainers.course import Group
from penchant.trainers.pretrain.network import held_out_losses
from penchant.trainers.pretrain.plan import Asked
from penchant.trainers.zero.stages import gathered
from penchant.trainers.zero.state import is_finite

__all__ = ["check_loss", "judge_base", "judge_step"]


def check_loss(loss: float, when: str, kept_step: int) -> None:
    """See that a loss is a number.

    Args:
        loss: the same on every worker, so that all of them stop together.
        when: words that follow its value, such as `at step 3`.
        kept_step: the last step with a checkpoint; 0 for none.

    Raises:
        RunError: it is none.
    """
    if not math.isfinite(loss):
        raise _unsound(f"the loss is {loss} {when}", kept_step)


def judge_base(engine: Any, asked: Asked, group: Group, *, embeddings: bool) -> dict[str, float]:
    """Losses of the base on held-out rows; see `held_out_losses`. Collective.

    Raises:
        RunError: they are no numbers before anything was learned.
    """
    with gathered(engine):
        losses = held_out_losses(engine.module, asked, group, embeddings=embeddings)
    if not math.isfinite(losses["model"]):
        raise RunError(
            f"pretrain: the loss of the base on held-out histories is {losses['model']} before any "
            "step, expected a number. Its weights cannot be used: choose another --base."
        )
    return losses


def judge_step(engine: Any, asked: Asked, group: Group, step: int, kept_step: int) -> float:
    """Loss on held-out rows after a step. Collective.

    The loss of a step is that of the weights before it, so that it says nothing of those that the
    step has made, which are what a checkpoint would keep.

    Raises:
        RunError: the loss, a weight or a moment is no number, on any worker.
    """
    if group.any(not is_finite(engine)):
        raise _unsound(f"weights or moments are no numbers after step {step}", kept_step)
    with gathered(engine):
        loss = held_out_losses(engine.module, asked, group, embeddings=False)["model"]
    check_loss(loss, f"on held-out histories after step {step}", kept_step)
    return loss


def _unsound(what: str, kept_step: int) -> RunError:
    kept = f"The checkpoint after step {kept_step} is kept." if kept_step else "No step was kept."
    return RunError(
        f"pretrain: {what}, expected a number. {kept} Begin anew with a lower --learning-rate and "
        "--resume never."
    )
