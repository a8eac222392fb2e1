"""The run directory: readable without us, and never half-written where it looks whole.

experiment.yaml  manifest.json  log/  quarantine.parquet  requests/<block>.parquet
members/<id>/  predictions/<block>/<id>.arrow  search/ledger.jsonl
ensembles/<name>/  report/

Predictions are mapped into memory, not read: those of many members are more than a machine holds,
and a comparison looks at a part at a time. Scores hardly get smaller by compression.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from penchant.platform.errors import ConfigError, DataError
from penchant.platform.swap import lock_directory, whole_file
from penchant.platform.timeline import Block

__all__ = ["RUN_VERSION", "RunDirectory", "file_digest", "write_json"]

#: Version of the layout; another version is refused.
RUN_VERSION = 1
_EARLIER = ".parquet"  # predictions of earlier Penchants, which are still read


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a JSON file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class RunDirectory:
    """Paths of a run, and its predictions."""

    root: Path

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine.parquet"

    @property
    def ledger(self) -> Path:
        return self.root / "search" / "ledger.jsonl"

    @property
    def report(self) -> Path:
        return self.root / "report"

    @property
    def begun(self) -> bool:
        """Whether members were fitted here, or a training of theirs has begun."""
        return any((self.root / name).is_dir() for name in ("members", "search"))

    def requests(self, block: Block) -> Path:
        return self.root / "requests" / f"{block}.parquet"

    def member(self, member_id: str) -> Path:
        return self.root / "members" / member_id

    def ensemble(self, name: str) -> Path:
        return self.root / "ensembles" / name

    def predictions(self, block: Block, member_id: str) -> Path:
        return self.root / "predictions" / block / f"{member_id}.arrow"

    def begin(self, manifest: Mapping[str, Any], also: Sequence[str] = ()) -> None:
        """Open the directory for a run: new, or one with the same manifest key.

        Args:
            manifest: must hold `experiment`, a digest of what shapes members. A directory that
                holds members of another experiment or another version, or trainings that were
                begun, is refused, never mixed.
            also: digests that the same experiment had in earlier versions.
        """
        path = self.root / "manifest.json"
        if path.exists():
            known = self.manifest()
            if known["experiment"] == manifest["experiment"]:
                return
            if known["experiment"] in also:
                write_json(path, {**known, "experiment": manifest["experiment"]})
                return
            if self.begun:
                raise ConfigError(
                    f"{self.root} holds members of another experiment (digest "
                    f"{known['experiment']}, this one has {manifest['experiment']}): other data, "
                    "blocks or requests. Choose another --out, or remove the whole directory."
                )
        elif self.root.exists() and any(self.root.iterdir()):
            raise ConfigError(
                f"{self.root} exists and is no run directory: expected a manifest.json or an empty "
                "directory. Choose another --out."
            )
        write_json(path, {"version": RUN_VERSION, **manifest})

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Work in the directory, for the length of a `with`; no other run may meanwhile.

        Raises:
            ConfigError: another one does.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        lock = lock_directory(self.root)
        if lock is None:
            raise ConfigError(
                f"{self.root}: another `penchant run` is at work there, expected one at a time. "
                "Wait until it has ended, or choose another --out."
            )
        try:
            yield
        finally:
            os.close(lock)

    def note_events(self, events: Mapping[str, Any]) -> None:
        """Keep in the manifest which events the run is of."""
        manifest = self.manifest()
        if manifest.get("events") != events:
            write_json(self.root / "manifest.json", {**manifest, "events": dict(events)})

    def manifest(self) -> dict[str, Any]:
        """The run's manifest.

        Raises:
            ConfigError: this is no run directory, or one of another version.
        """
        path = self.root / "manifest.json"
        if not path.exists():
            raise ConfigError(
                f"{self.root} is no run directory: expected a manifest.json. "
                "Make one with `penchant run EXPERIMENT.yaml`."
            )
        manifest: dict[str, Any] = json.loads(path.read_text())
        if manifest.get("version") != RUN_VERSION:
            raise ConfigError(
                f"{path} has version {manifest.get('version')!r}, expected {RUN_VERSION}. "
                "Run the experiment again into a new directory."
            )
        return manifest

    def write_predictions(
        self,
        block: Block,
        member_id: str,
        row: NDArray[np.int64],
        scores: NDArray[np.float32],
    ) -> None:
        """Keep a member's scores of a block's requests.

        Args:
            row: the requests' ids, shape (R,).
            scores: shape (R, C), C candidates each.
        """
        path = self.predictions(block, member_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        flat = pa.array(np.ascontiguousarray(scores, dtype=np.float32).reshape(-1))
        lists = pa.FixedSizeListArray.from_arrays(flat, scores.shape[1])
        table = pa.table({"row": row, "scores": lists})
        with (
            whole_file(path) as partial,
            pa.OSFile(str(partial), "wb") as file,
            pa.ipc.new_file(file, table.schema) as writer,
        ):
            writer.write_table(table)
        path.with_suffix(_EARLIER).unlink(missing_ok=True)

    def read_predictions(
        self, block: Block, member_id: str, row: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """A member's scores, shape (R, C), checked to answer exactly these requests.

        Returns:
            An array that is read from the file where it is looked at, and cannot be written to.

        Raises:
            DataError: the file is missing, torn, or answers other requests.
        """
        path = self.predictions(block, member_id)
        if not path.exists() and path.with_suffix(_EARLIER).exists():
            path = path.with_suffix(_EARLIER)
        try:
            if path.suffix == _EARLIER:
                table = pq.read_table(path)
            else:
                table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except (FileNotFoundError, pa.ArrowInvalid, OSError) as error:
            raise DataError(
                f"predictions of {member_id} on {block} cannot be read from {path}: {error}. "
                "Run the experiment again: only what is missing is made anew."
            ) from error
        if not np.array_equal(table["row"].to_numpy(), row):
            raise DataError(
                f"{path} answers other requests than requests/{block}.parquet: expected the same "
                f"{len(row)} in the same order. Remove {self.member(member_id)} and run the "
                "experiment again: only that member is fitted anew."
            )
        column = table["scores"]
        lists = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        return np.asarray(lists.flatten().to_numpy()).reshape(len(row), column.type.list_size)

    def member_facts(self, member_id: str) -> dict[str, Any]:
        """What fitting and scoring a member found: times, size, history, cut-off.

        Raises:
            DataError: the file is missing or torn.
        """
        path = self.member(member_id) / "metrics.json"
        try:
            facts = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise _torn(path, str(error)) from error
        if not isinstance(facts, dict):
            raise _torn(path, f"it holds {facts!r}")
        return facts

    def has_member(self, member_id: str) -> bool:
        """Whether the member was fitted and its scores on every later block are there."""
        return (self.member(member_id) / "metrics.json").exists()


def _torn(path: Path, reason: str) -> DataError:
    return DataError(
        f"{path} cannot be read: {reason}. Expected what fitting the member found, as JSON. Remove "
        f"{path.parent} and run the experiment again: only that member is fitted anew."
    )
