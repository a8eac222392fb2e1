"""A language model with its head over the vocabulary, asked at chosen places of packed rows.

Letters: M places that are asked, H width, W words of the vocabulary.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from penchant.platform.item_tokens import TokenLists
from penchant.platform.language_models import is_encoder, load_model, resolve_model
from penchant.trainers.course import Group
from penchant.trainers.pretrain.plan import Asked

__all__ = [
    "PretrainNetwork",
    "asked_loss",
    "build_pretrain_network",
    "fresh_parameters",
    "frequency_perplexity",
    "held_out_losses",
]

_JUDGED_ROWS = 8  # that pass through the model at once


class PretrainNetwork(nn.Module):
    """Logits over the vocabulary at the places that are asked, (M, W)."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model: Any = model
        self._extra = {} if is_encoder(model.config) else {"use_cache": False}
        self._places: Tensor | None = None
        self._picked: Tensor | None = None  # states at those places, (M, H)
        # The head sees only the places that are asked: a row of 128 tokens would else take a
        # vocabulary's worth of numbers 128 times.
        self.model.base_model.register_forward_hook(self._pick)

    def forward(self, asked: Asked) -> Tensor:
        """Shape (M, W)."""
        device = self.model.device
        self._places = asked.places.to(device)
        ids, mask = asked.ids.to(device), asked.mask.to(device)
        logits: Tensor = self.model(input_ids=ids, attention_mask=mask, **self._extra).logits[0]
        return logits.float()

    def by_embeddings(self) -> Tensor | None:
        """What was just asked, by states against the input embeddings, without the head: (M, W).

        None where their widths differ, or before anything was asked.
        """
        table: Tensor = self.model.get_input_embeddings().weight
        if self._picked is None or self._picked.shape[1] != table.shape[1]:
            return None
        return (self._picked @ table.T).float()

    def _pick(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        picked = output.last_hidden_state.flatten(0, 1)[self._places]
        self._picked = picked.detach()
        output.last_hidden_state = picked[None]
        return output


def build_pretrain_network(base: str, layers: int | None, *, masked: bool) -> PretrainNetwork:
    """The base with its head over the vocabulary, without dropout.

    Raises:
        ConfigError: the base cannot be found or used.
    """
    model: Any = load_model(base, head="masked" if masked else "causal", layers=layers)
    # What dropout draws would follow the number of workers.
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0
    return PretrainNetwork(model)


def fresh_parameters(base: str, network: PretrainNetwork) -> list[str]:
    """Names of the head's parameters that the base does not bring along: they start untrained."""
    kept = set[str]()
    for file in resolve_model(base).glob("*.safetensors"):
        with safe_open(file, framework="np") as tensors:
            kept |= set(tensors.keys())
    if not kept:  # a GGUF, whose head is always there
        return []
    # Early BERTs call the weights and biases of their normalisations gamma and beta.
    kept = {re.sub("gamma$", "weight", re.sub("beta$", "bias", name)) for name in kept}
    body = {id(p) for p in network.model.base_model.parameters()}
    named = network.model.named_parameters()
    return [f"model.{name}" for name, p in named if id(p) not in body and name not in kept]


def asked_loss(logits: Tensor, asked: Asked) -> Tensor:
    """Cross-entropy in nats, summed over the places that are asked."""
    return functional.cross_entropy(logits, asked.answers.to(logits.device), reduction="sum")


def held_out_losses(
    network: PretrainNetwork, asked: Asked, group: Group, *, embeddings: bool
) -> dict[str, float]:
    """Mean cross-entropy in nats of the `model`, alike on all workers, which share the rows.

    Where wanted and possible also of its `embeddings`: states against the input embeddings, without
    the head. Each worker needs whole weights.
    """
    sums = torch.zeros(2, dtype=torch.float64)
    mine = np.arange(group.rank, len(asked.ids), group.workers)
    with torch.inference_mode():
        for begin in range(0, len(mine), _JUDGED_ROWS):
            some = asked.take(mine[begin : begin + _JUDGED_ROWS])
            sums[0] += asked_loss(network(some), some).cpu()
            bare = network.by_embeddings() if embeddings else None
            sums[1] += float("nan") if bare is None else asked_loss(bare, some).cpu()
    means = group.total(sums) / max(len(asked.answers), 1)
    model, bare_loss = means.tolist()
    return {"model": model} | ({} if math.isnan(bare_loss) else {"embeddings": bare_loss})


def frequency_perplexity(rows: TokenLists, asked: Asked, words: int) -> float:
    """Perplexity of guessing by how often each token stands in the corpus, one added to each."""
    counts = np.bincount(rows.ids, minlength=words) + 1.0
    log_share = np.log(counts / counts.sum())
    return float(np.exp(-log_share[asked.answers.numpy()].mean()))
