"""`text`: the fine-tuned language model as a member that scores requests.

Its directory is one that plain transformers loads: config, safetensors, tokenizer, model card.
Beside them lie the heads and the token ids of all item texts, so that scoring tokenises nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import AutoModel, PreTrainedTokenizerBase

from penchant.platform.errors import ConfigError
from penchant.platform.events import EventLog
from penchant.platform.language_models import load_tokenizer
from penchant.platform.recipes import TextRecipe
from penchant.platform.requests import Requests
from penchant.platform.text import HistoryWriter, TokenLists
from penchant.trainers.member import read_card, read_tensors, write_member
from penchant.trainers.model_card import model_card
from penchant.trainers.text_batches import Frame, like_lengths, padded
from penchant.trainers.text_network import TextNetwork
from penchant.trainers.text_own import own_items

__all__ = ["HEAD_FILE", "TextMember", "Tower", "item_tower", "score_text"]

HEAD_FILE = "head.safetensors"
_BATCH_TOKENS = 4096  # tokens in the model at once, padding included


@dataclass(frozen=True, kw_only=True)
class Tower:
    """What histories are compared with: a unit vector an item, and how common each item is."""

    vectors: NDArray[np.float32]  # (V, H); empty for `binary`
    log_share: NDArray[np.float32]  # (V,)


def encode(network: TextNetwork, texts: TokenLists, frame: Frame) -> NDArray[np.float32]:
    """Unit vectors of texts, shape (R, H); each text is encoded once, however often it comes."""
    vectors = np.zeros((len(texts), network.base.config.hidden_size), dtype=np.float32)
    for at in like_lengths(np.diff(texts.offsets), _BATCH_TOKENS):
        states = network.vectors(padded(texts.take(at), frame))
        vectors[at] = functional.normalize(states, dim=1).float().cpu().numpy()
    return vectors


def item_tower(
    network: TextNetwork, writer: HistoryWriter, frame: Frame, log_share: NDArray[np.float32]
) -> Tower:
    """Encode every item of the catalogue; an item without a text has the zero vector."""
    network.eval()
    if network.binary:
        return Tower(vectors=np.zeros((0, 0), dtype=np.float32), log_share=log_share)
    with torch.inference_mode():
        vectors = encode(network, writer.items, frame)
    vectors[np.diff(writer.items.offsets) == 0] = 0.0
    return Tower(vectors=vectors, log_share=log_share)


def score_text(
    network: TextNetwork,
    recipe: TextRecipe,
    writer: HistoryWriter,
    frame: Frame,
    tower: Tower,
    log: EventLog,
    requests: Requests,
) -> NDArray[np.float32]:
    """Scores (R, V) of all items, or log-odds (R, 1) of the candidates."""
    texts = writer.write(log, requests, recipe.window)
    network.eval()
    with torch.inference_mode():
        if requests.candidate is not None:
            candidates = writer.items.take(requests.candidate.astype(np.int64))
            odds = np.zeros((len(requests), 1), dtype=np.float32)
            lengths = np.diff(texts.offsets) + np.diff(candidates.offsets)
            for at in like_lengths(lengths, _BATCH_TOKENS):
                text = padded(texts.take(at), frame, candidates.take(at))
                odds[at, 0] = network.log_odds(text).float().cpu().numpy()
            return odds
        histories = encode(network, texts, frame)
        scores = network.scores(
            torch.from_numpy(histories),
            torch.from_numpy(tower.vectors),
            torch.from_numpy(tower.log_share),
            own_items(log, requests, recipe, np.arange(log.num_items)),
        )
        found: NDArray[np.float32] = scores.numpy()
        return found


@dataclass(frozen=True, kw_only=True)
class TextMember:
    """A fine-tuned language model with everything that it needs to score."""

    recipe: TextRecipe
    network: TextNetwork  # adapters are merged into the base
    writer: HistoryWriter
    frame: Frame
    tower: Tower
    tokenizer: PreTrainedTokenizerBase  # for those who load the model elsewhere
    facts: dict[str, Any]  # for the model card

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())

    def score(self, log: EventLog, requests: Requests) -> NDArray[np.float32]:
        if self.network.binary != (requests.candidate is not None):
            task = "binary" if self.network.binary else "next_item"
            raise ConfigError(
                f"this text member was fitted for `{task}` and is asked the other task's requests. "
                "Fit one for this task."
            )
        return score_text(
            self.network, self.recipe, self.writer, self.frame, self.tower, log, requests
        )

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.network.base.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)
        (directory / "README.md").write_text(
            model_card(self.recipe, self.num_parameters, self.facts)
        )
        writer, arrays = self.writer.state()
        heads = {
            name: tensor.detach().cpu().numpy()
            for name, tensor in self.network.state_dict().items()
            if not name.startswith("base.")
        }
        state = {
            "binary": self.network.binary,
            "frame": asdict(self.frame),
            "writer": writer,
            "facts": self.facts,
        }
        tensors = {f"head.{name}": t for name, t in heads.items()}
        tensors |= {f"writer.{name}": t for name, t in arrays.items()}
        tensors |= {"vectors": self.tower.vectors, "log_share": self.tower.log_share}
        write_member(directory, self.recipe, state, tensors, HEAD_FILE)

    @classmethod
    def load(cls, directory: Path) -> TextMember:
        recipe, state = read_card(directory)
        if not isinstance(recipe, TextRecipe):
            raise TypeError(f"{directory} holds a {recipe.kind} member, expected text")
        tensors = read_tensors(directory, HEAD_FILE)
        base = AutoModel.from_pretrained(directory, local_files_only=True, dtype=torch.float32)
        network = TextNetwork(
            base, terms=len(recipe.copy_half_lives_days), binary=state["binary"]
        ).eval()
        network.load_state_dict(_part(tensors, "head."), strict=False)
        arrays = {k: v.numpy() for k, v in _part(tensors, "writer.").items()}
        return cls(
            recipe=recipe,
            network=network,
            writer=HistoryWriter.from_state(state["writer"], arrays),
            frame=Frame(
                begin=tuple(state["frame"]["begin"]),
                middle=tuple(state["frame"]["middle"]),
                end=tuple(state["frame"]["end"]),
                pad=state["frame"]["pad"],
            ),
            tower=Tower(vectors=tensors["vectors"], log_share=tensors["log_share"]),
            tokenizer=load_tokenizer(str(directory)),
            facts=state["facts"],
        )


def _part(tensors: dict[str, NDArray[Any]], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name[len(prefix) :]: torch.from_numpy(tensor)
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
