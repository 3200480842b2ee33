"""Memory policies of other packages: a distribution with an entry point, a module, a file; and what is none."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from sam2s_model.checkpoint import load_model
from sam2s_model.config import TrackerConfig
from sam2s_model.errors import ConfigError
from sam2s_model.prompts import Prompt
from sam2s_model.recordings.open import open_recording
from sam2s_model.tracking.memory import BankView, choose_policy, create_policy
from sam2s_model.tracking.policy_plugins import check_policy_name, installed_policies, policy_digest
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.training import compare
from sam2s_ros.commands.cli import main

MODULE = '''
"""Policies as somebody else writes them."""
from dataclasses import dataclass
from sam2s_model.tracking.memory import Policy

@dataclass(frozen=True)
class Short(Policy):
    """The prompted frames and the last two."""
    @property
    def window(self) -> int:
        return 2

@dataclass(frozen=True)
class Nothing(Policy):
    uses_memory = False

@dataclass(frozen=True)
class Needy(Policy):
    constant: float = None
    def __post_init__(self):
        raise RuntimeError("there is no constant")

def as_long(model, options):
    return Short(model) if options.long_term_frames < 3 else Policy(model)

def no_policy(model, options):
    return "fifo"

NUMBER = 3
'''
SMALL = ("--checkpoint", "sam2s_pico", "--image-size", "64", "--device", "cpu")
SCENE = "scene:?width=96&height=80&frames=8&seed=2"


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Install `lab-policies` with entry points in a folder of sys.path, as pip does; a function for further ones."""

    def install(name: str, module: str, points: str, text: str = MODULE) -> None:
        (tmp_path / "site" / f"{module}.py").write_text(text)
        info = tmp_path / "site" / f"{name.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[sam2s.policies]\n{points}\n")

    (tmp_path / "site").mkdir()
    install("lab-policies", "lab_policies", "lab.short = lab_policies:Short\nfifo = lab_policies:Nothing")
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield install
    sys.modules.pop("lab_policies", None)


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A module in the current folder, which is not on sys.path."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "my_policies.py").write_text(MODULE)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    yield folder
    sys.modules.pop("my_policies", None)


def test_an_installed_package_adds_policies_by_name(distribution, small, script):
    assert version("lab-policies") == "1.2" and list(installed_policies()) == ["lab.short"]
    check_policy_name("lab.short")
    run = script(create_policy("lab.short", small))
    run.prompt(0)
    for frame in range(1, 6):
        run.track(frame)
    assert run.attended(6).keys() == {0, 4, 5}
    assert type(create_policy("fifo", small)).__name__ == "Fifo", "names of this package stay its own"


def test_a_module_of_the_current_folder_and_a_file_serve_as_well(beside, small):
    for place in ("my_policies:Short", "my_policies.py:Short", f"{beside}/my_policies.py:Short"):
        check_policy_name(place)
        assert create_policy(place, small).window == 2
        assert len(policy_digest(place)) == 64
    assert policy_digest("fifo") == ""


def test_a_function_sees_the_options_and_a_class_the_pruning(beside, small, script):
    windows = [
        create_policy("my_policies:as_long", small, TrackerConfig(long_term_frames=count)).window for count in (1, 4)
    ]
    assert windows == [2, small.num_memories - 1]
    pruned = create_policy("my_policies:Short", small, TrackerConfig(pruning="efp"))
    assert type(pruned.pruning).__name__ == "FramePruning" and create_policy("my_policies:Short", small).pruning is None
    run = script(pruned)
    run.prompt(0)
    run.track(1)
    assert pruned.select(BankView(run.bank, slice(0, 1)), 2).spatial.columns.shape[1] == 2


def test_a_checkpoint_without_memory_runs_what_needs_none(beside, small):
    assert choose_policy("my_policies:Nothing", False, small) == "my_policies:Nothing"
    with pytest.raises(ConfigError, match="policy is 'my_policies:Short', but the checkpoint has no trained memory"):
        choose_policy("my_policies:Short", False, small)


@pytest.mark.parametrize(
    "name, said",
    [
        ("shrot", "policy is 'shrot': expected auto, fifo, .*, none, .*lab.short; or MODULE:CLASS, FILE.py:CLASS or a"),
        ("lab.shrt", r"did you mean lab.short\?"),
        ("my_policies:Shrot", r"my_policies.py has no Shrot: expected a subclass of .* \(did you mean Short\?\)"),
        ("no_such:Short", "there is no module 'no_such', neither installed nor in .*mine"),
        ("no_such.py:Short", "there is no file no_such.py"),
        ("~nobody-here/p.py:Short", "~nobody-here/p.py: .*home"),
        (f"{'x' * 300}.py:Short", "x.py cannot be read: File name too long"),
        ("my-policies:Short", "'my-policies' is no module"),
        ("my_policies:NUMBER", "which is a int: expected a subclass of sam2s_model.tracking.memory.Policy, or a"),
        ("json:JSONDecoder", "which is the class JSONDecoder: expected a subclass"),
        ("my_policies:no_policy", "which returned a str: expected"),
        ("my_policies:Needy", r"cannot be created \(RuntimeError: there is no constant\)"),
        ("broken:Short", r"'broken:Short' cannot be imported \(ZeroDivisionError: division by zero\)"),
        ("lab.broken", r"'lab.broken' of the package lab-broken cannot be imported \(ZeroDivisionError"),
    ],
)  # fmt: skip
def test_what_is_none_is_one_sentence_with_what_was_expected(distribution, beside, small, name, said):
    (beside / "broken.py").write_text("1 / 0")
    distribution("lab-broken", "lab_broken", "lab.broken = lab_broken:Short", "1 / 0")
    with pytest.raises(ConfigError, match=said) as raised:
        create_policy(name, small)
    assert "\n" not in str(raised.value)


