"""The record comes back as it was written, out of every format; nothing else of the person gets into the file."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin
from pydantic import ValidationError

from generation.provenance import MIN_SIDE, Provenance, ProvenanceError, detect, read, save

ENDINGS = ["png", "jpg", "jpeg", "webp", "PNG"]
SHA = "3b1f" * 16
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"


def record(**fields) -> Provenance:
    given = dict(
        software="face-makeup",
        version="0.1.0",
        drawn_at=datetime(2026, 11, 22, 2, 12, 4, tzinfo=UTC),
        pipeline="FaceMakeUpPipeline",
        base_model="stable-diffusion-v1-5/stable-diffusion-v1-5",
        weights={"unet": SHA, "controlnet": SHA[::-1]},
        prompt='a smile, "red" lips\n\\ é 漢 😀 </x:xmpmeta> \x01',
        seed=2**63 - 1,
        scales={"guidance": 7.5, "identity": 0.1 + 0.2, "pose": 1e-9},
    )
    return Provenance(**(given | fields))


def drawn(height: int = 288, width: int = 320) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 200 // width + 20, y * 200 // height + 20, (x + y) % 64 + 90], -1).astype(np.uint8)


# -- the record --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
def test_comes_back_exactly(tmp_path, ending):
    saved = save(drawn(), tmp_path / f"face.{ending}", record())
    again = read(saved.path)
    assert again == saved.record
    assert again.canonical() == saved.record.canonical()
    assert again.model_copy(update={"watermark": record().watermark}) == record()


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_the_longest_prompt_fits_every_format(tmp_path, ending):
    long = record(prompt="😀" * 4000)
    assert read(save(drawn(), tmp_path / f"face.{ending}", long).path).prompt == long.prompt


def test_is_one_ascii_json_under_one_key(tmp_path):
    path = save(drawn(), tmp_path / "face.png", record()).path
    text = Image.open(path).info["face-makeup"]
    assert text.isascii()
    assert list(json.loads(text)) == ["face-makeup"]
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_other_programs_and_people_are_told(tmp_path, ending):
    path = save(drawn(), tmp_path / f"face.{ending}", record(software="a & <b>")).path
    with Image.open(path) as image:
        (described,) = ElementTree.fromstring(image.info["xmp"]).iter(f"{RDF}Description")
        exif = image.getexif()
        text = image.info["Description"] if ending == "png" else exif[ExifTags.Base.ImageDescription]
    assert described.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType") == (
        "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    )
    assert described.get("{http://ns.adobe.com/xap/1.0/}CreatorTool") == "a & <b> 0.1.0"
    assert "Drawn by a model" in text
    assert "unsigned" in text


def test_says_that_it_is_unsigned_and_cannot_say_otherwise(tmp_path):
    again = read(save(drawn(), tmp_path / "face.jpg", record()).path)
    assert again.signed is False
    assert "unsigned" in again.notice
    with pytest.raises(ValidationError, match="signed"):
        record(signed=True)


def test_time_is_utc_in_whole_seconds():
    elsewhere = datetime(2026, 11, 22, 4, 12, 4, 999, tzinfo=timezone(timedelta(hours=2)))
    assert record(drawn_at=elsewhere) == record()
    assert '"drawn_at":"2026-11-22T02:12:04Z"' in record().canonical()
    now = Provenance(software="a", version="1", pipeline="p", base_model="b", weights={}).drawn_at
    assert now.microsecond == 0
    with pytest.raises(ValidationError, match="timezone"):
        record(drawn_at=datetime(2026, 11, 22))


# -- privacy -----------------------------------------------------------------------------------------------------


def test_has_no_place_for_the_reference_photo_or_the_identity_vector():
    for name, value in {"reference": "photo.jpg", "identity": [0.1] * 512, "source_image": "photo.jpg"}.items():
        with pytest.raises(ValidationError, match=name):
            record(**{name: value})
    for keyed in ({"weights": {"/home/ann/unet": SHA}}, {"scales": {"/home/ann/photo.jpg": 1.0}}):
        with pytest.raises(ValidationError, match="pattern"):
            record(**keyed)


def test_a_folder_of_this_machine_is_cut_to_its_name():
    assert record(base_model="/home/ann/models/sd15").base_model == "sd15"
    assert record(base_model=r"C:\Users\ann\sd15").base_model == "sd15"


def test_the_prompt_is_there_only_if_it_was_given(tmp_path):
    path = save(drawn(), tmp_path / "face.png", record(prompt=None)).path
    assert "prompt" not in Image.open(path).info["face-makeup"]
    assert read(path).prompt is None


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_what_the_image_carries_is_not_written(tmp_path, ending):
    exif, text = Image.Exif(), PngImagePlugin.PngInfo()
    exif[ExifTags.Base.Artist] = "Ann at home"
    exif[ExifTags.Base.Orientation] = 6
    text.add_text("parameters", "Ann at home")
    source = io.BytesIO()
    Image.fromarray(drawn()).save(source, "PNG", exif=exif, pnginfo=text, icc_profile=b"Ann at home")
    saved = save(Image.open(source), tmp_path / f"face.{ending}", record())
    assert b"Ann at home" not in saved.path.read_bytes()
    with Image.open(saved.path) as image:
        assert image.size == (288, 320)  # turned upright, since the tag that says so is gone


# -- the mark ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_saved_picture_is_marked_and_says_so(tmp_path, ending):
    saved = save(drawn(), tmp_path / f"face.{ending}", record())
    assert (saved.watermarked, saved.note) == (True, "")
    assert "48 bits" in read(saved.path).watermark
    with Image.open(saved.path) as image:
        assert detect(np.asarray(image.convert("RGB"))).present


@pytest.mark.parametrize("height, width", [(64, 64), (MIN_SIDE - 1, 512), (1, 1)])
def test_too_small_gets_the_record_alone_and_says_so(tmp_path, height, width):
    rgb = drawn(height, width)
    saved = save(rgb, tmp_path / "face.png", record())
    assert not saved.watermarked
    assert saved.note == read(saved.path).watermark == f"none: {width} x {height} is below {MIN_SIDE}"
    assert (np.asarray(Image.open(saved.path)) == rgb).all()


def test_a_picture_that_cannot_keep_the_mark_is_saved_as_it_is_and_says_so(tmp_path):
    noise = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (256, 256, 3))
    saved = save(noise, tmp_path / "noise.png", record())
    assert not saved.watermarked
    assert saved.note == read(saved.path).watermark
    assert "of 48 bits hold" in saved.note
    assert (np.asarray(Image.open(saved.path)) == noise).all()


def test_can_be_switched_off(tmp_path):
    saved = save(drawn(), tmp_path / "face.png", record(), watermark=False)
    assert (saved.watermarked, saved.note) == (False, "none: switched off")
    assert (np.asarray(Image.open(saved.path)) == drawn()).all()


# -- what goes in ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_modes_that_are_rgb_without_loss_are_taken(tmp_path, mode):
    image = Image.fromarray(drawn()).convert(mode)
    saved = save(image, tmp_path / "face.png", record(), watermark=False)
    assert (np.asarray(Image.open(saved.path)) == np.asarray(image.convert("RGB"))).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "CMYK", "F"])
def test_modes_that_would_lose_something_are_refused(tmp_path, mode):
    with pytest.raises(ProvenanceError, match=f"face.png: an image of mode {mode} .* convert it to RGB first"):
        save(Image.new(mode, (300, 300)), tmp_path / "face.png", record())
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("pixels", [np.zeros((9, 9)), np.zeros((9, 9, 3), np.float32), np.zeros((0, 9, 3), np.uint8)])
def test_other_arrays_are_refused(tmp_path, pixels):
    with pytest.raises(ProvenanceError, match=r"face.png: the image is .*; give uint8 \(h, w, 3\) in RGB"):
        save(pixels, tmp_path / "face.png", record())


def test_other_endings_and_folders_are_refused_before_work(tmp_path):
    with pytest.raises(ProvenanceError, match=r"face.gif: .gif; use one of .png, .jpg"):
        save(drawn(), tmp_path / "face.gif", record())
    with pytest.raises(ProvenanceError, match="does not exist; make it first"):
        save(drawn(), tmp_path / "nowhere" / "face.png", record())


# -- reading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_picture_without_a_record_reads_none(tmp_path, ending):
    Image.fromarray(drawn()).save(tmp_path / f"plain.{ending}")
    assert read(tmp_path / f"plain.{ending}") is None


@pytest.mark.parametrize("comment", [b"ASCII\0\0\0holiday", b"ASCII\0\0\0" + b"[" * 60_000, b"UNICODE\0\xff\xff", b""])
def test_a_comment_of_somebody_else_reads_none(tmp_path, comment):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    Image.fromarray(drawn()).save(tmp_path / "photo.jpg", exif=exif)
    assert read(tmp_path / "photo.jpg") is None


@pytest.mark.parametrize(
    "text, said",
    [
        ('{"face-makeup":{"format":2}}', "format"),
        ('{"face-makeup":{"seed"', "record: Invalid JSON"),
        ('{"face-makeup":' + "[" * 50_000, "record: Invalid JSON"),
        ('{"face-makeup":{"signed":true}}', "signed"),
    ],
    ids=["of another version", "cut off", "nested", "signed"],
)
def test_a_damaged_record_is_an_error_that_names_the_file(tmp_path, text, said):
    info = PngImagePlugin.PngInfo()
    info.add_itxt("face-makeup", text)
    Image.fromarray(drawn()).save(tmp_path / "face.png", pnginfo=info)
    with pytest.raises(ProvenanceError, match=f"face.png: its record is damaged or of another version: .*{said}"):
        read(tmp_path / "face.png")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about EXIF that was cut
@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_no_bytes_make_reading_fail_otherwise(tmp_path, ending):
    whole = save(drawn(64, 64), tmp_path / f"face.{ending}", record()).path.read_bytes()
    random = np.random.default_rng(0)
    outcomes = set()
    for _ in range(300):
        data = bytearray(whole[: random.integers(1, len(whole))] if random.random() < 0.3 else whole)
        for at in random.integers(0, len(data), random.integers(1, 5)):
            data[at] = random.integers(256)
        (tmp_path / "broken").write_bytes(data)
        try:
            outcomes.add(type(read(tmp_path / "broken")))
        except ProvenanceError as error:
            assert "broken: " in str(error)
            outcomes.add(ProvenanceError)
    assert {Provenance, ProvenanceError} <= outcomes


def test_importing_needs_no_torch():
    code = "import sys, generation.provenance; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
