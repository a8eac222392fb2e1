"""ZeRO over processes joined by gloo: sharing the work out changes nothing but who holds what.

This file is also the worker: `python test_zero.py RANK WORKERS PORT PLAN`, where PLAN is JSON: a
list of runs, each of which appends what it saw to a file.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

STEPS, STOP, BATCH, LENGTH, WORDS, WIDTH = 8, 4, 8, 6, 53, 128
pytestmark = pytest.mark.slow


class Layer(nn.Module):
    """Attention of one head and a feed-forward layer, with residuals."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH)
        self.feed = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.mix(self.norm(x)).chunk(3, dim=-1)
        x = x + nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.feed(x)


class Net(nn.Module):
    """A small transformer; `bias` has an odd size that two workers cannot halve."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.frozen = nn.Linear(WIDTH, WIDTH).requires_grad_(False)
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, words: Tensor) -> Tensor:
        x = self.words(words)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.frozen(x))


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Words and the answers to them, the same wherever it is asked."""
    draw = torch.Generator().manual_seed(1000 + step)
    words = torch.randint(WORDS, (BATCH, LENGTH), generator=draw)
    return words, (7 * words + 3) % WORDS


def loss_of(network: Any, words: Tensor, answers: Tensor) -> Tensor:
    logits = network(words).float()
    return nn.functional.cross_entropy(logits.flatten(0, 1), answers.flatten(), reduction="sum")


def work(rank: int, workers: int, run: dict[str, Any]) -> dict[str, Any]:
    """One run: fresh or resumed training over some steps, each worker with its share."""
    from penchant.trainers.zero.stages import (
        Sharding,
        full_weights,
        gathered,
        load_sharded,
        save_sharded,
        start_sharded,
    )
    from penchant.trainers.zero.state import held_bytes

    torch.manual_seed(0)
    network = Net()
    matrices = [p for p in network.parameters() if p.ndim > 1]
    gains = [p for p in network.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "lr": 3e-3, "weight_decay": 0.1},
        {"params": gains, "lr": 1e-2, "weight_decay": 0.0},
    ]
    accumulation = run.get("accumulation", 1)
    sharding = Sharding(
        stage=run["stage"], offload=run.get("offload", False), dtype=run.get("dtype", "fp32")
    )
    base = {n: p.detach().clone() for n, p in network.named_parameters() if p.requires_grad}
    engine = start_sharded(network, groups, sharding=sharding, accumulation=accumulation)
    begun = full_weights(engine)
    unlike = [name for name, weight in base.items() if not torch.equal(begun[name], weight)]
    begin, end = run.get("begin", 0), run.get("end", STEPS)
    if "resume" in run:
        begin = load_sharded(engine, Path(run["resume"]))["step"]
    losses = []
    engine.train()
    for step in range(begin, end):
        total = torch.zeros(())
        for part in range(accumulation):
            words, answers = (x[part::accumulation][rank::workers] for x in batch(step))
            loss = loss_of(engine, words, answers) / (BATCH * LENGTH)
            engine.backward(loss * workers * accumulation)
            engine.step()
            total += loss.detach()
        torch.distributed.all_reduce(total)
        losses.append(float(total))
    seen: dict[str, Any] = {"losses": losses, "held": held_bytes(engine), "unlike": unlike}
    if "save" in run:
        save_sharded(engine, {"step": end}, Path(run["save"]), rank)
    weights = full_weights(engine)
    taught = torch.cat([weights[name].flatten() for name in base])
    seen["finer"] = float((taught != taught.bfloat16()).double().mean())
    alone = Net()
    alone.load_state_dict(weights)
    with gathered(engine), torch.no_grad():
        # each worker asks as often as it likes
        asked = [loss_of(engine.module, *batch(99 + i)).item() for i in range(1 + rank)]
        seen["asked"] = asked[0]
    with torch.no_grad():
        seen["alone"] = loss_of(alone, *batch(99)).item()
    if run.get("after"):  # training goes on after scoring
        words, answers = (x[rank::workers] for x in batch(end))
        loss = loss_of(engine, words, answers) / (BATCH * LENGTH)
        engine.backward(loss * workers)
        engine.step()
        torch.distributed.all_reduce(after := loss.detach())
        seen["losses"].append(float(after))
    engine.destroy()
    return seen


def main() -> None:
    rank, workers, port = (int(text) for text in sys.argv[1:4])
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=workers)
    for run in json.loads(Path(sys.argv[4]).read_text()):
        seen = work(rank, workers, run)
        Path(f"{run['out']}.{rank}").write_text(json.dumps(seen))
    torch.distributed.destroy_process_group()


