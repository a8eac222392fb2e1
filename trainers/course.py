"""The course of a training: where it stands, what an epoch did, which worker this is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed

from penchant.platform.errors import RunError
from penchant.platform.recipes import SequenceRecipe, TextRecipe, most_epochs

__all__ = ["Course", "Epoch", "Group", "Kept"]


@dataclass(frozen=True, kw_only=True)
class Group:
    """This worker's place among the workers."""

    rank: int
    workers: int

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over all workers."""
        if self.workers > 1:
            torch.distributed.all_reduce(values)
        return values

    def any(self, mine: bool) -> bool:
        """Whether it is so on some worker; all of them hear the same."""
        return bool(self.total(torch.tensor([float(mine)])).item())


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What an epoch did, as it stands in history.jsonl."""

    epoch: int
    epochs: int
    train_loss: float
    select_loss: float
    metric: str  # name of `select_metric`
    select_metric: float  # on the judged requests
    seconds: float
    events_per_s: float


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A checkpoint amid an epoch, after which a training that is cut goes on from there."""

    epoch: int
    step: int
    steps: int  # in all epochs
    loss: float  # of the epoch so far


@dataclass
class Course:
    """Where training stands."""

    next_epoch: int = 0
    step: int = 0
    kept_step: int = 0  # the last one with a checkpoint
    losses: list[float] = field(default_factory=list)  # of each batch of the epoch so far
    events: int = 0  # that were read in the epoch so far, by all workers
    seconds: float = 0.0  # that the epoch has taken so far
    best_loss: float = float("inf")
    best_epoch: int = -1
    epochs: list[dict[str, Any]] = field(default_factory=list)

    def begin_epoch(self, epoch: int) -> None:
        """Nothing of this epoch has been done yet."""
        self.next_epoch = epoch
        self.losses, self.events, self.seconds = [], 0, 0.0

    def is_over(self, recipe: SequenceRecipe | TextRecipe) -> bool:
        stale = self.next_epoch - 1 - self.best_epoch
        waits = recipe.kept_epochs is not None or stale < recipe.patience
        return self.next_epoch >= most_epochs(recipe) or not waits

    def check_loss(self, loss: float, kind: str, dials: str, *, on_select: bool = False) -> None:
        """See that the loss of the step that was just made is a number.

        Args:
            loss: of the global batch, so that all workers stop at the same step.
            dials: settings that may be too high.
            on_select: whether it is the loss on `select`, after all steps of the epoch.

        Raises:
            RunError: it is none.
        """
        if math.isfinite(loss):
            return
        kept = "No epoch was finished before, so that there is no checkpoint yet."
        if self.next_epoch:
            kept = f"The last good checkpoint, after epoch {self.next_epoch}, is kept."
        if self.losses and self.kept_step > self.step - len(self.losses):
            kept = f"The last good checkpoint, after step {self.kept_step}, is kept."
        what = f"on select is {loss} after step {self.step}"
        if not on_select:
            what = f"is {loss} at step {self.step + 1}"
        raise RunError(
            f"{kind}: the loss {what} (epoch {self.next_epoch + 1}), "
            f"expected a number. {kept} Lower {dials}."
        )

    def takes(self, recipe: SequenceRecipe | TextRecipe, loss: float) -> bool:
        """Whether this epoch is the best so far, or one that the recipe tells; remembers it."""
        taken = loss < self.best_loss
        if recipe.kept_epochs is not None:
            taken = self.next_epoch + 1 in recipe.kept_epochs
        if taken:
            self.best_loss, self.best_epoch = loss, self.next_epoch
        return taken
