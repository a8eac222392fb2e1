"""What a fine-tuning starts with: the network in a DeepSpeed engine, its parts at their rates."""

from __future__ import annotations

from typing import Any

import torch

from penchant.platform.recipes import TextRecipe
from penchant.trainers.course import Group
from penchant.trainers.memory_trouble import smaller_batch
from penchant.trainers.text.network import TextNetwork
from penchant.trainers.text.plan import TextPlan
from penchant.trainers.zero.memory_plan import Dial, choose_sharding, worker_memory_bytes
from penchant.trainers.zero.stages import Sharding, start_sharded

__all__ = ["first_rates", "plan_memory", "start_text"]


def start_text(network: TextNetwork, recipe: TextRecipe, sharding: Sharding) -> Any:
    """A DeepSpeed engine around the network."""
    return start_sharded(
        network,
        _parameter_groups(network, recipe),
        sharding=sharding,
        accumulation=recipe.accumulation,
    )


def plan_memory(
    wanted: Sharding | Dial, network: TextNetwork, plan: TextPlan, group: Group
) -> tuple[Sharding, str]:
    """What is spread over the workers, and in words that and what a worker will hold.

    Raises:
        ConfigError: the model does not fit the memory.
    """
    if isinstance(wanted, Sharding):
        return wanted, f"{wanted.describe()}, as told"
    recipe = plan.recipe
    sizes = [(p.numel(), p.requires_grad) for p in network.parameters()]
    chosen, estimate = choose_sharding(
        wanted,
        parameters=sum(size for size, _ in sizes),
        trainable=sum(size for size, learns in sizes if learns),
        workers=group.workers,
        batch_tokens=plan.most_tokens(group.workers),
        hidden=network.base.config.hidden_size,
        layers=network.base.config.num_hidden_layers,
        memory_bytes=worker_memory_bytes(group.workers),
        gpu=torch.cuda.is_available(),
        batch_dials=smaller_batch(recipe, plan.past.spec.task),
        checkpointing=recipe.gradient_checkpointing,
    )
    return chosen, f"{chosen.describe()}, {estimate.describe()}"


def first_rates(recipe: TextRecipe, groups: int) -> list[float]:
    """Learning rates of the parameter groups; the heads' group comes last."""
    return [recipe.learning_rate] * (groups - 1) + [recipe.head_learning_rate]


def _parameter_groups(network: TextNetwork, recipe: TextRecipe) -> list[dict[str, Any]]:
    """The base and its heads, which start from nothing and learn faster. Gains do not decay."""
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}
    base = [p for name, p in named.items() if name.startswith("base.") and p.ndim > 1]
    gains = [p for name, p in named.items() if name.startswith("base.") and p.ndim < 2]
    heads = [p for name, p in named.items() if not name.startswith("base.")]
    slow, fast = recipe.learning_rate, recipe.head_learning_rate
    groups = [
        {"params": base, "lr": slow, "weight_decay": recipe.weight_decay},
        {"params": gains, "lr": slow, "weight_decay": 0.0},
        {"params": heads, "lr": fast, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
