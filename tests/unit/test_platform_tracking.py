"""Tracking: a curve has one value a step, whatever was cut, and one id through all restarts."""

from __future__ import annotations

import json
import struct
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tensorboardX.proto import event_pb2

from penchant.ensembles.experiment import run_experiment
from penchant.platform import tracking_settings
from penchant.platform.config import load_experiment
from penchant.platform.errors import ConfigError
from penchant.platform.progress import Progress
from penchant.platform.store import RunDirectory
from penchant.platform.trackers import Mlflow, TensorBoard, WeightsAndBiases, start_trackers
from penchant.platform.tracking import (
    STEPS_FILE,
    StepsFile,
    TrackedRun,
    Tracker,
    Trackers,
    read_steps,
    track,
)

EXPERIMENT = """
name: small
data: {source: groceries}
time: {dates: {select: 2017-10-01, blend: 2017-11-01, test: 2017-12-01}}
members:
  - {kind: popularity}
"""


def begun(root: Path, step: int = 0, member: str = "long") -> TrackedRun:
    facts = {"kind": "sequence", "epochs": 3}
    return track(RunDirectory(root), member, project="shop", step=step, facts=facts)


def steps_of(run: TrackedRun) -> list[tuple[float, float]]:
    return [(line["step"], line["loss"]) for line in read_steps(run.directory / STEPS_FILE)]


