"""Which samples a run never trains on: the photos that its drawings are judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.data.index import ShardIndex
from training.recipe import Evaluation, RecipeError

Place = tuple[int, int]  # of a sample: shard, position


@dataclass(frozen=True)
class HeldOut:
    """`references`: drawn from; `targets`: of each, another photo of the same person, None where none is known."""

    references: tuple[Place, ...] = ()
    targets: tuple[Place | None, ...] = ()

    @property
    def places(self) -> frozenset[Place]:
        return frozenset(self.references) | {place for place in self.targets if place is not None}


def held_out_of(index: ShardIndex, asked: Evaluation) -> HeldOut:
    """The same for all ranks and all steps: photos with another photo of their person first, then some at equal distances.

    `asked.every` does not count: whether a run is looked at changes no sample that it sees.

    Raises:
        RecipeError: half of the samples would be held out.
    """
    if not asked.references:
        return HeldOut()
    if 2 * asked.references >= index.samples:
        raise RecipeError(
            f"evaluation.references is {asked.references} of {index.samples} samples: hold out fewer than half of them"
        )
    here = index.find({*asked.other_photos, *asked.other_photos.values()})
    chosen = {here[name]: here[other] for name, other in asked.other_photos.items() if name in here and other in here}
    targets: dict[Place, Place | None] = dict(list(chosen.items())[: asked.references])
    taken = {*targets, *targets.values()}
    lacking = asked.references - len(targets)
    for middle in ((np.arange(lacking) + 0.5) * index.samples / max(1, lacking)).astype(int):
        near = index.places(np.arange(middle, middle + len(taken) + 1) % index.samples)
        place = next(place for place in near if place not in taken)
        targets[place] = None
        taken.add(place)
    return HeldOut(tuple(targets), tuple(targets.values()))
