"""One worker of a tracked training without Ray: `tracked_worker.py TASK.json RANK WORKERS`.

Started by test_tracking.py, as many times as there are workers.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from pydantic import TypeAdapter

from penchant.platform.recipes import Recipe, TextRecipe
from penchant.platform.store import RunDirectory
from penchant.platform.trackers import start_trackers
from penchant.platform.tracking import Trackers, track
from penchant.trainers.course import Epoch, Group
from penchant.trainers.sequence.training import train_sequence
from penchant.trainers.step_log import StepLog
from penchant.trainers.text.training import train_text
from penchant.trainers.zero.stages import Sharding


def main(task_path: str, rank: int, workers: int) -> None:
    task = json.loads(Path(task_path).read_text())
    out = Path(task["out"])
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(workers)}
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{task_path}.rendezvous", rank=rank, world_size=workers
    )
    past, select = pickle.loads((out.parent / "past.pickle").read_bytes())  # the test's own file
    recipe: Any = TypeAdapter[Any](Recipe).validate_python(task["recipe"])
    group = Group(rank=rank, workers=workers)

    def start(step: int) -> Trackers:
        run = track(RunDirectory(out), "one", project="shop", step=step, facts={})
        return start_trackers(("jsonl", "tensorboard"), run)

    def report(epoch: Epoch, checkpoint: Path | None) -> None:
        if checkpoint is not None and epoch.epoch + 1 == task["keep"]:
            shutil.copytree(checkpoint, out / "checkpoint")
        torch.distributed.barrier()
        if epoch.epoch + 1 == task["stop"]:
            raise KeyboardInterrupt

    resume = out / "checkpoint" if (out / "checkpoint").exists() else None
    history = []
    with contextlib.suppress(KeyboardInterrupt), StepLog(group, start) as steps:
        if isinstance(recipe, TextRecipe):
            stage = Sharding(stage=task["stage"])
            _, history = train_text(recipe, past, select, group, report, resume, stage, steps)
        else:
            member, history = train_sequence(
                recipe, past, select, None, group, report, resume, steps
            )
            if rank == 0:
                member.save(out / "member")
                for other in member.epochs.values():
                    other.save(out / str(other.recipe.name))
    if rank == 0:
        (out / "history.json").write_text(json.dumps(history))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
