"""The same filters as one would first write them in Ray Data: a chain of `map_batches`, one a filter, in the paper's order.

What a filter rejects goes no further. Either every link decodes the bytes anew, or the first decodes them and the pixels
travel from link to link through the object store.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from common.decode import Picture, decode
from curation.recipe.recipe import Recipe
from curation.run_directory.run import Run
from curation.run_directory.unit_bytes import UnitBytes
from curation.run_directory.units import Unit, fetched_images, units_of


class Link:
    """One filter, as an actor."""

    def __init__(self, recipe: Recipe, name: str):
        self.limits, self.thresholds = recipe.images, getattr(recipe.thresholds, name)
        self.filter = recipe.open_filters()[name]

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        pictures = [_picture(batch, row, self.limits) for row in range(len(batch["id"]))]
        passing = self.filter.verdict(self.filter.score(pictures, {}), self.thresholds) == 1
        return {name: values[passing] for name, values in batch.items()}


class Decoding:
    """The link that decodes, where the pixels travel."""

    def __init__(self, recipe: Recipe):
        self.limits = recipe.images

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        pictures = [decode(data, self.limits) for data in batch["bytes"]]
        pixels = np.empty(len(pictures), object)
        for row, picture in enumerate(pictures):
            pixels[row] = picture.rgb
        sizes = np.array([(picture.width, picture.height) for picture in pictures])
        return {"id": batch["id"], "pixels": pixels, "width": sizes[:, 0], "height": sizes[:, 1]}


def _picture(batch: dict[str, np.ndarray], row: int, limits: Any) -> Picture:
    if "bytes" in batch:
        return decode(batch["bytes"][row], limits)
    return Picture(batch["pixels"][row], int(batch["width"][row]), int(batch["height"][row]), 1, "jpeg")


def chain(run: Run, recipe: Recipe, snapshot: pa.Table, pixels_travel: bool) -> int:
    """How many images are left in the end."""

    def images(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        unit = Unit.of_row(row)
        fetched = fetched_images(run, unit)
        with UnitBytes(run, unit.tar, fetched, range(len(unit))) as data:
            for place in data.in_tar_order:
                yield {"id": unit.ids[place], "bytes": data.read(place)}

    names = list(recipe.open_filters())
    links = ([(Decoding, {"recipe": recipe})] if pixels_travel else []) + [
        (Link, {"recipe": recipe, "name": name}) for name in names
    ]
    units = [unit.as_row() for unit in units_of(run, snapshot)]
    dataset = ray.data.from_items(units, override_num_blocks=len(units)).flat_map(images, num_cpus=0.1)
    for link, arguments in links:
        dataset = dataset.map_batches(
            link, fn_constructor_kwargs=arguments, batch_size=recipe.score.batch, num_cpus=0.25,
            compute=ray.data.ActorPoolStrategy(size=1),
        )  # fmt: skip
    return sum(1 for _ in dataset.iter_rows())
