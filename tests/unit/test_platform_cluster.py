"""What a machine offers, how Ray's address is read, and that cluster.yaml is a cluster."""

from __future__ import annotations

import copy
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from ray.autoscaler._private.util import prepare_config, validate_config
from ruamel.yaml import YAML

from penchant.platform.cluster import cpu_budget, environment, start_ray
from penchant.platform.errors import ConfigError, RunError, UnreachableError

ROOT = Path(__file__).resolve().parents[2]


def _groups(root: Path, own: str, files: dict[str, str]) -> dict[str, Path]:
    """A made-up /sys/fs/cgroup and /proc/self/cgroup."""
    for name, text in files.items():
        path = root / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "own").write_text(own)
    return {"cgroups": root / "cgroup", "own": root / "own"}


@pytest.fixture
def sixteen_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


@pytest.mark.usefixtures("sixteen_cpus")
class TestBudget:
    def test_without_limits_it_is_the_machine(self, tmp_path: Path) -> None:
        groups = _groups(tmp_path, "0::/\n", {"cpu.max": "max 100000\n", "memory.max": "max\n"})
        budget = cpu_budget(**groups)
        assert budget.cpus == 16
        assert budget.memory_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    @pytest.mark.parametrize(
        ("quota", "cpus"), [("350000 100000", 3), ("50000 100000", 1), ("9900000 100000", 16)]
    )
    def test_a_quota_counts_in_whole_cpus_and_at_least_one(
        self, tmp_path: Path, quota: str, cpus: int
    ) -> None:
        assert cpu_budget(**_groups(tmp_path, "0::/\n", {"cpu.max": quota})).cpus == cpus

    def test_the_narrowest_group_above_counts(self, tmp_path: Path) -> None:
        files = {
            "cpu.max": "1200000 100000",
            "pod/cpu.max": "400000 100000",
            "pod/box/cpu.max": "max 100000",
            "pod/memory.max": "3000000",
            "pod/box/memory.max": "2000000",
        }
        budget = cpu_budget(**_groups(tmp_path, "0::/pod/box\n", files))
        assert (budget.cpus, budget.memory_bytes) == (4, 2_000_000)

    def test_version_1_groups_count_too(self, tmp_path: Path) -> None:
        files = {
            "cpu/box/cpu.cfs_quota_us": "200000\n",
            "cpu/box/cpu.cfs_period_us": "100000\n",
            "cpu/cpu.cfs_quota_us": "-1\n",
            "cpu/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": "5000000\n",
        }
        own = "4:memory:/not/seen/in/here\n3:cpu,cpuacct:/box\n0::/\n"
        budget = cpu_budget(**_groups(tmp_path, own, files))
        assert (budget.cpus, budget.memory_bytes) == (2, 5_000_000)

    def test_without_control_groups_it_is_the_machine(self, tmp_path: Path) -> None:
        assert cpu_budget(tmp_path / "none", tmp_path / "none").cpus == 16


def test_the_environment_is_as_before_even_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENCHANT_TEST_KEPT", "before")
    monkeypatch.delenv("PENCHANT_TEST_NEW", raising=False)
    seen = {}

    def fail_inside() -> None:
        with environment({"PENCHANT_TEST_KEPT": "inside", "PENCHANT_TEST_NEW": "inside"}):
            seen.update(os.environ)
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        fail_inside()
    assert seen["PENCHANT_TEST_KEPT"] == seen["PENCHANT_TEST_NEW"] == "inside"
    assert os.environ["PENCHANT_TEST_KEPT"] == "before"
    assert "PENCHANT_TEST_NEW" not in os.environ


@pytest.mark.parametrize("address", ["http://head:8265", "ray://head:10001", "head"])
def test_an_address_that_ray_cannot_join_is_refused(address: str) -> None:
    with (
        pytest.raises(ConfigError, match="expected `auto`, `local` or host:port"),
        start_ray(address=address),
    ):
        pass


def test_a_cluster_that_is_not_there_fails_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but nobody listens
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{unused.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="No Ray cluster answers"), start_ray():
            pass
    assert time.monotonic() - began < 6


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "cluster.yaml")
    return found


def test_cluster_yaml_is_what_ray_up_accepts(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(copy.deepcopy(cluster)))  # jsonschema and Ray's own rules


def test_cluster_yaml_keeps_drivers_off_spot_nodes_and_tasks_off_the_head(
    cluster: dict[str, Any],
) -> None:
    nodes = cluster["available_node_types"]
    head = nodes[cluster["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert {name: node["labels"]["market-type"] == "spot" for name, node in nodes.items()} == {
        name: "InstanceMarketOptions" in node["node_config"] for name, node in nodes.items()
    }
    assert [n for n, node in nodes.items() if node["labels"]["market-type"] == "spot"] == [
        "gpu-spot"
    ]


def test_cluster_yaml_runs_the_ray_that_penchant_requires(cluster: dict[str, Any]) -> None:
    images = [cluster["docker"]["image"]] + [
        node["docker"]["worker_image"]
        for node in cluster["available_node_types"].values()
        if "docker" in node
    ]
    assert all(image.startswith("rayproject/ray:2.60.0-py311") for image in images)
    assert '"ray[default,serve,train,tune]>=2.60,<2.61"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("late", [1, 2])
def test_a_ray_that_is_late_is_started_again_and_then_told(
    monkeypatch: pytest.MonkeyPatch, late: int
) -> None:
    begun: list[str] = []

    def init(**settings: Any) -> None:
        begun.append(settings["address"])
        if len(begun) <= late:
            raise Exception("The current node timed out during startup. This could happen because")
        raise ZeroDivisionError("it has started")  # which ends this test: there is no Ray to use

    monkeypatch.setattr("ray.init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    expected = {1: (ZeroDivisionError, "it has started"), 2: (RunError, "is busy with other work")}
    error, message = expected[late]
    with pytest.raises(error, match=message), start_ray(num_cpus=1):
        pass
    assert begun == ["local", "local"]
