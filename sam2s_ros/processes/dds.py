"""The environment in which every process of a graph with large images should start."""

from __future__ import annotations

import os
import random
import socket
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from sam2s_model.acceleration.allocator import VARIABLES as MALLOC_VARIABLES
from sam2s_model.errors import ConfigError

PROFILE = "config/fastdds_large_images.xml"
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")  # Jazzy and before, later
MAX_DOMAIN = 232  # the ports of a higher one do not exist
DOMAINS = range(20, 101)  # above 101 the ports fall into Linux's ephemeral range


def share_directory() -> Path:
    """Find the package's share folder. Raises ConfigError when the package is not installed."""
    try:
        from ament_index_python.packages import get_package_share_directory

        return Path(get_package_share_directory("sam2s_ros"))
    except (ImportError, LookupError, OSError):
        pass  # no ament index, or one that does not list this environment (OSError: AMENT_PREFIX_PATH is not set)
    share = Path(sysconfig.get_path("data")) / "share" / "sam2s_ros"
    if not share.is_dir():
        raise ConfigError(f"{share} does not exist: install the package (make, pip install . or colcon build)")
    return share


def label_set_path(name: str) -> str:
    """Find config/labels/<name>.yaml; "" for the generic table, which is built in, when name is ""."""
    return str(share_directory() / "config" / "labels" / f"{name}.yaml") if name else ""


def profile_path() -> Path:
    """Find the Fast DDS profile for large images. Raises ConfigError when it is not installed."""
    path = share_directory() / PROFILE
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: install the package again")
    return path


def environment(base: Mapping[str, str] | None = None, *, profile: bool = True) -> dict[str, str]:
    """Copy `base` (default: this process's environment) for a child process with large images.

    Sets the DDS profile and the allocator's variables, each unless it is set already. A profile that is set for some
    versions of Fast DDS only is set for the others too.
    profile: False takes all of them out instead, which is how a process starts that nobody prepared
    """
    env = dict(os.environ if base is None else base)
    if not profile:
        for name in (*PROFILE_VARIABLES, *MALLOC_VARIABLES):
            env.pop(name, None)
        return env
    given = [env[name] for name in PROFILE_VARIABLES if env.get(name)]
    path = given[0] if given else str(profile_path())
    env.update({name: path for name in PROFILE_VARIABLES if not env.get(name)})
    for name, value in MALLOC_VARIABLES.items():
        env.setdefault(name, value)
    return env


def local_environment(domain: int, base: Mapping[str, str] | None = None, *, profile: bool = True) -> dict[str, str]:
    """Make an `environment` for a graph that nobody outside this machine or domain sees."""
    env = environment(base, profile=profile)
    env["ROS_DOMAIN_ID"] = str(domain)
    if env.get("ROS_DISTRO") == "humble":
        env["ROS_LOCALHOST_ONLY"] = "1"
    else:
        env.pop("ROS_LOCALHOST_ONLY", None)  # since Iron it only warns, and overrides the next one
        env["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    return env


def domain_exports(environment: Mapping[str, str]) -> str:
    """Write the variables that lead into the graph of `local_environment`, for a shell."""
    names = ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY")
    return " ".join(f"{name}={environment[name]}" for name in names if name in environment)


def free_domain() -> int:
    """Find a domain id that no process of this machine uses now.

    Each participant listens on a UDP port of its domain (7400 + 250 * domain + 10 + 2 * n, n = 0, 1, ...).
    Raises ConfigError when all are taken.
    """
    for domain in random.sample(DOMAINS, len(DOMAINS)):
        if all(_free(7400 + 250 * domain + 10 + 2 * n) for n in range(4)):
            return domain
    raise ConfigError(f"all ROS domains from {DOMAINS[0]} to {DOMAINS[-1]} are in use on this machine")


def used_domains() -> list[int]:
    """List the domains that processes of this machine are in now, see `free_domain`."""
    return [domain for domain in range(MAX_DOMAIN + 1) if not _free(7400 + 250 * domain + 10)]


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
