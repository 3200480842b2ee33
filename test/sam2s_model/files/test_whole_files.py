"""Files of tensors on a full disk: a sentence, the old file, and nothing beside it; whoever writes them."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

import sam2s_model
from sam2s_model.checkpoint.adapter_files import save_adapter
from sam2s_model.discovery.prototype_file import ModelIdentity, save_prototypes
from sam2s_model.discovery.prototypes import PrototypeBank
from sam2s_model.errors import CheckpointError, SourceError, TrainingError
from sam2s_model.files.whole_files import STALE, replacing
from sam2s_model.recall.memories import SavedObjects
from sam2s_model.recall.object_file import MadeWith, write_objects
from sam2s_model.training.config import TrainConfig
from sam2s_model.training.log import Log, plot_log
from sam2s_model.training.pack import TeacherPack
from sam2s_model.training.state import begin_folder, load_state, save_checkpoint, save_recipe, save_state
from sam2s_model.training.store import StoreWriter, TaughtView

SOURCES = Path(sam2s_model.__file__).parent
IDENTITY = ModelIdentity("any", 64, torch.zeros(4))
LARGE = torch.zeros(500_000)


@contextmanager
def full_disk(left: int = 100_000):
    """Let no file grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def pack(side: int) -> TeacherPack:
    values = np.random.default_rng(0).normal(size=(1, 4, side, side))
    return TeacherPack.of(["a"], values, np.zeros(256), np.zeros((4, 256)), [np.zeros((1, 8, 8), bool)])


@pytest.mark.parametrize(("write", "error"), [
    (lambda path, small: save_adapter(path, {"x": LARGE[:9] if small else LARGE}, {}), CheckpointError),
    (lambda path, small: save_checkpoint(path, {"x": LARGE[:9] if small else LARGE}, {}, False), CheckpointError),
    (lambda path, small: pack(2 if small else 400).save(path), SourceError),
], ids=["adapter", "checkpoint", "pack"])  # fmt: skip
def test_what_there_is_no_room_for_leaves_the_old_file(tmp_path, write, error):
    path = tmp_path / "file.safetensors"
    write(path, True)
    before = path.read_bytes()
    with full_disk(), pytest.raises(error, match="file.safetensors cannot be written: "):
        write(path, False)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [
    lambda path: save_adapter(path, {"x": LARGE[:9]}, {}),
    lambda path: save_checkpoint(path, {"x": LARGE[:9]}, {}, False),
    lambda path: pack(2).save(path),
    lambda path: save_prototypes(PrototypeBank(8), IDENTITY, path),
    lambda path: write_objects(SavedObjects("fifo", ()), MadeWith(IDENTITY), path),
], ids=["adapter", "checkpoint", "pack", "prototypes", "objects"])  # fmt: skip
def test_files_of_tensors_may_be_read_by_whom_other_files_may_be_read(tmp_path, write):
    before = os.umask(0o027)
    try:
        write(tmp_path / "new")
        (tmp_path / "old").touch()
        (tmp_path / "old").chmod(0o604)
        write(tmp_path / "old")
    finally:
        os.umask(before)
    assert [oct((tmp_path / name).stat().st_mode & 0o777) for name in ("new", "old")] == ["0o640", "0o604"]
    assert (tmp_path / "old").stat().st_size > 0


def test_no_writer_leaves_a_private_file():
    """Each that calls the library's writer does so where the mode is set."""
    texts = {path.relative_to(SOURCES): path.read_text() for path in SOURCES.rglob("*.py")}
    writers = {path: text.count(" save_file(") for path, text in texts.items() if " save_file(" in text}
    assert len(writers) >= 7
    assert writers == {path: texts[path].count("with_usual_mode(") for path in writers}


@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA error: an illegal memory access"), torch.OutOfMemoryError("CUDA out of memory. Tried to"),
     RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")],
)  # fmt: skip
def test_what_is_no_fault_of_the_file_is_raised_as_it_is(tmp_path, error):
    with pytest.raises(RuntimeError) as raised, replacing(tmp_path / "file") as temporary:
        temporary.touch()
        raise error
    assert raised.value is error and not list(tmp_path.iterdir())


