"""`text`: the fine-tuned language model as a member that scores requests.

Its directory is one that plain transformers loads: config, safetensors, tokenizer, model card.
Beside them lie the heads and the token ids of all item texts, so that nothing known is tokenised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from penchant.platform.errors import ConfigError
from penchant.platform.events import EventLog
from penchant.platform.language_models import load_tokenizer
from penchant.platform.recipes import TextRecipe
from penchant.platform.requests import Requests
from penchant.platform.text import HistoryWriter, TokenLists, token_lists, tokenizer_pieces
from penchant.trainers.member import read_card, read_tensors, write_member
from penchant.trainers.text.batches import Frame, filled, framed
from penchant.trainers.text.engine import Engine, EngineName, Trial, VectorCache, choose
from penchant.trainers.text.model_card import model_card
from penchant.trainers.text.network import Own, TextNetwork
from penchant.trainers.text.onnx_engine import onnx_engine
from penchant.trainers.text.own import own_items
from penchant.trainers.text.reading import TorchEngine, item_vectors, log_odds, read_texts, unit
from penchant.trainers.text.saved_base import load_saved_base

__all__ = ["HEAD_FILE", "TextMember", "Tower", "item_tower", "score_text"]

HEAD_FILE = "head.safetensors"
_CACHE_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Tower:
    """What histories are compared with: a unit vector an item, and how common each item is."""

    vectors: NDArray[np.float32]  # (V, H); empty for `binary`
    log_share: NDArray[np.float32]  # (V,)

    @cached_property
    def items(self) -> NDArray[np.int64]:
        """Every item's number, shape (V,)."""
        return np.arange(len(self.log_share))


def item_tower(
    network: TextNetwork, writer: HistoryWriter, frame: Frame, log_share: NDArray[np.float32]
) -> Tower:
    """Encode every item of the catalogue; an item without a text has the zero vector."""
    network.eval()
    if network.binary:
        return Tower(vectors=np.zeros((0, 0), dtype=np.float32), log_share=log_share)
    engine, width = TorchEngine(network), network.base.config.hidden_size
    return Tower(vectors=item_vectors(engine, writer.items, frame, width), log_share=log_share)


def score_text(
    network: TextNetwork,
    recipe: TextRecipe,
    writer: HistoryWriter,
    frame: Frame,
    tower: Tower,
    log: EventLog,
    requests: Requests,
    *,
    engine: Engine | None = None,
    cache: VectorCache | None = None,
) -> NDArray[np.float32]:
    """Scores (R, V) of all items, or log-odds (R, 1) of the candidates.

    Args:
        engine: by default torch.
    """
    if network.training:  # it walks through all modules, which takes longer than writing a history
        network.eval()
    engine = TorchEngine(network) if engine is None else engine
    texts = writer.write(log, requests, recipe.window)
    if requests.candidate is not None:
        candidates = writer.items.take(requests.candidate)
        both = framed(texts, frame, candidates)
        return read_texts(engine, log_odds(network), both, frame, 1, cache)
    width = network.base.config.hidden_size
    histories = read_texts(engine, unit, framed(texts, frame), frame, width, cache)
    return _ranking(network, tower, histories, own_items(log, requests, recipe, tower.items))


