"""The Ray that everything runs on: a private one on this machine, or a cluster that is named."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from penchant.platform.errors import ConfigError, RunError, UnreachableError

__all__ = ["Budget", "Cluster", "cpu_budget", "environment", "stand_at", "start_ray"]

#: Seconds that a cluster's address has to accept a connection; Ray itself would try for minutes.
REACH_S = 5.0
#: How often a private Ray is started: on a busy machine its node is not up in time.
_TRIES = 2

# Ray's sockets lie about 65 characters below its temporary directory, and AF_UNIX paths end at 107.
_LONGEST_TEMP_DIR = 24

_WORKERS = {
    "POLARS_MAX_THREADS": "1",  # every task would otherwise start a thread on each core
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "RAY_TRAIN_V2_ENABLED": "1",
    # The controller looks at its workers every 2 s by default, which adds seconds to short trials.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # Workers that start beside other work need more than the default 60 s.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    # Processes that asked for no GPU see none: unset, Ray lets them see all of the node's.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    # Unset, a rank that misses a report makes all others wait for ever.
    "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": "1800",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """The Ray that this process is connected to."""

    cpus: int
    gpus: int
    private: bool  # started here, gone at the end


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What this process may use of this machine."""

    cpus: int
    memory_bytes: int


@contextmanager
def start_ray(
    *,
    address: str | None = None,
    num_cpus: int | None = None,
    keep_logs_in: Path | None = None,
) -> Iterator[Cluster]:
    """A Ray for the length of a `with`; the only place where Penchant connects to one.

    A private Ray passes its settings on through the environment that its processes inherit: with
    none in the runtime environment, each actor starts 0.4 s sooner. On a cluster they travel as
    the job's runtime environment, the same for all workers, so that processes can be reused.
    What the user has set in the environment wins. A process that has a Ray already keeps it.

    Args:
        address: `auto` or `host:port` of a running cluster, `local` for a private Ray. By default
            `RAY_ADDRESS`, which is set inside a submitted job, and without one a private Ray.
        num_cpus: CPUs of a private Ray, by default all that this process may use.
        keep_logs_in: where a private Ray's worker logs are copied when the body fails.

    Raises:
        ConfigError: the address is one that only `penchant submit` can use.
        RunError: a private Ray does not start.
        UnreachableError: no cluster answers there.
    """
    import ray  # here, since it takes half a second that the rest of this module does not need

    if ray.is_initialized():
        yield _describe(private=False)
        return
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    start = _private_ray(num_cpus, keep_logs_in) if where == "local" else _attached_ray(where)
    with start as cluster:
        yield cluster


@contextmanager
def _private_ray(num_cpus: int | None, keep_logs_in: Path | None) -> Iterator[Cluster]:
    import ray

    temp = Path(tempfile.mkdtemp(prefix="pn-", dir=_short_temp_root()))
    try:
        with environment(_for_workers(on_cpu=not _has_gpu())):
            _init_patiently(num_cpus or cpu_budget().cpus, temp)
        yield _describe(private=True)
    except Exception:
        if keep_logs_in is not None:
            for logs in temp.glob("session_2*/logs"):  # not the link `session_latest`
                shutil.copytree(logs, keep_logs_in, dirs_exist_ok=True)
        raise
    finally:
        ray.shutdown()
        shutil.rmtree(temp, ignore_errors=True)


def _init_patiently(num_cpus: int, temp: Path) -> None:
    """Start a private Ray; once more where its node was not up within the 30 s that Ray waits.

    What the first try has started ends with this process.
    """
    import ray

    for _ in range(_TRIES):
        try:
            ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=_quiet_level(),
                _temp_dir=str(temp),
            )
        except Exception as error:  # Ray has no class of its own for this one
            if "timed out during startup" not in str(error):
                raise
        else:
            return
    raise RunError(
        f"Ray's node did not start within 30 s, {_TRIES} times; expected less than ten. The "
        "machine is busy with other work, or short of memory: run the command again when there is "
        "less of it."
    )


