"""Recipes: everything that defines a member, as data that can be written, compared and hashed."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from penchant.platform.recipe_base import KEPT_EPOCHS, RecipeBase
from penchant.platform.text_recipes import TextRecipe, TextTraining, ZeroShotRecipe

__all__ = [
    "Alike",
    "BoostedRecipe",
    "ItemItemRecipe",
    "PersonalRecipe",
    "PopularityRecipe",
    "Recipe",
    "SequenceRecipe",
    "Size",
    "TextRecipe",
    "TextTraining",
    "ZeroShotRecipe",
    "most_epochs",
    "recipe_id",
]


class PopularityRecipe(RecipeBase):
    """Items by how often all users chose them, in a window before the cut-off."""

    fades: ClassVar[bool] = True
    kind: Literal["popularity"]


class Alike(BaseModel):
    """Own counts also say something of items whose texts are alike, such as new ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = Field(
        default="minilm", description="Language model for item vectors: alias, path or hub id."
    )
    weight: float = Field(
        default=0.3, gt=0, description="What is shared out of a count, beside the count itself."
    )
    temperature: float = Field(
        default=0.01, gt=0, description="Of the cosine: the lower, the more alike items must be."
    )
    neighbors: int = Field(
        default=64, ge=1, description="A count goes to the items of so many nearest texts."
    )


class PersonalRecipe(RecipeBase):
    """The user's own items by decayed frequency; the population's share breaks ties."""

    fades: ClassVar[bool] = True
    kind: Literal["personal"]
    prior_weight: float = Field(
        default=1.0, ge=0, description="Weight of the population's share against one own event."
    )
    min_group_items: int = Field(
        default=1, ge=1, description="Count only groups (baskets) of at least this many items."
    )
    alike: Alike | None = Field(
        default=None, description="`next_item`: share counts out to items with like texts, too."
    )


class ItemItemRecipe(RecipeBase):
    """A ridge regression of every item on others, for ranking items that users have not had."""

    fades: ClassVar[bool] = True
    kind: Literal["item_item"]
    relation: Literal["similarity", "transition"] = Field(
        default="similarity",
        description="What users have beside an item, in any order (EASE, Steck 2019), or what is "
        "asked for after it (SLIT, Choi et al. 2021).",
    )
    regularization: float = Field(default=500.0, gt=0, description="Ridge penalty on the diagonal.")
    half_life_events: float | None = Field(
        default=None, gt=0, description="An event this many events ago counts half."
    )


class BoostedRecipe(RecipeBase):
    """Gradient-boosted trees over recency, frequency, interval and item features.

    Yes-or-no tasks: a logistic regression; trees go on from its log-odds where there are 10,000
    answers (`trees`, `leaves`, `bags` and `learning_rate` do nothing below).
    """

    kind: Literal["boosted"]
    fit_requests: int = Field(default=30_000, ge=10, description="Latest requests to learn from.")
    negative_share: float = Field(
        default=0.25,
        gt=0,
        le=1,
        description="Share of the items that were not chosen to learn from; all that were are.",
    )
    trees: int = Field(default=200, ge=1)
    learning_rate: float = Field(default=0.06, gt=0, le=1)
    leaves: int = Field(default=63, ge=2)
    bags: int = Field(
        default=1,
        ge=1,
        le=100,
        description="How often trees are grown, each time on another draw; scores are averaged.",
    )
    popular_candidates: int = Field(
        default=100, ge=1, description="Popular items ranked beside the user's own."
    )
    seed: int = Field(default=0, ge=0)


