"""What a pretraining starts with: the model in a DeepSpeed engine, and how a batch is cut."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from penchant.platform.item_tokens import TokenLists
from penchant.platform.language_models import load_tokenizer
from penchant.trainers.course import Group
from penchant.trainers.pretrain.network import (
    PretrainNetwork,
    build_pretrain_network,
    fresh_parameters,
)
from penchant.trainers.pretrain.plan import Asker, PretrainSettings
from penchant.trainers.throughput import flops_per_token
from penchant.trainers.zero.memory_plan import Dial, choose_sharding, worker_memory_bytes
from penchant.trainers.zero.stages import Sharding, start_sharded

__all__ = ["Ready", "start_pretraining"]

_LOGIT_BYTES = 256 << 20  # of logits that exist at once in a worker
_ASKED = 0.2  # share of the places that encoders are asked for, with some to spare
_DECAY = 0.01
_FRESH_RATE = 10.0  # a head that starts untrained learns so many times faster


@dataclass(frozen=True, kw_only=True)
class Ready:
    """All that a step needs."""

    settings: PretrainSettings
    rows: TokenLists
    asker: Asker
    engine: Any
    group: Group
    parts: int  # of a batch, that pass through the model one by one
    fresh: list[str]  # parameters that start untrained
    parameters: int
    token_flops: int  # operations to learn from a token, without the head over the vocabulary
    memory: str  # what a worker holds, in words


def start_pretraining(
    settings: PretrainSettings, rows: TokenLists, group: Group, sharding: Sharding | Dial
) -> Ready:
    """Load the base and spread it over the workers.

    Raises:
        ConfigError: the base cannot be used, or does not fit the memory.
    """
    tokenizer = load_tokenizer(settings.base)
    network = build_pretrain_network(settings.base, settings.layers, masked=settings.masked)
    fresh = fresh_parameters(settings.base, network)
    parts = _parts(settings, group, network.model.config.get_text_config().vocab_size)
    parameters = sum(p.numel() for p in network.parameters())
    chosen, memory = _sharding(sharding, network, settings, group, parts)
    groups = _parameter_groups(network, settings, fresh)
    token_flops = flops_per_token(network)  # before ZeRO spreads the weights
    return Ready(
        settings=settings,
        rows=rows,
        asker=Asker(tokenizer, masked=settings.masked, tokens=settings.tokens),
        engine=start_sharded(network, groups, sharding=chosen, accumulation=parts),
        group=group,
        parts=parts,
        fresh=fresh,
        parameters=parameters,
        token_flops=token_flops,
        memory=memory,
    )


def _parts(settings: PretrainSettings, group: Group, words: int) -> int:
    """So many that the logits of one find room."""
    asked = settings.tokens * (_ASKED if settings.masked else 1.0)
    rows = max(int(_LOGIT_BYTES / (4 * words * asked)), 1)
    return math.ceil(math.ceil(settings.batch_sequences / group.workers) / rows)


def _sharding(
    wanted: Sharding | Dial,
    network: PretrainNetwork,
    settings: PretrainSettings,
    group: Group,
    parts: int,
) -> tuple[Sharding, str]:
    """What is spread over the workers, and in words what a worker will hold."""
    if isinstance(wanted, Sharding):
        return wanted, "as told"
    parameters = sum(p.numel() for p in network.parameters())
    rows = math.ceil(settings.batch_sequences / (parts * group.workers))
    chosen, estimate = choose_sharding(
        wanted,
        parameters=parameters,
        trainable=parameters,
        workers=group.workers,
        batch_tokens=rows * settings.tokens,
        hidden=network.model.config.hidden_size,
        layers=network.model.config.num_hidden_layers,
        memory_bytes=worker_memory_bytes(group.workers),
        gpu=torch.cuda.is_available(),
        batch_dials=["lower --batch-sequences, --tokens or --layers"],
    )
    return chosen, estimate.describe()


def _parameter_groups(
    network: PretrainNetwork, settings: PretrainSettings, fresh: list[str]
) -> list[dict[str, Any]]:
    """What the base brings along, and what starts untrained; gains and biases do not decay."""
    groups = []
    for new in (False, True):
        named = [p for name, p in network.named_parameters() if (name in fresh) == new]
        rate = settings.learning_rate * (_FRESH_RATE if new else 1.0)
        matrices, gains = [p for p in named if p.ndim > 1], [p for p in named if p.ndim < 2]
        groups += [
            {"params": matrices, "lr": rate, "weight_decay": _DECAY},
            {"params": gains, "lr": rate, "weight_decay": 0.0},
        ]
    return [one for one in groups if one["params"]]
