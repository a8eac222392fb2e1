"""The network of `text`: a language model, and the few numbers that turn its states into scores.

`next_item` has two towers that share the model: a history and an item's text each become a vector,
so that scores of N items cost one pass of the history. Their cosine is scaled; what the log knows
of an item joins it: the population's share, and the user's own decayed counts (a copy head, without
which a net loses to a plain count wherever people repeat). `binary` reads the candidate's text
and the history together, and answers with a log-odds.

Letters: P requests, Q items of the pool, H width of the model, C half-lives of the copy head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from penchant.platform.language_models import is_encoder, load_model
from penchant.platform.recipes import TextRecipe
from penchant.trainers.text.batches import Padded

__all__ = ["Own", "Pool", "TextNetwork", "build_network"]

_SCALE = 10.0  # of cosines, to begin with


@dataclass(frozen=True, kw_only=True)
class Own:
    """The user's own items among those that are scored: K pairs for the copy head."""

    request: Tensor  # (K,) int64
    place: Tensor  # (K,) int64, of the pair's item
    counts: Tensor  # (K, C), log(1 + decayed count)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Q items that are scored for each request."""

    text: tuple[Padded, ...]  # of this worker's part of the pool, in groups of like length
    row: Tensor  # (Q of this worker,) int64, where in these groups each item stands
    log_share: Tensor  # (Q,), of the population's events
    own: Own


class TextNetwork(nn.Module):
    """A language model with a head for each task.

    Args:
        base: the language model, without a head of its own.
        terms: C, half-lives of the copy head.
        binary: whether it answers yes or no, or ranks items.
    """

    def __init__(self, base: PreTrainedModel, *, terms: int, binary: bool) -> None:
        super().__init__()
        self.base: Any = base  # adapters may be wrapped around it
        self.binary, self.mean = binary, is_encoder(base.config)
        if binary:
            self.answer = nn.Linear(base.config.hidden_size, 1)
            nn.init.zeros_(self.answer.weight)
            nn.init.zeros_(self.answer.bias)
            return
        self.log_scale = nn.Parameter(torch.tensor([_SCALE]).log())
        self.popularity = nn.Parameter(torch.ones(1))
        self.copy = nn.Parameter(torch.ones(terms + 1)) if terms else None

    def vectors(self, text: Padded) -> Tensor:
        """One vector a text, shape (P, H): the mean over real tokens, or the last one's state.

        In fp32, like all that is made of it, whatever the language model computes in.
        """
        device = self.base.device
        ids, mask = text.ids.to(device), text.mask.to(device)
        states = self.base(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        if self.mean:
            weight = mask[:, :, None].to(states.dtype)
            pooled: Tensor = (states * weight).sum(1) / weight.sum(1).clamp(min=1)
            return pooled
        last: Tensor = states[torch.arange(len(ids), device=device), mask.sum(1) - 1]
        return last

    def log_odds(self, text: Padded) -> Tensor:
        """`binary`: shape (P,)."""
        return self.answered(self.vectors(text)).squeeze(1)

    def answered(self, pooled: Tensor) -> Tensor:
        """`binary`: what the head says of vectors (P, H), shape (P, 1)."""
        answer: Tensor = self.answer(pooled.to(self.answer.weight.dtype)).float()
        return answer

    def scores(self, histories: Tensor, items: Tensor, log_share: Tensor, own: Own) -> Tensor:
        """`next_item`: shape (P, Q).

        Args:
            histories: unit vectors, shape (P, H).
            items: unit vectors, shape (Q, H).
            log_share: shape (Q,).
        """
        logits = self.log_scale.float().exp() * (histories @ items.T)
        logits = logits + self.popularity.float() * log_share
        if self.copy is None or not len(own.request):
            return logits
        copy = self.copy.float()
        value = copy[0] + own.counts @ copy[1:]
        return logits.index_put((own.request, own.place), value, accumulate=True)

    def forward(self, text: Padded, pool: Pool | None, gather: Gather | None = None) -> Tensor:
        """Log-odds (P,), or scores of the pool (P, Q); one call a step, as DeepSpeed wants it.

        Args:
            gather: joins the parts of the pool that the workers encoded.
        """
        if pool is None:
            return self.log_odds(text)
        histories = functional.normalize(self.vectors(text), dim=1)
        read = torch.cat([self.vectors(text) for text in pool.text])
        items = functional.normalize(read[pool.row], dim=1)
        if gather is not None:
            items = gather(items)
        return self.scores(histories, items, pool.log_share, pool.own)


class Gather:
    """Rows of all workers in the order of the whole; gradients find their way back."""

    def __init__(self, rank: int, workers: int, rows: int) -> None:
        self.rank, self.workers, self.rows = rank, workers, rows

    def __call__(self, own: Tensor) -> Tensor:
        if self.workers == 1:
            return own
        whole: Tensor = _GatherRows.apply(own, self.rank, self.workers, self.rows)  # type: ignore[no-untyped-call]  # torch has no types here
        return whole


class _GatherRows(torch.autograd.Function):
    """Worker r holds rows r, r + workers, ..; a sum over workers joins them, forth and back.

    A worker with no rows of its own brings one that counts nothing, so that it takes part in all
    that the workers do together.
    """

    @staticmethod
    def forward(ctx, own, rank, workers, rows):  # type: ignore[no-untyped-def]
        ctx.rank, ctx.workers, ctx.own = rank, workers, len(own)
        whole = own.new_zeros(rows, own.shape[1])
        whole[rank::workers] = own[: len(whole[rank::workers])]
        torch.distributed.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        total = gradient.contiguous().clone()
        torch.distributed.all_reduce(total)
        mine = total[ctx.rank :: ctx.workers]
        padded_up = total.new_zeros(ctx.own, total.shape[1])
        padded_up[: len(mine)] = mine
        return padded_up, None, None, None


def build_network(recipe: TextRecipe, *, binary: bool) -> TextNetwork:
    """The base of a recipe with fresh heads, and adapters where the recipe has them.

    Raises:
        ConfigError: the base cannot be found or used.
    """
    base: Any = load_model(recipe.base, layers=recipe.layers)
    if recipe.gradient_checkpointing:
        # the name that transformers 5 began with warns in later ones
        new = getattr(base, "activation_checkpointing_enable", None)
        (new or base.gradient_checkpointing_enable)()
    pooler = getattr(base, "pooler", None)  # made for another head: it reads nothing here
    if pooler is not None:
        pooler.requires_grad_(False)
    # Dropout inside the model would follow the number of workers; events are dropped instead.
    for module in base.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    network = TextNetwork(base, terms=len(recipe.copy_half_lives_days), binary=binary)
    if recipe.lora is not None:
        from peft import LoraConfig, get_peft_model

        settings = LoraConfig(
            r=recipe.lora.rank, lora_alpha=recipe.lora.alpha, target_modules="all-linear"
        )
        torch.manual_seed(recipe.seed)
        network.base = get_peft_model(base, settings)
    return network
