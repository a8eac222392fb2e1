"""What every recipe says: its name, and how much history the member may see."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from penchant.platform.timeline import Window

__all__ = ["KEPT_EPOCHS", "RecipeBase"]

#: What `kept_epochs` of a trained recipe means.
KEPT_EPOCHS = (
    "Take the mean weights of these epochs, counted from 1, and end with the last of them, "
    "whatever `select` says; the learning rate falls as for all `epochs`. A refit has those of the "
    "first fit."
)


class RecipeBase(BaseModel):
    """What every recipe says."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    #: Whether the member's counts fade; elsewhere `window.half_life_days` would do nothing.
    fades: ClassVar[bool] = False

    name: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$",
        description="The member's id; by default it is derived from the recipe.",
    )
    window: Window = Field(default=Window(), description="How much history the member may see.")

    @model_validator(mode="after")
    def _fades_if_told_to(self) -> Self:
        if self.window.half_life_days is not None and not self.fades:
            raise ValueError("window.half_life_days does nothing in this kind of member: remove it")
        return self
