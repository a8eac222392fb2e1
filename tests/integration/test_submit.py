"""Submit to a real head, started and used the way its users do it, with token authentication."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .ray_head import Head, free_ports, running_head

pytestmark = [pytest.mark.slow, pytest.mark.integration]

EXPERIMENT = """
name: tiny
data:
  events:
    paths: [{events}]
    columns: {{user: user, item: item, time: time}}
time:
  dates: {{select: 2024-01-11, blend: 2024-01-16, test: 2024-01-21}}
members: [{{kind: popularity}}]
"""
SLEEP = """
from pathlib import Path
import sys
from penchant.platform.jobs import Jobs
from penchant.platform.shipment import prepare
sleeper = prepare(Path(sys.argv[2]), run_id="sleeper", entrypoint="echo asleep && sleep 600")
Jobs(sys.argv[1]).submit(sleeper)
"""


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with running_head(num_cpus=2) as started:
        yield started


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three users, five items, one event of each user a day for 25 days."""
    folder = tmp_path_factory.mktemp("experiment")
    rows = [f"u{u},i{(u + day) % 5},2024-01-{day:02}" for u in range(3) for day in range(1, 26)]
    (folder / "events.csv").write_text("\n".join(["user,item,time", *rows, ""]))
    path = folder / "tiny.yaml"
    path.write_text(EXPERIMENT.format(events=folder / "events.csv"))
    return path


def test_a_run_on_the_cluster_streams_its_log_and_leaves_its_report(
    head: Head, experiment: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("submit", str(experiment), "--run-id", "good", "--out", str(out))
    run = head.penchant(*words)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Running entrypoint for job good: python -m penchant.cli.main run" in run.stdout
    assert run.stdout.endswith(f"good succeeded; results on the cluster in {out}\n")
    report = json.loads((out / "report" / "report.json").read_text())
    assert [member["kind"] for member in report["members"]] == ["popularity"]

    again = head.penchant(*words)
    assert again.returncode == 0
    assert "has ended before: succeeded" in again.stderr
    assert [job["id"] for job in head.json("jobs", "list") if job["run_id"] == "good"] == ["good"]


def test_a_run_that_fails_on_the_cluster_fails_here(
    head: Head, experiment: Path, tmp_path: Path
) -> None:
    missing = f"data.events.paths=[{tmp_path}/missing.csv]"
    words = ("submit", str(experiment), "--set", missing, "--run-id", "bad", "--json")
    run = head.penchant(*words, "--out", str(tmp_path / "out"))
    job = json.loads(run.stdout)
    assert run.returncode == job["exit_code"]
    assert run.returncode in (2, 3)
    assert job["status"] == "FAILED"
    assert "missing.csv" in run.stderr  # the log, kept apart from the JSON


def test_ctrl_c_stops_following_and_stop_stops_the_job(head: Head, experiment: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", SLEEP, head.address, str(experiment)],
        env=head.environment,
        check=True,
        capture_output=True,
    )
    follow = [sys.executable, "-m", "penchant.cli.main", "jobs", "logs", "sleeper", "--follow"]
    with subprocess.Popen(
        follow, env=head.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as follower:
        assert follower.stdout is not None
        while "asleep" not in (line := follower.stdout.readline()) or "echo" in line:
            assert line, "the log ended"
        follower.send_signal(signal.SIGINT)
        _, said = follower.communicate(timeout=20)
    assert follower.returncode == 130
    assert "Detached: sleeper goes on" in said
    assert head.json("jobs", "status", "sleeper")["status"] == "RUNNING"
    stopped = head.json("jobs", "stop", "sleeper")
    assert (stopped["status"], stopped["exit_code"]) == ("STOPPED", 4)


def test_without_its_token_the_cluster_is_out_of_reach(head: Head) -> None:
    stranger = Head(head.address, head.environment | {"RAY_AUTH_TOKEN": secrets.token_hex(16)})
    said = stranger.penchant("jobs", "list")
    assert said.returncode == 5
    assert "RAY_AUTH_MODE=token" in said.stderr


def test_an_address_where_nobody_answers_fails_in_seconds(experiment: Path) -> None:
    (port,) = free_ports(1)
    nowhere = Head(f"http://127.0.0.1:{port}", dict(os.environ))
    began = time.monotonic()
    said = nowhere.penchant("submit", str(experiment), "--address", nowhere.address)
    assert time.monotonic() - began < 10
    assert said.returncode == 5
    assert "No Ray dashboard answers" in said.stderr
