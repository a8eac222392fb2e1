"""A service as a file, on a Ray that is not ours: Serve's own command starts it, and it answers."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from penchant.serve.answering.card import version_of
from penchant.serve.gate.proxy import serve_variables

from .ray_head import Head, free_ports, running_head

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.alone]

BODY = {"history": [{"item": "p1", "time": "2024-01-03"}], "candidates": ["p1", "p2", "p3"]}
START_S = 240.0


def until_ready(client: httpx.Client, head: Head) -> None:
    """Serve says that it has the file at once; starting takes its time."""
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    pytest.fail(head.command("serve", "status", "--address", head.address).stdout)


@pytest.mark.long
def test_a_service_of_a_file_answers_those_with_a_key(
    artefacts: dict[str, Path], tmp_path: Path
) -> None:
    service, file = ["--service", str(tmp_path / "service")], tmp_path / "service.yaml"
    (port,) = free_ports(1)
    with (
        running_head(num_cpus=6, variables=serve_variables(tmp_path / "service")) as head,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        key = head.penchant("serve", "key", "add", "shop", *service).stdout.strip()
        words = (str(artefacts["old"]), *service, "--out", str(file), "--port", str(port))
        built = head.penchant("serve", "build", *words)
        assert built.returncode == 0, built.stderr
        deployed = head.command("serve", "deploy", "--address", head.address, str(file))
        assert deployed.returncode == 0, deployed.stderr
        until_ready(client, head)
        assert client.post("/v1/score", json=BODY).status_code == 401
        headers = {"authorization": f"Bearer {key}", "x-deadline-ms": "9000"}
        answer = client.post("/v1/score", json=BODY, headers=headers)
        assert answer.status_code == 200, answer.text
        said = answer.json()
    assert (said["version"], said["degraded"]) == (version_of(artefacts["old"]), False)
    assert {result["item"] for result in said["results"]} == {"p1", "p2", "p3"}
