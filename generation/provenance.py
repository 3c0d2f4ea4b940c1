"""What says that a picture was drawn by a model, and how: a record in the file, an invisible mark in the pixels.

The record is one JSON text under one key: an iTXt chunk in PNG, the EXIF UserComment in JPEG and WebP. Beside it stand
IPTC's DigitalSourceType (`trainedAlgorithmicMedia`, in XMP), which other programs look for, and a sentence for people.

**Nothing is signed.** Anybody can strip the record and wash out the mark, and anybody can put both on a photo or write
a record that lies. They tell the honest; they prove nothing. A signature (C2PA) needs a certificate of your own.

Privacy: a record has no field for the reference photo's path or its identity vector and takes no fields of others;
what the picture that is saved carries itself (EXIF, GPS, colour profile, text) is not written.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Literal
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import ExifTags, Image, ImageOps, PngImagePlugin
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from generation.watermark import BITS, MIN_SIDE, Detection, detect, mark

__all__ = ["MIN_SIDE", "Detection", "Provenance", "ProvenanceError", "SavedPicture", "detect", "mark", "read", "save"]

KEY = "face-makeup"  # of PNG's iTXt chunk, and of the JSON object that holds the record
NOTICE = (
    "Drawn by a model, not photographed. This record is unsigned: anybody can strip it, change it or write a false one."
)
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP_CHUNK = "XML:com.adobe.xmp"
ASCII = b"ASCII\0\0\0"  # EXIF 2.3, 4.6.5: the character code that a UserComment begins with
QUALITY = 95
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
LOSSLESS_TO_RGB = {"RGB", "L", "1", "P"}

Name = Annotated[str, StringConstraints(pattern=r"^[\w.+ -]{1,100}$")]  # no slash: not a path
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ProvenanceError(ValueError):
    """A picture that cannot be saved or whose record cannot be read; the message names the file and the remedy."""


class Provenance(BaseModel):
    """How a picture was drawn. Unsigned: a claim of whoever wrote the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal[1] = Field(1, description="version of this record's fields")
    software: str = Field(min_length=1, max_length=100)
    version: str = Field(min_length=1, max_length=100)
    drawn_at: AwareDatetime = Field(
        default_factory=lambda: datetime.now(UTC), validate_default=True, description="in UTC, whole seconds"
    )
    pipeline: str = Field(min_length=1, max_length=100, description="class of the pipeline")
    base_model: str = Field(
        min_length=1, max_length=200, description="hub or folder name; of an absolute path only the last part is kept"
    )
    weights: dict[Name, Sha256] = Field(max_length=32, description="component -> sha256 of its file")
    prompt: str | None = Field(None, max_length=4000, description="only if whoever draws gives it")
    seed: int | None = None
    scales: dict[Name, float] = Field(default_factory=dict, max_length=32, description="guidance, identity, pose, ...")
    watermark: str = Field("none: not saved yet", description="what is in the pixels; written by `save`")
    signed: Literal[False] = Field(False, description="always: anybody can strip or forge this record")
    notice: str = Field(NOTICE, max_length=500, description="for people who look into the file: it is unsigned")

    @field_validator("drawn_at")
    @classmethod
    def _in_utc(cls, moment: datetime) -> datetime:
        return moment.astimezone(UTC).replace(microsecond=0)

    @field_validator("base_model")
    @classmethod
    def _without_the_machine(cls, name: str) -> str:
        for path in (PurePosixPath(name), PureWindowsPath(name)):
            if path.is_absolute():
                return path.name or name
        return name

    def canonical(self) -> str:
        """The one spelling that is written: ASCII JSON, sorted keys, no spaces, without what is None."""
        fields = self.model_dump(mode="json", exclude_none=True)
        return json.dumps({KEY: fields}, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


_FILE = TypeAdapter(dict[Literal[KEY], Provenance])


@dataclass(frozen=True)
class SavedPicture:
    """`record`: as it stands in the file; `note`: why there is no watermark, or "" """

    path: Path
    watermarked: bool
    note: str
    record: Provenance


def save(image: Image.Image | np.ndarray, path: str | Path, record: Provenance, watermark: bool = True) -> SavedPicture:
    """Write the picture with its record, and with the mark where it holds.

    The mark is looked for in what was encoded: a picture that does not keep it is written without, and the record
    and `note` say so. Below `MIN_SIDE` and with `watermark=False` only the record is written. Appears at once or
    not at all.

    Args:
        image: an opaque PIL image, or uint8 (h, w, 3).
        path: ends in .png, .jpg, .jpeg or .webp; its folder is there. An existing file is replaced.

    Raises:
        ProvenanceError: another ending, no such folder, transparency, another type of pixels.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise ProvenanceError(f"{path}: the folder {path.parent} does not exist; make it first")
    data, saved = encoded(image, path, record, watermark)
    partial = path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.{os.getpid()}.part")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return saved


def encoded(
    image: Image.Image | np.ndarray, path: Path, record: Provenance, watermark: bool = True
) -> tuple[bytes, SavedPicture]:
    """What `save` would write, and what it would tell; its arguments, of `path` the ending."""
    if path.suffix.lower() not in FORMATS:
        raise ProvenanceError(f"{path}: {path.suffix or 'no ending'}; use one of {', '.join(FORMATS)}")
    file_format = FORMATS[path.suffix.lower()]
    rgb = _rgb(image, path)
    height, width = rgb.shape[:2]
    note, data = "", b""
    if not watermark:
        note = "none: switched off"
    elif min(height, width) < MIN_SIDE:
        note = f"none: {width} x {height} is below {MIN_SIDE}"
    else:
        marked = record.model_copy(
            update={"watermark": f"spread spectrum, {BITS} bits, detect with generation.provenance"}
        )
        data = _encode(mark(rgb), file_format, marked)
        found = detect(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
        if found.present:
            record = marked
        else:
            note = f"none: only {found.bits_matching} of {found.bits} bits hold in this picture"
    if note:
        record = record.model_copy(update={"watermark": note})
        data = _encode(rgb, file_format, record)
    return data, SavedPicture(path, not note, note, record)


def read(path: str | Path) -> Provenance | None:
    """The record of a PNG, JPEG or WebP file, without decoding its pixels; None if it has none of ours.

    Raises:
        OSError: the file cannot be read.
        ProvenanceError: not such a picture, or a record of ours that was damaged or is of another version.
    """
    data = Path(path).read_bytes()
    try:
        with Image.open(io.BytesIO(data), formats=sorted(set(FORMATS.values()))) as image:
            text = image.info.get(KEY) if image.format == "PNG" else _user_comment(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ProvenanceError(f"{path}: not a PNG, JPEG or WebP picture that can be read ({error})") from error
    if not isinstance(text, str) or not text.startswith(f'{{"{KEY}":'):
        return None
    try:
        return _FILE.validate_json(text)[KEY]
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'][1:])) or 'record'}: {e['msg']}" for e in error.errors())
        raise ProvenanceError(f"{path}: its record is damaged or of another version: {wrong}") from error


def _rgb(image: Image.Image | np.ndarray, path: Path) -> np.ndarray:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ProvenanceError(f"{path}: the image is {image.dtype} {image.shape}; give uint8 (h, w, 3) in RGB")
        return image
    if image.mode not in LOSSLESS_TO_RGB or image.has_transparency_data:
        raise ProvenanceError(f"{path}: an image of mode {image.mode} cannot be kept as it is; convert it to RGB first")
    # the EXIF that would turn it is not written
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def _encode(rgb: np.ndarray, file_format: str, record: Provenance) -> bytes:
    software = f"{record.software} {record.version}"
    xmp = _xmp(software)
    out = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    if file_format == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt(KEY, record.canonical())
        info.add_itxt("Software", software)
        info.add_itxt("Description", NOTICE)
        info.add_itxt(XMP_CHUNK, xmp.decode())
        picture.save(out, "PNG", pnginfo=info)
        return out.getvalue()
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = software
    exif[ExifTags.Base.ImageDescription] = NOTICE
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = ASCII + record.canonical().encode("ascii")
    options = {"subsampling": 0} if file_format == "JPEG" else {}
    picture.save(out, file_format, quality=QUALITY, exif=exif, xmp=xmp, **options)
    return out.getvalue()


def _user_comment(image: Image.Image) -> str | None:
    comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    if not isinstance(comment, bytes) or not comment.startswith(ASCII):
        return None
    return comment[len(ASCII) :].decode("ascii", errors="replace")


def _xmp(software: str) -> bytes:
    """ISO 16684-1 packet with IPTC Photo Metadata's DigitalSourceType."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f'xmp:CreatorTool={quoteattr(software)} Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()
