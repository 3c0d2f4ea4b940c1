"""PhotoMaker 1 and 2 from tiny files in the authors' layout to a picture: what the UNet is told at which step, and of what."""

from __future__ import annotations

import os

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import onnxruntime
import pytest
import torch
from diffusers import UNet2DConditionModel

from common.errors import UserError
from evaluation.methods.photomaker.method import PhotoMaker, PhotoMakerV2
from evaluation.methods.sources import MethodSources, Unavailable
from model.conditioning.alignment import align
from model.conditioning.faces import choose_face
from tests.evaluation.methods.twin_of import loaded_twins
from tests.real_photos import photo  # noqa: F401  (a fixture)

KINDS = (PhotoMaker, PhotoMakerV2)
PROMPT = "a photo of a person in the snow"
STEPS, LAST_BLIND = 4, 1


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    return loaded_twins(KINDS, tmp_path_factory, steps=STEPS, start_merge_step=LAST_BLIND)


@pytest.fixture(scope="module")
def rgb(photo):  # noqa: F811
    return photo("astronaut").rgb


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_from_a_photo_the_same_for_the_same_seed(twins, rgb, kind):
    twin = twins[kind]
    face = twin.prepare([rgb])
    assert face.shape == (kind.file_version, 128)
    pictures = [np.asarray(twin.draw(face, PROMPT, seed)) for seed in (1, 1, 2)]
    assert pictures[0].shape == (64, 64, 3) and (pictures[0] == pictures[1]).all()
    assert (pictures[0] != pictures[2]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_face_is_told_from_the_step_after_start_merge_step_and_not_before(twins, rgb, kind):
    twin = twins[kind]
    face, told = twin.prepare([rgb]), []

    def listen(unet, args, given):
        told.append((given["encoder_hidden_states"].clone(), given["added_cond_kwargs"]["text_embeds"].clone()))

    handle = twin.pipeline.unet.register_forward_pre_hook(listen, with_kwargs=True)
    twin.draw(face, PROMPT, 0, output_type="latent")
    handle.remove()
    expected = twin.embeddings(face, PROMPT)
    assert (expected.merged - expected.text_only).abs().max() > 0.1 and len(told) == STEPS
    for step, (words, pooled) in enumerate(told):
        now, whole = (
            (expected.text_only, expected.pooled_text_only)
            if step <= LAST_BLIND
            else (expected.merged, expected.pooled_merged)
        )
        assert torch.equal(words, torch.cat([expected.negative, now])), step
        assert torch.equal(pooled, torch.cat([expected.pooled_negative, whole])), step


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_class_nouns_embeddings_are_the_faces(twins, rgb, kind):
    twin = twins[kind]
    face = twin.prepare([rgb])
    mine, other = twin.embeddings(face, PROMPT), twin.embeddings(-face, PROMPT)
    changed = (mine.merged != other.merged).any(dim=-1)[0].nonzero().flatten().tolist()
    assert changed == [5 + number for number in range(len(face))]  # after the start token and "a photo of a"
    assert torch.equal(mine.text_only, other.text_only) and torch.equal(mine.pooled_merged, other.pooled_merged)
    assert torch.equal(twin.embeddings(face, "a photo of a person img in the snow").merged, mine.merged)
    with pytest.raises(ValueError, match="no class noun"):
        twin.draw(face, "a house by the sea", 0)


def test_two_photos_are_twice_the_tokens_in_their_order(twins, rgb):
    for kind, twin in twins.items():
        both = twin.prepare([rgb, rgb[:, ::-1].copy()])
        torch.testing.assert_close(both[: kind.file_version], twin.prepare([rgb]))
        assert len(both) == 2 * kind.file_version


def test_clip_sees_red_first_and_the_whole_photo(twins):
    """Of a plain colour every pixel is known; CLIP's own mean and deviation."""
    plain = np.full((60, 90, 3), (250, 100, 10), np.uint8)
    pixels = twins[PhotoMaker].pixels([plain])
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    expected = (np.array([250, 100, 10]) / 255 - mean) / std
    np.testing.assert_allclose(pixels[0].mean(dim=(1, 2)), expected, atol=1e-5)
    assert pixels.shape == (1, 3, 28, 28)
    face = twins[PhotoMaker].prepare([plain])
    assert (face - twins[PhotoMaker].prepare([plain[..., ::-1].copy()])).abs().max() > 1e-3


def test_version_2_has_insightfaces_embedding_of_the_surest_face_as_long_as_it_is(twins, rgb):
    """The recogniser of insightface sees red first when it is handed OpenCV's order, as the authors hand it."""
    twin = twins[PhotoMakerV2]
    surest = choose_face(twin.reader.finder(rgb), "highest_score")
    crop = align(rgb, surest.landmarks, 112)
    session = onnxruntime.InferenceSession(str(twin.found["recogniser"].path))
    blob = ((crop.astype(np.float32) - 127.5) / 127.5).transpose(2, 0, 1)[None]
    (expected,) = session.run(None, {session.get_inputs()[0].name: blob})
    (swapped,) = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(blob[:, ::-1])})
    vectors = twin.vectors([rgb])
    np.testing.assert_allclose(vectors, expected, atol=1e-4)
    assert np.abs(swapped - expected).max() > 0.1 and abs(float(vectors.norm()) - 1) > 0.1
    seen = twin.encoder(twin.pixels([rgb]), torch.from_numpy(swapped)).detach()
    assert (seen - twin.prepare([rgb])).abs().max() > 1e-3
    with pytest.raises(ValueError, match="no face was found"):
        twin.prepare([np.full((200, 200, 3), 90, np.uint8)])


def test_the_lora_is_in_every_attention_at_its_full_scale(twins):
    twin = twins[PhotoMaker]
    before = UNet2DConditionModel.from_pretrained(twin.found["base"].path, subfolder="unet").state_dict()
    after = twin.pipeline.unet.state_dict()
    lora = torch.load(twin.found["adapter"].path, weights_only=True)["lora_weights"]
    assert set(after) == set(before) and len(lora) == 2 * sum(".attn" in key and "weight" in key for key in before)
    for key, down in lora.items():
        if key.endswith(".down.weight"):
            layer = key.removeprefix("unet.").replace(".processor.", ".").removesuffix("_lora.down.weight")
            layer = f"{layer}.0.weight" if layer.endswith("to_out") else f"{layer}.weight"
            torch.testing.assert_close(after[layer] - before[layer], lora[key.replace(".down.", ".up.")] @ down)


def test_what_is_missing_and_what_cannot_be_is_told(tmp_path):
    with pytest.raises(Unavailable) as told:
        PhotoMakerV2(MethodSources(weights="/nowhere"))
    for words in ("hf download TencentARC/PhotoMaker-V2 photomaker-v2.bin", "SG161222/RealVisXL_V4.0", "buffalo_l"):
        assert words in str(told.value)
    with pytest.raises(UserError, match="no step would see the face"):
        PhotoMaker.settings_from(MethodSources(changes=["photomaker.start_merge_step=49"]))
