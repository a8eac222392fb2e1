"""SIGKILL of a member: each step from the kill until all members answer again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psutil
from drills.controller import lines_since
from drills.load import beside
from drills.row import Row, failed, loaded
from drills.served import Served

__all__ = ["kill_member", "member_alone"]

_PROMISED_S = 5.0  # from Ray's noticing until all answer again


@dataclass
class Steps:
    """Moments, in seconds since 1970."""

    killed_s: float
    noticed_s: float = float("nan")  # the controller says that the replica has crashed
    ordered_s: float = float("nan")  # and starts another
    process_s: float = float("nan")  # which has a process that is its own
    ready_s: float = float("nan")  # has loaded its members and passed its self-test, says Serve
    whole_s: float = float("nan")  # and answers

    def told(self) -> str:
        """The steps in words, after the kill."""
        names = ("Ray notices", "orders another", "its process", "loaded and self-tested", "whole")
        moments = (self.noticed_s, self.ordered_s, self.process_s, self.ready_s, self.whole_s)
        pairs = zip(names, moments, strict=True)
        return ", ".join(f"{name} {moment - self.killed_s:.1f} s" for name, moment in pairs)

    def read(self, lines: Iterable[tuple[float, str]]) -> None:
        """Take what the controller wrote."""
        for told_s, line in lines:
            if "crashed, marking" in line and self.noticed_s != self.noticed_s:
                self.noticed_s = told_s
            elif "Starting Replica" in line and self.ordered_s != self.ordered_s:
                self.ordered_s = told_s
            elif "started successfully" in line and self.ready_s != self.ready_s:
                self.ready_s = told_s


def kill_member(service: Served, bodies: Sequence[bytes], rate: float) -> Row:
    """SIGKILL a member that does not share a process."""
    victim = member_alone(service)
    before = {process.pid for process in service.members()}
    with beside(service.url, bodies, rate=rate, duration_s=30) as load:
        steps = Steps(killed_s=time.time())
        victim.kill()
        watch = threading.Thread(target=_successor, args=(service, before, steps))
        watch.start()
        degraded_s = service.until(lambda answer: answer["degraded"], bodies[0], 10)
        if service.until(lambda answer: not answer["degraded"], bodies[0]) < float("inf"):
            steps.whole_s = time.time()
        watch.join()
        steps.read(lines_since(service, steps.killed_s))
    report = load.report()
    took_s = steps.whole_s - steps.noticed_s
    return loaded(
        "SIGKILL a member replica",
        [report],
        f"degraded after {degraded_s:.1f} s; {steps.told()}: {took_s:.1f} s after Ray noticed",
        promise=f"0 failed, degraded told, whole {_PROMISED_S:.0f} s after Ray notices",
        met=failed(report) == 0 and report.degraded > 0 and took_s <= _PROMISED_S,
        figures={"whole_after_noticed_s": took_s},
    )


def member_alone(service: Served) -> psutil.Process:
    """The replica of one member that shares its process with no other."""
    found = service.replicas(":member-")
    if not found:
        raise RuntimeError("this ensemble has no member in a process of its own: serve it apart")
    return found[0]


def _successor(service: Served, before: set[int], steps: Steps) -> None:
    """When a replica's process appears that was not there before."""
    while time.time() - steps.killed_s < 20:
        if {process.pid for process in service.members()} - before:
            steps.process_s = time.time()
            return
        time.sleep(0.1)
