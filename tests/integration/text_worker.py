"""One worker of a text training without Ray: `text_worker.py TASK.json RANK WORKERS`.

Started by test_text_training.py, as many times as there are workers.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import torch
import torch.distributed
from safetensors.numpy import save_file

from penchant.platform.recipes import TextRecipe
from penchant.trainers.course import Epoch, Group
from penchant.trainers.text.training import train_text
from penchant.trainers.zero.stages import Sharding


def main(task_path: str, rank: int, workers: int) -> None:
    task = json.loads(Path(task_path).read_text())
    out = Path(task["out"])
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(workers)}
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{out}/rendezvous", rank=rank, world_size=workers
    )
    past, select = pickle.loads((out.parent / "past.pickle").read_bytes())  # the test's own file
    recipe = TextRecipe.model_validate(task["recipe"])

    def report(epoch: Epoch, checkpoint: Path | None) -> None:
        if checkpoint is not None and epoch.epoch + 1 == task["keep"]:
            shutil.copytree(checkpoint, out / "checkpoint")
        torch.distributed.barrier()
        if epoch.epoch + 1 == task["stop"]:
            raise KeyboardInterrupt

    resume = None if task["resume"] is None else Path(task["resume"])
    history = []
    with contextlib.suppress(KeyboardInterrupt):
        member, history = train_text(
            recipe,
            past,
            select,
            Group(rank=rank, workers=workers),
            report,
            resume,
            Sharding(stage=task["stage"]),
        )
        if task.get("save") and rank == 0:
            member.save(out / "member")
            save_file({"scores": member.score(past.log, select)}, out / "scores.safetensors")
    (out / f"rank{rank}.json").write_text(json.dumps(history))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
