"""The service directory: what outlives the process that serves.

endpoint.json      where it listens, and on which Ray
traffic.json       which versions are live, and what each gets: the front follows this file. It
                   stays when the service stops: what was live last is what a start goes on with
versions.jsonl     every change of that, with its time
serving.lock       held by the process that serves
changing.lock      held by the verb that changes what is live
versions/          artefacts of what is live, as they were when they were deployed
keys.json  users.sqlite  feedback-*.sqlite  predictions/
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from penchant.platform.errors import ConfigError, DataError
from penchant.platform.store import write_json
from penchant.serve.answering.places import Layout, Place
from penchant.serve.gate.keys import KeyRing

__all__ = ["STARTS_S", "VERSION_APP", "Endpoint", "Live", "Service", "Traffic"]

#: A service that answers says where it is at the latest after these.
STARTS_S = 10.0

#: How the name of every Serve application begins that holds the members of a version.
VERSION_APP = "version-"


class Live(BaseModel):
    """A version whose members run, in a layout: in two, it runs twice."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    directory: str = Field(description="The artefact that its processes open.")
    source: str = Field(description="The directory that was deployed, whatever it holds by now.")
    layout: Layout
    places: list[Place]

    @model_validator(mode="before")
    @classmethod
    def _kept_nowhere(cls, told: Any) -> Any:
        """What was written before versions were kept: they run where they were deployed."""
        if isinstance(told, dict) and "directory" in told:
            return {"source": told["directory"], **told}
        return told

    @property
    def name(self) -> str:
        """Tells it from others, the same version in another layout too."""
        return f"{self.version}-{self.layout.placement}-{self.layout.engine}"

    @property
    def app(self) -> str:
        """Name of its Serve application."""
        return f"{VERSION_APP}{self.name}"


class Traffic(BaseModel):
    """Which version gets what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    primary: Live
    canary: Live | None = None
    canary_share: float = Field(default=0.0, ge=0, le=1)
    shadow: Live | None = None
    previous: Live | None = Field(default=None, description="What a rollback returns to.")

    def lives(self) -> list[Live]:
        """Every version that must run."""
        every = (self.primary, self.canary, self.shadow, self.previous)
        return list({live.app: live for live in every if live is not None}.values())


class Endpoint(BaseModel):
    """Where a service is reached."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    ray_address: str
    pid: int
    cpus_per_replica: float
    max_replicas: int


class Service:
    """A service directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()

    def has_keys(self) -> bool:
        """Whether anybody was given a key."""
        return bool(KeyRing(self.directory).stored())

    @property
    def versions(self) -> Path:
        return self.directory / "versions"

    @property
    def users(self) -> Path:
        return self.directory / "users.sqlite"

    @property
    def examples(self) -> Path:
        return self.directory / "examples.json"

    @property
    def traffic_file(self) -> Path:
        return self.directory / "traffic.json"

    def traffic(self) -> Traffic | None:
        """What is live; None where nothing was deployed.

        Raises:
            DataError: the file is not as it was written.
        """
        if not self.traffic_file.is_file():
            return None
        try:
            return Traffic.model_validate_json(self.traffic_file.read_bytes())
        except ValidationError as error:
            raise DataError(
                f"{self.traffic_file} is not as Penchant writes it ({error.error_count()} fields): "
                "expected what this Penchant has written. `penchant serve run RUN_DIR --service "
                f"{self.directory} --replace` writes it anew."
            ) from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Serve from this directory, for the length of a `with`; nobody else may meanwhile.

        Raises:
            ConfigError: another process does.
        """
        with self._held(
            "serving.lock",
            f"{self.directory} is served by another process: expected a service directory of its "
            f"own for each service. `penchant serve status --service {self.directory}` says where; "
            "stop that one, or name another directory with --service.",
        ):
            yield

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Change what is live, for the length of a `with`; nobody else may meanwhile.

        Raises:
            ConfigError: another process does.
        """
        with self._held(
            "changing.lock",
            f"another `penchant serve deploy` or `rollback` of {self.directory} is under way: "
            "expected one at a time. Wait until it has ended.",
        ):
            yield

    def _is_served(self) -> bool:
        """Whether a process serves from this directory, or is about to."""
        try:
            with (self.directory / "serving.lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    @contextmanager
    def _held(self, name: str, refusal: str) -> Iterator[None]:
        """The system lets go of a lock when its process ends, however it ends."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / name).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(refusal) from None
            yield

    def switch(self, traffic: Traffic, action: str) -> None:
        """Let the front follow another split of the traffic, and note it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        told = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "action": action}
        told |= {
            role: live.name
            for role in ("primary", "canary", "shadow", "previous")
            if (live := getattr(traffic, role)) is not None
        }
        with (self.directory / "versions.jsonl").open("a") as log:
            log.write(json.dumps(told) + "\n")
        write_json(self.traffic_file, traffic.model_dump(mode="json"))

    def history(self) -> list[dict[str, Any]]:
        """Every switch, oldest first."""
        path = self.directory / "versions.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def announce(self, endpoint: Endpoint) -> None:
        """Say where the service is reached."""
        self.directory.mkdir(parents=True, exist_ok=True)
        write_json(self.directory / "endpoint.json", endpoint.model_dump(mode="json"))

    def retire(self) -> None:
        """Nothing listens any more; what was live last stays known."""
        (self.directory / "endpoint.json").unlink(missing_ok=True)

    def serves(self, endpoint: Endpoint) -> bool:
        """Whether the process that announced this endpoint still serves there."""
        try:
            return self.endpoint() == endpoint and psutil.pid_exists(endpoint.pid)
        except (ConfigError, OSError):
            return False

    def endpoint(self, patience_s: float = 0.0) -> Endpoint:
        """Where the service is reached.

        Args:
            patience_s: how long to wait for a service that is starting: it answers a moment before
                it says where it is.

        Raises:
            ConfigError: none runs.
        """
        path = self.directory / "endpoint.json"
        until_s = time.monotonic() + patience_s
        while not path.is_file() and self._is_served() and time.monotonic() < until_s:
            time.sleep(0.1)
        if not path.is_file():
            raise ConfigError(
                f"{self.directory} holds no running service: expected an endpoint.json, which "
                "`penchant serve run RUN_DIR --service DIR` writes. Start one, or name another "
                "directory with --service."
            )
        return Endpoint.model_validate_json(path.read_bytes())
