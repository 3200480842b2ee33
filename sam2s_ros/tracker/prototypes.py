"""The prototypes that a tracker begins with."""

from __future__ import annotations

from sam2s_model.discovery.learnt import is_learnt, load_learnt
from sam2s_model.discovery.prototype_file import load_prototypes
from sam2s_model.paths import expanded
from sam2s_model.tracking.tracker import Tracker


def use_prototypes(tracker: Tracker, path: str) -> str:
    """Let a tracker find classes by the prototypes, or the class prompts, in a file. Return a sentence that says which.

    Without such a file it begins with none. Raises PrototypeError for one that is none, or of another model.
    """
    file = expanded(path)
    if not file.exists():
        return (
            f"{file} is not there yet: prototypes are learnt from prompts with a class, and ~/save_prototypes makes it"
        )
    if is_learnt(file):
        tracker.discovery.learnt = load_learnt(file, tracker.model)
        return f"class prompts of {', '.join(tracker.discovery.learnt.names)} from {file}"
    bank = load_prototypes(file, tracker.model)
    tracker.discovery.use(bank)
    known = {label.name for label in tracker.label_set.classes}
    unknown = [name for name in bank.class_names if name not in known]
    note = f"; label set {tracker.label_set.name!r} does not have {', '.join(unknown)}" if unknown else ""
    return f"{len(bank)} prototypes of {', '.join(bank.class_names) or 'no class'} from {file}{note}"
