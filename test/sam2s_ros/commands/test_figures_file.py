"""`--out` of the comparisons: whether it can be written is known before the work, and what is in it is JSON."""

from __future__ import annotations

import json

import pytest

from sam2s_model.files.json_text import json_text
from sam2s_model.training import summary
from sam2s_model.training.config import EvaluationConfig, TrainConfig
from sam2s_model.training.evaluate import Score
from sam2s_model.training.state import save_recipe
from sam2s_ros.commands.cli import main

NAN = float("nan")


def no_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def test_what_is_not_known_is_null():
    text = json_text({"a": [NAN, 0.5, float("inf")], "b": (1, "NaN", None)})
    assert json.loads(text, parse_constant=no_constant) == {"a": [None, 0.5, None], "b": [1, "NaN", None]}


@pytest.mark.parametrize(
    "command", [("train", "compare", "no_run"), ("train", "evaluate", "no_model"), ("compare", "no_model")]
)
def test_a_file_that_cannot_be_written_is_said_before_the_work(command, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main([*command, "--out", str(tmp_path / "file" / "out.json")]) == 2
    assert "out.json cannot be written to (File exists)" in " ".join(capsys.readouterr().err.split())
    assert main([*command, "--out", str(tmp_path / "new" / "out.json")]) == 2, "there is nothing to compare"
    assert not (tmp_path / "new" / "out.json").exists()


def test_figures_of_a_run_say_its_prompt_and_what_was_not_scored(tmp_path, monkeypatch):
    save_recipe(tmp_path, TrainConfig(evaluation=EvaluationConfig(prompt="box")))
    scores = {"before, auto": [Score("a", 0, 1, NAN, NAN), Score("b", 3, 1, 0.5, 0.5)]}
    monkeypatch.setattr(summary, "compare_run", lambda *_, **__: scores)
    written = tmp_path / "figures.json"
    for given, prompt in (([], "box"), (["--prompt", "mask"], "mask")):
        assert main(["train", "compare", str(tmp_path), "--out", str(written), *given]) == 0
        found = json.loads(written.read_text(), parse_constant=no_constant)
        assert found["prompt"] == prompt and [row["jf"] for row in found["runs"]["before, auto"]] == [None, 0.5]
