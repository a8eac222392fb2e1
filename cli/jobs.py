"""`penchant jobs`: what runs on a cluster, what it says, and how to stop it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from penchant.cli.options import Json
from penchant.platform.errors import RunError

if TYPE_CHECKING:  # Ray takes most of a second to import, and the other verbs need none of this
    from penchant.platform.jobs import Job, Jobs

__all__ = ["LOCAL_DASHBOARD", "Address", "app", "detached", "open_jobs", "print_log", "to_json"]

LOCAL_DASHBOARD = "http://127.0.0.1:8265"

Address = Annotated[
    str,
    typer.Option(
        envvar=["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"],
        help="The cluster's dashboard, such as http://head:8265.",
    ),
]
RunId = Annotated[
    str,
    typer.Argument(metavar="RUN_ID", help="As `penchant submit` printed it.", show_default=False),
]

app = typer.Typer(no_args_is_help=True, help="Runs on a cluster: list, status, logs, stop.")


@app.command("list")
def list_jobs(address: Address = LOCAL_DASHBOARD, as_json: Json = False) -> None:
    """List the runs that were submitted to a cluster, oldest first.

    \b
    Example:
      penchant jobs list --address http://head:8265
    """
    jobs = open_jobs(address).all()
    if as_json:
        print(json.dumps([to_json(job) for job in jobs]))
        return
    if not jobs:
        print(f"No Penchant run was submitted to {address}.", file=sys.stderr)
    for job in jobs:
        print(_line(job))


@app.command()
def status(run: RunId, address: Address = LOCAL_DASHBOARD, as_json: Json = False) -> None:
    """Say how a run is doing; of a failed one also why.

    \b
    Example:
      penchant jobs status groceries-1f2e3d4c --json
    """
    job = open_jobs(address).get(run)
    if as_json:
        print(json.dumps(to_json(job)))
        return
    print(_line(job))
    print(f"results on the cluster: {job.out}")
    if job.status == "FAILED" and job.message:
        print(job.message)


@app.command()
def logs(
    run: RunId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run ends.")
    ] = False,
    address: Address = LOCAL_DASHBOARD,
) -> None:
    """Print what a run has printed; with --follow, exit as the run does.

    \b
    Example:
      penchant jobs logs groceries-1f2e3d4c --follow
    """
    jobs = open_jobs(address)
    if not follow:
        print_log(jobs.logs(run))
        return
    try:
        job = jobs.follow(run, print_log)
    except KeyboardInterrupt:
        raise detached(run, address) from None
    raise typer.Exit(job.exit_code or 0)


@app.command()
def stop(run: RunId, address: Address = LOCAL_DASHBOARD, as_json: Json = False) -> None:
    """Stop a run and wait until it has stopped. What it has written stays on the cluster.

    `penchant submit --resume` with the same experiment takes it up again.

    \b
    Example:
      penchant jobs stop groceries-1f2e3d4c
    """
    job = open_jobs(address).stop(run)
    print(json.dumps(to_json(job)) if as_json else _line(job))
    if not job.ended:
        raise RunError(f"{job.id} was told to stop but still runs; look at it again in a minute.")


def open_jobs(address: str) -> Jobs:
    """The jobs of a cluster."""
    from penchant.platform.jobs import Jobs

    return Jobs(address)


def to_json(job: Job) -> dict[str, str | int | None]:
    """A job for machines."""
    known: dict[str, str | int | None] = asdict(job)
    return known


def print_log(text: str) -> None:
    """Pass on a piece of a job's log, at once."""
    print(text, end="", flush=True)


def detached(run: str, address: str) -> typer.Exit:
    """Say what Ctrl-C did not do; the exit code is that of an interrupted program."""
    where = "" if address == LOCAL_DASHBOARD else f" --address {address}"
    print(
        f"\nDetached: {run} goes on. Follow it with `penchant jobs logs {run} --follow{where}`, "
        f"stop it with `penchant jobs stop {run}{where}`.",
        file=sys.stderr,
    )
    return typer.Exit(130)


def _line(job: Job) -> str:
    started = datetime.fromtimestamp(job.started_ms / 1000, UTC).isoformat(" ", "seconds")
    code = "" if job.exit_code in (None, 0) else f"  exit {job.exit_code}"
    return f"{job.id}  {job.status}{code}  {job.experiment}  started {started}"
