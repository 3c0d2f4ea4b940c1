"""The pipeline: prompts, faces, scales, seeds and batches."""

from __future__ import annotations

import threading

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import EulerDiscreteScheduler

from model.conditioning.faces import Face, NoFaceError, SeveralFacesError
from model.conditioning.features import zero_image_features
from model.presets import PRESETS
from tests.model.conftest import some_face, some_photo

FEW = {"num_inference_steps": 3, "output_type": "np"}


def test_the_tiny_model_draws_64_pixels(pipeline, seen):
    out = pipeline("a person reading", face=seen, num_inference_steps=5)
    (image,) = out.images
    assert image.size == (64, 64) and image.mode == "RGB"
    assert np.asarray(image).std() > 1
    assert out.conditions is seen


def test_a_picture_depends_on_its_seed_and_not_on_its_batch(pipeline, seen):
    together = pipeline("a person", face=seen, seed=5, num_images_per_prompt=3, **FEW).images
    alone = pipeline("a person", face=seen, seed=7, **FEW).images
    assert np.abs(together[2] - alone[0]).max() < 1e-5
    assert np.abs(together[0] - together[1]).max() > 0.01
    assert np.array_equal(pipeline("a person", face=seen, seed=7, **FEW).images, alone)


def test_one_prompt_serves_many_faces_and_one_face_many_prompts(pipeline, seen):
    two = pipeline.encode_faces([some_photo(), some_photo(1)], [some_face(), some_face(3)])
    drawn = pipeline("a person", face=two, **FEW).images
    assert np.abs(drawn[0] - pipeline("a person", face=seen, **FEW).images[0]).max() < 1e-5
    assert len(pipeline(["in a park", "reading"], face=seen, num_images_per_prompt=2, **FEW).images) == 4
    with pytest.raises(ValueError, match="3 prompts, 2 faces"):
        pipeline(["a", "b", "c"], face=two, **FEW)


@pytest.mark.parametrize("scale", ["ip_scale", "controlnet_scale", "shortcut_scale", "guidance_scale"])
def test_every_scale_counts(pipeline, seen, scale):
    low, high = (pipeline("a person", face=seen, **{scale: value}, **FEW).images for value in (0.1, 1.5))
    assert np.abs(low - high).max() > 0.001


def test_a_preset_is_its_scales_and_a_scale_that_is_given_overrides_it(pipeline, seen):
    preset = PRESETS["strong_style"]
    named = pipeline("a person", face=seen, preset="strong_style", **FEW).images
    scales = {"ip_scale": preset.ip, "controlnet_scale": preset.controlnet, "guidance_scale": preset.guidance}
    assert np.array_equal(named, pipeline("a person", face=seen, **scales, **FEW).images)
    other = pipeline("a person", face=seen, preset="strong_style", ip_scale=0.9, **FEW).images
    assert not np.array_equal(named, other)
    with pytest.raises(ValueError, match="realistic, soft_style, strong_style"):
        pipeline("a person", face=seen, preset="wild")


def test_without_a_pose_scale_the_pose_branch_is_left_out(pipeline, seen):
    calls = []
    hook = pipeline.controlnet.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        pipeline("a person", face=seen, controlnet_scale=0.0, **FEW)
        assert not calls
        pipeline("a person", face=seen, controlnet_scale=0.1, **FEW)
        assert len(calls) == 3
    finally:
        hook.remove()


def test_the_unconditional_side_has_no_face(pipeline, seen):
    """Both halves of the batch, as the UNet gets them: identity 0, features of a zero image and the negative prompt."""
    batches = []
    hook = pipeline.unet.register_forward_pre_hook(lambda _, given: batches.append(given[2]))
    try:
        pipeline("a person", face=seen, negative_prompt="blurred", **FEW)
    finally:
        hook.remove()
    text, (tokens,) = batches[0]
    with torch.no_grad():
        no_face = pipeline.projector(torch.zeros(1, 128), zero_image_features(pipeline.image_encoder))
        with_face = pipeline.projector(seen.identity, seen.clip_features)
        ids = pipeline.tokenizer(["blurred"], padding="max_length", max_length=77, return_tensors="pt").input_ids
        negative = pipeline.text_encoder(ids)[0]
    assert torch.allclose(tokens, torch.cat([no_face, with_face]), atol=1e-5)
    assert torch.allclose(text[0], negative[0], atol=1e-5)


def test_what_a_zero_image_gives_is_computed_once(own_pipeline):
    calls = []
    own_pipeline.image_encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    first = zero_image_features(own_pipeline.image_encoder)
    assert zero_image_features(own_pipeline.image_encoder) is first and len(calls) == 1
    assert first.shape == (1, 17, 64)


def test_two_faces_are_mixed_and_the_pose_is_the_first_ones(pipeline):
    first, second = some_face(0), some_face(3)
    pipeline.face_finder = Known({220: second})
    try:
        mixed = pipeline.encode_faces(some_photo(), [first], mix_with=some_photo(1), alpha=0.25)
    finally:
        pipeline.face_finder = None
    assert np.allclose(mixed.identity[0], 0.75 * first.identity + 0.25 * second.identity, atol=1e-6)
    alone = pipeline.encode_faces(some_photo(), [first])
    assert torch.equal(mixed.pose_map, alone.pose_map)
    assert not torch.equal(mixed.clip_features, alone.clip_features)


