"""How a sequence network learns: alone, or with the language model behind its item vectors.

- frozen: item vectors stand still.
- joint: the items of the batch, over all workers, pass through the language model inside the step,
  and one optimizer steps on network and adapters, each at its own rate. All others keep the vectors
  that were made last; some of them, drawn anew for each step, pass too and get the gradient of all
  (importance sampling: without it scores of the batch's items would only ever be pushed up).
- refreshed: vectors stand still for an epoch, in which the gradient of each is added up (as Gao et
  al. 2021 do for a batch); then the adapters follow it, and all vectors are made anew.

Letters: V items, H width of the language model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from penchant.platform.recipes import SequenceRecipe
from penchant.trainers.course import Group
from penchant.trainers.sequence.batches import Batch
from penchant.trainers.sequence.engine import (
    load_checkpoint,
    save_checkpoint,
    share_of_rate,
    start_engine,
)
from penchant.trainers.sequence.item_encoder import ItemEncoder
from penchant.trainers.sequence.network import SequenceNetwork
from penchant.trainers.sequence.plan import Step
from penchant.trainers.zero.stages import Sharding, start_sharded

__all__ = ["SequenceLearner", "read_items"]

_ENCODER = "encoder"  # folder of a checkpoint, where the adapters have an optimizer of their own


class _Joint(nn.Module):
    """Network and language model as one module; one call a step, as DeepSpeed wants it."""

    def __init__(self, network: SequenceNetwork, encoder: ItemEncoder, group: Group) -> None:
        super().__init__()
        self.network, self.encoder, self._group = network, encoder, group

    def forward(self, batch: Batch, items: NDArray[np.int64], weight: Tensor) -> Tensor:
        rows = self.encoder.shared(items, self._group)
        known = rows.detach()
        kept = _kept_vectors(self.network)
        place = torch.from_numpy(items).to(kept.device)
        text = kept.index_copy(0, place, known + (rows - known) * weight)
        logits: Tensor = self.network(batch, text)
        kept[place] = known  # the latest that is known, for the steps that lack the item
        return logits


class SequenceLearner:
    """A network in DeepSpeed, and its language model where that learns too.

    Args:
        network: is trained in place.
        encoder: the language model, when the recipe trains it.
    """

    def __init__(
        self,
        recipe: SequenceRecipe,
        network: SequenceNetwork,
        encoder: ItemEncoder | None,
        group: Group,
    ) -> None:
        self._recipe, self._group = recipe, group
        self.network, self.encoder = network, encoder
        self._text_engine: Any = None
        self._asked: Tensor | None = None  # (V, H): its gradient adds up over an epoch
        training = recipe.text_training
        self._whole: nn.Module = network
        if encoder is None or training is None:
            self.engine = start_engine(network, recipe)
        else:
            self._whole = _Joint(network, encoder, group)
            adapters = {
                "params": list(encoder.parameters()),
                "lr": training.learning_rate,
                "weight_decay": 0.0,
            }
            if training.vectors == "joint":
                numbers = {
                    "params": list(network.parameters()),
                    "lr": recipe.learning_rate,
                    "weight_decay": recipe.weight_decay,
                }
                self.engine = _started(self._whole, [numbers, adapters])
            else:
                self.engine = start_engine(network, recipe)
                self._text_engine = _started(encoder, [adapters])
        groups = self.engine.optimizer.param_groups
        self._rates: list[float] = [settings["lr"] for settings in groups]

    def begin_epoch(self) -> None:
        """Get ready to learn."""
        self._whole.train()
        if self._text_engine is not None:
            self._asked = _kept_vectors(self.network).clone().requires_grad_()

    def set_rates(self, step: int, total_steps: int) -> float:
        """Every group's rate at a step; returns the network's."""
        share = share_of_rate(step, total_steps)
        groups = self.engine.optimizer.param_groups
        for settings, rate in zip(groups, self._rates, strict=True):
            settings["lr"] = rate * share
        return self._rates[0] * share

    def logits(self, step: Step, key: tuple[int, int]) -> Tensor:
        """Scores of all items for this worker's requests, shape (P, V).

        Args:
            key: epoch and place of the step, for what is drawn.
        """
        training = self._recipe.text_training
        if training is not None and training.vectors == "joint":
            random = np.random.default_rng([self._recipe.seed, *key, 2])
            items, weight = read_items(self._items_of(step), training.drawn_items, random)
            logits: Tensor = self.engine(step.batch, items, weight.to(step.target.device))
        elif self._asked is not None:
            logits = self.engine(step.batch, self._asked)
        else:
            logits = self.engine(step.batch)
        return logits

    def end_epoch(self, share: float) -> None:
        """Make all item vectors anew, after the adapters followed, if this is when they do.

        Args:
            share: of the adapters' rate that they follow with.
        """
        if self.encoder is None:
            return
        if self._text_engine is not None and self._asked is not None:
            self._follow(self._asked.grad, share)
        _kept_vectors(self.network).copy_(self.encoder.all_vectors(self._group))

    def state(self) -> dict[str, Tensor]:
        """A copy of all that is learned, and of the item vectors, on the CPU."""
        state = self._whole.state_dict()
        return {name: t.detach().to("cpu", copy=True) for name, t in state.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to where `state` was taken."""
        self._whole.load_state_dict(state)

    def save(self, kept: dict[str, Tensor], progress: dict[str, Any], directory: Path) -> None:
        """Write a checkpoint: weights, moments, the best states, and where the run stands."""
        save_checkpoint(self.engine, kept, progress, directory)
        if self._text_engine is not None:
            save_checkpoint(self._text_engine, {}, {}, directory / _ENCODER)

    def load(self, directory: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Go on from where `save` was; returns the best states and the progress."""
        if self._text_engine is not None:
            load_checkpoint(self._text_engine, directory / _ENCODER)
        return load_checkpoint(self.engine, directory)

    def _items_of(self, step: Step) -> NDArray[np.bool_]:
        """Marks items that the batch reads or asks for, over all workers. Shape (V,)."""
        marks = torch.zeros(self.network.num_items, dtype=torch.int32, device=step.target.device)
        marks[step.batch.item] = 1
        marks[step.target] = 1
        return self._group.total(marks).cpu().numpy() > 0

    def _follow(self, gradient: Tensor | None, share: float) -> None:
        """One pass over all items: vectors move against their gradient, by way of the adapters."""
        training = self._recipe.text_training
        if gradient is None or training is None:
            return
        whole = self._group.total(gradient) / self._group.workers  # each counted itself so often
        for settings in self._text_engine.optimizer.param_groups:
            settings["lr"] = training.learning_rate * share
        for items in np.split(
            np.arange(len(whole)), range(training.batch_items, len(whole), training.batch_items)
        ):
            mine = items[self._group.rank :: self._group.workers]
            pull = whole[torch.from_numpy(mine)]
            if not len(mine):  # more workers than items: take part, but add nothing
                mine, pull = items[:1], whole.new_zeros(1, whole.shape[1])
            loss = (self._text_engine(mine) * pull).sum()
            self._text_engine.backward(loss * self._group.workers)
            self._text_engine.step()


def read_items(
    in_batch: NDArray[np.bool_], drawn: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], Tensor]:
    """Items that pass through the language model in a step, and how often each counts.

    Args:
        in_batch: marks items of the batch, which count once. Shape (V,).
        drawn: so many of the others, which count for all of them.

    Returns:
        Items (Q,) and weights (Q, 1).
    """
    own, others = np.flatnonzero(in_batch), np.flatnonzero(~in_batch)
    chosen = random.choice(others, min(drawn, len(others)), replace=False)
    weight = torch.ones(len(own) + len(chosen), 1)
    weight[len(own) :] = len(others) / max(len(chosen), 1)
    return np.concatenate([own, chosen]), weight


def _kept_vectors(network: SequenceNetwork) -> Tensor:
    """The item vectors that a network keeps, shape (V, H)."""
    if not isinstance(network.text, Tensor):
        raise TypeError("a network without item vectors from texts has none to train")
    return network.text


def _started(module: nn.Module, groups: list[dict[str, Any]]) -> Any:
    return start_sharded(module, groups, sharding=Sharding(stage=0), accumulation=1)
