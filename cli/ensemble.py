"""`penchant ensemble`: only the combination, from the prediction store."""

from __future__ import annotations

import json

import typer

from penchant.cli.options import Json, Quiet, RunDir

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Combine and compare members that are fitted already.")


@app.callback()
def _group() -> None:
    """Keeps `compare` a verb of its own while it is the only one."""


@app.command()
def compare(
    place: RunDir,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit every combiner on `blend`, judge once on `test`, write artefacts and the report.

    Needs no cluster and fits no member: it reads the prediction store.

    \b
    Example:
      penchant ensemble compare runs/demo
    """
    from penchant.cli.show import show_report
    from penchant.ensembles.experiment import compare_again
    from penchant.platform.progress import Progress

    with Progress(quiet=quiet) as progress:
        report = compare_again(place, progress)
    if as_json:
        print(json.dumps(report))
        return
    show_report(report, place)
