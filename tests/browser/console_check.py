"""Drives the console in headless Chromium against a stub service, and says what is wrong with it.

    python tests/browser/console_check.py                    # checks, about a minute
    python tests/browser/console_check.py --shots DIRECTORY  # and keeps pictures
    python tests/browser/console_check.py runs/demo          # and serves a run, and checks that too

It is no pytest test, since it needs a browser. Chromium is looked for on the path, or named by
--chromium; it is driven through Playwright, whose own browsers are not needed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))
import answer_checks
import editor_checks
import served_checks
from console_driver import WrongError, fill_whole, give_key, opened, wait
from console_stub import Stub

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SIZES = {"wide": (1280, 900), "narrow": (360, 740)}


def take_pictures(browser: Browser, into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        for name, (width, height) in _SIZES.items():
            size = {"width": width, "height": height}
            stub = Stub(degraded=True)
            with opened(browser, stub, viewport=size, color_scheme=scheme) as page:
                fill_whole(page)
                page.mouse.move(0, 0)
                page.screenshot(path=into / f"{name}-{scheme}.png", full_page=True)
    with opened(browser, Stub(), viewport={"width": 1280, "height": 900}) as page:
        wait(page, "#key-trouble", "API key")
        page.screenshot(path=into / "no-key.png", full_page=True)
        give_key(page)
        page.fill("#history", "late,2017-01-01\nlate,2017-01-02")
        page.click("#ask")
        wait(page, "#problems", "Event 2")
        page.screenshot(path=into / "refused.png", full_page=True)


CHECKS: list[Callable[[Browser], None]] = [
    answer_checks.check_key,
    answer_checks.check_answer,
    answer_checks.check_explanation,
    answer_checks.check_health,
    answer_checks.check_binary,
    editor_checks.check_untrusted,
    editor_checks.check_problems,
    editor_checks.check_adding,
    editor_checks.check_curl,
    editor_checks.check_widths,
]


def find_chromium(given: Path | None) -> str:
    found = str(given) if given else next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None or not Path(found).is_file():
        sys.exit(
            f"no Chromium found ({given or ', '.join(_BROWSERS)}): install it, on Debian or Ubuntu "
            "with `apt-get install --no-install-recommends chromium fonts-dejavu-core`, or name "
            "one with --chromium PATH."
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", help="a run to serve; by default none")
    parser.add_argument("--chromium", type=Path, help="the browser; by default one on the path")
    parser.add_argument("--shots", type=Path, help="directory for pictures; by default none")
    asked = parser.parse_args()
    try:
        from playwright.sync_api import Error, sync_playwright
    except ModuleNotFoundError:
        sys.exit("Playwright is missing: `pip install -c constraints.txt playwright`.")
    chromium = find_chromium(asked.chromium)
    with sync_playwright() as playwright, ExitStack() as stack:
        checks = {check.__name__: check for check in CHECKS}
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        if asked.run:
            url = stack.enter_context(served_checks.served(asked.run))
            check_served = partial(served_checks.check_served, url=url, shots=asked.shots)
            checks["check_served"] = check_served
        failed = 0
        for name, check in checks.items():
            try:
                check(browser)
            except (WrongError, Error) as error:
                failed += 1
                print(f"WRONG {name}: {error}", flush=True)
            else:
                print(f"ok    {name}", flush=True)
        if asked.shots:
            take_pictures(browser, asked.shots)
        browser.close()
    print(f"{len(checks) - failed} of {len(checks)} checks passed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
