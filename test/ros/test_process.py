"""How the nodes' processes start and end: signals at any moment, wrong arguments, the installed programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from rcl_interfaces.srv import GetParameters

from sam2s_ros.processes.dds import share_directory

MODULES = {
    "console_node": "sam2s_ros.console.node",
    "pair_node": "sam2s_ros.tracker.pair",
    "stereo_node": "sam2s_ros.tracker.stereo",
    "recorder_node": "sam2s_ros.recorder.node",
    "replay_node": "sam2s_ros.replay.node",
    "tracker_node": "sam2s_ros.tracker.node",
}
NODES = ("recorder_node", "replay_node", "tracker_node")
PROGRAMS = share_directory().parents[1] / "lib" / "sam2s_ros"
ENDING = sum(1 << number - 1 for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))  # as in /proc/PID/status


def blocks_signals(pid: int) -> bool:
    with open(f"/proc/{pid}/status") as status:
        [mask] = [int(line.split()[1], 16) for line in status if line.startswith("SigBlk")]
    return mask & ENDING == ENDING


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [0.0, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("node", NODES)
def test_p29_a_signal_while_a_program_starts(graph, start, tmp_path, node, after, number):
    """At any moment after the program's first line: while it imports, makes its node, or spins."""
    parameter = GIVEN[node].format(tmp_path)
    process = start([str(PROGRAMS / node), "--ros-args", "-r", "__ns:=/early", "-p", parameter])
    graph.wait_until(lambda: blocks_signals(process.popen.pid), 20)
    time.sleep(after)
    code, took = process.stop(number)
    assert (code, "Traceback" in process.output) == (0, False) and took < process.out_within, (
        code,
        took,
        process.output,
    )


GIVEN = dict(
    recorder_node="output:={}", replay_node="source:=scene:?width=96&height=64", tracker_node="autostart:=false"
)


@pytest.mark.parametrize("node", NODES)
def test_p29_the_end_of_its_terminal_ends_a_node_in_order(graph, tmp_path, node):
    """The terminal is closed, as by a lost connection: the kernel sends SIGHUP, and what is written then fails."""
    ours, its = os.openpty()
    given = ["--ros-args", "-r", "__ns:=/closed", "-p", GIVEN[node].format(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL, str(PROGRAMS / node), *given], stdin=its, stdout=its, stderr=its,
        start_new_session=True,
    )  # fmt: skip
    os.close(its)
    try:
        graph.wait_until(lambda: _there(graph, node), 60)
        os.close(ours)
        assert process.wait(10) == 0
    finally:
        process.kill()
    if node == "recorder_node":
        assert json.loads((tmp_path / "recorder.json").read_text())["error"] == ""


ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # the terminal whose end is a hang-up for this process
os.execv(sys.argv[1], sys.argv[1:])
"""


def _there(graph, node: str) -> bool:
    return (node.removesuffix("_node"), "/closed") in graph.node.get_node_names_and_namespaces()


def test_p29_nohup_is_obeyed(graph, start, tmp_path):
    process = start(["nohup", str(PROGRAMS / "recorder_node"), "--ros-args", "-p", f"output:={tmp_path / 'out'}"])
    process.wait_for_output("recording into", 60)
    process.popen.send_signal(signal.SIGHUP)
    time.sleep(1.0)
    assert process.running()
    assert process.stop(signal.SIGTERM)[0] == 0 and (tmp_path / "out" / "recorder.json").is_file()


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--rate", "5"], "argument '--rate' is not known: parameters are given as --ros-args -p name:=value"),
        (["--ros-args", "--colour"], "the arguments after --ros-args are not valid: ['--colour']"),
        (["--ros-args", "--params-file", "/no/such.yaml"], "Couldn't parse params file: '--params-file /no/such.yaml'"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_exit_code_2(start, node, arguments, said):
    process = start([sys.executable, "-m", MODULES[node], *arguments])
    assert process.wait(20) == 2, process.output
    assert said in process.output and len(process.output.splitlines()) == 1, process.output


NODE = """
import os, signal, sys, threading, time
threading.Thread(target=time.sleep, args=(30,), daemon=True).start()  # as of a library: it blocks no signal
from sam2s_ros.processes.process import run
from sam2s_ros.processes.runnable import RunnableNode

class Probe(RunnableNode):
    def __init__(self):
        super().__init__("probe")
        {made}

    def close(self, timeout):
        print("closed", timeout)
        {closing}
        return True

    def fail(self):
        raise RuntimeError("out of cheese")

