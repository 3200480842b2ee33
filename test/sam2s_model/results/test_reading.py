"""A folder of `sam2s track`, read back when its run was killed."""

from __future__ import annotations

import numpy as np
import pytest

from sam2s_model.errors import SourceError
from sam2s_model.results.label_png import write_label_png
from sam2s_model.results.reading import open_tracked
from sam2s_model.results.tracks_table import COLUMNS

ROW = "{0},{0:06d},{1},1,1,1,instrument,,TRACKED,0.9,0.9,0,0,5,5,25,2.0,2.0\r\n"


def tracked(tmp_path, table: str):
    (tmp_path / "masks").mkdir()
    for name in ("000000", "000001"):
        write_label_png(tmp_path / "masks" / f"{name}.png", np.zeros((8, 8), np.uint8), {})
    (tmp_path / "tracks.csv").write_text(table, newline="")
    return open_tracked(tmp_path)


@pytest.mark.parametrize(
    ("tail", "why"),
    [
        ("1,", "it was cut, and lacks stamp_ns, "),
        ("1,000001,1040000000,1,1", "it was cut, and lacks class_id, "),
        ("1,000001,1040000000,1,1,1", "it was cut, and lacks class, "),
        ("x,000001,1040000000,1,1,1,a,,TRACKED,0,0,0,0,5,5,25,2,2", "its frame is 'x', and no number"),
    ],
)
def test_a_row_that_was_cut_is_left_out_and_said(tmp_path, tail, why):
    recording = tracked(tmp_path, ",".join(COLUMNS) + "\r\n" + ROW.format(0, 10**9) + tail)
    for _ in range(2):
        frames = list(recording)
        assert [(frame.index, frame.name, len(frame.tracks)) for frame in frames] == [
            (0, "000000", 1),
            (1, "000001", 0),
        ]
        assert len(recording.odd) == 1 and recording.odd[0].startswith(f"row 3 of tracks.csv is left out: {why}")


def test_a_table_without_a_column_is_none(tmp_path):
    with pytest.raises(SourceError, match="tracks.csv is not a table of `sam2s track` .*class_id"):
        tracked(tmp_path, "frame,name\r\n0,000000\r\n")
