"""Trackers that others have made: TensorBoard's event files, MLflow, Weights & Biases.

Their clients are imported when a run is tracked to them, never before.
"""

from __future__ import annotations

import importlib
import os
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from penchant.platform.tracking import StepsFile, TrackedRun, Tracker, Trackers
from penchant.platform.tracking_settings import TrackerName, require_trackers

__all__ = ["Mlflow", "TensorBoard", "WeightsAndBiases", "start_trackers"]

_MLFLOW_TAG = "penchant.run"
_MLFLOW_BATCH = 1000  # values that its server takes at once
_MLFLOW_PARAM = 500  # characters of a parameter's value


def start_trackers(names: Sequence[TrackerName], run: TrackedRun) -> Trackers:
    """Begin to track a run, or go on from its step.

    Raises:
        ConfigError: the client of a named tracker is not installed.
    """
    require_trackers(names)
    make: dict[TrackerName, Callable[[TrackedRun], Tracker]] = {
        "jsonl": StepsFile,
        "tensorboard": TensorBoard,
        "mlflow": Mlflow,
        "wandb": WeightsAndBiases,
    }
    return Trackers({name: make[name](run) for name in names})


class TensorBoard:
    """Event files in `tensorboard/<member>` of the run directory, for `tensorboard --logdir`.

    A file for each life of a run. It begins by saying from which step on what older files hold is
    void, as TensorBoard wants it from a run that goes on.
    """

    def __init__(self, run: TrackedRun) -> None:
        from tensorboardX import RecordWriter  # type: ignore[import-untyped]
        from tensorboardX.proto import event_pb2, summary_pb2  # type: ignore[import-untyped]

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        directory = run.root / "tensorboard" / run.directory.name
        directory.mkdir(parents=True, exist_ok=True)
        host = socket.gethostname()
        name = f"events.out.tfevents.{time.time_ns() // 1_000_000}.{host}.{os.getpid()}"
        self._records = RecordWriter(str(directory / name))
        self._write(file_version="brain.Event:2")
        began = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step=run.step + 1, session_log=began)
        self.flush()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        parts = [self._summary.Value(tag=name, simple_value=v) for name, v in values.items()]
        self._write(step=step, summary=self._summary(value=parts))

    def flush(self) -> None:
        self._records.flush()

    def close(self) -> None:
        self._records.close()

    def _write(self, **content: Any) -> None:
        event = self._event(wall_time=time.time(), **content)
        self._records.write(event.SerializeToString())


class Mlflow:
    """A run of MLflow, found again by a tag with its id.

    MLFLOW_TRACKING_URI says where; without it, a database in the run directory.
    """

    def __init__(self, run: TrackedRun) -> None:
        mlflow: Any = importlib.import_module("mlflow")
        self._metric: Any = importlib.import_module("mlflow.entities").Metric
        where = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.root / 'mlflow.db'}"
        mlflow.set_tracking_uri(where)
        experiment = mlflow.set_experiment(run.project).experiment_id
        self._client: Any = mlflow.MlflowClient(tracking_uri=where)
        found = self._client.search_runs(
            [experiment], filter_string=f"tags.`{_MLFLOW_TAG}` = '{run.id}'", max_results=1
        )
        self._told = -1  # the last step that the run has
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            told = self._client.get_metric_history(self._run, "epoch")
            self._told = max((metric.step for metric in told), default=-1)
        else:
            made = self._client.create_run(
                experiment, tags={_MLFLOW_TAG: run.id}, run_name=run.name
            )
            self._run = made.info.run_id
            for name, value in run.facts.items():
                self._client.log_param(self._run, name, str(value)[:_MLFLOW_PARAM])
        self._waiting: list[Any] = []
        self._sent: list[Any] = []

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step <= self._told:
            return
        now_ms = int(time.time() * 1000)
        self._waiting += [
            # such as ndcg@10, whose sign MLflow refuses
            self._metric(re.sub(r"[^\w./ -]", "_", name), value, now_ms, step)
            for name, value in values.items()
        ]

    def flush(self) -> None:
        for begin in range(0, len(self._waiting), _MLFLOW_BATCH):
            metrics = self._waiting[begin : begin + _MLFLOW_BATCH]
            # in a thread of the client: no step waits for a server
            self._sent.append(self._client.log_batch(self._run, metrics=metrics, synchronous=False))
        self._waiting = []

    def close(self) -> None:
        self.flush()
        for operation in self._sent:
            operation.wait()
        self._client.set_terminated(self._run)


class WeightsAndBiases:
    """A run of Weights & Biases under its id; WANDB_* variables say where and whose it is."""

    def __init__(self, run: TrackedRun) -> None:
        wandb: Any = importlib.import_module("wandb")
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or run.project,
            id=run.id,
            name=run.name,
            resume="allow",
            dir=str(run.root),
            config=dict(run.facts),
            settings={"console": "off", "silent": True},
        )
        self._next = int(self._run.step)  # of a run that goes on: the first that it has not

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step >= self._next:
            self._run.log(dict(values), step=step)

    def flush(self) -> None:
        """A process of the client's own sends what it is given."""

    def close(self) -> None:
        self._run.finish()
