"""Options that several verbs share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["ExperimentFile", "Json", "Out", "Overrides", "Quiet", "RunDir"]

ExperimentFile = Annotated[
    Path, typer.Argument(metavar="EXPERIMENT.yaml", help="The experiment file.", show_default=False)
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="The run directory.", show_default="runs/<name of the experiment>"),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY.PATH=VALUE",
        help="Change a value of the experiment; may be repeated.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, only results and errors.")]
RunDir = Annotated[
    Path, typer.Argument(metavar="RUN_DIR", help="A run directory.", show_default=False)
]
