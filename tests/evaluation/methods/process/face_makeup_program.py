"""Another model in another process: a tiny random Face-MakeUp, by the contract of docs/evaluation.md."""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[4]))

from common.pinned_files.weights import resolve
from generation.loading import load_model
from generation.options import ModelOptions
from model.build import random_pipeline
from model.conditioning.faces import NoFaceError
from model.config import load_config

with tempfile.TemporaryDirectory() as folder:
    random_pipeline(load_config("tiny"), resolve("clip-vocabulary").path).save_pretrained(folder)
    pipeline = load_model(ModelOptions(folder, device="cpu", dtype="fp32")).pipeline
for line in sys.stdin:
    asked = json.loads(line)
    try:
        face = pipeline.encode_faces(np.asarray(Image.open(asked["photos"][0])), policy="largest")
    except NoFaceError as error:
        Path(asked["failure"]).write_text(str(error))
        continue
    steps = asked["settings"]["steps"]
    drawn = pipeline(asked["prompt"], face=face, num_inference_steps=steps, seed=asked["seed"])
    drawn.images[0].save(asked["picture"])
