"""The architecture: parameters to the unit, FLOPs to a hundredth, what is trained, and what each branch sees."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from model.build import trained_parts
from model.checkpoints.on_model import checkpoint_of, load_into
from model.config import load_config
from model.face_unet import FaceUNet
from model.facemakeup import FaceMakeUp
from model.projector import FaceProjector


def count(parameters):
    return sum(parameter.numel() for parameter in parameters)


def built(config):
    return FaceMakeUp.from_unet(
        FaceUNet.from_config(config.unet), config.identity_dim, config.image_encoder["hidden_size"], config.lora_rank,
        pose_channels=config.pose_channels,
    )  # fmt: skip


@pytest.fixture(scope="module")
def sd15():
    with torch.device("meta"):
        return built(load_config("sd15"))


def test_parameters_are_those_of_the_paper_to_the_unit(sd15):
    assert count(sd15.unet.base_state().values()) == 859_520_964
    assert count(sd15.projector.parameters()) == 33_581_568
    assert count(sd15.unet.adapter_parameters()) == 44_679_168 == 25_509_888 + 19_169_280
    assert count(sd15.controlnet.parameters()) == 361_279_120
    assert count(parameter for _, parameter in sd15.trainable()) == 439_539_856


def test_the_projector_takes_any_identity_and_its_hidden_width_follows():
    with torch.device("meta"):
        small = FaceProjector(identity_dim=128)
    assert count(small.parameters()) == 30_729_984
    assert small.image_proj_state()["proj.0.weight"].shape == (256, 128)


def test_attentions_are_numbered_as_in_released_files(sd15):
    state = sd15.unet.ip_adapter_state()
    assert len(state) == 288
    widths = [state[f"{index}.to_q_lora.up.weight"].shape[0] for index in range(32)]
    assert widths == [320] * 4 + [640] * 4 + [1280] * 10 + [640] * 6 + [320] * 6 + [1280] * 2
    assert all((f"{index}.to_k_ip.weight" in state) == (index % 2 == 1) for index in range(32))
    names = list(sd15.unet.attn_processors)
    assert [names[0].split(".")[0], names[12].split(".")[0], names[30].split(".")[0]] == [
        "down_blocks",
        "up_blocks",
        "mid_block",
    ]


def test_a_training_step_costs_what_was_measured_of_the_published_model(sd15):
    """2.674 TFLOP an image of 512 pixels: 1.124 forward, 1.550 backward."""
    inputs = [
        torch.zeros(shape, device="meta")
        for shape in [(1, 4, 64, 64), (1,), (1, 77, 768), (1, 512), (1, 257, 1280), (1, 3, 512, 512)]
    ]
    with FlopCounterMode(display=False) as forward:
        prediction = sd15(*inputs)
    with FlopCounterMode(display=False) as backward:
        prediction.sum().backward()
    assert forward.get_total_flops() / 1e12 == pytest.approx(1.124, rel=0.01)
    assert (forward.get_total_flops() + backward.get_total_flops()) / 1e12 == pytest.approx(2.674, rel=0.01)
    sd15.zero_grad()


def step_inputs(batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, 4, 8, 8), (batch, 77, 128), (batch, 128), (batch, 17, 64), (batch, 3, 64, 64)]
    latents, text, identity, clip, pose = (torch.randn(shape, generator=generator) for shape in shapes)
    return latents, torch.tensor([10, 900])[:batch], text, identity, clip, pose.sigmoid()


def test_gradients_reach_all_that_is_trained_and_nothing_else(own_pipeline):
    trained = trained_parts(own_pipeline)
    trained(*step_inputs()).square().mean().backward()
    names = {name for name, _ in trained.trainable()}
    for name, parameter in trained.named_parameters():
        assert (parameter.grad is not None) == (name in names), name
    assert all(parameter.grad.abs().sum() > 0 for _, parameter in trained.trainable())


def test_a_fresh_adapter_without_its_face_tokens_is_the_stock_unet():
    config = load_config("tiny")
    torch.manual_seed(0)
    stock = UNet2DConditionModel.from_config(config.unet).eval()
    face_unet = FaceUNet.from_config(config.unet).eval()
    face_unet.load_state_dict(stock.state_dict())
    face_unet.attach(rank=8)
    face_unet.set_ip_scale(0.0)
    latents, timesteps, text, *_ = step_inputs()
    with torch.no_grad():
        tokens = torch.randn(2, 4, 128)
        theirs = stock(latents, timesteps, text).sample
        ours = face_unet(latents, timesteps, (text, [tokens])).sample
        face_unet.set_ip_scale(1.0)
        with_face = face_unet(latents, timesteps, (text, [tokens])).sample
    assert torch.equal(theirs, ours)
    assert (with_face - ours).abs().max() > 1e-3


def test_the_pose_branch_sees_the_face_and_not_the_text(pipeline):
    trained = trained_parts(pipeline)
    given = []
    hook = trained.controlnet.register_forward_pre_hook(
        lambda _, positional, named: given.append(named["encoder_hidden_states"].clone()), with_kwargs=True
    )
    try:
        with torch.no_grad():
            inputs = list(step_inputs())
            trained(*inputs)
            inputs[2] = inputs[2].roll(1, dims=0)
            trained(*inputs)
            inputs[3] = inputs[3].roll(1, dims=0)
            trained(*inputs)
    finally:
        hook.remove()
    first, other_text, other_face = given
    assert first.shape == (2, 4, 128)
    assert torch.equal(first, other_text)
    assert not torch.equal(first, other_face)


def test_a_checkpoint_taken_out_and_put_into_another_model_draws_the_same(own_pipeline):
    trained = trained_parts(own_pipeline)
    config = load_config("tiny")
    other = built(config)
    other.unet.load_state_dict(
        {
            name: value
            for name, value in own_pipeline.unet.state_dict().items()
            if "lora" not in name and "_ip" not in name
        },
        strict=False,
    )
    load_into(other, checkpoint_of(trained))
    with torch.no_grad():
        assert torch.equal(trained.eval()(*step_inputs()), other.eval()(*step_inputs()))


def test_a_unet_without_an_adapter_is_refused(own_pipeline):
    bare = FaceUNet.from_config(load_config("tiny").unet)
    with pytest.raises(ValueError, match="attach"):
        FaceMakeUp(bare, own_pipeline.controlnet, own_pipeline.projector)
    with pytest.raises(ValueError, match="already"):
        own_pipeline.unet.attach(rank=8)
