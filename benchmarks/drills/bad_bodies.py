"""Requests that no honest client sends, through raw sockets: what they get, what they cost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from drills.load import beside, p99_ms
from drills.row import Row, failed, loaded
from drills.served import Served

__all__ = ["bad_bodies"]

_EACH = 20  # clients of each kind, all at once
_CHUNK = b"x" * 65_536
_GIVE_UP_S = 45.0
_MOST_MB = 100  # that the proxy may grow by while 140 of them are there


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A request that must be refused."""

    name: str
    headers: str = "Content-Type: application/json\r\n"
    ended: bool = True  # the headers end, and a body begins
    part: bytes = b"x"
    parts: int = 1
    pause_s: float = 0.0
    wanted: frozenset[int | None]  # None: the connection is closed without an answer
    within_s: float

    def pieces(self) -> Iterator[bytes]:
        """What is sent, piece by piece."""
        head = f"POST /v1/recommend HTTP/1.1\r\nHost: drill\r\n{self.headers}"
        yield f"{head}\r\n".encode() if self.ended else head.encode()
        for _ in range(self.parts):
            yield self.part


_JSON = "Content-Type: application/json\r\n"
KINDS = (
    Bad(
        name="10 MB",
        headers=f"{_JSON}Content-Length: 10000000\r\n",
        part=_CHUNK,
        parts=150,
        wanted=frozenset({413}),
        within_s=5,
    ),
    Bad(
        name="chunks without end",
        headers=f"{_JSON}Transfer-Encoding: chunked\r\n",
        part=b"10000\r\n" + _CHUNK + b"\r\n",
        parts=320,  # and no last one
        wanted=frozenset({413, None}),
        within_s=15,
    ),
    Bad(
        name="more than it says",
        headers=f"{_JSON}Content-Length: 20\r\n",
        part=_CHUNK,
        parts=150,
        wanted=frozenset({400, 422, None}),  # closed where an answer is overtaken by the rest
        within_s=5,
    ),
    Bad(
        name="less than it says",
        headers=f"{_JSON}Content-Length: 500000\r\n",
        wanted=frozenset({408}),
        within_s=13,
    ),
    Bad(
        name="a slow body",
        headers=f"{_JSON}Content-Length: 50000\r\n",
        parts=400,
        pause_s=0.2,
        wanted=frozenset({408}),
        within_s=13,
    ),
    Bad(
        name="slow headers",
        ended=False,
        part=b"X-More: and more\r\n",
        parts=200,
        pause_s=0.2,
        wanted=frozenset({408, None}),
        within_s=30,
    ),
    Bad(
        name="headers without end",
        ended=False,
        part=b"X-More: " + b"x" * 8_000 + b"\r\n",
        parts=1600,
        wanted=frozenset({400, 413, 431, None}),
        within_s=15,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Got:
    """What became of one of them."""

    status: int | None
    seconds: float  # infinite: nothing came

    def fits(self, bad: Bad) -> bool:
        """Whether it was refused as it should be; admission may refuse any of so many at once."""
        return self.status in bad.wanted | {503} and self.seconds <= bad.within_s


def bad_bodies(service: Served, bodies: Sequence[bytes], rate: float) -> list[Row]:
    """Twenty of each kind at once, while others ask as ever."""
    before_mb = service.proxy_mb()
    peak_mb = [before_mb]
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(service, peak_mb, over), daemon=True)
    with beside(service.url, bodies, rate=rate, duration_s=_GIVE_UP_S + 3) as load:
        watch.start()
        got = asyncio.run(_send_all(service.url))
        over.set()
        watch.join()
    report = load.report()
    grown_mb = max(peak_mb) - before_mb
    told = "; ".join(f"{bad.name} {_told(got[bad.name])}" for bad in KINDS)
    wrong = sum(not one.fits(bad) for bad in KINDS for one in got[bad.name])
    return [
        Row(
            drill=f"{_EACH} bad bodies of each kind at once, through the proxy",
            requests=_EACH * len(KINDS),
            failed=wrong,
            degraded=0,
            result=f"{told}; the proxy held {max(peak_mb):.0f} MB, {grown_mb:+.0f}",
            promise=f"each refused as it should be, the proxy grows by less than {_MOST_MB} MB",
            met=wrong == 0 and grown_mb < _MOST_MB,
            figures={"proxy_grown_mb": grown_mb},
        ),
        loaded(
            "others, beside the bad bodies",
            [report],
            f"p99 {p99_ms(report):.0f} ms",
            promise="0 failed",
            met=failed(report) == 0,
        ),
    ]


def _told(got: Sequence[Got]) -> str:
    """What came most often, and when at the latest."""
    statuses = [one.status for one in got]
    most = max(set(statuses), key=statuses.count)
    latest_s = max(one.seconds for one in got)
    few = len(got) - statuses.count(most)
    otherwise = f", {few} otherwise" if few else ""
    if latest_s == float("inf"):
        return f"still open after {_GIVE_UP_S:.0f} s{otherwise}"
    return f"{most or 'closed'} ({latest_s:.1f} s{otherwise})"


def _watch(service: Served, held_mb: list[float], over: threading.Event) -> None:
    while not over.wait(0.2):
        held_mb.append(service.proxy_mb())


async def _send_all(url: str) -> dict[str, list[Got]]:
    names = [bad for bad in KINDS for _ in range(_EACH)]
    every = await asyncio.gather(*(_send(url, bad) for bad in names))
    found: dict[str, list[Got]] = {}
    for bad, got in zip(names, every, strict=True):
        found.setdefault(bad.name, []).append(got)
    return found


async def _send(url: str, bad: Bad) -> Got:
    """Send until an answer comes, or the other side hangs up."""
    parts = urlsplit(url)
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    sending = asyncio.create_task(_write(writer, bad))
    try:
        async with asyncio.timeout(_GIVE_UP_S):
            line = await reader.readline()
    except ConnectionError:
        line = b""
    except TimeoutError:
        return Got(status=None, seconds=float("inf"))
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending
        writer.transport.abort()
    status = int(line.split()[1]) if line.startswith(b"HTTP/") else None
    return Got(status=status, seconds=time.monotonic() - began)


async def _write(writer: asyncio.StreamWriter, bad: Bad) -> None:
    with suppress(ConnectionError):
        for piece in bad.pieces():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(bad.pause_s)
