"""The benchmark itself: every combination of what was asked for, one after the other, in this process."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam2s_model.bench.floor import Shape, floor_seconds, least_work, work_done
from sam2s_model.bench.machine import Machine, measure, wait_for
from sam2s_model.bench.memory_costs import boxes, newest_of, step, with_full_memory
from sam2s_model.bench.peers import Peer, check_peer, make_peer
from sam2s_model.bench.timing import PartTimer, Spread, launched, peak_bytes
from sam2s_model.checkpoint import load_model
from sam2s_model.config import ModelConfig
from sam2s_model.device import PRECISIONS, resolve_device, resolve_dtype
from sam2s_model.errors import ConfigError
from sam2s_model.network.model import Sam2Model
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.recordings.scene import Scene, SceneConfig
from sam2s_model.tracking.memory import choose_policy, create_policy
from sam2s_model.tracking.tracker import Tracker

WARM = 4  # steps more when the memory is full: on CUDA, the second is captured
RANDOM = "random"
ENDINGS = (".pt", ".pth", ".safetensors", ".bin", ".ckpt")  # of files with weights
REST = "rest"
FLOORS_SIDE = 8  # places; the frames and pointers that are remembered are as many at any size, and there soon
TIMED = "uint8 image on the host in, uint8 label map on the host out, both as large as the network's input"
TIMED_OURS = f"{TIMED}; with presence, object states, re-identification and the filling of holes"
TIMED_PEER = f"{TIMED}; the image prepared as ours, the largest positive logit wins; nothing else"


@dataclass(frozen=True)
class Case:
    """checkpoint: a path or a published name; None: the named model with random weights, always the same
    size: px, 0: its own; precision: a word of `resolve_dtype`; policy: a name, or "auto"; compiled: the image encoder
    """

    checkpoint: Path | None
    model: str
    size: int
    objects: int
    precision: str
    policy: str
    compiled: bool = False


@dataclass(frozen=True)
class BenchOptions:
    """device: a word of `resolve_device`; threads: of torch, 0: torch's own
    steps: timed of each case; 0: none, operations and floors alone
    peer: a name of `peers.PEERS`, or "" for none; only_machine: time no case; command: that the report names
    """

    cases: tuple[Case, ...]
    device: str = "auto"
    threads: int = 0
    steps: int = 20
    peer: str = ""
    only_machine: bool = False
    command: str = ""


def cases(
    checkpoints: list[Path],
    models: list[str],
    sizes: list[int],
    objects: list[int],
    precisions: list[str],
    policies: list[str],
    compiled: bool = False,
) -> tuple[Case, ...]:
    """All combinations; those that differ in the number of objects alone are neighbours."""
    sources = [*((path, "auto") for path in checkpoints), *((None, name) for name in models)]
    return tuple(
        Case(*source, size, count, precision, policy, compiled)
        for source, size, precision, policy, count in itertools.product(sources, sizes, precisions, policies, objects)
    )


def run(options: BenchOptions, say: Callable[[str], Any] = print) -> Iterator[dict[str, Any]]:
    """Measure the machine and each case. Yields the report again and again, with one case more; at first with none.

    Raises ConfigError or CheckpointError.
    """
    device = resolve_device(options.device)
    if options.peer and not options.steps:
        raise ConfigError(f"steps is 0, and peer is {options.peer!r}: expected at least 1, or no peer")
    if options.threads:
        torch.set_num_threads(options.threads)
    for case in options.cases:
        _check(case, options.peer)
    precisions = list(dict.fromkeys(_precision(case, device) for case in options.cases))
    machine = measure(device, precisions)
    report: dict[str, Any] = dict(
        command=options.command, date=date.today().isoformat(), device=device.type, machine=asdict(machine),
        timed=TIMED_OURS, timed_peer=TIMED_PEER if options.peer else "", cases=[],
    )  # fmt: skip
    yield report
    for case in () if options.only_machine else options.cases:
        how = f"{case.precision} {case.policy}{' compiled' if case.compiled else ''}"
        say(f"{case.checkpoint or case.model} {case.size or ''} {how}, objects: {case.objects}")
        report["cases"].append(_run_case(case, options, device, machine))
        gc.collect()
        yield report


def _check(case: Case, peer: str) -> None:
    """Raise ConfigError, before anything is measured, for what can already be known to be wrong."""
    if case.checkpoint:
        resolve_checkpoint(case.checkpoint)
        return
    config = ModelConfig.from_name(case.model)
    create_policy(choose_policy(case.policy, True, config), config)
    if peer:
        check_peer(peer, config)


def _run_case(case: Case, options: BenchOptions, device: torch.device, machine: Machine) -> dict[str, Any]:
    if not options.steps:
        return _floors(_load(replace(case, compiled=False), device), case, machine, options.cases)
    model = _load(case, device)
    if options.peer:
        check_peer(options.peer, model.config)
    image = _image(model.image_size)
    tracker = with_full_memory(model, case.policy, image, case.objects)
    peak = peak_bytes(lambda: [step(tracker, image) for _ in range(WARM)], device)
    given = launched(lambda: step(tracker, image), device)
    peer = make_peer(options.peer, model) if options.peer else None
    if peer:
        peer.start(image, boxes(model.image_size, case.objects))
        for _ in range(newest_of(tracker).stamp - 1):  # as many frames as ours has seen
            peer.step(image)
    if device.type == "cuda":  # a captured step has no parts
        spent, _, spent_by_peer = _in_turns(tracker, peer, image, options.steps, nullcontext())
        queued = [1e3 * step(tracker, image, image) for _ in range(WARM + options.steps)][WARM:]
        plain = with_full_memory(model, case.policy, image, case.objects, cuda_graphs=False)
        whole, parts, _ = _in_turns(plain, None, image, options.steps, PartTimer(model, plain.matches))
    else:
        timer = PartTimer(model, tracker.matches)
        spent, parts, spent_by_peer = _in_turns(tracker, peer, image, options.steps, timer)
        whole, queued = spent, None  # there a step begins with nothing of the next
    found = _named(tracker, case, model.image_size, options.cases) | dict(
        step=asdict(Spread.of(spent)), queued=asdict(Spread.of(queued)) if queued else None,
        parts=_spreads(whole, parts),
        **_work(tracker, case, machine, model.image_size), peak_bytes=peak,
        launched=asdict(given) if given else None, peer=None,
    )  # fmt: skip
    if peer:
        theirs, label_map = Spread.of(spent_by_peer), peer.step(image)
        step(tracker, image)
        found["peer"] = dict(
            name=options.peer, version=peer.version, how=peer.how, step=asdict(theirs),
            ratio=theirs.median / found["step"]["median"],
            same_pixels=float((label_map == newest_of(tracker).label_map).mean()),
            labelled=float((label_map > 0).mean()),
        )  # fmt: skip
    return found


def _floors(model: Sam2Model, case: Case, machine: Machine, others: Iterable[Case]) -> dict[str, Any]:
    """Report a case of which nothing is timed: its step may take minutes, its memory is filled with a small input."""
    side = model.image_size
    model.set_image_size(FLOORS_SIDE * model.config.stride)
    tracker = with_full_memory(model, case.policy, _image(model.image_size), case.objects, cuda_graphs=False)
    untimed: dict[str, Any] = dict(step=None, queued=None, parts={}, peak_bytes=None, launched=None, peer=None)
    return _named(tracker, case, side, others) | _work(tracker, case, machine, side) | untimed


def _named(tracker: Tracker, case: Case, side: int, others: Iterable[Case]) -> dict[str, Any]:
    """Say which case it is. side: of the step's input, px; others: that are run, and it itself"""
    model = tracker.model
    return dict(
        model=model.name, weights=weights_of(case, others), size=side, objects=case.objects,
        precision=_precision(case, model.device), policy=tracker.policy_name, compiled=case.compiled,
    )  # fmt: skip


