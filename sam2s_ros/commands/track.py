"""`sam2s track`: the tracker on a file, without ROS: masks, a table, the overlay as a video, a summary."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2s_model.errors import ConfigError
from sam2s_model.paths import check_free, claimed_file, expanded, writing
from sam2s_model.prompting.prompt_script import AppliedScript, PromptScript
from sam2s_model.recordings.lookahead import with_next
from sam2s_model.recordings.open import open_recording
from sam2s_model.recordings.recording import Frame, Recording
from sam2s_model.semantics import LabelSet
from sam2s_ros.commands.arguments import PromptOptions
from sam2s_ros.commands.engine import EngineOptions
from sam2s_ros.commands.label_sets import check_classes, label_set_file, open_label_set
from sam2s_ros.commands.options import TrackOptions
from sam2s_ros.commands.pixel_grid import write_pixel_grid
from sam2s_ros.commands.prompting import PromptPlan, first_frame, nothing_to_track, plan_prompts
from sam2s_ros.commands.track_output import TrackOutput
from sam2s_ros.evaluation.overlap import OverlapMeter, summary_ms
from sam2s_ros.processes.ending import drop_lost_terminal, ending_signals

if TYPE_CHECKING:  # torch takes seconds to import
    from sam2s_model.discovery.sought import SoughtClasses
    from sam2s_model.network.model import Sam2Model
    from sam2s_model.recall.memories import SavedObjects
    from sam2s_model.tracking.tracker import Tracker


def run_track(
    options: TrackOptions,
    on_frame: Callable[[int, int | None], Any] = lambda done, total: None,
    load: Callable[[EngineOptions], Sam2Model] = EngineOptions.load,
) -> dict[str, Any]:
    """Track what was prompted to the end of the source. Returns the summary, also in summary.json.

    Writes masks/<name of the frame>.png (palette; values are labels, 0 none, 255 outside the field), tracks.csv with a
    row for each object of each frame, overlay.mp4, summary.json, and what else the options ask for. SIGINT, SIGTERM and
    a hang-up end it after the frame that is being processed. After one, and after an error in the middle, which is
    raised, the files are complete up to there, and the summary says what ended it.

    on_frame: called after each frame with the frames done and their number, None if it is not known
    load: loads the model, or has it from the recording before
    Raises a Sam2sError for bad input, before anything is written; where nothing says what to track, first_frame.png.
    """
    with ExitStack() as claimed:
        return _run(options, on_frame, load, claimed)


def _run(
    options: TrackOptions,
    on_frame: Callable[[int, int | None], Any],
    load: Callable[[EngineOptions], Sam2Model],
    claimed: ExitStack,
) -> dict[str, Any]:
    """See `run_track`. claimed: is given the file for the objects once nothing else can be refused."""
    save = None if options.save_objects is None else expanded(options.save_objects)
    if save is not None:
        check_free(save, overwrite=options.overwrite, option="--save-objects")
    source = open_recording(
        options.source, topic=options.topic, mask_topic=options.mask_topic, mask_values=options.mask_values,
        crop=options.crop,
    )  # fmt: skip
    for note in source.notes:
        options.say(f"{source.spec}: {note}")
    known = len(source.notes)
    if source.mask_summary:
        options.say(f"masks of {source.spec}: {source.mask_summary}")
    sought = options.sought.prototypes
    plan, frames = _plan(source, options)
    label_set = open_label_set(label_set_file(options.label_set, source.label_set))
    check_classes(plan.script, label_set)
    # torch takes seconds to import: what can be wrong with the source is said before
    from sam2s_model.device import use_deterministic_algorithms
    from sam2s_model.recall.object_file import check_can_save, read_for
    from sam2s_model.tracking.tracker import Tracker

    engine = options.engine.with_checkpoint(source.kind, options.say)
    if options.deterministic:
        use_deterministic_algorithms(True)
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    model = load(engine)
    if sought:
        from sam2s_model.discovery.sought import classes_in, label_set_with

        classes = classes_in(sought, model, options.prompts.class_name)
        label_set = label_set if options.label_set else label_set_with(classes, label_set)
    tracker = Tracker(model, engine.policy, engine.tracker_config(), label_set=label_set)
    if options.save_objects is not None:
        check_can_save(tracker)
    saved = read_for(model, options.objects) if options.objects is not None else None
    for one in saved.objects if saved else ():
        label_set.by_name(one.class_name)
    claimed.enter_context(claimed_file(save, overwrite=options.overwrite, option="--save-objects"))
    output = TrackOutput(
        options.output, source.fps, source.size, label_set, coco=options.coco, parquet=options.parquet,
        masks=options.masks, overlay=options.overlay, overwrite=options.overwrite,
        inputs=(options.objects or "", options.prompts.prompts or "", sought or ""), files=source.files(),
    )  # fmt: skip
    seeker = _seek(tracker, sought, classes, options) if sought else None
    applied = seeker or AppliedScript(plan.script, lambda prompts: tracker.prompt(0, prompts))
    progress = _Progress(saved=saved)
    began = time.monotonic()
    try:
        _follow(source, frames, tracker, applied, output, progress, options, on_frame)
        if options.save_objects is not None:
            _save(tracker, options.save_objects, options.say)
    except BaseException as error:  # also a second signal, which does not wait for the frame
        progress.interrupted_by = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise
    finally:
        summary: dict[str, Any] = dict(
            command="track",
            interrupted=bool(progress.interrupted_by),
            interrupted_by=progress.interrupted_by,
            source=dict(
                spec=source.spec,
                topic=options.topic,
                crop=options.crop,
                kind=source.kind,
                size=list(source.size),
                fps=source.fps,
                length=source.length,
                missed=source.missed,
            ),  # fmt: skip
            checkpoint=str(engine.checkpoint),
            adapter=str(engine.adapter or ""),
            model=tracker.name,
            device=tracker.device_description(),
            image_size=model.image_size,
            frames=output.frames,
            left_out=dict(count=source.odd_count, named=source.odd),
            seconds=round(time.monotonic() - began, 3),
            step_ms=summary_ms(progress.steps_ms[2:]),  # the first has no object, the second warms up
            label_set=_table_of(label_set),
            objects=_objects(
                output,
                progress,
                {own: plan.truth_labels.get(number) for number, own in applied.ids.items()}
                | {own: progress.meter.best_label(own) for own in progress.restored},
            ),
            objects_file=str(options.objects or ""),
            restored=list(progress.restored),
            prompts_not_applied=[entry.place for entry in applied.missed],
            **(dict(sought=dict(classes=list(seeker.names), looks=seeker.looks)) if seeker else {}),
        )
        output.close(summary)
    for note in source.notes[known:]:
        options.say(f"{source.spec}: {note}")
    if source.missed:
        options.say(
            f"{source.missed} frames came while the model was loaded or the ones before were tracked, and were left out"
        )
    if seeker and not seeker.objects:
        options.say(f"no {' or '.join(seeker.names)} was found in {seeker.looks} looks: nothing was tracked")
    if summary["prompts_not_applied"] and not summary["interrupted"]:
        options.say(f"prompts on frames that never came: {', '.join(summary['prompts_not_applied'])}")
    return summary


def _plan(source: Recording, options: TrackOptions) -> tuple[PromptPlan, Iterator[Frame]]:
    """Decide what is prompted. Returns also the frames to track.

    A stream gives a frame once: of it the pass that gave the first one, which prompts are about, goes on.
    Raises what `plan_prompts` raises; SourceError, with a picture, when nothing says it.
    """
    if options.sought.prototypes is not None:
        given = options.prompts
        if given.box or given.point or given.points or given.prompts:
            raise ConfigError(
                f"--prototypes {options.sought.prototypes} was given with prompts: expected one of the two"
            )
        return PromptPlan(PromptScript(()), {}), iter(source)
    frames = iter(source)
    frame = first_frame(source, options.start, frames)
    frames = chain([frame], frames) if source.kind == "stream" else iter(source)
    if options.objects is not None and options.prompts == PromptOptions():
        return PromptPlan(PromptScript(()), {}), frames
    plan = plan_prompts(source, frame, options.prompts)
    if plan is None:
        with writing(options.output):
            path = write_pixel_grid(frame.image, options.output)
        raise nothing_to_track(source, frame, f"; {path} shows it with a grid of pixel coordinates")
    return plan, frames


def _seek(tracker: Tracker, prototypes: Path, classes: Sequence[str], options: TrackOptions) -> SoughtClasses:
    """Return what looks for classes. Raises RequestError for one that is not in the tracker's label set."""
    from sam2s_model.discovery.sought import SoughtClasses
    from sam2s_ros.tracker.prototypes import use_prototypes

    for name in classes:
        tracker.label_set.by_name(name)
    options.say(use_prototypes(tracker, str(prototypes)))
    return SoughtClasses(tracker, classes, options.sought.look_every)


