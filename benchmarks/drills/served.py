"""A service that a drill may hurt: started as its users start it, with its processes by name."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

__all__ = ["PENCHANT", "Served", "add_key", "alive", "served"]

PENCHANT = [sys.executable, "-W", "ignore", "-m", "penchant.cli.main"]
_START_S = 240.0


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running `penchant serve run`."""

    url: str
    service: Path
    directory: Path
    process: subprocess.Popen[bytes]
    client: httpx.Client

    def replicas(self, part: str) -> list[psutil.Process]:
        """Replica processes whose Ray title holds a text, such as `front` or `version-`."""
        every = psutil.Process(self.process.pid).children(recursive=True)
        return [p for p in every if _title(p).startswith("ray::") and part in _title(p)]

    def members(self) -> list[psutil.Process]:
        """Replicas of members, of every live version."""
        return self.replicas("version-")

    def deployments(self) -> list[str]:
        """Of each replica of members, the deployment: `member-0-text-all`, say."""
        # ray::ServeReplica:APPLICATION:DEPLOYMENT.method, with more before while it starts
        names = (_title(one).partition("ServeReplica:version-")[2] for one in self.members())
        return [name.partition(":")[2].partition(".")[0].strip() for name in names if name]

    def processes(self, name: str) -> list[psutil.Process]:
        """Processes of Ray itself, such as `raylet`."""
        every = psutil.Process(self.process.pid).children(recursive=True)
        return [p for p in every if Path(_title(p).partition(" ")[0]).name == name]

    def metric(self, name: str) -> float:
        """Sum of a metric over all its labels, as `/metrics` tells it; 0 where it is not told."""
        lines = self.client.get("/metrics").text.splitlines()
        told = [line for line in lines if line.startswith((f"ray_{name}", name))]
        return sum(float(line.rpartition(" ")[2]) for line in told)

    def whole(self, body: bytes) -> bool:
        """Whether it answers with all members."""
        try:
            answer = self.ask(body)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200 and not answer.json()["degraded"]

    def memory_mb(self) -> float:
        """What all processes of Ray hold; what they share counts for each of them."""
        return sum(_rss(process) for process in self.replicas("ray::")) / 1e6

    def proxy_mb(self) -> float:
        """What the process holds that all requests come through."""
        return sum(_rss(process) for process in self.replicas("ProxyActor")) / 1e6

    def verb(self, *words: str, good: bool = True) -> subprocess.CompletedProcess[str]:
        """`penchant serve WORDS --service ...`"""
        command = [*PENCHANT, "serve", *words, "--service", str(self.service)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if good != (done.returncode == 0):
            raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr}")
        return done

    def ask(self, body: bytes, path: str = "/v1/recommend", deadline_ms: int = 2000) -> Any:
        headers = {"content-type": "application/json", "x-deadline-ms": str(deadline_ms)}
        return self.client.post(path, content=body, headers=headers)

    def until(self, holds: Callable[[Any], bool], body: bytes, timeout_s: float = 60.0) -> float:
        """Seconds until an answer is as wanted; infinite where it never is."""
        began = time.monotonic()
        while time.monotonic() - began < timeout_s:
            with suppress(httpx.HTTPError):  # where the proxy is down, say
                answer = self.ask(body)
                if answer.status_code == 200 and holds(answer.json()):
                    return time.monotonic() - began
            time.sleep(0.05)
        return float("inf")


@contextmanager
def served(
    directory: Path,
    service: Path,
    *words: str,
    prefix: Sequence[str] = PENCHANT,
    key: str | None = None,
) -> Iterator[Served]:
    """Serve an ensemble for the length of a `with`; `key` is asked with."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [*prefix, "serve", "run", str(directory), "--port", str(port)]
    command += ["--service", str(service), *words]
    # A group of its own, to be killed, but not a session, as in peers/servers.py.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, process_group=0)
    url = f"http://127.0.0.1:{port}"
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, timeout=30, headers=headers) as client:
        try:
            _wait(client, process)
            yield Served(
                url=url, service=service, directory=directory, process=process, client=client
            )
        finally:
            if process.poll() is None:
                _end(process)


def add_key(service: Path, name: str, rate_per_s: float) -> str:
    """Make a key of a service, as its owner does; returns it."""
    command = [*PENCHANT, "serve", "key", "add", name, "--service", str(service)]
    command += ["--rate-per-s", str(rate_per_s), "--burst", str(max(1, round(rate_per_s)))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(f"no key was made: {done.stderr}")
    return done.stdout.strip()


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _end(process: subprocess.Popen[bytes]) -> None:
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            if child.status() == psutil.STATUS_STOPPED:
                child.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def _wait(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the service ended with {process.returncode} while it started")
        with suppress(httpx.HTTPError):
            if client.get("/readyz").status_code == 200:
                return
        time.sleep(0.2)
    raise RuntimeError(f"the service was not ready within {_START_S:.0f} s")


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it has just ended
        return 0


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return ""
