"""Weights that the trackers of one process share: a stereo pair takes them once on the device."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sam2s_model.network.model import Sam2Model

_lock = threading.RLock()  # a model with an adapter asks for its base inside
_models: weakref.WeakValueDictionary[tuple, Sam2Model] = weakref.WeakValueDictionary()


def shared_model(path: str | Path, **options: Any) -> Sam2Model:
    """Load a model with `checkpoint.load_model`, or return the one that another tracker of the process uses.

    With `adapter`, the weights that it does not change are those of the model without one, which all adapters share.
    Trackers only read a model: what they remember is in their own banks, so they share nothing that changes. A file
    that was written anew is loaded anew. Imports torch. Raises what `load_model` raises.
    """
    from sam2s_model.checkpoint import load_model

    path = Path(path)
    adapter = options.get("adapter", "")
    if not path.is_file() or (adapter and (options.get("encoder") or not Path(adapter).is_file())):
        return load_model(path, **options)  # which says what is wrong
    # what is 0, false or empty is as if it was not said; None is said
    said = sorted((name, str(value)) for name, value in options.items() if value or value is None)
    key = (*_version(path), *(_version(Path(adapter)) if adapter else ()), *said)
    with _lock:  # also while it is loaded: whoever comes meanwhile waits and takes the same
        model = _models.get(key)
        if model is None:
            model = _models[key] = _adapted(path, options) if adapter else load_model(path, **options)
        return model


def _adapted(path: Path, options: dict[str, Any]) -> Sam2Model:
    from sam2s_model.checkpoint import compile_where_it_pays, with_adapter

    compiled = options.get("compiled", False)
    base = shared_model(path, **{**options, "adapter": "", "compiled": False})
    model = with_adapter(base, options["adapter"])
    if compiled:
        model.compile_encoder()
    elif compiled is None:
        compile_where_it_pays(model)
    return model


def _version(path: Path) -> tuple:
    written = path.stat()
    return path.resolve(), written.st_mtime_ns, written.st_size
