"""`zero_shot`: a causal language model that is asked directly, without any training.

`binary` compares " yes" with " no" after the question. `next_item` asks for the next item and reads
how much likelier the history makes the words of each item, in one pass a request; a few of the best
can then be scored by their whole text.

Letters: R requests, V items, P prompts, Q continuations, L and T tokens of those, W vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Cache, PreTrainedModel

from penchant.platform.errors import ConfigError, DataError
from penchant.platform.events import EventLog
from penchant.platform.language_models import load_model, load_tokenizer, weights_digest
from penchant.platform.recipes import ZeroShotRecipe
from penchant.platform.requests import Requests, latest_requests
from penchant.platform.text import HistoryWriter, TokenLists, tokenizer_pieces
from penchant.trainers.accelerator import own_device
from penchant.trainers.member import Past, read_card, read_tensors, write_member
from penchant.trainers.text.batches import like_lengths
from penchant.trainers.text.left_out import words_of_left_out
from penchant.trainers.text.length import refuse_too_long
from penchant.trainers.text.prompts import Prompt, Tokens, binary_prompt, next_item_prompt

__all__ = ["Begun", "ZeroShotMember", "begin", "continue_", "fit_zero_shot"]

_PROMPT_TOKENS = 4096  # in the model at once, padding included; their keys and values are kept
_LOOKED_AT = 2000  # latest requests before the cut-off, to see whether histories can be written
_TAIL_TOKENS = 1024  # each with logits over the whole vocabulary


@dataclass(frozen=True, kw_only=True)
class Begun:
    """Prompts that the model has read: what it keeps of them, and what may follow."""

    cache: Cache
    mask: Tensor  # (P, L), 1 at real tokens; padding is on the left
    log_p: Tensor  # (P, W), of the next token


@dataclass(frozen=True, kw_only=True)
class ZeroShotMember:
    """A base model, the question, and all items as tokens; nothing was learned."""

    recipe: ZeroShotRecipe
    binary: bool
    base_sha256: str
    prompt: Prompt
    writer: HistoryWriter
    model: PreTrainedModel
    tell: Callable[[str], None] = field(default=lambda _: None, compare=False)  # it takes long

    @property
    def num_parameters(self) -> int:
        return 0

    def score(self, log: EventLog, requests: Requests) -> NDArray[np.float32]:
        """Shape (R, 1): log p(yes) - log p(no); or (R, V), in log-likelihood ratios.

        Raises:
            ConfigError: the member was made for the other task.
        """
        if self.binary != (requests.candidate is not None):
            task = "binary" if self.binary else "next_item"
            raise ConfigError(
                f"this zero_shot member was made for `{task}` and got requests of the other task; "
                f"expected `{task}`. Fit one for this task."
            )
        written = self.writer.write(log, requests, self.recipe.window)
        asked: dict[tuple[int, ...], list[int]] = {}  # equal histories are read once
        for at in range(len(requests)):
            asked.setdefault(tuple(_list(written, at).tolist()), []).append(at)
        width = 1 if self.binary else len(self.writer.items)
        scores = np.zeros((len(requests), width), dtype=np.float32)
        prompts = [self.prompt.asked(history) for history in asked]
        owners = list(asked.values())
        with torch.inference_mode():
            if self.binary:
                self._answer(prompts, owners, requests, scores)
            else:
                self._rank(prompts, owners, scores)
        return scores

    def _telling(self, batches: Iterable[list[int]], number: int) -> Iterator[list[int]]:
        """The batches; how many of the prompts are done is told after each of them."""
        done = 0
        for batch in batches:
            yield batch
            done += len(batch)
            if number > 1:
                self.tell(f"{done:,} of {number:,} histories read")

    def _answer(
        self,
        prompts: list[Tokens],
        owners: list[list[int]],
        requests: Requests,
        scores: NDArray[np.float32],
    ) -> None:
        candidate = requests.candidate
        if candidate is None:
            return
        for batch in self._telling(_batches(prompts, _PROMPT_TOKENS), len(prompts)):
            begun = begin(self.model, [prompts[at] for at in batch])
            pairs = [(row, at) for row, prompt in enumerate(batch) for at in owners[prompt]]
            tails = [self.prompt.ended(_list(self.writer.items, candidate[at])) for _, at in pairs]
            for part in _batches(tails, _TAIL_TOKENS):
                rows = [pairs[at][0] for at in part]
                log_p = continue_(self.model, begun, rows, [tails[at] for at in part])
                last = [len(tails[at]) - 1 for at in part]
                answer = log_p[torch.arange(len(part)), last]
                odds = answer[:, self.prompt.yes] - answer[:, self.prompt.no]
                scores[[pairs[at][1] for at in part], 0] = odds.cpu().numpy()

    def _rank(
        self, prompts: list[Tokens], owners: list[list[int]], scores: NDArray[np.float32]
    ) -> None:
        neutral = begin(self.model, [self.prompt.asked(())]).log_p
        items = self.writer.items
        silent = items.lengths == 0
        place = np.repeat(np.arange(len(items)), items.lengths)
        share = 1.0 / items.lengths[place]
        shape = (len(items), neutral.shape[1])
        words = scipy.sparse.csr_array((share, (place, items.ids)), shape=shape)  # sums repeats
        for batch in self._telling(_batches(prompts, _PROMPT_TOKENS), len(prompts)):
            begun = begin(self.model, [prompts[at] for at in batch])
            gain = (begun.log_p - neutral).cpu().numpy().astype(np.float64)
            found = (words @ gain.T).T.astype(np.float32)
            for row, prompt in enumerate(batch):
                line = found[row]
                line[silent] = line[~silent].min(initial=0.0) - 1.0
                if self.recipe.rerank:
                    self._rerank(begun, row, line, int((~silent).sum()))
                scores[owners[prompt]] = line

    def _rerank(self, begun: Begun, row: int, line: NDArray[np.float32], spoken: int) -> None:
        """Put the best items above all others, by the log-likelihood of their whole text."""
        best = np.argsort(-line, kind="stable")[: min(self.recipe.rerank, spoken)]
        texts = [_list(self.writer.items, at).astype(np.int64) for at in best]
        exact = np.array([float(begun.log_p[row, text[0]]) for text in texts])
        longer = [at for at, text in enumerate(texts) if len(text) > 1]
        tails = [texts[at][:-1] for at in longer]
        for part in _batches(tails, _TAIL_TOKENS):
            log_p = continue_(self.model, begun, [row] * len(part), [tails[at] for at in part])
            for place, tail in enumerate(part):
                text = texts[longer[tail]]
                steps = log_p[place, torch.arange(len(text) - 1), torch.from_numpy(text[1:])]
                exact[longer[tail]] += float(steps.sum())
        if len(best):
            line[best] = line.max() + 1.0 + exact - exact.min()

    def save(self, directory: Path) -> None:
        """The question and the items' tokens; the base is named, with its weights' digest."""
        settings, arrays = self.writer.state()
        state = {
            "binary": self.binary,
            "base_sha256": self.base_sha256,
            "prompt": asdict(self.prompt),
            "writer": settings,
        }
        write_member(directory, self.recipe, state, arrays)

    @classmethod
    def load(cls, directory: Path) -> ZeroShotMember:
        """Read what `save` wrote.

        Raises:
            DataError: the base is another one now.
        """
        recipe, state = read_card(directory)
        if not isinstance(recipe, ZeroShotRecipe):
            raise TypeError(f"{directory} holds a {recipe.kind} member, expected zero_shot")
        digest = weights_digest(recipe.base)
        if digest != state["base_sha256"]:
            raise DataError(
                f"{directory} was made with weights of base {recipe.base!r} whose SHA-256 is "
                f"{state['base_sha256'][:12]}.., but those found now have {digest[:12]}..: "
                "expected the same ones. Bring them back, or fit the member again."
            )
        prompt: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in state["prompt"].items()
        }
        return cls(
            recipe=recipe,
            binary=state["binary"],
            base_sha256=digest,
            prompt=Prompt(**prompt),
            writer=HistoryWriter.from_state(state["writer"], read_tensors(directory)),
            model=load_model(recipe.base, head="causal"),
        )


def fit_zero_shot(
    recipe: ZeroShotRecipe, past: Past, tell: Callable[[str], None] = lambda _: None
) -> ZeroShotMember:
    """Nothing is learned: the items' texts are tokenised and the question is worded.

    Args:
        tell: is told how far the member is whenever it is asked something.

    Raises:
        ConfigError: the base cannot be used, or reads fewer tokens than the recipe asks for.
        DataError: no item has a text, or none of the events before the cut-off can be written.
    """
    if not any(text.strip() for text in past.texts):
        raise DataError(
            "zero_shot: no item has a text, expected something to read. Give data.items with a "
            "`text` column, or use members that need ids alone."
        )
    binary = past.spec.task == "binary"
    tokenizer, model = load_tokenizer(recipe.base), load_model(recipe.base, head="causal")
    model.to(own_device())  # type: ignore[arg-type]  # torch's decorator hides its signature
    prompt = (binary_prompt if binary else next_item_prompt)(tokenizer, recipe.question)
    refuse_too_long(recipe, model.config, prompt.size, "of the question")
    pieces = tokenizer_pieces(tokenizer)
    writer = HistoryWriter.make(recipe.history, past.texts, tuple(past.types), pieces)
    like_these = latest_requests(past.log, past.spec, past.until_ms, _LOOKED_AT, seed=0)
    lost = words_of_left_out("zero_shot", writer, past.log, like_these, recipe.window)
    return ZeroShotMember(
        recipe=recipe,
        binary=binary,
        base_sha256=weights_digest(recipe.base),
        prompt=prompt,
        writer=writer,
        model=model,
        tell=lambda words: tell("; ".join(filter(None, (words, lost)))),
    )


def begin(model: PreTrainedModel, prompts: list[Tokens]) -> Begun:
    """Read prompts; they are filled up on the left, so that all end at the same place."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.from_numpy(prompt)
        mask[row, longest - len(prompt) :] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        use_cache=True,
        logits_to_keep=1,
    )
    log_p = out.logits[:, -1].float().log_softmax(-1)
    return Begun(cache=out.past_key_values, mask=mask, log_p=log_p)


