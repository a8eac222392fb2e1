"""`sequence`: the fitted network as a member that scores requests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from penchant.platform.errors import ConfigError
from penchant.platform.events import EventLog
from penchant.platform.recipes import SequenceRecipe
from penchant.platform.requests import Requests
from penchant.trainers.accelerator import moved
from penchant.trainers.member import TEXT_FOLDER, read_card, read_tensors, write_member
from penchant.trainers.sequence.batches import build_batch, request_sequences, token_starts
from penchant.trainers.sequence.network import SequenceNetwork
from penchant.trainers.text.model_card import encoder_card

__all__ = ["SequenceMember", "copier", "score_network"]

_BATCH_TOKENS = 8192  # tokens scored at once, padding included


def score_network(
    network: SequenceNetwork, recipe: SequenceRecipe, log: EventLog, requests: Requests
) -> NDArray[np.float32]:
    """Scores of all items for each request, shape (R, V).

    Requests of like length are scored together, each from its own window of history alone.
    """
    starts = token_starts(log, recipe)
    sequences = request_sequences(log, requests, recipe, starts)
    lengths = sequences.last_token - sequences.first_token + 1
    order = np.argsort(lengths, kind="stable")
    scores = np.empty((len(requests), network.num_items), dtype=np.float32)
    begin, device = 0, network.item_bias.device
    network.eval()
    with torch.inference_mode():
        while begin < len(order):
            end = begin + 1
            while end < len(order) and (end + 1 - begin) * lengths[order[end]] <= _BATCH_TOKENS:
                end += 1
            at = order[begin:end]
            chosen = requests.take(at)
            own = request_sequences(log, chosen, recipe, starts)
            readout = (np.arange(len(at)), own.last_token - own.first_token)
            batch = build_batch(log, recipe, starts, own, chosen, readout, exclude_seen=False)
            scores[at] = network(moved(batch, device)).cpu().numpy()
            begin = end
    return scores


@dataclass(frozen=True)
class SequenceMember:
    """A trained network with the recipe that made it.

    Attributes:
        write_text: writes the language model that learned with the network into a directory, for
            others: the network holds its items' vectors, and scoring needs no more.
        origin: the member that training began with, and the digest of its files.
        epochs: other epochs of the same training, counted from 0, where the recipe keeps them as
            members of their own; they are not saved with this one.
    """

    recipe: SequenceRecipe
    network: SequenceNetwork
    write_text: Callable[[Path], object] | None = None
    origin: dict[str, str] | None = None
    epochs: Mapping[int, SequenceMember] = field(default_factory=dict)

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())

    def score(self, log: EventLog, requests: Requests) -> NDArray[np.float32]:
        if requests.candidate is not None:
            raise ConfigError("sequence members rank items: they cannot answer a binary task.")
        return score_network(self.network, self.recipe, log, requests)

    def save(self, directory: Path) -> None:
        tensors = {name: t.detach().cpu().numpy() for name, t in self.network.state_dict().items()}
        if self.write_text is not None:
            self.write_text(directory / TEXT_FOLDER)
            (directory / TEXT_FOLDER / "README.md").write_text(encoder_card(self.recipe))
        state: dict[str, Any] = {"num_items": self.network.num_items}
        if self.origin is not None:
            state["init_from"] = self.origin
        write_member(directory, self.recipe, state, tensors)

    @classmethod
    def load(cls, directory: Path) -> SequenceMember:
        recipe, state = read_card(directory)
        if not isinstance(recipe, SequenceRecipe):
            raise TypeError(f"{directory} holds a {recipe.kind} member, expected sequence")
        tensors = {name: torch.from_numpy(t) for name, t in read_tensors(directory).items()}
        network = SequenceNetwork(recipe, state["num_items"], tensors.get("text"))
        network.load_state_dict(tensors)
        return cls(
            recipe=recipe,
            network=network,
            write_text=copier(text) if (text := directory / TEXT_FOLDER).exists() else None,
            origin=state.get("init_from"),
        )


def copier(source: Path) -> Callable[[Path], object]:
    """A `write_text` that copies a directory."""
    return partial(shutil.copytree, source, dirs_exist_ok=True)
