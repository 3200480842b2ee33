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

from sam2s_ros.console.safety import Access  # noqa: E402

CLASSES = ("instrument", "object", "hook")
# Whether nothing is drawn.
BLANK = """["picture", "masks", "marks"].every((id) => {
  const canvas = document.getElementById(id);
  return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.every((value) => value === 0);
})"""


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


def test_nothing_of_one_camera_is_left_on_another(screen, link, other):
    screen.start(20, 24)
    screen.page.locator("#cameras button", has_text="/other").click()
    assert screen.get(SHOWN) is None and screen.page.locator("#empty").is_visible()
    assert screen.get(BLANK), "neither the picture nor the masks of the camera before"
    screen.page.mouse.click(300, 300)
    screen.page.keyboard.press("d")
    assert "no picture of this camera yet" in screen.page.locator("#message").inner_text()
    screen.step(other)
    assert not screen.page.locator("#empty").is_visible()
    screen.start(30, 20)
    assert len(link.asked) == len(other.asked) == 1 and other.places and link.places
    screen.page.keyboard.press("t")
    screen.until(f"{SHOWN}?.camera === '/echo'")  # though no newer one has come


def test_a_page_comes_back_to_its_camera_when_the_console_starts_anew(screen, console, link, other):
    screen.page.keyboard.press("t")
    screen.until("sam2s.state.camera === '/other'")
    console.stop()
    screen.until("!sam2s.connected")
    again = EchoConsole(port=console.port)
    try:
        screen.until("sam2s.connected && sam2s.state.camera === ''")
        again.add(link)
        screen.until("sam2s.state.camera === '/echo'")  # for want of the other
        again.add(other)
        screen.until("sam2s.state.camera === '/other'")
    finally:
        again.stop()


def test_a_click_is_about_what_was_chosen_when_it_was_made(screen, link):
    link.free.clear()
    screen.click(20, 24)
    screen.click(22, 26)  # the same instrument, before the console has said which number it got
    link.free.set()
    screen.until(f"{SHOWN}.objects.length > 0")
    [first] = link.places
    screen.settle(first)
    assert [own.object_id for own in link.asked] == [0, first] and screen.get("sam2s.chosen") == first
    link.free.clear()
    screen.page.keyboard.press("n")
    screen.click(40, 10)
    screen.page.keyboard.press("n")
    screen.click(50, 40)  # another one, as was said
    screen.get(f"sam2s.choose({first})")
    link.free.set()
    screen.settle(first)
    assert [own.object_id for own in link.asked[2:]] == [0, 0] and len(link.places) == 3
    assert screen.get("sam2s.chosen") == first, "the answers that came after it change nothing"
    screen.until(f"{SHOWN}.objects.length === 3")
    screen.get("sam2s.choose(77)")
    screen.click(10, 10)
    screen.until("document.getElementById('message').textContent === 'object 77 is not tracked'")
    assert len(link.places) == 3, "none is started in place of one that is gone"


def test_an_answer_for_one_camera_chooses_nothing_on_another(screen, link, other):
    link.free.clear()
    screen.click(20, 24)
    screen.page.keyboard.press("t")
    screen.step(other)
    link.free.set()
    screen.until("document.getElementById('message').textContent.startsWith('object ')")
    assert screen.get("sam2s.chosen") == 0 and len(link.places) == 1
    screen.click(30, 20)
    screen.until(f"{SHOWN}.objects.length === 1")
    assert [own.object_id for own in other.asked] == [0]


def test_a_frozen_page_shows_what_is_clicked_also_after_a_loss_of_the_connection(screen, link):
    frozen = screen.step(link)
    screen.page.keyboard.press("f")
    screen.get("(globalThis.lost = sam2s.connection.socket).close()")
    link.step()
    screen.until("sam2s.connected && sam2s.connection.socket !== lost && sam2s.state.history.length === 3")
    number = screen.start(20, 24)
    assert screen.get(SHOWN)["stamp"] == frozen and screen.get(SHOWN)["frozen"]
    screen.click(30, 24)
    screen.settle(number)
    assert list(link.places) == [number], "the next click corrects what is seen"
    screen.page.keyboard.press("f")
    screen.until(f"{SHOWN}.stamp !== '{frozen}'")


