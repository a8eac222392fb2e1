"""What Ray Train and DeepSpeed cost a fine-tuning, beside a plain transformers loop.

    python benchmarks/finetune_overhead.py             # MiniLM, 3 rounds of 20 steps
    python benchmarks/finetune_overhead.py --quick     # its lowest 2 layers, 2 rounds of 10
    python benchmarks/finetune_overhead.py --tokens 256    # of a history
    python benchmarks/finetune_overhead.py --on groceries --days 30   # next item, a month's history

One Ray Train worker, fp32, 32 requests a batch; by default likes on MovieLens-100K, 64 tokens.
After each epoch of the shipped loop the same process runs the same batches through transformers'
AutoModel, AdamW and a head, so that whatever else the machine does slows both alike; then again
with every row filled up to the longest that is allowed. `ratio` is the shipped rate, with its
reports and checkpoints, over the plain one; `bucketing` the plain rate over that of filled-up rows;
`tokens` is what passes through the model for one token that is real, either way. The last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
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
from penchant.platform.timeline import Block, Window
from penchant.trainers.course import Epoch, Group
from penchant.trainers.fit import learned_from
from penchant.trainers.text.batches import Padded
from penchant.trainers.text.network import build_network
from penchant.trainers.text.plan import TextPlan, TextStep
from penchant.trainers.text.training import train_text
from penchant.trainers.text.words import read_words

BATCH = 32
LIKES = HistoryText(gaps=False, values=True)
COUPONS = HistoryText(item_tokens=48, types=True, relevant_share=0.5)
#: Where histories come from, what is asked of them, and how they are written.
SOURCES: dict[str, tuple[Data, Requests, HistoryText]] = {
    "likes": (
        Data(source="movielens-100k"),
        Requests(task="binary", positive_above=3, per_block=200, metric="auc"),
        LIKES,
    ),
    "coupons": (
        Data(source="coupons"),
        Requests(task="binary", unit="event", per_block=200, metric="auc"),
        COUPONS,
    ),
    "groceries": (
        Data(source="groceries"),
        Requests(unit="group", min_items=3, per_block=200),
        HistoryText(),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is measured."""

    source: str
    days: int | None  # of history
    tokens: int
    rounds: int
    steps: int
    layers: int | None


def experiment(options: Options) -> Experiment:
    """One text member on the log."""
    data, requests, history = SOURCES[options.source]
    rounds, steps = options.rounds, options.steps
    recipe = TextRecipe(
        kind="text",
        base="minilm",
        layers=options.layers,
        window=Window(days=options.days),
        history=history.model_copy(update={"max_tokens": options.tokens}),
        fit_requests=BATCH * steps,
        batch_requests=BATCH,
        epochs=rounds + 1,
        patience=rounds + 1,
    )
    return Experiment(
        name="finetune-overhead",
        data=data,
        time=Time(quantiles={"select": 0.7, "blend": 0.8, "test": 0.9}),
        requests=requests,
        members=(recipe,),
    )


