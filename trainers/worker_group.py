"""The worker group of a Ray Train run: how many workers, what each has, how they talk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.train import ScalingConfig
    from ray.train.torch import TorchConfig

__all__ = ["takes_gpus", "worker_group"]


def takes_gpus(workers: int, gpus: int) -> bool:
    """Whether each worker gets a GPU: if the cluster has one for each, and nobody said `cpu`."""
    return gpus >= workers and os.environ.get("DS_ACCELERATOR") != "cpu"


def worker_group(workers: int, cpus: int, gpus: int) -> tuple[ScalingConfig, TorchConfig]:
    """What Ray Train sets aside for the workers, and the backends of torch.distributed.

    Counts and losses are summed on the CPU, so that gloo is there beside NCCL.

    Args:
        cpus: of each worker.
        gpus: of the cluster.
    """
    from ray.train import ScalingConfig
    from ray.train.torch import TorchConfig

    gpu = takes_gpus(workers, gpus)
    scaling = ScalingConfig(num_workers=workers, use_gpu=gpu, resources_per_worker={"CPU": cpus})
    return scaling, TorchConfig(backend="cpu:gloo,cuda:nccl" if gpu else "gloo")