def _save(tracker: Tracker, path: Path, say: Callable[[str], Any]) -> None:
    """Save the objects that are tracked at the end, for another run."""
    from sam2s_model.recall.object_file import save_objects

    if not tracker.object_ids:
        say(f"no object is tracked at the end: none was saved to {path}")
        return
    kept = save_objects(tracker, path)
    say(f"{len(kept.objects)} objects were saved to {path}")


@dataclass
class _Progress:
    """How far a run has come.

    interrupted_by: "" while nothing has ended it early
    saved: objects of an earlier run that are to go on, None once they do; restored: their ids
    """

    meter: OverlapMeter = field(default_factory=OverlapMeter)
    steps_ms: list[float] = field(default_factory=list)
    interrupted_by: str = ""
    saved: SavedObjects | None = None
    restored: tuple[int, ...] = ()


def _follow(
    source: Recording,
    frames: Iterator[Frame],
    tracker: Tracker,
    applied: AppliedScript | SoughtClasses,
    output: TrackOutput,
    progress: _Progress,
    options: TrackOptions,
    on_frame: Callable[[int, int | None], Any],
) -> None:
    """Track to the end, to the limit of frames or to a signal, with the prompts of each frame."""
    total = _smaller(None if source.length is None else source.length - options.start, options.frames)
    wanted = (frame for frame in frames if frame.index >= options.start)
    with _Interrupt() as interrupt:
        for frame, following in with_next(islice(wanted, options.frames or None)):
            before = time.monotonic()
            tracks = tracker.step(frame.stamp_ns, frame.image, following.image if following else None)
            progress.steps_ms.append((time.monotonic() - before) * 1e3)
            if progress.saved is not None:
                progress.restored, progress.saved = tracker.restore_objects(progress.saved), None
                assert tracker.newest is not None  # as there was a step
                tracks = tracker.newest
            prompted = applied.on(frame)
            if prompted is not None:
                tracks = prompted
            elif frame.truth is not None:  # a prompted frame is not scored
                progress.meter.add(frame.truth, tracks.label_map, tracks.object_ids.tolist(), tracks.labels.tolist())
            output.write(frame, tracks)
            on_frame(output.frames, total)
            if interrupt.came:
                progress.interrupted_by = interrupt.came
                break


