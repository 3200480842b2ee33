"""The page in a real Chromium, on a tracker at the boundary of the server: what keys, clicks and late answers do.

Chromium is the system's (Debian: `apt-get install chromium`), driven by playwright.
"""

from __future__ import annotations

import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("there is no Chromium: install it (Debian: apt-get install chromium)", allow_module_level=True)
pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'sam2s_ros[console]'")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install 'sam2s_ros[browser]'"
)
from echo_screen import SHOWN, EchoConsole, EchoScreen, LateLink  # noqa: E402


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


@pytest.fixture
def link() -> LateLink:
    return LateLink()


@pytest.fixture
def other() -> LateLink:
    return LateLink("/other")


@pytest.fixture
def console(link, other):
    made = EchoConsole(link, other)
    yield made
    made.stop()


@pytest.fixture
def screen(browser, console, link):
    page = browser.new_page(viewport={"width": 1000, "height": 700})
    made = EchoScreen(page)
    page.goto(console.address)
    made.step(link)
    yield made
    page.close()
    assert made.errors == []


def test_a_key_that_is_held_is_one_press(screen, link):
    number = screen.start(20, 24)
    for key in ("Delete", "r"):
        screen.hold(key)
    screen.unsure()
    screen.page.locator("#reset").focus()
    screen.hold("Enter")
    screen.settle(number)
    assert list(link.places) == [number]
    screen.page.locator("#stage").focus()
    screen.hold("ArrowRight")
    assert screen.get("sam2s.view.cross") == [35, 24], "from the middle, by one px for each of three"
    screen.unsure()
    screen.page.keyboard.press("Delete")
    screen.page.keyboard.press("Delete")
    screen.until(f"{SHOWN}.objects.length === 0")
    assert not link.places


def test_without_a_tracker_the_page_says_so(browser):
    console = EchoConsole()
    page = browser.new_page()
    try:
        screen = EchoScreen(page)
        page.goto(console.address)
        screen.until("document.getElementById('status').textContent.startsWith('no tracker was found')")
        assert screen.errors == []
    finally:
        page.close()
        console.stop()
