"""Which file of a folder holds a checkpoint's weights. Pure: no file is opened."""

from __future__ import annotations

import re
from pathlib import Path

from model.checkpoints.layouts import CheckpointError, listed

STEMS = ("model.safetensors", "pytorch_model.bin", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
ADAPTER_FILE = "ip-adapter-facemakeup.safetensors"  # of a folder for stock diffusers
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
SHARD = re.compile(r".+-\d{5}-of-\d{5}\.\w+")
TRAINING_STATE = re.compile(r"(optimizer|scheduler|scaler|sampler|random_states|rng_state|training_args|dl_state)")
CONSOLIDATE = (
    "`python zero_to_fp32.py . consolidated` in the folder of the DeepSpeed checkpoint, then take consolidated/"
)
EXPORT = "`python jobs/train.py RECIPE --out OUT --export`, then take OUT/export/face-makeup.safetensors"


def weights_of(folder: Path) -> Path:
    """The file with the weights, or the index of its shards.

    Raises:
        CheckpointError: there is none, or several, with their names; or pieces that only another program can join.
    """
    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    weights = [file for file in files if file.suffix in WEIGHTS and not TRAINING_STATE.match(file.name)]
    known = [file for file in files if file.name.removesuffix(".index.json") in STEMS]
    shards = [file for file in weights if SHARD.fullmatch(file.name)]
    others = [file for file in weights if file not in known and file not in shards]
    indexed = bool(known) and known[0].name.endswith(".index.json")
    if len(known) == 1 and not others and (indexed or not shards):
        return known[0]
    if known:
        several = [file.name for file in dict.fromkeys([*known, *others, *(() if indexed else shards)])]
        raise CheckpointError(
            f"{folder} holds {len(several)} models: {listed(several)}. One is expected: say which by naming the file itself"
        )
    if (folder / "manifest.json").is_file() and any(re.match(r"part-\d+-of-\d+", file.name) for file in files):
        raise CheckpointError(
            f"{folder} is a training checkpoint of this project, with the optimiser's state and in one piece a "
            f"process; expected: exported weights; remedy: {EXPORT}"
        )
    if (folder / "zero_to_fp32.py").is_file() or next(folder.rglob("*_optim_states.pt"), None):
        raise CheckpointError(
            f"{folder} is a DeepSpeed ZeRO checkpoint, cut into one piece a process; expected: whole tensors; "
            f"remedy: {CONSOLIDATE}"
        )
    if shards:
        raise CheckpointError(
            f"{folder} holds shards ({listed((file.name for file in shards), 3)}) without the index that says what is "
            f"in them; remedy: copy model.safetensors.index.json or pytorch_model.bin.index.json beside them"
        )
    there = [file.name for file in others] + [f"{part.name}/" for part in sorted(folder.iterdir()) if _exported(part)]
    raise CheckpointError(
        f"{folder} holds no checkpoint: none of {listed(STEMS)} nor a folder that was exported here; "
        + (
            f"remedy: name one of these: {listed(there)}"
            if there
            else "it holds no weights at all; name another folder"
        )
    )


def require_utf8(path: Path) -> None:
    """torch and safetensors open no file whose name is of other bytes.

    Raises:
        CheckpointError: it is.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise CheckpointError(f"{path}: its name is not UTF-8, which torch needs; rename it") from error


def _exported(place: Path) -> bool:
    return any((place / name).is_file() for name in ("model_index.json", ADAPTER_FILE, *STEMS))
