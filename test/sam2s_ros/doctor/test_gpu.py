"""What `sam2s doctor --gpu` makes of the processes of its parts, and of a machine without a GPU."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from sam2s_model.errors import ConfigError
from sam2s_model.gpu_check import parts
from sam2s_model.gpu_check.part import CheckPart
from sam2s_ros.commands.cli import main
from sam2s_ros.doctor.checks import Level
from sam2s_ros.doctor.gpu import examine_gpu, found_table, write_json

CHECK = dict(level="OK", what="what", expected="1", got="1", advice="")
SCRIPTS = {  # number of a part: what its process does
    1: f"print({json.dumps(CHECK)!r}); print('a library says something')",
    2: f"print({json.dumps(CHECK | dict(level='WARN', advice='do [this]'))!r}, flush=True); import os; os.abort()",
    3: "import os; raise RuntimeError('CUDA error ' + os.environ.get('CUDA_LAUNCH_BLOCKING', '0'))",
    4: "import time; time.sleep(60)",
}
RUN = [sys.executable, "-c", f"import sys; exec({SCRIPTS!r}[int(sys.argv[1])])"]


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a GPU")
    listed = [
        CheckPart(number, f"part {number}", list, alone=number == 2, limit=1.0 if number == 4 else 60.0)
        for number in SCRIPTS
    ]
    monkeypatch.setattr(parts, "PARTS", tuple(listed))


def test_each_part_ends_in_what_it_found(gpu, tmp_path):
    said = []
    found = examine_gpu(say=said.append, python=RUN)
    assert [(f.part, f.level) for f in found] == [
        ("1 part 1", Level.OK), ("2 part 2", Level.WARN), ("2 part 2", Level.FAIL), ("3 part 3", Level.FAIL),
        ("4 part 4", Level.FAIL),
    ]  # fmt: skip
    assert "exit code -6" in found[2].got and "CUDA error 1" in found[3].got, "it was run again, each launch waited for"
    assert "RuntimeError: CUDA error 1" in found[3].detail and "no answer within 1 s" in found[4].got
    assert sorted(line.split(":")[0].strip() for line in said) == ["1 part 1", "2 part 2", "3 part 3", "4 part 4"]
    assert all(f.advice for f in found if f.level is not Level.OK) and found_table(found).row_count == 5
    write_json(tmp_path / "found.json", found)
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["machine"]["gpus"] == ["a GPU"] and [check["level"] for check in written["checks"]] == [
        f.level.value for f in found
    ]


def test_some_parts_alone(gpu):
    assert {f.part for f in examine_gpu(only=[1], python=RUN)} == {"1 part 1"}
    with pytest.raises(ConfigError, match="--only 9: expected numbers of parts, 1 to 4"):
        examine_gpu(only=[9], python=RUN)


def test_p41_what_an_earlier_run_found_stays(gpu, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = examine_gpu(only=[1], python=RUN)
    monkeypatch.setattr("sam2s_ros.doctor.gpu.examine_gpu", lambda *_, **__: found)
    for count in (1, 2, 3):
        assert main(["doctor", "--gpu"]) == 0
        assert len(list(tmp_path.iterdir())) == count
    assert (tmp_path / "doctor_gpu_3.json").exists() and "written: doctor_gpu_3.json" in capsys.readouterr().out
    (tmp_path / "doctor_gpu.json").write_text("earlier\n")
    assert main(["doctor", "--gpu", "--output", "doctor_gpu.json"]) == 2
    assert "doctor_gpu.json exists already (8 bytes): give another name" in capsys.readouterr().err
    assert main(["doctor", "--gpu", "--overwrite"]) == 0
    assert json.loads((tmp_path / "doctor_gpu.json").read_text())["checks"] and len(list(tmp_path.iterdir())) == 3


def test_what_took_minutes_is_written_where_it_can_be_and_that_is_known_before(gpu, tmp_path, monkeypatch, capsys):
    found, asked = examine_gpu(only=[1], python=RUN), []
    monkeypatch.setattr("sam2s_ros.doctor.gpu.examine_gpu", lambda *_, **__: asked.append(1) or found)
    (tmp_path / "file").touch()
    assert main(["doctor", "--gpu", "--output", str(tmp_path / "file" / "gpu.json")]) == 2
    assert "cannot be" in capsys.readouterr().err and not asked
    new = tmp_path / "new" / "folder" / "gpu.json"
    assert main(["doctor", "--gpu", "--output", str(new)]) == 0 and json.loads(new.read_text())["checks"]

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sam2s_ros.doctor.gpu.examine_gpu", interrupted)
    before = new.read_text()
    assert main(["doctor", "--gpu", "--output", str(new), "--overwrite"]) == 130
    assert new.read_text() == before, "what there was is not written over by what did not end"


def test_a_gpu_that_broke_meanwhile_does_not_cost_the_report(gpu, tmp_path, monkeypatch):
    def broken(index):
        raise RuntimeError("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr(torch.cuda, "get_device_name", broken)
    write_json(tmp_path / "found.json", examine_gpu(only=[3], python=RUN))
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["machine"]["gpus"] == ["cannot be used (CUDA error: unspecified launch failure)"]
    assert written["checks"][0]["level"] == "FAIL"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_cuda_device_it_says_so_in_one_sentence(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "--gpu"]) == 2
    out, error = capsys.readouterr()
    assert error.startswith("no CUDA device: torch ") and len(error.splitlines()) == 1 and not out
    assert not list(tmp_path.iterdir())
