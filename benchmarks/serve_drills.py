"""Hurts a served ensemble in every way that its service owner fears, and says what happened.

    python benchmarks/serve_drills.py runs/demo                  # about 45 minutes, with the soak
    python benchmarks/serve_drills.py runs/demo --quick          # shorter loads, no soak
    python benchmarks/serve_drills.py runs/demo --only kill      # one drill, or several
    python benchmarks/serve_drills.py runs/demo --table docs/serving.md

The run must have been compared: two of its ensembles take turns. Each row says what was promised
and whether it was kept; a row without a promise is measured only. A drill that cannot be done is a
broken promise, and the next one begins; Ctrl-C writes what there is. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import FrameType

from drills import changes, copies, failures, strain, truth
from drills.bad_bodies import bad_bodies
from drills.disk import lose_disk
from drills.flood import flood
from drills.ground import Ground
from drills.nodes import lose_node, lose_store
from drills.row import Row, line, not_run, table
from drills.scaling import scale
from drills.successor import kill_member
from peers.page import renew

from penchant.ensembles.artefacts.artefact import read_ensemble_card
from penchant.serve.load.bodies import recorded_bodies
from penchant.serve.routes.stored import StoredRequests

Drill = Callable[[], Row | list[Row]]


def ensembles(run: Path) -> tuple[Path, Path]:
    """Two artefacts of a run, the smallest that have at least two members."""
    sizes = {
        path: len(read_ensemble_card(path)["weights"])
        for path in sorted((run / "ensembles").iterdir())
        if (path / "ensemble.json").is_file()
    }
    fit = sorted((path for path in sizes if sizes[path] > 1), key=lambda path: sizes[path])
    if len(fit) < 2:
        raise SystemExit(f"{run} has {len(fit)} ensembles of several members, expected two")
    return fit[0], fit[1]


def shared(
    ground: Ground, run: Path, other: Path, temp: Path, bodies: Sequence[bytes], quick: bool
) -> dict[str, Drill]:
    """Drills on one running service, in an order in which none spoils the next."""
    serving = ground.service

    def third() -> float:
        return ground.peak / 3  # others need the machine too

    def update() -> Row:
        kinds = ["wrong hash"] if quick else ["wrong hash", "fails its self-test", "crashes"]
        bad = [
            changes.spoiled(serving().directory, temp / f"bad-{at}", how)
            for at, how in enumerate(kinds)
        ]
        rate = 0.4 * ground.peak
        duration_s = 90.0 if quick else max(180.0, 10_200 / rate)
        return changes.update(serving(), other, bad, bodies, rate, duration_s)

    def shadow() -> list[Row]:
        return copies.shadow_and_canary(
            serving(), other, bodies, ground.peak / 4, 15 if quick else 45
        )

    found: dict[str, Drill] = {
        "law 4": lambda: truth.offline_is_online(serving(), run, 50 if quick else 1000),
        "same user": lambda: truth.same_user_at_once(serving(), bodies[0]),
        "update": update,
        "shadow": shadow,
        "straggler": lambda: failures.straggle(serving(), bodies, third()),
        "kill": lambda: kill_member(serving(), bodies, third()),
        "stop": lambda: failures.stop_member(serving(), bodies, third()),
        "all stop": lambda: failures.stop_all(serving(), bodies),
        "all killed": lambda: failures.kill_all(serving(), bodies),
        "leave": lambda: strain.leave(serving(), bodies, 100 if quick else 1000),
        "bad bodies": lambda: bad_bodies(serving(), bodies, third()),
        "overload": lambda: strain.overload(serving(), bodies, 10 if quick else 25),
        "soak": lambda: strain.soak(serving(), bodies, 900),
        "others": lambda: failures.kill_others(serving(), bodies, third()),
        "disk": lambda: lose_disk(serving(), bodies, third()),
    }
    if quick:
        del found["soak"]
    return found


def alone(directory: Path, temp: Path, bodies: Sequence[bytes], quick: bool) -> dict[str, Drill]:
    """Drills that want a Ray of their own."""
    busy_s, idle_s = (30, 10) if quick else (45, 150)
    return {
        "flood": lambda: flood(directory, temp / "flood", bodies, 12 if quick else 30),
        "scale": lambda: scale(directory, temp / "scaled", bodies, busy_s=busy_s, idle_s=idle_s),
        "node": lambda: lose_node(directory, temp / "nodes", bodies, 5.0),
        "store": lambda: lose_store(directory, temp / "store", bodies, 5.0, kept=False),
        "kept store": lambda: lose_store(directory, temp / "kept", bodies, 5.0, kept=True),
    }


class Interrupted(KeyboardInterrupt):
    """SIGTERM, which ends drills as Ctrl-C does."""


def do_all(
    drills: Mapping[str, Drill], ground: Ground, alone: Mapping[str, Drill]
) -> tuple[list[Row], bool]:
    """One drill after the other; whoever interrupts them gets the rows that there are.

    Returns:
        The rows, and whether it came to the end.
    """
    rows: list[Row] = []
    try:
        for name, drill in (drills | alone).items():
            if name in alone:
                ground.close()
            began = time.monotonic()
            try:
                made = drill()
            except Exception as error:  # the others are worth their results all the same
                made = not_run(name, error)
                ground.close()  # nobody knows in what state it was left
            for row in made if isinstance(made, list) else [made]:
                rows.append(row)
                print(f"[{time.monotonic() - began:5.0f} s] {line(row)}", flush=True)
    except KeyboardInterrupt:
        return rows, False
    finally:
        ground.close()
    return rows, True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run that was compared")
    parser.add_argument("--quick", action="store_true", help="shorter, fewer requests, no soak")
    parser.add_argument("--only", action="append", help="one drill by its name; may be repeated")
    parser.add_argument("--table", type=Path, help="page whose table of drills is renewed")
    args = parser.parse_args()
    if args.only and args.table:
        parser.error("--table is of all drills: leave out --only")
    signal.signal(signal.SIGTERM, _end)
    directory, other = ensembles(args.run)
    bodies = recorded_bodies(StoredRequests.open(args.run), "/v1/recommend", limit=500)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        temp = Path(folder)
        ground = Ground(directory, temp, bodies, args.quick)
        together = shared(ground, args.run, other, temp, bodies, args.quick)
        apart = alone(directory, temp, bodies, args.quick)
        every = {**together, **apart}
        unknown = set(args.only or ()) - set(every)
        if unknown:
            parser.error(f"no drill is called {', '.join(sorted(unknown))}: {', '.join(every)}")
        wanted = args.only or list(every)
        rows, whole = do_all(
            {name: drill for name, drill in together.items() if name in wanted},
            ground,
            {name: drill for name, drill in apart.items() if name in wanted},
        )
    if args.table is not None:
        served = f"`{directory.name}` of {len(read_ensemble_card(directory)['weights'])} members"
        note = f", {(time.monotonic() - began) / 60:.0f} minutes in one run"
        note += ", `--quick`" * args.quick + ("" if whole else ", **interrupted: not all drills**")
        renew(args.table, "drills", table(rows, served, note))
    facts = {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "ray": metadata.version("ray"),
        "kept": sum(row.met is True for row in rows),
        "broken": [row.drill for row in rows if row.met is False],
    }
    print(json.dumps({"drills": [row.to_json() for row in rows], **facts}))
    if facts["broken"] or not whole:
        sys.exit(1)


def _end(number: int, frame: FrameType | None) -> None:
    raise Interrupted


if __name__ == "__main__":
    main()
