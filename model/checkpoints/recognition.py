"""What a file of tensors is, from its key names: one of the layouts that are read, or what it is instead."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from model.checkpoints.folders import CONSOLIDATE, EXPORT
from model.checkpoints.layouts import CheckpointError, listed
from model.checkpoints.tensor_files import TensorFile

PROCESSOR = re.compile(r"unet\.(.+\.attn[12])\.processor\.(.+)")
RAW = ("image_proj_model.", "adapter_modules.", "contorlnet.", "controlnet.", "unet.")

SUPPORTED = (
    "Face-MakeUp's model.bin, IP-Adapter-FaceID-Plus (v1, v2) for SD1.5, the raw output of their trainers, and what "
    "this project writes"
)

BESIDE = "it has no projector; remedy: load it beside Face-MakeUp with `load_lora_weights`"
# what it is by one of its keys, and what to do about it
OTHERS: tuple[tuple[str, str, str], ...] = (
    (r"lora_(unet|te\d?)_", "a LoRA of kohya's kind", BESIDE),
    (r".*\.lora_?(A|B|down|up)\b.*|.*lora_linear_layer.*", "a LoRA of peft's or diffusers' kind", BESIDE),
    (r"model\.diffusion_model\.", "a whole Stable Diffusion model in one file", "remedy: as a base, `StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER)`, then --base FOLDER"),
    (r"(controlnet_cond_embedding|controlnet_mid_block|controlnet_down_blocks)\.", "a ControlNet alone", "remedy: name the file or folder that has the adapter too"),
    (r"(down_blocks|up_blocks|mid_block|conv_in)\.", "a UNet alone", "remedy: name the adapter's file; this can be the base model (--base)"),
    (r"(id_encoder|lora_weights)(\.|$)", "PhotoMaker", "its identity encoder is another network; take Face-MakeUp's or IP-Adapter-FaceID-Plus's file"),
    (r"(master|ema|exp_avg|exp_avg_sq)/", "one piece of a training checkpoint of this project", f"remedy: {EXPORT}"),
    (r"(module|ds_config|ds_version|param_shapes|optimizer_state_dict)$", "one piece of a DeepSpeed checkpoint", f"remedy: {CONSOLIDATE}"),
    (r"(state_dict|optimizer|model)$", "a trainer's state with its weights inside", "remedy: `torch.save(torch.load(FILE)['state_dict'], 'weights.bin')`, or what the key of the weights is"),
)  # fmt: skip


def recognise(file: TensorFile) -> str:
    """`authors`, `facemakeup`, `ip-adapter` or `raw`.

    Raises:
        CheckpointError: it is something else; what, where the keys show it.
    """
    keys = list(file)
    if any(key.startswith(("image_proj.", "ip_adapter.")) for key in keys):
        foreign = [key for key in keys if not key.startswith(("image_proj.", "ip_adapter.", "controlnet."))]
        if foreign:
            raise CheckpointError(
                f"{file.path} has keys besides image_proj, ip_adapter and controlnet: {listed(foreign)}; take a file that "
                "holds one model"
            )
        require_plus(file.path, {key.removeprefix("image_proj.") for key in keys if key.startswith("image_proj.")})
        if not any(key.startswith("controlnet.") for key in keys):
            if file.metadata.get("layout") == "facemakeup":
                raise CheckpointError(
                    f"{file.path} says it is a whole Face-MakeUp checkpoint but has no controlnet.*; take a complete copy"
                )
            return "ip-adapter"
        return "authors" if file.nested else "facemakeup"
    if any(
        key.startswith(("image_proj_model.", "adapter_modules.", "contorlnet.")) or PROCESSOR.match(key) for key in keys
    ):
        if foreign := [key for key in keys if not key.startswith(RAW)]:
            raise CheckpointError(
                f"{file.path} is a trainer's output with keys of something else: {listed(foreign)}; expected: nothing but "
                f"{listed(f'{name}*' for name in RAW)}; save one model's state_dict"
            )
        if not any(key.startswith("image_proj_model.") for key in keys):
            raise CheckpointError(
                f"{file.path} has adapter weights but no projector (image_proj_model.*): it is a LoRA of attention "
                "processors, or an extract; name the trainer's whole output"
            )
        require_plus(
            file.path, {k.removeprefix("image_proj_model.") for k in keys if k.startswith("image_proj_model.")}
        )
        return "raw"
    for pattern, what, remedy in OTHERS:
        if any(re.match(pattern, key) for key in keys):
            raise CheckpointError(f"{file.path} is {what}: {remedy}. What is read: {SUPPORTED}")
    raise CheckpointError(
        f"{file.path} is not a known checkpoint; its keys: {listed(keys, 4) or 'none'}. What is read: {SUPPORTED}"
    )


def require_plus(path: Path, image_proj: Collection[str]) -> None:
    """Check that the projector is FaceID-Plus's, and not another of the IP-Adapter family, by its keys.

    Raises:
        CheckpointError: it is another; which, and what it lacks.
    """
    if any(key.startswith("perceiver_resampler.") for key in image_proj):
        return
    if "latents" in image_proj:
        what = "IP-Adapter-Plus or InstantID (learned `latents`): its queries do not come from an identity vector"
    elif "proj.3.weight" in image_proj:
        what = "IP-Adapter Full-Face (257 tokens of CLIP): it takes no identity vector"
    elif "proj.weight" in image_proj:
        what = "a plain IP-Adapter (one linear layer on the CLIP embedding): it takes no identity vector"
    elif "proj.0.weight" in image_proj:
        what = "IP-Adapter-FaceID without Plus (or Portrait): it takes no CLIP hidden states"
    elif not image_proj:
        what = "without a projector: `image_proj` is empty"
    else:
        what = f"with a projector of an unknown kind ({listed(sorted(image_proj), 3)})"
    raise CheckpointError(f"{path} is {what}. Face-MakeUp needs FaceID-Plus's: take ip-adapter-faceid-plusv2_sd15")


def shortcut_in_name(path: Path) -> bool | None:
    """IP-Adapter says it in the file's name only: `plusv2`, `plus v2` True, `plus` without a v2 False, else None."""
    name = path.name.lower()
    if re.search(r"plus[\W_]*v[\W_]*2(?!\d)", name):
        return True
    return False if "plus" in name and not re.search(r"v[\W_]*2(?!\d)", name) else None