def cut_and_resumed(make: Any, root: Path) -> None:
    """Steps 1 to 5, of which a checkpoint keeps 3; then on from there to 6 in another life."""
    first = make(begun(root))
    for step in range(1, 6):
        first.log(step, {"loss": 10.0 - step, "epoch": step // 4})
    first.flush()
    first.close()
    second = make(begun(root, step=3))
    for step in range(4, 7):
        second.log(step, {"loss": 20.0 - step, "epoch": step // 4})
    second.close()


AFTER_THE_CUT = [(1, 9.0), (2, 8.0), (3, 7.0), (4, 16.0), (5, 15.0), (6, 14.0)]


def test_a_steps_file_has_one_line_a_step_after_a_cut(tmp_path: Path) -> None:
    cut_and_resumed(StepsFile, tmp_path / "run")
    assert steps_of(begun(tmp_path / "run")) == AFTER_THE_CUT


def test_a_run_that_begins_anew_drops_all_that_stood_there(tmp_path: Path) -> None:
    cut_and_resumed(StepsFile, tmp_path / "run")
    StepsFile(begun(tmp_path / "run")).close()
    assert steps_of(begun(tmp_path / "run")) == []


def test_a_torn_last_line_does_not_tear_the_next_one(tmp_path: Path) -> None:
    run = begun(tmp_path / "run", step=9)
    (run.directory / STEPS_FILE).write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert steps_of(run) == [(1, 2.0)]
    after = StepsFile(run)
    after.log(10, {"loss": 1.0})
    after.close()
    assert steps_of(run) == [(1, 2.0), (10, 1.0)]


def test_what_was_flushed_is_there_before_the_file_is_closed(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    steps = StepsFile(run)
    steps.log(1, {"loss": 1.0})
    steps.flush()
    assert steps_of(run) == [(1, 1.0)]
    steps.close()


def test_a_run_has_one_id_through_restarts_and_no_other_run_has_it(tmp_path: Path) -> None:
    first = begun(tmp_path / "a" / "run", member="long@refit")
    assert begun(tmp_path / "a" / "run", step=7, member="long@refit").id == first.id
    assert first.id.startswith("run-long-refit-")
    assert first.name == "run/long@refit"
    assert begun(tmp_path / "b" / "run", member="long@refit").id != first.id


def test_a_run_at_an_earlier_origin_is_named_after_its_experiment(tmp_path: Path) -> None:
    assert begun(tmp_path / "shop" / "origins" / "2").name == "shop-origin-2/long"


def records(path: Path) -> list[bytes]:
    """Of a TFRecord file: length, its checksum, data, its checksum."""
    content, found, at = path.read_bytes(), [], 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        found.append(content[at + 12 : at + 12 + length])
        at += 12 + length + 4
    return found


def test_tensorboard_reads_one_value_a_step_after_a_cut(tmp_path: Path) -> None:
    """As TensorBoard reads: a START at a step voids what older files hold from that step on."""
    cut_and_resumed(TensorBoard, tmp_path / "run")
    curve: dict[int, float] = {}
    files = sorted((tmp_path / "run" / "tensorboard" / "long").iterdir())
    assert len(files) == 2
    for path in files:
        events = [event_pb2.Event.FromString(record) for record in records(path)]
        assert events[0].file_version == "brain.Event:2"
        for event in events:
            if event.session_log.status == event_pb2.SessionLog.START:
                curve = {step: loss for step, loss in curve.items() if step < event.step}
            for value in event.summary.value:
                if value.tag == "loss":
                    curve[event.step] = value.simple_value
    assert list(curve.items()) == AFTER_THE_CUT


class Broken:
    """A tracker whose server is gone."""

    def log(self, step: int, values: Any) -> None:
        raise ConnectionError("no server")

    def flush(self) -> None: ...

    def close(self) -> None: ...


def test_a_tracker_that_fails_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    both = Trackers({"far": Broken(), "near": StepsFile(run)})
    both.log(1, {"loss": 1.0})
    both.log(2, {"loss": 0.5})
    both.close()
    assert steps_of(run) == [(1, 1.0), (2, 0.5)]
    assert both.lost == {"far": "ConnectionError: no server"}


def test_numbers_that_json_does_not_have_are_left_out(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    steps = Trackers({"jsonl": StepsFile(run)})
    steps.log(1, {"loss": 1.0, "gradient_norm": float("inf"), "peak_share": float("nan")})
    steps.close()
    (line,) = (run.directory / STEPS_FILE).read_text().splitlines()
    assert json.loads(line) == {"step": 1, "loss": 1.0}


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_client_is_refused_before_anything_is_made(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        tracking_settings, "find_spec", lambda wanted: None if wanted == name else find_spec(wanted)
    )
    path = tmp_path / "small.yaml"
    path.write_text(EXPERIMENT)
    experiment = load_experiment(path, (f"tracking.to=[jsonl, {name}]",))
    with Progress(quiet=True) as progress, pytest.raises(ConfigError, match=f"pip install {name}"):
        run_experiment(experiment, tmp_path / "run", progress)
    assert not (tmp_path / "run").exists()


def test_files_and_tensorboard_are_the_default_and_other_names_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(EXPERIMENT)
    assert load_experiment(path).tracking.to == ("jsonl", "tensorboard")
    assert load_experiment(path, ("tracking.to=[]",)).tracking.to == ()
    for wrong in ("tracking.to=[comet]", "tracking.too=[jsonl]"):
        with pytest.raises(ConfigError, match="tracking"):
            load_experiment(path, (wrong,))


class FakeMlflow:
    """What a tracking server keeps, behind the calls that MLflow's client offers."""

    def __init__(self) -> None:
        self.runs: dict[str, Any] = {}
        self.metrics: list[tuple[str, str, float, int]] = []
        self.params: dict[str, str] = {}
        self.where: set[str] = set()

    def module(self) -> ModuleType:
        module = ModuleType("mlflow")
        fake = self

        class Client:
            def __init__(self, tracking_uri: str) -> None:
                fake.where.add(tracking_uri)

            def search_runs(self, experiments: list[str], filter_string: str, max_results: int):
                assert experiments == ["of shop"]
                wanted = filter_string.removeprefix("tags.`penchant.run` = ").strip("'")
                return [run for run in fake.runs.values() if wanted in run.tags.values()]

            def create_run(self, experiment: str, tags: dict[str, str], run_name: str) -> Any:
                info = SimpleNamespace(run_id=f"server-{len(fake.runs)}")
                run = SimpleNamespace(info=info, tags=tags, name=run_name, status="RUNNING")
                fake.runs[info.run_id] = run
                return run

            def update_run(self, run_id: str, status: str) -> None:
                fake.runs[run_id].status = status

            def log_param(self, run_id: str, key: str, value: str) -> None:
                fake.params[key] = value

            def get_metric_history(self, run_id: str, key: str) -> list[Any]:
                found = [m for m in fake.metrics if m[:2] == (run_id, key)]
                return [SimpleNamespace(step=step) for _, _, _, step in found]

            def log_batch(self, run_id: str, metrics: list[Any], synchronous: bool) -> Any:
                assert not synchronous
                assert 0 < len(metrics) <= 1000
                fake.metrics += [(run_id, m.key, m.value, m.step) for m in metrics]
                return SimpleNamespace(wait=lambda: None)

            def set_terminated(self, run_id: str) -> None:
                fake.runs[run_id].status = "FINISHED"

        module.MlflowClient = Client  # type: ignore[attr-defined]
        module.set_tracking_uri = self.where.add  # type: ignore[attr-defined]
        module.set_experiment = (  # type: ignore[attr-defined]
            lambda name: SimpleNamespace(experiment_id=f"of {name}")
        )
        return module


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> FakeMlflow:
    fake = FakeMlflow()
    entities = ModuleType("mlflow.entities")
    entities.Metric = (  # type: ignore[attr-defined]
        lambda key, value, timestamp, step: SimpleNamespace(key=key, value=value, step=step)
    )
    monkeypatch.setitem(sys.modules, "mlflow", fake.module())
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return fake


def test_mlflow_keeps_one_run_and_one_value_a_step(tmp_path: Path, mlflow: FakeMlflow) -> None:
    """It cannot drop what it has: repeated steps are not told again."""
    cut_and_resumed(Mlflow, tmp_path / "run")
    (run,) = mlflow.runs.values()
    assert (run.name, run.status) == ("run/long", "FINISHED")
    assert mlflow.params == {"kind": "sequence", "epochs": "3"}
    losses = [(step, value) for _, key, value, step in mlflow.metrics if key == "loss"]
    assert losses == [(1, 9.0), (2, 8.0), (3, 7.0), (4, 6.0), (5, 5.0), (6, 14.0)]
    assert mlflow.where == {f"sqlite:///{tmp_path / 'run' / 'mlflow.db'}"}


def test_mlflow_is_told_names_and_batches_that_it_takes(tmp_path: Path, mlflow: FakeMlflow) -> None:
    tracker = Mlflow(begun(tmp_path / "run"))
    for step in range(1, 701):
        tracker.log(step, {"epoch": 0, "select_ndcg@10": 0.5})
    tracker.close()
    assert {key for _, key, _, _ in mlflow.metrics} == {"epoch", "select_ndcg_10"}
    assert len(mlflow.metrics) == 1400


def test_mlflows_own_variable_says_where(
    tmp_path: Path, mlflow: FakeMlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    Mlflow(begun(tmp_path / "run")).close()
    assert mlflow.where == {"http://tracking:5000"}


class FakeWandb:
    """Weights & Biases: a run goes on after its last step, and takes no earlier one."""

    def __init__(self) -> None:
        self.history: dict[str, list[tuple[int, dict[str, float]]]] = {}
        self.begun: list[dict[str, Any]] = []
        self.finished = 0

    def init(self, **settings: Any) -> Any:
        assert settings["resume"] == "allow"
        self.begun.append(settings)
        history = self.history.setdefault(settings["id"], [])

        def log(values: dict[str, float], step: int) -> None:
            assert step >= max((at for at, _ in history), default=0)
            history.append((step, values))

        def finish() -> None:
            self.finished += 1

        start = history[-1][0] + 1 if history else 0
        return SimpleNamespace(step=start, log=log, finish=finish)


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    module = ModuleType("wandb")
    module.init = fake.init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return fake


def test_weights_and_biases_keeps_one_run_and_one_value_a_step(
    tmp_path: Path, wandb: FakeWandb
) -> None:
    cut_and_resumed(WeightsAndBiases, tmp_path / "run")
    ((run_id, history),) = wandb.history.items()
    assert run_id.startswith("run-long-")
    assert [(step, values["loss"]) for step, values in history] == [
        *((1, 9.0), (2, 8.0), (3, 7.0), (4, 6.0), (5, 5.0), (6, 14.0))
    ]
    settings = wandb.begun[0]
    assert (settings["project"], settings["name"]) == ("shop", "run/long")
    assert settings["config"] == {"kind": "sequence", "epochs": 3}
    assert wandb.finished == 2


def test_a_run_goes_to_all_that_are_named(
    tmp_path: Path, wandb: FakeWandb, mlflow: FakeMlflow
) -> None:
    run = begun(tmp_path / "run")
    trackers: Tracker = start_trackers(("jsonl", "tensorboard", "mlflow", "wandb"), run)
    trackers.log(1, {"epoch": 0, "loss": 2.0})
    trackers.close()
    assert steps_of(run) == [(1, 2.0)]
    assert len(list((run.root / "tensorboard" / "long").iterdir())) == 1
    assert [value for _, key, value, _ in mlflow.metrics if key == "loss"] == [2.0]
    assert wandb.history[run.id] == [(1, {"epoch": 0, "loss": 2.0})]
