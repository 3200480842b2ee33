"""Other implementations, run beside ours: each in the way it is meant to be used, frame by frame, with our weights.

They are imported on demand: none is a dependency of this package.
"""

from __future__ import annotations

import importlib

from sam2s_model.bench.peers.base import Peer
from sam2s_model.config import MODELS
from sam2s_model.errors import ConfigError
from sam2s_model.model import Sam2Model

TO_INSTALL = {
    "transformers": "pip install 'transformers>=5,<6' pillow && pip install --no-deps 'timm>=1,<2'",
    "sam2": "pip install hydra-core 'omegaconf<2.4' iopath pillow tqdm && SAM2_BUILD_CUDA=0 pip install --no-deps sam2==1.1.0",
}
PEERS = tuple(TO_INSTALL)


def make_peer(name: str, model: Sam2Model) -> Peer:
    """A peer with the model's weights, and for its size, device and precision.

    Raises ConfigError when there is no such peer, when it is not installed, or when it has no such model.
    """
    if name not in PEERS:
        raise ConfigError(f"peer is {name!r}: expected {' or '.join(PEERS)}")
    published = {known for known in MODELS if "_hiera_" in known} | ({"edgetam"} if name == "transformers" else set())
    if model.name not in published or model.config != MODELS[model.name]:
        raise ConfigError(f"peer {name} has no {model.name}: expected one of {', '.join(sorted(published))}")
    try:
        module = importlib.import_module(f"{__name__}.{name}_peer")
    except ImportError as error:
        raise ConfigError(f"peer {name} cannot be imported ({error}): {TO_INSTALL[name]}") from error
    return module.make(model, {key: tensor.float().cpu() for key, tensor in model.state_dict().items()})


__all__ = ["PEERS", "Peer", "make_peer"]
