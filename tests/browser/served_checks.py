"""The console of a real service, as `penchant serve run` starts it: it shows what that says."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from console_driver import WrongError, ask, expect, expect_in, opened_at, texts, wait

from penchant.serve.run import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["check_served", "served"]

_START_S, _STOP_S = 240.0, 60.0
WIDTHS = (360, 1280)


@contextmanager
def served(run: Path) -> Iterator[str]:
    """The address of a service of its own for the length of a `with`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with tempfile.TemporaryDirectory() as folder:
        words = ["serve", "run", str(run), "--port", str(port), "--service", folder]
        process = subprocess.Popen([sys.executable, "-m", "penchant.cli.main", *words])
        try:
            _wait_until_ready(process, url)
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(_STOP_S)


def check_served(browser: Browser, url: str, shots: Path | None) -> None:
    """A recorded history is answered and explained, on a phone and on a desk."""
    card = httpx.get(f"{url}v1/ensemble").json()
    for width in WIDTHS:
        with opened_at(browser, url, viewport={"width": width, "height": 800}) as page:
            wait(page, "#health-text", "Ready")
            expect(page.text_content("#name"), card["name"], "name")
            page.select_option("#example", index=1)
            with page.expect_response("**/v1/*") as told:
                ask(page)
            _check_answer(page, card, told.value.json())
            page.locator("#results button.item").first.click()
            page.wait_for_selector("#explanation table")
            found = page.evaluate("document.documentElement.scrollWidth")
            expect(found <= width, True, f"width of the page at {width} pixels ({found})")
            if shots:
                shots.mkdir(parents=True, exist_ok=True)
                page.screenshot(path=shots / f"served-{width}.png", full_page=True)


def _check_answer(page: Page, card: dict[str, Any], answer: dict[str, Any]) -> None:
    """Rows as the service sent them, best first, each with its members' scores."""
    results = answer["results"]
    expect(page.locator("#results tbody tr").count(), len(results), "rows")
    names = [result.get("text") or result["item"] for result in results]
    expect(texts(page, "#results button.item"), names, "items, best first")
    scores = [result["score"] for result in results]
    expect(scores, sorted(scores, reverse=True), "order of the scores")
    expect_in(answer["request_id"], page.text_content("#answer-status") or "", "what is said")
    page.check("#show-members")
    members = sum(member["weight"] != 0 for member in card["members"])
    own = page.locator("#results tbody tr:first-child td[data-member]")
    expect(own.count(), members, "members beside the first item")


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < until:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}readyz").status_code == 200:
                return
        time.sleep(0.5)
    raise WrongError(f"the service is not ready after {_START_S:.0f} s: see above")
