"""Have generated files find the environment that they lie in, where ament and CMake name the one they were built for.

setup.py runs this on what goes into a wheel: pip builds it for a temporary environment, which is nowhere else.
"""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path

# A file that a POSIX shell sources does not know where it lies; an activated environment says where it is.
DEFAULT_PREFIX = re.compile(r'(:\s+\$\{AMENT_CURRENT_PREFIX:=)"[^"]*"\}')
IN_SHELL = r'\1"${VIRTUAL_ENV:-}"}'
IN_CMAKE = "${_IMPORT_PREFIX}/"  # what CMake's exported targets call the prefix that they lie in


def relocated(path: Path, prefix: Path) -> None:
    """Replace the names of folders of `prefix` in a file local_setup.sh or *.cmake; leave any other file as it is.

    Python's include folder goes altogether: it is the building Python's, and CMake refuses a target that names a
    folder which is not there. Who needs it, finds his own.
    """
    if path.name != "local_setup.sh" and path.suffix != ".cmake":
        return
    text = old = path.read_text()
    if path.suffix == ".cmake":
        headers = re.escape(sysconfig.get_paths()["include"])
        text = re.sub(rf'(?<=["; ]){headers};|;{headers}(?=")', "", text)
        text = re.sub(rf'(?<=["; ]){re.escape(str(prefix))}/(?=lib/|include/)', lambda _: IN_CMAKE, text)
    else:
        text = DEFAULT_PREFIX.sub(IN_SHELL, text)
    if text != old:
        path.write_text(text)
