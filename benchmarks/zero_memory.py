"""What a worker holds at each ZeRO stage, against the estimate, and what a step takes.

    python benchmarks/zero_memory.py             # MiniLM, 4 texts of 64 tokens a step
    python benchmarks/zero_memory.py --quick     # a small model of random weights

Full fine-tuning in fp32 with AdamW, on 1 and on 2 processes of one thread each that gloo joins. The
bytes are those of tensors that rank 0 holds between steps: weights, and the optimizer's state with
its copy of the weights. Seconds are the median step. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AutoModel, BertConfig, BertModel, PreTrainedModel

from penchant.platform.language_models import resolve_model
from penchant.trainers.zero.memory_plan import estimate
from penchant.trainers.zero.stages import Sharding, start_sharded
from penchant.trainers.zero.state import held_bytes

TEXTS, TOKENS = 4, 64  # of a global batch
STEPS, QUICK_STEPS, WARM_UP = 3, 2, 1
MIB = 1024**2


def model(quick: bool) -> PreTrainedModel:
    """Without the pooler, which nothing here reads."""
    if quick:
        small = BertConfig(
            vocab_size=2000, hidden_size=128, num_hidden_layers=2, num_attention_heads=4
        )
        return BertModel(small, add_pooling_layer=False)
    return AutoModel.from_pretrained(
        resolve_model("minilm"), local_files_only=True, add_pooling_layer=False
    )


def measure(network: PreTrainedModel, stage: int, workers: int, steps: int) -> dict[str, Any]:
    """One engine, some steps; runs in a process of a group."""
    config = network.config
    count = sum(parameter.numel() for parameter in network.parameters())
    sharding = Sharding(stage=stage)
    groups = [{"params": list(network.parameters()), "lr": 1e-5, "weight_decay": 0.01}]
    engine = start_sharded(network, groups, sharding=sharding, accumulation=1)
    words = torch.randint(config.vocab_size, (TEXTS // workers, TOKENS))
    seconds = []
    for _ in range(WARM_UP + steps):
        began = time.perf_counter()
        engine.backward(engine(input_ids=words).last_hidden_state.square().mean())
        engine.step()
        seconds.append(time.perf_counter() - began)
    held = held_bytes(engine)
    engine.destroy()
    expected = estimate(
        sharding,
        parameters=count,
        trainable=count,
        workers=workers,
        batch_tokens=words.numel(),
        hidden=config.hidden_size,
        layers=config.num_hidden_layers,
        gpu=False,
    )
    return {
        "stage": stage,
        "workers": workers,
        "weights_bytes": held["weights"],
        "optimizer_bytes": held["optimizer"],
        "estimated_weights_bytes": expected.weights,
        "estimated_optimizer_bytes": expected.optimizer,
        "estimated_total_bytes": expected.total,
        "step_s": median(seconds[WARM_UP:]),
    }


def work(rank: int, workers: int, port: int, quick: bool, out: Path) -> None:
    """All stages in one process of a group."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=workers)
    steps = QUICK_STEPS if quick else STEPS
    found = [measure(model(quick), stage, workers, steps) for stage in range(4)]
    if rank == 0:
        out.write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def group(workers: int, quick: bool) -> list[dict[str, Any]]:
    """The rows that so many processes measure together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "rows.json"
        started = [
            subprocess.Popen(
                [sys.executable, __file__, "--worker", f"{rank},{workers},{port},{out}"]
                + ["--quick"] * quick,
                env=os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL if rank else None,
            )
            for rank in range(workers)
        ]
        codes = [process.wait() for process in started]
        if any(codes):
            raise SystemExit(f"a worker of {workers} ended with {max(codes, key=abs)}")
        rows: list[dict[str, Any]] = json.loads(out.read_text())
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small model of random weights")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        rank, workers, port, out = chosen.worker.split(",", 3)
        return work(int(rank), int(workers), int(port), chosen.quick, Path(out))
    rows = [row for workers in (1, 2) for row in group(workers, chosen.quick)]
    print("| stage | workers | weights MiB (est.) | optimizer MiB (est.) | est. total | s a step |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        size = {name: value / MIB for name, value in row.items() if name.endswith("bytes")}
        print(
            f"| {row['stage']} | {row['workers']} "
            f"| {size['weights_bytes']:.1f} ({size['estimated_weights_bytes']:.1f}) "
            f"| {size['optimizer_bytes']:.1f} ({size['estimated_optimizer_bytes']:.1f}) "
            f"| {size['estimated_total_bytes']:.1f} | {row['step_s']:.3f} |"
        )
    versions = {name: metadata.version(name) for name in ("torch", "deepspeed", "transformers")}
    machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    found = {"model": "random" if chosen.quick else "minilm", "rows": rows}
    print(json.dumps({"benchmark": "zero_memory", **found, "machine": machine} | versions))
    return None


if __name__ == "__main__":
    main()
