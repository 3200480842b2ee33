"""Which checkpoints are published, and the file that a name stands for. Never uses the network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sam2s_model.errors import CheckpointError
from sam2s_model.paths import expanded, reading_checkpoint, user_cache
from sam2s_model.published.sha256 import file_sha256, verify
from sam2s_model.published.shards import file_in
from sam2s_model.published.similar import similar_name, similar_path
from sam2s_model.similar import meant

META = "https://dl.fbaipublicfiles.com/segment_anything_2"
EDGETAM = "https://github.com/facebookresearch/EdgeTAM/raw/7711e012a30a2402c4eaab637bdb00a521302c91/checkpoints"
GIVE = "the path of a .pt or .safetensors file, or a name of `sam2s checkpoint list`"
SURGSAM2 = "https://github.com/jinlab-imvr/Surgical-SAM-2"
EFFICIENTTAM = "https://huggingface.co/yunyangx/efficient-track-anything"
MEDSAM2 = "https://huggingface.co/wanglab/MedSAM2"
CATARACTSAM2 = "https://arxiv.org/abs/2603.21566"
SAM3 = "https://huggingface.co/facebook/sam3"
SAM_LICENCE = "SAM License"  # of its own, not Apache: the page has its text


@dataclass(frozen=True)
class Published:
    """A checkpoint file that can be asked for by name.

    model: name of the configuration that the file must turn out to be
    url: of the file; "" where it can only be got from `page`, by hand
    size: bytes; sha256: hex digest; None where it is not known
    purpose: what it is for, in a few words
    image_size: px, policy: of memory, that it was trained with; 0 and "": those of its model. They are the defaults of
        a file that is known by its sha256, or by its name in the cache folder
    """

    name: str
    file: str
    model: str
    licence: str
    page: str
    url: str = ""
    size: int | None = None
    sha256: str | None = None
    note: str = ""
    purpose: str = ""
    image_size: int = 0
    policy: str = ""


def _sam2(folder: str, page: str, files: dict[str, tuple[int, str | None]]) -> list[Published]:
    return [
        Published(
            name, f"{name}.pt", name, "Apache-2.0", page, f"{META}/{folder}/{name}.pt", size, sha256, purpose="anything"
        )
        for name, (size, sha256) in files.items()
    ]


def _surgsam2(name: str, model: str) -> Published:
    note = "SurgSAM2, fine-tuned on EndoVis 2018"
    return Published(
        name,
        f"{name}.pth",
        model,
        "see the page",
        SURGSAM2,
        note=note,
        purpose="instruments",
        image_size=512,
        policy="efp",
    )


def _efficienttam(name: str, model: str, size: int, sha256: str, image_size: int = 0) -> Published:
    return Published(
        name,
        f"{name}.pt",
        model,
        "Apache-2.0",
        EFFICIENTTAM,
        f"{EFFICIENTTAM}/resolve/main/{name}.pt",
        size,
        sha256,
        "EfficientTAM",
        "anything, light",
        image_size,
    )


def _medsam2(name: str, purpose: str) -> Published:
    note = "MedSAM2, a fine-tune of SAM 2.1 tiny"
    return Published(
        name, f"{name}.pt", "sam2.1_hiera_tiny", "CC-BY-SA-4.0", MEDSAM2, note=note, purpose=purpose, image_size=512
    )


def _published() -> list[Published]:
    # Meta publishes no checksums. These sizes and digests are those of the files that several projects independent of
    # each other have downloaded from the addresses given here and written down; they agree.
    page = "https://github.com/facebookresearch/sam2"
    return [
        *_sam2("092824", page, {
            "sam2.1_hiera_tiny": (156008466, "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69"),
            "sam2.1_hiera_small": (184416285, "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38"),
            "sam2.1_hiera_base_plus": (323606802, "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5"),
            "sam2.1_hiera_large": (898083611, "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318"),
        }),
        *_sam2("072824", page, {
            "sam2_hiera_tiny": (155906050, "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125"),
            "sam2_hiera_small": (184309650, "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3"),
            "sam2_hiera_base_plus": (323493298, None),  # for this one two digests are in use
            "sam2_hiera_large": (897952466, "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b"),
        }),
        Published(
            "edgetam", "edgetam.pt", "edgetam", "Apache-2.0", "https://github.com/facebookresearch/EdgeTAM",
            f"{EDGETAM}/edgetam.pt", 56116523, "ed2d4850b8792c239689b043c47046ec239b6e808a3d9b6ae676c803fd8780df",
            purpose="anything, light",
        ),
        _efficienttam(
            "efficienttam_s", "efficienttam_s", 136375868,
            "2b572be30d9e96ee29c8d785fe157c6b079ede7d56fbc8a3671d4120e63c89cd",
        ),
        _efficienttam(
            "efficienttam_s_512x512", "efficienttam_s", 136379145,
            "67b5840012737ed2c94a4cb8787c5c1b27b3a946045d2e602e65ef77230b6085", 512,
        ),
        _efficienttam(
            "efficienttam_ti", "efficienttam_ti", 71616316,
            "acbb17b28cca1f860acee09c9ecb6efdb732080dc7a85a07292c31813175fa7d",
        ),
        _efficienttam(
            "efficienttam_ti_512x512", "efficienttam_ti", 71620052,
            "7d4d652a465f0081391050932f45d8a66768ccc99c8ea393ce8a5927e83f3b9b", 512,
        ),
        Published(
            "sam3", "sam3.pt", "sam3", SAM_LICENCE, SAM3, "", 3450062241,
            "9999e2341ceef5e136daa386eecb55cb414446a00ac2b55eb2dfd2f7c3cf8c9e",
            "SAM 3; only its tracker is run, on a GPU; SAM 3.1 is another network, and is not run", "anything",
        ),
        _surgsam2("sam2.1_hiera_s_endo18", "sam2.1_hiera_small"),
        _surgsam2("sam2_hiera_s_endo18", "sam2_hiera_small"),
        _medsam2("MedSAM2_latest", "organs, lesions"),
        _medsam2("MedSAM2_2411", "organs, lesions"),
        _medsam2("MedSAM2_CTLesion", "lesions in CT"),
        _medsam2("MedSAM2_MRI_LiverLesion", "liver lesions in MRI"),
        _medsam2("MedSAM2_US_Heart", "heart in ultrasound"),
        Published(
            "cataractsam2", "cataractsam2.pth", "sam2_hiera_large", "Apache-2.0", CATARACTSAM2,
            note="CataractSAM-2, whose prompt encoder and mask decoder are tuned; save its file under this name",
            purpose="cataract surgery",
        ),
    ]  # fmt: skip


DEFAULT_ON_GPU, DEFAULT_ON_CPU = "sam2s_tiny", "sam2s_nano"
CATALOG: dict[str, Published] = {entry.name: entry for entry in _published()}


def cache_folder() -> Path:
    """Where checkpoints are downloaded to and looked for by name: $XDG_CACHE_HOME/sam2s, else ~/.cache/sam2s."""
    return user_cache()


def packaged_checkpoints() -> dict[str, Path]:
    """List the checkpoints that are part of the package, by name."""
    files = sorted(Path(__file__).parents[1].joinpath("weights").glob("*.safetensors"))
    return {file.stem: file for file in files}


def default_checkpoint(device: str = "auto") -> Path:
    """Choose the package's checkpoint that is used where none is given: one for GPUs, and a smaller one for CPUs.

    device: "cpu", "cuda", "cuda:N" or "auto"; "auto", which is CUDA where there is one, imports torch
    Raises CheckpointError when the package was built without it.
    """
    name = DEFAULT_ON_GPU if _is_cuda(device) else DEFAULT_ON_CPU
    found = packaged_checkpoints().get(name)
    if found is None:
        raise CheckpointError(f"no checkpoint was given, and {name} is not in the package: give {GIVE}")
    return found


def explain_default(device: str = "auto") -> str:
    """Say, in half a sentence, which checkpoint `default_checkpoint` is, and why."""
    return f"using {default_checkpoint(device).stem}, the package's default on a {'GPU' if _is_cuda(device) else 'CPU'}"


def _is_cuda(device: str) -> bool:
    if device == "auto":
        import torch

        return torch.cuda.is_available()
    return device.startswith("cuda")


def published(name: str) -> Published:
    """Look up an entry of the catalogue. Raises CheckpointError that lists the names."""
    if name in packaged_checkpoints():
        raise CheckpointError(
            f"checkpoint {name!r} is in the package: there is nothing to download, its name is used as it is"
        )
    if name not in CATALOG:
        known = ", ".join(CATALOG) + meant(name, CATALOG)
        raise CheckpointError(f"no checkpoint {name!r} is published: expected one of {known}")
    return CATALOG[name]


def published_as(path: Path) -> Published | None:
    """Find a file's entry, by its size and sha256, or by its name in the cache folder; None for another file.

    The sha256 is only computed for a file of a known size, whose entry has defaults.
    """
    for entry in CATALOG.values():
        if not (entry.image_size or entry.policy):
            continue
        if path == cache_folder() / entry.file:
            return entry
        if entry.sha256 and path.is_file() and path.stat().st_size == entry.size and file_sha256(path) == entry.sha256:
            return entry
    return None


def resolve_checkpoint(given: str | Path) -> Path:
    """Find the file that a path or a name of the catalogue stands for; a file of that name here comes first.

    A file that is found by its name is compared with the size and the sha256 that are known for it, or with the sha256
    that it had at first use.
    Raises CheckpointError that says how to get it, what was meant if a name or a path is similar, or that it is not the
    file that was published, or cannot be looked for.
    """
    with reading_checkpoint(given):
        return _found(given)


def _found(given: str | Path) -> Path:
    path = expanded(given)
    if path.is_file():
        return path
    name = str(given)
    packaged = packaged_checkpoints()
    if name in packaged:
        return packaged[name]
    if name in CATALOG:
        found = cache_folder() / CATALOG[name].file
        if not found.is_file():
            raise CheckpointError(f"checkpoint {name!r} is not in {cache_folder()}: {how_to_get(CATALOG[name])}")
        verify(found, CATALOG[name].sha256, CATALOG[name].size)
        return found
    if path.is_dir():
        return file_in(path)
    hint = f"give {GIVE}"
    entry = next((entry for entry in CATALOG.values() if entry.file == path.name), None)
    if entry is not None and path.name == name:
        hint = f"{how_to_get(entry)}, and pass the name {entry.name}"
    elif (
        meant := similar_path(path)
        if len(path.parts) > 1
        else similar_name(name, [*packaged, *CATALOG]) or similar_path(path)
    ):
        hint = f"did you mean {meant!r}? Otherwise {hint}"
    raise CheckpointError(f"checkpoint {name!r} does not exist: {hint}")


def how_to_get(entry: Published) -> str:
    """Say in half a sentence what to do to have the file where its name finds it."""
    if entry.url:
        return f"get it with `sam2s checkpoint download {entry.name}`"
    return f"get {entry.file} from {entry.page} and put it into {cache_folder()}"
