"""Builds everything that a run is made of out of its recipe: model, encoders, shards, order; says what does not fit."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler

from model.build import base_parts, trained_parts
from model.checkpoints.on_model import pipeline_with_checkpoint
from model.config import ModelConfig, load_config
from model.dtypes import torch_dtype
from model.facemakeup import FaceMakeUp
from model.pipeline import FaceMakeUpPipeline
from training.batches import MicroBatches
from training.data.held_out import HeldOut, held_out_of
from training.data.index import ShardIndex, read_index
from training.data.order import Order
from training.data.sample import Preparation
from training.data.shards import Shards
from training.encoder_cache.opening import open_caches
from training.encoder_cache.reading import EncodedShards, FrozenEncoders, weights_hash
from training.encoders import Encoders
from training.recipe import RecipeError, TrainRecipe

MEMBERS = ("jpg", "json", "txt", "identity.npy")


@dataclass
class RunParts:
    """Of one rank. `pipeline` shares the model's modules, for drawing; `frozen`: sha256 of the weights of each part that is
    not trained. By kind of encoder output, `cache_notes`: from where it is read, or why it is computed; `cache_folders`: the
    folder that is read."""

    config: ModelConfig
    model: FaceMakeUp
    pipeline: FaceMakeUpPipeline
    encoders: Encoders
    index: ShardIndex
    shards: Shards
    batches: MicroBatches
    frozen: dict[str, str]
    cache_notes: dict[str, str]
    cache_folders: dict[str, str | None]
    held_out: HeldOut


def assemble(
    recipe: TrainRecipe, rank: int, world: int, device: torch.device, before: dict[str, str | None] | None = None
) -> RunParts:
    """Build everything. `before`: what a run that goes on has read of the encoder cache so far (`RunParts.cache_folders`).

    Raises:
        RecipeError, ShardError, CheckpointError, ValueError: what does not fit, before any step.
    """
    index, order, shards = open_data(recipe, world)
    config = load_config(recipe.model)
    index.expect(extensions=MEMBERS, identity_dim=config.identity_dim, encoder=config.conditions.identity_encoder)
    pipeline = open_pipeline(recipe, config)
    model = trained_parts(pipeline).train()
    if recipe.engine.gradient_checkpointing:
        model.unet.enable_gradient_checkpointing()
        model.controlnet.enable_gradient_checkpointing()
    if recipe.engine.channels_last:  # the model's own: training/engine.py
        pipeline.vae.to(memory_format=torch.channels_last)
        pipeline.image_encoder.to(memory_format=torch.channels_last)
    if recipe.engine.compile:
        for network in (model.unet, model.controlnet):
            for block in (*network.down_blocks, network.mid_block, *getattr(network, "up_blocks", ())):
                block.compile()
    # asked for before the encoders are cast: a key names their weights in fp32
    sources = FrozenEncoders(config, pipeline.vae, pipeline.image_encoder, pipeline.feature_extractor)
    frozen = frozen_hashes(pipeline, model)
    caches = open_caches(recipe, sources, shards, before)
    reader = caches.shards
    shards = reader.source if isinstance(reader, EncodedShards) else reader
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    encoders = Encoders(
        pipeline.vae, pipeline.text_encoder, pipeline.image_encoder, pipeline.tokenizer, scheduler, device,
        torch_dtype(recipe.engine.dtype), recipe.objective.noise_offset,
    )  # fmt: skip
    ready = Preparation(
        conditions=config.conditions,
        size=config.resolution,
        identity_dim=config.identity_dim,
        tokenizer=pipeline.tokenizer,
        processor=pipeline.feature_extractor,
        dropout=recipe.objective.condition_dropout,
        timesteps=scheduler.config.num_train_timesteps,
        latent_channels=pipeline.vae.config.latent_channels,
        latent_factor=pipeline.vae_scale_factor,
    )
    here = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", world)))
    first = rank // here * here
    node_lanes = [lane for mate in range(first, min(first + here, world)) for lane in order.lanes_of(mate, world)]
    held_out = held_out_of(index, recipe.evaluation)
    batches = MicroBatches(
        reader, order, ready, recipe.seed, rank, world, recipe.batch.micro, node_lanes, held_out.places
    )
    return RunParts(
        config, model, pipeline, encoders, index, shards, batches, frozen, caches.notes, caches.folders, held_out
    )


def open_data(recipe: TrainRecipe, world: int) -> tuple[ShardIndex, Order, Shards]:
    """Index, order and reader of the shards, and whether this many ranks can see that order."""
    data, batch = recipe.data, recipe.batch
    index = read_index(data.shards, data.shard_cache)
    batch.check_layout(world, index.samples)
    order = Order(index.counts, seed=recipe.seed, lanes=batch.lanes, batch=batch.size, window=batch.window)
    return index, order, Shards(index, data.shard_cache, data.shard_cache_bytes)


def open_pipeline(recipe: TrainRecipe, config: ModelConfig) -> FaceMakeUpPipeline:
    """The base with the recipe's starting weights of what is trained, on the CPU, in fp32."""
    start = None
    if recipe.start_from:
        from model.checkpoints.reading import read

        start = read(recipe.start_from)
    torch.manual_seed(recipe.seed)  # of fresh LoRA and projector weights; nothing else draws from it
    places = base_parts(config, recipe.base)
    return pipeline_with_checkpoint(start, **places, conditions=config.conditions, **config.adapter)


def frozen_hashes(pipeline: FaceMakeUpPipeline, model: FaceMakeUp) -> dict[str, str]:
    """sha256 of the weights of what is not trained: checkpoints name them instead of holding them."""
    encoders = {name: getattr(pipeline, name).state_dict() for name in ("vae", "text_encoder", "image_encoder")}
    return {name: weights_hash(state) for name, state in {"unet": model.unet.base_state(), **encoders}.items()}


def device_of(recipe: TrainRecipe, local_rank: int) -> torch.device:
    """Of a rank.

    Raises:
        RecipeError: cuda was asked for and is not there.
    """
    wanted = recipe.engine.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RecipeError("engine.device is cuda and there is none here; take auto or cpu")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)
