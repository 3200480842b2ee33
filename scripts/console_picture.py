"""Make the picture of docs/console.md: the console's page in Chromium, on a tracker that follows the procedural scene.

python scripts/console_picture.py docs/images/console.webp     # Pillow, of requirements/docs.txt; playwright, Chromium
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import cv2
from PIL import Image

from sam2s_model.prompts import Prompt
from sam2s_model.recordings.open import open_recording
from sam2s_ros.commands.label_sets import label_set_file
from sam2s_ros.processes.local_graph import PATIENT, local_graph
from sam2s_ros.soak.console_page import find_browser, open_page, page_address
from sam2s_ros.tracker.prompt_file import PromptFile, PromptSet

SCENE = "scene:?width=640&height=512&frames=200&seed=0"
RATE = 1.0  # Hz, slow enough for a CPU that does something else as well
SEEN = 20  # pictures on the page, so that the lanes of states show some
QUALITY = 80
# So many pictures were drawn, the one shown has its masks, and objects are listed. sam2s: the page, see static/main.js
READY = "sam2s.ages.length >= {} && sam2s.view.frame?.header.tracked && document.querySelectorAll('#objects li').length"
WAIT = 600.0  # s


def write_prompts(path: Path) -> None:
    """Write the boxes of the scene's first frame as the node keeps prompts."""
    recording = open_recording(SCENE)
    frame, prompts = next(iter(recording)), {}
    for value, mask in frame.truth.masks.items():
        x, y, width, height = cv2.boundingRect(mask.astype("uint8"))
        prompts[value] = [Prompt(box=(x, y, x + width, y + height), class_name=recording.classes[value])]
    PromptFile(path).write(PromptSet(frame.image.shape[:2], prompts))


def screenshot() -> Image.Image:
    """Return the page, 1280 px wide, when it has shown some live pictures."""
    play, chromium = find_browser()
    with tempfile.TemporaryDirectory(prefix="sam2s_picture_") as name, local_graph(Path(name)) as graph:
        folder = Path(name)
        write_prompts(folder / "prompts.json")
        tracker = dict(
            PATIENT, device="cpu", checkpoint="sam2s_nano", image_size=256, input_timeout=30.0, restore=True,
            prompts_file=str(folder / "prompts.json"), label_set=label_set_file("scene"),
        )  # fmt: skip
        graph.start("tracker", "sam2s_ros.tracker.node", tracker)
        graph.start("console", "sam2s_ros.console.node", dict(port=0))
        camera = dict(source=SCENE, rate=RATE, wait_for_subscribers=1)
        graph.start("replay", "sam2s_ros.replay.node", camera)
        with open_page(play, chromium, page_address(graph, folder), wait=WAIT) as page:
            waited = 0
            while not page.evaluate(READY.format(SEEN)) and waited < WAIT:
                graph.check()
                page.wait_for_timeout(500)
                waited += 0.5
            if waited >= WAIT:
                sys.exit(f"the page has not shown {SEEN} pictures with masks within {WAIT:g} s")
            return Image.open(io.BytesIO(page.screenshot()))


def main(path: str) -> None:
    screenshot().convert("RGB").save(path, quality=QUALITY, method=6)


if __name__ == "__main__":
    main(sys.argv[1])