def weights_of(case: Case, others: Iterable[Case]) -> str:
    """Name a case's weights by their file, less its ending, with as much of its path as tells it from the others'."""
    if case.checkpoint is None:
        return RANDOM
    apart = {path for one in others if (path := one.checkpoint) and path != case.checkpoint}
    taken = {name for path in apart for name in _names(path)}
    return next((name for name in _names(case.checkpoint) if name not in taken), str(case.checkpoint))


def _names(checkpoint: Path) -> list[str]:
    """List the names that a file may go by, the shortest first. Those of the catalogue have points, and no ending."""
    name = checkpoint.stem if checkpoint.suffix in ENDINGS else checkpoint.name
    folders = ("/".join(checkpoint.parts[-count:]) for count in range(1, len(checkpoint.parts)))
    return [name, *folders, str(checkpoint)]


def _in_turns(
    tracker: Tracker, peer: Peer | None, image: np.ndarray, steps: int, timed: PartTimer | nullcontext
) -> tuple[list[float], list[dict[str, float]], list[float]]:
    """Ms of our steps, of their parts where they are timed, and of the peer's steps."""
    spent, parts, spent_by_peer = [], [], []
    with timed as timer:
        for _ in range(steps):
            wait_for(tracker.model.device)
            spent.append(1e3 * step(tracker, image))
            if timer:
                parts.append(timer.take())
            if peer:
                began = time.perf_counter()
                peer.step(image)
                spent_by_peer.append(1e3 * (time.perf_counter() - began))
    return spent, parts, spent_by_peer


