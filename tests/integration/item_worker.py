"""One worker that trains members without Ray and keeps them: `item_worker.py TASKS.json RANK N`.

Started by test_item_encoder.py, as many times as there are workers; the tasks follow one another.
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
from pydantic import TypeAdapter

from penchant.platform.item_vectors import item_vectors
from penchant.platform.recipes import SequenceRecipe, TextRecipe
from penchant.trainers.course import Epoch, Group
from penchant.trainers.init_from import text_model
from penchant.trainers.sequence.training import train_sequence
from penchant.trainers.text.training import train_text


class _CutError(Exception):
    """The training was cut off where its task said."""


def main(tasks_path: str, rank: int, workers: int) -> None:
    place = Path(tasks_path)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(workers)}
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{place}.rendezvous", rank=rank, world_size=workers
    )
    for task in json.loads(place.read_text()):
        train(task, Group(rank=rank, workers=workers))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def train(task: dict[str, Any], group: Group) -> None:
    out = Path(task["out"])
    past, select = pickle.loads(Path(task["past"]).read_bytes())  # the test's own file
    recipe = TypeAdapter(SequenceRecipe | TextRecipe).validate_python(task["recipe"])
    resume = None if task["resume"] is None else Path(task["resume"])
    history = list[dict[str, Any]]()

    def report(epoch: Epoch, checkpoint: Path | None) -> None:
        history.append(vars(epoch))
        if epoch.epoch + 1 == task["stop"]:
            if checkpoint is not None:
                shutil.copytree(checkpoint, out / "checkpoint")
            raise _CutError

    try:
        if isinstance(recipe, TextRecipe):
            member, history = train_text(recipe, past, select, group, report, resume)
        else:
            vectors = item_vectors(text_model(recipe), list(past.texts), out / f"v{group.rank}")
            text = torch.from_numpy(vectors)
            member, history = train_sequence(recipe, past, select, text, group, report, resume)
        if member is not None and group.rank == 0:
            member.save(out / "member")
    except _CutError:
        pass
    (out / f"rank{group.rank}.json").write_text(json.dumps(history))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
