"""What a pretraining asks of the model at which step: a function of (seed, step).

Encoders are asked for hidden tokens as BERT is (Devlin et al. 2019, section 3.1): 15% of them, of
which 80% are shown as [MASK], 10% as a random token and 10% as they are. Decoders are asked for
every next token.

Letters: P rows, L tokens of a row, M places that are asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from penchant.platform.item_tokens import TokenLists
from penchant.platform.requests import ranges

__all__ = ["Asked", "Asker", "PretrainSettings", "batch_rows", "drawn", "total_steps"]

_CHOSEN, _HIDDEN, _RANDOM = 0.15, 0.8, 0.1
_STREAMS = ("order", "mask", "held out")  # of random numbers


class PretrainSettings(BaseModel):
    """What is asked of a pretraining; two runs with the same settings on the same corpus agree."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str
    masked: bool = True  # hidden tokens (encoders), or next tokens (decoders)
    layers: int | None = Field(default=None, ge=1)
    tokens: int = Field(default=128, ge=16)  # of a row
    batch_sequences: int = Field(default=32, ge=1)  # rows of a global batch
    epochs: int = Field(default=1, ge=1)
    steps: int | None = Field(default=None, ge=1)  # instead of epochs
    learning_rate: float = Field(default=5e-5, gt=0)
    seed: int = Field(default=0, ge=0)


def total_steps(settings: PretrainSettings, num_rows: int) -> int:
    """Updates of a whole run."""
    each_epoch = math.ceil(num_rows / settings.batch_sequences)
    return settings.steps or settings.epochs * each_epoch


def batch_rows(settings: PretrainSettings, num_rows: int, step: int) -> NDArray[np.int64]:
    """Rows of a step: each epoch goes through all of them in an order of its own."""
    epoch, at = divmod(step, math.ceil(num_rows / settings.batch_sequences))
    order = drawn(settings, "order", epoch).permutation(num_rows)
    return order[at * settings.batch_sequences : (at + 1) * settings.batch_sequences]


def drawn(settings: PretrainSettings, stream: str, number: int = 0) -> np.random.Generator:
    """Random numbers for one purpose, one epoch or step."""
    return np.random.default_rng([settings.seed, _STREAMS.index(stream), number, 1])


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Rows as the model sees them, and what it is asked."""

    ids: Tensor  # (P, L) int64
    mask: Tensor  # (P, L) int64, 1 at real tokens
    wanted: Tensor  # (P, L) int64, the token that is asked for, -1 where none is

    def take(self, chosen: NDArray[np.int64]) -> Asked:
        """Some of the rows, without columns that all of them leave empty."""
        at = torch.from_numpy(chosen)
        mask = self.mask[at]
        longest = int(mask.sum(1).max())
        return Asked(
            ids=self.ids[at, :longest], mask=mask[:, :longest], wanted=self.wanted[at, :longest]
        )

    @property
    def places(self) -> Tensor:
        """Flat positions (M,) in the rows of what is asked."""
        return torch.nonzero(self.wanted.flatten() >= 0).squeeze(1)

    @property
    def answers(self) -> Tensor:
        """The tokens that stand there, (M,)."""
        return self.wanted[self.wanted >= 0]


class Asker:
    """Turns packed rows into questions; the same rows and random numbers give the same ones."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, masked: bool, tokens: int) -> None:
        self.masked, self.tokens = masked, tokens
        self.pad = int(tokenizer.pad_token_id)
        self.mask_id = int(tokenizer.mask_token_id) if masked else -1
        special = np.array(sorted(set(tokenizer.all_special_ids)), dtype=np.int64)
        self._special = special
        self._words = np.setdiff1d(np.arange(len(tokenizer)), special)

    def ask(self, rows: TokenLists, random: np.random.Generator) -> Asked:
        """Hide tokens (encoders), or ask for each token after its predecessors (decoders)."""
        lengths = rows.lengths
        real = np.arange(self.tokens)[None, :] < lengths[:, None]
        ids = np.full(real.shape, self.pad, dtype=np.int64)
        ids[np.repeat(np.arange(len(rows)), lengths), ranges(np.zeros_like(lengths), lengths)] = (
            rows.ids
        )
        wanted = np.full(real.shape, -1, dtype=np.int64)
        if self.masked:
            shown, chosen = self._hide(ids, real, random)
            wanted[chosen] = ids[chosen]
        else:
            shown = ids
            wanted[:, :-1] = np.where(real[:, 1:], ids[:, 1:], -1)
        return Asked(
            ids=torch.from_numpy(shown),
            mask=torch.from_numpy(real.astype(np.int64)),
            wanted=torch.from_numpy(wanted),
        )

    def _hide(
        self, ids: NDArray[np.int64], real: NDArray[np.bool_], random: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Rows with some tokens hidden, and which were chosen; special tokens never are."""
        able = real & ~np.isin(ids, self._special)
        chosen = able & (random.random(ids.shape) < _CHOSEN)
        kind = random.random(ids.shape)
        other = random.choice(self._words, ids.shape)
        shown = np.where(chosen & (kind < _HIDDEN), self.mask_id, ids)
        swapped = chosen & (kind >= _HIDDEN) & (kind < _HIDDEN + _RANDOM)
        return np.where(swapped, other, shown), chosen