def test_two_packages_with_one_name_are_both_named(distribution):
    distribution("other-policies", "other_policies", "lab.short = other_policies:Short")
    with pytest.raises(ConfigError) as raised:
        check_policy_name("lab.short")
    for named in ("lab-policies", "other-policies", "lab_policies:Short", "other_policies:Short"):
        assert named in str(raised.value)


def test_objects_stay_when_the_policy_changes_to_one_with_another_window_and_back(beside, small, script):
    short, fifo = (script(create_policy(name, small), 0) for name in ("my_policies:Short", "fifo"))
    for object_id in (1, 2):
        fifo.bank.add(object_id)
    for row in (0, 1):
        fifo.prompt(0, row)
    for frame in range(1, 9):
        fifo.track(frame, memory=[frame, 2 * frame])
    short.bank.copy_objects_from(fifo.bank, ())
    assert short.attended(9, 1).keys() == {0, 7, 8} and short.pointed(9) == fifo.pointed(9)
    ring = short.bank.layout.recent
    for frame in (7, 8):
        own, other = (run.bank.spatial[1, 3 + frame % run.bank.layout.recent] for run in (short, fifo))
        assert torch.equal(own, other), f"frame {frame} of a ring of {ring}"
    short.track(9)
    back = script(create_policy("fifo", small), 0)
    back.bank.copy_objects_from(short.bank, ())
    assert back.attended(10).keys() == {0, 7, 8, 9}, "three were in the shorter ring"


def test_commands_take_them(beside, distribution, tmp_path, capsys):
    for number, policy in enumerate(("my_policies.py:Short", "lab.short")):
        out = tmp_path / f"track{number}"
        assert main(["track", SCENE, *SMALL, "--policy", policy, "--output", str(out)]) == 0
        assert json.loads((out / "summary.json").read_text())["model"] == f"sam2s_pico/{policy}"
    capsys.readouterr()
    assert main(["track", SCENE, *SMALL, "--policy", "lab.shor"]) == 2
    assert "(did you mean lab.short?)" in capsys.readouterr().err
    assert not (beside / "output").exists()


def test_an_evaluation_of_a_policy_that_was_changed_is_not_gone_on_with(beside, tmp_path, capsys):
    command = ["eval", SCENE, *SMALL, "--policy", "my_policies:Short", "--output", str(tmp_path / "eval")]
    assert main(command) == 0
    (beside / "my_policies.py").write_text(MODULE.replace("return 2", "return 3"))
    assert main(command) == 2
    assert "policy_sha256" in capsys.readouterr().err


def test_policies_are_compared_with_those_that_are_installed(distribution, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "ABSENCES", (0,))
    monkeypatch.setattr(compare, "POLICY_NAMES", ("fifo", "slm"))
    assert main(["compare", "sam2s_pico", *SMALL[2:], "--long-term", "--frames", "4"]) == 0
    rows = re.findall(r"^\| \**([\w.]+)\** \|", capsys.readouterr().out, re.M)
    assert rows == ["policy", "fifo", "lab.short"], "pico cannot run slm"


def test_names_are_checked_without_torch(beside):
    checked = (
        "import sys; from sam2s_ros.commands.engine import EngineOptions; EngineOptions(policy='my_policies:Short'); "
        "print('torch' in sys.modules, 'my_policies' in sys.modules)"
    )
    root = str(Path(__file__).parents[4])
    shown = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r}); {checked}"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert shown == ["False", "False"]


def test_the_example_of_the_docs_keeps_what_it_says(tmp_path, small, script):
    page = (Path(__file__).parents[4] / "docs" / "write_policy.md").read_text()
    (tmp_path / "my_policy.py").write_text(re.search(r"```python\n(.*?)```", page, re.S)[1])
    run = script(create_policy(f"{tmp_path}/my_policy.py:Sure", small))
    run.prompt(0)
    for frame, iou in enumerate([0.95, 0.99, 0.5, 0.5, 0.5], start=1):
        run.track(frame, iou=iou)
    assert run.attended(6).keys() == {0, 2, 4, 5}
    assert run.attended(6)[2] == run.policy.long_term_code
    tracker = Tracker(load_model("sam2s_pico", image_size=64), f"{tmp_path}/my_policy.py:Sure")
    for frame in open_recording(SCENE):  # and it tracks, from the first prompt on, before which nothing is remembered
        tracks = tracker.step(frame.stamp_ns, frame.image)
        if frame.index in (0, 3):
            tracks = tracker.prompt(0, [Prompt(mask=mask) for mask in frame.truth.masks.values()]).tracks
        assert np.isfinite(tracks.scores).all() and (tracks.areas > 0).any()
