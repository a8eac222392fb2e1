"""The network of `sequence`: a causal temporal transformer with a copy head.

Letters: T packed tokens, D width, S sequences of at most L tokens, P requests, V items, K pairs.
Attention adds, for every head, a learned mix of slowly varying functions of the gap between a
token and the question (cheaper on CPUs than gathering from log-bucketed tables, and smooth). Only
real tokens pass through the matrix products: padding exists inside attention alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from penchant.platform.recipes import SequenceRecipe
from penchant.trainers.sequence.batches import TIME_FEATURES, Batch

__all__ = ["SequenceNetwork", "basket_loss"]

_GAP_TERMS = 3


class _Block(nn.Module):
    """Pre-norm attention with time gaps, then a two-layer perceptron."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.gap = nn.Parameter(torch.zeros(_GAP_TERMS, heads))
        self.out = nn.Linear(dim, dim)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x_TD: Tensor, gaps_SLLG: Tensor, mask_S1LL: Tensor, packed: Tensor) -> Tensor:
        sequences, longest = gaps_SLLG.shape[:2]
        dim = x_TD.shape[1]
        qkv = self.qkv(self.norm_attention(x_TD))
        grid = qkv.new_zeros(sequences * longest, 3 * dim).index_copy(0, packed, qkv)
        grid = grid.view(sequences, longest, 3, self.heads, dim // self.heads)
        q, k, v = grid.permute(2, 0, 3, 1, 4)  # each (S, heads, L, D / heads)
        bias = (gaps_SLLG @ self.gap).permute(0, 3, 1, 2)  # (S, heads, L, L)
        weights = (q * (dim // self.heads) ** -0.5) @ k.transpose(-1, -2)
        weights = torch.softmax(weights + bias + mask_S1LL, dim=-1)
        mixed = (weights @ v).transpose(1, 2).reshape(sequences * longest, dim)
        x_TD = x_TD + self.out(mixed[packed])
        result: Tensor = x_TD + self.mlp(self.norm_mlp(x_TD))
        return result


class SequenceNetwork(nn.Module):
    """Scores of all items for each request of a batch.

    Args:
        recipe: size, item vectors and copy head.
        num_items: V.
        text: item vectors from a language model, shape (V, any), when the recipe names one. The
            network does not learn them; who does gives others to `forward`.
    """

    def __init__(self, recipe: SequenceRecipe, num_items: int, text: Tensor | None) -> None:
        super().__init__()
        dim, self.num_items = recipe.size.dim, num_items
        self.ids = nn.Embedding(num_items, dim) if recipe.ids else None
        self.register_buffer("text", text)
        self.text_in = None if text is None else nn.Linear(text.shape[1], dim, bias=False)
        self.time_in = nn.Linear(TIME_FEATURES, dim)
        self.blocks = nn.ModuleList(
            _Block(dim, recipe.size.heads) for _ in range(recipe.size.layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.item_bias = nn.Parameter(torch.zeros(num_items))
        terms = len(recipe.copy_half_lives_days)
        self.copy_state = nn.Linear(dim, terms + 1) if terms else None
        self.copy_item = nn.Embedding(num_items, terms + 1) if terms else None
        self._initialize()

    def _initialize(self) -> None:
        if self.ids is not None:
            nn.init.normal_(self.ids.weight, std=self.ids.weight.shape[1] ** -0.5)
        if self.copy_state is not None and self.copy_item is not None:
            nn.init.zeros_(self.copy_state.weight)
            nn.init.ones_(self.copy_state.bias)
            nn.init.zeros_(self.copy_item.weight)

    def item_vectors(self, text: Tensor | None = None) -> Tensor:
        """Shape (V, D): learned, from text, or the sum of both; `text` instead of the kept one."""
        parts = []
        if self.ids is not None:
            parts.append(self.ids.weight)
        if self.text_in is not None:
            parts.append(self.text_in(self.text if text is None else text))
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]

    def forward(self, batch: Batch, text: Tensor | None = None) -> Tensor:
        """Shape (P, V); -inf at items that are not asked for.

        Args:
            text: item vectors to read instead of the network's own, of their shape.
        """
        vectors_VD = self.item_vectors(text)
        x_TD = functional.embedding_bag(batch.item, vectors_VD, batch.bag[:-1], mode="mean")
        x_TD = x_TD * vectors_VD.shape[1] ** 0.5 * 0.5 + self.time_in(batch.time_features)
        if batch.kept is not None:
            x_TD = x_TD * batch.kept
        log_gap = torch.log1p(batch.gap_hours)
        gaps_SLLG = torch.stack(
            [log_gap / 8, torch.exp(-batch.gap_hours / 36), torch.exp(-batch.gap_hours / 336)], -1
        )
        mask = torch.zeros_like(log_gap).masked_fill_(~batch.visible, -1e9)[:, None]
        for block in self.blocks:
            x_TD = block(x_TD, gaps_SLLG, mask, batch.packed)
        h_PD = self.norm(x_TD[batch.readout])
        logits_PV = torch.addmm(self.item_bias, h_PD, vectors_VD.T)
        logits_PV = self._copy(logits_PV, h_PD, batch)
        if len(batch.seen_item):
            hidden = logits_PV.new_tensor(float("-inf")).expand(len(batch.seen_item))
            logits_PV = logits_PV.index_put((batch.seen_request, batch.seen_item), hidden)
        return logits_PV

    def _copy(self, logits_PV: Tensor, h_PD: Tensor, batch: Batch) -> Tensor:
        """Add what the user's own decayed counts say, weighted by the state and by the item."""
        if self.copy_state is None or self.copy_item is None:
            return logits_PV
        weight_KH = self.copy_state(h_PD)[batch.pair_request] + self.copy_item(batch.pair_item)
        value_K = weight_KH[:, 0] + (weight_KH[:, 1:] * batch.pair_features).sum(1)
        return logits_PV.index_put((batch.pair_request, batch.pair_item), value_K, accumulate=True)


def basket_loss(logits_PV: Tensor, target: Tensor, request: Tensor) -> Tensor:
    """Cross-entropy of each request against the even mix of its targets, shape (P,).

    Args:
        logits_PV: scores of all items; -inf is allowed at items that are no targets.
        target: items that were chosen, all requests one after the other.
        request: position of the request of each target, same shape.
    """
    targets_P = logits_PV.new_zeros(len(logits_PV))
    share = 1.0 / targets_P.index_add_(0, request, targets_P.new_ones(len(request)))
    loss: Tensor = _BasketLoss.apply(logits_PV, target, request, share[request])  # type: ignore[no-untyped-call]  # torch has no types here
    return loss


class _BasketLoss(torch.autograd.Function):
    """`basket_loss` with one exponential an item instead of two: they are what a step costs."""

    @staticmethod
    def forward(ctx, logits_PV, target, request, share):  # type: ignore[no-untyped-def]
        highest_P = logits_PV.amax(dim=1)
        power_PV = torch.sub(logits_PV, highest_P[:, None]).exp_()
        total_P = power_PV.sum(dim=1)
        ctx.save_for_backward(power_PV, total_P, target, request, share)
        log_total_P = highest_P + total_P.log()
        chosen = (log_total_P[request] - logits_PV[request, target]) * share
        return logits_PV.new_zeros(len(logits_PV)).index_add_(0, request, chosen)

    @staticmethod
    def backward(ctx, gradient_P):  # type: ignore[no-untyped-def]
        power_PV, total_P, target, request, share = ctx.saved_tensors
        gradient_PV = power_PV.mul_((gradient_P / total_P)[:, None])
        down = -share * gradient_P[request]
        gradient_PV.index_put_((request, target), down, accumulate=True)
        return gradient_PV, None, None, None
