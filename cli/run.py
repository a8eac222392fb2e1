"""`penchant run`: prepare, fit and search, combine, report."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from penchant.cli.options import ExperimentFile, Json, Out, Overrides, Quiet
from penchant.cli.show import show_report

__all__ = ["run"]


def run(
    experiment: ExperimentFile,
    out: Out = None,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
    address: Annotated[
        str | None,
        typer.Option(help="A running Ray cluster: `auto` or host:port. By default a private Ray."),
    ] = None,
) -> None:
    """Run a whole experiment: prepare the events, fit and search members, combine, report.

    What is finished already is not done again: run the same command to go on after a crash, or
    after adding members to the file.

    \b
    Examples:
      penchant run examples/groceries-demo.yaml --out runs/demo
      penchant run mine.yaml --set requests.per_block=500 --set ensemble.bootstrap=200
    """
    from penchant.ensembles.experiment import run_experiment
    from penchant.platform.config import load_experiment
    from penchant.platform.progress import Progress

    settings = load_experiment(experiment, tuple(overrides or ()))
    directory = out or Path("runs") / settings.name
    # Ray prints its notices to standard output, which is kept for the result.
    with redirect_stdout(sys.stderr), Progress(quiet=quiet) as progress:
        report = run_experiment(settings, directory, progress, address)
    if as_json:
        print(json.dumps(report))
        return
    show_report(report, directory)
