"""A private Ray serves its workers, and leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.integration]

BODY = """
import json, os, pathlib, sys, time
from penchant.platform.cluster import start_ray

before = dict(os.environ)
with start_ray(num_cpus=2, keep_logs_in=pathlib.Path("logs")) as cluster:
    import ray

    @ray.remote
    def settings():
        return dict(os.environ)

    with start_ray() as nested:
        workers = ray.get(settings.remote())
    print(json.dumps({
        "cpus": cluster.cpus,
        "private": [cluster.private, nested.private],
        "workers": workers,
        "changed": sorted(k for k in os.environ if before.get(k) != os.environ[k]),
        "session": ray._private.worker._global_node.get_session_dir_path(),
    }), flush=True)
    {end}
"""


def _start(end: str, folder: Path) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "POLARS_"))}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", BODY.replace("{end}", end)],
        cwd=folder,
        env=environment | {"TRANSFORMERS_VERBOSITY": "info"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_workers_get_the_settings_and_a_failure_keeps_their_logs(tmp_path: Path) -> None:
    with _start("raise ValueError('a failed run')", tmp_path) as process:
        out, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert said.startswith("Traceback")  # Ray itself has said nothing
    assert "ValueError: a failed run" in said
    seen = json.loads(out)
    assert (seen["cpus"], seen["private"]) == (2, [True, False])
    assert (
        seen["workers"].items()
        >= {
            "POLARS_MAX_THREADS": "1",
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
            "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": "1800",
            "TRANSFORMERS_VERBOSITY": "info",  # set by the user, who wins
        }.items()
    )
    assert not [name for name in seen["changed"] if name.startswith(("RAY_TRAIN", "POLARS", "DS_"))]
    assert not Path(seen["session"]).parent.exists()
    assert (tmp_path / "logs" / "raylet.out").exists()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_ray_leaves_neither_processes_nor_files(
    tmp_path: Path, end: signal.Signals
) -> None:
    with _start("time.sleep(60)", tmp_path) as process:
        assert process.stdout is not None
        session = Path(json.loads(process.stdout.readline())["session"])
        process.send_signal(end)
        process.communicate(timeout=60)
    assert process.returncode != 0
    assert not session.parent.exists()
    assert not (tmp_path / "logs").exists()
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if _alive(path)]
    assert not [command for command in running if session.name.encode() in command]


def _alive(path: Path) -> bool:
    try:
        return bool(path.read_bytes())
    except OSError:  # ended while we looked
        return False
