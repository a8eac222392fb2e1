"""DeepSpeed around a network: gradients averaged over workers, clipped, applied.

Weights and optimizer moments are the same on every worker (ZeRO stage 0: a sequence model is a few
megabytes), so a checkpoint is plain safetensors that any number of workers can go on from.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from penchant.platform.recipes import SequenceRecipe
from penchant.trainers.sequence.network import SequenceNetwork
from penchant.trainers.zero.stages import Sharding, start_sharded

__all__ = ["load_checkpoint", "save_checkpoint", "share_of_rate", "start_engine"]

_WARM_UP = 0.1
_FLOOR = 0.05
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def start_engine(network: SequenceNetwork, recipe: SequenceRecipe) -> Any:
    """A DeepSpeed engine; torch.distributed must be up, as it is in every Ray Train worker."""
    group = {
        "params": list(network.parameters()),
        "lr": recipe.learning_rate,
        "weight_decay": recipe.weight_decay,
    }
    return start_sharded(network, [group], sharding=Sharding(stage=0), accumulation=1)


def share_of_rate(step: int, total_steps: int) -> float:
    """Warm-up over a tenth of the steps, then a cosine down to a twentieth."""
    progress = min(step / max(total_steps, 1), 1.0)
    warm = min((step + 1) / max(_WARM_UP * total_steps, 1.0), 1.0)
    fade = _FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * progress))
    return warm * fade


def save_checkpoint(
    engine: Any, kept: dict[str, torch.Tensor], progress: dict[str, Any], directory: Path
) -> None:
    """Weights, moments, the weights of the best epochs, and where the run stands."""
    network, optimizer = engine.module, engine.optimizer
    tensors = {f"model.{name}": t for name, t in network.state_dict().items()}
    tensors |= {f"kept.{name}": t for name, t in kept.items()}
    for name, parameter in network.named_parameters():
        for moment in _MOMENTS:
            if moment in (state := optimizer.state[parameter]):
                tensors[f"{moment}.{name}"] = state[moment]
    directory.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: t.contiguous() for name, t in tensors.items()}, directory / "state.safetensors"
    )
    (directory / "progress.json").write_text(json.dumps(progress))


def load_checkpoint(engine: Any, directory: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Put the engine back where `save_checkpoint` left it; returns what was kept, and progress."""
    tensors = load_file(directory / "state.safetensors")
    network, optimizer = engine.module, engine.optimizer

    def part(prefix: str) -> dict[str, torch.Tensor]:
        begin = f"{prefix}."
        return {name[len(begin) :]: t for name, t in tensors.items() if name.startswith(begin)}

    network.load_state_dict(part("model"))
    moments = {moment: part(moment) for moment in _MOMENTS}
    for name, parameter in network.named_parameters():
        if name in moments["exp_avg"]:
            place = parameter.device
            optimizer.state[parameter] = {m: moments[m][name].to(place) for m in _MOMENTS}
    progress: dict[str, Any] = json.loads((directory / "progress.json").read_text())
    return part("kept"), progress
