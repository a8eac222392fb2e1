"""Token lists as padded tensors, framed as the language model expects them.

Letters: P rows of a batch, L the longest of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from penchant.platform.errors import ConfigError
from penchant.platform.requests import ranges
from penchant.platform.text import TokenLists

__all__ = [
    "Frame",
    "Padded",
    "frame_of",
    "filled",
    "framed",
    "in_groups",
    "like_lengths",
    "padded",
    "row_keys",
]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What stands around the tokens of a text: the model's own special tokens."""

    begin: tuple[int, ...]
    middle: tuple[int, ...]  # between two texts
    end: tuple[int, ...]
    pad: int


@dataclass(frozen=True, kw_only=True)
class Padded:
    """Texts side by side, each filled up on the right."""

    ids: Tensor  # (P, L) int64
    mask: Tensor  # (P, L) int64, 1 at real tokens


def frame_of(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """Encoders know CLS and SEP; decoders close a text with EOS, whose state sums it up.

    Raises:
        ConfigError: the tokenizer has nothing to begin or end a text with, so that an empty one
            would have no token, or nothing to fill it up with.
    """

    def some(*names: str) -> tuple[int, ...]:
        found = (getattr(tokenizer, name) for name in names)
        return next(((int(token),) for token in found if token is not None), ())

    begin, end = some("cls_token_id", "bos_token_id"), some("sep_token_id", "eos_token_id")
    pad = some("pad_token_id", "eos_token_id", "sep_token_id")
    if not pad or not (begin or end):
        raise ConfigError(
            f"the tokenizer of {tokenizer.name_or_path!r} names no "
            f"{'pad_token' if not pad else 'cls_token, bos_token, sep_token or eos_token'}; "
            "expected one, to stand around texts. Name it in the model's tokenizer_config.json, or "
            "use the tokenizer that came with the weights."
        )
    return Frame(begin=begin, middle=end, end=end, pad=pad[0])


def padded(texts: TokenLists, frame: Frame, before: TokenLists | None = None) -> Padded:
    """Texts with what the frame puts around them, side by side; see `framed`."""
    return filled(framed(texts, frame, before), frame)


def in_groups(
    texts: TokenLists, frame: Frame, groups: int
) -> tuple[tuple[Padded, ...], NDArray[np.int64]]:
    """Texts of like length side by side, in groups of like size, and where each text stands there.

    Args:
        groups: as many as there are texts, or fewer.
    """
    order = np.argsort(texts.lengths, kind="stable")
    some = tuple(padded(texts.take(part), frame) for part in np.array_split(order, groups))
    return some, np.argsort(order)


def framed(texts: TokenLists, frame: Frame, before: TokenLists | None = None) -> TokenLists:
    """Texts with what the frame puts around them: all that the model reads of each.

    Args:
        before: texts that come first, one a row; with the frame's middle after each.
    """
    parts = [_constant(frame.begin, len(texts))]
    if before is not None:
        parts += [before, _constant(frame.middle, len(texts))]
    parts += [texts, _constant(frame.end, len(texts))]
    lengths = [part.lengths for part in parts]
    offsets = np.concatenate([[0], np.cumsum(np.sum(lengths, axis=0))]).astype(np.int64)
    ids = np.empty(offsets[-1], dtype=np.int32)
    at = offsets[:-1]
    for part, length in zip(parts, lengths, strict=True):
        ids[ranges(at, length)] = part.ids
        at = at + length
    return TokenLists(ids=ids, offsets=offsets)


def filled(texts: TokenLists, frame: Frame) -> Padded:
    """Framed texts side by side."""
    lengths = texts.lengths
    real = np.arange(lengths.max(initial=0))[None, :] < lengths[:, None]
    ids = np.full(real.shape, frame.pad, dtype=np.int64)
    ids[real] = texts.ids
    return Padded(ids=torch.from_numpy(ids), mask=torch.from_numpy(real.astype(np.int64)))


def row_keys(texts: TokenLists) -> list[bytes]:
    """The tokens of each row as bytes: equal where, and only where, rows are."""
    whole, ends = texts.ids.tobytes(), (texts.offsets * texts.ids.itemsize).tolist()
    return [whole[begin:end] for begin, end in pairwise(ends)]


def like_lengths(lengths: NDArray[np.int64], batch_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Rows of like length together, so many that padding included they fill `batch_tokens`."""
    order = np.argsort(lengths, kind="stable")
    ordered = np.maximum(lengths[order], 1).tolist()
    begin = 0
    while begin < len(order):
        end = begin + 1
        while end < len(order) and (end + 1 - begin) * ordered[end] <= batch_tokens:
            end += 1
        yield order[begin:end]
        begin = end


def _constant(tokens: tuple[int, ...], rows: int) -> TokenLists:
    return TokenLists(
        ids=np.tile(np.array(tokens, dtype=np.int32), rows),
        offsets=np.arange(rows + 1, dtype=np.int64) * len(tokens),
    )
