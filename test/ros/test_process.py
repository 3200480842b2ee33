"""How the nodes' processes start and end: signals at any moment, wrong arguments, the installed programs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from sam2s_ros.processes.dds import share_directory

MODULES = {
    "recorder_node": "sam2s_ros.recorder.node",
    "replay_node": "sam2s_ros.replay.node",
    "tracker_node": "sam2s_ros.tracker.node",
}
NODES = tuple(MODULES)
PROGRAMS = share_directory().parents[1] / "lib" / "sam2s_ros"
BOTH = 1 << signal.SIGINT - 1 | 1 << signal.SIGTERM - 1  # as in /proc/PID/status


def blocks_signals(pid: int) -> bool:
    with open(f"/proc/{pid}/status") as status:
        [mask] = [int(line.split()[1], 16) for line in status if line.startswith("SigBlk")]
    return mask & BOTH == BOTH


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [0.0, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("node", NODES)
def test_p29_a_signal_while_a_program_starts(graph, start, tmp_path, node, after, number):
    """At any moment after the program's first line: while it imports, makes its node, or spins."""
    given = dict(recorder_node=f"output:={tmp_path}", replay_node="source:=scene:?width=96&height=64")
    parameter = given.get(node, "autostart:=false")
    process = start([str(PROGRAMS / node), "--ros-args", "-r", "__ns:=/early", "-p", parameter])
    graph.wait_until(lambda: blocks_signals(process.popen.pid), 20)
    time.sleep(after)
    code, took = process.stop(number)
    assert (code, "Traceback" in process.output) == (0, False) and took < process.OUT_WITHIN, (
        code,
        took,
        process.output,
    )


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
from rclpy.node import Node
from sam2s_ros.processes.process import Runnable, run

class Probe(Runnable, Node):
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
        ("self.create_timer(0.1, self.fail)", "", 1.0, 1, ["Traceback", "RuntimeError: out of cheese", "closed 1.0"]),
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
