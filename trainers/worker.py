"""What each Ray Train worker runs: the recipes of one group, one after the other.

Starting a worker group costs ten times what an epoch of a small model costs, so recipes with the
same window share one. Members that are done already are passed over; the one in the middle of its
training goes on from the group's last checkpoint.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import TypeAdapter

from penchant.platform.cluster import stand_at
from penchant.platform.item_vectors import item_vectors
from penchant.platform.prepared import Prepared, open_prepared
from penchant.platform.recipes import SequenceRecipe, TextRecipe, recipe_id
from penchant.platform.requests import Requests
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block
from penchant.platform.trackers import start_trackers
from penchant.platform.tracking import Trackers, track
from penchant.trainers.checkpoints import last_checkpoint, seal
from penchant.trainers.course import Epoch, Group, Kept
from penchant.trainers.fit import learned_from
from penchant.trainers.member import Member, Past
from penchant.trainers.memory_trouble import keep_plan, smaller_batch
from penchant.trainers.refusal import refusing
from penchant.trainers.score import keep_member
from penchant.trainers.step_log import StepLog

__all__ = ["place_of", "train_group"]

_RECIPE = "recipe.json"  # in a checkpoint: whose it is


def train_group(task: dict[str, Any]) -> None:
    """Train, score and keep every recipe of `task`.

    A recipe that cannot be trained ends the group: its checkpoint stays the last one.

    Args:
        task: `run` (its directory), `directory` (where relative paths begin), `recipes` (as JSON),
            `until_ms`, `suffix` of the members' ids, `blocks` to score, and `storage` and `name` of
            the Ray Train run.
    """
    import ray.train

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    stand_at(task["directory"])
    context = ray.train.get_context()
    group = Group(rank=context.get_world_rank(), workers=context.get_world_size())
    prepared = open_prepared(RunDirectory(Path(task["run"])))
    recipes = TypeAdapter(list[SequenceRecipe | TextRecipe]).validate_python(task["recipes"])
    todo = [r for r in recipes if not prepared.run.has_member(recipe_id(r) + task["suffix"])]
    # `recipe.json` in it says whose it is.
    checkpoint, passed = last_checkpoint(place_of(task))
    begun = None if checkpoint is None else (checkpoint / _RECIPE).read_text()
    task_kind = prepared.experiment.requests.task
    for recipe in sorted(todo, key=lambda r: r.model_dump_json() != begun):
        # another member's checkpoint, which is finished, is of no use to this one
        resume = checkpoint if recipe.model_dump_json() == begun else None
        work = partial(_train_one, prepared, recipe, task, group, resume, passed)
        passed = 0  # told with the first
        if not refusing(work, place_of(task), group, _dials(recipe, task_kind)):
            return


def _train_one(
    prepared: Prepared,
    recipe: SequenceRecipe | TextRecipe,
    task: dict[str, Any],
    group: Group,
    resume: Path | None,
    passed: int,
) -> None:
    import ray.train

    member_id = recipe_id(recipe) + task["suffix"]
    blocks = [Block(name) for name in task["blocks"]]
    spec = prepared.experiment.requests
    past = learned_from(prepared, task["until_ms"])
    began = time.perf_counter()

    def report(told: Epoch | Kept, checkpoint: Path | None) -> None:
        state = "epoch" if isinstance(told, Epoch) else "kept"
        metrics = {"member": member_id, "state": state, **vars(told)}
        kept = None
        if checkpoint is not None:
            (checkpoint / _RECIPE).write_text(recipe.model_dump_json())
            seal(checkpoint)
            kept = ray.train.Checkpoint.from_directory(checkpoint)
        ray.train.report(metrics, checkpoint=kept)

    def tell(memory: str) -> None:
        if group.rank == 0:
            keep_plan(place_of(task), memory)
        ray.train.report({"member": member_id, "state": "planned", "memory": memory})

    select = prepared.requests[Block.SELECT]
    log = _step_log(prepared, recipe, member_id, group)
    if passed:
        ray.train.report({"member": member_id, "state": "passed", "checkpoints": passed})
    with log or nullcontext():
        member, history = _train(prepared, recipe, past, select, group, report, resume, log, tell)
    if member is not None and group.rank == 0:
        facts = {
            "train_s": sum(epoch["seconds"] for epoch in history),  # over all lives of the run
            "history": history,
            "workers": group.workers,
            "until_ms": past.until_ms,
        }
        asked = {block: prepared.requests[block] for block in blocks}
        others: Mapping[int, Member] = getattr(member, "epochs", {})
        parts = [(str(one.recipe.name), one, _up_to(at, facts)) for at, one in others.items()]
        for name, one, found in [*parts, (member_id, member, facts)]:  # last: it counts as done
            keep_member(
                prepared.run,
                name,
                one,
                prepared.log,
                asked,
                found,
                exclude_seen=spec.exclude_seen,
            )
    done = {"member": member_id, "state": "done", "seconds": time.perf_counter() - began}
    ray.train.report(done | {"untracked": {} if log is None else log.lost})


def _up_to(epoch: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a training had found when an epoch was over."""
    history = facts["history"][: epoch + 1]
    return {**facts, "history": history, "train_s": sum(one["seconds"] for one in history)}


def place_of(task: dict[str, Any]) -> Path:
    """Directory of the Ray Train run, which all workers see."""
    return Path(task["storage"], task["name"])


def _dials(recipe: SequenceRecipe | TextRecipe, task: Literal["next_item", "binary"]) -> str:
    """What makes a training smaller."""
    if isinstance(recipe, TextRecipe):
        return (
            "set resources.memory (zero2 or zero3 with more resources.workers, offload on a GPU), "
            f"{', '.join(smaller_batch(recipe, task))}, take fewer layers or adapters (lora)"
        )
    return "lower batch_tokens, size, or batch_items and drawn_items of text_training"


def _step_log(
    prepared: Prepared, recipe: SequenceRecipe | TextRecipe, member_id: str, group: Group
) -> StepLog | None:
    """What tells the experiment's trackers of this training; None where there are none."""
    experiment = prepared.experiment
    names = experiment.tracking.to
    if not names:
        return None

    def start(step: int) -> Trackers:
        facts = recipe.model_dump(mode="json")
        return start_trackers(
            names, track(prepared.run, member_id, project=experiment.name, step=step, facts=facts)
        )

    return StepLog(group, start)


def _train(
    prepared: Prepared,
    recipe: SequenceRecipe | TextRecipe,
    past: Past,
    select: Requests,
    group: Group,
    report: Callable[[Epoch | Kept, Path | None], None],
    resume: Path | None,
    log: StepLog | None,
    tell: Callable[[str], None],
) -> tuple[Member | None, list[dict[str, Any]]]:
    """The trained member (on the first worker at least), and the history of its epochs."""
    if isinstance(recipe, TextRecipe):
        from penchant.trainers.text.training import train_text  # brings transformers

        dial = prepared.experiment.resources.memory
        return train_text(recipe, past, select, group, report, resume, dial, log, tell)
    from penchant.trainers.sequence.training import train_sequence

    text = _text(prepared, recipe)
    return train_sequence(recipe, past, select, text, group, report, resume, log)


def _text(prepared: Prepared, recipe: SequenceRecipe) -> torch.Tensor | None:
    if recipe.text is None:
        return None
    from penchant.trainers.init_from import text_model  # brings torch's networks

    cache = prepared.run.log / "vectors"
    return torch.from_numpy(item_vectors(text_model(recipe), prepared.catalog.item_texts, cache))
