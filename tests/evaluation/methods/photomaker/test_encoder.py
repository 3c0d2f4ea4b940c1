"""The ID encoder against its equations written out, its file read whole or refused, and the published sizes."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import gelu, layer_norm

from evaluation.methods.networks.twins import random_tensors
from evaluation.methods.photomaker.encoder import IdEncoder
from evaluation.methods.photomaker.file import check_lora, encoder_like, from_file, read_photomaker
from evaluation.methods.photomaker.twin import id_encoder_shapes
from model.checkpoints.layouts import CheckpointError

FIRST, SECOND = 96, 160  # text encoders of unequal widths; 256 together: two heads of the resampler
LORA = {
    "unet.mid.attn1.processor.to_q_lora.down.weight": (2, 8), "unet.mid.attn1.processor.to_q_lora.up.weight": (6, 2),
}  # fmt: skip


def weights_of(version: int) -> dict[str, torch.Tensor]:
    shapes = id_encoder_shapes(FIRST, SECOND, version, width=128)
    return {key: value.double() for key, value in random_tensors(shapes, version).items()}


def encoder_of(weights: dict[str, torch.Tensor]) -> IdEncoder:
    encoder = encoder_like({key: tuple(value.shape) for key, value in weights.items()}).double()
    encoder.load_state_dict(from_file(weights))
    return encoder.eval()


def norm(x, weights, name):
    return layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def line(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0)


def fused(words, face, weights):
    def feed(x, name):
        name = f"fuse_module.{name}"
        return line(gelu(line(norm(x, weights, f"{name}.layernorm"), weights, f"{name}.fc1")), weights, f"{name}.fc2")

    mixed = words + feed(torch.cat([words, face], -1), "mlp1")
    return norm(mixed + feed(mixed, "mlp2"), weights, "fuse_module.layer_norm")


def perceived(vectors, hidden, weights):
    own = "qformer_perceiver"
    tokens = line(gelu(line(vectors, weights, f"{own}.token_proj.0")), weights, f"{own}.token_proj.2")
    tokens = norm(tokens.reshape(len(vectors), 2, -1), weights, f"{own}.token_norm")
    x, own = tokens, f"{own}.perceiver_resampler"
    hidden = line(hidden, weights, f"{own}.proj_in")
    for number in range(4):
        block = f"{own}.layers.{number}"
        queries = norm(x, weights, f"{block}.0.norm2")
        seen = torch.cat([norm(hidden, weights, f"{block}.0.norm1"), queries], 1)
        q = line(queries, weights, f"{block}.0.to_q")
        k, v = line(seen, weights, f"{block}.0.to_kv").chunk(2, -1)
        q, k, v = (part.unflatten(-1, (-1, 128)).transpose(1, 2) for part in (q, k, v))
        attended = ((q @ k.transpose(2, 3) / math.sqrt(128)).softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + line(attended, weights, f"{block}.0.to_out")
        inner = gelu(line(norm(x, weights, f"{block}.1.0"), weights, f"{block}.1.1"))
        x = x + line(inner, weights, f"{block}.1.3")
    return tokens + norm(line(x, weights, f"{own}.proj_out"), weights, f"{own}.norm_out")


@torch.no_grad()
def test_version_1_projects_clips_pooled_output_twice():
    weights = weights_of(1)
    encoder = encoder_of(weights)
    pixels = torch.randn(3, 3, 28, 28, dtype=torch.double)
    pooled = norm(encoder.clip.vision_model(pixels).last_hidden_state[:, 0], weights, "vision_model.post_layernorm")
    expected = torch.cat([line(pooled, weights, "visual_projection"), line(pooled, weights, "visual_projection_2")], -1)
    torch.testing.assert_close(encoder(pixels), expected)


@torch.no_grad()
def test_version_2_adds_the_resampled_patches_to_the_vectors_tokens():
    weights = weights_of(2)
    encoder = encoder_of(weights)
    pixels, vectors = torch.randn(3, 3, 28, 28, dtype=torch.double), torch.randn(3, 512, dtype=torch.double)
    hidden = encoder.clip.vision_model(pixels).last_hidden_state
    expected = perceived(vectors, hidden, weights)
    assert expected.shape == (3, 2, FIRST + SECOND)
    torch.testing.assert_close(encoder(pixels, vectors), expected.flatten(0, 1))


@torch.no_grad()
def test_the_class_nouns_embeddings_are_fused_with_the_face_and_the_others_left():
    weights = weights_of(1)
    encoder = encoder_of(weights)
    prompt, face = torch.randn(1, 9, FIRST + SECOND).double(), torch.randn(2, FIRST + SECOND).double()
    kept = prompt.clone()
    merged = encoder.merged(prompt, 3, face)
    torch.testing.assert_close(merged[0, 3:5], fused(prompt[0, 3:5], face, weights))
    assert (
        torch.equal(prompt, kept)
        and torch.equal(merged[0, 5:], prompt[0, 5:])
        and torch.equal(merged[0, :3], prompt[0, :3])
    )


@pytest.fixture
def written(tmp_path):
    def write(change=lambda state: None, version: int = 1):
        state = {
            "id_encoder": random_tensors(id_encoder_shapes(64, 64, version), 0),
            "lora_weights": random_tensors(LORA, 1),
        }
        change(state)
        torch.save(state, tmp_path / "file.bin")
        return tmp_path / "file.bin"

    return write


@pytest.mark.parametrize("version", [1, 2])
def test_the_version_is_told_by_the_file_not_by_a_default(written, version):
    assert read_photomaker(written(version=version), version).encoder.tokens_a_photo == version
    with pytest.raises(CheckpointError, match=f"is PhotoMaker version {version}, not version {3 - version}"):
        read_photomaker(written(version=version), 3 - version)


def test_a_safetensors_file_and_positions_that_old_versions_saved_are_read_too(written, tmp_path):
    from safetensors.torch import save_file

    state = torch.load(written(), weights_only=True)
    state["id_encoder"]["vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    flat = {f"{part}.{key}": value for part, inner in state.items() for key, value in inner.items()}
    save_file(flat, tmp_path / "file.safetensors")
    read = read_photomaker(tmp_path / "file.safetensors", 1)
    pixels = torch.ones(1, 3, 28, 28)
    torch.testing.assert_close(read.encoder(pixels), read_photomaker(written(), 1).encoder(pixels))
    assert read.lora.keys() == LORA.keys()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda state: state.pop("lora_weights"), "no file of PhotoMaker"),
        (lambda state: state.update(other=torch.ones(1)), "nothing else: other"),
        (lambda state: state["id_encoder"].pop("fuse_module.mlp2.fc1.bias"), "lacks 1 keys: fuse_module.mlp2.fc1.bias"),
        (lambda state: state["id_encoder"].pop("visual_projection_2.weight"), "lacks 'visual_projection_2.weight'"),
        (lambda state: state["id_encoder"].update({"norm3.bias": torch.ones(1)}), "do not belong there: norm3.bias"),
        (
            lambda state: state["id_encoder"].update({"fuse_module.mlp1.fc2.bias": torch.ones(3)}),
            "contradict each other",
        ),
    ],
)
def test_a_file_that_is_not_whole_or_not_photomakers_is_refused(written, change, why):
    with pytest.raises(CheckpointError, match=why):
        read_photomaker(written(change), 1)


@pytest.mark.parametrize("damage", ["half", "layer", "width", ""])
def test_lora_that_does_not_fit_the_base_is_refused(tmp_path, damage):
    unet = torch.nn.ModuleDict(
        {"mid": torch.nn.ModuleDict({"attn1": torch.nn.ModuleDict({"to_q": torch.nn.Linear(8, 6)})})}
    )
    lora = random_tensors(LORA, 0)
    down, up = lora
    if damage == "half":
        del lora[up]
    if damage == "layer":
        lora = {key.replace("attn1", "attn2"): value for key, value in lora.items()}
    if damage == "width":
        lora[down] = torch.ones(2, 7)
    if not damage:
        check_lora(tmp_path, lora, unet)
        return
    with pytest.raises(CheckpointError, match="no such layer|does not fit"):
        check_lora(tmp_path, lora, unet)


@pytest.mark.parametrize("version", [1, 2])
def test_the_published_sizes(version):
    """CLIP-L/14 of 224 pixels, text encoders of 768 and 1280: numbers of parameters, without any."""
    shapes = id_encoder_shapes(768, 1280, version, width=1024, inner=4096, layers=24, side=224, vector_inner=2048)
    with torch.device("meta"):
        encoder = encoder_like(shapes)
    config = encoder.clip.config
    assert (config.num_attention_heads, config.image_size, config.patch_size) == (16, 224, 14)
    counts = {name: sum(value.numel() for value in part.parameters()) for name, part in encoder.named_children()}
    assert counts["clip"] == 303_179_776 + 1024 * 768 and counts["visual_projection_2"] == 1024 * 1280
    w = 2048
    assert counts["fuse_module"] == (4 * w + 2 * w * w + w) + (w * w + w) + (2 * w + 2 * (w * w + w)) + 2 * w
    if version == 2:
        block = 2 * 2 * w + w * w + 2 * w * w + w * w + 2 * w + 2 * 4 * w * w
        projections = (512 * 2048 + 2048) + (2048 * 2 * w + 2 * w) + 2 * w + (1024 * w + w) + (w * w + w) + 2 * w
        assert counts["qformer_perceiver"] == projections + 4 * block