@contextmanager
def _attached_ray(address: str) -> Iterator[Cluster]:
    import ray

    _reach(address)
    # DeepSpeed finds the accelerator of each node by itself: a cluster has nodes of several kinds.
    variables = _for_workers(on_cpu=False) | {
        # A node that the autoscaler has yet to start needs longer still.
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "900",
    }
    try:
        # A job may have been submitted with some of these; ours hold the same values, so no harm.
        with environment({"RAY_OVERRIDE_JOB_RUNTIME_ENV": "1"}):
            ray.init(
                address=address,
                runtime_env={"env_vars": variables},
                log_to_driver=False,
                logging_level=_quiet_level(),
            )
        yield _describe(private=False)
    finally:
        ray.shutdown()


def _describe(*, private: bool) -> Cluster:
    import ray

    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray's lack
    return Cluster(
        cpus=int(resources.get("CPU", 0)), gpus=int(resources.get("GPU", 0)), private=private
    )


def _reach(address: str) -> None:
    """Fail in seconds where Ray would try for minutes."""
    if address == "auto":
        from ray._private.services import find_bootstrap_address

        address = find_bootstrap_address(None) or ""
        if not address:
            raise UnreachableError(
                "No Ray cluster runs on this machine, and address `auto` expects one. "
                "Start it with `ray start --head`, or leave the address out for a private Ray."
            )
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not port.isdigit():
        raise ConfigError(
            f"Ray's address is {address!r}, expected `auto`, `local` or host:port of the head "
            "(usually port 6379). To use a cluster from outside, `penchant submit` the experiment."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
    except OSError as error:
        raise UnreachableError(
            f"No Ray cluster answers at {address} ({error}). Check the address and the network, "
            "or unset RAY_ADDRESS for a private Ray."
        ) from error


def _for_workers(*, on_cpu: bool) -> dict[str, str]:
    variables = _WORKERS | ({"DS_ACCELERATOR": "cpu"} if on_cpu else {})
    return {name: os.environ.get(name, value) for name, value in variables.items()}


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the length of a `with`."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _short_temp_root() -> str:
    root = tempfile.gettempdir()
    return root if len(root) <= _LONGEST_TEMP_DIR else "/tmp"


def _quiet_level() -> int:
    """Ray's log level; its notice that token authentication is on is no warning to our users."""
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(
        logging.ERROR
    )
    return logging.WARNING


def _has_gpu() -> bool:
    from ray._private.accelerators import AMDGPUAcceleratorManager, NvidiaGPUAcceleratorManager

    for manager in (NvidiaGPUAcceleratorManager, AMDGPUAcceleratorManager):
        hidden = manager.get_current_process_visible_accelerator_ids() == []
        if not hidden and manager.get_current_node_num_accelerators() > 0:
            return True
    return False


def stand_at(directory: str) -> None:
    """Let relative paths mean in a worker what they mean where its work was asked for.

    Ray Train puts its workers into a directory of their own, and a cluster's stand where it was
    started. On a machine that has no such directory absolute paths alone can mean anything.
    """
    if Path(directory).is_dir():
        os.chdir(directory)


def cpu_budget(
    cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> Budget:
    """What this process really has: what the machine, its affinity and its cgroups leave.

    A share of a CPU counts as nothing, except that there is always one.

    Args:
        cgroups: where control groups are mounted, version 1 or 2.
        own: the file that names this process's groups.
    """
    allowed = getattr(os, "sched_getaffinity", None)  # Linux only
    cpus = float(len(allowed(0)) if allowed else os.cpu_count() or 1)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for group in _groups(cgroups, own):
        quota = _words(group / "cpu.max") or [
            *_words(group / "cpu.cfs_quota_us"),
            *_words(group / "cpu.cfs_period_us"),
        ]
        if len(quota) == 2 and quota[0].isdigit():  # `max` or -1: no limit
            cpus = min(cpus, int(quota[0]) / int(quota[1]))
        for limit in _words(group / "memory.max") + _words(group / "memory.limit_in_bytes"):
            if limit.isdigit():
                memory = min(memory, int(limit))
    return Budget(cpus=max(1, int(cpus)), memory_bytes=memory)


def _groups(cgroups: Path, own: Path) -> Iterator[Path]:
    """Directories of the process's groups and of all groups above them."""
    for line in own.read_text().splitlines() if own.exists() else []:
        _, controllers, path = line.split(":", 2)
        for controller in {"", "cpu", "memory"}.intersection(controllers.split(",")):
            root = cgroups / controller
            group = root / path.lstrip("/")
            yield from (place for place in (group, *group.parents) if place.is_relative_to(root))


def _words(path: Path) -> list[str]:
    return path.read_text().split() if path.is_file() else []
