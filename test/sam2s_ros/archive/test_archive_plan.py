"""Which recordings an archive has, what each is called, and where its prompts come from."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam2s_model.errors import ConfigError
from sam2s_ros.archive.plan import plan_archive
from sam2s_ros.commands.arguments import PromptOptions, SoughtOptions
from sam2s_ros.commands.engine import EngineOptions
from sam2s_ros.commands.options import TrackOptions

PROMPTS = "prompts:\n- {frame: 0, object: 1, box: [1, 1, 5, 5]}\n"


@pytest.fixture
def options(tmp_path) -> TrackOptions:
    return TrackOptions(source="", engine=EngineOptions(), output=tmp_path / "out")


@pytest.fixture
def clips(tmp_path) -> list[str]:
    """Three files with names of videos, which a plan does not open."""
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / name).write_bytes(b"")
    return [str(tmp_path / name) for name in ("a.mp4", "b.mp4", "c.mp4")]


def prompts_of(tasks) -> list[Path | None]:
    return [task.options.prompts.prompts for task in tasks]


def test_prompts_lie_beside_a_file_and_in_a_folder(options, clips, tmp_path):
    (tmp_path / "b.prompts.yaml").write_text(PROMPTS)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "prompts.yaml").write_text(PROMPTS)
    tasks = plan_archive([*clips[:2], str(tmp_path / "folder"), "scene:?seed=1"], options)
    assert prompts_of(tasks) == [None, tmp_path / "b.prompts.yaml", tmp_path / "folder" / "prompts.yaml", None]
    assert [task.key for task in tasks] == ["a", "b", "folder", "scene_seed1"]
    assert tasks[0].folder == tmp_path / "out" / "recordings" / "a" and tasks[0].options.source == clips[0]
    with_classes = replace(options, sought=SoughtOptions(prototypes=tmp_path / "bank.safetensors"))
    assert prompts_of(plan_archive(clips[:2], with_classes)) == [None, None], "prototypes stand in place of prompts"


def test_prompts_of_a_folder_or_of_a_table(options, clips, tmp_path):
    (tmp_path / "asked").mkdir()
    for name in ("a.yaml", "c.yaml"):
        (tmp_path / "asked" / name).write_text(PROMPTS)
    from_folder = replace(options, prompts=PromptOptions(prompts=tmp_path / "asked"))
    assert prompts_of(plan_archive(clips, from_folder)) == [
        tmp_path / "asked" / "a.yaml",
        None,
        tmp_path / "asked" / "c.yaml",
    ]
    table = tmp_path / "table.yaml"
    table.write_text(f"recordings:\n  a: asked/a.yaml\n  {clips[1]}: asked/a.yaml\n  ./c.mp4: asked/c.yaml\n")
    from_table = replace(options, prompts=PromptOptions(prompts=table))
    assert [path.name for path in prompts_of(plan_archive(clips, from_table))] == ["a.yaml", "a.yaml", "c.yaml"]


def test_names_in_a_table_are_texts(options, tmp_path):
    names = ("010", "8", "1e3", "yes")
    for name in names:
        (tmp_path / f"{name}.mp4").write_bytes(b"")
        (tmp_path / f"{name}.yaml").write_text(PROMPTS)
    table = tmp_path / "table.yaml"
    table.write_text("recordings:\n" + "".join(f"  {name}: {name}.yaml\n" for name in names))
    from_table = replace(options, prompts=PromptOptions(prompts=table))
    tasks = plan_archive([str(tmp_path / f"{name}.mp4") for name in names], from_table)
    assert [path.stem for path in prompts_of(tasks)] == list(names)
    table.write_text("recordings: {8: }")
    with pytest.raises(ConfigError, match="with `recordings:` and NAME: FILE of each"):
        plan_archive([str(tmp_path / f"{name}.mp4") for name in names], from_table)


def test_a_table_may_take_in_another(options, clips, tmp_path):
    (tmp_path / "asked.yaml").write_text(PROMPTS)
    table = tmp_path / "table.yaml"
    table.write_text("day1: &day1 {a: asked.yaml, b: asked.yaml}\nrecordings: {<<: *day1, c: asked.yaml}\n")
    from_table = replace(options, prompts=PromptOptions(prompts=table))
    assert prompts_of(plan_archive(clips, from_table)) == [tmp_path / "asked.yaml"] * 3
    for tagged in ("!!int x", "!!python/name:os.system asked.yaml"):
        table.write_text(f"recordings: {{a: {tagged}}}")
        with pytest.raises(ConfigError, match="table.yaml cannot be read as prompts"):
            plan_archive(clips, from_table)


def test_all_recordings_of_a_data_set_are_taken(options, tmp_path):
    for name in ("first", "second"):
        for kind in ("frames", "masks"):
            folder = tmp_path / "set" / name / kind
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / "00000.png"), np.full((16, 16), 1, np.uint8))
    tasks = plan_archive([str(tmp_path / "set")], options)
    assert [task.key for task in tasks] == ["set_first", "set_second"]
    assert tasks[1].options.source == f"{tmp_path}/set#second"
    assert [task.key for task in plan_archive([str(tmp_path / "set" / "first")], options)] == ["first"]


def test_recordings_of_one_name_are_called_by_their_folders(options, clips, tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").write_bytes(b"")
    tasks = plan_archive([str(tmp_path / "x" / "a.mp4"), str(tmp_path / "y" / "a.mp4"), clips[1]], options)
    assert [task.key for task in tasks] == ["x_a", "y_a", "b"]


@pytest.mark.parametrize(
    "prompts, said",
    [
        (dict(box=("1,1,5,5",)), "--box, --point and --points are of one recording"),
        (dict(prompts="one.yaml"), "one.yaml is of one recording, and there are 3: expected a folder of NAME.yaml, or"),
        (dict(prompts="other.yaml"), "has prompts of 'aa', which is none of the recordings a, b, c"),
        (dict(prompts="bad.yaml"), "nothing.yaml cannot be read as prompts"),
        (dict(prompts="none"), "--prompts .*none is of none of the recordings a, b, c"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_is_tracked(options, clips, tmp_path, prompts, said):
    (tmp_path / "one.yaml").write_text(PROMPTS)
    (tmp_path / "other.yaml").write_text("recordings: {aa: one.yaml}")
    (tmp_path / "bad.yaml").write_text("recordings: {a: nothing.yaml}")
    (tmp_path / "none").mkdir()
    if "prompts" in prompts:
        prompts = dict(prompts=tmp_path / prompts["prompts"])
    with pytest.raises(ConfigError, match=said):
        plan_archive(clips, replace(options, prompts=PromptOptions(**prompts)))


def test_a_box_with_spaces_is_no_archive(options, clips):
    apart = replace(options, prompts=PromptOptions(box=("120",)))  # --box 120 80 340 260
    with pytest.raises(ConfigError, match="there is no source 80: coordinates are one word, --box x0,y0"):
        plan_archive([clips[0], "80", "340", "260"], apart)


@pytest.mark.parametrize("of_one", [dict(objects=Path("a.objects")), dict(save_objects=Path("a.objects"))])
def test_a_file_of_objects_is_of_one_recording(options, clips, of_one):
    with pytest.raises(ConfigError, match="--objects and --save-objects are of one recording"):
        plan_archive(clips, replace(options, **of_one))


def test_what_is_given_twice_is_named(options, clips):
    with pytest.raises(ConfigError, match="a.mp4 is given twice"):
        plan_archive([clips[0], clips[0]], options)


def test_results_inside_a_data_set_change_no_stamp(options, tmp_path):
    for name in ("a", "b"):
        for kind, value in (("frames", 90), ("masks", 1)):
            (tmp_path / "set" / name / kind).mkdir(parents=True)
            cv2.imwrite(str(tmp_path / "set" / name / kind / "0.png"), np.full((8, 8), value, np.uint8))
    inside = replace(options, output=tmp_path / "set" / "out")
    sources = [str(tmp_path / "set"), f"{tmp_path / 'set'}#a"]
    before = [[task.stamp for task in plan_archive([source], inside)] for source in sources]
    assert [len(stamps) for stamps in before] == [2, 1] and before[0][0] == before[1][0] and before[0][0][0] == 2
    (tmp_path / "set" / "out").mkdir()
    (tmp_path / "set" / "out" / "tracks.csv").write_text("frame")
    assert [[task.stamp for task in plan_archive([source], inside)] for source in sources] == before


def test_masks_that_prompts_name_are_part_of_what_was_said(options, clips, tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.prompts.yaml").write_text(PROMPTS)
    (tmp_path / "b.prompts.yaml").write_text("prompts:\n- {frame: 0, object: 1, mask: mask.png}\n")
    for said in ("No such file .*mask.png", "mask.png cannot be decoded", "mask.png is uint16: expected 8 bits"):
        with pytest.raises(ConfigError, match=f"b.prompts.yaml cannot be read as prompts .*{said}"):
            plan_archive(clips, options)
        if (tmp_path / "mask.png").exists():
            cv2.imwrite(str(tmp_path / "mask.png"), np.full((8, 8), 1, np.uint16))
        else:
            (tmp_path / "mask.png").write_text("no image")
    made = []
    for value in (1, 2, 1):
        cv2.imwrite(str(tmp_path / "mask.png"), np.full((8, 8), value, np.uint8))
        made.append([task.made_of() for task in plan_archive(clips, options)])
    assert made[0] == made[2] and made[0][0] == made[1][0] and made[0][1] != made[1][1]
    assert made[0][0]["prompts_sha256"] == hashlib.sha256(PROMPTS.encode()).hexdigest(), "as in archives of before"


@pytest.mark.parametrize("frames", ["frames", "left_frames"])
def test_prompts_lie_in_the_folder_of_a_recording_of_a_data_set(options, tmp_path, frames):
    masks = "masks" if frames == "frames" else "ground_truth/Forceps_labels"
    for name in ("first", "second"):
        for kind in (frames, masks):
            folder = tmp_path / "set" / name / kind
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / "00000.png"), np.full((16, 16), 1, np.uint8))
    own = tmp_path / "set" / "second" / "prompts.yaml"
    own.write_text(PROMPTS)
    assert prompts_of(plan_archive([str(tmp_path / "set")], options)) == [None, own]
    assert prompts_of(plan_archive([f"{tmp_path / 'set'}#second"], options)) == [own]
    shutil.rmtree(tmp_path / "set" / "first")
    assert prompts_of(plan_archive([str(tmp_path / "set")], options)) == [own], "the only one"
