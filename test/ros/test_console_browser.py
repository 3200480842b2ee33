"""The page in a real Chromium, on a real tracker (sam2s_nano) that follows the procedural scene.

Chromium is the system's (Debian: `apt-get install chromium`), driven by playwright. SAM2S_SCREENSHOTS names a folder
that the screenshots are kept in.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("there is no Chromium: install it (Debian: apt-get install chromium)", allow_module_level=True)
pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'sam2s_ros[console]'")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install 'sam2s_ros[browser]'"
)
from console_page import Console  # noqa: E402

from sam2s_model.recordings.open import open_recording  # noqa: E402
from sam2s_ros.msg import TrackedMasks, TrackerStatus  # noqa: E402

WIDTH, HEIGHT = 320, 256  # px; larger images are lost where a process of the graph has no DDS profile, as this one
SCENE = f"scene:?width={WIDTH}&height={HEIGHT}&frames=40&seed=0"
NAME = "/in_browser/tracker"
WAIT = 60.0  # s; the machine of the tests does more than this
# sam2s is the page's own object, see static/main.js
SHOWN = "sam2s.view.frame?.header"
PLACE = """([x, y]) => {
  const [scale, left, top] = sam2s.view.fit();
  const stage = document.getElementById("stage").getBoundingClientRect();
  return [stage.left + left + (x + 0.5) * scale, stage.top + top + (y + 0.5) * scale];
}"""


class Screen:
    """The page, and where things are on it. Coordinates are px of the image."""

    def __init__(self, page, camera, frames):
        self.page, self.camera, self.frames, self.next = page, camera, frames, 0
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)

    def see(self, image: np.ndarray | None = None) -> str:
        """Send the next image of the scene (or this one), and wait until the page shows it. Returns its stamp."""
        if image is None:
            image, self.next = self.frames[self.next].image, self.next + 1
        for _ in range(20):  # the console, or the tracker, may just have found the camera
            stamp = str(self.camera.send(image))
            try:
                self.until(f"{SHOWN}?.stamp === '{stamp}' && {SHOWN}.tracked", timeout=5.0)
                return stamp
            except TimeoutError:
                continue
        raise AssertionError(f"no image arrived on the page: {self.get('sam2s.state')}")

    def until(self, condition: str, timeout: float = WAIT) -> None:
        """Wait until a condition holds. Asked from here: the page's own rules forbid it to run a text as a program."""
        deadline = time.monotonic() + timeout
        while not self.page.evaluate(condition):
            if time.monotonic() > deadline:
                said = self.page.evaluate("[sam2s.state, sam2s.view.frame?.header, document.body.innerText]")
                raise TimeoutError(f"waited {timeout} s for {condition}: {said}; {self.errors}")
            self.page.wait_for_timeout(20)

    def get(self, expression: str):
        return self.page.evaluate(expression)

    def at(self, x: float, y: float) -> list[float]:
        return self.page.evaluate(PLACE, [x, y])

    def click(self, x: float, y: float, button: str = "left") -> None:
        self.page.mouse.click(*self.at(x, y), button=button)

    def drag(self, x0: float, y0: float, x1: float, y1: float) -> None:
        self.page.mouse.move(*self.at(x0, y0))
        self.page.mouse.down()
        self.page.mouse.move(*self.at((x0 + x1) / 2, (y0 + y1) / 2))
        self.page.mouse.move(*self.at(x1, y1))
        self.page.mouse.up()

    def mask(self) -> np.ndarray:
        """(H, W) bool: where the newest picture shows any object."""
        labels = self.get("[sam2s.view.frame.labels.length, Array.from(sam2s.view.frame.labels).join('')]")
        assert labels[0] == HEIGHT * WIDTH, "labels below 10, one digit each"
        return (np.frombuffer(labels[1].encode(), np.uint8) > ord("0")).reshape(HEIGHT, WIDTH)

    def object_at(self, x: float, y: float) -> str:
        """An expression: id of the object there, or 0."""
        return f"(sam2s.view.objectAt([{x}, {y}])?.id ?? 0)"

    @property
    def ids(self) -> list[int]:
        return self.get(f"{SHOWN}.objects.map((object) => object.id)")


def inside(mask: np.ndarray, label: int) -> tuple[int, int]:
    """(x, y) of the pixel of an object that is farthest from its edge."""
    import cv2

    distance = cv2.distanceTransform((mask == label).astype(np.uint8), cv2.DIST_L2, 5)
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return int(x), int(y)