def _load(case: Case, device: torch.device) -> Sam2Model:
    """Random weights put logits near zero, also those of presence: there, objects are told to be."""
    if case.checkpoint:
        path = resolve_checkpoint(case.checkpoint)
        return load_model(path, case.model, case.size, str(device), case.precision, case.compiled)
    torch.manual_seed(0)
    model = Sam2Model(ModelConfig.from_name(case.model), case.size)
    torch.nn.init.constant_(model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 4.0)
    model = model.to(device, resolve_dtype(case.precision, device)).eval().requires_grad_(False)
    if case.precision == "int8":
        model.use_int8()
    if case.compiled:
        model.compile_encoder()
    return model


def _precision(case: Case, device: torch.device) -> str:
    """Which one "auto" is. Raises ConfigError when the device has it not."""
    dtype = resolve_dtype(case.precision, device)
    if case.precision != "auto":
        return case.precision
    return next(word for word, known in PRECISIONS.items() if known == dtype)


def _image(side: int) -> np.ndarray:
    """(S, S, 3) uint8 RGB: instruments over tissue."""
    return Scene(SceneConfig(width=side, height=side, frames=1))[0].image


def _spreads(steps: list[float], parts: list[dict[str, float]]) -> dict[str, dict]:
    """Of each part that there was, and of what was left of the steps."""
    columns = {part: [of_step[part] for of_step in parts] for part in parts[0]}
    columns[REST] = [whole - sum(of_step.values()) for whole, of_step in zip(steps, parts, strict=True)]
    return {part: asdict(Spread.of(ms)) for part, ms in columns.items() if any(ms)}


def _work(tracker: Tracker, case: Case, machine: Machine, side: int) -> dict[str, Any]:
    """Count what a step has to do with an input of `side` px, and the time for it at the machine's rates."""
    model, config = tracker.model, tracker.model.config
    pointers, split = config.max_pointers if tracker.keys_attended else 0, config.dim // config.memory_dim
    memories, left = divmod(tracker.keys_attended - pointers * split, model.memory_tokens)
    pointers += left // split  # of memories that a policy keeps
    matched = tracker.matches.frames if tracker.matches else 0
    shape = Shape(side, case.objects, memories, pointers, model.dtype.itemsize, matched)
    least, done = least_work(model, shape), work_done(config, shape)
    rates = machine.matmul[_precision(case, model.device)], machine.bandwidth
    work = {
        part: dict(
            flops=done[part],
            least_flops=of_part.flops,
            least_bytes=of_part.bytes,
            floor_ms=1e3 * of_part.seconds(*rates),
        )
        for part, of_part in least.items()
    }
    return dict(
        memories=memories, pointers=pointers, matched=matched, work=work, floor_ms=1e3 * floor_seconds(least, *rates)
    )