sys.exit(run(Probe, ["probe"], close_timeout={timeout}))
"""


@pytest.mark.parametrize(
    "made, closing, timeout, code, said",
    [
        # the kernel gives it to the other thread, since the first one has blocked it
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.2)", "", 1.0, 0, ["closed 1.0"]),
        ("self.finish()", "", 1.0, 0, ["closed 1.0"]),
        ("self.create_timer(0.1, lambda: self.finish(7))", "", 1.0, 7, ["closed 1.0"]),
        ("self.finish()", "self.finish(3)", None, 3, ["closed None"]),
        # what a callback raises is said, and that is all
        (
            "self.create_timer(0.1, self.fail); self.create_timer(0.5, lambda: self.finish(4))",
            "",
            1.0,
            4,
            ["a timer (Probe.fail) failed: RuntimeError: out of cheese", "closed 1.0"],
        ),
        # what the executor raises is tried again, but not for ever
        ("import rclpy; self.create_timer(0.1, lambda: rclpy.shutdown())", "", 1.0, 1, ["Traceback", "closed 1.0"]),
        ("self.finish()", "time.sleep(30)", 0.2, 0, ["closed 0.2"]),
        ("self.finish()", "time.sleep(1.0); print('written')", None, 0, ["closed None", "written"]),
        ("self.create_timer(0.1, lambda: [self.finish(5), time.sleep(30)])", "", 1.0, 5, []),
    ],
)
def test_end_of_a_node(made, closing, timeout, code, said):
    program = NODE.format(made=made, closing=closing or "pass", timeout=timeout)
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.returncode == code, done
    assert all(text in done.stdout + done.stderr for text in said), done
    assert ("Traceback" in done.stderr) == ("Traceback" in said), done
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "variables, said",
    [
        (dict(ROS_DOMAIN_ID="300"), "ROS_DOMAIN_ID is '300': expected a number from 0 to 232"),
        (
            dict(HOME="/proc/none"),
            "Failed to create log directory '/proc/none/.ros/log': 2: set ROS_LOG_DIR to a folder that can be written",
        ),
    ],
)
def test_p44_an_environment_that_cannot_be_used_is_one_sentence_and_exit_code_2(start, variables, said):
    process = start([sys.executable, "-m", "sam2s_ros.tracker.pair"], **variables)
    assert process.wait(30) == 2 and said in process.output and len(process.output.splitlines()) == 1, process.output


def test_p44_a_middleware_that_is_not_there_is_named(start):
    """Where there is one alone, rcl ends the process itself, with this code, while it is imported."""
    process = start([sys.executable, "-m", "sam2s_ros.tracker.pair"], RMW_IMPLEMENTATION="rmw_foo_cpp")
    assert process.wait(30) in (2, 102) and "rmw_foo_cpp" in process.output and "Traceback" not in process.output, (
        process.output
    )


@pytest.mark.parametrize("node", NODES)
def test_p44_what_has_no_effect_is_said_at_the_start(start, tmp_path, node):
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(f"{node}:\n  ros__parameters: {{autostart: true}}\n")
    given = dict(recorder_node=f"output:={tmp_path / 'out'}", replay_node="source:=scene:?width=96&height=64")
    line = [
        "-p",
        given.get(node, "autostart:=false"),
        "-p",
        "max_objcts:=3",
        "-r",
        "imge:=/camera",
        "--params-file",
        str(parameters),
    ]
    process = start([sys.executable, "-m", MODULES[node], "--ros-args", *line])
    process.wait_for_output("the remapping imge:=/camera has no effect")
    assert "that has no effect: max_objcts" in process.output, process.output
    assert f"{parameters} has nothing for /{node.removesuffix('_node')}: its sections are for {node}" in process.output
    assert process.stop()[0] == 0


def test_p44_a_node_that_uses_all_that_it_was_given_says_nothing(graph, start, tmp_path):
    """Also what is asked for only once it is configured: the quality of service of its images."""
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(
        "/**/tracker:\n  ros__parameters:\n    qos_overrides:\n      /all/camera:\n        subscription: {depth: 2}\n"
    )
    rules = ["__ns:=/all", "image:=camera", "~/click:=/clicks", "~/change_state:=/change", "/all/tracker/masks:=/masks"]
    line = [
        "--ros-args",
        "-p",
        "autostart:=false",
        "--params-file",
        str(parameters),
        *(part for rule in rules for part in ("-r", rule)),
    ]
    process = start([sys.executable, "-m", "sam2s_ros.tracker.node", *line])
    graph.wait_until(lambda: graph.node.count_publishers("/masks"), 30, lambda: process.output)
    assert process.stop()[0] == 0
    assert "WARN" not in process.output, process.output


@pytest.mark.parametrize(
    "node", ["pair_node", *(pytest.param(n, marks=pytest.mark.full) for n in (*NODES, "stereo_node", "console_node"))]
)  # one way for all programs
def test_p37_a_program_that_is_stopped_and_continued_goes_on(graph, start, tmp_path, node):
    """Twice, so that a signal that was waited for before the stop does not decide."""
    given = dict(
        recorder_node=[f"output:={tmp_path}"], replay_node=["source:=scene:?width=96&height=64", "loop:=true"],
        tracker_node=["autostart:=false"], stereo_node=["autostart:=false"], console_node=["port:=0"],
    )  # fmt: skip
    if node == "console_node":
        pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'sam2s_ros[console]'")
    parameters = [part for parameter in given.get(node, []) for part in ("-p", parameter)]
    process = start([sys.executable, "-m", MODULES[node], "--ros-args", *parameters])
    name = "left/tracker" if node == "stereo_node" else node.removesuffix("_node")
    service = f"/{name}/get_parameters"
    for _ in range(2):
        graph.call(GetParameters, service, GetParameters.Request(names=["use_sim_time"]), 30)
        process.popen.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        process.popen.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        assert process.running(), process.output
    answer = graph.call(GetParameters, service, GetParameters.Request(names=["use_sim_time"]))
    assert not answer.values[0].bool_value, process.output
    assert process.stop()[0] == 0 and "Traceback" not in process.output, process.output