def box_of(mask: np.ndarray, label: int) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask == label)
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def labels_of(mask: np.ndarray) -> list[int]:
    """Labels in a ground truth, the largest object first."""
    values, counts = np.unique(mask[(mask > 0) & (mask < 255)], return_counts=True)
    return [int(label) for label in values[np.argsort(-counts)]]


def start_nano(start_tracker):
    return start_tracker(
        remap=("__ns:=/in_browser", "image:=/image"), checkpoint="sam2s_nano", model="auto", image_size=256,
        prompt_history=8, input_timeout=600.0, lost_after=2.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def tracker(graph, start_tracker, start):
    process = start_nano(start_tracker)
    statuses = graph.collect(TrackerStatus, f"{NAME}/status")
    graph.wait_until(
        lambda: statuses and statuses[-1].state == TrackerStatus.STATE_WAITING or not process.running(), 120
    )
    assert process.running(), process.output
    process.masks = graph.collect(TrackedMasks, f"{NAME}/masks")
    return process


@pytest.fixture(scope="module")
def console(start, tracker):
    return Console(start, trackers=NAME)


@pytest.fixture(scope="module")
def screen(browser, console, camera):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    made = Screen(page, camera, list(open_recording(SCENE)))
    made.console = console
    page.goto(console.address)
    return made


def screenshot(screen: Screen, name: str) -> None:
    folder = os.environ.get("SAM2S_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        screen.page.screenshot(path=str(Path(folder) / f"{name}.png"))


def test_a_person_clicks_corrects_names_freezes_and_removes(screen):
    """One visit, from the first click on; each step needs the one before."""
    page = screen.page
    screen.see()
    screen.until("sam2s.state?.classes.length > 0")

    page.locator("#who").fill("Ada")
    page.locator("#who").press("Tab")

    # A click on an instrument: its mask contains the click.
    truth = screen.frames[screen.next - 1].truth.labels
    first_label, second_label = labels_of(truth)[:2]
    x, y = inside(truth, first_label)
    began = time.monotonic()
    screen.click(x, y)
    screen.until(f"{screen.object_at(x, y)} > 0")
    print(f"from the click until its mask is on the page: {time.monotonic() - began:.2f} s")
    [first] = screen.ids
    assert screen.get("sam2s.chosen") == first, "the next click corrects it"

    # A click off it takes a part of the mask away.
    screen.see()
    before = screen.mask()
    rows, columns = np.nonzero(before)
    far = int(((columns - x) ** 2 + (rows - y) ** 2).argmax())
    off_x, off_y = int(columns[far]), int(rows[far])
    screen.click(off_x, off_y, button="right")
    screen.until(f"{screen.object_at(off_x, off_y)} === 0")

    # Taken back: the mask of before.
    page.keyboard.press("u")
    screen.until(f"sam2s.state.undo === 'start of object {first}'")
    restored = screen.mask()
    assert (restored & before).sum() > 0.85 * (restored | before).sum(), "as well as the model gives a mask back"

    # A box starts another object.
    page.keyboard.press("n")
    page.keyboard.press("b")
    screen.see()
    truth = screen.frames[screen.next - 1].truth.labels
    screen.drag(*box_of(truth, second_label))
    screen.until(f"{SHOWN}.objects.length === 2")
    second = max(screen.ids)
    screenshot(screen, "box")
    x0, y0, x1, y1 = box_of(truth, second_label)
    left, top, right, bottom = screen.get(f"{SHOWN}.objects.find((object) => object.id === {second}).box")
    shared = max(0, min(x1, right) - max(x0, left)) * max(0, min(y1, bottom) - max(y0, top))
    assert shared > 0.3 * (x1 - x0) * (y1 - y0), (left, top, right, bottom)

    # Names and classes.
    row = page.locator(f"#objects li[data-id='{second}']")
    row.locator("input[type=text]").fill("left grasper")
    row.locator("input[type=text]").press("Enter")
    screen.until(f"sam2s.state.names[{second}]?.name === 'left grasper'")
    row.locator("select").select_option("object")
    screen.until(f"{SHOWN}.objects.find((object) => object.id === {second}).class === 'object'")
    screenshot(screen, "wide")

    # Frozen: newer images do not show; a click on the old one arrives on the newest.
    page.keyboard.press("f")
    frozen = screen.get(f"{SHOWN}.stamp")
    for _ in range(2):
        sent = screen.camera.send(screen.frames[screen.next].image)
        screen.next += 1
        screen.until(f"sam2s.state.history.includes('{sent}')")
    assert screen.get(f"{SHOWN}.stamp") == frozen and page.locator("#scrub").is_visible()
    page.keyboard.press(",")
    screen.until(f"BigInt({SHOWN}.stamp) < BigInt('{frozen}')")
    page.keyboard.press(".")
    screen.until(f"{SHOWN}.stamp === '{frozen}'")
    page.keyboard.press("p")
    page.keyboard.press("n")
    screen.click(WIDTH // 2, 20)  # tissue, as a third object
    screen.until(f"{SHOWN}.objects.length === 3 && {SHOWN}.frozen")
    assert screen.get(f"{SHOWN}.stamp") == frozen
    screenshot(screen, "frozen")
    third = max(screen.ids)
    page.keyboard.press("f")
    screen.until(f"!{SHOWN}.frozen")
    screen.see()
    assert screen.ids == [first, second, third], "on the newest, too"

    # Who did it stays known when the page is loaded again.
    page.reload()
    screen.until(f"{SHOWN}?.objects.length === 3")

    # Removed by the second press.
    page.locator(f"#objects li[data-id='{third}'] button").click()
    assert third in screen.ids
    page.locator(f"#objects li[data-id='{third}'] button").click()
    screen.until(f"{SHOWN}.objects.length === 2")
    assert screen.errors == []
    actions = screen.console.actions()
    assert {action["action"] for action in actions} >= {"prompt", "undo", "describe", "remove"}
    assert {action["who"].split(" at ")[0] for action in actions} == {"operator Ada"}


def test_the_alarm_cannot_be_missed(screen):
    page = screen.page
    grey = np.full((HEIGHT, WIDTH, 3), 110, np.uint8)
    for _ in range(12):
        screen.see(grey)
        if page.locator("#alarm").is_visible():
            break
        time.sleep(0.4)
    assert "LOST" in page.locator("#alarm").inner_text()
    screenshot(screen, "lost")
    page.keyboard.press("a")
    assert page.locator("#alarm").is_visible() and not page.locator("#alarm.new").count()


def test_everything_by_keys(screen):
    page = screen.page
    page.locator("#reset").click()
    page.locator("#reset").click()
    screen.until("sam2s.state.history.length === 0")
    screen.see()
    page.locator("#stage").focus()
    x, y = inside(
        screen.frames[screen.next - 1].truth.labels, labels_of(screen.frames[screen.next - 1].truth.labels)[0]
    )
    page.keyboard.press("p")
    for key, distance in (("ArrowRight", x - WIDTH // 2), ("ArrowDown", y - HEIGHT // 2)):
        key = key if distance > 0 else {"ArrowRight": "ArrowLeft", "ArrowDown": "ArrowUp"}[key]
        for _ in range(abs(distance) // 10):
            page.keyboard.press(f"Shift+{key}")
        for _ in range(abs(distance) % 10):
            page.keyboard.press(key)
    assert screen.get("sam2s.view.cross") == [x, y]
    page.keyboard.press("Enter")
    screen.until(f"{screen.object_at(x, y)} > 0")
    page.keyboard.press("Escape")


def test_on_a_narrow_screen(screen):
    page = screen.page
    page.set_viewport_size({"width": 390, "height": 844})
    screen.see()
    assert screen.get("document.documentElement.scrollWidth") <= 390, "nothing to the right of the screen"
    for tool in ("add", "subtract", "box", "stroke"):
        box = page.locator(f"[data-tool={tool}]").bounding_box()
        assert min(box["width"], box["height"]) >= 36, "for a finger"
    screenshot(screen, "narrow")
    page.set_viewport_size({"width": 1280, "height": 800})


def test_it_goes_on_when_the_node_was_killed_and_started_again(screen, tracker, start_tracker):
    page = screen.page
    tracker.stop(signal.SIGKILL)
    screen.until("sam2s.state.node.state === 'GONE'")
    screen.until("document.getElementById('stage').classList.contains('stale')")
    assert "The tracker is gone" in page.locator("#alarm").inner_text()
    screenshot(screen, "gone")
    start_nano(start_tracker)
    screen.until("['WAITING', 'RUNNING'].includes(sam2s.state.node.state)", timeout=120.0)
    screen.see()
    screen.until("document.getElementById('alarm').hidden")
    truth = screen.frames[screen.next - 1].truth.labels
    x, y = inside(truth, labels_of(truth)[0])
    screen.click(x, y)
    screen.until(f"{screen.object_at(x, y)} > 0")
    assert screen.errors == []
