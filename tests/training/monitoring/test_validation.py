"""The fixed panel: the same samples and noise at every step, what each condition is worth, and pictures of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.ranks import assert_same_run, log_of, recipe_for, run_ranks
from training.assembly import assemble, open_data
from training.monitoring.validation import CONDITIONS, DECILES, Panel, never_given
from training.recipe import ConditionDropout
from training.resume import _must_be_equal, facts_of


def parts_of(shards, base, **changes):
    return assemble(recipe_for(shards, base, **changes), 0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def parts(shards, base):
    """With every trained number random: fresh ones give every condition the worth of nothing."""
    parts = parts_of(shards, base)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in parts.model.trainable():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    parts.model.eval()
    return parts


def test_what_is_always_dropped_is_not_given_here_either():
    assert never_given(ConditionDropout()) == set()
    assert never_given(ConditionDropout(face=1.0)) == {"identity", "clip"}
    assert never_given(ConditionDropout(everything=1.0, pose=0.5)) == {"text", "identity", "clip"}
    assert never_given(ConditionDropout(text=1.0, pose=1.0)) == {"text", "pose"}


def test_losses_are_a_function_of_the_weights_alone(parts, shards, base):
    one, other = Panel(parts, 6), Panel(parts_of(shards, base, seed=5), 6, chunk=2)
    assert len(one.losses(parts.model)) == DECILES
    assert one.losses(parts.model) == pytest.approx(other.losses(parts.model), rel=1e-5)
    assert one.losses(parts.model) == one.losses(parts.model)
    assert one.batch.ids == other.batch.ids and len(set(one.batch.ids)) == 6


def test_every_condition_that_the_model_reads_is_worth_something(parts):
    worth = Panel(parts, 8).worth(parts.model)
    assert worth.keys() == CONDITIONS.keys()
    assert all(abs(value) > 1e-6 for value in worth.values()), worth


def test_what_the_recipe_drops_now_and_then_is_always_in_the_panel(shards, base):
    batch = Panel(parts_of(shards, base, objective__condition_dropout={"clip_features": 0.9}), 6).batch
    assert batch.keep_clip.all() and all(seen.any() for seen in batch.clip_pixels)


def test_a_condition_that_is_never_given_is_worth_nothing_and_not_told(parts, shards, base):
    only = parts_of(
        shards, base, objective__condition_dropout={"text": 1.0, "identity": 1.0, "pose": 1.0, "clip_features": 0.0}
    )
    panel = Panel(only, 4)
    assert panel.given == ["clip"]
    assert list(panel.worth(parts.model)) == ["clip"]
    inputs = panel.inputs
    assert not inputs.identity.any() and not inputs.pose_map.any() and (inputs.text == inputs.text[:1]).all()
    assert not (inputs.clip_features == inputs.clip_features[:1]).all()


def test_alike_is_measured_where_the_pose_was_asked_for(parts, monkeypatch):
    """The photo itself has its own identity; any other picture has not."""
    panel = Panel(parts, 4)
    photos = ((panel.batch.image + 1) / 2).permute(0, 2, 3, 1).numpy()

    class Mean:
        """Of the face's colours: what a recogniser sees, in three numbers."""

        def embed(self, rgb, box, landmarks):
            left, top, right, bottom = np.clip(box, 0, rgb.shape[0]).round().astype(int)
            assert right - left > 5 and bottom - top > 5 and landmarks.shape == (5, 2)
            vector = rgb[top:bottom, left:right].reshape(-1, 3).mean(0) - 127.0
            return vector / np.linalg.norm(vector)

    places = range(len(photos))
    identities = [
        Mean().embed((photos[p] * 255).round().astype(np.uint8), *panel._face(*panel.samples[p])) for p in places
    ]
    monkeypatch.setattr(panel.batch, "identity", torch.tensor(np.stack(identities)))
    own = panel.alikeness(photos, Mean())
    assert own["drawn"] == pytest.approx(1) and own["photo"] == pytest.approx(1) and own["embedded"] == 1
    assert own["others"] < 0.999
    swapped = panel.alikeness(np.roll(photos, -1, 0), Mean())
    assert swapped["drawn"] < swapped["photo"]


