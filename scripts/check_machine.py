"""Say in one sentence what this machine lacks to build the package. Exit code 2 when it lacks something.

Runs before there is an environment: standard library only, and also on a Python that is too old, even on one without
f-strings.
"""

# ruff: noqa: UP031, UP036 (written for Pythons older than the package's)

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig


def missing():
    """Return what is missing and what would be right, or None."""
    version = "%d.%d" % sys.version_info[:2]
    if sys.version_info < (3, 10):
        found = (sys.executable, version)
        return "%s is Python %s: Python 3.10 or later is needed, choose one with PYTHON=python3.12" % found
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        return "Python %s has no venv module: install it, e.g. apt install python3-venv" % version
    if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
        return "Python %s has no C headers (Python.h): install them, e.g. apt install python3-dev" % version
    if not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
        return "there is no C++ compiler: install one, e.g. apt install g++"
    return None if ros_sourced() else no_wheels(version)


def ros_sourced():
    """Is a ROS distribution sourced? The same question as in setup.py and in the Makefile."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    return any(prefix and os.path.isdir(os.path.join(prefix, "share", "ament_cmake")) for prefix in prefixes)


def no_wheels(version):
    """Return why ROS 2 cannot come from PyPI here, or None when it can."""
    libc, release = platform.libc_ver()
    system, machine = platform.system(), platform.machine()
    here = "%s %s, %s %s, Python %s" % (system, machine, libc or "another C library", release, version)
    fits = (system, machine, libc) == ("Linux", "x86_64", "glibc")
    if fits and tuple(map(int, release.split("."))) >= (2, 28) and (3, 10) <= sys.version_info[:2] <= (3, 14):
        return None
    return (
        "no ROS 2 distribution is sourced, and PyPI has ROS 2 for Linux x86_64 with glibc 2.28 or later and "
        "Python 3.10 to 3.14 only (this is %s): install ROS 2 from its packages and source its setup.bash" % here
    )


if __name__ == "__main__":
    sentence = missing()
    if sentence:
        print("setup: " + sentence, file=sys.stderr)
        sys.exit(2)
