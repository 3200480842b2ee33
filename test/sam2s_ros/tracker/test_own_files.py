"""Trackers of one process may read the same files, and do not write them."""

from __future__ import annotations

import pytest

from sam2s_model.errors import ConfigError
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.tracker.own_files import OwnFiles


@pytest.mark.parametrize("parameter", ["prompts_file", "objects_file", "prototypes"])
def test_p44_one_file_is_found_however_its_path_is_written(parameter, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    paths = dict(left=str(tmp_path / "a"), right="")
    left, right = (OwnFiles(f"/{side}", lambda side=side: NodeConfig(**{parameter: paths[side]})) for side in paths)
    left.beside, right.beside = [right], [left]
    for paths["right"] in ("a", "~/a", "link/a", str(tmp_path / "b" / ".." / "a")):
        for own, said in ((left, f"is {tmp_path / 'a'} for /left and /right"), (right, "for /right and /left")):
            with pytest.raises(ConfigError, match=said):
                own.check(parameter)
    for paths["right"] in ("", "b", "~/link/b"):
        left.check(parameter)
        right.check(parameter)
    paths["left"] = ""
    left.check(parameter)
