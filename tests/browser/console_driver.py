"""Opens the console in Chromium, fills it in and looks at it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn
from console_stub import KEY, Stub

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = [
    "WrongError",
    "ask",
    "expect",
    "expect_in",
    "fill_whole",
    "give_key",
    "opened",
    "opened_at",
    "texts",
    "wait",
]

_WAIT_MS = 10_000


class WrongError(Exception):
    """The console does not do what it should."""


def expect(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise WrongError(f"{what}: expected {wanted!r}, found {found!r}")


def expect_in(part: str, whole: str, what: str) -> None:
    if part not in whole:
        raise WrongError(f"{what}: expected {part!r} in {whole!r}")


@contextmanager
def serving(stub: Stub) -> Iterator[str]:
    """The stub at an address of its own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(stub.app(), log_level="warning", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(10)


@contextmanager
def opened(browser: Browser, stub: Stub, *, forgiven: str = "", **options: Any) -> Iterator[Page]:
    """The console of a stub on a page."""
    with serving(stub) as url, opened_at(browser, url, forgiven=forgiven, **options) as page:
        yield page


@contextmanager
def opened_at(browser: Browser, url: str, *, forgiven: str = "", **options: Any) -> Iterator[Page]:
    """A console on a page; whatever the page complains of is an error, but for one complaint."""
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
    context.set_default_timeout(_WAIT_MS)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda line: (
            complaints.append(line.text)
            if line.type == "error" and "Failed to load resource" not in line.text
            else None
        ),
    )
    page.on(
        "request",
        lambda sent: (
            None
            if sent.url.startswith(url)
            else complaints.append(f"a request leaves the service: {sent.url}")
        ),
    )
    page.goto(url)
    try:
        yield page
        told = [line for line in complaints if not (forgiven and forgiven in line)]
        expect(told, [], "what the page complains of")
    finally:
        context.close()


def give_key(page: Page) -> None:
    page.fill("#key", KEY)
    page.press("#key", "Enter")
    page.wait_for_selector("#ensemble table")


def ask(page: Page) -> None:
    page.click("#ask")
    page.wait_for_selector("#results table")


def texts(page: Page, selector: str) -> list[str]:
    return page.locator(selector).all_text_contents()


def wait(page: Page, selector: str, part: str) -> str:
    """The text of an element, once a part stands in it."""
    found = ""
    until = time.monotonic() + _WAIT_MS / 1000
    while time.monotonic() < until:
        found = page.locator(selector).text_content() or ""
        if part in found:
            return found
        page.wait_for_timeout(50)
    raise WrongError(f"{selector}: expected {part!r}, found {found!r}")


def fill_whole(page: Page) -> None:
    """Everything that the page can show: an answer with members, an explanation, the card."""
    give_key(page)
    page.select_option("#example", label="Two events")
    ask(page)
    page.check("#show-members")
    page.locator("#results button.item").first.click()
    page.wait_for_selector("#events-caption")
