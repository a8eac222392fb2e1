"""What a cluster gets of a run: the resolved experiment, the code, and the command that runs it."""

from __future__ import annotations

import hashlib
import io
import re
import shlex
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ruamel.yaml import YAML

from penchant.platform.beginnings import beginnings
from penchant.platform.config import Experiment, load_experiment
from penchant.platform.errors import ConfigError
from penchant.platform.wheel import build_wheel, unpack_wheel

__all__ = ["EXPERIMENT_FILE", "Packed", "Shipment", "pack", "prepare"]

EXPERIMENT_FILE = "experiment.yaml"

_RUN_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shipment:
    """A run that is ready to be submitted."""

    run_id: str
    experiment: str  # its name
    document: str  # the resolved experiment as YAML
    out: str  # the run directory, on the cluster
    entrypoint: str  # a shell command, in the directory that holds the experiment

    @property
    def fingerprint(self) -> str:
        """Tells experiments apart."""
        return _digest(self.document)

    @property
    def metadata(self) -> dict[str, str]:
        """What the cluster's list of jobs says about the run; no user, no host, no secret."""
        return {
            "project": "penchant",
            "version": version("penchant"),
            "run": self.run_id,
            "experiment": self.experiment,
            "fingerprint": self.fingerprint,
            "out": self.out,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """A shipment's files, in temporary directories of this machine."""

    working_dir: Path  # holds the experiment and nothing else
    code: list[Path]  # folders for the Python path: the packages and their metadata


def prepare(
    path: Path,
    overrides: tuple[str, ...] = (),
    *,
    run_id: str | None = None,
    out: str | None = None,
    entrypoint: str | None = None,
) -> Shipment:
    """Check an experiment and make it ready to be submitted; nothing is sent.

    Args:
        path: the experiment file.
        overrides: texts such as `requests.per_block=500`.
        run_id: by default the experiment's name and a hash of its content, so that the same
            experiment is the same run.
        out: the run directory on the cluster, by default `~/penchant-runs/<run id>`.
        entrypoint: another command than `penchant run`.

    Raises:
        ConfigError: the experiment is wrong or names data that a cluster cannot find.
    """
    experiment = load_experiment(path, overrides)
    _require_cluster_paths(experiment)
    _require_cluster_models(experiment)
    document = _as_yaml(experiment)
    run_id = run_id or f"{experiment.name}-{_digest(document)[:8]}"
    if not _RUN_ID.fullmatch(run_id):
        raise ConfigError(
            f"--run-id is {run_id!r}, expected up to 80 lower-case letters, digits, - and _."
        )
    out = out or f"~/penchant-runs/{run_id}"
    command = f"python -m penchant.cli.main run {EXPERIMENT_FILE} --out {_for_shell(out)}"
    return Shipment(
        run_id=run_id,
        experiment=experiment.name,
        document=document,
        out=out,
        entrypoint=entrypoint or command,
    )


def pack(shipment: Shipment, into: Path) -> Packed:
    """Write a shipment's files into an empty directory."""
    working_dir = into / "experiment"
    working_dir.mkdir()
    (working_dir / EXPERIMENT_FILE).write_text(shipment.document)
    code = unpack_wheel(build_wheel(into / "wheel"), into / "code")
    return Packed(working_dir=working_dir, code=code)


def _require_cluster_paths(experiment: Experiment) -> None:
    for section, files in (("events", experiment.data.events), ("items", experiment.data.items)):
        for path in files.paths if files else ():
            if not path.startswith(("/", "~")):
                raise ConfigError(
                    f"data.{section}.paths: {path!r} is relative, and a job starts in a directory "
                    "of its own. Expected a path from / or ~ that the cluster's nodes see, such "
                    "as /mnt/data/events.parquet on a shared disk."
                )


def _require_cluster_models(experiment: Experiment) -> None:
    """What is a directory here would be looked for on the hub there, and be another model."""
    search = [] if experiment.search is None else [experiment.search.base]
    for recipe in (*experiment.members, *search):
        for key, name in beginnings(recipe).items():
            if name.startswith(("/", "~")):
                continue
            if key == "init_from" or Path(name).is_dir():
                raise ConfigError(
                    f"{recipe.kind} member, {key}: {name!r} is relative, and a job starts in a "
                    "directory of its own. Expected a path from / that the cluster's nodes see."
                )


def _as_yaml(experiment: Experiment) -> str:
    """What was written, with its overrides; defaults are left to the code that travels along."""
    text = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.dump(experiment.model_dump(mode="json", exclude_unset=True), text)
    return text.getvalue()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _for_shell(path: str) -> str:
    """Quoted, except for a leading ~, which the shell on the cluster has to resolve."""
    home, slash, rest = path.partition("/")
    return f"~/{shlex.quote(rest)}" if home == "~" and slash and rest else shlex.quote(path)
