"""`sam2s soak` with real processes over DDS, for seconds instead of minutes."""

from __future__ import annotations

import json
import sys

from sam2s_ros.soak.report import PERCENTILES


def test_p08_a_soak_gives_the_percentiles_of_all_frames_with_the_hardware(start, tmp_path):
    output = tmp_path / "report" / "soak.json"
    arguments = ["--minutes", "0.05", "--size", "128x96", "--rate", "20", "--model-time", "0.005", "--output"]
    soak = start([sys.executable, "-m", "sam2s_ros.commands.cli", "soak", *arguments, str(output)], COLUMNS="160")
    assert soak.wait(110) == 0, soak.output
    found = json.loads(output.read_text())
    counts = found["counts"]
    dropped = sum(count for name, count in counts.items() if name.startswith("dropped_"))
    assert counts["sent"] == counts["received"] + counts["lost_before_node"] and counts["lost_before_node"] >= 0
    assert counts["received"] == counts["published"] + dropped and counts["at_subscriber"] == counts["published"] > 0
    assert all(check["ok"] for check in found["checks"]) and len(found["checks"]) == 6

    latency, age = found["added_latency_ms"], found["age_ms"]
    assert latency["count"] == age["count"] == counts["published"]
    for figures in (latency, age):
        ascending = [figures[name] for name in (*PERCENTILES, "max")]
        assert ascending == sorted(ascending)
    assert 5 <= latency["p50"] < age["p50"], "a step sleeps 5 ms; the age has the way from the camera in addition"
    assert found["objects"] == 1 and found["model"]["name"] == "no model, sleeps 5 ms"
    assert found["memory"]["warm"] > 10**7 and set(found["cpu_percent_of_a_core"]) == {
        "camera",
        "tracker",
        "subscriber",
    }
    for text in (found["hardware"], "no model, sleeps 5 ms", "added latency p50 / p90 / p99 / p99.9 / max, ms"):
        assert text and text in soak.output, soak.output
