"""What the console lets in: histories, untrusted texts, narrow windows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from console_driver import ask, expect, expect_in, fill_whole, give_key, opened, texts, wait
from console_stub import HOSTILE, KEY, Stub

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["check_adding", "check_curl", "check_problems", "check_untrusted", "check_widths"]


def check_untrusted(browser: Browser) -> None:
    """Markup in texts stays text wherever it is shown, and the page cannot be made to read it."""
    with opened(browser, Stub(name=HOSTILE), forgiven="TrustedHTML") as page:
        give_key(page)
        page.select_option("#example", index=2)
        expect(json.loads(page.input_value("#history"))[0]["group"], "basket 7", "groups as JSON")
        ask(page)
        page.locator("#results button.item").nth(1).click()
        page.wait_for_selector("#events-caption")
        shown = page.locator("h1, #example, #results, #explanation").all_text_contents()
        expect([HOSTILE in text for text in shown], [True] * 4, "the text, letter by letter")
        expect(page.locator("main img, main script").count(), 0, "elements made of an item's text")
        expect(page.evaluate("window.hurt ?? null"), None, "script out of an item's text")
        refused = page.evaluate(
            "() => { try { document.body.innerHTML = '<b>'; } catch (e) { return e.name; } }"
        )
        expect(refused, "TypeError", "innerHTML, which trusted types forbid")


def check_problems(browser: Browser) -> None:
    """What is wrong stands by the editor and leads to its line, seen here or by the service."""
    stub = Stub()
    with opened(browser, stub) as page:
        give_key(page)
        page.fill("#history", 'item,time\na,2017-01-01\n\n"x, y",2017-01-02T10:00:00Z,buy,many\nb')
        wait(page, "#history-count", "3 events of 3 items, 2017-01-01 to 2017-01-02 10:00")
        told = ["Event 2: expected a number as value", "Event 3: expected item,time[,type[,value]]"]
        expect(texts(page, "#problems li"), told, "problems of lines")
        page.click("#ask")
        expect(stub.asked, [], "what is asked while the history cannot be read")
        page.fill("#history", '[{"item": "a", "time": 1},\n {"item": "late"')
        expect_in("History: ", page.text_content("#problems") or "", "bad JSON")
        page.fill(
            "#history", '[{"item": "a]}\\"", "time": 1512000000000},\n{"item": "late", "time": 2}]'
        )
        expect(page.text_content("#problems"), "", "good JSON")
        page.click("#ask")
        wait(page, "#problems", "Event 2, time: expected a time before the request's")
        expect(stub.asked[-1][1]["history"][0]["item"], 'a]}"', "JSON is asked as it is")
        wait(page, "#answer-trouble", "The service refused the question")
        page.click("#problems button")
        chosen = "document.activeElement.value.slice(document.activeElement.selectionStart, "
        chosen += "document.activeElement.selectionEnd)"
        expect(page.evaluate(chosen), '{"item": "late", "time": 2}', "the event that is shown")
        page.fill("#history", "a,2017-01-01")
        expect(page.text_content("#problems"), "", "problems of a history that has changed")


def check_adding(browser: Browser) -> None:
    """Events are added by hand, to lines and to JSON, and Enter adds instead of asking."""
    stub = Stub()
    with opened(browser, stub) as page:
        give_key(page)
        page.fill("#add-item", "a, b")
        page.fill("#add-time", "2017-11-30T09:30")
        page.select_option("#add-type", "coupon")
        page.fill("#add-value", "2.5")
        page.press("#add-item", "Enter")
        expect(page.input_value("#history"), '"a, b",2017-11-30T09:30Z,coupon,2.5', "a line")
        expect(page.evaluate("document.activeElement.id"), "add-item", "focus after adding")
        page.fill("#history", '[{"item": "c", "time": 1512000000000, "group": "g"}]')
        page.fill("#add-item", "d")
        page.click("#add-event")
        items = [event["item"] for event in json.loads(page.input_value("#history"))]
        expect(items, ["c", "d"], "an event added to JSON")
        expect(stub.asked, [], "what is asked by adding")


def check_curl(browser: Browser) -> None:
    """The command holds the question and not the key, and quotes what a shell would read."""
    with opened(browser, Stub()) as page:
        give_key(page)
        page.fill("#history", "it's,2017-01-01")
        page.click("#copy")
        command = page.input_value("#curl")
        expect_in("'\\''s\"", command, "a quote inside the body")
        expect_in('-H "Authorization: Bearer $PENCHANT_API_KEY"', command, "the key's place")
        expect_in(f"{page.url}v1/recommend'", command, "address")
        expect(KEY in command, False, "the key itself")


def check_widths(browser: Browser) -> None:
    """Nothing runs over the page at 360 pixels; wide tables scroll inside their boxes."""
    for width in (360, 768, 1280):
        size = {"width": width, "height": 800}
        with opened(browser, Stub(name="a" * 80), viewport=size) as page:
            fill_whole(page)
            found = page.evaluate("document.documentElement.scrollWidth")
            expect(found <= width, True, f"width of the page at {width} pixels ({found})")
            unnamed = page.evaluate(
                """() => [...document.querySelectorAll("input, select, textarea, button")]
                .filter((e) => !e.labels?.length && !e.textContent.trim() && !e.ariaLabel)
                .map((e) => e.id)"""
            )
            expect(unnamed, [], "controls without a name")
