"""The example's page in a real browser: everything a newcomer would click.

Needs Chromium: Debian's (``apt-get install chromium``) or the one that ``CHROMIUM`` names. With
``SCREENSHOTS`` set to a folder, it is photographed on the way.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.assistant_support import QUESTION, assistant, folder  # noqa: F401
from tests.database_support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI
    from playwright.sync_api import Browser, Page

    from a2rchi_pg import KeyRing

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip
SHOTS = os.environ.get("SCREENSHOTS")

if CHROMIUM is None:
    pytest.skip("there is no Chromium here: apt-get install chromium", allow_module_level=True)

api = pytest.importorskip("playwright.sync_api", reason="Playwright has no wheel for this machine")
uvicorn = pytest.importorskip("uvicorn")
expect = api.expect
pytestmark = [pytest.mark.servers("embedded"), pytest.mark.xdist_group("browser")]


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The application on a port of its own."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def url(dsn: str, folder: Path, ring: KeyRing) -> Iterator[str]:
    with served(assistant(dsn, folder, ring)) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with (
        api.sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as launched,
    ):
        yield launched


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """A browser that was never here; the page may not break, nor ask anybody else for anything."""
    wrong: list[str] = []
    with browser.new_context(
        base_url=url, viewport={"width": 1240, "height": 800}, color_scheme="light"
    ) as context:
        context.set_default_timeout(10_000)
        context.on("weberror", lambda error: wrong.append(str(error.error)))
        context.on("request", lambda sent: sent.url.startswith(url) or wrong.append(sent.url))
        yield context.new_page()
    assert wrong == []


def photograph(page: Page, name: str) -> None:
    if SHOTS:
        expect(page.locator("#said")).to_be_attached()
        page.screenshot(path=Path(SHOTS) / f"{name}.png")


def sign_in(page: Page, name: str = "Ada") -> None:
    page.goto("/")
    page.get_by_label("Your name").fill(name)
    page.keyboard.press("Enter")
    expect(page.get_by_role("navigation", name="Views")).to_be_visible()


def ask(page: Page, question: str = QUESTION) -> None:
    """With the keyboard alone."""
    answers = page.get_by_role("article", name="Answer")
    before = answers.count()
    page.get_by_label("Your question").fill(question)
    page.keyboard.press("Enter")
    expect(answers).to_have_count(before + 1)


def go(page: Page, view: str) -> None:
    page.get_by_role("navigation", name="Views").get_by_role("link", name=view).click()
    expect(page).to_have_title(re.compile(view))


def sources(page: Page) -> str:
    return page.get_by_role("article", name="Answer").last.get_by_label("Sources").inner_text()


def test_a_question_is_answered_with_its_sources_and_is_there_after_a_reload(page: Page):
    sign_in(page)
    ask(page)
    answer = page.get_by_role("article", name="Answer").last
    expect(answer).to_contain_text("A failed job is retried three times")
    expect(answer).to_contain_text("extractive · hybrid-5")
    answer.locator(".words a.cite").first.press("Enter")
    expect(answer.locator("details[open] blockquote")).to_contain_text("failed job")
    photograph(page, "chat")
    answer.get_by_role("button", name="Like", exact=True).click()
    expect(answer.get_by_role("button", name="Like", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    answer.get_by_role("button", name="Comment").click()
    answer.get_by_label("Comment", exact=True).fill("It says how often.")
    page.keyboard.press("Enter")
    expect(answer.get_by_role("listitem")).to_contain_text("It says how often.")
    page.reload()
    answer = page.get_by_role("article", name="Answer").last
    expect(answer.get_by_role("button", name="Like", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    assert "jobs.md" in sources(page)


def test_a_document_off_for_me_and_on_in_this_conversation(page: Page):
    sign_in(page)
    ask(page)
    assert "old-jobs.md" in sources(page)
    go(page, "Documents")
    page.get_by_label("For me: old-jobs.md").select_option("off")
    row = page.get_by_role("row").filter(has_text="old-jobs.md")
    expect(row).to_contain_text("your choice")
    go(page, "Chat")
    ask(page)
    assert "old-jobs.md" not in sources(page)
    go(page, "Documents")
    page.get_by_label("In this conversation: old-jobs.md").select_option("on")
    expect(row).to_contain_text("your choice here")
    photograph(page, "documents")
    page.get_by_label("Filter by name").fill("pears")
    expect(page.locator("tbody tr")).to_have_count(1)
    go(page, "Chat")
    ask(page)
    assert "old-jobs.md" in sources(page)


def test_two_tabs_edit_the_configuration_and_it_goes_back(page: Page):
    sign_in(page)
    other = page.context.new_page()
    for tab in (page, other):
        tab.goto("/#/settings")
        expect(tab.get_by_label("Passages per answer")).to_have_value("5")
    page.get_by_label("Passages per answer").fill("3")
    page.get_by_label("Note").fill("Shorter answers")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Revision 1. What you change")).to_be_visible()
    other.get_by_label("Passages per answer").fill("8")
    other.get_by_role("button", name="Save").click()
    conflict = other.get_by_role("alert")
    expect(conflict).to_contain_text("Somebody else saved meanwhile")
    expect(conflict.get_by_role("group")).to_contain_text("3What you wanted")
    photograph(other, "conflict")
    conflict.get_by_label("What you wanted").check()
    conflict.get_by_role("button", name="Save this").click()
    expect(other.get_by_text("Revision 2. What you change")).to_be_visible()
    expect(other.get_by_label("Passages per answer")).to_have_value("8")
    other.evaluate("document.querySelector('main').scrollTop = 0")
    photograph(other, "settings")
    other.get_by_role("button", name="Roll back to revision 1").click()
    expect(other.get_by_label("Passages per answer")).to_have_value("3")
    other.get_by_label("Weight of meaning").fill("0.9")
    other.get_by_role("button", name="Save").click()
    expect(other.get_by_role("alert")).to_contain_text("must sum to 1")


def test_two_settings_side_by_side_and_a_vote(page: Page):
    sign_in(page)
    go(page, "Compare")
    page.get_by_label("Question").fill(QUESTION)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Left is better").click()
    expect(page.get_by_text("your choice")).to_be_visible()
    expect(page.get_by_text("hybrid-5")).to_be_visible()
    expect(page.get_by_text("bm25-5")).to_be_visible()
    photograph(page, "compare")


def test_a_key_is_set_and_deleted_and_the_theme_is_remembered(page: Page):
    sign_in(page)
    go(page, "You")
    page.get_by_label("Provider").fill("openai")
    page.get_by_label("Key", exact=True).fill("sk-of-mine-0123456789-7f3a")
    page.keyboard.press("Enter")
    expect(page.get_by_text("•••• 7f3a")).to_be_visible()
    photograph(page, "you")
    page.get_by_role("button", name="Delete the key for openai").click()
    expect(page.get_by_text("You have no keys here.")).to_be_visible()
    theme = page.get_by_role("button", name="Theme")
    theme.click()
    with page.expect_response("**/user/profile"):
        theme.click()
    go(page, "Chat")
    ask(page)
    page.reload()
    expect(theme).to_have_attribute("aria-label", "Theme: dark")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(18, 21, 27)"
    photograph(page, "dark")


def test_somebody_else_has_no_settings_and_other_conversations(page: Page, browser: Browser):
    sign_in(page)
    ask(page)
    with browser.new_context(
        base_url=page.url.split("#")[0], viewport={"width": 390, "height": 800}
    ) as context:
        theirs = context.new_page()
        sign_in(theirs, "Eve")
        expect(theirs.get_by_role("link", name="Settings")).to_be_hidden()
        expect(theirs.get_by_text("What would you like to know?")).to_be_visible()
        photograph(theirs, "phone")
        go(theirs, "Documents")
        expect(theirs.get_by_label("For everybody: jobs.md", exact=True)).to_be_disabled()
