"""The grid is at the coordinates that it names."""

from __future__ import annotations

import numpy as np
import pytest

from sam2s_ros.commands.pixel_grid import LINE, MARGIN, draw_pixel_grid, write_pixel_grid


@pytest.mark.parametrize(("size", "scale", "step"), [((80, 96), 10, 10), ((720, 1280), 1, 100), ((1080, 1920), 1, 200)])
def test_lines_are_at_round_coordinates(size, scale, step):
    drawn = draw_pixel_grid(np.zeros((*size, 3), np.uint8))
    inside = drawn[MARGIN : MARGIN + size[0] * scale, MARGIN : MARGIN + size[1] * scale]
    lit = np.flatnonzero((inside[1] > 0).all(axis=1) | (inside[1, :, 0] > 0))
    assert lit.tolist() == [x * scale for x in range(0, size[1], step)]
    assert inside[1, 0].tolist() == [round(0.4 * value) for value in LINE]


def test_no_picture_is_written_over(tmp_path):
    image = np.zeros((20, 30, 3), np.uint8)
    names = [write_pixel_grid(image, tmp_path).name for _ in range(3)]
    assert names == ["first_frame.png", "first_frame_2.png", "first_frame_3.png"]