def test_a_run_does_not_go_on_with_other_photos_held_out(parts, shards, base):
    """But how often it is looked at, and by which prompts, may change."""
    manifest = facts_of(recipe_for(shards, base), parts)
    looked_at = recipe_for(shards, base, evaluation={"references": 2, "every": 1, "prompts": ["a"]})
    differing = [name for name, before, now in _must_be_equal(manifest, looked_at, parts) if before != now]
    assert differing == ["evaluation.references"]
    again = looked_at.model_copy(
        update={"evaluation": looked_at.evaluation.model_copy(update={"every": 7, "prompts": [""]})}
    )
    assert all(before == now for _, before, now in _must_be_equal(facts_of(looked_at, parts), again, parts))


def drawn_by(out):
    with Image.open(out / "pictures" / "panel-000000002.png") as picture:
        assert picture.size == (3 * 64, 2 * 64)
        return np.asarray(picture)[:, 2 * 64 :].astype(int)


def failing_later():
    """An evaluation that answers once, and then stumbles each time."""
    calls = []

    def evaluate(pictures, references, targets, prompts, conditioned_on):
        calls.append(prompts)
        if len(calls) > 1:
            raise RuntimeError("no more")
        assert len(pictures) == len(references) == len(targets) == len(prompts) == 4
        assert pictures[0].shape == (64, 64, 3) and references[0][0].shape == (512, 512, 3)
        assert prompts[0].startswith("a made face") and prompts[2:] == ["in the snow"] * 2
        inside = [(seen[1].landmarks > 0).all() and (seen[1].landmarks < 512).all() for seen in references]
        assert all(inside) and all(target is not None for target in targets)
        return {"mean": (float(np.mean(pictures)), "of all"), "none": (None, f"made for {conditioned_on}")}

    return evaluate


def not_seen_in(recipe, steps):
    """Ids of samples that no step until then sees: holding them out changes no bit of such a run."""
    index, order, _ = open_data(recipe, 1)
    slots = np.arange(recipe.batch.size)
    seen = {place for t in range(steps) for place in zip(*order.slots(t, slots), strict=True)}
    places = [(shard, position) for shard in range(len(index)) for position in range(index.counts[shard])]
    return [index.id(*place) for place in places if place not in seen]


def test_a_run_draws_its_panel_whatever_the_engine(shards, base, tmp_path, two_steps):
    """Under stage 3 no rank has whole weights: all draw together, and it is the same picture. Drawing and evaluating change
    no bit of what is trained, and an evaluation that fails ends no run."""
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    one, other, third, fourth = not_seen_in(recipe_for(shards, base), 2)[:4]
    evaluation = {
        "every": 1,
        "references": 2,
        "inference_steps": 2,
        "prompts": ["", "in the snow"],
        "other_photos": {one: other, third: fourth},
    }
    monitoring = {
        "monitoring__validation_samples": 2,
        "monitoring__validate_every": 2,
        "monitoring__inference_steps": 2,
        "evaluation": evaluation,
    }
    run_ranks(recipe_for(shards, base, steps=2, engine__zero=2, **monitoring), whole, evaluate=failing_later())
    monitoring["evaluation"] |= {"every": 2, "prompts": [""]}
    run_ranks(
        recipe_for(shards, base, steps=2, engine__zero=3, **monitoring), parted, world=2,
        evaluate=lambda pictures, *_: {"mean": (float(np.mean(pictures)), "of all")},
    )  # fmt: skip
    for out in (whole, parted):
        rows = log_of(out, "validation")
        assert [row["step"] for row in rows] == [0, 2]
        assert all(f"worth_{name}" in rows[0] for name in CONDITIONS) and len(rows[0]["by_timestep"]) == DECILES
    first, failed = log_of(whole, "evaluation")
    assert first["step"] == 0 and first["mean"] > 0 and first["none"] is None
    assert first["says"] == {"mean": "of all", "none": "made for dlib"}
    assert failed["step"] == 1 and failed["failed"] == "RuntimeError: no more", "and at step 2 it is not said again"
    assert len(list((whole / "pictures").glob("held-out-*.png"))) == 3
    assert "RuntimeError: no more" in (whole / "run.html").read_text()
    assert [row["step"] for row in log_of(parted, "evaluation")] == [0, 2]
    assert_same_run(whole, two_steps)
    assert drawn_by(whole).std() > 1
    assert np.abs(drawn_by(whole) - drawn_by(parted)).max() <= 2
