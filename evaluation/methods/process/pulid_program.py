"""The other end of `PuLid`: draws by the authors' pipeline. Run by path with the Python of PuLID's environment, 3.10.

Imports nothing of this project. Arguments: the authors' repository; --fetch only loads the models, which downloads what is not there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

LONGEST = 1024  # pixels of a photo that the authors' demo hands on


class Drawer:
    """The authors' pipeline; a person's embedding is made once."""

    def __init__(self, repository: Path):
        os.chdir(repository)  # the pipeline looks for models/ where it is started
        # in the place of this file's folder, whose modules are not to be found by what is imported now
        sys.path[0] = str(repository)
        import torch

        torch.set_grad_enabled(False)
        from pulid import attention_processor
        from pulid.pipeline import PuLIDPipeline
        from pulid.utils import resize_numpy_image_long, seed_everything

        self.torch, self.attention, self.pipeline = torch, attention_processor, PuLIDPipeline()
        self.resized, self.seed_everything = resize_numpy_image_long, seed_everything
        self.person: tuple[list[str], Any] = ([], None)

    def embedding(self, photos: list[str]) -> Any:
        """Of the first photo, and of the others what a face adds to it.

        Raises:
            RuntimeError: facexlib finds no face.
        """
        import numpy as np
        from PIL import Image

        if photos != self.person[0]:
            self.pipeline.debug_img_list = []  # it keeps every face for its demo
            arrays = [np.asarray(Image.open(photo).convert("RGB")) for photo in photos]
            found = [self.pipeline.get_id_embedding(self.resized(array, LONGEST)) for array in arrays]
            whole = self.torch.cat([found[0], *(other[:, :5] for other in found[1:])], dim=1)
            self.person = (photos, whole)
        return self.person[1]

    def draw(self, asked: dict[str, Any]) -> None:
        own = asked["settings"]
        faithful = own["mode"] == "fidelity"
        self.attention.NUM_ZERO = 8 if faithful else 16
        self.attention.ORTHO, self.attention.ORTHO_v2 = not faithful, faithful
        try:
            embedding = self.embedding(asked["photos"])
        except RuntimeError as error:
            if "align face" not in str(error):  # out of memory, ...: not the photo's fault
                raise
            Path(asked["failure"]).write_text(f"no face was found: {error}")
            return
        self.seed_everything(asked["seed"])
        size = (1, asked["height"], asked["width"])
        guidance, scale = own["guidance"], own["id_scale"]
        images = self.pipeline.inference(
            asked["prompt"], size, own["negative_prompt"], embedding, scale, guidance, own["steps"]
        )
        images[0].save(asked["picture"])


def main() -> None:
    fetch = "--fetch" in sys.argv[2:]
    if not fetch:
        os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is downloaded while pictures are drawn
    drawer = Drawer(Path(sys.argv[1]))
    if not fetch:
        for line in sys.stdin:
            drawer.draw(json.loads(line))


if __name__ == "__main__":
    main()
