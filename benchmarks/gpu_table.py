"""How fast language models are fine-tuned on a GPU, for the table in docs/language-models.md.

    python benchmarks/gpu_table.py             # some minutes on one GPU
    python benchmarks/gpu_table.py --quick     # 5 steps an epoch instead of 40

One process with DeepSpeed in bf16; MovieLens-100K likes as text, 64 tokens of history. The first
epoch warms up, the second is measured: samples a second, what share of a plain bf16 matrix product
on the same GPU that is (docs/tracking.md), the most memory that was in use at once. The last row
is a smoke run of ZeRO-3 whose optimizer lies in the memory of the host. Without a GPU it says so
and exits with 2. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared.facts import facts

from penchant.platform.config import Data, Experiment, Requests, Time
from penchant.platform.prepared import Prepared, prepare
from penchant.platform.recipes import TextRecipe
from penchant.platform.store import RunDirectory
from penchant.platform.text_recipes import HistoryText, Lora
from penchant.platform.timeline import Block
from penchant.platform.tracking import STEPS_FILE, StepsFile, Trackers, read_steps, track
from penchant.trainers.course import Group
from penchant.trainers.fit import learned_from
from penchant.trainers.step_log import StepLog
from penchant.trainers.text.training import train_text
from penchant.trainers.zero.stages import Sharding

MIB = 1024**2
PLAIN = Sharding(stage=0, dtype="bf16")


def recipe(base: str, steps: int, batch: int, **settings: Any) -> TextRecipe:
    """Two epochs of so many steps."""
    return TextRecipe(
        kind="text",
        base=base,
        history=HistoryText(max_tokens=64, gaps=False, values=True),
        batch_requests=batch,
        fit_requests=batch * steps,
        epochs=2,
        patience=2,
        **settings,
    )


def trainings(steps: int) -> dict[str, tuple[TextRecipe, Sharding]]:
    """What is measured, by name."""
    spread = Sharding(stage=3, offload=True, dtype="bf16")
    return {
        "MiniLM, all weights": (recipe("minilm", steps, 256), PLAIN),
        "SmolLM2-135M, all weights": (recipe("smollm2", steps, 64), PLAIN),
        "SmolLM2-135M, LoRA": (recipe("smollm2", steps, 64, lora=Lora(rank=8)), PLAIN),
        "SmolLM2-135M, ZeRO-3 + offload": (recipe("smollm2", min(steps, 10), 64), spread),
    }


def measure(name: str, what: TextRecipe, sharding: Sharding, prepared: Prepared) -> dict[str, Any]:
    """Train, and read what was tracked of the second epoch."""
    member = name.replace(" ", "-").replace(",", "").replace("+", "and")
    group = Group(rank=0, workers=1)

    def start(step: int) -> Trackers:
        run = track(prepared.run, member, project="gpu", step=step, facts={})
        return Trackers({"jsonl": StepsFile(run)})

    past = learned_from(prepared, prepared.blocks.select_ms)
    select = prepared.requests[Block.SELECT].take(np.arange(100))
    with StepLog(group, start) as log:
        found, history = train_text(
            what, past, select, group, lambda *_: None, sharding=sharding, steps=log
        )
    if found is None:
        raise TypeError("the first worker has the member, got none")
    lines = read_steps(prepared.run.member(member) / STEPS_FILE)
    second = [line for line in lines if line["epoch"] == 1]
    (held,) = found.facts["held"]
    return {
        "name": name,
        "sharding": sharding.describe(),
        "batch": what.batch_requests,
        "samples_per_s": what.fit_requests / history[1]["seconds"],
        "tokens_per_s": float(np.mean([line["tokens_per_s"] for line in second])),
        "peak_share": float(np.mean([line["peak_share"] for line in second])),
        "gpu_peak_mib": held.get("gpu_peak_bytes", 0) / MIB,
        "losses": [epoch["train_loss"] for epoch in history],
    }


def join_alone(folder: Path) -> None:
    """A group of this process, with the backends that Ray Train would give it."""
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(
        backend, init_method=f"file://{folder}/meeting", rank=0, world_size=1
    )


def experiment() -> Experiment:
    """Likes on MovieLens-100K; the members are made here."""
    return Experiment(
        name="gpu-table",
        data=Data(source="movielens-100k"),
        time=Time(quantiles={"select": 0.7, "blend": 0.8, "test": 0.9}),
        requests=Requests(task="binary", positive_above=3, per_block=200, metric="auc"),
        members=(recipe("minilm", 1, 8),),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Fine-tuning on a GPU, in bf16.")
    parser.add_argument("--quick", action="store_true", help="5 steps an epoch instead of 40")
    quick = parser.parse_args().quick
    if not torch.cuda.is_available():
        print("no GPU is visible here; expected one: there is nothing to measure", file=sys.stderr)
        sys.exit(2)
    with tempfile.TemporaryDirectory() as folder:
        join_alone(Path(folder))
        prepared = prepare(experiment(), RunDirectory(Path(folder) / "run"))
        rows = [
            measure(name, what, sharding, prepared)
            for name, (what, sharding) in trainings(5 if quick else 40).items()
        ]
        torch.distributed.destroy_process_group()
    print("| model | batch | samples/s | tokens/s | share of the peak | GPU memory, MiB |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['name']} | {row['batch']} | {row['samples_per_s']:,.0f} "
            f"| {row['tokens_per_s']:,.0f} | {row['peak_share']:.0%} | {row['gpu_peak_mib']:,.0f} |"
        )
    found = {"gpu": torch.cuda.get_device_name(), "rows": rows}
    described = facts("torch", "transformers", "deepspeed")
    print(json.dumps({"benchmark": "gpu_table", **found, **described}))


if __name__ == "__main__":
    main()