def together(directory: Path, workers: int, runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What rank 0 of so many processes saw in each run."""
    directory.mkdir(exist_ok=True, parents=True)
    plan = directory / f"plan-{workers}.json"
    named = {name: run | {"out": str(directory / name)} for name, run in runs.items()}
    plan.write_text(json.dumps(list(named.values())))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    surroundings = os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(workers), str(port), str(plan)],
            env=surroundings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(workers)
    ]
    try:
        said = [process.communicate(timeout=300)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    for process, text in zip(started, said, strict=True):
        assert process.returncode == 0, text[-4000:]
    return {name: json.loads(Path(f"{run['out']}.0").read_text()) for name, run in named.items()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All runs, in three groups of processes: a process takes long to begin."""
    root = tmp_path_factory.mktemp("zero")
    plain: dict[str, dict[str, Any]] = {
        f"{{}}-{stage}": {"stage": stage, "end": STEPS - 1, "after": True} for stage in range(4)
    }
    halves = {
        f"half-{{}}-{stage}": {"stage": stage, "end": STOP, "save": str(root / f"{{}}-{stage}")}
        for stage in range(4)
    }

    def of(workers: int, wanted: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        text = json.dumps(wanted).replace("{}", str(workers))
        parsed: dict[str, dict[str, Any]] = json.loads(text)
        return parsed

    def resumed(before: int, now: int) -> dict[str, dict[str, Any]]:
        return {
            f"{before}x{old}-{now}x{new}": {"stage": new, "resume": str(root / f"{before}-{old}")}
            for old in range(4)
            for new in range(4)
        }

    parts = {
        "accumulated-0": {"stage": 0, "accumulation": 2},
        "accumulated-2": {"stage": 2, "accumulation": 2},
        "accumulated-3": {"stage": 3, "accumulation": 2},
        "offload-2": {"stage": 2, "offload": True, "save": str(root / "2-9")},
        "offload-3": {"stage": 3, "offload": True},
        **{f"bf16-{stage}": {"stage": stage, "dtype": "bf16"} for stage in range(4)},
    }
    found = together(root, 2, of(2, plain | halves) | parts)
    found |= together(root, 1, of(1, plain | halves) | resumed(2, 1))
    return found | together(root, 2, resumed(1, 2))


def near(expected: list[float]) -> Any:
    return pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("stage", range(4))
def test_two_workers_learn_as_one_does_at_any_stage(runs: dict[str, Any], stage: int) -> None:
    assert runs[f"2-{stage}"]["losses"] == near(runs["1-0"]["losses"])


def test_the_engine_learns_as_plain_pytorch_does(runs: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = Net()
    matrices = [p for p in network.parameters() if p.ndim > 1 and p.requires_grad]
    gains = [p for p in network.parameters() if p.ndim < 2 and p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "lr": 3e-3, "weight_decay": 0.1},
            {"params": gains, "lr": 1e-2, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
    )
    losses = []
    for step in range(STEPS):
        loss = loss_of(network, *batch(step)) / (BATCH * LENGTH)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert runs["1-0"]["losses"] == near(losses)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("before", [1, 2])
@pytest.mark.parametrize("old", range(4))
@pytest.mark.parametrize("new", range(4))
def test_a_run_goes_on_with_other_workers_at_another_stage(
    runs: dict[str, Any], before: int, old: int, new: int
) -> None:
    resumed = runs[f"{before}x{old}-{3 - before}x{new}"]["losses"]
    assert resumed == near(runs["1-0"]["losses"][STOP:])


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_two_parts_make_one_batch(runs: dict[str, Any], stage: int) -> None:
    assert runs[f"accumulated-{stage}"]["losses"] == near(runs["1-0"]["losses"])


@pytest.mark.parametrize("stage", [2, 3])
def test_offloading_changes_no_loss(runs: dict[str, Any], stage: int) -> None:
    assert runs[f"offload-{stage}"]["losses"] == near(runs["1-0"]["losses"])


@pytest.mark.parametrize("stage", range(4))
def test_bf16_learns_nearly_the_same(runs: dict[str, Any], stage: int) -> None:
    # eight bits of significand: 2^-8 relative per rounding
    losses = runs[f"bf16-{stage}"]["losses"]
    assert losses == pytest.approx(runs["1-0"]["losses"], rel=0.03)


@pytest.mark.parametrize("stage", range(4))
def test_in_bf16_training_begins_with_exact_weights_and_keeps_what_it_stepped_on(
    runs: dict[str, Any], stage: int
) -> None:
    assert runs[f"bf16-{stage}"]["unlike"] == []
    # of fp32 numbers one in 2^16 is one of bf16
    assert runs[f"bf16-{stage}"]["finer"] > 0.99


@pytest.mark.parametrize("name", [*(f"2-{stage}" for stage in range(4)), "offload-3"])
def test_workers_score_alone_in_the_middle_of_training(runs: dict[str, Any], name: str) -> None:
    assert runs[name]["asked"] == pytest.approx(runs[name]["alone"], rel=1e-6)


def test_stage_3_holds_little_more_than_half(runs: dict[str, Any]) -> None:
    held = {stage: sum(runs[f"2-{stage}"]["held"].values()) for stage in range(4)}
    # fp32 AdamW: 4 bytes of weight and 8 of moments each; the frozen layer has no moments
    count = {p: p.numel() for p in Net().parameters()}
    expected = sum(n * (12 if p.requires_grad else 4) for p, n in count.items())
    assert held[0] == pytest.approx(expected, rel=0.01)
    assert held[3] <= 0.6 * held[0]
    assert held[3] < held[2] <= held[1] < held[0]


if __name__ == "__main__":
    main()
