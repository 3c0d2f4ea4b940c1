"""The UNet of Stable Diffusion with the face adapter in it.

A stock UNet2DConditionModel whose cross-attentions have diffusers' image-prompt processors (their own K and V for the
face tokens, same query, outputs added) and whose every attention carries a LoRA of peft. Saved as a stock UNet folder
with `adapter.safetensors` beside it. It imports nothing of this project: exported folders carry this file as it is.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, IPAdapterAttnProcessor2_0
from peft import LoraConfig
from safetensors.torch import load_file, save_file

ADAPTER_FILE = "adapter.safetensors"
LORA = "face"
TARGETS = r".*\.attn[12]\.(to_q|to_k|to_v|to_out\.0)"
PROJECTIONS = {"to_q": "to_q", "to_k": "to_k", "to_v": "to_v", "to_out": "to_out.0"}


class FaceUNet(UNet2DConditionModel):
    """Takes `encoder_hidden_states=(text (B, 77, d), [tokens (B, 4, d)])` once `attach` has been called."""

    def attach(self, rank: int) -> "FaceUNet":
        """Add LoRA of `rank` to every attention and image-prompt K/V, started from the text K/V, to every attn2.

        LoRA: factor 1 (alpha = rank), down ~ N(0, 1/rank^2), up 0, so the output is the stock UNet's plus the
        image attention.

        Raises:
            ValueError: the adapter is there already.
        """
        if self.adapted:
            raise ValueError("this UNet has a face adapter already")
        processors = {}
        for name, attention in self.attentions():
            if name.endswith("attn2"):
                processor = IPAdapterAttnProcessor2_0(
                    attention.inner_dim, attention.cross_attention_dim, num_tokens=(4,), scale=1.0
                )
                processor.to_k_ip[0].weight = torch.nn.Parameter(attention.to_k.weight.detach().clone())
                processor.to_v_ip[0].weight = torch.nn.Parameter(attention.to_v.weight.detach().clone())
                processors[f"{name}.processor"] = processor
            else:
                processors[f"{name}.processor"] = attention.processor
        self.set_attn_processor(processors)
        self.add_adapter(
            LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS, init_lora_weights="gaussian"), adapter_name=LORA
        )
        # peft makes LoRA float32 around a half-precision base: one dtype, unless the caller asks for another
        for parameter in self.adapter_parameters():
            parameter.data = parameter.data.to(self.conv_in.weight.dtype)
        return self

    @property
    def adapted(self) -> bool:
        return any(isinstance(processor, IPAdapterAttnProcessor2_0) for processor in self.attn_processors.values())

    def set_ip_scale(self, scale: float) -> None:
        """Weight of the face tokens in every cross-attention. State of the module: one drawing at a time."""
        for processor in self.attn_processors.values():
            if isinstance(processor, IPAdapterAttnProcessor2_0):
                processor.scale = [scale]

    def set_attention_slice(self, slice_size: Any) -> None:
        """Not supported: slicing, like xFormers below, would replace the processors of the face tokens.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("the face tokens need their own attention (PyTorch's SDPA): slicing is not supported")

    def set_use_memory_efficient_attention_xformers(self, valid: bool, attention_op: Any = None) -> None:
        if valid:
            raise NotImplementedError(
                "the face tokens need their own attention (PyTorch's SDPA): xFormers is not supported"
            )

    def adapter_parameters(self) -> Iterator[torch.nn.Parameter]:
        """The trainable parameters of this UNet: LoRA and image-prompt K/V."""
        return (parameter for _, parameter in self._adapter_items())

    def ip_adapter_state(self) -> dict[str, torch.Tensor]:
        """The adapter under the authors' names (`ip_adapter`): `I.to_q_lora.down.weight` ..., I in processor order."""
        return {key: parameter.detach() for key, parameter in self._adapter_items()}

    def load_ip_adapter_state(self, state: Mapping[str, torch.Tensor], assign: bool = False) -> None:
        """Load `ip_adapter`. With `assign` each tensor keeps its own dtype.

        Raises:
            ValueError: keys or shapes differ, with their names.
        """
        parameters = dict(self._adapter_items())
        missing, foreign = sorted(parameters.keys() - state.keys()), sorted(state.keys() - parameters.keys())
        misshapen = sorted(
            f"{key} {tuple(state[key].shape)}, here {tuple(parameters[key].shape)}"
            for key in parameters.keys() & state.keys()
            if state[key].shape != parameters[key].shape
        )
        if missing or foreign or misshapen:
            raise ValueError(f"ip_adapter: missing {missing[:5]}, foreign {foreign[:5]}, other shapes {misshapen[:5]}")
        with torch.no_grad():
            for key, parameter in parameters.items():
                if assign:
                    parameter.data = state[key].to(parameter.device)
                else:
                    parameter.copy_(state[key])

    def base_state(self) -> dict[str, torch.Tensor]:
        """The frozen weights under the stock UNet's names."""
        adapter = {id(parameter) for parameter in self.adapter_parameters()}
        return {
            name.replace(".base_layer", ""): parameter.detach()
            for name, parameter in self.named_parameters()
            if id(parameter) not in adapter
        }

    def attentions(self) -> Iterator[tuple[str, Attention]]:
        """Every attention with its name, in the order of `attn_processors`: down, up, mid; attn1 before attn2."""
        for name, module in self.named_modules():
            if isinstance(module, Attention) and name.rpartition(".")[2] in ("attn1", "attn2"):
                yield name, module

    def _adapter_items(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        if not self.adapted:
            return
        for index, (name, attention) in enumerate(self.attentions()):
            for name_in_file, path in PROJECTIONS.items():
                layer = attention.get_submodule(path)
                yield f"{index}.{name_in_file}_lora.down.weight", layer.lora_A[LORA].weight
                yield f"{index}.{name_in_file}_lora.up.weight", layer.lora_B[LORA].weight
            if name.endswith("attn2"):
                yield f"{index}.to_k_ip.weight", attention.processor.to_k_ip[0].weight
                yield f"{index}.to_v_ip.weight", attention.processor.to_v_ip[0].weight

    # -- folders -------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, folder: str | Path, adapter: bool = True, **options: Any) -> "FaceUNet":
        """A stock UNet folder (or hub name); with `adapter.safetensors` in it, adapted, unless `adapter` is False.

        Raises:
            OSError: the folder is of an exported pipeline, and its adapter is missing.
        """
        file = Path(folder) / (options.get("subfolder") or "") / ADAPTER_FILE
        # of a hub repository diffusers fetches this code, but not a file of that name
        if adapter and not file.is_file() and file.with_name("face_unet.py").is_file():
            raise OSError(
                f"{file} is missing: copy the whole folder; from a hub with huggingface_hub.snapshot_download"
            )
        unet = super().from_pretrained(folder, **options)
        if adapter and file.is_file():
            state = {key.removeprefix("ip_adapter."): value for key, value in load_file(file).items()}
            unet.attach(rank=state["0.to_q_lora.down.weight"].shape[0])
            unet.load_ip_adapter_state(state)
        return unet

    def save_pretrained(self, folder: str | Path, **options: Any) -> None:
        """Write the stock UNet, which stock diffusers loads, and the adapter in a file of its own."""
        with init_empty_weights():
            stock = UNet2DConditionModel.from_config(self.config)
        stock.load_state_dict(self.base_state(), strict=True, assign=True)
        stock.save_pretrained(folder, **options)
        if self.adapted:
            state = {f"ip_adapter.{key}": value.contiguous() for key, value in self.ip_adapter_state().items()}
            save_file(state, Path(folder) / ADAPTER_FILE)
