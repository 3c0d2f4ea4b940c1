"""The shards as others read them: webdataset, wids and datasets see the same samples."""

from __future__ import annotations

import io
import json

import numpy as np
from PIL import Image

from common.shard_format import publish_shard, write_tar
from common.storage import Storage
from tests.world import fork

EXPECTED_MEMBERS = ["jpg", "json", "txt", "identity.npy"]


def read_by_index(root, name="small") -> list[dict]:
    """Every sample by the sidecar's offsets alone: what the trainer does."""
    samples = []
    for sidecar in sorted((root / "shards" / name).glob("[0-9]*.json")):
        tar = sidecar.with_suffix(".tar").read_bytes()
        for entry in json.loads(sidecar.read_text())["index"]:
            assert list(entry["members"]) == EXPECTED_MEMBERS
            samples.append(
                {"id": entry["id"], **{key: tar[at : at + size] for key, (at, size) in entry["members"].items()}}
            )
    return samples


def assert_readers_agree(root, name="small") -> None:
    import datasets
    import webdataset as wds
    import wids

    expected = [(item["id"], item["txt"].decode()) for item in read_by_index(root, name)]
    tars = [str(path) for path in sorted((root / "shards" / name).glob("*.tar"))]
    stream = wds.WebDataset(tars, shardshuffle=False, empty_check=False).decode("pil")
    seen = []
    for sample in stream:
        assert sample["json"]["id"] == sample["__key__"]
        assert sample["jpg"].mode == "RGB"
        assert sample["identity.npy"].shape == (128,)
        seen.append((sample["__key__"], sample["txt"]))
    assert seen == expected

    table = datasets.load_dataset("webdataset", data_files={"train": tars}, split="train", cache_dir=str(root / "hf"))
    assert [(row["__key__"], row["txt"]) for row in table] == expected
    assert all(None not in row["json"].values() for row in table)

    index = [{"url": path, "nsamples": len(json.loads(open(path[:-4] + ".json").read())["index"])} for path in tars]
    indexed = wids.ShardListDataset(index, transformations=lambda sample: sample, cache_dir=str(root / "wids"))
    assert [(item["__key__"], item[".txt"].read().decode()) for item in indexed] == expected


def test_three_readers_see_the_same_samples(finished, tmp_path):
    root = fork(finished, tmp_path / "run", "shards")
    assert_readers_agree(root)


def test_odd_samples_may_stand_anywhere(finished, tmp_path):
    """A transcoded PNG, and an empty caption, as the first sample of a shard and as the last one."""
    samples = read_by_index(finished)
    records = [json.loads(item["json"]) for item in samples]
    for number, is_odd in enumerate((lambda r: r["source_format"] != "jpeg", lambda r: r["laion_caption"] == "")):
        (odd, *_), (*usual,) = (
            [item for item, r in zip(samples, records, strict=True) if is_odd(r) == so] for so in (1, 0)
        )
        for place, shard in enumerate(([odd, *usual[:5]], [*usual[5:10], odd])):
            with open(tmp_path / "local.tar", "wb") as file:
                index = write_tar(
                    file, ((item["id"], [(key, item[key]) for key in EXPECTED_MEMBERS]) for item in shard)
                )
            stem = f"shards/odd/{2 * number + place:05d}"
            publish_shard(Storage(tmp_path), stem, tmp_path / "local.tar", index, shard=0, content_hash="")
    assert_readers_agree(tmp_path, "odd")


def test_every_sample_is_what_it_says(finished):
    samples = read_by_index(finished)
    keys = {tuple(json.loads(item["json"])) for item in samples}
    assert len(keys) == 1, "the same keys in every sample"
    for item in samples:
        record = json.loads(item["json"])
        image = Image.open(io.BytesIO(item["jpg"]))
        assert image.format in ("JPEG", "MPO")
        turned = record["exif_orientation"] >= 5
        assert image.size == ((record["height"], record["width"]) if turned else (record["width"], record["height"]))
        x1, y1, x2, y2 = record["face_box"]
        assert 0 <= x1 < x2 <= record["width"] and 0 <= y1 < y2 <= record["height"]
        assert len(record["face_landmarks"]) == 10
        assert item["txt"].decode() == record["caption"] != ""
        identity = np.load(io.BytesIO(item["identity.npy"]))
        assert identity.dtype == np.float32 and abs(float(np.linalg.norm(identity)) - 1) < 1e-5
        if record["source_format"] == "jpeg":
            assert record["sha256"] == record["source_sha256"]
        assert isinstance(json.loads(record["text_boxes"]), list)


def test_the_caption_is_that_of_the_face(finished):
    """Of several captioned faces, the one whose box the chosen detection overlaps best."""
    from curation.filters.caption_box import iou
    from curation.run_directory.run import Run

    candidates = {row["id"]: row for row in Run(finished).read_tables("candidates/*.parquet").to_pylist()}
    several = 0
    for item in read_by_index(finished):
        record = json.loads(item["json"])
        if record["exif_orientation"] != 1:
            continue
        faces = candidates[item["id"]]["faces"]
        several += len(faces) > 1
        best = max(faces, key=lambda face: iou(*(np.array([box]) for box in (face["box"], record["face_box"])))[0])
        assert record["caption"] == best["caption"]
    assert several, "the small world has an image with two captioned faces"


def test_sizes_and_card_stand_beside_the_shards(finished):
    folder = finished / "shards" / "small"
    sizes = json.loads((folder / "sizes.json").read_text())
    assert sum(sizes.values()) == len(read_by_index(finished))
    assert set(sizes) == {path.name for path in folder.glob("*.tar")}
    assert "content recipe" in (folder / "README.md").read_text().lower()
