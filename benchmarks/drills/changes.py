"""Versions change while requests come in, good and bad ones."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from drills.load import beside, p99_ms
from drills.row import Row, failed, loaded
from drills.served import Served
from safetensors.numpy import load_file, save_file

from penchant.ensembles.artefacts.self_test import SELF_TEST_FILE

__all__ = ["spoiled", "update"]


def spoiled(directory: Path, into: Path, how: str) -> Path:
    """A copy of an artefact that must never take traffic."""
    shutil.copytree(directory, into)
    card = json.loads((into / "ensemble.json").read_text())
    if how == "wrong hash":
        with (into / "items.arrow").open("ab") as file:
            file.write(b" ")
        return into
    path = into / SELF_TEST_FILE
    if how == "fails its self-test":
        arrays = load_file(path)
        for name in arrays:
            if name.startswith("scores."):
                arrays[name] = arrays[name] + np.float32(1)
        save_file(arrays, path)
    else:  # crashes at start: a member's card that no recipe fits
        path = into / "members" / next(iter(card["weights"])) / "member.json"
        path.write_text(path.read_text().replace('"kind"', '"kin"'))
    name = str(path.relative_to(into))
    card["sha256"][name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (into / "ensemble.json").write_text(json.dumps(card))
    return into


def update(
    service: Served,
    other: Path,
    bad: Sequence[Path],
    bodies: Sequence[bytes],
    rate: float,
    duration_s: float,
) -> Row:
    """Good, bad, rollback while requests come in."""
    with beside(service.url, bodies, rate=rate, duration_s=duration_s) as load:
        service.verb("deploy", str(other))
        for spoilt in bad:
            service.verb("deploy", str(spoilt), good=False)
        service.verb("rollback")
        too_short = load.over()
    report = load.report()
    return loaded(
        f"update: good, {len(bad)} bad, rollback",
        [report],
        f"every bad version was refused; p99 {p99_ms(report):.0f} ms"
        + ("; the verbs took longer than the load" if too_short else ""),
        promise="0 failed",
        met=failed(report) == 0 and not too_short,
    )
