"""How the values of masks are read: what people's masks look like, and what cannot be a mask."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.recordings.mask_values import MaskStatistics, decide, decide_object

H, W = 120, 160
EMPTY = np.zeros((H, W), np.uint8)


def disc(value: int, x: int = 60, y: int = 60, radius: int = 22, on: np.ndarray = EMPTY) -> np.ndarray:
    return cv2.circle(on.copy(), (x, y), radius, value, -1)


def framed(mask: np.ndarray) -> np.ndarray:
    out = mask.copy()
    out[:10] = out[-10:] = 255
    return out


def resized(mask: np.ndarray, factor: float = 0.5, back: int = cv2.INTER_LINEAR) -> np.ndarray:
    return cv2.resize(cv2.resize(mask, None, fx=factor, fy=factor), (W, H), interpolation=back)


def jpeg(mask: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", mask)[1], cv2.IMREAD_UNCHANGED)


def seen(*masks: np.ndarray, lossy: bool = False) -> MaskStatistics:
    return MaskStatistics.sum(MaskStatistics.of(mask, lossy) for mask in masks)


BINARY = {
    "0 and 255, once among many": [EMPTY] * 40 + [disc(255)] + [EMPTY] * 40,
    "0 and 255 that moves": [disc(255, x) for x in (50, 60, 70)],
    "an instrument that stands still at the border": [disc(255, 0)] * 3,
    "halved and doubled": [resized(disc(255, x)) for x in (50, 60)],
    "cubic": [resized(disc(255), back=cv2.INTER_CUBIC)],
    "reduced by areas: one level between": [cv2.resize(disc(255), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)],
    "drawn with soft edges": [cv2.circle(EMPTY.copy(), (60, 60), 22, 255, -1, cv2.LINE_AA)],
    "blurred": [cv2.GaussianBlur(disc(255), (0, 0), 2)],
    "a JPEG that was saved as PNG": [jpeg(disc(255, x)) for x in (50, 60)],
}


@pytest.mark.parametrize("name", BINARY)
def test_binary_masks_are_one_object(name):
    masks = BINARY[name]
    reading = decide(seen(*masks))
    assert reading.binary and "binary" in reading.why
    labels = reading.labels(max(masks, key=np.count_nonzero))
    assert set(np.unique(labels)) == {0, 1}
    if masks[0].shape == (H, W) and "border" not in name:
        assert abs(np.count_nonzero(labels) / np.count_nonzero(disc(255)) - 1) < 0.07


SMALL = np.kron(np.arange(1, 41, dtype=np.uint8).reshape(5, 8), np.ones((6, 6), np.uint8))
THREADS = EMPTY.copy()
for row in range(3):
    cv2.line(THREADS, (20, 60 + row), (140, 60 + row), 1 + row)
LABELS = {
    "a void border, and an object in few": ([framed(EMPTY)] * 30 + [framed(disc(1))], {1}, True),
    "a void line around the object": ([cv2.circle(disc(1), (60, 60), 22, 255, 3)], {1}, True),
    "a void border alone, in all masks the same": ([framed(EMPTY)] * 3, set(), True),
    "0 and 1": ([disc(1)], {1}, False),
    "classes in steps": ([disc(85, on=disc(170, 110))], {85, 170}, False),
    "grey void beside white: labels 128 and 255": ([disc(255, 110, on=disc(128, 40))], {128}, True),
    "40 small objects": ([SMALL], set(range(1, 41)), False),
    "a thread of two pixels, and a void border": (
        [framed(cv2.line(EMPTY.copy(), (20, 60), (140, 70), 1, 2))],
        {1},
        True,
    ),
    "threads of three objects side by side": ([THREADS], {1, 2, 3}, False),
    "nothing at all": ([EMPTY], set(), False),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_stay_labels_and_255_is_void(name):
    masks, objects, void = LABELS[name]
    reading = decide(seen(*masks))
    assert not reading.binary
    found = {int(v) for mask in masks for v in np.unique(reading.labels(mask))} - {0}
    assert found - {255} == objects and (255 in found) == void
    assert ("255 is" in reading.why and "void" in reading.why) == void


PHOTOGRAPH = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (H, W), np.uint8), (0, 0), 3)
INTERPOLATED = resized(disc(90, on=disc(200, 110)), 0.4)
REFUSED = {
    "three labels, interpolated": ([INTERPOLATED], False, "only along edges.*nearest neighbour"),
    "a photograph": ([PHOTOGRAPH], False, "or no masks at all"),
    "labels in JPEG": ([jpeg(disc(1, on=disc(2, 110)))], True, "does not keep labels"),
    "grey levels in JPEG": ([jpeg(disc(80, on=disc(160, 110)))], True, "does not keep labels"),
    "0/255 in some and 0/1 in others": (
        [disc(255), disc(1)],
        False,
        "1 masks have 255 alone and 1 have 1, none has both",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_be_neither_is_refused_with_what_helps(name):
    masks, lossy, expected = REFUSED[name]
    with pytest.raises(SourceError, match=expected) as caught:
        decide(seen(*masks, lossy=lossy))
    assert "mask_values" in str(caught.value)
    for how in ("labels", "binary"):
        assert "as asked for" in decide(seen(*masks, lossy=lossy), how).why


def test_lossy_binary_masks():
    for masks in ([EMPTY] * 3, [jpeg(disc(255)), EMPTY], [jpeg(disc(255, radius=3))]):
        reading = decide(seen(*masks, lossy=True))
        assert set(np.unique(reading.labels(masks[0]))) <= {0, 1}


def test_the_user_decides():
    border, mixed = [framed(EMPTY)] * 3, [disc(255), disc(1)]
    assert decide(seen(*border), "binary").labels(border[0]).sum() == 20 * W
    assert all(decide(seen(*mixed), "binary").labels(mask).max() == 1 for mask in mixed)
    assert decide(seen(disc(255)), "labels").labels(disc(255)).max() == 255
    with pytest.raises(ConfigError, match="mask_values is 'void': expected one of auto, labels, binary"):
        decide(seen(EMPTY), "void")


def test_an_inverted_mask_is_said():
    inverted = [255 - disc(255, x) for x in (50, 60)]
    assert "inverted?" in decide(seen(*inverted)).why and "inverted" not in decide(seen(disc(255))).why


def test_a_label_that_may_be_the_background_is_said():
    """0 the instrument and 1 the rest, or a class of tissue around it."""
    for rest, on in ((1, disc(0, on=EMPTY + 1)), (7, disc(3, on=EMPTY + 7))):
        assert f"{rest} has 92% of the pixels: the background?" in decide(seen(on, on)).why
    for mask in (disc(1), disc(1, radius=70), framed(EMPTY)):
        assert "background" not in decide(seen(mask, disc(2))).why


def test_masks_of_one_object_each():
    parts = disc(10, on=disc(30, 110))
    assert decide_object(seen(parts)).labels(parts).sum() == np.count_nonzero(parts), "parts of an instrument all count"
    soft = resized(disc(255))
    assert abs(decide_object(seen(soft)).labels(soft).sum() / np.count_nonzero(disc(255)) - 1) < 0.05