def continue_(model: PreTrainedModel, begun: Begun, rows: list[int], tails: list[Tokens]) -> Tensor:
    """Log-probabilities after each token of Q tails, shape (Q, T, W); prompts are not read again.

    Args:
        rows: the prompt that each tail continues.
        tails: filled up on the right, where nothing that counts sees it.
    """
    at = torch.tensor(rows, device=model.device)
    longest = max(len(tail) for tail in tails)
    ids = torch.zeros(len(tails), longest, dtype=torch.int64)
    seen = torch.zeros_like(ids)
    for row, tail in enumerate(tails):
        ids[row, : len(tail)] = torch.from_numpy(tail)
        seen[row, : len(tail)] = 1
    before = begun.mask[at]
    cache = deepcopy(begun.cache)  # selecting and continuing change a cache in place
    cache.batch_select_indices(at)
    out = model(
        input_ids=ids.to(model.device),
        attention_mask=torch.cat([before, seen.to(model.device)], dim=1),
        position_ids=before.sum(1, keepdim=True) + torch.arange(longest, device=model.device),
        past_key_values=cache,
        use_cache=True,
    )
    log_p: Tensor = out.logits.float().log_softmax(-1)
    return log_p


def _list(lists: TokenLists, at: int | np.integer) -> NDArray[np.int32]:
    return lists.ids[lists.offsets[at] : lists.offsets[at + 1]]


def _batches(texts: list[Tokens], tokens: int) -> Iterator[list[int]]:
    """Texts of like length together, so many that padding included they fill `tokens`."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    for batch in like_lengths(lengths, tokens):
        yield batch.tolist()
