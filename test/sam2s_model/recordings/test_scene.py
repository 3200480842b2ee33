"""The procedural scene: a pure function of configuration and index, with exact labels and the promised events."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import sam2s_model.recordings.scene as package
from sam2s_model.recordings.scene import CLASS_IDS, Scene, SceneConfig, SceneError
from sam2s_model.recordings.scene.camera import Camera
from sam2s_model.recordings.scene.instruments import Instrument, thickness
from sam2s_model.recordings.scene.motion import Pose

SMALL = SceneConfig(width=160, height=128)


@pytest.fixture(scope="module")
def default_frames():
    """Every second frame of the default scene."""
    scene = Scene(SceneConfig())
    return [scene[i] for i in range(0, len(scene), 2)]


def same(a, b) -> bool:
    return np.array_equal(a.image, b.image) and np.array_equal(a.labels, b.labels) and a.objects == b.objects


def test_random_access_equals_iteration():
    config = dataclasses.replace(SMALL, frames=12)
    frames = list(Scene(config))
    again = Scene(config)
    assert [frame.index for frame in frames] == list(range(12))
    for index in (7, 0, 11, 3, 7):
        assert same(again[index], frames[index])
    assert same(again[-1], frames[11])
    assert same(again[np.int64(4)], frames[4])


def test_length_does_not_change_a_frame():
    assert same(Scene(SMALL)[50], Scene(dataclasses.replace(SMALL, frames=51))[50])


def test_seconds_not_frames_define_motion():
    slow, fast = (Scene(dataclasses.replace(SMALL, fps=fps, noise=0.0, blur=0.0)) for fps in (10.0, 30.0))
    assert np.array_equal(slow[20].image, fast[60].image)
    assert slow[20].stamp_ns == fast[60].stamp_ns == 2_000_000_000


def test_seeds_differ_in_tissue_and_instruments():
    seeds = range(6)
    empty = [Scene(dataclasses.replace(SMALL, seed=seed, instruments=0))[0].image.astype(int) for seed in seeds]
    full = [Scene(dataclasses.replace(SMALL, seed=seed)) for seed in seeds]
    for a in seeds:
        for b in range(a):
            assert np.abs(empty[a] - empty[b]).mean() > 5
            assert not np.array_equal(full[a][0].labels, full[b][0].labels)
    assert len({tuple(row.class_name for row in scene.objects) for scene in full}) > 3


def test_frames_differ_in_time():
    scene = Scene(SMALL)
    assert not np.array_equal(scene[0].image, scene[1].image)


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (101, 64), (333, 77), (320, 257)])
@pytest.mark.parametrize("field", ["circle", "full"])
def test_any_size(size, field):
    width, height = size
    scene = Scene(SceneConfig(width=width, height=height, field=field, instruments=3))
    frame = scene[30]
    assert frame.image.shape == (height, width, 3) and frame.image.dtype == np.uint8
    assert frame.labels.shape == (height, width) and frame.labels.dtype == np.uint8
    assert frame.image.flags["C_CONTIGUOUS"] and frame.labels.flags["C_CONTIGUOUS"]
    assert np.array_equal(frame.labels == 255, ~scene.field)
    assert scene.field.all() == (field == "full")


@pytest.mark.parametrize("index", [1_000_000, 999_999_999])
def test_far_frames_come_at_once(index):
    scene = Scene(dataclasses.replace(SMALL, frames=10**9))
    frame = scene[index]
    assert frame.stamp_ns == index * 40_000_000
    # the far future is as eventful as the beginning: the next cycle has an instrument away and all back
    cycle = [scene[min(index, 10**9 - 121) + n] for n in range(0, 120, 4)]
    visible = np.array([[state.visible for state in frame.objects] for frame in cycle])
    assert visible.any(axis=0).all() and not visible.all()


@settings(max_examples=12)
@given(
    seed=st.integers(0, 2**63 - 1),
    count=st.integers(0, 6),
    index=st.integers(0, 10**6),
    field=st.sampled_from(["circle", "full"]),
    motion=st.floats(0, 1),
    smoke=st.floats(0, 1),
)
def test_labels_and_states_agree(seed, count, index, field, motion, smoke):
    config = SceneConfig(
        width=96,
        height=80,
        frames=10**6 + 1,
        seed=seed,
        instruments=count,
        field=field,
        camera_motion=motion,
        smoke=smoke,
    )
    scene = Scene(config)
    frame = scene[index]
    assert [(row.label, row.object_id) for row in scene.objects] == [(n, n) for n in range(1, count + 1)]
    assert all(CLASS_IDS[row.class_name] == row.class_id for row in scene.objects)
    assert len({row.class_id for row in scene.objects}) == count
    assert set(np.unique(frame.labels)) <= {0, 255, *(row.label for row in scene.objects)}
    assert np.array_equal(frame.labels == 255, ~scene.field)
    assert [state.label for state in frame.objects] == [row.label for row in scene.objects]
    for state in frame.objects:
        mask = frame.labels == state.label
        assert state.area == mask.sum() <= state.whole_area
        assert state.visible == bool(mask.any())
        assert 0 <= state.occluded <= 1
        if state.visible:
            left, top, right, bottom = state.box
            assert mask[top:bottom, left:right].sum() == state.area
            assert mask[top].any() and mask[bottom - 1].any() and mask[:, left].any() and mask[:, right - 1].any()
        else:
            assert state.box is None


def test_default_scene_has_its_events(default_frames):
    first = default_frames[0]
    assert len(first.objects) == 2 and all(state.area > 2000 for state in first.objects)
    assert len({row.class_id for row in Scene(SceneConfig()).objects}) == 2
    crossing = [frame.index for frame in default_frames if max(state.occluded for state in frame.objects) > 0.1]
    assert len(crossing) >= 5
    away = np.array([[not state.visible for state in frame.objects] for frame in default_frames])
    leavers = np.flatnonzero(away.any(axis=0))
    assert len(leavers) == 1 and away[:, leavers[0]].sum() >= 10
    gone = np.flatnonzero(away[:, leavers[0]])
    assert gone[0] > 0 and gone[-1] < len(away) - 1 and np.array_equal(gone, np.arange(gone[0], gone[-1] + 1))
    assert not away[-1].any()


@pytest.mark.parametrize("seed", range(1, 5))
def test_every_cycle_crosses_and_leaves(seed):
    scene = Scene(dataclasses.replace(SMALL, seed=seed, frames=360))
    for cycle in range(3):
        frames = [scene[i] for i in range(120 * cycle, 120 * (cycle + 1), 4)]
        assert all(state.visible for state in frames[0].objects)
        assert max(state.occluded for frame in frames for state in frame.objects) > 0.05
        assert sum(not all(state.visible for state in frame.objects) for frame in frames) >= 3


def test_each_covers_the_other_at_times():
    scene = Scene(dataclasses.replace(SMALL, frames=10**6))
    covered = set()
    for cycle in range(12):
        states = scene[120 * cycle + 40].objects  # crossed
        covered |= {state.label for state in states if state.occluded > 0.02}
    assert covered == {1, 2}


def test_masks_show_what_the_instruments_change():
    """Inside a mask the image differs from the same scene without instruments, far away it does not."""
    plain = dict(noise=0.0, smoke=0.0, blur=0.0)
    with_tools = Scene(SceneConfig(**plain))
    without = Scene(SceneConfig(instruments=0, **plain))
    for index in (0, 38, 60, 100):
        frame, empty = with_tools[index], without[index]
        assert empty.objects == () and not np.any((empty.labels > 0) & (empty.labels < 255))
        change = np.abs(frame.image.astype(int) - empty.image.astype(int)).max(axis=2)
        for state in frame.objects:
            if state.visible:
                assert (change[frame.labels == state.label] > 3).mean() > 0.97
        # shadows darken; nothing else may touch the tissue
        tissue = frame.labels == 0
        brighter = (frame.image.astype(int) - empty.image.astype(int)).max(axis=2) > 12
        edge = np.zeros_like(tissue)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                edge |= np.roll(frame.labels, (dy, dx), (0, 1)) != frame.labels
        assert not np.any(brighter & tissue & ~edge)


def test_mask_is_half_coverage():
    """The mask agrees with the same instrument drawn at four times the size, averaged over each pixel."""
    plain = dict(noise=0.0, smoke=0.0, blur=0.0, blood=0.0, classes="suction", instruments=1)
    small, large = SceneConfig(width=160, height=128, **plain), SceneConfig(width=640, height=512, **plain)
    layers = []
    for config, factor in ((small, 1), (large, 4)):
        tool = Instrument(config, 0, "suction", 20 * thickness(config, 0), thickness(config, 0))
        view = Camera(dataclasses.replace(config, camera_motion=0.0)).view(0.0)
        layer = tool.draw(Pose(factor * np.array([10.0, 7.0]), 0.6, 0.0, 0.5, 1.0), view)
        cover = np.zeros((config.height, config.width))
        cover[layer.window] = layer.rgba[:, :, 3] / 255
        layers.append(cover)
    fine = layers[1].reshape(128, 4, 160, 4).mean(axis=(1, 3))
    mask, exact = layers[0] >= 128 / 255, fine >= 0.5
    assert exact.sum() > 500
    assert abs(int(mask.sum()) - int(exact.sum())) < 0.008 * exact.sum()  # no bias
    assert np.all(np.abs(fine - 0.5)[mask != exact] < 0.35)  # only pixels that are cut by the edge


@pytest.mark.parametrize("name", CLASS_IDS)
def test_each_class_can_be_chosen_and_leaves_wholly(name):
    scene = Scene(dataclasses.replace(SMALL, instruments=1, classes=name, seed=5, field="full"))
    assert scene.objects[0].class_name == name and scene.objects[0].class_id == CLASS_IDS[name]
    areas = [scene[i].objects[0].area for i in range(0, 120, 4)]
    assert areas[0] > 100 and 0 in areas and areas[-1] > 0


def test_classes_look_different():
    """At equal pose, two classes share no more than part of their outline beyond the shaft."""
    masks = {}
    for name in CLASS_IDS:
        tool = Instrument(SMALL, 0, name, 400.0, 20.0)
        layer = tool.draw(Pose(np.array([-20.0, 0.0]), 0.0, 0.0, 0.6, 1.0), np.array([[1.0, 0, 80], [0, 1, 64]]))
        mask = np.zeros((128, 160), bool)
        mask[layer.window] = layer.rgba[:, :, 3] >= 128
        masks[name] = mask[:, 60:]
    names = list(masks)
    for a in names:
        for b in names[: names.index(a)]:
            assert (masks[a] & masks[b]).sum() / (masks[a] | masks[b]).sum() < 0.85, (a, b)


@pytest.mark.parametrize("option", ["smoke", "blood", "camera_motion", "blur", "noise"])
def test_effects_change_the_image(option):
    frames = [Scene(dataclasses.replace(SMALL, seed=3, **{option: value})) for value in (0.0, 1.0)]
    changes = [np.abs(frames[0][i].image.astype(int) - frames[1][i].image.astype(int)).mean() for i in (0, 20, 55, 70)]
    assert max(changes) > 0.3
    if option != "camera_motion":  # the only one that moves things
        assert all(np.array_equal(frames[0][i].labels, frames[1][i].labels) for i in (0, 20, 55, 70))


def test_surround_is_dark_and_field_is_lit(default_frames):
    frame = default_frames[0]
    outside = cv2.erode((frame.labels == 255).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0  # less the soft edge
    assert outside.any() and frame.image[outside].max() < 30
    assert np.median(frame.image[frame.labels != 255].max(axis=1)) > 60


def test_from_uri():
    assert SceneConfig.from_uri("scene:") == SceneConfig()
    config = SceneConfig.from_uri("scene:?width=96&height=80&frames=10&seed=7&fps=12.5&field=full&classes=hook,suction")
    assert config == SceneConfig(width=96, height=80, frames=10, seed=7, fps=12.5, field="full", classes="hook,suction")
    assert [row.class_name for row in Scene(config).objects] == ["hook", "suction"]


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("scene:?colour=red", "'colour' is not an option of a scene: expected one of width, height"),
        ("scene:?width=12", "width is 12: expected 64 to 8192"),
        ("scene:?width=big", "width is 'big': expected a value of type int"),
        ("scene:?smoke=nan", "smoke is nan: expected 0.0 to 1.0"),
        ("scene:?seed", "seed has no value: expected seed=VALUE"),
        ("scene:?seed=1&seed=2", "seed is given twice"),
        ("scene:?seed=-1", "seed is -1: expected 0 to"),
        ("scene:?instruments=7", "instruments is 7: expected 0 to 6"),
        ("scene:?field=square", "field is 'square': expected one of 'circle', 'full'"),
        ("scene:?classes=hammer,hook", "classes has 'hammer': expected names out of forceps"),
        ("scene:?classes=hook", "classes has 1 names: expected 2"),
        ("video.mp4", "'video.mp4' is not a scene"),
    ],
)
def test_bad_uris(uri, words):
    with pytest.raises(SceneError, match="^" + words.replace(".", r"\.").replace("(", r"\(")):
        SceneConfig.from_uri(uri)


@pytest.mark.parametrize("bad", [dict(width=640.5), dict(width=True), dict(fps="fast"), dict(frames=0), dict(field=3)])
def test_bad_values(bad):
    with pytest.raises(SceneError, match=next(iter(bad))):
        SceneConfig(**bad)


def test_index_beyond_the_end():
    scene = Scene(dataclasses.replace(SMALL, frames=3))
    assert len(scene) == 3
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"frame {index} is not in the scene: expected -3 to 2"):
            scene[index]
    with pytest.raises(TypeError):
        scene["first"]


@pytest.mark.parametrize("name, jaws", [("forceps", 2), ("hook", 1)])
def test_parts_lie_in_one_another_and_make_the_instrument(name, jaws):
    scene = Scene(SceneConfig(width=240, height=192, seed=3, instruments=1, classes=name, camera_motion=0.5))
    for index in (0, 20):
        (parts,) = scene.parts(index).values()
        assert (parts.whole == (scene[index].labels == 1)).all()
        assert not (parts.tip & ~parts.jaw).any() and not (parts.jaw & ~parts.whole).any()
        sizes = [np.count_nonzero(mask) for mask in (parts.tip, parts.jaw, parts.whole)]
        assert 20 < sizes[0] < sizes[1] < 0.9 * sizes[2]
        left_over = parts.whole & ~scene._instruments[0].parts(
            scene._rig.poses(index / 25)[0], scene._camera.view(index / 25)
        ).astype(bool)
        assert left_over.sum() <= 0.02 * sizes[2], "the parts cover it, but for edges where two add up to a half"
        assert (sizes[1] > 1.6 * sizes[0]) == (jaws == 2) or jaws == 1
    assert Scene(SceneConfig(width=240, height=192, instruments=0)).parts(0) == {}


def test_imports_numpy_and_cv2_only():
    """Training, replay and tests use the scene where torch or ROS may be missing."""
    standard = {"__future__", "ast", "collections", "dataclasses", "math", "operator", "typing", "urllib"}
    for path in Path(package.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                own = (
                    name.startswith("sam2s_model.recordings.scene") or name == "sam2s_model.similar"
                )  # which is like it
                assert own or name.split(".")[0] in standard | {"numpy", "cv2"}, (path, name)
