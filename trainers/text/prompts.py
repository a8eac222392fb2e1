"""The questions that a language model is asked without training, as token ids.

All wordings but a recipe's own `question` stand here. What is the same for all requests is
tokenised once; histories and items come as token ids from the history writer and are put between.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from penchant.platform.errors import ConfigError

__all__ = ["Prompt", "Tokens", "binary_prompt", "next_item_prompt"]

_HISTORY, _CANDIDATE = "<<history>>", "<<candidate>>"
_BINARY = "What a user chose so far: {history}\nWill this user choose: {item}?"
_BINARY_ANSWER = "Answer:"
_NEXT_ITEM = "What a user chose so far: {history}\nWhat will this user choose next?"
_NEXT_ITEM_ANSWER = "Next:"

Tokens = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Token ids around what differs: `before` history `middle` [candidate `after`]."""

    before: tuple[int, ...]
    middle: tuple[int, ...]
    after: tuple[int, ...] = ()  # `binary` only
    yes: int = 0
    no: int = 0

    def asked(self, history: Sequence[int] | NDArray[np.int32]) -> Tokens:
        """All that comes before the candidate."""
        return np.concatenate([self.before, history, self.middle]).astype(np.int64)

    def ended(self, candidate: Sequence[int] | NDArray[np.int32]) -> Tokens:
        """The candidate and all that comes after it; the answer is the next token."""
        return np.concatenate([candidate, self.after]).astype(np.int64)

    @property
    def size(self) -> int:
        """Tokens that are not history or candidate."""
        return len(self.before) + len(self.middle) + len(self.after)


def next_item_prompt(tokenizer: PreTrainedTokenizerBase, question: str | None = None) -> Prompt:
    """Asks for the next item; its words follow.

    Args:
        question: with `{history}`.
    """
    marks = (_HISTORY,)
    before, middle = _pieces(tokenizer, question or _NEXT_ITEM, _NEXT_ITEM_ANSWER, marks)
    return Prompt(before=before, middle=middle)


def binary_prompt(tokenizer: PreTrainedTokenizerBase, question: str | None = None) -> Prompt:
    """Asks whether the user will choose a candidate; " yes" or " no" follows.

    Args:
        question: with `{history}`, then `{item}`.

    Raises:
        ConfigError: the tokenizer cannot tell the two answers apart.
    """
    marks = (_HISTORY, _CANDIDATE)
    before, middle, after = _pieces(tokenizer, question or _BINARY, _BINARY_ANSWER, marks)
    yes, no = (_ids(tokenizer, answer) for answer in (" yes", " no"))
    if not yes or not no or yes[0] == no[0]:
        raise ConfigError(
            "zero_shot: the base model's tokenizer gives ' yes' and ' no' the tokens "
            f"{list(yes)} and {list(no)}; expected two that differ. Use another base."
        )
    return Prompt(before=before, middle=middle, after=after, yes=yes[0], no=no[0])


def _pieces(
    tokenizer: PreTrainedTokenizerBase, question: str, answer: str, marks: tuple[str, ...]
) -> list[tuple[int, ...]]:
    """The text around the marks, tokenised; in the model's chat format where it has one.

    Histories and items bring the blank before them along.
    """
    for name, mark in (("history", _HISTORY), ("item", _CANDIDATE)):
        question = re.sub(rf"\s*\{{{name}\}}", mark, question)
    if tokenizer.chat_template:
        turn = [{"role": "user", "content": question}]
        text = str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
        begin: tuple[int, ...] = ()  # the template says how a text begins
    else:
        text, begin = f"{question}\n", _begin(tokenizer)
    texts, rest = [], text + answer
    for mark in marks:
        piece, rest = rest.split(mark, 1)
        texts.append(piece)
    first, *others = [_ids(tokenizer, piece) for piece in [*texts, rest]]
    return [begin + first, *others]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _begin(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The token that the tokenizer itself puts before a text, if any."""
    ids = tokenizer("a")["input_ids"]
    return (ids[0],) if ids and ids[0] == tokenizer.bos_token_id else ()
