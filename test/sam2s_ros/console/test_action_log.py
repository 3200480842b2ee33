"""The file of actions: a line of JSON each, also when the disk was full meanwhile."""

from __future__ import annotations

import json
import resource
import signal

import pytest

from sam2s_model.errors import ConfigError
from sam2s_ros.console.action_log import ActionLog


def test_each_action_is_a_line_in_the_file_at_once_and_after_those_of_before(tmp_path):
    path, said = tmp_path / "actions.jsonl", []
    path.write_text(json.dumps({"action": "before"}) + "\n")
    log = ActionLog("action_log", str(path), said.append)
    log.add({"action": "ä"})
    assert [json.loads(line)["action"] for line in path.read_text().splitlines()] == ["before", "ä"]
    log.close()
    ActionLog("action_log", "", said.append).add({"action": "nowhere"})
    assert said == []


def test_a_file_that_cannot_be_opened_is_refused_by_its_option(tmp_path):
    with pytest.raises(ConfigError, match="log .*/none/a.jsonl cannot be written to .No such file"):
        ActionLog("log", tmp_path / "none" / "a.jsonl", print)


def test_a_full_disk_is_said_once_and_the_file_goes_on_when_there_is_room(tmp_path):
    path, said = tmp_path / "actions.jsonl", []
    log = ActionLog("action_log", path, said.append)
    log.add({"action": "first"})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, limit[1]))
    try:
        for number in range(3):
            log.add({"action": f"lost {number}"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    assert said == [f"action_log {path} cannot be written to (File too large): actions are left out"]
    log.add({"action": "last"})
    first, cut, last = path.read_text().splitlines()
    assert json.loads(first) == {"action": "first"} and json.loads(last) == {"action": "last"}
    assert json.dumps({"action": "lost 0"}).startswith(cut) and len(cut) == 5