def _ranking(
    network: TextNetwork, tower: Tower, histories: NDArray[np.float32], own: Own
) -> NDArray[np.float32]:
    """Scores of all items for the unit vectors of histories, shape (R, V)."""
    device = network.log_scale.device
    own = Own(
        request=own.request.to(device), place=own.place.to(device), counts=own.counts.to(device)
    )
    with torch.inference_mode():
        scores = network.scores(
            torch.from_numpy(histories).to(device),
            torch.from_numpy(tower.vectors).to(device),
            torch.from_numpy(tower.log_share).to(device),
            own,
        )
        return np.asarray(scores.float().cpu().numpy())


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
    engine: Engine | None = None  # torch
    cache: VectorCache | None = None

    @property
    def engine_name(self) -> str:
        return "torch" if self.engine is None else self.engine.name

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
            self.network,
            self.recipe,
            self.writer,
            self.frame,
            self.tower,
            log,
            requests,
            engine=self.engine,
            cache=self.cache,
        )

    def cold_scores(
        self, log: EventLog, requests: Requests, texts: Sequence[str]
    ) -> NDArray[np.float32]:
        """Scores (R, N) of items by their texts alone, which are cut as the catalogue's are.

        `next_item`: nobody has had such an item, so that it is taken to be as common as the least
        common one of the catalogue, and the copy head has nothing to say of it.
        """
        new = token_lists(texts, tokenizer_pieces(self.tokenizer), self.writer.settings.item_tokens)
        if self.network.binary:
            return self._cold_log_odds(log, requests, new)
        engine = TorchEngine(self.network) if self.engine is None else self.engine
        frame, width = self.frame, self.network.base.config.hidden_size
        tower = Tower(
            vectors=item_vectors(engine, new, frame, width, self.cache),
            log_share=np.full(len(new), self.tower.log_share.min(), dtype=np.float32),
        )
        histories = framed(self.writer.write(log, requests, self.recipe.window), frame)
        read = read_texts(engine, unit, histories, frame, width, self.cache)
        return _ranking(self.network, tower, read, _nothing_had())

    def _cold_log_odds(
        self, log: EventLog, requests: Requests, new: TokenLists
    ) -> NDArray[np.float32]:
        """Shape (R, N): each request is asked about each item as if the catalogue ended with it."""
        known, number = len(self.writer.items), len(new)
        pairs = requests.take(np.repeat(np.arange(len(requests)), number))
        asked = np.tile(np.arange(known, known + number, dtype=np.int32), len(requests))
        longer = replace(self, writer=self.writer.followed_by(new))
        scores = longer.score(log, replace(pairs, candidate=asked))
        return scores.reshape(len(requests), number)

    def on_engine(
        self, name: EngineName, *, threads: int, cache_dir: Path | None = None
    ) -> TextMember:
        """The same member, ready to be served: on this engine, and with a cache of texts.

        Scores stay what they were within 1e-5, except with `onnx-int8`, whose difference is logged.

        Args:
            name: `auto` tries torch and ONNX for about a second and takes the faster.
            threads: CPUs that the engine may compute on; they are set for all of torch.
            cache_dir: where exported models are kept; by default the user's cache.

        Raises:
            RunError: the engine cannot be made, or it gives other answers.
        """
        torch.set_num_threads(threads)
        engine = choose(
            name,
            TorchEngine(self.network),
            lambda: onnx_engine(
                self.network, int8=name == "onnx-int8", threads=threads, cache_dir=cache_dir
            ),
            self._trials(),
            self._compared,
        )
        return replace(self, engine=engine, cache=VectorCache(_CACHE_BYTES))

    def _trials(self) -> list[Trial]:
        """Tokens of items as histories: a short one, two longer ones, and these side by side."""
        full = self.recipe.history.max_tokens
        if self.network.binary:
            full += self.recipe.history.item_tokens
        lengths = [full // 4, full // 2, full]
        texts = TokenLists.of([np.resize(self.writer.items.ids, n).tolist() for n in lengths])
        rows = [np.array([0]), np.array([1]), np.array([2]), np.arange(3)]
        tried = [filled(framed(texts.take(at), self.frame), self.frame) for at in rows]
        return [(text.ids.numpy(), text.mask.numpy()) for text in tried]

    def _compared(self, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-odds, or unit vectors and scores: what another engine must not change."""
        if self.network.binary:
            return log_odds(self.network)(pooled)
        scores = _ranking(self.network, self.tower, unit(pooled), _nothing_had())
        return np.concatenate([unit(pooled), scores], axis=1)

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
        base = load_saved_base(directory)
        tensors = read_tensors(directory, HEAD_FILE)
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


def _nothing_had() -> Own:
    """No item that is scored is the user's own."""
    none = torch.zeros(0, dtype=torch.int64)
    return Own(request=none, place=none, counts=torch.zeros(0, 0))


def _part(tensors: dict[str, NDArray[Any]], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name[len(prefix) :]: torch.from_numpy(tensor)
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
