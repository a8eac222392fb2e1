"""Recipes of the members that read histories as text."""

from __future__ import annotations

import math
import re
from pathlib import PurePath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from penchant.platform.recipe_base import KEPT_EPOCHS, RecipeBase

__all__ = ["HistoryText", "Lora", "TextRecipe", "TextTraining", "ZeroShotRecipe"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HistoryText(_Part):
    """How a history is written down for a language model."""

    max_tokens: int = Field(
        default=64,
        ge=8,
        le=8192,
        description="Token budget of the history; whole events are kept while they fit.",
    )
    item_tokens: int = Field(
        default=24, ge=1, le=512, description="An item's text is cut to so many tokens."
    )
    order: Literal["newest_first", "newest_last"] = "newest_last"
    gaps: bool = Field(
        default=True, description="Say how long ago each event was, such as `3 d ago`."
    )
    types: bool = Field(
        default=False, description="Name each event's type, in data with several types."
    )
    values: bool = Field(
        default=False, description="Name each event's value, such as a rating of `4`."
    )
    relevant_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="`binary`: share of the budget for the events that are most like the "
        "candidate; the rest goes to the latest ones.",
    )


class Lora(_Part):
    """Low-rank adapters on every linear layer (Hu et al. 2021); the base stays as it is."""

    rank: int = Field(default=8, ge=1, le=1024)
    alpha: int = Field(default=16, ge=1)


class TextTraining(_Part):
    """How the language model behind a sequence member's item vectors learns with it."""

    vectors: Literal["joint", "refreshed"] = Field(
        default="joint",
        description="`joint`: the items of each batch pass through the language model inside the "
        "step. `refreshed`: vectors stand still for an epoch, then the adapters follow what the "
        "epoch asked of them, and all vectors are made anew.",
    )
    lora: Lora = Lora()
    learning_rate: float = Field(default=3e-4, gt=0, description="Of the adapters.")
    drawn_items: int = Field(
        default=64,
        ge=1,
        description="`joint`: items beside those of the batch that pass in each step, to stand for "
        "all others.",
    )
    batch_items: int = Field(
        default=256,
        ge=1,
        description="Items that pass through the language model at once: memory grows with them, "
        "not with the catalogue. `refreshed`: also the items of an update.",
    )


def _refuse_idle(
    member: str, task: Literal["next_item", "binary"], settings: dict[str, tuple[object, object]]
) -> None:
    """Refuse what is set in vain; a default, or zero or nothing, says what is so anyway.

    Args:
        settings: those that do nothing in this task: what was given, and the default.
    """
    for name, (given, default) in settings.items():
        if given and given != default:
            other = "binary" if task == "next_item" else "next_item"
            raise ValueError(
                f"`{name}` of a {member} member acts in a task `{other}` only, got {given!r} in a "
                f"task `{task}`, where it would do nothing: remove it"
            )


