"""A trial of the search: one Ray Train run for one group of recipes.

Alone in its module, which the process of every trial imports: it only waits for its workers, and
all that the search itself needs would cost it a second of CPU.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

__all__ = ["run_trial"]


def run_trial(config: dict[str, Any]) -> None:
    """Train one group; what it leaves is in the store.

    Args:
        config: `task` is that of `train_group`, with `name` and `storage` of the Ray Train run and
            its number of `workers`.
    """
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    from penchant.trainers.worker import train_group

    task = config["task"]
    trainer = TorchTrainer(
        train_group,
        train_loop_config=task,
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(
            num_workers=task["workers"], resources_per_worker={"CPU": task["cpus"]}
        ),
        run_config=RunConfig(
            name=task["name"],
            storage_path=task["storage"],
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            failure_config=FailureConfig(max_failures=2),
            callbacks=[TuneReportCallback()],  # type: ignore[no-untyped-call, list-item]
        ),
    )
    result = trainer.fit()
    if result.error is not None:
        raise result.error
    shutil.rmtree(Path(task["storage"]) / task["name"], ignore_errors=True)