def test_a_list_of_classes_keeps_neither_the_keys_nor_what_was_refused(screen, link):
    link.session.on_classes([{"id": n, "name": name, "color": "#ffffff"} for n, name in enumerate(CLASSES, 1)])
    number = screen.start(20, 24)
    choice = screen.page.locator(f"#objects li[data-id='{number}'] select")
    screen.until("sam2s.state.classes.length === 3")
    choice.focus()
    for key in ("o", "h"):  # one that is of the page, and one that is of nothing
        screen.hold(key)
    assert choice.input_value() == "instrument" and screen.get("sam2s.view.contours") is False
    choice.select_option("object")
    screen.until(f"{SHOWN}.objects[0].class === 'object'")
    assert screen.get("document.activeElement === document.body")
    link.refused.add("hook")
    choice.focus()
    choice.select_option("hook")
    screen.until("document.getElementById('message').textContent.includes(\"class 'hook' is not in the label set\")")
    screen.until(f"document.querySelector('#objects li[data-id=\"{number}\"] select').value === 'object'")


def test_a_digit_chooses_the_object_of_this_number(screen):
    first, second = screen.start(20, 24), screen.start(40, 10)
    assert (first, second) == (2, 3), "not the first and the second of the list"
    for number in (first, second):
        screen.page.keyboard.press(str(number))
        assert screen.get("sam2s.chosen") == number
    screen.page.keyboard.press("1")
    assert screen.page.locator("#message").inner_text() == "there is no object 1 on this picture"
    assert screen.get("sam2s.chosen") == second


def test_a_picture_that_comes_no_more_does_not_look_live(screen, link):
    stale = "document.getElementById('stage').classList.contains('stale')"
    note = "document.getElementById('note').textContent"
    screen.step(link)
    screen.until(f"!{stale} && {note} === ''")
    screen.get("sam2s.view.frame.arrived -= 5000")
    screen.until(f"{stale} && /^This picture is old: [5-9] s$/.test({note})")
    screen.until("/picture [5-9][0-9]{3} ms old/.test(document.getElementById('status').textContent)")
    screen.page.keyboard.press("f")
    screen.until(f"!{stale} && {note} === 'Frozen'")
    screen.page.keyboard.press("f")
    screen.step(link)
    screen.until(f"!{stale} && {note} === ''")


def test_a_press_that_the_system_takes_away_lets_the_pictures_go_on(screen, link):
    screen.page.mouse.move(*screen.place(20, 24))
    screen.page.mouse.down()
    assert screen.get("sam2s.freeze.stamp")
    screen.get("document.getElementById('stage').dispatchEvent(new PointerEvent('pointercancel'))")
    screen.page.mouse.up()
    screen.step(link)
    assert not link.asked


def test_a_page_that_is_refused_says_why(screen, console, link):
    console.stop()
    screen.until("!sam2s.connected")
    again = EchoConsole(link, port=console.port, access=Access("127.0.0.1", (), "o" * 20, "v" * 20))
    try:
        screen.until("document.getElementById('node_state').textContent === 'REFUSED'")
        said = screen.page.locator("#message").inner_text()
        assert said == "a token is needed: open the address that the console printed at its start"
        assert screen.page.locator("#node_state").get_attribute("title") == said
    finally:
        again.stop()


def test_a_correction_on_an_earlier_picture_is_said_on_those_after_it(screen, link):
    link.now = lambda: 0  # as of a recording: that a picture is old is not said then
    number = screen.start(20, 24)
    early, newest = screen.step(link), screen.step(link)
    screen.until("sam2s.state.history.length === 3")
    screen.page.keyboard.press("f")
    screen.page.keyboard.press(",")
    screen.until(f"{SHOWN}.stamp === '{early}'")
    screen.click(40, 10)
    screen.settle(number)
    screen.page.keyboard.press("f")
    screen.until(f"{SHOWN}.stamp === '{newest}'")
    note = screen.page.locator("#note").inner_text()
    assert note == f"Corrected on an earlier picture, and not known on this one: {number}"
    assert screen.page.locator(f"#objects li[data-id='{number}'] .facts").inner_text().endswith(", not known here")
    assert screen.get("sam2s.chosen") == number, "the next click says where it is"


def test_the_picture_before_one_that_has_just_come_is_one_step_back(screen, link):
    early, newest = screen.step(link), screen.step(link)
    screen.until("sam2s.state.history.length === 3")
    screen.get("sam2s.state.history.pop()")  # as it is for a moment after a picture has come: states come less often
    for key in ("f", ","):
        screen.page.keyboard.press(key)
    assert screen.get("sam2s.freeze.stamp") == early
    screen.until("sam2s.state.history.length === 3")
    screen.page.keyboard.press(".")
    assert screen.get("sam2s.freeze.stamp") == newest
