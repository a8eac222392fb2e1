"""A service that a drill may hurt: started as its users start it, with its processes by name."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

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

    def memory_mb(self) -> float:
        """What all processes of Ray hold; what they share counts for each of them."""
        return sum(process.memory_info().rss for process in self.replicas("ray::")) / 1e6

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
            answer = self.ask(body)
            if answer.status_code == 200 and holds(answer.json()):
                return time.monotonic() - began
            time.sleep(0.05)
        return float("inf")


@contextmanager
def served(
    directory: Path, service: Path, *words: str, prefix: Sequence[str] = PENCHANT
) -> Iterator[Served]:
    """Serve an ensemble for the length of a `with`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [*prefix, "serve", "run", str(directory), "--port", str(port)]
    command += ["--service", str(service), *words]
    # A group of its own, to be killed, but not a session, as in peers/servers.py.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, process_group=0)
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, timeout=30) as client:
        try:
            _wait(client, process)
            yield Served(
                url=url, service=service, directory=directory, process=process, client=client
            )
        finally:
            if process.poll() is None:
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for child in psutil.Process(process.pid).children(recursive=True):
        if child.is_running() and child.status() == psutil.STATUS_STOPPED:
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
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"the service was not ready within {_START_S:.0f} s")


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return ""