class Size(BaseModel):
    """How large a sequence model is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dim: int = Field(default=64, ge=8, le=4096, description="Width of the hidden states.")
    layers: int = Field(default=2, ge=1, le=64)
    heads: int = Field(default=2, ge=1, le=64)

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Size:
        if self.dim % self.heads:
            raise ValueError(
                f"dim must be a multiple of heads, got dim {self.dim} and heads {self.heads}"
            )
        return self

    @property
    def label(self) -> str:
        return f"d{self.dim}x{self.layers}"


_EPOCHS_NAME = 52  # characters of a name to which `-epoch-123` can be added


class SequenceRecipe(RecipeBase):
    """A causal temporal transformer over the history, with a copy head."""

    kind: Literal["sequence"]
    size: Size = Size()
    tokens: Literal["group", "event"] = Field(
        default="group", description="One token a group (basket, session) or one an event."
    )
    max_tokens: int = Field(
        default=64, ge=1, le=4096, description="Latest tokens that are attended to."
    )
    ids: bool = Field(default=True, description="Learn a vector an item.")
    text: str | None = Field(
        default=None, description="Language model for item vectors: alias, path or hub id."
    )
    text_training: TextTraining | None = Field(
        default=None, description="Train that language model too; by default it is frozen."
    )
    init_from: str | None = Field(
        default=None,
        description="Directory of a sequence member of the same size and `text`, with `ids: false` "
        "like this one, of any log: its network is where training begins.",
    )
    copy_half_lives_days: tuple[float, ...] = Field(
        default=(7.0, 45.0, math.inf),
        description="Decays of the copy head; empty for no copy head.",
    )
    epochs: int = Field(default=6, ge=1)
    kept_epochs: tuple[PositiveInt, ...] | None = Field(
        default=None, min_length=1, description=KEPT_EPOCHS
    )
    patience: int = Field(
        default=2, ge=1, description="Epochs without gain on `select` before stopping."
    )
    average: int | None = Field(
        default=None,
        ge=2,
        description="Take the mean weights of so many of the best epochs, if it does better on "
        "`select` than the best epoch alone.",
    )
    epoch_members: int | None = Field(
        default=None,
        ge=2,
        description="Keep so many of the best epochs as members of their own, too: candidates for "
        "ensembles that cost no training.",
    )
    batch_tokens: int = Field(default=2048, ge=16, description="Tokens of a global batch.")
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _has_item_vectors(self) -> SequenceRecipe:
        if not self.ids and self.text is None:
            raise ValueError(
                "a sequence member needs item vectors: set `ids: true` or name a `text` model"
            )
        if self.epoch_members is not None and (self.text_training or self.kept_epochs):
            raise ValueError(
                "epoch_members keeps weights of several epochs; it goes neither with kept_epochs, "
                "which says which ones count, nor with text_training, whose model is not among them"
            )
        if self.epoch_members is not None and len(self.name or "") > _EPOCHS_NAME:
            raise ValueError(
                f"epoch_members adds to the name: expected {_EPOCHS_NAME} characters at most, got "
                f"{self.name!r}"
            )
        if self.text_training is not None and self.text is None:
            raise ValueError("text_training trains a language model: name it in `text`")
        if self.init_from is not None and self.ids:
            raise ValueError(
                "init_from carries over what does not know single items, and `ids: true` learns a "
                "vector an item: set `ids: false` and name a `text` model"
            )
        if any(not days > 0 for days in self.copy_half_lives_days):
            raise ValueError(
                f"copy_half_lives_days must be positive, got {self.copy_half_lives_days}"
            )
        return self


Recipe = Annotated[
    PopularityRecipe
    | PersonalRecipe
    | ItemItemRecipe
    | BoostedRecipe
    | SequenceRecipe
    | TextRecipe
    | ZeroShotRecipe,
    Field(discriminator="kind"),
]


#: Settings that came later: where they are not used, a member keeps the id that it had before.
_LATER = (
    "text_training",
    "init_from",
    "average",
    "kept_epochs",
    "epoch_members",
    "alike",
    "question",
)


def recipe_id(recipe: Recipe) -> str:
    """A readable id that is the same for equal recipes: kind, window, size, vectors, hash."""
    if recipe.name is not None:
        return recipe.name
    unused = {name for name in _LATER if getattr(recipe, name, None) is None}
    text = json.dumps(recipe.model_dump(mode="json", exclude={"name", *unused}), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:6]
    what = ""
    if isinstance(recipe, SequenceRecipe):
        what = f"-{recipe.size.label}"
        what += "-events" if recipe.tokens == "event" else ""
        what += "" if recipe.text is None else "-text" if not recipe.ids else "-ids-text"
        what += "" if recipe.text_training is None else f"-{recipe.text_training.vectors}"
    if isinstance(recipe, PersonalRecipe) and recipe.alike is not None:
        what = "-alike"
    if isinstance(recipe, TextRecipe | ZeroShotRecipe):
        what = f"-{recipe.label}"
    return f"{recipe.kind}-{recipe.window.label}{what}-{digest}"


def most_epochs(recipe: SequenceRecipe | TextRecipe) -> int:
    """How many epochs the recipe trains for, unless `select` ends it before."""
    return recipe.epochs if recipe.kept_epochs is None else max(recipe.kept_epochs)
