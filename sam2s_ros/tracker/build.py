"""The tracker that a node's parameters describe."""

from __future__ import annotations

import os

from sam2s_model.config import TrackerConfig
from sam2s_model.errors import ConfigError
from sam2s_model.paths import expanded
from sam2s_model.semantics import LabelSet
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.processes.log import Logger
from sam2s_ros.tracker.contract import BuiltTracker
from sam2s_ros.tracker.prompt_file import PromptFile
from sam2s_ros.tracker.saving import SavingTracker
from sam2s_ros.tracker.shared_models import shared_model
from sam2s_ros.tracker.worker import keep_out_of_collections

NO_GPU = (
    "device is 'auto' and no CUDA device was found: to run on the CPU, start it with `sam2s node --device cpu`, "
    "`ros2 launch sam2s_ros tracker.launch.py device:=cpu` or `ros2 run sam2s_ros tracker_node --ros-args "
    "-p device:=cpu`, or set allow_cpu to true"
)


def build_tracker(
    config: NodeConfig, tracking: TrackerConfig, labels: LabelSet, *, first_id: int = 1, log: Logger
) -> BuiltTracker:
    """Build the tracker that the parameters describe, warmed up. Imports torch; call it in the thread that owns it.

    Where they name no checkpoint it is the package's default for the device.
    first_id: of the objects, see `Tracker`; where prompts are restored it is greater than all ids of the process before
    log: told the checkpoint's sha256, what was chosen, what was restored
    Raises ConfigError (no CUDA device and the CPU not allowed, unknown model, a file of prompts that does not serve, or
    that another tracker has) or CheckpointError.
    """
    if not config.prompts_file:
        return _built(config, tracking, labels, None, first_id=first_id, log=log)
    prompts = PromptFile(expanded(config.prompts_file))
    try:
        prompts.hold()
        return _built(config, tracking, labels, prompts, first_id=first_id, log=log)
    except BaseException:
        prompts.release()
        raise


def _built(
    config: NodeConfig,
    tracking: TrackerConfig,
    labels: LabelSet,
    prompts: PromptFile | None,
    *,
    first_id: int,
    log: Logger,
) -> BuiltTracker:
    import torch

    from sam2s_model.device import use_deterministic_algorithms
    from sam2s_model.published.catalog import default_checkpoint, explain_default, resolve_checkpoint
    from sam2s_model.tracking.tracker import Tracker
    from sam2s_ros.tracker.prototypes import use_prototypes

    if config.compile and torch.cuda.is_available():
        import torch._inductor.compile_fx  # noqa: F401  the compiler's modules are large, too
    keep_out_of_collections()
    if config.device == "auto" and not torch.cuda.is_available() and not config.allow_cpu:
        raise ConfigError(NO_GPU)
    try:
        saved = prompts.read() if prompts is not None and config.restore else None
    except ConfigError as error:
        raise ConfigError(f"{error}, or set restore to false") from error
    checkpoint = resolve_checkpoint(config.checkpoint) if config.checkpoint else default_checkpoint(config.device)
    chosen = "" if config.checkpoint else explain_default(config.device)
    if chosen:
        log.info(f"no checkpoint was given: {chosen}")
    use_deterministic_algorithms(config.deterministic)
    torch.set_num_threads(config.threads or max(1, len(os.sched_getaffinity(0)) - 1))
    model = shared_model(
        checkpoint,
        model=config.model,
        image_size=config.image_size,
        device=config.device,
        precision=config.precision,
        compiled=None if config.compile else False,
        encoder=expanded(config.encoder) if config.encoder else "",
        adapter=expanded(config.adapter) if config.adapter else "",
    )
    if saved is not None:  # whoever followed an object of the process before must not follow another one now
        first_id = max(first_id, saved.next_id)
    tracker = Tracker(model, policy=config.policy, config=tracking, label_set=labels, first_id=first_id)
    if config.warm_up:
        tracker.warm_up(model.image_size, model.image_size)
    if config.prototypes:
        log.info(use_prototypes(tracker, config.prototypes))
    log.info(f"{tracker.name} on {tracker.device_description()}, {checkpoint} sha256 {model.source_sha256}")
    if config.adapter:
        log.info(f"adapter {model.adapter} sha256 {model.adapter_sha256}")
    if model.missing:
        log.info(f"{checkpoint} lacks {len(model.missing)} tensors, so tracking is {tracker.policy_name!r}")
    if prompts is None:
        return BuiltTracker(tracker, chosen)
    saving = SavingTracker(
        tracker, prompts, kept=tracking.max_conditioning, saved=saved, log=log, max_age=config.restore_max_age
    )
    return BuiltTracker(saving, chosen, prompts.release)
