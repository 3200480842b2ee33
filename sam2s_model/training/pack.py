"""What a teacher said of many images, in one small file: features in 8 bits and masks, both ready to be drawn from."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sam2s_model.errors import SourceError
from sam2s_model.files.whole_files import replacing, with_usual_mode

FORMAT = "sam2s teacher pack 1"


@dataclass(frozen=True, eq=False)
class TeacherPack:
    """names: of N images

    quantised: (N, C, h, w) int8; scale: (C,) float32, feature = quantised * scale: the teacher's features less `mean`
        (256,), in the directions of `basis` (C, 256) in which they differ most
    masks: for each image zlib-compressed bits of (K, side, side), K of them
    """

    names: tuple[str, ...]
    quantised: np.ndarray
    scale: np.ndarray
    mean: np.ndarray
    basis: np.ndarray
    bits: tuple[bytes, ...]
    side: int
    index: dict[str, int]

    @classmethod
    def of(
        cls, names, features: np.ndarray, mean: np.ndarray, basis: np.ndarray, masks: list[np.ndarray]
    ) -> TeacherPack:
        """features: (N, C, h, w) float, already in the basis; masks: N of (K, side, side) bool."""
        scale = (np.abs(features).max((0, 2, 3)) / 127 + 1e-12).astype(np.float32)
        quantised = np.round(features / scale[:, None, None]).astype(np.int8)
        bits = tuple(zlib.compress(np.packbits(m).tobytes(), 9) for m in masks)
        side = masks[0].shape[-1] if masks else 0
        return cls(tuple(names), quantised, scale, mean, basis, bits, side, {name: i for i, name in enumerate(names)})

    @staticmethod
    @lru_cache(maxsize=8)
    def load(path: str | Path) -> TeacherPack:
        """Read a pack that `save` wrote. Raises SourceError."""
        try:
            with safe_open(path, framework="np") as file:
                header = file.metadata() or {}
                if header.get("format") != FORMAT:
                    found = header.get("format")
                    raise SourceError(f"{path} is not a teacher's pack: its format is {found!r}, expected {FORMAT!r}")
                tensor_names = file.keys()
                tensors = {name: file.get_tensor(name) for name in tensor_names}
        except (OSError, SafetensorError) as error:
            raise SourceError(f"{path} is not a readable teacher's pack ({error})") from error
        names = json.loads(header["names"])
        ends = np.cumsum(tensors["lengths"])
        blob = tensors["masks"].tobytes()
        bits = tuple(blob[end - length : end] for end, length in zip(ends, tensors["lengths"], strict=True))
        return TeacherPack(
            names=tuple(names),
            quantised=tensors["features"],
            scale=tensors["scale"],
            mean=tensors["mean"],
            basis=tensors["basis"],
            bits=bits,
            side=int(header["side"]),
            index={name: i for i, name in enumerate(names)},
        )

    def save(self, path: str | Path) -> None:
        """Write the file, complete or not at all. Raises SourceError."""
        tensors = {
            "features": self.quantised,
            "scale": self.scale,
            "mean": self.mean,
            "basis": self.basis,
            "masks": np.frombuffer(b"".join(self.bits) or b"\0", np.uint8),
            "lengths": np.array([len(b) for b in self.bits], np.int64),
        }
        metadata = {"format": FORMAT, "names": json.dumps(self.names), "side": str(self.side)}
        with replacing(Path(path), SourceError) as temporary, with_usual_mode(temporary, Path(path)):
            save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, temporary, metadata)

    def __contains__(self, name: str) -> bool:
        return name in self.index

    def features(self, name: str) -> np.ndarray | None:
        """(C, h, w) float16, or None for an image that is not in the pack."""
        if name not in self.index:
            return None
        return (self.quantised[self.index[name]] * self.scale[:, None, None]).astype(np.float16)

    def has_masks(self, name: str) -> bool:
        return name in self.index and len(self.masks(name)) > 0

    def masks(self, name: str) -> np.ndarray:
        """(K, side, side) bool. Raises KeyError."""
        flat = np.unpackbits(np.frombuffer(zlib.decompress(self.bits[self.index[name]]), np.uint8))
        area = self.side * self.side
        return flat[: len(flat) // area * area].reshape(-1, self.side, self.side).astype(bool)
