"""When memory runs out while training: what was planned, and which dial to turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from penchant.platform.errors import RunError, is_out_of_memory
from penchant.platform.recipes import TextRecipe
from penchant.platform.store import write_json

__all__ = ["keep_plan", "out_of_memory", "ran_out", "smaller_batch"]

_PLAN = "plan.json"


def keep_plan(place: Path, memory: str) -> None:
    """Write down what a training will take, for when it takes more.

    Args:
        place: directory of the training; whoever waits for it may be on another machine.
        memory: the plan in words.
    """
    write_json(place / _PLAN, {"memory": memory})


def ran_out(error: BaseException | None) -> bool:
    """Whether memory was the cause: PyTorch's on a GPU or the host, Python's, or Ray's killer's."""
    if error is None:
        return False
    if is_out_of_memory(error):
        return True
    causes = [error.__cause__, getattr(error, "health_check_failure", None)]  # Ray Train's wraps
    causes += getattr(error, "worker_failures", {}).values()
    return any(ran_out(cause) for cause in causes)


def out_of_memory(error: BaseException, place: Path, dials: str) -> RunError:
    """What to tell of an error that `ran_out`.

    Args:
        place: directory of the training, where the plan is kept if there was one.
        dials: settings that make it smaller, in the words of the settings.
    """
    plan = "No estimate was made of it."
    if (place / _PLAN).exists():
        plan = f"The plan was {json.loads((place / _PLAN).read_text())['memory']}."
    said = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    return RunError(
        f"training ran out of memory ({type(error).__name__}: {said}). {plan} To need less, "
        f"{dials}. The last checkpoint is kept, and the same command goes on from it."
    )


def smaller_batch(recipe: TextRecipe, task: Literal["next_item", "binary"]) -> list[str]:
    """Settings of a text member that make what passes through its model at once take less."""
    lowered = "batch_requests or history.max_tokens"
    if task == "next_item" and recipe.negatives:
        lowered = "batch_requests, history.max_tokens or negatives"
    dials = ["raise accumulation", f"lower {lowered}"]
    return dials if recipe.gradient_checkpointing else [*dials, "set gradient_checkpointing"]
