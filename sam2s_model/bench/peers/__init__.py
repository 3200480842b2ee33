"""Other implementations, run beside ours: each in the way it is meant to be used, frame by frame, with our weights.

They are imported on demand: none is a dependency of this package.
"""

from __future__ import annotations

import importlib
import importlib.util

from sam2s_model.bench.peers.base import Peer
from sam2s_model.config import MODELS, ModelConfig
from sam2s_model.errors import ConfigError
from sam2s_model.network.model import Sam2Model
from sam2s_model.similar import meant

SAM2 = (
    ("sam2", "hydra", "iopath"),
    "pip install hydra-core 'omegaconf<2.4' iopath pillow tqdm && SAM2_BUILD_CUDA=0 pip install --no-deps sam2==1.1.0",
)
NEEDED = {
    "transformers": (
        ("transformers", "timm"),
        "pip install 'transformers>=5,<6' pillow && pip install --no-deps 'timm>=1,<2'",
    ),
    "sam2": SAM2,
    "sam2-compiled": SAM2,
}
"""Of each peer: the modules, and how to get them where there is no torchvision."""
PEERS = tuple(NEEDED)


def check_peer(name: str, config: ModelConfig) -> None:
    """Raise ConfigError when there is no such peer, when it is not installed, or when it has no such model."""
    if name not in PEERS:
        raise ConfigError(f"peer is {name!r}: expected one of {', '.join(PEERS)}{meant(name, PEERS)}")
    modules, command = NEEDED[name]
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise ConfigError(f"peer {name} needs {' and '.join(missing)}, not installed: {command}")
    published = {known for known in MODELS if "_hiera_" in known} | (
        {"edgetam", "sam3"} if name == "transformers" else set()
    )
    if config.name not in published or config != MODELS[config.name]:
        raise ConfigError(f"peer {name} has no {config.name}: expected one of {', '.join(sorted(published))}")


def make_peer(name: str, model: Sam2Model) -> Peer:
    """Build a peer with the model's weights, size, device and precision; imports the modules `check_peer` found."""
    package, _, compiled = name.partition("-")
    module = importlib.import_module(f"{__name__}.{package}_peer")
    weights = {key: tensor.float().cpu() for key, tensor in model.state_dict().items()}
    return module.make(model, weights, compiled=True) if compiled else module.make(model, weights)


__all__ = ["PEERS", "Peer", "check_peer", "make_peer"]
