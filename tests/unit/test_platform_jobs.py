"""A run is submitted once, under its id; what is shipped; how jobs are followed and stopped."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from ray.job_submission import JobDetails, JobStatus, JobType

from penchant.platform import dashboard, jobs, shipment
from penchant.platform.config import load_experiment
from penchant.platform.dashboard import RefusedError, connect, explain_failures
from penchant.platform.errors import ConfigError, UnreachableError
from penchant.platform.jobs import Jobs
from penchant.platform.shipment import Shipment, pack, prepare

ADDRESS = "http://head:8265"
EXPERIMENT = """
name: tiny
data:
  events: {paths: [/mnt/events.csv], columns: {user: user, item: item, time: time}}
time: {dates: {select: 2024-01-02, blend: 2024-01-03, test: 2024-01-04}}
members: [{kind: popularity}, {kind: sequence, copy_half_lives_days: [7, .inf]}]
"""


@dataclass
class FakeDashboard:
    """Stands in for Ray's client: keeps jobs in memory and plays logs from a script."""

    jobs: dict[str, JobDetails] = field(default_factory=dict)
    shipped: list[dict[str, Any]] = field(default_factory=list)
    streams: list[list[str | Exception]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    clock: int = 0

    def add(self, job_id: str, status: str = "RUNNING", **known: Any) -> None:
        self.clock += 1
        self.jobs[job_id] = JobDetails(
            type=JobType.SUBMISSION,
            submission_id=job_id,
            status=JobStatus(status),
            entrypoint="x",
            start_time=self.clock,
            **known,
        )

    def end(self, job_id: str, status: str, code: int | None = None) -> None:
        self.jobs[job_id].status = JobStatus(status)
        self.jobs[job_id].driver_exit_code = code

    def list_jobs(self) -> list[JobDetails]:
        return list(self.jobs.values())

    def get_job_info(self, job_id: str) -> JobDetails:
        return self.jobs[job_id]

    def submit_job(
        self, *, entrypoint: str, submission_id: str, runtime_env: Any, metadata: dict[str, str]
    ) -> None:
        if self.refusals:
            raise RuntimeError(self.refusals.pop(0))
        if submission_id in self.jobs:
            raise RuntimeError(f"Job with submission_id {submission_id} already exists.")
        files = {path.name for path in Path(runtime_env["working_dir"]).rglob("*")}
        modules = [Path(module).name for module in runtime_env["py_modules"]]
        self.shipped.append({"files": files, "modules": modules, "entrypoint": entrypoint})
        self.add(submission_id, metadata=metadata)

    def stop_job(self, job_id: str) -> bool:
        self.end(job_id, "STOPPED")
        return True

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        for piece in self.streams.pop(0):
            if isinstance(piece, Exception):
                raise piece
            yield piece
        if not self.streams:
            self.end(job_id, "SUCCEEDED", 0)


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> FakeDashboard:
    fake = FakeDashboard()
    monkeypatch.setattr(jobs, "connect", lambda _: fake)
    monkeypatch.setattr(jobs, "POLL_S", 0.0)
    return fake


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture
def tiny(experiment: Path) -> Shipment:
    return prepare(experiment)


class TestShipment:
    def test_the_same_experiment_is_the_same_run_and_a_setting_makes_another(
        self, experiment: Path
    ) -> None:
        first, again = prepare(experiment), prepare(experiment)
        changed = prepare(experiment, ("requests.per_block=7",))
        assert first == again
        assert first.run_id.startswith("tiny-")
        assert changed.run_id != first.run_id
        assert changed.fingerprint != first.fingerprint

    def test_the_shipped_experiment_is_the_checked_one(
        self, experiment: Path, tmp_path: Path
    ) -> None:
        settings = ("requests.per_block=7", "data.merge=true")
        (tmp_path / "packed").mkdir()
        packed = pack(prepare(experiment, settings), tmp_path / "packed")
        assert [path.name for path in packed.working_dir.iterdir()] == ["experiment.yaml"]
        shipped = load_experiment(packed.working_dir / "experiment.yaml")
        assert shipped == load_experiment(experiment, settings)
        assert shipped.requests.per_block == 7

    def test_what_runs_is_penchant_run_into_the_users_directory(self, experiment: Path) -> None:
        start = "python -m penchant.cli.main run experiment.yaml --out "
        assert prepare(experiment, run_id="a").entrypoint == start + "~/penchant-runs/a"
        spaced = prepare(experiment, run_id="a", out="~/my runs/a; b").entrypoint
        assert spaced == start + "~/'my runs/a; b'"
        assert prepare(experiment, out="/mnt/a b").entrypoint == start + "'/mnt/a b'"

    def test_the_jobs_list_learns_no_user_and_no_host(self, tiny: Shipment) -> None:
        assert set(tiny.metadata) == {
            "project",
            "version",
            "run",
            "experiment",
            "fingerprint",
            "out",
        }
        assert (tiny.metadata["project"], tiny.metadata["experiment"]) == ("penchant", "tiny")

    @pytest.mark.parametrize("path", ["events.csv", "./events.csv", "s3://bucket/events.csv"])
    def test_data_that_the_cluster_would_not_find_is_refused(
        self, experiment: Path, path: str
    ) -> None:
        with pytest.raises(ConfigError, match=r"data\.events\.paths: .* is relative"):
            prepare(experiment, (f"data.events.paths=[{path}]",))

    def test_item_texts_are_held_to_the_same(self, experiment: Path) -> None:
        items = "data.items={paths: [items.csv], columns: {item: item}}"
        with pytest.raises(ConfigError, match=r"data\.items\.paths"):
            prepare(experiment, (items,))

    @pytest.mark.parametrize("run_id", ["A", "a.2", "-a", "a b", "a/b", "a" * 81])
    def test_a_run_id_that_could_be_misread_is_refused(self, experiment: Path, run_id: str) -> None:
        with pytest.raises(ConfigError, match="--run-id"):
            prepare(experiment, run_id=run_id)

    def test_a_wrong_experiment_is_refused_before_anything_is_sent(self, experiment: Path) -> None:
        with pytest.raises(ConfigError, match="unknown key"):
            prepare(experiment, ("requests.pre_block=7",))


class TestSubmit:
    def test_a_run_that_goes_on_is_joined(self, head: FakeDashboard, tiny: Shipment) -> None:
        first, started = Jobs(ADDRESS).submit(tiny)
        again, started_again = Jobs(ADDRESS).submit(tiny)
        assert (started, started_again) == (True, False)
        assert first == again
        assert first.id == tiny.run_id
        assert len(head.shipped) == 1
        assert head.shipped[0]["files"] == {"experiment.yaml"}
        assert head.shipped[0]["modules"] == ["penchant", "penchant-0.1.0.dist-info"]

    @pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
    def test_a_run_that_has_ended_is_not_started_again(
        self, head: FakeDashboard, tiny: Shipment, status: str
    ) -> None:
        Jobs(ADDRESS).submit(tiny)
        head.end(tiny.run_id, status)
        job, started = Jobs(ADDRESS).submit(tiny)
        assert (job.status, started) == (status, False)

    def test_a_failed_run_is_taken_up_on_request_into_the_same_directory(
        self, head: FakeDashboard, tiny: Shipment
    ) -> None:
        Jobs(ADDRESS).submit(tiny)
        head.end(tiny.run_id, "FAILED", 4)
        job, started = Jobs(ADDRESS).submit(tiny, resume=True)
        assert started
        assert (job.id, job.run_id, job.out) == (f"{tiny.run_id}.2", tiny.run_id, tiny.out)
        assert head.shipped[0]["entrypoint"] == head.shipped[1]["entrypoint"]
        assert Jobs(ADDRESS).get(tiny.run_id) == job

    def test_a_run_that_succeeded_cannot_be_taken_up(
        self, head: FakeDashboard, tiny: Shipment
    ) -> None:
        Jobs(ADDRESS).submit(tiny)
        head.end(tiny.run_id, "SUCCEEDED", 0)
        job, started = Jobs(ADDRESS).submit(tiny, resume=True)
        assert (job.status, started) == ("SUCCEEDED", False)

    def test_a_run_id_belongs_to_one_experiment(
        self, head: FakeDashboard, experiment: Path
    ) -> None:
        Jobs(ADDRESS).submit(prepare(experiment, run_id="mine"))
        other = prepare(experiment, ("requests.per_block=7",), run_id="mine")
        elsewhere = prepare(experiment, run_id="mine", out="/mnt/elsewhere")
        for shipment_ in (other, elsewhere):
            with pytest.raises(ConfigError, match="another experiment or another --out"):
                Jobs(ADDRESS).submit(shipment_)

    def test_two_who_submit_the_same_run_at_once_share_one_job(
        self, head: FakeDashboard, tiny: Shipment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def overtaken(**_: Any) -> None:
            head.add(tiny.run_id, metadata=tiny.metadata)
            raise RuntimeError(f"Job with submission_id {tiny.run_id} already exists.")

        monkeypatch.setattr(head, "submit_job", overtaken)
        job, started = Jobs(ADDRESS).submit(tiny)
        assert (job.id, started) == (tiny.run_id, False)

    def test_a_head_that_has_just_started_is_waited_for(
        self, head: FakeDashboard, tiny: Shipment
    ) -> None:
        head.refusals = ["500: No available agent to submit job, please try again later.."] * 2
        assert Jobs(ADDRESS).submit(tiny)[1]

    def test_a_head_whose_agent_never_comes_up_is_explained(
        self, head: FakeDashboard, tiny: Shipment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(jobs, "AGENT_S", -1.0)
        head.refusals = ["500: No available agent to submit job, please try again later.."]
        with pytest.raises(UnreachableError, match="port 52365"):
            Jobs(ADDRESS).submit(tiny)

    def test_other_refusals_are_passed_on(self, head: FakeDashboard, tiny: Shipment) -> None:
        head.refusals = ["500: disk full"]
        with pytest.raises(RefusedError, match="disk full"):
            Jobs(ADDRESS).submit(tiny)


class TestJobs:
    def test_only_penchants_jobs_are_listed_in_the_order_of_their_start(
        self, head: FakeDashboard, experiment: Path
    ) -> None:
        head.add("raysubmit_other")
        for run_id in ("zebra", "ant"):
            Jobs(ADDRESS).submit(prepare(experiment, run_id=run_id))
        assert [job.id for job in Jobs(ADDRESS).all()] == ["zebra", "ant"]

    def test_an_unknown_run_is_an_error_that_says_where_to_look(self, head: FakeDashboard) -> None:
        with pytest.raises(ConfigError, match="jobs list"):
            Jobs(ADDRESS).get("nothing")

    @pytest.mark.parametrize(
        ("status", "program", "ours"),
        [
            ("RUNNING", None, None),
            ("SUCCEEDED", 0, 0),
            ("FAILED", 2, 2),
            ("FAILED", 3, 3),
            ("FAILED", 5, 5),
            ("FAILED", 1, 4),  # a crash of Python
            ("FAILED", -9, 4),  # killed
            ("FAILED", None, 4),  # never started
            ("STOPPED", None, 4),
        ],
    )
    def test_the_exit_code_is_that_of_the_run(
        self,
        head: FakeDashboard,
        tiny: Shipment,
        status: str,
        program: int | None,
        ours: int | None,
    ) -> None:
        Jobs(ADDRESS).submit(tiny)
        head.end(tiny.run_id, status, program)
        assert Jobs(ADDRESS).get(tiny.run_id).exit_code == ours

    def test_a_broken_log_stream_is_taken_up_without_repeating(
        self, head: FakeDashboard, tiny: Shipment
    ) -> None:
        Jobs(ADDRESS).submit(tiny)
        head.streams = [
            ["one\ntwo", RuntimeError("connection closed")],
            [ConnectionResetError("reset")],
            ["one\n", "two\nthree\n"],
        ]
        printed: list[str] = []
        job = Jobs(ADDRESS).follow(tiny.run_id, printed.append)
        assert "".join(printed) == "one\ntwo\nthree\n"
        assert (job.status, job.exit_code) == ("SUCCEEDED", 0)

    def test_a_stream_that_stays_broken_does_not_stop_the_job(
        self, head: FakeDashboard, tiny: Shipment
    ) -> None:
        Jobs(ADDRESS).submit(tiny)
        head.streams = [[RuntimeError("gone")] for _ in range(jobs.STREAM_TRIES)]
        with pytest.raises(UnreachableError, match="logs .* --follow"):
            Jobs(ADDRESS).follow(tiny.run_id, print)
        assert head.jobs[tiny.run_id].status == JobStatus.RUNNING

    def test_a_reader_who_leaves_ends_the_following(
        self, head: FakeDashboard, tiny: Shipment
    ) -> None:
        Jobs(ADDRESS).submit(tiny)
        head.streams = [["one\n"]]

        def leave(_: str) -> None:
            raise BrokenPipeError("reader left")

        with pytest.raises(BrokenPipeError, match="reader left"):
            Jobs(ADDRESS).follow(tiny.run_id, leave)

    def test_stop_ends_a_job_and_leaves_an_ended_one_alone(
        self, head: FakeDashboard, tiny: Shipment
    ) -> None:
        Jobs(ADDRESS).submit(tiny)
        assert Jobs(ADDRESS).stop(tiny.run_id).status == "STOPPED"
        head.end(tiny.run_id, "SUCCEEDED", 0)
        assert Jobs(ADDRESS).stop(tiny.run_id).status == "SUCCEEDED"


class TestDashboard:
    @pytest.mark.parametrize("address", ["head:8265", "auto", "ray://head:10001"])
    def test_an_address_of_another_kind_is_refused(self, address: str) -> None:
        with pytest.raises(ConfigError, match="expected that of its dashboard"):
            connect(address)

    def test_a_dashboard_that_is_not_there_fails_in_seconds(self) -> None:
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="No Ray dashboard answers"):
            connect("http://127.0.0.1:9")
        assert time.monotonic() - began < 6

    def test_something_else_that_answers_is_no_dashboard(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(httpx, "get", _answer(200, text="<html>hello</html>"))
        with pytest.raises(UnreachableError, match="No Ray dashboard answers"):
            connect(ADDRESS)

    def test_a_missing_token_is_explained(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(httpx, "get", _answer(200, json={"authentication_mode": "token"}))
        monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
        with pytest.raises(UnreachableError, match="Set RAY_AUTH_MODE=token"):
            connect(ADDRESS)

    @pytest.mark.parametrize("version", ["2.59.1", "3.0.0", ""])
    def test_another_ray_is_refused(self, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
        monkeypatch.setattr(httpx, "get", _answer(200, json={"authentication_mode": "disabled"}))
        client = SimpleNamespace(_server_ray_version=version)
        monkeypatch.setattr(dashboard, "JobSubmissionClient", lambda _: client)
        with pytest.raises(UnreachableError, match="as installed here"):
            connect(ADDRESS)

    def test_the_given_address_wins_over_rays_variables(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[str | None] = []

        def client(_: str) -> Any:
            seen.append(os.environ.get("RAY_API_SERVER_ADDRESS"))
            return SimpleNamespace(_server_ray_version=dashboard.ray.__version__)

        monkeypatch.setattr(httpx, "get", _answer(200, json={"authentication_mode": "disabled"}))
        monkeypatch.setattr(dashboard, "JobSubmissionClient", client)
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://elsewhere:8265")
        connect(ADDRESS)
        assert seen == [ADDRESS]
        assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://elsewhere:8265"

    def test_a_connection_that_breaks_is_unreachable(self) -> None:
        with pytest.raises(UnreachableError, match="stopped answering"), explain_failures(ADDRESS):
            raise ConnectionResetError("reset")


def _answer(status: int, **content: Any) -> Any:
    return lambda url, **_: httpx.Response(status, request=httpx.Request("GET", url), **content)


def test_all_public_names_are_listed() -> None:
    assert set(shipment.__all__) == {"EXPERIMENT_FILE", "Packed", "Shipment", "pack", "prepare"}
