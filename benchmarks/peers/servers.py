"""Starts and stops the servers that are compared, each in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import httpx
import psutil

from penchant.platform.errors import RunError
from penchant.serve.run import free_port

_HERE = Path(__file__).parent
_START_S, _STOP_S = 240.0, 60.0
HAS_LITSERVE = find_spec("litserve") is not None


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that answers."""

    name: str
    url: str
    pid: int
    start_s: float


def _command(name: str, directory: Path, port: int) -> list[str]:
    where = [str(directory), str(port)]
    match name:
        case "penchant" | "together" | "int8":
            verb = ["-m", "penchant.cli.main", "serve", "run", str(directory), "--port", str(port)]
            layout = [] if name == "penchant" else ["--placement", "together"]
            engine = ["--engine", "onnx-int8"] if name == "int8" else []
            return [sys.executable, *verb, *layout, *engine]
        case "fastapi":
            return [sys.executable, str(_HERE / "plain_fastapi.py"), *where]
        case "litserve":
            return [sys.executable, str(_HERE / "batched_litserve.py"), *where]
    raise ValueError(f"no server is called {name}")


@contextmanager
def running(name: str, directory: Path) -> Iterator[Server]:
    """A server of an artefact for the length of a `with`.

    Args:
        name: penchant (its default layout), together (all members in each of two processes),
            int8 (that, in eight-bit integers), fastapi or litserve.

    Raises:
        RunError: it ended, or did not answer in time.
    """
    port = free_port()
    log = directory.parent.parent / f"{name}-{directory.name}.log"
    began = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            _command(name, directory, port),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # A group of its own, to be stopped, but not a session: Linux shares the CPUs by session
            # (sched_autogroup), and a load from another one waits for half a second at a time.
            process_group=0,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        ready = f"{url}/healthz" if name in ("fastapi", "litserve") else f"{url}/readyz"
        _wait(process, ready, log)
        yield Server(name=name, url=url, pid=process.pid, start_s=time.monotonic() - began)
    finally:
        _stop(process)


def _wait(process: subprocess.Popen[bytes], ready: str, log: Path) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        with suppress(httpx.HTTPError):
            if httpx.get(ready, timeout=2.0).status_code == 200:
                return
        time.sleep(0.2)
    raise RunError(
        f"{ready} does not answer, expected 200 within {_START_S:.0f} s. "
        f"It said: {log.read_text()[-2000:]}"
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C, as its users stop it; what does not end by itself is ended, with what it started."""
    if process.poll() is not None:
        return
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
    _, alive = psutil.wait_procs(started, timeout=5.0)
    for child in alive:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    if process.poll() is None:
        process.kill()
        process.wait()