class _Interrupt:
    """Holds signals that end it back until the frame is done, so that no file is half written; a second comes through.

    came: the name of the first one, "" so far
    """

    def __enter__(self) -> _Interrupt:
        self.came = ""
        self._before = {number: signal.signal(number, self._on_signal) for number in ending_signals()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _: object) -> None:
        if number == signal.SIGHUP:
            drop_lost_terminal()
        if self.came:
            raise KeyboardInterrupt
        self.came = signal.Signals(number).name


def _smaller(length: int | None, limit: int) -> int | None:
    if not limit:
        return length
    return limit if length is None else min(length, limit)


def _objects(output: TrackOutput, progress: _Progress, truth_labels: dict[int, int | None]) -> list[dict[str, Any]]:
    """Describe each object there was. truth_labels: object id -> ground-truth label, None where it is not known"""
    found = []
    for object_id, states in sorted(output.log.objects.items()):
        label = truth_labels.get(object_id)
        found.append(
            dict(object_id=object_id, truth_label=label, **states.as_dict(), **_iou(progress.meter, label, object_id))
        )
    return found


def _table_of(label_set: LabelSet) -> dict[str, Any]:
    """Write a label set as its YAML file has it."""
    classes = [dict(id=label.id, name=label.name, color=list(label.color)) for label in label_set.classes]
    return dict(name=label_set.name, classes=classes)


def _iou(meter: OverlapMeter, label: int | None, object_id: int) -> dict[str, Any]:
    mean, frames = (0.0, 0) if label is None else meter.mean(label, object_id)
    return dict(mean_iou=round(mean, 6), scored_frames=frames) if frames else dict(mean_iou=None, scored_frames=0)
