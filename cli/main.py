"""The front door: `penchant VERB ...`. Thin verbs; what they do lives on the floors below."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from penchant.cli.data import app as data_app
from penchant.cli.doctor import doctor
from penchant.cli.ensemble import app as ensemble_app
from penchant.cli.jobs import app as jobs_app
from penchant.cli.monitor import monitor
from penchant.cli.pretrain import pretrain
from penchant.cli.run import run
from penchant.cli.schema import schema
from penchant.cli.serve import app as serve_app
from penchant.cli.submit import submit
from penchant.platform.errors import PenchantError

__all__ = ["app", "main"]


class _Front(TyperGroup):
    """All verbs; Typer itself would leave without a word on Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("interrupted; what was finished is kept, run again to go on", file=sys.stderr)
            raise typer.Exit(130) from None


app = typer.Typer(
    name="penchant",
    cls=_Front,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Learns what each user is inclined to do next, and how that changes over time.\n\n"
    "Begin with: [bold]penchant run examples/groceries-demo.yaml --out runs/demo[/bold]",
    epilog="Exit codes: 0 good, 2 usage or configuration, 3 data refused, 4 run failed, "
    "5 cluster or service unreachable, 130 interrupted.",
)
app.command()(run)
app.command()(pretrain)
app.add_typer(data_app, name="data")
app.add_typer(ensemble_app, name="ensemble")
app.add_typer(serve_app, name="serve")
app.command()(monitor)
app.command()(submit)
app.add_typer(jobs_app, name="jobs")
app.command()(schema)
app.command()(doctor)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.")
    ] = False,
) -> None:
    if version:
        print(metadata.version("penchant"))
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Run the command line; errors that a user can mend are told without a traceback."""
    # Ray reads it when imported. Its notice of idle processes helps nobody: they end by themselves.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "worker processes have been started")
    try:
        app()
    except PenchantError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        print(f"error: {_os_error(error)}", file=sys.stderr)
        sys.exit(4)


def _os_error(error: OSError) -> str:
    """A full disk or a forbidden directory, in words."""
    where = f" ({error.filename})" if error.filename else ""
    return (
        f"the system refused: {error.strerror or error}{where}. Expected a readable input and an "
        "output directory with room; free some, or choose another --out. Nothing half-written is "
        "taken for whole: run again to go on."
    )


if __name__ == "__main__":
    main()
