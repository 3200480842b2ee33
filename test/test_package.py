"""package.xml, CMakeLists.txt, setup.py, the requirement files, the launch files and the installed package agree."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import typer
import yaml

import sam2s_ros.msg
import sam2s_ros.srv
from sam2s_model import errors, prompts, tracks
from sam2s_ros.commands.evaluate import app as eval_app
from sam2s_ros.processes.dds import share_directory

ROOT = Path(__file__).resolve().parents[1]
CMAKE = (ROOT / "CMakeLists.txt").read_text()
INTERFACES = sorted(p.relative_to(ROOT).as_posix() for kind in ("msg", "srv") for p in ROOT.glob(f"{kind}/*.{kind}"))
PROFILE = "config/fastdds_large_images.xml"
IMAGE_BYTES = 1920 * 1080 * 3


def constants(name: str, prefix: str = "") -> dict[str, int]:
    """The constants of msg/<name>.msg whose names begin with `prefix`, without it; values as compiled."""
    names = re.findall(rf"^uint8 ({prefix}[A-Z_]+)=", (ROOT / "msg" / f"{name}.msg").read_text(), re.M)
    return {constant.removeprefix(prefix): getattr(getattr(sam2s_ros.msg, name), constant) for constant in names}


def build_interfaces() -> list[str]:
    listed = re.search(r"rosidl_generate_interfaces\(\$\{PROJECT_NAME\}(.*?)DEPENDENCIES", CMAKE, re.S)
    return listed.group(1).split()


def test_cmake_lists_every_interface_file():
    assert build_interfaces() == INTERFACES


@pytest.mark.parametrize("path", INTERFACES)
def test_interface_is_installed_and_can_be_imported(path: str):
    package = {"msg": sam2s_ros.msg, "srv": sam2s_ros.srv}[path.split("/")[0]]
    assert hasattr(package, Path(path).stem)
    installed = share_directory() / path
    assert installed.read_text() == (ROOT / path).read_text(), f"{installed} is older than the source: build again"


def test_package_xml_names_what_cmake_looks_for():
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    declared = {e.text for tag in ("depend", "build_depend", "buildtool_depend") for e in package.findall(tag)}
    assert set(re.findall(r"^find_package\((\w+)", CMAKE, re.M)) == declared


def test_package_xml_names_what_is_imported_of_ros():
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    declared = {e.text for tag in ("depend", "exec_depend") for e in package.findall(tag)}
    assert "ros2launch" in declared, "what `ros2 launch` is"
    files = [path for folder in ("sam2s_ros", "launch", "examples") for path in (ROOT / folder).rglob("*.py")]
    lines = r"^\s*(?:from|import) (launch|launch_ros|rclpy|ament_\w+|std_srvs|\w+_(?:msgs|interfaces))\b"
    imported = {name for path in files for name in re.findall(lines, path.read_text(), re.M)}
    optional = {"foxglove_msgs", "vision_msgs"}  # the tracker does without
    assert imported > optional and imported - optional <= declared


@pytest.mark.parametrize("path", ["README.md", "docker/Dockerfile", ".github/workflows/ci.yml"])
def test_beside_a_distribution_its_numpy_stays(path: str):
    commands = re.sub(r"\\\n\s*", " ", (ROOT / path).read_text()).splitlines()
    installs = [
        part for line in commands for part in line.split("&&") if "pip install" in part and "runtime.txt" in part
    ]
    assert installs and all(re.search(r" -c \S*numpy-of-ros.txt", part) for part in installs)
    assert any("-m venv --system-site-packages" in line for line in commands)


def test_version_stands_in_package_xml_only():
    version = ElementTree.parse(ROOT / "package.xml").findtext("version")
    assert importlib.metadata.version("sam2s_ros") == version
    for name in ("CMakeLists.txt", "setup.py", "pyproject.toml", "Makefile"):
        assert version not in (ROOT / name).read_text(), f"{name} repeats the version"


def test_setup_py_says_what_package_xml_and_the_requirements_say():
    command = [sys.executable, "setup.py", "--name", "--version", "--description"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()[-3:]
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    assert shown == [package.findtext(tag) for tag in ("name", "version", "description")]


def test_unknown_ros_distribution_is_refused_in_one_sentence(monkeypatch):
    monkeypatch.setenv("SAM2S_ROS_DISTRO", "atlantis")
    monkeypatch.setenv("AMENT_PREFIX_PATH", "")
    done = subprocess.run([sys.executable, "setup.py", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == "SAM2S_ROS_DISTRO is 'atlantis': expected one of jazzy, kilted"


@pytest.mark.parametrize("distro", ["jazzy", "kilted"])
def test_ros_from_pypi_is_pinned(distro: str):
    for name in (f"ros-{distro}.txt", f"ros-{distro}-build.txt"):
        lines = [line.split("#")[0].strip() for line in (ROOT / "requirements" / name).read_text().splitlines()]
        ros = [line for line in lines if line.startswith("ros-")]
        assert ros and all(re.fullmatch(r"ros-[a-z-]+(\[fastrtps\])?==[0-9.]+", line) for line in ros), name


def test_error_codes_equal_the_message():
    assert constants("ErrorCode") == {code.name: code.value for code in errors.ErrorCode}


def test_states_equal_the_message():
    expected = {state.name: state.value for state in tracks.State} | {"UNKNOWN": 0}
    assert constants("TrackedObject", "STATE_") == expected
    assert constants("TrackedObject", "RETURN_") == {decision.name: decision.value for decision in tracks.Return}


def test_labels_and_point_labels_equal_the_messages():
    assert constants("TrackedMasks", "LABEL_") == {"NONE": tracks.LABEL_NONE, "OUTSIDE": tracks.LABEL_OUTSIDE}
    assert constants("Prompt") == {"NEGATIVE": prompts.NEGATIVE, "POSITIVE": prompts.POSITIVE}


@pytest.mark.parametrize("folder", ["config", "launch"])
def test_folder_is_installed(folder: str):
    names = [p.relative_to(ROOT) for p in (ROOT / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert names and all((share_directory() / name).read_bytes() == (ROOT / name).read_bytes() for name in names)


@pytest.mark.parametrize(
    "name", ["sam2s_nano.safetensors", "sam2s_pico.safetensors", "sam2s_tiny.safetensors", "README.md"]
)
def test_checkpoint_is_installed(name: str):
    (installed,) = share_directory().parents[1].glob(f"lib/python*/*-packages/sam2s_model/weights/{name}")
    assert installed.read_bytes() == (ROOT / "sam2s_model" / "weights" / name).read_bytes()


@pytest.mark.parametrize("package", ["sam2s_model", "sam2s_ros"])
def test_the_package_says_that_it_is_typed(package: str):
    assert (ROOT / package / "py.typed").is_file()
    assert list(share_directory().parents[1].glob(f"lib/python*/*-packages/{package}/py.typed")), "build again"


def test_every_checkpoint_of_the_package_has_a_card():
    weights = ROOT / "sam2s_model" / "weights"
    card = (weights / "README.md").read_text()
    assert all(f"## {path.stem}\n" in card for path in weights.glob("*.safetensors"))


@pytest.mark.parametrize(
    "node", ["console_node", "pair_node", "recorder_node", "replay_node", "stereo_node", "tracker_node"]
)
def test_executable_is_installed_with_this_python(node: str):
    program = share_directory().parents[1] / "lib" / "sam2s_ros" / node
    shebang = program.read_text().splitlines()[0]
    assert program.stat().st_mode & 0o111 and Path(shebang.removeprefix("#!")).samefile(sys.executable)


@pytest.mark.parametrize("template", ["main.py.in", "node.py.in"])
def test_a_process_that_a_program_starts_does_not_run_the_program_again(template, tmp_path):
    (tmp_path / "ours.py").write_text("def main():\n    print('runs')\n    return 3\n")
    text = (ROOT / "scripts" / template).read_text()
    program = tmp_path / "program"
    program.write_text(text.replace("@Python3_EXECUTABLE@", sys.executable).replace("@PYTHON_MODULE@", "ours"))
    done = subprocess.run([sys.executable, program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "runs\n"), done.stderr
    spawned = f"import runpy; runpy.run_path({str(program)!r}, run_name='__mp_main__')"  # as multiprocessing does
    done = subprocess.run([sys.executable, "-c", spawned], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_dds_profile_holds_large_images():
    name = {"dds": "http://www.eprosima.com"}
    root = ElementTree.parse(share_directory() / PROFILE).getroot()
    transports = {t.findtext("dds:type", None, name): t for t in root.iterfind(".//dds:transport_descriptor", name)}
    assert set(transports) == {"SHM", "UDPv4"}
    segment, message = (
        int(transports["SHM"].findtext(f"dds:{x}", None, name)) for x in ("segment_size", "maxMessageSize")
    )
    assert message > IMAGE_BYTES and segment >= 10 * IMAGE_BYTES
    participant = root.find(".//dds:participant[@is_default_profile='true']/dds:rtps", name)
    used = [e.text for e in participant.iterfind("dds:userTransports/dds:transport_id", name)]
    assert used == [t.findtext("dds:transport_id", None, name) for t in transports.values()]
    assert participant.findtext("dds:useBuiltinTransports", None, name) == "false"


@pytest.mark.parametrize("name, given, refused", [("plain", "", False), ("with space", "", True), ("a", "b c", True)])
def test_make_refuses_a_path_with_white_space_before_anything_is_fetched(tmp_path, name, given, refused):
    (tmp_path / name / "requirements").mkdir(parents=True)
    for file in ("Makefile", "requirements/ros-jazzy-build.txt"):
        shutil.copy(ROOT / file, tmp_path / name / file)
    command = ["make", "-n", "setup", *([f"VENV={given}"] if given else [])]
    bare = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    done = subprocess.run(command, cwd=tmp_path / name, env=bare, capture_output=True, text=True)
    assert (done.returncode == 2) == refused, done.stderr
    assert ("has white space in it" in done.stderr) == refused and ("-m venv" in done.stdout) != refused
    assert len(done.stderr.splitlines()) == refused, done.stderr


TRACKER_ARGUMENTS = {
    "image",
    "click",
    "params_file",
    "namespace",
    "checkpoint",
    "device",
    "allow_cpu",
    "policy",
    "autostart",
    "use_sim_time",
    "log_level",
    "respawn",
    "console",
    "console_host",
    "console_port",
}
REPLAY_ARGUMENTS = TRACKER_ARGUMENTS | {
    "replay_params_file",
    "source",
    "topic",
    "mask_topic",
    "crop",
    "rate",
    "loop",
    "start_paused",
    "max_frames",
    "wait_for_subscribers",
    "exit_at_end",
    "stamps",
    "frame_id",
    "publish_clock",
}
EVALUATE_OPTIONS = {
    "rate",
    "checkpoint",
    "output",
    "topic",
    "mask_topic",
    "truth",
    "only",
    "frames",
    "prompt",
    "policy",
    "image_size",
    "device",
}
EVALUATE_ARGUMENTS = EVALUATE_OPTIONS | {"source", "arguments"}
CONSOLE_ARGUMENTS = {"console", "console_host", "console_port"}
STEREO_ARGUMENTS = (TRACKER_ARGUMENTS - CONSOLE_ARGUMENTS - {"image", "click", "respawn"}) | {
    "left_image",
    "right_image",
    "tolerance",
}


def launch_description(name: str):
    reason = "launch_ros is not installed: it comes with a ROS distribution, PyPI has none"
    pytest.importorskip("launch_ros", reason=reason)
    from launch import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    return PythonLaunchDescriptionSource(str(ROOT / "launch" / name)).get_launch_description(LaunchContext())


@pytest.mark.parametrize(
    "name, expected",
    [
        ("tracker.launch.py", TRACKER_ARGUMENTS),
        ("replay.launch.py", REPLAY_ARGUMENTS),
        ("evaluate.launch.py", EVALUATE_ARGUMENTS),
        ("stereo.launch.py", STEREO_ARGUMENTS),
    ],
)
def test_launch_file_has_its_arguments(name: str, expected: set[str]):
    arguments = launch_description(name).get_launch_arguments()
    assert {a.name for a in arguments} == expected
    assert all(a.description for a in arguments)


def test_evaluate_launch_file_makes_a_command():
    found = launch_description("evaluate.launch.py")
    from launch import LaunchContext
    from launch.actions import ExecuteProcess, OpaqueFunction

    context = LaunchContext()
    given = dict(source="a.mcap b.mcap", rate="1 4", mask_topic="/truth", arguments="--overlay")
    context.launch_configurations.update({**dict.fromkeys(EVALUATE_ARGUMENTS, ""), **given})
    (function,) = (entity for entity in found.entities if isinstance(entity, OpaqueFunction))
    (process,) = function.execute(context)
    assert isinstance(process, ExecuteProcess)
    command = ["".join(part.perform(context) for part in word) for word in process.cmd]
    options = ["--rate", "1", "--rate", "4", "--mask-topic", "/truth", "--overlay"]
    assert Path(command[0]).is_file() and command[1:] == ["eval", "live", "a.mcap", "b.mcap", *options]


@pytest.mark.parametrize("path", sorted(ROOT.glob("launch/*.py")), ids=lambda path: path.name)
def test_launch_file_compiles(path: Path):
    compile(path.read_text(), str(path), "exec")


def test_launch_arguments_are_options_of_the_evaluation():
    live = typer.main.get_command(eval_app).commands["live"]
    assert {parameter.name for parameter in live.params} >= EVALUATE_OPTIONS
    text = (ROOT / "launch" / "evaluate.launch.py").read_text()
    assert set(re.findall(r'^    "(\w+)": dict\(', text, re.M)) == EVALUATE_OPTIONS


def test_launch_arguments_are_parameters_of_the_nodes():
    parameters = {
        node: yaml.safe_load((ROOT / "config" / f"{node}.yaml").read_text())["/**"]["ros__parameters"]
        for node in ("tracker", "replay")
    }
    assert {"checkpoint", "device", "allow_cpu", "policy", "autostart"} <= set(parameters["tracker"])
    of_replay = REPLAY_ARGUMENTS - TRACKER_ARGUMENTS - {"replay_params_file"}
    assert of_replay <= set(parameters["replay"])
    text = (ROOT / "launch" / "replay.launch.py").read_text()
    assert set(re.findall(r'^    "(\w+)": \(', text, re.M)) == of_replay


def test_the_image_shows_the_package_to_the_distributions_own_ros2(tmp_path):
    text = (ROOT / "docker" / "entrypoint.sh").read_text().replace("source /opt/ros/jazzy/setup.bash", "")
    site = tmp_path / "venv" / "lib" / "python3.99" / "site-packages"
    site.mkdir(parents=True)
    script = text.replace("/opt/sam2s/venv", str(tmp_path / "venv"))
    done = subprocess.run(
        ["bash", "-c", script, "entrypoint", "printenv", "PYTHONPATH"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split(":")[0] == str(site)
