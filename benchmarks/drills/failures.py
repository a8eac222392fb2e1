"""Drills in which processes die, stop or stumble while requests come in."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from typing import Any

import httpx
from drills.load import beside, longest_ms
from drills.row import Row, failed, loaded
from drills.served import Served, alive
from drills.successor import member_alone

__all__ = ["kill_all", "kill_others", "stop_all", "stop_member", "straggle"]


def stop_member(service: Served, bodies: Sequence[bytes], rate: float) -> Row:
    """SIGSTOP a member: it is there and does not move, until the health check replaces it."""
    victim = member_alone(service)
    with beside(service.url, bodies, rate=rate, duration_s=45) as load:
        victim.suspend()
        whole_s = service.until(
            lambda answer: not answer["degraded"] and not alive(victim), bodies[0], 60
        )
    report = load.report()
    if alive(victim):
        victim.resume()
    return loaded(
        "SIGSTOP a member replica",
        [report],
        f"replaced and whole after {whole_s:.1f} s; longest answer {longest_ms(report):.0f} ms at "
        "a deadline of 2,000",
        promise="0 failed, answers by the deadline + 10 ms, replaced within a minute",
        met=failed(report) == 0 and whole_s < 60 and longest_ms(report) <= 2010,
    )


def straggle(service: Served, bodies: Sequence[bytes], rate: float) -> Row:
    """A member that stands still for 500 ms every second, and callers who wait 300 ms."""
    victim = member_alone(service)
    with beside(service.url, bodies, rate=rate, duration_s=15, deadline_ms=300) as load:
        until = time.monotonic() + 13
        while time.monotonic() < until:
            victim.send_signal(signal.SIGSTOP)
            time.sleep(0.5)
            victim.send_signal(signal.SIGCONT)
            time.sleep(0.5)
    report = load.report()
    return loaded(
        "a straggler, +500 ms",
        [report],
        f"longest answer {longest_ms(report):.0f} ms at a deadline of 300",
        promise="0 failed, every answer by the deadline + 10 ms",
        met=failed(report) == 0 and longest_ms(report) <= 310,
        figures={"over_deadline_ms": longest_ms(report) - 300},
    )


def kill_others(service: Served, bodies: Sequence[bytes], rate: float) -> list[Row]:
    """SIGKILL the front, the proxy and the controller: what is lost, and for how long."""
    rows = []
    for name, title in (
        ("the front", "ServeReplica:front"),
        ("the proxy", "ProxyActor"),
        ("the controller", "ServeController"),
    ):
        with beside(service.url, bodies, rate=rate, duration_s=25) as load:
            found = service.replicas(title)
            if not found:
                raise RuntimeError(f"no process is called {title}")
            found[0].kill()
            gap_s = _gap(service, bodies[0], time.monotonic())
        told = f"longest time without an answer {gap_s:.1f} s"
        rows.append(loaded(f"SIGKILL {name}", [load.report()], told))
    return rows


def stop_all(service: Served, bodies: Sequence[bytes]) -> Row:
    """SIGSTOP every member: 503 with Retry-After, at once when that is known."""
    victims = service.members()
    for victim in victims:
        victim.suspend()
    answers = [_asked(service, bodies[0]) for _ in range(8)]
    for victim in victims:
        if alive(victim):
            victim.resume()
    whole_s = service.until(lambda answer: not answer["degraded"], bodies[0], 60)
    _, last_s, headers = answers[-1]
    return Row(
        drill="all members stand still",
        requests=len(answers),
        failed=sum(code != 503 for code, _, _ in answers),
        degraded=0,
        result=f"503 in {1000 * last_s:.0f} ms once known, Retry-After "
        f"{headers.get('retry-after')}; whole {whole_s:.1f} s after they go on",
        promise="503 with Retry-After, within 50 ms once known",
        met=all(code == 503 and "retry-after" in told for code, _, told in answers)
        and last_s < 0.05,
    )


def kill_all(service: Served, bodies: Sequence[bytes], within_s: float = 90.0) -> Row:
    """SIGKILL every member: a clear 503 until they are back, which needs nobody's hand."""
    for victim in service.members():
        victim.kill()
    began = time.monotonic()
    answers, whole_s = [], float("inf")
    missed = False  # an answer may come before the first process is gone
    while whole_s == float("inf") and time.monotonic() - began < within_s:
        code, took_s, told = _asked(service, bodies[0])
        answers.append((code, took_s, told))
        missed = missed or code != 200 or told["degraded"] == "yes"
        if missed and code == 200 and told["degraded"] == "no":
            whole_s = time.monotonic() - began
        time.sleep(0.1)
    bad = [one for one in answers if one[0] != 200]
    unclear = sum(code != 503 or "retry-after" not in told for code, _, told in bad)
    usual_s = sorted(took_s for _, took_s, _ in bad)[len(bad) // 2] if bad else 0.0
    return Row(
        drill="SIGKILL all members at once",
        requests=len(answers),
        failed=unclear,
        degraded=sum(told["degraded"] == "yes" for code, _, told in answers if code == 200),
        result=f"{len(bad)} answers of 503, half of them within {1000 * usual_s:.0f} ms; whole "
        f"after {whole_s:.1f} s",
        promise="answers or 503 with Retry-After, the usual one within 50 ms; whole by itself",
        met=unclear == 0 and usual_s < 0.05 and whole_s < float("inf"),
        figures={"whole_s": whole_s},
    )


def _asked(service: Served, body: bytes) -> tuple[int, float, dict[str, Any]]:
    """Status (0 for no answer), seconds, and headers; of an answer also whether it is degraded."""
    began = time.monotonic()
    try:
        answer = service.ask(body, deadline_ms=1500)
    except httpx.HTTPError:
        return 0, time.monotonic() - began, {}
    told = dict(answer.headers)
    if answer.status_code == 200:
        told["degraded"] = "yes" if answer.json()["degraded"] else "no"
    return answer.status_code, time.monotonic() - began, told


def _gap(service: Served, body: bytes, began: float) -> float:
    """The longest time without an answer in the 20 s after something was killed."""
    last, longest = began, 0.0
    while time.monotonic() - began < 20:
        try:
            good = service.ask(body).status_code == 200
        except httpx.HTTPError:
            good = False
        if good:
            longest = max(longest, time.monotonic() - last)
            last = time.monotonic()
        time.sleep(0.02)
    return max(longest, time.monotonic() - last)
