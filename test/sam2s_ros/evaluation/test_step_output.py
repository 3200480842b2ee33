"""What is kept of tracked frames lies inside the folder of the evaluation, and nothing outside it is removed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from evaluated_clips import folder

from sam2s_model.errors import ConfigError
from sam2s_model.evaluation.protocol import EvaluationProtocol
from sam2s_model.recordings.open import Source, open_recordings
from sam2s_ros.commands.engine import EngineOptions
from sam2s_ros.evaluation.step_output import StepOutput
from sam2s_ros.evaluation.task import Task

TASK = Task(Source("clip"), "set", "clip", EngineOptions(), EvaluationProtocol())


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/b", "../a"])
def test_names_that_lead_out_of_the_output_are_refused(name):
    for part in ("data_set", "name"):
        with pytest.raises(ConfigError, match="expected a name without /, and not dots alone"):
            replace(TASK, **{part: name})


def test_masks_outside_the_output_are_not_removed(tmp_path):
    own, foreign = tmp_path / "out" / "masks" / "set" / "clip", tmp_path / "elsewhere"
    for place in (own, foreign):
        place.mkdir(parents=True)
        (place / "0.png").write_bytes(b"a mask")
    for masks in (foreign, tmp_path / "out", tmp_path / "out" / "masks", own.parent / ".." / ".." / ".." / "elsewhere"):
        with (
            pytest.raises(ConfigError, match="expected a folder inside"),
            StepOutput(replace(TASK, output=str(tmp_path / "out"), masks=str(masks)), 25.0, "model"),
        ):
            pass
    assert (own / "0.png").exists() and (foreign / "0.png").exists()
    with StepOutput(replace(TASK, output=str(tmp_path / "out"), masks=str(own)), 25.0, "model"):
        assert not (own / "0.png").exists() and (foreign / "0.png").exists()


@pytest.mark.parametrize("spec", [".", "./", "..", "../clip"])
def test_the_folder_one_is_in_has_its_name(tmp_path, monkeypatch, spec):
    (tmp_path / "clip" / "inner").mkdir(parents=True)
    folder(tmp_path / "clip")
    monkeypatch.chdir(tmp_path / "clip" / "inner" if spec == ".." else tmp_path / "clip")
    (recording,) = open_recordings(Source(spec))
    assert (recording.data_set, recording.name) == ("clip", "clip")
