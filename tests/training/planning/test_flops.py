"""FLOPs of the published model to a hundredth, and GPUs by the names that CUDA gives them."""

from __future__ import annotations

import pytest
import torch

from model.config import load_config
from training.planning.flops import GPUS, Flops, _counted, flops_of, peak_flops, peak_flops_of_name, sizes_of

T = 1e12


def test_the_published_model_costs_what_was_measured():
    flops = flops_of(load_config("sd15"))
    measured = {"forward": 1.124, "backward": 1.550, "step": 2.674, "vae_encode": 1.117, "clip": 0.335, "text": 0.013}
    for part, value in measured.items():
        # of the text encoder only three decimals were written down
        assert getattr(flops, part) / T == pytest.approx(value, rel=0.01, abs=0.0005 if part == "text" else 0), part
    assert flops.encoders / T == pytest.approx(1.465, rel=0.01)
    assert flops.uncached / T == pytest.approx(4.139, rel=0.01)


def test_the_published_model_has_the_published_parameters():
    sizes = sizes_of(load_config("sd15"))
    assert (sizes.trained, sizes.unet) == (439_539_856, 859_520_964)
    assert sizes.image_encoder / 1e6 == pytest.approx(632.1, abs=0.1)
    assert sizes.text_encoder / 1e6 == pytest.approx(123.1, abs=0.1)
    assert sizes.vae_encoder / 1e6 == pytest.approx(34.2, abs=0.1)


def test_what_costs_is_counted_and_what_does_not_is_not():
    tiny = load_config("tiny")
    flops = flops_of(tiny)
    larger = flops_of(tiny.model_copy(update={"resolution": 128}))
    assert larger.vae_encode > 3 * flops.vae_encode and larger.step > 3 * flops.step
    assert (larger.clip, larger.text) == (flops.clip, flops.text)
    more = flops_of(tiny.model_copy(update={"lora_rank": 16}))
    assert more.forward > flops.forward and more.backward > flops.backward and more.vae_encode == flops.vae_encode
    before = _counted.cache_info().misses
    conditions = tiny.conditions.model_copy(update={"crop": "whole"})
    assert flops_of(tiny.model_copy(update={"name": "other", "conditions": conditions})) is flops
    assert _counted.cache_info().misses == before


def test_counting_draws_no_random_numbers():
    _counted.cache_clear()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert isinstance(flops_of(load_config("tiny")), Flops)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "bf16", "fp16", "fp32"),
    [
        ("NVIDIA A100-SXM4-80GB", 312, 312, 156),
        ("NVIDIA A100-SXM4-40GB", 312, 312, 156),
        ("NVIDIA A100-PCIE-40GB", 312, 312, 156),
        ("NVIDIA A100 80GB PCIe", 312, 312, 156),
        ("NVIDIA H100 80GB HBM3", 989, 989, 494),
        ("NVIDIA H100 PCIe", 756, 756, 378),
        ("NVIDIA H100 NVL", 835, 835, 417),
        ("NVIDIA H200", 989, 989, 494),
        ("NVIDIA L4", 121, 121, 60),
        ("NVIDIA L40S", 362.05, 362.05, 183),
        ("NVIDIA A10G", 70, 70, 35),
        ("Tesla V100-SXM2-16GB", None, 125, 15.7),
        ("Tesla V100-PCIE-32GB", None, 112, 14),
        ("Tesla V100S-PCIE-32GB", None, 130, 16.4),
        ("Tesla T4", None, 65, 8.1),
        ("NVIDIA GeForce RTX 3090", 71, 71, 35.6),
        ("NVIDIA GeForce RTX 4090", 165.2, 165.2, 82.6),
    ],
)
def test_a_gpu_is_known_by_its_name(name, bf16, fp16, fp32):
    for dtype, peak in (("bf16", bf16), ("fp16", fp16), ("fp32", fp32)):
        assert peak_flops_of_name(name, dtype) == (None if peak is None else pytest.approx(peak * T))


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA A10",
        "NVIDIA L40",
        "NVIDIA GH200 480GB",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "",
    ],
)
def test_a_slice_or_a_sibling_is_not_that_gpu(name):
    assert peak_flops_of_name(name, "bf16") is None


def test_no_gpu_has_more_than_one_row_and_a_cpu_has_no_peak():
    assert peak_flops(torch.device("cpu"), "fp32") is None
    assert all(gpu.fp16 > gpu.fp32 and (gpu.bf16 is None or gpu.bf16 == gpu.fp16) for gpu in GPUS.values())
