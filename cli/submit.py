"""`penchant submit`: run an experiment on a cluster."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from penchant.cli.jobs import LOCAL_DASHBOARD, Address, detached, open_jobs, print_log, to_json
from penchant.cli.options import ExperimentFile, Json, Overrides

if TYPE_CHECKING:
    from penchant.platform.jobs import Job

__all__ = ["submit"]


def submit(
    experiment: ExperimentFile,
    overrides: Overrides = None,
    address: Address = LOCAL_DASHBOARD,
    run_id: Annotated[
        str | None,
        typer.Option(
            help="What the run is known by.", show_default="the experiment's name and a hash"
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="The run directory, on the cluster.", show_default="~/penchant-runs/RUN_ID"
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Take up a run that failed or was stopped.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once the run is submitted.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run an experiment on a Ray cluster and follow its log.

    The experiment is checked here first. The cluster gets the checked
    experiment and the Penchant that is running here; its nodes must have the
    same dependencies installed. Data paths are looked up on the cluster: write
    them from / on a disk that all nodes see. Results stay on the cluster, in
    --out: on the head by default, on a shared disk when there are several nodes.

    Submitting the same experiment again starts nothing new: it follows the run
    that is there. Ctrl-C stops following, not the run. The exit code is that of
    the run; a stopped one has 4.

    \b
    Examples:
      penchant submit examples/groceries.yaml --address http://head:8265
      penchant submit mine.yaml --set resources.workers=4 --detach --json
      penchant submit mine.yaml --resume
    """
    from penchant.platform.shipment import prepare

    shipment = prepare(experiment, tuple(overrides or ()), run_id=run_id, out=out)
    jobs = open_jobs(address)
    job, started = jobs.submit(shipment, resume=resume)
    _say(_opening(job, started))
    if not job.ended and not detach:
        try:
            job = jobs.follow(job.id, _say_raw if as_json else print_log)
        except KeyboardInterrupt:
            raise detached(job.id, address) from None
    if as_json:
        print(json.dumps(to_json(job)))
    else:
        print(f"{job.id} {job.status.lower()}; results on the cluster in {job.out}")
    if job.status == "FAILED":
        _say(job.message)
    raise typer.Exit(job.exit_code or 0)


def _opening(job: Job, started: bool) -> str:
    if started:
        return f"Submitted {job.id}; its results will lie in {job.out} on the cluster."
    if not job.ended:
        return f"{job.id} runs already; following it."
    mend = "" if job.status == "SUCCEEDED" else " --resume takes it up again;"
    return f"{job.id} has ended before: {job.status.lower()}.{mend} --run-id starts another run."


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _say_raw(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)
