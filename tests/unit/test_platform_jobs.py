"""A run is submitted once, under its id; jobs are followed, listed and stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ray.job_submission import JobDetails, JobStatus, JobType

from penchant.platform import jobs
from penchant.platform.dashboard import RefusedError
from penchant.platform.errors import ConfigError, UnreachableError
from penchant.platform.jobs import Jobs
from penchant.platform.shipment import Shipment, prepare

ADDRESS = "http://head:8265"
EXPERIMENT = """
name: tiny
data:
  events: {paths: [/mnt/events.csv], columns: {user: user, item: item, time: time}}
time: {dates: {select: 2024-01-02, blend: 2024-01-03, test: 2024-01-04}}
members: [{kind: popularity}]
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
        for changed in (other, elsewhere):
            with pytest.raises(ConfigError, match="another experiment or another --out"):
                Jobs(ADDRESS).submit(changed)

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
