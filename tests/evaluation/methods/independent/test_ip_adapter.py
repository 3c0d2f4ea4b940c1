"""IP-Adapter-FaceID, -Plus and -PlusV2: the face's vector, features and tokens, every cross-attention and the latents
agree with a second implementation; each slip in it that is easily made does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from evaluation.methods.ip_adapter import IpAdapterFaceId, IpAdapterFaceIdPlus, IpAdapterFaceIdPlusV2
from tests.evaluation.methods.independent.ip_adapter import (
    DRAWING_SLIPS,
    FACE_SLIPS,
    PLUS_SLIPS,
    SHORTCUT_SLIPS,
    OwnIpAdapter,
)
from tests.evaluation.methods.independent.pairs import FAR, SAME, Pair, apart
from tests.evaluation.methods.twin_of import loaded_twins, twin_of
from tests.real_photos import photo  # noqa: F401

KINDS = {kind.name: kind for kind in (IpAdapterFaceId, IpAdapterFaceIdPlus, IpAdapterFaceIdPlusV2)}
PLUS = [IpAdapterFaceIdPlus.name, IpAdapterFaceIdPlusV2.name]
PROMPT, SEED = "a photo of a person in a park", 5
# no scale is 1, or a scale that is left out would not be seen
SETTINGS = {"steps": 3, "ip_scale": 0.7, "shortcut_scale": 0.8}


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, photo) -> dict[str, Pair]:  # noqa: F811
    twins = loaded_twins(list(KINDS.values()), tmp_path_factory, **SETTINGS)
    return {kind.name: Pair(twin, photo("astronaut").rgb) for kind, twin in twins.items()}


def second(pair: Pair, slip: str = "") -> OwnIpAdapter:
    return OwnIpAdapter(
        pair.files, pair.twin.settings, shortcut=isinstance(pair.twin, IpAdapterFaceIdPlusV2), slip=slip
    )


@pytest.fixture(scope="module")
def drawn(pairs) -> dict[str, tuple[torch.Tensor, list[torch.Tensor]]]:
    """What the methods drew, once for all comparisons."""
    return {name: pair.drawn(pair.face, PROMPT, SEED) for name, pair in pairs.items()}


@pytest.mark.parametrize("name", KINDS)
def test_the_vector_is_the_recognisers_at_unit_length(pairs, name):
    pair = pairs[name]
    assert apart(pair.face.identity, second(pair).identity(pair.rgb, pair.points)) < SAME


@pytest.mark.parametrize("name", PLUS)
@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_the_features_are_clips_before_its_last_layer(pairs, tmp_path, name, channels):
    pair = pairs[name]
    if channels != pair.twin.settings.clip_channels:
        twin = twin_of(KINDS[name], tmp_path, clip_channels=channels)
        twin.load()
        pair = Pair(twin, pair.rgb)
    assert apart(pair.face.features, second(pair).features(pair.rgb, pair.points)) < SAME


def test_the_plain_one_has_no_features(pairs):
    assert pairs[IpAdapterFaceId.name].face.features is None


@pytest.mark.parametrize("name", KINDS)
def test_the_tokens_agree(pairs, name):
    pair = pairs[name]
    assert apart(pair.twin.face_tokens(pair.face), second(pair).tokens(pair.rgb, pair.points)) < SAME


@pytest.mark.parametrize("name", KINDS)
def test_every_cross_attention_and_the_latents_agree(pairs, drawn, name):
    pair, (latents, outputs) = pairs[name], drawn[name]
    own = second(pair)
    own_latents, own_outputs = own.draw(own.tokens(pair.rgb, pair.points), PROMPT, SEED)
    assert len(outputs) == len(own_outputs) == 4 * SETTINGS["steps"]
    assert max(map(apart, outputs, own_outputs)) < SAME
    assert apart(latents, own_latents) < SAME


@pytest.mark.parametrize(
    ("name", "slip"),
    [
        *((name, slip) for name in KINDS for slip in FACE_SLIPS),
        *((name, slip) for name in PLUS for slip in PLUS_SLIPS),
        *((IpAdapterFaceIdPlusV2.name, slip) for slip in SHORTCUT_SLIPS),
    ],
)
def test_a_slip_with_the_face_shows_in_the_tokens_and_the_latents(pairs, drawn, name, slip):
    pair = pairs[name]
    own = second(pair, slip)
    tokens = own.tokens(pair.rgb, pair.points)
    assert apart(tokens, pair.twin.face_tokens(pair.face)) > FAR
    assert apart(own.draw(tokens, PROMPT, SEED)[0], drawn[name][0]) > FAR


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("slip", DRAWING_SLIPS)
def test_a_slip_in_drawing_shows_in_the_latents(pairs, drawn, name, slip):
    pair = pairs[name]
    tokens = second(pair).tokens(pair.rgb, pair.points)
    assert apart(second(pair, slip).draw(tokens, PROMPT, SEED)[0], drawn[name][0]) > FAR


def test_the_steps_are_ddims_whatever_the_base_says(tmp_path: Path, photo):  # noqa: F811
    """The authors set DDIM by hand: the bases that they name come with other samplers."""
    twin = twin_of(IpAdapterFaceId, tmp_path, **SETTINGS)
    base = twin.sources.named[f"{twin.name}.base"]
    index = Path(base) / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"scheduler": ["diffusers", "PNDMScheduler"]}))
    place = Path(base) / "scheduler" / "scheduler_config.json"
    other = {"_class_name": "PNDMScheduler", "set_alpha_to_one": True, "steps_offset": 0, "skip_prk_steps": True}
    place.write_text(json.dumps(json.loads(place.read_text()) | other))
    twin.load()
    pair = Pair(twin, photo("astronaut").rgb)
    own = second(pair)
    own_latents, _ = own.draw(own.tokens(pair.rgb, pair.points), PROMPT, SEED)
    assert apart(pair.drawn(pair.face, PROMPT, SEED)[0], own_latents) < SAME