def test_a_box_chooses_in_the_first_photo_only_and_errors_say_which_photo_is_meant(own_pipeline):
    first, second = some_face(0), some_face(3)
    own_pipeline.face_finder = Known({220: [first, second], 200: [second], 100: []})
    asked = {"policy": "match_box", "box": first.box}
    mixed = own_pipeline.encode_faces(some_photo(), **asked, mix_with=some_photo(1)[:, :200], alpha=1)
    assert np.allclose(mixed.identity[0], second.identity)
    with pytest.raises(NoFaceError, match="the photo to mix in: no face"):
        own_pipeline.encode_faces(some_photo(), **asked, mix_with=some_photo()[:, :100])


class Known:
    """A face finder for generated photos: it knows the faces of each by the photo's width."""

    def __init__(self, faces):
        self.faces = faces

    def __call__(self, rgb):
        found = self.faces.get(rgb.shape[1], [])
        return found if isinstance(found, list) else [found]


def test_no_face_and_several_faces_are_told_with_the_photo(own_pipeline):
    small = Face([10, 10, 40, 40], np.full((5, 2), 25.0) + np.arange(10).reshape(5, 2), 0.99, some_face(4).identity)
    own_pipeline.face_finder = Known({220: [some_face(), small]})
    with pytest.raises(SeveralFacesError, match="photo 1: 2 faces"):
        own_pipeline("a person", [some_photo(), some_photo()], **FEW)
    with pytest.raises(NoFaceError, match="the photo: no face"):
        own_pipeline("a person", some_photo()[:, :100], **FEW)
    chosen = {
        policy: own_pipeline.encode_faces(some_photo(), policy=policy, box=[12, 8, 44, 40]).faces[0]
        for policy in ("largest", "highest_score", "match_box")
    }
    assert chosen["largest"].area > chosen["highest_score"].area == chosen["match_box"].area
    assert len(own_pipeline("a person", some_photo(), policy="match_box", box=[12, 8, 44, 40], **FEW).images) == 1


def test_wrong_input_is_refused_before_anything_is_drawn(own_pipeline, seen):
    with pytest.raises(ValueError, match="photo=..., or face="):
        own_pipeline("a person")
    with pytest.raises(ValueError, match="photo=..., or face="):
        own_pipeline("a person", some_photo(), seen)
    with pytest.raises(ValueError, match="set pipeline.face_finder"):
        own_pipeline("a person", some_photo())
    with pytest.raises(ValueError, match="128 numbers, the face has 512"):
        own_pipeline.encode_faces(some_photo(), [some_face(dimension=512)])


@pytest.mark.parametrize(
    ("photo", "words"),
    [
        ("photo.jpg", "str is neither"),
        (["photo.jpg"], "str is neither"),
        (some_photo()[..., 0], r"uint8 \(240, 220\)"),
        (some_photo() / 255, "float64"),
        (PIL.Image.fromarray(some_photo()[..., 0].astype(np.uint16) * 257), "more than 8 bits"),
    ],
)
def test_what_is_no_photo_is_refused_by_what_it_is(pipeline, photo, words):
    with pytest.raises(ValueError, match=words):
        pipeline.encode_faces(photo, [some_face()])


@pytest.mark.parametrize("count", ["num_inference_steps", "num_images_per_prompt"])
def test_nothing_at_all_cannot_be_drawn(pipeline, seen, count):
    with pytest.raises(ValueError, match="1 or more"):
        pipeline("a person", face=seen, **{count: 0})


def test_a_picture_does_not_depend_on_what_was_drawn_before_it_with_any_scheduler(own_pipeline, seen):
    """Euler's noise is as strong as the first of its steps, so the steps have to be set first."""
    own_pipeline.scheduler = EulerDiscreteScheduler.from_config(
        own_pipeline.scheduler.config, timestep_spacing="leading"
    )
    first = own_pipeline("a person", face=seen, **FEW).images
    assert np.array_equal(own_pipeline("a person", face=seen, **FEW).images, first)


def test_a_callback_sees_every_step_and_may_stop(pipeline, seen):
    steps = []

    def stop_at_2(self, index, timestep, tensors):
        steps.append((index, int(timestep), tensors["latents"].shape))
        self._interrupt = index == 1
        return {}

    pipeline("a person", face=seen, num_inference_steps=6, callback_on_step_end=stop_at_2)
    assert [step[0] for step in steps] == [0, 1]
    assert steps[0][1] > steps[1][1] and steps[0][2] == (1, 4, 8, 8)


def test_threads_with_other_scales_do_not_disturb_each_other(pipeline, seen):
    asked = [
        {"ip_scale": scale, "seed": seed, "num_inference_steps": 4 + seed}
        for seed, scale in enumerate((0.1, 1.0, 0.5, 0.9))
    ]
    expected = [pipeline("a person", face=seen, output_type="np", **options).images for options in asked]
    drawn = [None] * len(asked)

    def draw(place):
        drawn[place] = pipeline("a person", face=seen, output_type="np", **asked[place]).images

    threads = [threading.Thread(target=draw, args=(place,)) for place in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(one, other) for one, other in zip(expected, drawn, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_draws_nearly_the_same(own_pipeline, seen, dtype):
    full = own_pipeline("a person", face=seen, **FEW).images
    half = own_pipeline.to(dtype)("a person", face=seen, **FEW).images
    assert half.dtype == np.float32 and np.isfinite(half).all()
    assert np.abs(half - full).mean() < 0.05


def test_what_would_replace_the_faces_attention_is_refused(own_pipeline, seen):
    before = own_pipeline("a person", face=seen, **FEW).images
    with pytest.raises(NotImplementedError, match="slicing is not supported"):
        own_pipeline.enable_attention_slicing()
    with pytest.raises(NotImplementedError, match="xFormers is not supported"):
        own_pipeline.unet.enable_xformers_memory_efficient_attention()
    assert np.abs(own_pipeline("a person", face=seen, **FEW).images - before).max() < 1e-5
