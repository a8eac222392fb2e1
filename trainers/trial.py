"""A trial of the search: one Ray Train run for one group of recipes.

Alone in its module, which the process of every trial imports: it only waits for its workers, and
all that the search itself needs would cost it a second of CPU.
"""

from __future__ import annotations

import shutil
from typing import Any

__all__ = ["run_trial"]


def run_trial(config: dict[str, Any]) -> None:
    """Train one group; what it leaves is in the store.

    Args:
        config: `task` is that of `train_group`, with `name` and `storage` of the Ray Train run and
            its number of `workers`.
    """
    import ray
    from ray.train import CheckpointConfig, FailureConfig, RunConfig
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    from penchant.trainers.checkpoints import KEPT, drop_torn_list
    from penchant.trainers.memory_trouble import out_of_memory, ran_out
    from penchant.trainers.refusal import forget_refusal, read_refusal
    from penchant.trainers.worker import place_of, train_group
    from penchant.trainers.worker_group import worker_group

    task = config["task"]
    place = place_of(task)
    forget_refusal(place)
    drop_torn_list(place)
    gpus = int(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]  # Ray's lack
    scaling, torch_config = worker_group(task["workers"], task["cpus"], gpus)
    trainer = TorchTrainer(
        train_group,
        train_loop_config=task,
        torch_config=torch_config,
        scaling_config=scaling,
        run_config=RunConfig(
            name=task["name"],
            storage_path=task["storage"],
            checkpoint_config=CheckpointConfig(num_to_keep=KEPT),
            failure_config=FailureConfig(max_failures=2),
            callbacks=[TuneReportCallback()],  # type: ignore[no-untyped-call, list-item]
        ),
    )
    try:
        error: BaseException | None = trainer.fit().error
    except Exception as failure:  # some of Ray's failures are returned, others raised
        error = failure
    if (refused := read_refusal(place)) is not None:
        raise refused
    if error is not None:
        if ran_out(error):
            raise out_of_memory(error, place, "start fewer workers or trials at once") from error
        raise error
    shutil.rmtree(place, ignore_errors=True)
