"""`penchant pretrain`: further pretraining of a base on an experiment's own texts."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from penchant.cli.options import ExperimentFile, Json, Overrides, Quiet

__all__ = ["pretrain"]


class Resume(StrEnum):
    """What becomes of an earlier run in the same place."""

    AUTOMATIC = "automatic"
    NEVER = "never"


def pretrain(
    experiment: ExperimentFile,
    out: Annotated[
        Path,
        typer.Option("--out", help="The model's directory; recipes name it as `base`."),
    ],
    base: Annotated[str, typer.Option(help="Alias, directory or hub id.")] = "minilm",
    layers: Annotated[
        int | None, typer.Option(min=1, help="Keep the lowest so many layers.")
    ] = None,
    tokens: Annotated[int, typer.Option(min=16, max=8192, help="Of a row.")] = 128,
    batch_sequences: Annotated[int, typer.Option(min=1, help="Rows of a batch.")] = 32,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the corpus; 1 by default.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Updates, instead of epochs.")] = None,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = 5e-5,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    resume: Annotated[
        Resume,
        typer.Option(help="`automatic` goes on where it was cut; `never` begins anew."),
    ] = Resume.AUTOMATIC,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
    address: Annotated[
        str | None,
        typer.Option(help="A running Ray cluster: `auto` or host:port. By default a private Ray."),
    ] = None,
) -> None:
    """Train a base further on an experiment's item texts and histories before `select`.

    Encoders learn to fill in hidden tokens, decoders to continue. The result is a directory that
    plain transformers loads; its perplexity is measured on histories of the `select` block.

    \b
    Examples:
      penchant pretrain examples/likes.yaml --base minilm --out models/minilm-movies
      penchant pretrain examples/likes.yaml --base smollm2 --steps 500 --out models/smollm2-movies
    """
    from penchant.platform.config import load_experiment
    from penchant.platform.errors import ConfigError
    from penchant.platform.progress import Progress
    from penchant.trainers.pretrain.plan import PretrainSettings
    from penchant.trainers.pretrain.run import pretrain as run

    if epochs is not None and steps is not None:
        raise ConfigError(f"got --epochs {epochs} and --steps {steps}, expected one of them.")
    if learning_rate <= 0:
        raise ConfigError(f"--learning-rate is {learning_rate}, expected more than 0.")
    settings = PretrainSettings(
        base=base,
        layers=layers,
        tokens=tokens,
        batch_sequences=batch_sequences,
        epochs=epochs or 1,
        steps=steps,
        learning_rate=learning_rate,
        seed=seed,
    )
    # Ray prints its notices to standard output, which is kept for the result.
    with redirect_stdout(sys.stderr), Progress(quiet=quiet) as progress:
        report = run(
            load_experiment(experiment, tuple(overrides or ())),
            out,
            settings,
            progress,
            resume="never" if resume is Resume.NEVER else "automatic",
            address=address,
        )
    if as_json:
        print(json.dumps(report))
        return
    _show(report, out)


def _show(report: Mapping[str, Any], out: Path) -> None:
    """Perplexities, what a fresh head means for them, and where the model is."""
    from rich.console import Console
    from rich.table import Table

    from penchant.trainers.pretrain.card import perplexity_rows

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)
    asked = report["perplexity"]["asked_tokens"]
    table = Table(f"{asked:,} held-out tokens from {report['data']['until']} on", "perplexity")
    for words, value in perplexity_rows(report):
        table.add_row(words, f"{value:,.2f}")
    console.print(table)
    if report["fresh"]:
        console.print(
            "The base brings no head over the vocabulary: most of the fall is that head's learning."
        )
    seconds = max(report["seconds"], 1e-9)
    console.print(
        f"{report['steps']:,} steps, {report['tokens']:,} tokens in {report['seconds']:.0f} s "
        f"({report['tokens'] / seconds:,.0f} tokens/s)"
    )
    console.print(f"\nuse it: `base: {out}` in a text member", soft_wrap=True)
