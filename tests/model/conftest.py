"""The tiny model, once; its adapter and pose branch set to random numbers, or nothing that they do would be seen."""

from __future__ import annotations

import os

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import pytest
import torch

from model.build import random_pipeline, trained_parts
from model.conditioning.faces import Face
from model.config import load_config
from tests.real_photos import photo  # noqa: F401  (a fixture)


@pytest.fixture(scope="session")
def vocabulary():
    from common.pinned_files.weights import resolve

    return resolve("clip-vocabulary").path


def shaken(pipeline, seed=1):
    """The pipeline with every trained number random: fresh LoRA and ControlNet outputs are zero, and hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in trained_parts(pipeline).trainable():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def pipeline(vocabulary):
    """Only to be drawn with."""
    return shaken(random_pipeline(load_config("tiny"), vocabulary))


@pytest.fixture
def own_pipeline(vocabulary):
    """A pipeline that a test may change."""
    return shaken(random_pipeline(load_config("tiny"), vocabulary))


def some_face(seed=0, dimension=128):
    vector = np.random.default_rng(seed).standard_normal(dimension).astype(np.float32)
    points = np.array([[90, 100], [130, 100], [110, 125], [95, 150], [125, 150]], np.float32) + seed
    return Face(np.array([60, 60, 160, 180]), points, 0.9, vector / np.linalg.norm(vector))


def some_photo(seed=0):
    """uint8 (240, 220, 3): smooth colours, so that where it is cut can be seen."""
    coarse = np.random.default_rng(seed).integers(0, 255, (12, 11, 3), dtype=np.uint8)
    return coarse.repeat(20, axis=0).repeat(20, axis=1)


@pytest.fixture(scope="session")
def seen(pipeline):
    """Conditions of one face."""
    return pipeline.encode_faces(some_photo(), [some_face()])
