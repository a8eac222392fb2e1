"""The `tracking` section of an experiment file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from penchant.platform.errors import ConfigError

__all__ = ["Tracking", "TrackerName", "require_trackers"]

TrackerName = Literal["jsonl", "tensorboard", "mlflow", "wandb"]

#: Trackers whose client is a package of its own, under the name that pip knows.
_PACKAGES: dict[TrackerName, str] = {"mlflow": "mlflow", "wandb": "wandb"}


class Tracking(BaseModel):
    """Where the curves of trainings go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: tuple[TrackerName, ...] = Field(
        default=("jsonl", "tensorboard"),
        description="`jsonl`: members/<id>/steps.jsonl, which the report draws; `tensorboard`: "
        "tensorboard/<id>/; `mlflow` and `wandb`: their own clients, told where by their own "
        "environment variables. Empty: nowhere.",
    )


def require_trackers(names: Sequence[TrackerName]) -> None:
    """Refuse what cannot be tracked to, before anything is trained.

    Raises:
        ConfigError: the client of a named tracker is not installed.
    """
    for name in names:
        package = _PACKAGES.get(name)
        if package is not None and package not in sys.modules and find_spec(package) is None:
            raise ConfigError(
                f"tracking.to names {name}, but the package {package} is not installed, expected "
                f"it here and on every machine that trains. Run `pip install {package}`, or take "
                f"{name} out of tracking.to."
            )