def _model_label(base: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", PurePath(base).name.lower())[:24]


class TextRecipe(RecipeBase):
    """A language model that reads the history as text, fine-tuned on requests."""

    kind: Literal["text"]
    base: str = Field(
        default="minilm",
        description="Language model: alias, directory (a member's, a pretrained one's) or hub id.",
    )
    layers: int | None = Field(
        default=None, ge=1, description="Keep the lowest so many layers of the base."
    )
    init_from: str | None = Field(
        default=None,
        description="Directory of a text member of the same base, of any log: its weights, and its "
        "heads where they fit, are where training begins.",
    )
    lora: Lora | None = Field(default=None, description="Train adapters instead of all weights.")
    history: HistoryText = HistoryText()
    fit_requests: int = Field(default=8000, ge=2, description="Latest requests to learn from.")
    negatives: int = Field(
        default=64,
        ge=0,
        description="`next_item`: sampled items beside the targets of a batch, log-Q corrected.",
    )
    copy_half_lives_days: tuple[float, ...] = Field(
        default=(7.0, 45.0, math.inf),
        description="`next_item`: decays of the user's own counts; empty where nothing repeats.",
    )
    epochs: int = Field(default=3, ge=1)
    kept_epochs: tuple[PositiveInt] | None = Field(default=None, description=KEPT_EPOCHS)
    patience: int = Field(
        default=1, ge=1, description="Epochs without gain on `select` before stopping."
    )
    batch_requests: int = Field(default=32, ge=1, description="Requests of a global batch.")
    accumulation: int = Field(
        default=1, ge=1, description="Parts of a batch that pass through the model one by one."
    )
    learning_rate: float = Field(default=5e-5, gt=0)
    head_learning_rate: float = Field(
        default=5e-3, gt=0, description="Of the few numbers that the base does not bring along."
    )
    weight_decay: float = Field(default=0.01, ge=0)
    history_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="Chance that an event is left out while training."
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    positive_weight: float = Field(
        default=1.0, gt=0, description="`binary`: what a yes weighs against a no."
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Compute activations twice instead of keeping them."
    )
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _parts_fit(self) -> TextRecipe:
        if self.batch_requests % self.accumulation:
            raise ValueError(
                "batch_requests must be a multiple of accumulation, got "
                f"{self.batch_requests} and {self.accumulation}"
            )
        if any(not days > 0 for days in self.copy_half_lives_days):
            raise ValueError(
                f"copy_half_lives_days must be positive, got {self.copy_half_lives_days}"
            )
        return self

    def check_task(self, task: Literal["next_item", "binary"]) -> None:
        """See that every setting acts in the task.

        Raises:
            ValueError: one would do nothing.
        """
        fields = type(self).model_fields
        idle = {
            "next_item": ("positive_weight",),
            "binary": ("negatives", "copy_half_lives_days"),
        }[task]
        settings = {name: (getattr(self, name), fields[name].default) for name in idle}
        if task == "next_item":
            settings["history.relevant_share"] = (self.history.relevant_share, 0.0)
        _refuse_idle(self.kind, task, settings)

    @property
    def label(self) -> str:
        """Short name for ids: base, layers, adapters."""
        layers = "" if self.layers is None else f"-l{self.layers}"
        lora = "" if self.lora is None else f"-lora{self.lora.rank}"
        return _model_label(self.base) + layers + lora


class ZeroShotRecipe(RecipeBase):
    """A causal language model that is asked directly, without any training."""

    kind: Literal["zero_shot"]
    base: str = Field(default="smollm2", description="Causal model: alias, directory or hub id.")
    history: HistoryText = HistoryText(max_tokens=96)
    rerank: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="`next_item`: so many of the best items are scored again by the likelihood of "
        "their whole text; the others by that of their words at the next place.",
    )
    question: str | None = Field(
        default=None,
        description="What is asked, with `{history}` where the history stands and, in a yes-or-no "
        "task, `{item}` after it; by default whether the user will choose it, or what comes next.",
    )

    @model_validator(mode="after")
    def _asks_about_a_history(self) -> ZeroShotRecipe:
        if self.question is None:
            return self
        marks = re.findall(r"\{.*?\}", self.question)
        if marks not in (["{history}"], ["{history}", "{item}"]):
            raise ValueError(
                "question must hold `{history}` once and, in a yes-or-no task, `{item}` once after "
                f"it, got {self.question!r}"
            )
        return self

    def check_task(self, task: Literal["next_item", "binary"]) -> None:
        """See that every setting acts in the task, and that a question asks for what it asks for.

        Raises:
            ValueError: one does not.
        """
        idle: dict[str, tuple[object, object]] = (
            {"rerank": (self.rerank, 0)}
            if task == "binary"
            else {"history.relevant_share": (self.history.relevant_share, 0.0)}
        )
        _refuse_idle(self.kind, task, idle)
        if self.question is not None and ("{item}" in self.question) != (task == "binary"):
            expected = "`{item}` after `{history}`" if task == "binary" else "no `{item}`"
            raise ValueError(
                f"the question of a zero_shot member in a task `{task}` must hold {expected}, got "
                f"{self.question!r}"
            )

    @property
    def label(self) -> str:
        """Short name for ids."""
        return _model_label(self.base)
