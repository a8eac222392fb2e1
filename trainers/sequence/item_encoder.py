"""The language model behind a sequence member's item vectors, with adapters that learn.

Items pass through it a few at a time and their activations are computed twice instead of kept
(Chen et al. 2016), so that memory grows with `batch_items` and not with the catalogue or the batch.
Workers share the items that are asked for; each ends up with all vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedTokenizerBase

from penchant.platform.item_vectors import text_tokens, text_vectors
from penchant.platform.language_models import load_model, load_tokenizer
from penchant.platform.text_recipes import TextTraining
from penchant.trainers.course import Group
from penchant.trainers.text.batches import filled, frame_of
from penchant.trainers.text.network import Gather

__all__ = ["ItemEncoder", "build_encoder"]


class ItemEncoder(nn.Module):
    """Unit vectors of items, from their texts. V items, H width of the model.

    Its state are the adapters: the language model itself lies where it was loaded from.

    Args:
        base: a language model in adapters.
        tokenizer: the model's own.
        texts: of all items, "" where there is none. Shape (V,).
        batch_items: items that pass through the model at once.
    """

    def __init__(
        self,
        base: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        texts: Sequence[str],
        batch_items: int,
    ) -> None:
        super().__init__()
        self.base: Any = base
        self.batch_items = batch_items
        self._tokenizer = tokenizer
        self._frame, self._tokens = frame_of(tokenizer), text_tokens(tokenizer, texts)
        self._has_text = torch.tensor([bool(text) for text in texts])[:, None]
        self.frozen = tuple(n for n, p in self.named_parameters() if not p.requires_grad)
        self.register_state_dict_post_hook(_without_frozen)  # type: ignore[no-untyped-call]  # torch has no types here
        self.register_load_state_dict_post_hook(_frozen_may_lack)  # type: ignore[no-untyped-call]

    def forward(self, items: NDArray[np.int64]) -> Tensor:
        """Shape (Q, H); an item without a text has the zero vector."""
        order = np.argsort(self._tokens.lengths[items], kind="stable")  # like lengths, less padding
        parts = np.split(items[order], range(self.batch_items, len(items), self.batch_items))
        if len(parts) > 1 and torch.is_grad_enabled():
            # Reentrant: without a graph on the way forth, the allocator can give memory back. It
            # asks for an input with a gradient.
            asks = torch.zeros(0, requires_grad=True)
            rows = [
                checkpoint(self._read, part, asks, use_reentrant=True, preserve_rng_state=False)
                for part in parts
            ]
        else:
            rows = [self._read(part) for part in parts]
        return torch.cat(rows)[torch.from_numpy(np.argsort(order))]

    def shared(self, items: NDArray[np.int64], group: Group) -> Tensor:
        """`forward` with the work shared among the workers; gradients find their way back.

        Collective, forth and back; every worker gives the same items. Shape (Q, H).
        """
        mine = items[group.rank :: group.workers]
        if not len(mine):  # more workers than items: take part, but add nothing
            mine = items[:1]
        return Gather(group.rank, group.workers, len(items))(self(mine))

    def all_vectors(self, group: Group) -> Tensor:
        """Vectors of all items, shape (V, H), without gradients. Collective."""
        with torch.no_grad():
            return self.shared(np.arange(len(self._tokens)), group)

    def write(self, directory: Path) -> None:
        """Write the model, adapters merged, as a directory that plain transformers loads.

        The encoder cannot learn any further afterwards.
        """
        self.base.merge_and_unload().save_pretrained(directory)
        self._tokenizer.save_pretrained(directory)

    def _read(self, items: NDArray[np.int64], _: Tensor | None = None) -> Tensor:
        text = filled(self._tokens.take(items), self._frame)
        device = self.base.device
        vectors = text_vectors(self.base, text.ids.to(device), text.mask.to(device))
        return vectors * self._has_text[torch.from_numpy(items)].to(device)


def build_encoder(
    name: str, training: TextTraining, texts: Sequence[str], seed: int
) -> ItemEncoder:
    """A language model with fresh adapters, which change nothing before they learn.

    Args:
        name: of the language model.

    Raises:
        ConfigError: the model cannot be found or used.
    """
    from peft import LoraConfig, get_peft_model

    base: Any = load_model(name)
    # Dropout inside the model would follow the number of workers.
    for module in base.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    settings = LoraConfig(
        r=training.lora.rank,
        lora_alpha=training.lora.alpha,
        target_modules="all-linear",
        exclude_modules=r".*pooler.*",  # made for another head: nothing here reads it
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = get_peft_model(base, settings)
    return ItemEncoder(adapted, load_tokenizer(name), texts, training.batch_items)


def _without_frozen(
    encoder: ItemEncoder, state: dict[str, Any], prefix: str, _: dict[str, Any]
) -> None:
    for name in encoder.frozen:
        state.pop(prefix + name, None)


def _frozen_may_lack(encoder: ItemEncoder, keys: Any) -> None:
    keys.missing_keys[:] = [key for key in keys.missing_keys if not key.endswith(encoder.frozen)]
