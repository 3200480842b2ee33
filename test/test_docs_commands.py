"""What README and docs tell people to type is understood by what is here: commands, options, launch arguments, Python.

`sam2s` lines are parsed by the command line itself and not run; the Python of README is run, with a small model.
What needs a ROS distribution (`ros2`) is compared with the launch files and the list of executables.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from sam2s_model.paths import user_cache
from sam2s_ros.commands.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES.append(ROOT / "sam2s_model" / "weights" / "README.md")
BLOCKS = re.compile(r"(?:^(?:    .*|[ ]*)\n)+|^```(?:bash|sh)\n(.*?)^```", re.M | re.S)


def typed(page: Path) -> list[str]:
    """The lines of a page's code blocks, continued lines joined, without comments, and what stands `like this`."""
    blocks = "\n".join(match[0] for match in BLOCKS.finditer(page.read_text() + "\n"))
    lines = [line.strip() for line in re.sub(r"\\\n\s*", " ", blocks).splitlines()]
    return [re.sub(r"\s+#\s.*", "", line) for line in lines] + re.findall(r"`([^`\n]+)`", page.read_text())


def commands(start: str) -> list:
    """Each line of the pages that begins with `start`, once, with the page that it is first in."""
    found = {line: page for page in reversed(PAGES) for line in typed(page) if re.match(start, line)}
    return [pytest.param(line, id=f"{page.name}: {line}"[:120]) for line, page in found.items()]


def parse(words: list[str]) -> None:
    """Parse arguments as `sam2s` does, without running it. What is missing may be, what is unknown not."""
    command, context, name = get_command(app), None, "sam2s"
    while True:
        try:
            context = command.make_context(name, list(words), parent=context)
        except Exception as error:
            if type(error).__name__ == "MissingParameter":  # of click, or of the one that typer brings
                return
            raise
        if not hasattr(command, "resolve_command"):
            return
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize("line", commands(r"sam2s [a-z]"))
def test_sam2s_understands(line: str):
    words = shlex.split(re.sub(r" [>|] .*", "", line), comments=True)[1:]
    parse([word for word in words if word != "..."])


def test_a_command_that_is_none_is_noticed():
    with pytest.raises(Exception, match="No such option"):
        parse(["track", "clip.mp4", "--boxes", "1,2,3,4"])
    with pytest.raises(Exception, match="no command sam2s trak"):
        parse(["trak", "clip.mp4"])


def runs(module: str) -> bool:
    """Whether `python -m module` does something."""
    path = ROOT.joinpath(*module.split("."))
    file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    return file.is_file() and (path.is_dir() or '__name__ == "__main__"' in file.read_text())


@pytest.mark.parametrize("line", commands(r"(python3?|torchrun)\b.* -m sam2s_"))
def test_a_module_that_is_run_has_a_main(line: str):
    assert runs(re.search(r" -m (sam2s_[\w.]+)", line)[1])


def test_a_module_that_does_nothing_is_noticed():
    assert runs("sam2s_model.training") and not runs("sam2s_model.training.teach") and not runs("sam2s_model.nowhere")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_with_a_comment_stand_in_a_block(page: Path):
    assert not re.search(r"^(sam2s|make|ros2|python3?|docker) .*\s# ", page.read_text(), re.M)


@pytest.mark.parametrize("line", commands("make "))
def test_make_has_the_target(line: str):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    words = [word for word in shlex.split(line, comments=True)[1:] if "=" not in word]
    assert words and set(words) <= targets


@pytest.mark.parametrize("line", commands("ros2 launch "))
def test_ros2_launch_has_the_arguments(line: str):
    package, name, *arguments = shlex.split(line, comments=True)[2:]
    assert package == "sam2s_ros"
    text = (ROOT / "launch" / name).read_text()
    if "launch_arguments" in text:  # those that the launch files share
        text += (ROOT / "sam2s_ros" / "processes" / "launch_arguments.py").read_text()
    if "IncludeLaunchDescription" in text:  # it hands on what the tracker's declares
        text += (ROOT / "launch" / "tracker.launch.py").read_text()
    known = declared(text)
    for argument in arguments:
        if not argument.startswith("--"):
            assert argument.split(":=")[0] in known, f"{name} has no argument {argument}"


def declared(text: str) -> set[str]:
    """The arguments that the text of launch files declares."""
    of_tables = re.findall(r'^    "(\w+)": ', text, re.M)
    return {*re.findall(r'DeclareLaunchArgument\(\s*f?"(\w+)"', text), *of_tables}


def test_a_launch_argument_that_is_named_alone_is_one():
    files = [*(ROOT / "launch").glob("*.py"), ROOT / "sam2s_ros" / "processes" / "launch_arguments.py"]
    known = declared("\n".join(path.read_text() for path in files))
    named = {name for page in PAGES for name in re.findall(r"`(\w+):=", page.read_text())}
    assert named and named <= known


@pytest.mark.parametrize("line", commands("ros2 run sam2s_ros "))
def test_ros2_run_has_the_executable(line: str):
    assert re.search(rf"\b{shlex.split(line, comments=True)[3]}\b", (ROOT / "CMakeLists.txt").read_text())


def composed(**variables: str) -> dict[str, list[str]]:
    """The command of each service of the compose file, as a container gets it."""

    def filled(text: str) -> str:
        return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: variables.get(found[1]) or found[2], text)

    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    found = {name: service["command"] for name, service in services.items()}
    return {
        name: shlex.split(filled(command)) if isinstance(command, str) else [filled(word) for word in command]
        for name, command in found.items()
    }


@pytest.mark.parametrize("source", ["scene:", "my clip.mp4", "scene:?seed=3&width=640"])
def test_compose_starts_a_camera_of_any_source(source: str):
    made = composed(SOURCE="" if source == "scene:" else source)
    for words in made.values():
        if words[0] == "sam2s":
            parse(words[1:])
    assert made["camera"][:3] == ["sam2s", "replay", source] and {"--loop", "--image"} <= set(made["camera"])
    image = made["camera"][made["camera"].index("--image") + 1]
    assert made["tracker"][:2] == ["ros2", "launch"] and f"image:={image}" in made["tracker"]


def test_compose_shows_the_camera_its_file_and_keeps_what_was_made(monkeypatch):
    made = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    camera, tracker = made["services"]["camera"], made["services"]["tracker"]
    assert camera["volumes"] == [f"${{DATA:-${{PWD:-.}}}}:{camera['working_dir']}:ro"]
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/root")  # the image names no user
    assert not re.search(r"^(USER|ENV HOME)", (ROOT / "docker" / "Dockerfile").read_text(), re.M)
    assert tracker["volumes"] == [f"{name}:{user_cache()}" for name in made["volumes"]]


def test_the_python_of_the_readme_runs(capsys):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    code = code.replace("sam2s_tiny", "sam2s_pico").replace('"clip.mp4"', '"scene:?width=192&height=160&frames=3"')
    code = code.replace("[120, 80, 340, 260]", "[60, 40, 120, 100]")
    assert "pico" in code and "scene:" in code
    exec(compile(code, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 3
