"""Real photos and filters with real weights, made once a session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from common.decode import Picture
from curation.filters.base import Filter
from curation.recipe import recipe
from tests.real_photos import photo, yolov5_face  # noqa: F401  (fixtures)


@pytest.fixture(scope="session")
def make() -> Callable[..., Filter]:
    """`make("text", max_side=480)`: that filter of a recipe with these settings. CenterFace where needed."""

    @cache
    def made(name: str, items: tuple[tuple[str, Any], ...]) -> Filter:
        filters = {"faces": {"stand_in": "centerface"}}
        filters[name] = {**filters.get(name, {}), **dict(items)}
        return recipe_with(filters).open_filters()[name]

    return lambda name, **settings: made(name, tuple(sorted(settings.items())))


def recipe_with(filters: dict[str, Any], **more: Any) -> recipe.Recipe:
    return recipe.parse(
        {"name": "test", "sources": {"facecaption": ["x"]}, "select": {"count": 1}, "filters": filters, **more}
    )


@pytest.fixture(scope="session")
def make_recipe() -> Callable[..., recipe.Recipe]:
    return recipe_with


@pytest.fixture(scope="session")
def assert_rows_stand_alone() -> Callable[..., None]:
    """A row's evidence is bit-equal alone, among others of its size, among other sizes, and at another place."""

    def check(one: Filter, pictures: list[Picture], needed: dict[str, pa.Table] | None = None) -> None:
        needed = needed or {}
        alone = [
            one.score([picture], {name: table.slice(i, 1) for name, table in needed.items()})
            for i, picture in enumerate(pictures)
        ]
        together = one.score(pictures, needed)
        order = list(reversed(range(len(pictures))))
        turned = one.score([pictures[i] for i in order], {name: table.take(order) for name, table in needed.items()})
        assert together.schema.equals(pa.schema(one.columns))
        for i, row in enumerate(alone):
            assert together.slice(i, 1).to_pylist() == row.to_pylist()
            assert turned.slice(len(pictures) - 1 - i, 1).to_pylist() == row.to_pylist()

    return check


@pytest.fixture(scope="session")
def picture_of() -> Callable[[np.ndarray], Picture]:
    """A picture of these pixels, uint8 (h, w, 3)."""
    return lambda rgb: Picture(rgb, rgb.shape[1], rgb.shape[0], 1, "png")
