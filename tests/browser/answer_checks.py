"""The console's key, answers, explanations and state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console_driver import ask, expect, expect_in, give_key, opened, texts, wait
from console_stub import HOSTILE, KEY, NOW_MS, Stub

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["check_answer", "check_binary", "check_explanation", "check_health", "check_key"]


def check_key(browser: Browser) -> None:
    """Without a key the page says so and goes there; with one it shows what is served."""
    with opened(browser, Stub()) as page:
        wait(page, "#key-trouble", "wants an API key")
        expect(page.evaluate("document.activeElement.id"), "key", "focus after 401")
        expect(page.get_attribute("#key", "aria-invalid"), "true", "the key's field")
        wait(page, "#health-text", "Ready")
        expect(page.text_content("#name"), "average", "name, known without a key")
        page.fill("#key", "pk_wrong")
        page.press("#key", "Enter")
        wait(page, "#key-trouble", "not accepted")
        give_key(page)
        expect(page.text_content("#key-trouble"), "", "no complaint of a right key")
        facts = dict(zip(texts(page, "#facts dt"), texts(page, "#facts dd"), strict=True))
        expect(facts["Version"], "3f2a9c01d4e7", "version")
        expect(facts["Data until"], "2017-10-02", "data until")
        expect(facts["Items"], "68,377", "items")
        expect(page.text_content("#task"), " · next item", "task")
        kept = page.evaluate("[sessionStorage['penchant.key'], localStorage.length]")
        expect(kept, [KEY, 0], "where the key is kept")
        page.reload()
        page.wait_for_selector("#ensemble table")


def check_answer(browser: Browser) -> None:
    """An example is asked with, ranked, and each score is beside its members' scores."""
    stub = Stub()
    with opened(browser, stub) as page:
        give_key(page)
        page.select_option("#example", label="Two events")
        lines = "1082185,2017-11-30T12:00:00Z,buy,2\n981760,2017-11-28T12:00:00Z,coupon,1"
        expect(page.input_value("#history"), lines, "the example as lines")
        expect_in("2 events of 2 items", page.text_content("#history-count") or "", "count")
        ask(page)
        path, body = stub.asked[-1]
        expect(
            (path, body["k"], body["time"]), ("/v1/recommend", 10, "2017-12-01T12:00:00Z"), "ask"
        )
        sent = {"item": "1082185", "time": "2017-11-30T12:00:00Z", "type": "buy", "value": 2}
        expect(body["history"][0], sent, "first event")
        names = ["Bananas", HOSTILE, "Milk, 1 gallon", "995242"]
        expect(texts(page, "#results button.item"), names, "items, best first, texts as they are")
        rows = page.locator("#results tbody tr")
        expect(rows.nth(2).locator("td.number").nth(1).text_content(), "−0.500", "third score")
        expect(rows.nth(2).locator("td.number").nth(2).text_content(), "3.4%", "its probability")
        status = page.text_content("#answer-status") or ""
        for part in (
            "4 items from 2 events",
            "ms as measured here",
            stub._head(body)["request_id"],
        ):
            expect_in(part, status, "what is said of the answer")
        own = page.locator("#results td[data-member]")
        expect(own.first.is_visible(), False, "members' scores before they are wanted")
        page.check("#show-members")
        expect(
            texts(page, "#results tbody tr:first-child td[data-member]"),
            ["0.9000#1", "7.000#2"],
            "first",
        )
        expect(
            texts(page, "#results tbody tr:nth-child(3) td[data-member]"),
            ["0.7000#2", "–"],
            "third",
        )
        expect(own.first.is_visible(), True, "members' scores when they are wanted")
        expect(page.is_visible("#degraded"), False, "banner of a whole answer")


def check_explanation(browser: Browser) -> None:
    """An item's row, or its button by keyboard, shows shares and effects with their signs."""
    stub = Stub()
    with opened(browser, stub) as page:
        give_key(page)
        page.select_option("#example", label="Two events")
        ask(page)
        page.locator("#results tbody tr").nth(2).locator("td").nth(1).click()
        page.wait_for_selector("#events-caption")
        path, body = stub.asked[-1]
        expect(
            (path, body["candidates"], body["time"]), ("/v1/explain", ["1029743"], NOW_MS), "ask"
        )
        expect(len(body["history"]), 2, "events of the explained question")
        page.focus("#results tbody tr:first-child button.item")
        page.keyboard.press("Enter")
        wait(page, "#explanation h3", "Why: Bananas")
        page.wait_for_selector("#shares-caption")
        shares = texts(page, "#explanation table:has(#shares-caption) tbody td:nth-child(2)")
        expect(shares, ["+3.000", "−0.500"], "shares")
        events = page.locator("#explanation table:has(#events-caption) tbody tr")
        expect(events.nth(0).locator("td.number").text_content(), "+1.500raises", "first effect")
        expect(events.nth(1).locator("td.number").text_content(), "−0.750lowers", "second effect")
        expect(events.nth(1).locator("small").first.text_content(), "981760 · 2017-11-28 12:00", "")
        box = [events.nth(at).locator(".bar i").bounding_box() or {} for at in (0, 1)]
        expect(round(box[0]["width"] / box[1]["width"]), 2, "length of the bars, 1.5 to 0.75")
        expect(abs(box[1]["x"] + box[1]["width"] - box[0]["x"]) < 2, True, "bars meet at zero")
        pressed = page.locator("#results [aria-pressed=true]")
        expect(pressed.all_text_contents(), ["Bananas"], "the chosen item")
        page.click("#explanation button")
        expect(page.text_content("#explanation"), "", "closed")
        expect(
            page.evaluate("document.activeElement.textContent"), "Bananas", "focus after closing"
        )
        page.route("**/v1/explain", lambda route: route.abort())
        page.locator("#results button.item").nth(1).click()
        wait(page, "#explanation [role=alert]", "The service cannot be reached.")
        expect(page.locator("#results tbody tr").count(), 4, "rows that stay")


def check_health(browser: Browser) -> None:
    """What the service is like is said in words, and the answer says who is missing."""
    stub = Stub(degraded=True)
    with opened(browser, stub) as page:
        give_key(page)
        wait(page, "#health-text", "Ready")
        ask(page)
        banner = "Degraded: made without neighbours (it was too slow)."
        expect_in(banner, page.text_content("#degraded") or "", "banner")
        wait(page, "#health-text", "Degraded: the last answer was made without neighbours")
        stub.ready = False
        wait(page, "#health-text", "Not ready. The service is not ready: no member answers.")
        stub.ready, stub.degraded = True, False
        ask(page)
        wait(page, "#health-text", "Ready")
        expect(page.is_visible("#degraded"), False, "banner of a whole answer")
        stub.name = "gated"
        wait(page, "h1", "gated")
        page.route("**/healthz", lambda route: route.abort())
        wait(page, "#health-text", "Not reachable.")


def check_binary(browser: Browser) -> None:
    """A yes-or-no ensemble is asked for candidates, and answers best first all the same."""
    stub = Stub(task="binary", keyed=False)
    with opened(browser, stub) as page:
        page.wait_for_selector("#ensemble table")
        expect([page.is_visible("#k"), page.is_visible("#candidates")], [False, True], "options")
        page.select_option("#example", label="Two events")
        expect(page.input_value("#candidates"), "995242\n981760", "candidates of the example")
        ask(page)
        path, body = stub.asked[-1]
        expect((path, body["candidates"]), ("/v1/score", ["995242", "981760"]), "question")
        expect("k" in body, False, "k of a binary question")
        expect(texts(page, "#results button.item"), [HOSTILE, "995242"], "best first")
