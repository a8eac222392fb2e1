"""Penchant's runs as jobs of a Ray cluster: submit, follow, list, stop.

A job is known by our run id, so that submitting a run twice starts it once. It gets the code that
is running here, as folders on its Python path, and a directory that holds only the resolved
experiment. The cluster's nodes must have Penchant's dependencies installed, and must see the data.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from ray.job_submission import JobDetails, JobSubmissionClient

from penchant.platform.dashboard import RefusedError, connect, explain_failures
from penchant.platform.errors import ConfigError, UnreachableError
from penchant.platform.shipment import Shipment, pack

__all__ = ["Job", "Jobs"]

#: Seconds between two looks at a job.
POLL_S = 0.3

#: A head that has just started takes a while until its agent can start jobs.
AGENT_S = 60.0

#: How often a broken log stream is taken up again, without any progress, before we give up.
STREAM_TRIES = 8

# What a failed `penchant run` exits with; anything else, such as a signal, is a failed run too.
_OWN_EXIT_CODES = (2, 3, 4, 5)
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One attempt at a run."""

    id: str  # the run id; from the second attempt on with `.2` and so on
    run_id: str
    experiment: str
    status: str  # PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED
    message: str
    out: str  # the run directory, on the cluster
    fingerprint: str
    started_ms: int
    exit_code: int | None  # ours; None while the job goes on

    @property
    def ended(self) -> bool:
        return self.status in _ENDED


