"""Face-MakeUp written out in plain torch from its equations, straight from a checkpoint's tensors.

Projector: IP-Adapter's ProjPlusModel. Attention: LoRA on q, k, v and out, and the decoupled image attention of
IP-Adapter (arXiv 2308.06721, eq. 5), with the face tokens appended to the text as the authors pass them. ControlNet:
fed the four face tokens. No file, no loader, no peft, no attention kernel: only the equations.
"""

from __future__ import annotations

import math

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch.nn import functional as F

TOKENS, HEAD_DIM, DEPTH = 4, 64, 4


def project(weights, identity, clip, shortcut=True, scale=1.0):
    """identity (B, D) and CLIP hidden states (B, S, H) -> face tokens (B, 4, d)."""
    w = {key: value.float() for key, value in weights.items()}

    def linear(x, name):
        return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    hidden = linear(F.gelu(linear(identity, "proj.0")), "proj.2")
    x = norm(hidden.view(len(identity), TOKENS, -1), "norm")
    features = linear(clip, "perceiver_resampler.proj_in")
    z = x
    for layer in range(DEPTH):
        name = f"perceiver_resampler.layers.{layer}"
        seen, asking = norm(features, f"{name}.0.norm1"), norm(z, f"{name}.0.norm2")
        keys, values = linear(torch.cat([seen, asking], 1), f"{name}.0.to_kv").chunk(2, -1)
        z = (
            linear(attend(linear(asking, f"{name}.0.to_q"), keys, values, x.shape[-1] // HEAD_DIM), f"{name}.0.to_out")
            + z
        )
        z = linear(F.gelu(linear(norm(z, f"{name}.1.0"), f"{name}.1.1")), f"{name}.1.3") + z
    refined = norm(linear(z, "perceiver_resampler.proj_out"), "perceiver_resampler.norm_out")
    return x + scale * refined if shortcut else refined


def attend(q, k, v, heads):
    """softmax(q k^T / sqrt(d)) v in each of `heads`; (B, S, heads d) -> (B, S, heads d)."""
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


class Processor:
    """One attention of the UNet with its weights of `ip_adapter`; `faces`: the last four tokens are faces."""

    def __init__(self, weights, index, ip_scale):
        self.w = {k.partition(".")[2]: v.float() for k, v in weights.items() if k.partition(".")[0] == str(index)}
        self.ip_scale = ip_scale

    def __call__(self, attention, hidden_states, encoder_hidden_states=None, **_):
        tokens = None
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if "to_k_ip.weight" in self.w:
            context, tokens = context[:, :-TOKENS], context[:, -TOKENS:]

        def adapted(x, name, layer):
            return layer(x) + x @ self.w[f"{name}_lora.down.weight"].T @ self.w[f"{name}_lora.up.weight"].T

        q = adapted(hidden_states, "to_q", attention.to_q)
        k, v = adapted(context, "to_k", attention.to_k), adapted(context, "to_v", attention.to_v)
        out = attend(q, k, v, attention.heads)
        if tokens is not None:
            k_ip, v_ip = tokens @ self.w["to_k_ip.weight"].T, tokens @ self.w["to_v_ip.weight"].T
            out = out + self.ip_scale * attend(q, k_ip, v_ip, attention.heads)
        return adapted(out, "to_out", attention.to_out[0])


def predict(unet, checkpoint, latents, steps, text, identity, clip, pose=None, *, shortcut_scale=1.0, ip_scale=1.0):
    """The noise that Face-MakeUp predicts. `unet`: a stock UNet, left as it was. `pose` None: no pose branch."""
    tokens = project(checkpoint.image_proj, identity, clip, checkpoint.shortcut, shortcut_scale)
    residuals = {}
    if pose is not None:
        controlnet = ControlNetModel.from_unet(unet)
        controlnet.load_state_dict(checkpoint.controlnet)
        down, mid = controlnet(latents, steps, encoder_hidden_states=tokens, controlnet_cond=pose, return_dict=False)
        residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
    copy = UNet2DConditionModel.from_config(unet.config)
    copy.load_state_dict(unet.state_dict())
    copy.eval()
    copy.set_attn_processor(
        {name: Processor(checkpoint.ip_adapter, i, ip_scale) for i, name in enumerate(copy.attn_processors)}
    )
    return copy(latents, steps, torch.cat([text, tokens], 1), **residuals, return_dict=False)[0]
