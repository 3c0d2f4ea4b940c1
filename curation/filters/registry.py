"""The filters of a recipe, with their model files found and checked."""

from __future__ import annotations

from common.decode import ImageLimits
from common.weights import resolve
from curation.filters.anime import Anime
from curation.filters.base import Filter
from curation.filters.faces import Faces
from curation.filters.grayscale import Grayscale
from curation.filters.text import Text
from curation.recipe.recipe import PAPER_ORDER, FacesSettings, Recipe
from model.conditioning.detectors.detect import choose_detector


def build(recipe: Recipe, device: str = "cpu") -> dict[str, Filter]:
    """The four filters in the paper's order. Cheap: files are found and hashed, no model is loaded.

    Paths in the result are this machine's: on a cluster each worker builds its own. `device`: where filters
    that can use a GPU run their model, "cpu" or "gpu".

    Raises:
        WeightError: a model file is missing or is not the pinned one.
    """
    settings, limits = recipe.filters, recipe.images
    faces = build_faces(settings.faces, limits, recipe.weights, device)
    text_file = resolve(settings.text.model, recipe.weights)
    anime_file = resolve("lbp-animeface", recipe.weights)
    needed = {"faces": faces.fingerprint} if settings.anime.where == "faces" else {}
    made = (
        Grayscale(settings.grayscale, limits),
        Text(settings.text, limits, {"detector": text_file.path}, {"detector": text_file.sha256}, device=device),
        faces,
        Anime(settings.anime, limits, {"cascade": anime_file.path}, {"cascade": anime_file.sha256}, needed),
    )
    by_name = {one.name: one for one in made}
    return {name: by_name[name] for name in PAPER_ORDER}


def build_faces(settings: FacesSettings, limits: ImageLimits, folder: str | None, device: str = "cpu") -> Faces:
    """The faces filter alone; `folder`: model files, looked in first.

    Raises:
        WeightError: the detector's file, and its stand-in's, is missing or is not the pinned one.
    """
    detector, file = choose_detector(settings.model, settings.stand_in, folder, settings.file)
    files, hashes = {"detector": file.path}, {"detector": file.sha256}
    return Faces(settings, limits, files, hashes, device=device, detector=detector)