class PlainLoop:
    """The loop that one writes by hand: AutoModel, mean pooling, a head, AdamW.

    Attributes:
        real: tokens of all passes so far.
        passed: tokens that went through the model, by whether rows were filled up.
    """

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
        self.history = recipe.history
        self.real, self.passed = 0, {False: 0, True: 0}

    def epoch(self, epoch: int, *, filled_up: bool) -> float:
        """Seconds of one pass."""
        began = time.perf_counter()
        lists, batches = self.plan.epoch(epoch)
        self.model.train()
        for at, chosen in enumerate(batches):
            step = self.plan.step(lists, chosen, (epoch, at), 0, 1)
            self.real += 0 if filled_up else step.tokens
            self._loss(step, filled_up).backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return time.perf_counter() - began

    def _loss(self, step: TextStep, filled_up: bool) -> torch.Tensor:
        if step.pool is None or step.log_q is None or step.hidden is None:
            longest = self.history.max_tokens + self.history.item_tokens + 3
            answer = self.answer(self._read(step.text, filled_up and longest)).squeeze(1)
            return functional.binary_cross_entropy_with_logits(answer, step.wanted)
        histories = self._read(step.text, filled_up and self.history.max_tokens + 2)
        longest = self.history.item_tokens + 2
        read = [self._read(text, filled_up and longest) for text in step.pool.text]
        items = functional.normalize(torch.cat(read)[step.pool.row], dim=1)
        logits = 10 * functional.normalize(histories, dim=1) @ items.T - step.log_q
        odds = functional.log_softmax(logits.masked_fill(step.hidden, -1e9), dim=1)
        return -(step.wanted * odds).sum(1).mean()

    def _read(self, text: Padded, longest: int) -> torch.Tensor:
        """One vector a text; rows are filled up to `longest`, if it is not zero."""
        more = (0, max(longest - text.ids.shape[1], 0))
        ids, mask = functional.pad(text.ids, more), functional.pad(text.mask, more)
        self.passed[longest > 0] += ids.numel()
        states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask[:, :, None].float()
        return (states * weight).sum(1) / weight.sum(1)


def all_loops(task: dict[str, str]) -> None:
    """In the Ray Train worker: an epoch of each loop in turn."""
    import ray.train

    prepared = open_prepared(RunDirectory(Path(task["run"])))
    recipe = prepared.experiment.members[0]
    if not isinstance(recipe, TextRecipe):
        raise TypeError(f"expected a text recipe, got {recipe.kind}")
    past = learned_from(prepared, prepared.blocks.select_ms)
    binary = past.spec.task == "binary"
    words = read_words(recipe, past, build_network(recipe, binary=binary).base.config)
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
    tokens = {
        name: round(plain.passed[filled] / plain.real, 3)
        for name, filled in (("like lengths", False), ("filled up", True))
    }
    Path(task["result"]).write_text(json.dumps({"rounds": rounds, "tokens": tokens}))


def run(folder: Path, what: Experiment) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Train in a private Ray; seconds of each round, and tokens for one that is real."""
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
    result = json.loads((folder / "result.json").read_text())
    return result["rounds"][1:], result["tokens"]  # the first round warms up


def main() -> None:
    parser = argparse.ArgumentParser(description="Overhead of Ray Train and DeepSpeed on text.")
    parser.add_argument("--quick", action="store_true", help="2 layers, 2 rounds of 10 steps")
    parser.add_argument("--tokens", type=int, default=64, help="of a history, at most")
    parser.add_argument("--on", choices=SOURCES, default="likes", help="where histories come from")
    parser.add_argument("--days", type=int, help="of history that is read; by default all")
    given = parser.parse_args()
    rounds, steps, layers = (2, 10, 2) if given.quick else (3, 20, None)
    options = Options(
        source=given.on,
        days=given.days,
        tokens=given.tokens,
        rounds=rounds,
        steps=steps,
        layers=layers,
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            result, tokens = run(Path(folder), experiment(options))
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
        "measured": asdict(options),
        "ratio": round(median(r["plain"] / (r["shipped"] + r["report"]) for r in result), 3),
        "bucketing": round(median(r["filled_up"] / r["plain"] for r in result), 2),
        "tokens": tokens,
        "samples_per_s": {name: round(rate, 1) for name, rate in rates.items()},
    }
    for name, rate in rates.items():
        print(f"{name:>12}{rate:>10.1f} samples/s")
    print(f"shipped / plain: {found['ratio']}; like lengths / filled up: {found['bucketing']}")
    print("tokens for one that is real: " + ", ".join(f"{k} {v}" for k, v in tokens.items()))
    described = facts("torch", "transformers", "ray", "deepspeed")
    described["machine"]["threads"] = 2
    print(json.dumps({"benchmark": "finetune_overhead", **found, **described}))


if __name__ == "__main__":
    main()
