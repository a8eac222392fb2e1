"""One worker of a text training without Ray: `text_worker.py TASK.json RANK WORKERS`.

Started by test_text_training.py, as many times as there are workers.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from safetensors.numpy import save_file

from penchant.platform.errors import RunError
from penchant.platform.recipes import TextRecipe
from penchant.trainers.course import Epoch, Group, Kept
from penchant.trainers.text import training
from penchant.trainers.text.plan import TextPlan
from penchant.trainers.text.training import train_text
from penchant.trainers.zero.stages import Sharding


def poison_second_epoch() -> None:
    """This worker's loss is no number from its second epoch on."""
    plain, epoch = training.text_loss, TextPlan.epoch

    def spoilt(*parts: Any) -> torch.Tensor:
        return plain(*parts) * (torch.nan if epochs > 1 else 1.0)

    def counted(plan: TextPlan, number: int) -> Any:
        nonlocal epochs
        epochs = number + 1
        return epoch(plan, number)

    epochs = 0
    training.text_loss, TextPlan.epoch = spoilt, counted


def count_parts() -> list[int]:
    """How many parts of batches pass through this worker, in a list of one."""
    plain, parts = training.text_loss, [0]

    def counted(*given: Any) -> torch.Tensor:
        parts[0] += 1
        return plain(*given)

    training.text_loss = counted
    return parts


def main(task_path: str, rank: int, workers: int) -> None:
    task = json.loads(Path(task_path).read_text())
    out = Path(task["out"])
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(workers)}
    backend = "cpu:gloo,cuda:nccl" if task.get("gpu") else "gloo"
    torch.distributed.init_process_group(
        backend, init_method=f"file://{out}/rendezvous", rank=rank, world_size=workers
    )
    past, select = pickle.loads((out.parent / "past.pickle").read_bytes())  # the test's own file
    recipe = TextRecipe.model_validate(task["recipe"])

    def report(told: Epoch | Kept, checkpoint: Path | None) -> None:
        at = told.epoch + 1 if isinstance(told, Epoch) else f"step {told.step}"
        if checkpoint is not None and at == task["keep"]:
            shutil.copytree(checkpoint, out / "checkpoint")
        torch.distributed.barrier()
        if at == task["stop"]:
            raise KeyboardInterrupt

    if str(task["stop"]).startswith("step"):
        training._KEEP_EVERY_S = 0.0  # after each step

    parts = count_parts()
    if task.get("poison") == rank:
        poison_second_epoch()
    resume = None if task["resume"] is None else Path(task["resume"])
    history = []
    try:
        member, history = train_text(
            recipe,
            past,
            select,
            Group(rank=rank, workers=workers),
            report,
            resume,
            Sharding(
                stage=task["stage"],
                offload=task.get("offload", False),
                dtype=task.get("dtype", "fp32"),
            ),
        )
        if task.get("save") and rank == 0:
            member.save(out / "member")
            save_file({"scores": member.score(past.log, select)}, out / "scores.safetensors")
    except KeyboardInterrupt:
        pass
    except RunError as error:
        (out / f"error{rank}.txt").write_text(str(error))
    (out / f"parts{rank}.txt").write_text(str(parts[0]))
    (out / f"rank{rank}.json").write_text(json.dumps(history))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