class Jobs:
    """The jobs of the cluster whose dashboard is at an address."""

    def __init__(self, address: str) -> None:
        """Connect; see `connect` for what can be wrong."""
        self.address = address.rstrip("/")
        self._client = connect(self.address)

    def submit(self, shipment: Shipment, *, resume: bool = False) -> tuple[Job, bool]:
        """Start a run, or find the one that was started before under the same run id.

        Args:
            shipment: what to run.
            resume: start a run that failed or was stopped once more, in the same directory.

        Returns:
            The job, and whether it was started now.

        Raises:
            ConfigError: the run id belongs to another experiment or another directory.
        """
        attempts = self._attempts(shipment.run_id)
        if attempts:
            last = attempts[-1]
            if (last.fingerprint, last.out) != (shipment.fingerprint, shipment.out):
                raise ConfigError(
                    f"Run {shipment.run_id} was submitted with another experiment or another "
                    f"--out ({last.out}). Choose another --run-id."
                )
            if not (resume and last.status in ("FAILED", "STOPPED")):
                return last, False
        number = len(attempts) + 1
        job_id = shipment.run_id if number == 1 else f"{shipment.run_id}.{number}"
        try:
            self._start(job_id, shipment)
        except RefusedError:
            if not (meanwhile := self._attempts(shipment.run_id)[number - 1 :]):
                raise
            return meanwhile[-1], False  # somebody else submitted the same run at the same time
        return self.get(job_id), True

    def all(self) -> list[Job]:
        """Penchant's jobs, oldest first; a cluster may run others too."""
        with explain_failures(self.address):
            details: list[JobDetails] = self._client.list_jobs()
        ours = [each for each in details if (each.metadata or {}).get("project") == "penchant"]
        return sorted(map(_job, ours), key=lambda job: job.started_ms)

    def get(self, run_id: str) -> Job:
        """The last attempt at a run, or the attempt with this id.

        Raises:
            ConfigError: there is none.
        """
        found = [job for job in self.all() if run_id in (job.run_id, job.id)]
        if not found:
            raise ConfigError(
                f"{self.address} knows no run {run_id!r}: see `penchant jobs list`. "
                "A cluster that was started anew has forgotten its jobs."
            )
        return found[-1]

    def logs(self, run_id: str) -> str:
        """All that a job has printed so far."""
        job = self.get(run_id)
        with explain_failures(self.address):
            text: str = self._client.get_job_logs(job.id)
        return text

    def follow(self, run_id: str, write: Callable[[str], object]) -> Job:
        """Pass on what a job prints until it ends; a broken connection is taken up again.

        Raises:
            UnreachableError: the cluster is gone; the job may well go on.
        """
        job = self.get(run_id)
        printed = _Printed(write)
        tries = 0
        while not (job.ended and printed.complete):
            before = printed.characters
            try:
                asyncio.run(printed.stream(self._client, job.id))
            except BrokenPipeError:  # it is our reader who left
                raise
            except (RuntimeError, aiohttp.ClientError, OSError) as error:
                tries = 1 if printed.characters > before else tries + 1
                if tries == STREAM_TRIES:
                    raise UnreachableError(
                        f"Lost the connection to {self.address} while following {job.id} "
                        f"({error}). The job is not stopped by that: take it up again with "
                        f"`penchant jobs logs {job.id} --follow`."
                    ) from error
                time.sleep(tries * POLL_S)
            else:
                time.sleep(POLL_S)  # the job's end is noted a moment after that of its log
                job = self._look_again(job)
        return job

    def stop(self, run_id: str, *, patience_s: float = 30.0) -> Job:
        """Stop a job and wait until it has ended; one that has ended is left as it is."""
        job = self.get(run_id)
        if not job.ended:
            with explain_failures(self.address):
                self._client.stop_job(job.id)
        deadline = time.monotonic() + patience_s
        while not job.ended and time.monotonic() < deadline:
            time.sleep(POLL_S)
            job = self._look_again(job)
        return job

    def _look_again(self, job: Job) -> Job:
        with explain_failures(self.address):
            return _job(self._client.get_job_info(job.id))

    def _attempts(self, run_id: str) -> list[Job]:
        return [job for job in self.all() if job.run_id == run_id]

    def _start(self, job_id: str, shipment: Shipment) -> None:
        deadline = time.monotonic() + AGENT_S
        with tempfile.TemporaryDirectory(prefix="pn-") as temp:
            packed = pack(shipment, Path(temp))
            environment = {
                "working_dir": str(packed.working_dir),
                "py_modules": [str(folder) for folder in packed.code],
            }
            while True:
                try:
                    with explain_failures(self.address):
                        self._client.submit_job(
                            entrypoint=shipment.entrypoint,
                            submission_id=job_id,
                            runtime_env=environment,
                            metadata=shipment.metadata,
                        )
                        return
                except RefusedError as error:
                    if "No available agent" not in str(error):
                        raise
                    if time.monotonic() > deadline:
                        raise UnreachableError(
                            f"{self.address} has no agent that starts jobs. Does another Ray on "
                            "the head hold port 52365? Then start the head with a free "
                            "--dashboard-agent-listen-port."
                        ) from error
                time.sleep(POLL_S)


class _Printed:
    """How much of a job's log has been passed on: each stream starts at the beginning again."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self.characters = 0
        self.complete = False

    async def stream(self, client: JobSubmissionClient, job_id: str) -> None:
        at = 0
        async for text in client.tail_job_logs(job_id):
            fresh = text[max(0, self.characters - at) :]
            at += len(text)
            if fresh:
                self._write(fresh)
                self.characters = at
        self.complete = True


def _job(details: JobDetails) -> Job:
    known: dict[str, str] = details.metadata or {}
    status = str(details.status.value)
    code = details.driver_exit_code
    if status not in _ENDED:
        exit_code = None
    elif status == "SUCCEEDED":
        exit_code = 0
    else:
        exit_code = code if code in _OWN_EXIT_CODES else 4
    return Job(
        id=details.submission_id or "",
        run_id=known["run"],
        experiment=known["experiment"],
        status=status,
        message=(details.message or "").partition(", last available logs")[0],  # `logs` has them
        out=known["out"],
        fingerprint=known["fingerprint"],
        started_ms=details.start_time or 0,
        exit_code=exit_code,
    )