def test_an_error_without_a_text_is_named_by_its_type(tmp_path):
    with pytest.raises(CheckpointError, match="x cannot be written: RuntimeError$"), replacing(tmp_path / "x"):
        raise RuntimeError


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = tmp_path / f".state.pt.{gone.pid}.tmp"
    kept = [tmp_path / name for name in (f".state.pt.{os.getppid()}.tmp", f".log.jsonl.{gone.pid}.tmp", "state.pt.1")]
    for path in (left, *kept):
        path.touch()
    for age in (0, 10 * STALE):  # another machine may write to the same folder
        os.utime(left, (time.time() - age,) * 2)
        with replacing(tmp_path / "state.pt") as temporary:
            temporary.write_text("whole")
        assert left.exists() == (age == 0)
    assert all(path.exists() for path in kept) and (tmp_path / "state.pt").read_text() == "whole"


def test_a_run_keeps_the_state_before(tmp_path):
    config = TrainConfig(output=str(tmp_path))
    with full_disk(), pytest.raises(TrainingError, match=r"state.pt cannot be written: [^;]*$"):
        save_state(tmp_path, {"x": LARGE, "step": 1}, config)
    assert not list(tmp_path.iterdir())
    save_state(tmp_path, {"x": LARGE[:9], "step": 1}, config)
    with full_disk(), pytest.raises(TrainingError, match="state.pt cannot be written: .*; the state before is kept, "):
        save_state(tmp_path, {"x": LARGE, "step": 2}, config)
    assert load_state(tmp_path, config)["step"] == 1 and len(list(tmp_path.iterdir())) == 1


def test_a_folder_and_its_texts_that_cannot_be_written_are_said(tmp_path):
    (tmp_path / "file").touch()
    config = TrainConfig(output=str(tmp_path / "file" / "run"))
    with pytest.raises(TrainingError, match=r"file/run cannot be made \(Not a directory\)"):
        begin_folder(config)
    with full_disk(10), pytest.raises(TrainingError, match="config.yaml cannot be written: File too large"):
        save_recipe(tmp_path, config)
    with full_disk(10), pytest.raises(TrainingError, match="log.jsonl cannot be written to: File too large"):
        Log(tmp_path / "log.jsonl").write({"step": 1, "loss": 0.123456})
    assert Path(begin_folder(TrainConfig(output=str(tmp_path / "run")))).is_dir()


def test_a_store_keeps_its_entries_and_goes_on(tmp_path):
    header = {"levels": [[1, 2, 2]] * 3}
    level = np.zeros((1, 2, 2), np.float16)
    view = TaughtView(np.zeros((8, 8, 3), np.uint8), None, {}, np.zeros((0, 4, 4), bool), (level,) * 3)
    said = "cannot be written to: File too large; its 1 entries are kept, and the same command goes on$"
    with full_disk(), pytest.raises(TrainingError, match=said), StoreWriter(tmp_path, header) as writer:
        writer.add("clip", 0, 0, b"small", view)
        writer.add("clip", 1, 0, b"x" * 200_000, view)
    with StoreWriter(tmp_path, header) as writer:
        assert writer.count == 1
        for number, room in ((errno.ENOSPC, "; make room"), (errno.EDQUOT, "; make room"), (errno.EACCES, "")):
            said = f"{os.strerror(number)}; its 1 entries are kept, and the same command goes on{room}$"
            with pytest.raises(TrainingError, match=said), writer._writing():
                raise OSError(number, os.strerror(number))
        writer.add("clip", 1, 0, b"x" * 200_000, view)
    with StoreWriter(tmp_path, header) as writer:
        assert writer.count == 2
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="cannot be written to: Not a directory$"):
        StoreWriter(tmp_path / "file" / "store", header)


def test_a_plot_that_cannot_be_written_is_no_reason_to_fail(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    for step in (1, 2):
        log.write({"step": step, "loss": 0.5, "iou_seen": 0.5})
    with full_disk(1000):
        said = plot_log(log, tmp_path / "plot.png")
    if said != "no plot: matplotlib is not installed":
        assert "plot.png cannot be written: File too large" in said
        assert plot_log(log, tmp_path / "plot.png") == ""
    assert not list(tmp_path.glob(".*"))
