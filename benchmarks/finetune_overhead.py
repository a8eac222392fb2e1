"""What Ray Train and DeepSpeed cost a fine-tuning, beside a plain transformers loop.

    python benchmarks/finetune_overhead.py             # MiniLM, 3 rounds of 20 steps
    python benchmarks/finetune_overhead.py --quick     # its lowest 2 layers, 2 rounds of 10
    python benchmarks/finetune_overhead.py --tokens 256    # longer histories differ more in length

One Ray Train worker, fp32, MovieLens-100K likes as text, 64 tokens of history, 32 requests a batch.
After each epoch of the shipped loop the same process runs the same batches through transformers'
AutoModel, AdamW and a linear layer, so that whatever else the machine does slows both alike; then
again with every row filled up to the longest that is allowed. `ratio` is the shipped rate, with its
reports and checkpoints, over the plain one; `bucketing` the plain rate over that of filled-up rows.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from shared.facts import facts
from torch.nn import functional
from transformers import AutoModel

from penchant.platform.cluster import start_ray
from penchant.platform.config import Data, Experiment, Requests, Time
from penchant.platform.errors import PenchantError
from penchant.platform.language_models import resolve_model
from penchant.platform.prepared import open_prepared, prepare
from penchant.platform.recipes import TextRecipe
from penchant.platform.store import RunDirectory
from penchant.platform.text_recipes import HistoryText
from penchant.platform.timeline import Block
from penchant.trainers.course import Epoch, Group
from penchant.trainers.fit import learned_from
from penchant.trainers.text.batches import Padded
from penchant.trainers.text.network import build_network
from penchant.trainers.text.plan import TextPlan
from penchant.trainers.text.training import train_text
from penchant.trainers.text.words import read_words

BATCH = 32


def experiment(rounds: int, steps: int, layers: int | None, tokens: int) -> Experiment:
    """Likes on MovieLens-100K, and one text member."""
    recipe = TextRecipe(
        kind="text",
        base="minilm",
        layers=layers,
        history=HistoryText(max_tokens=tokens, gaps=False, values=True),
        fit_requests=BATCH * steps,
        batch_requests=BATCH,
        epochs=rounds + 1,
        patience=rounds + 1,
    )
    return Experiment(
        name="finetune-overhead",
        data=Data(source="movielens-100k"),
        time=Time(quantiles={"select": 0.7, "blend": 0.8, "test": 0.9}),
        requests=Requests(task="binary", positive_above=3, per_block=200, metric="auc"),
        members=(recipe,),
    )


class PlainLoop:
    """The loop that one writes by hand: AutoModel, mean pooling, a linear layer, AdamW."""

    def __init__(self, recipe: TextRecipe, plan: TextPlan) -> None:
        self.plan = plan
        self.model = AutoModel.from_pretrained(
            resolve_model(recipe.base), local_files_only=True, dtype=torch.float32
        )
        if recipe.layers is not None:
            self.model.encoder.layer = self.model.encoder.layer[: recipe.layers]
        self.answer = torch.nn.Linear(self.model.config.hidden_size, 1)
        self.parameters = [*self.model.parameters(), *self.answer.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=5e-5, fused=True)
        history = recipe.history
        self.longest = history.max_tokens + history.item_tokens + 3

    def epoch(self, epoch: int, *, filled_up: bool) -> float:
        """Seconds of one pass."""
        began = time.perf_counter()
        lists, batches = self.plan.epoch(epoch)
        self.model.train()
        for at, chosen in enumerate(batches):
            step = self.plan.step(lists, chosen, (epoch, at), 0, 1)
            text = self._filled(step.text) if filled_up else step.text
            states = self.model(input_ids=text.ids, attention_mask=text.mask).last_hidden_state
            weight = text.mask[:, :, None].float()
            pooled = (states * weight).sum(1) / weight.sum(1)
            loss = functional.binary_cross_entropy_with_logits(
                self.answer(pooled).squeeze(1), step.wanted
            )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return time.perf_counter() - began

    def _filled(self, text: Padded) -> Padded:
        more = (0, self.longest - text.ids.shape[1])
        return Padded(ids=functional.pad(text.ids, more), mask=functional.pad(text.mask, more))


def all_loops(task: dict[str, str]) -> None:
    """In the Ray Train worker: an epoch of each loop in turn."""
    import ray.train

    prepared = open_prepared(RunDirectory(Path(task["run"])))
    recipe = prepared.experiment.members[0]
    if not isinstance(recipe, TextRecipe):
        raise TypeError(f"expected a text recipe, got {recipe.kind}")
    past = learned_from(prepared, prepared.blocks.select_ms)
    words = read_words(recipe, past, build_network(recipe, binary=True).base.config)
    plan = TextPlan(recipe, past, words.writer, words.frame, words.log_share)
    plain = PlainLoop(recipe, plan)
    rounds: list[dict[str, float]] = []

    def report(epoch: Epoch, checkpoint: Path | None) -> None:
        began = time.perf_counter()
        kept = None if checkpoint is None else ray.train.Checkpoint.from_directory(checkpoint)
        ray.train.report({"epoch": epoch.epoch}, checkpoint=kept)
        rounds.append(
            {
                "report": time.perf_counter() - began,
                "shipped": epoch.seconds,
                "plain": plain.epoch(epoch.epoch, filled_up=False),
                "filled_up": plain.epoch(epoch.epoch, filled_up=True),
            }
        )

    select = prepared.requests[Block.SELECT]
    train_text(recipe, past, select, Group(rank=0, workers=1), report)
    Path(task["result"]).write_text(json.dumps(rounds))


def run(folder: Path, what: Experiment) -> list[dict[str, float]]:
    """Train in a private Ray; seconds of each round."""
    from ray.train import CheckpointConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    prepared = prepare(what, RunDirectory(folder / "run"))
    task = {"run": str(prepared.run.root), "result": str(folder / "result.json")}
    with start_ray(num_cpus=2):
        trainer = TorchTrainer(
            all_loops,
            train_loop_config=task,
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 2}),
            run_config=RunConfig(
                name="overhead",
                storage_path=str(folder / "train"),
                checkpoint_config=CheckpointConfig(num_to_keep=1),
            ),
        )
        trainer.fit()
    result: list[dict[str, float]] = json.loads((folder / "result.json").read_text())
    return result[1:]  # the first round warms up


def main() -> None:
    parser = argparse.ArgumentParser(description="Overhead of Ray Train and DeepSpeed on text.")
    parser.add_argument("--quick", action="store_true", help="2 layers, 2 rounds of 10 steps")
    parser.add_argument("--tokens", type=int, default=64, help="of a history, at most")
    options = parser.parse_args()
    quick = options.quick
    rounds, steps, layers = (2, 10, 2) if quick else (3, 20, None)
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = run(Path(folder), experiment(rounds, steps, layers, options.tokens))
        except PenchantError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
    samples = BATCH * steps
    rates = {
        "shipped": median(samples / (r["shipped"] + r["report"]) for r in result),
        "plain": median(samples / r["plain"] for r in result),
        "filled up": median(samples / r["filled_up"] for r in result),
    }
    found = {
        "ratio": round(median(r["plain"] / (r["shipped"] + r["report"]) for r in result), 3),
        "bucketing": round(median(r["filled_up"] / r["plain"] for r in result), 2),
        "samples_per_s": {name: round(rate, 1) for name, rate in rates.items()},
    }
    for name, rate in rates.items():
        print(f"{name:>12}{rate:>10.1f} samples/s")
    print(f"shipped / plain: {found['ratio']}; like lengths / filled up: {found['bucketing']}")
    described = facts("torch", "transformers", "ray", "deepspeed")
    described["machine"]["threads"] = 2
    print(json.dumps({"benchmark": "finetune_overhead", **found, **described}))


if __name__ == "__main__":
    main()
