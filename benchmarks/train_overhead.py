"""What Ray Train and DeepSpeed cost a training run, beside the same loop in plain PyTorch.

    python benchmarks/train_overhead.py             # 8 epochs
    python benchmarks/train_overhead.py --quick     # 3

One Ray Train worker, one thread, MovieLens-100K, 64 dimensions and 2 layers. After each epoch of
the shipped loop (DeepSpeed, report and checkpoint through Ray Train) the same process runs the same
batches through a plain loop, so that whatever else the machine does slows both alike. `ratio` is
the step rate of the shipped loop, with its report and checkpoint, over that of the plain one.
Start-up is told apart: it is paid once for all sizes of a window. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from shared.facts import facts

from penchant.platform.cluster import start_ray
from penchant.platform.config import Data, Experiment, Requests, Time
from penchant.platform.errors import PenchantError
from penchant.platform.prepared import open_prepared, prepare
from penchant.platform.recipes import SequenceRecipe, Size
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block
from penchant.trainers.course import Epoch, Group
from penchant.trainers.member import Past
from penchant.trainers.sequence.engine import save_checkpoint, start_engine
from penchant.trainers.sequence.network import SequenceNetwork, basket_loss
from penchant.trainers.sequence.plan import Step, TrainingPlan
from penchant.trainers.sequence.training import train_sequence

STEPS_APART = 20  # steps that are taken apart, after some to warm up
WARM_UP = 3
CHECKPOINTS = 5


def experiment(epochs: int) -> Experiment:
    """The log of examples/movies.yaml and one member."""
    recipe = SequenceRecipe(
        kind="sequence",
        tokens="event",
        max_tokens=50,
        size=Size(dim=64, layers=2, heads=2),
        copy_half_lives_days=(),
        dropout=0.2,
        epochs=epochs,
        patience=epochs,
    )
    return Experiment(
        name="train-overhead",
        data=Data(source="movielens-100k"),
        time=Time(quantiles={"select": 0.7, "blend": 0.8, "test": 0.9}),
        requests=Requests(per_block=1000),
        members=(recipe,),
    )


class PlainLoop:
    """The same model, batches and update as the shipped loop, in PyTorch alone."""

    def __init__(self, recipe: SequenceRecipe, past: Past) -> None:
        torch.manual_seed(recipe.seed)
        self.plan = TrainingPlan(recipe, past)
        self.network = SequenceNetwork(recipe, past.log.num_items, None)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-3, fused=True)

    def epoch(self, epoch: int) -> tuple[int, float]:
        """Number of steps and their seconds."""
        began = time.perf_counter()
        pieces, batches = self.plan.pieces(epoch), self.plan.batches(epoch)
        self.network.train()
        for chosen in batches:
            self.step(self.plan.step(pieces, chosen, epoch, rank=0, workers=1))
        return len(batches), time.perf_counter() - began

    def step(self, step: Step) -> dict[str, float]:
        """One update; seconds of its parts."""
        began = time.perf_counter()
        loss = mean_loss(self.network(step.batch), step)
        forward = time.perf_counter()
        loss.backward()
        backward = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        end = time.perf_counter()
        return {"forward": forward - began, "backward": backward - forward, "step": end - backward}


def mean_loss(logits: torch.Tensor, step: Step) -> torch.Tensor:
    return basket_loss(logits, step.target, step.target_request).sum() / step.global_requests


def engine_step(engine: Any, step: Step) -> dict[str, float]:
    """One update by DeepSpeed; seconds of its parts."""
    began = time.perf_counter()
    loss = mean_loss(engine(step.batch), step)
    forward = time.perf_counter()
    engine.backward(loss)
    backward = time.perf_counter()
    engine.step()
    end = time.perf_counter()
    return {"forward": forward - began, "backward": backward - forward, "step": end - backward}


def both_loops(task: dict[str, str]) -> None:
    """In the Ray Train worker: an epoch of each loop in turn, then single steps of each in turn."""
    import ray.train

    entered = time.time()
    prepared = open_prepared(RunDirectory(Path(task["run"])))
    recipe = prepared.experiment.members[0]
    if not isinstance(recipe, SequenceRecipe):
        raise TypeError(f"expected a sequence recipe, got {recipe.kind}")
    past = Past(
        log=prepared.log,
        spec=prepared.experiment.requests,
        until_ms=prepared.blocks.select_ms,
    )
    plain = PlainLoop(recipe, past)
    rounds: list[dict[str, float]] = []

    def report(epoch: Epoch, checkpoint: Path | None) -> None:
        began = time.perf_counter()
        kept = None if checkpoint is None else ray.train.Checkpoint.from_directory(checkpoint)
        ray.train.report({"epoch": epoch.epoch}, checkpoint=kept)
        reported = time.perf_counter() - began
        steps, seconds = plain.epoch(epoch.epoch)
        rounds.append(
            {"steps": steps, "plain": seconds, "shipped": epoch.seconds, "report": reported}
        )

    group = Group(rank=0, workers=1)
    select = prepared.requests[Block.SELECT]
    train_sequence(recipe, past, select, None, group, report)
    steps, checkpoint_s = _apart(plain, recipe, past)
    result = {"entered": entered, "rounds": rounds, "apart": steps, "checkpoint_s": checkpoint_s}
    Path(task["result"]).write_text(json.dumps(result))


def _apart(
    plain: PlainLoop, recipe: SequenceRecipe, past: Past
) -> tuple[dict[str, dict[str, float]], float]:
    """Median milliseconds of the parts of a step, for both loops on the same batches.

    And seconds of writing a checkpoint.
    """
    engine = start_engine(SequenceNetwork(recipe, past.log.num_items, None), recipe)
    engine.train()
    pieces, batches = plain.plan.pieces(0), plain.plan.batches(0)
    told: dict[str, list[dict[str, float]]] = {"plain": [], "shipped": []}
    for chosen in batches[: WARM_UP + STEPS_APART]:
        step = plain.plan.step(pieces, chosen, 0, rank=0, workers=1)
        told["plain"].append(plain.step(step))
        told["shipped"].append(engine_step(engine, step))
    medians = {
        loop: {
            part: 1000 * median(step[part] for step in steps[WARM_UP:])
            for part in ("forward", "backward", "step")
        }
        for loop, steps in told.items()
    }
    seconds = []
    for _ in range(CHECKPOINTS):
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            best = {name: t.clone() for name, t in engine.module.state_dict().items()}
            save_checkpoint(engine, best, {}, Path(folder))
            seconds.append(time.perf_counter() - began)
    return medians, median(seconds)


def run(folder: Path, epochs: int) -> dict[str, Any]:
    """Train in a private Ray; what the worker measured, with the seconds around it."""
    from ray.train import CheckpointConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    prepared = prepare(experiment(epochs), RunDirectory(folder / "run"))
    task = {"run": str(prepared.run.root), "result": str(folder / "result.json")}
    began = time.time()
    with start_ray(num_cpus=2):
        connected = time.time()
        trainer = TorchTrainer(
            both_loops,
            train_loop_config=task,
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
            run_config=RunConfig(
                name="overhead",
                storage_path=str(folder / "train"),
                checkpoint_config=CheckpointConfig(num_to_keep=1),
            ),
        )
        trainer.fit()
        ended = time.time()
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    result["ray_start_s"] = connected - began
    result["worker_start_s"] = result["entered"] - connected
    result["fit_s"] = ended - connected
    return result


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """Rates and their ratio; the first epoch warms up and is left out."""
    rounds, checkpoint_s = result["rounds"][1:], result["checkpoint_s"]
    whole = [r["steps"] / (r["shipped"] + r["report"] + checkpoint_s) for r in rounds]
    plain = [r["steps"] / r["plain"] for r in rounds]
    return {
        "ratio": round(median(w / p for w, p in zip(whole, plain, strict=True)), 3),
        "ratio_without_reports": round(median(r["plain"] / r["shipped"] for r in rounds), 3),
        "plain_steps_per_s": round(median(plain), 2),
        "shipped_steps_per_s": round(median(whole), 2),
        "report_ms": round(1000 * median(r["report"] for r in rounds), 1),
        "checkpoint_ms": round(1000 * checkpoint_s, 1),
        "steps_per_epoch": rounds[0]["steps"],
        "step_ms": {
            loop: {part: round(value, 2) for part, value in parts.items()}
            for loop, parts in result["apart"].items()
        },
        "ray_start_s": round(result["ray_start_s"], 1),
        "worker_start_s": round(result["worker_start_s"], 1),
        "fit_s": round(result["fit_s"], 1),
    }


def show(found: dict[str, Any]) -> None:
    print(f"{'ms a step':>20}{'plain':>10}{'shipped':>10}{'more':>10}")
    plain, shipped = found["step_ms"]["plain"], found["step_ms"]["shipped"]
    for part in plain:
        more = shipped[part] - plain[part]
        print(f"{part:>20}{plain[part]:>10.2f}{shipped[part]:>10.2f}{more:>+10.2f}")
    rates = f"{found['plain_steps_per_s']:>10.2f}{found['shipped_steps_per_s']:>10.2f}"
    print(f"{'steps a second':>20}{rates}   with a report and checkpoint an epoch")
    print(
        f"shipped / plain: {found['ratio']:.2f} ({found['ratio_without_reports']:.2f} without "
        f"reports and checkpoints)\neach epoch: {found['report_ms']:.0f} ms to report, "
        f"{found['checkpoint_ms']:.0f} ms to write a checkpoint, after {found['steps_per_epoch']} "
        f"steps\nonce: {found['ray_start_s']:.1f} s until Ray is up, {found['worker_start_s']:.1f}"
        f" s until its worker trains; whole fit {found['fit_s']:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Overhead of Ray Train and DeepSpeed.")
    parser.add_argument("--quick", action="store_true", help="3 epochs, under a minute")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = run(Path(folder), 3 if arguments.quick else 8)
        except PenchantError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
    found = figures(result)
    show(found)
    described = facts("torch", "ray", "deepspeed")
    described["machine"]["threads"] = 1
    print(json.dumps({"benchmark": "train_overhead", **found, **described}))


if __name__ == "__main__":
    main()
