"""A configuration is right before anything is built from it, or says which field is wrong."""

from __future__ import annotations

import pytest
import yaml

from common.settings import RecipeError
from model.config import CONFIGS, load_config


def changed(tmp_path, **fields):
    values = yaml.safe_load((CONFIGS / "tiny.yaml").read_text())
    for dotted, value in fields.items():
        place = values
        *parents, last = dotted.split("__")
        for parent in parents:
            place = place[parent]
        place[last] = value
    file = tmp_path / "changed.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def test_the_two_configurations_differ_in_size_and_not_in_kind():
    sd15, tiny = load_config("sd15"), load_config("tiny")
    assert sd15.unet.keys() <= tiny.unet.keys()
    assert sd15.scheduler == tiny.scheduler
    assert sd15.pretrained is not None and tiny.pretrained is None


def test_a_file_of_ones_own_is_read(tmp_path):
    assert load_config(changed(tmp_path, name="mine")).name == "mine"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"unet__cross_attention_dim": 100}, "multiple of 64"),
        ({"text_encoder__hidden_size": 64}, "text_encoder.hidden_size"),
        ({"vae__block_out_channels": [16, 32, 64]}, "vae.block_out_channels: 4 blocks"),
        ({"vae": {}}, "vae.block_out_channels: a list"),
        ({"unet": {"cross_attention_dim": 128}}, "unet.block_out_channels: a list"),
        ({"resolution": 72}, "resolution 72"),
        ({"lora_rnak": 4}, "lora_rnak"),
        ({"conditions__crop": "squash"}, "conditions.crop"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path, fields, words):
    with pytest.raises(RecipeError, match=words) as refusal:
        load_config(changed(tmp_path, **fields))
    assert "changed.yaml" in str(refusal.value)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(RecipeError, match="sd16: neither a file nor one of sd15, tiny"):
        load_config("sd16")
