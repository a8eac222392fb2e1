"""A Ray head of its own, started and used the way its users do it, with token authentication."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

__all__ = ["Head", "free_ports", "running_head"]


@dataclass(frozen=True)
class Head:
    """A running head, and the environment of those who may use it."""

    address: str
    environment: dict[str, str]

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            words, env=self.environment, capture_output=True, text=True, timeout=120
        )

    def penchant(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command line to its end."""
        return self.command(sys.executable, "-m", "penchant.cli.main", *words)

    def json(self, *words: str) -> Any:
        """What the command line prints for machines."""
        said = self.penchant(*words, "--json")
        assert said.returncode == 0, said.stderr
        return json.loads(said.stdout)


@contextmanager
def running_head(num_cpus: int, variables: Mapping[str, str] | None = None) -> Iterator[Head]:
    """A head for the length of a `with`; its processes inherit these variables too."""
    gcs, dashboard, agent, client = free_ports(4)
    temp = tempfile.mkdtemp(prefix="pn-", dir="/tmp")  # Ray's sockets need a short path
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # jobs start `python`
    private = {name for name in os.environ if name.startswith("RAY_")}
    environment = {name: value for name, value in os.environ.items() if name not in private} | {
        "PATH": path,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
        **(variables or {}),
    }
    command = ["ray", "start", "--head", "--block", "--include-dashboard=true"]
    options = {
        "num-cpus": num_cpus,
        "port": gcs,
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,  # else taken from any other Ray of this machine
        "ray-client-server-port": client,
        "temp-dir": temp,
        "object-store-memory": 200_000_000,
    }
    command += ["--disable-usage-stats", *(f"--{name}={text}" for name, text in options.items())]
    with (
        open(f"{temp}/head.log", "w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            _wait_for(environment["RAY_API_SERVER_ADDRESS"], process)
            yield Head(environment["RAY_API_SERVER_ADDRESS"], environment)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            shutil.rmtree(temp, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports on which nothing listens at the moment, all different."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{address}/api/authentication_mode", timeout=2).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise TimeoutError(f"no dashboard at {address}; the head's exit code is {process.poll()}")
