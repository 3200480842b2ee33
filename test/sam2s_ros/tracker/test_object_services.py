"""How ~/save_objects and ~/load_objects answer: what is wrong is in the message and in the log."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from std_srvs.srv import Trigger

from sam2s_model.errors import ConfigError, ErrorCode, ObjectMemoryError, RequestError
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.tracker.event_log import EventLog
from sam2s_ros.tracker.object_services import FirstLoad, ObjectServices


class Lines:
    def __init__(self):
        self.lines = []

    def info(self, line):
        self.lines.append(line)

    warning = info


class Served:
    """Keeps the callbacks of services by name, in place of a node."""

    def __init__(self):
        self.callbacks = {}

    def create_service(self, kind, name, callback, **_):
        self.callbacks[name] = callback


def served(ask, path: str):
    node, log = Served(), Lines()
    ObjectServices(node, ask, lambda: NodeConfig(objects_file=path), None, EventLog(log))
    return {name: call(Trigger.Request(), Trigger.Response()) for name, call in node.callbacks.items()}, log.lines


def test_without_a_file_it_is_said_which_parameter_names_one():
    answers, lines = served(lambda call: pytest.fail("the worker was asked"), "")
    assert set(answers) == {"~/save_objects", "~/load_objects"} and not lines
    for answer in answers.values():
        assert not answer.success and "the parameter objects_file is empty" in answer.message


def test_what_does_not_serve_is_said_once_and_the_rest_goes_on(tmp_path):
    called, log = [], Lines()
    config = NodeConfig(objects_file=str(tmp_path / "none"), load_objects=True)
    load = FirstLoad(config, lambda tracker, result: called.append(result) or False, log)
    tracker = SimpleNamespace(model=None, restore_objects=None)  # which is not asked
    assert load(tracker, "first") and not load(tracker, "second") and called == ["second"]
    [line] = log.lines
    assert line.startswith("load_objects: no object goes on: objects") and "do not exist" in line
    off = FirstLoad(NodeConfig(), lambda tracker, result: True, log)
    assert off(None, "first") and len(log.lines) == 1
    with pytest.raises(ConfigError, match="load_objects is true, but objects_file is empty"):
        NodeConfig(load_objects=True)


@pytest.mark.parametrize("error, message", [
    (RequestError(ErrorCode.TOO_MANY_OBJECTS, "17 objects"), "TOO_MANY_OBJECTS: 17 objects"),
    (ObjectMemoryError("x was made with another model: a instead of b"), "x was made with another model: a instead"),
])  # fmt: skip
def test_a_refusal_is_answered_and_logged(error, message):
    def ask(call):
        raise error

    answers, lines = served(ask, "/some/file")
    for answer in answers.values():
        assert not answer.success and answer.message.startswith(message)
    assert len(lines) == 2 and all("~/" in line for line in lines)
