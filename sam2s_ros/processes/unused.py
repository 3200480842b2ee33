"""Find what was given to a program and has no effect: parameters, files, remappings, variables."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import yaml
from rclpy.expand_topic_name import expand_topic_name
from rclpy.node import Node
from rclpy.utilities import get_rmw_implementation_identifier

from sam2s_model.errors import ConfigError
from sam2s_model.similar import LIKENESS
from sam2s_ros.processes.arguments import (
    RENAMES,
    Remapping,
    is_for,
    parameter_files,
    parameter_nodes,
    remappings,
    sections,
)
from sam2s_ros.processes.dds import MAX_DOMAIN, PROFILE_VARIABLES

# Topics of rclpy's own, which it declares parameters for only when it needs them.
OF_RCLPY = ("/clock", "/parameter_events", "/rosout")
MAX_NAMED = 6  # parameters in a sentence


def check_environment(variables: Mapping[str, str] = os.environ) -> None:
    """Raise ConfigError for a domain id that no middleware can use: some end the process, some take another one.

    And for a peer without an address, on which Fast DDS makes no node.
    """
    given = variables.get("ROS_DOMAIN_ID", "")
    if given and not (given.isascii() and given.isdecimal() and int(given) <= MAX_DOMAIN):
        raise ConfigError(f"ROS_DOMAIN_ID is {given!r}: expected a number from 0 to {MAX_DOMAIN}")
    peers = variables.get("ROS_STATIC_PEERS", "") if "fastrtps" in get_rmw_implementation_identifier() else ""
    for peer in filter(None, peers.split(";")):
        _check_peer(peer)


def _check_peer(peer: str) -> None:
    try:
        socket.getaddrinfo(peer, None)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"ROS_STATIC_PEERS names {peer!r}, which has no address ({error}): expected hosts with ; between"
        ) from error


def unused_variables(variables: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Yield a sentence for each variable that names a file which is not there, or asks for security and gets none."""
    for name in PROFILE_VARIABLES:
        path = variables.get(name, "")
        if path and not Path(path).is_file():
            yield f"{name} is {path}, where no file is: Fast DDS goes on without it, and large images are lost"
    enable, strategy = (variables.get(f"ROS_SECURITY_{name}", "") for name in ("ENABLE", "STRATEGY"))
    keystore = variables.get("ROS_SECURITY_KEYSTORE", "")
    if enable not in ("", "true", "false"):
        yield f"ROS_SECURITY_ENABLE is {enable!r}, which leaves security off: expected true, in small letters"
    elif enable == "true" and strategy not in ("", "Enforce", "Permissive"):
        yield f"ROS_SECURITY_STRATEGY is {strategy!r}, which is Permissive: expected Enforce, or Permissive"
    if enable == "true" and strategy != "Enforce" and not (Path(keystore) / "enclaves").is_dir():
        yield (
            f"ROS_SECURITY_ENABLE is true and ROS_SECURITY_KEYSTORE is {keystore!r}, where no enclaves are: ROS goes "
            "on without security; with ROS_SECURITY_STRATEGY Enforce it does not start"
        )


def unused_parameters(node: Node, late_topics: Iterable[str] = ()) -> str:
    """Name, in a sentence, the parameters given to a node that it has not declared; "" when there is none.

    late_topics: full names of topics that it will subscribe to later, and declare `qos_overrides` for then
    """
    declared = set(node.get_parameters_by_prefix(""))
    late = [
        f"qos_overrides.{topic}.subscription.{policy}"
        for topic in late_topics
        for policy in ("history", "depth", "reliability")
    ]
    ignored = tuple(f"qos_overrides.{topic}." for topic in OF_RCLPY)
    known = [*declared, *late]
    unknown = sorted(name for name in given_parameters(node) if name not in known and not name.startswith(ignored))
    if not unknown:
        return ""
    shown = ", ".join(f"{name}{_meant(name, known)}" for name in unknown[:MAX_NAMED])
    more = f" and {len(unknown) - MAX_NAMED} more" if len(unknown) > MAX_NAMED else ""
    one = len(unknown) == 1
    what = (
        f"{'a parameter' if one else 'parameters'} that it does not have and that {'has' if one else 'have'} no effect"
    )
    return f"{node.get_fully_qualified_name()} was given {what}: {shown}{more}"


def given_parameters(node: Node) -> dict[str, object]:
    """Return parameters by name as command line and files give them, declared or not; rclpy has no public way."""
    return {name: parameter.value for name, parameter in node._parameter_overrides.items()}


def _meant(name: str, known: Iterable[str]) -> str:
    found = get_close_matches(name, known, n=1, cutoff=LIKENESS)
    return f" (did you mean {found[0]}?)" if found else ""


def unused_files(args: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each parameters file without a section for any of these nodes. names: full ones"""
    for file in parameter_files(args):
        try:
            found = sections(file)
        except (OSError, yaml.YAMLError):
            continue  # launch has removed its own file again, or rcl reads another YAML than we do
        if not any(is_for(section, name) for section in found for name in names):
            has = f"its sections are for {', '.join(found)}" if found else "it has no section with ros__parameters"
            yield f"the parameters file {file} has nothing for {' or '.join(names)}: {has}; call one {names[0]} or /**"


def unused_rules(args: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each -p node:name:=value that is for none of these nodes. names: full ones"""
    for node, rule in parameter_nodes(args):
        if not any(is_for(node, name) for name in names):
            yield f"the parameter -p {rule} has no effect: no node here is called {node}, but {' and '.join(names)}"


def unused_remappings(args: Sequence[str], nodes: Sequence[Node], late_topics: Iterable[str] = ()) -> Iterator[str]:
    """Yield a sentence for each remapping after which no node has a topic or service of the new name."""
    there = set(late_topics)
    for node in nodes:
        name, space = node.get_name(), node.get_namespace()
        for ask in (
            node.get_publisher_names_and_types_by_node, node.get_subscriber_names_and_types_by_node,
            node.get_service_names_and_types_by_node, node.get_client_names_and_types_by_node,
        ):  # fmt: skip
            there |= {topic for topic, _ in ask(name, space)}
    for rule in remappings(args):
        if rule.source not in RENAMES and not any(_new_name(rule, node) in there for node in nodes):
            yield f"the remapping {rule} has no effect: no topic or service here is called {rule.source}"


def _new_name(rule: Remapping, node: Node) -> str:
    """Expand the name that a rule gives; "" where it is not for this node or is none (rcl has said so by then)."""
    if rule.node and rule.node != node.get_name():
        return ""
    try:
        return expand_topic_name(rule.target.split("://")[-1], node.get_name(), node.get_namespace())
    except Exception:  # rclpy's own classes, by version
        return ""
