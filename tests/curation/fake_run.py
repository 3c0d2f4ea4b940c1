"""A small run directory that nobody ran: every table of docs/run-directory.md, drawn and counted by hand.

`build` gives a run that reconciles; `BREAKS` are the ways to make it lie, by the name of the identity that has to
notice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from common.hashing import sha256_of_bytes
from curation.cutting.judge import verdict_schema
from curation.filters.evidence import Evidence
from curation.filters.registry import check_class
from curation.recipe.recipe import parse
from curation.run_directory.run import Run
from curation.run_directory.scores import scores_table, write_unit
from curation.versions import RUN_FORMAT
from tests.curation.fake_images import FAILS, evidence, facts, picture

CHECKS = ("grayscale", "text", "faces", "caption_box", "anime")
FINGERPRINTS = {"grayscale": "a" * 12, "text": "b" * 12, "faces": "c" * 12, "anime": "d" * 12}
CUT, ENCODER, SNAPSHOT_HASH, PART = "fake", "e" * 12, "5" * 16, 20
VERDICTS, VERDICTS_BEFORE = f"cuts/{CUT}/verdicts/000001-000", f"cuts/{CUT}/verdicts"
HOSTS = ("photos.test", "cdn.images.test", "blog.test", "<img onerror=alert(1)>.test")
DEAD = {
    3: "http_404",
    9: "http_404",
    17: "http_403",
    25: "timeout",
    33: "dns",
    41: "opted_out_header",
    49: "lost_by_downloader",
}
HEALED = {5: "timeout", 30: "http_503"}
SURPLUS, UNDECODABLE = (68, 69), {12: "truncated", 28: "html", 44: "animated"}
UNDECIDED, NO_IDENTITY, SELECTED, CANDIDATES = (22,), (24,), 70, 80

BREAKS = {
    "source rows = merged + dropped": "sources",
    "candidates counted = rows": "candidates",
    "candidate ids are unique": "double candidate",
    "candidates = selected + not selected": "stranger selected",
    "selected counted = rows": "select count",
    "selected = fetched + failed + lost": "stranger attempted",
    "selected = fetched + failed + lost, as counted": "fetch count",
    "fetched counted = successful": "fetched count",
    "fetched = taken + surplus": "surplus",
    "snapshot ids are unique": "double taken",
    "taken were fetched": "taken without success",
    "taken = scored + undecodable": "missing image row",
    "verdict ids are unique": "double verdict",
    "scored = kept + rejected + undecided": "missing verdict",
    "undecodable = undecodable by the cut": "undecodable forgotten",
    "no identity as listed = as annotated": "no identity unlisted",
    "kept = planned": "missing in plan",
    "planned were kept": "rejected in plan",
    "packed samples = indexed": "sidecar count",
    "kept = packed": "missing in shard",
    "packed ids are unique": "double packed",
    "packed were kept": "rejected packed",
}


def name(number: int) -> str:
    return hashlib.sha1(f"http://fake.test/{number}.jpg".encode()).hexdigest()[:16]


def build(root: str, breaks: str | None = None, audited: float = 1.0, hq: bool = True, stand_in: bool = True,
          older: bool = False) -> Run:  # fmt: skip
    """Write a whole run. `breaks`: a value of BREAKS; `audited` below 1: others stop at their first failure; `older`: in
    the layout before format 5."""
    run, numbers = Run(root), np.arange(CANDIDATES)
    recipe = parse(
        {
            "name": CUT,
            "sources": {"facecaption": ["faces.parquet"]},
            "select": {"count": 60},
            "thresholds": {"grayscale": {"min_std": 5.0}, "text": {"max_boxes": 10}, "anime": {"min_neighbors": 5}},
        }
    ).model_dump(mode="json")
    weight = {"name": "centerface", "file": "centerface.onnx", "sha256": "0" * 64, "licence": "MIT", "source": "a & b"}
    run.update_manifest(
        recipe=recipe, format=4 if older else RUN_FORMAT, content_hash="0123456789abcdef", created="2026-01-02T03:04:05+00:00", weights=[weight],
        fingerprints=FINGERPRINTS, detector="centerface", stand_in=stand_in,
        identity={"name": "dlib", "dimension": 128, "channel_order": "rgb"},
    )  # fmt: skip
    _sources(run, numbers, breaks, hq)
    success = _fetch(run, breaks, older)
    taken = [number for number in success if number not in SURPLUS]
    _scores_and_cut(run, taken, breaks, audited, older)
    _pack(run, breaks)
    return run


def _sources(run: Run, numbers: np.ndarray, breaks: str | None, hq: bool) -> None:
    rows = [
        {
            "id": name(number), "url": url(number), "rank": int(number), "in_hq": bool(number % 3) if hq else None,
            "faces": [face(number)] * (1 + number % 2),
            "laion_caption": "a photo", "image_caption": None, "width": 300, "height": 300,
        }
        for number in numbers.tolist()
    ]  # fmt: skip
    rows += rows[-1:] if breaks == "double candidate" else []
    rows.sort(key=lambda row: row["id"])
    kinds = {"in_hq": pa.bool_(), "image_caption": pa.string()}
    for bucket, part in enumerate((rows[:40], rows[40:])):
        table = pa.Table.from_pylist(part)
        for column, kind in kinds.items():
            table = table.set_column(table.column_names.index(column), column, table[column].cast(kind))
        run.write_table(f"candidates/{bucket:05}.parquet", table)
    merged = sum(1 + number % 2 for number in range(CANDIDATES))
    run.write_json("candidates/counts.json", {
        "rows": merged + 7 + (breaks == "sources"), "merged": merged, "dropped": {"unknown_url": 4, "malformed": 3},
        "candidates": len(rows) - (breaks == "candidates"), "laion_matched": 0, "hq_matched": 53, "hq_rows": 60,
    })  # fmt: skip
    chosen = sorted((name(number), url(number), number) for number in range(SELECTED))
    if breaks == "stranger selected":
        chosen.append(("f" * 16, "http://stranger.test/", 99))
    columns = list(zip(*chosen, strict=True))
    run.write_table("selected/00000.parquet", pa.table(dict(zip(("id", "url", "rank"), columns, strict=True))))
    count = SELECTED + (breaks in ("select count",)) + (breaks == "stranger selected")
    run.write_json("selected/counts.json", {
        "digest": "0", "candidates": len(rows), "wanted": 60, "selected": count, "key": "box_min_side",
        "rank_over": "available", "cutoff": 89.0,
    })  # fmt: skip


def face(number: int) -> dict[str, Any]:
    return {"box": [10, 10, 99, 99], "caption": f"A person {'who smiles ' * (number % 5)}", "source_id": "x"}


def url(number: int) -> str:
    return f"http://{HOSTS[number % len(HOSTS)]}/{number}.jpg"


def _attempt(number: int, round_: int, part: int, error: str | None, data: bytes, offset: int) -> dict[str, Any]:
    return {
        "id": name(number), "url": url(number), "round": round_, "part": part,
        "status": "failed" if error else "success", "error": error, "detail": None,
        "http_status": int(error[5:]) if error and error.startswith("http_") else None if error else 200,
        "bytes": None if error else len(data), "sha256": None if error else sha256_of_bytes(data),
        "offset": None if error else offset, "size": None if error else len(data),
    }  # fmt: skip


def _fetch(run: Run, breaks: str | None, older: bool) -> list[int]:
    snapshot, success = [], []
    order = sorted(range(SELECTED), key=name)
    parts = [(0, index // PART, order[index : index + PART]) for index in range(0, SELECTED, PART)]
    parts.append((1, 0, [number for number in order if number in HEALED or DEAD.get(number) in ("timeout", "dns")]))
    for round_, part, members in parts:
        tar, rows = b"", []
        for number in members:
            error = DEAD.get(number) or (HEALED.get(number) if round_ == 0 else None)
            data = b"<html>" if UNDECODABLE.get(number) == "html" else picture(number)
            data = data[:400] if UNDECODABLE.get(number) == "truncated" else data
            rows.append(_attempt(number, round_, part, error, data, len(tar)))
            if not error:
                success.append(number)
                where = {"tar": f"fetched/{round_:02}/{part:05}.tar", "unit": f"{round_:02}-{part:05}"}
                sha = sha256_of_bytes(data)
                if number not in SURPLUS:
                    snapshot.append({"id": name(number), **where, "offset": len(tar), "size": len(data), "sha256": sha})
                tar += data
        if breaks == "stranger attempted" and round_ == 1:
            rows.append({**rows[-1], "id": "f" * 16, "status": "failed", "error": "http_404"})
        if breaks == "taken without success" and round_ == 1:
            rows = [{**row, "status": "failed", "error": "timeout"} for row in rows]
        run.write_bytes(f"fetched/{round_:02}/{part:05}.tar", tar)
        run.write_table(f"fetched/{round_:02}/{part:05}.parquet", pa.Table.from_pylist(rows))
    snapshot += snapshot[-1:] if breaks == "double taken" else []
    path = "fetched/snapshot" if older else f"fetched/snapshot-{SNAPSHOT_HASH}"
    run.write_table(f"{path}.parquet", pa.Table.from_pylist(sorted(snapshot, key=lambda row: row["id"])))
    failed = Counter(error for error in DEAD.values() if error != "lost_by_downloader")
    fetched = len(success) + (breaks == "fetched count")
    run.write_json("fetched/snapshot.json", {
        "number": 0, "selected": SELECTED + (breaks == "fetched count") + (breaks == "fetch count"), "fetched": fetched,
        "taken": fetched - len(SURPLUS), "surplus": len(SURPLUS) + (breaks in ("fetched count", "surplus")),
        "failed": dict(failed), "lost": 1, "hash": SNAPSHOT_HASH,
    })  # fmt: skip
    return success


def unit_of(number: int) -> str:
    if number in HEALED:
        return "01-00000"
    return f"00-{sorted(range(SELECTED), key=name).index(number) // PART:05}"


def _scores_and_cut(run: Run, taken: list[int], breaks: str | None, audited: float, older: bool) -> None:
    images: dict[str, list] = {}
    scores: dict[tuple[str, str], list] = {}
    verdicts = []
    for number in sorted(taken, key=name):
        status, data = UNDECODABLE.get(number, "ok"), picture(number)
        width, height, phash = facts(number)
        row = {"id": name(number), "unit": unit_of(number), "audited": number * 37 % 100 < audited * 100}
        images.setdefault(row["unit"], []).append({
            "id": row["id"], "status": status, "detail": None, "format": "jpeg",
            "width": width if status == "ok" else None, "height": height if status == "ok" else None,
            "exif_orientation": 1, "sha256": sha256_of_bytes(data),
            "phash": phash if status == "ok" else None,
        })  # fmt: skip
        state = dict.fromkeys(CHECKS, -1)
        for check in ("anime", "grayscale", "text", "faces") if status == "ok" else ():
            if number in UNDECIDED and check == "faces":
                continue
            state[check] = int(number not in FAILS[check])
            proof = evidence(number, width, height)[check]
            column = {"grayscale": "std", "anime": "hits"}.get(check, "boxes")
            scores.setdefault((check, row["unit"]), []).append({"id": row["id"], column: proof, "error": None})
            if check == "faces" and state["faces"]:
                state["caption_box"] = int(number not in FAILS["caption_box"])
            if state[check] == 0 and not row["audited"]:
                break
        failing = [check for check in CHECKS if state[check] == 0]
        verdict = "rejected" if failing else "undecided" if number in UNDECIDED else "kept"
        reason = failing[0] if failing else None
        if status != "ok":
            verdict, reason = "undecodable", status
        chosen = dict.fromkeys(("face", "caption_face"), 0 if verdict == "kept" else -1)
        verdicts.append({**row, "verdict": verdict, "reason": reason, "failing": failing, **state, **chosen})
    if breaks == "missing image row":
        images["00-00000"].pop()
    _write_scores(run, images, scores, older)
    if breaks == "missing verdict":
        verdicts.remove(next(row for row in verdicts if row["verdict"] == "rejected"))
    if breaks == "undecodable forgotten":
        row = next(row for row in verdicts if row["verdict"] == "undecodable")
        verdicts.remove(row)
    verdicts += verdicts[-1:] if breaks == "double verdict" else []
    kept = [row["id"] for row in verdicts if row["verdict"] == "kept"]
    table = pa.Table.from_pylist(verdicts, schema=verdict_schema(CHECKS))
    run.write_table(f"{VERDICTS_BEFORE if older else VERDICTS}/00000.parquet", table)
    run.write_bytes(f"cuts/{CUT}/thresholds.yaml", yaml.safe_dump(run.manifest()["recipe"]["thresholds"]).encode())
    run.write_json(f"cuts/{CUT}/content.json", {"content": {"snapshot": SNAPSHOT_HASH, "fingerprints": FINGERPRINTS}})
    run.write_json(f"{f'cuts/{CUT}' if older else VERDICTS}/funnel.json", {"kept": len(kept)})
    gone = {name(number) for number in NO_IDENTITY}
    vectors = pa.array([None if id in gone else [0.0] * 128 for id in kept], pa.list_(pa.float32()))
    annotated = {"id": kept, "identity": vectors, "has_identity": vectors.is_valid()}
    if older:
        del annotated["has_identity"]
    run.write_table(f"annotations/{ENCODER}/00-00000.parquet", pa.table(annotated))


def _write_scores(run: Run, images: dict[str, list], scores: dict[tuple[str, str], list], older: bool) -> None:
    filters = {check: check_class(check).of_description({}) for check in FINGERPRINTS}
    if older:
        for unit, rows in images.items():
            run.write_table(f"scores/images/{unit}.parquet", pa.Table.from_pylist(rows))
        for (check, unit), rows in scores.items():
            table = pa.Table.from_pylist(rows, schema=filters[check].schema)
            run.write_table(f"scores/{check}-{FINGERPRINTS[check]}/{unit}.parquet", table)
        return
    for unit, rows in images.items():
        ids = [row["id"] for row in rows]
        seen = {
            check: pa.Table.from_pylist(scores.get((check, unit), []), item.schema) for check, item in filters.items()
        }
        evidence = {f"{check}-{FINGERPRINTS[check]}": Evidence.align(filters[check].schema, ids, table)
                    for check, table in seen.items()}  # fmt: skip
        write_unit(run, "scores", unit, scores_table(ids, {row["id"]: row for row in rows}, evidence))


def _pack(run: Run, breaks: str | None) -> None:
    gone = {name(number) for number in NO_IDENTITY}
    verdicts = (run.read_tables(f"{VERDICTS}/*.parquet") or run.read_tables(f"{VERDICTS_BEFORE}/*.parquet")).to_pylist()
    kept = sorted({row["id"] for row in verdicts if row["verdict"] == "kept"} - gone)
    rejected = next(row["id"] for row in verdicts if row["verdict"] == "rejected")
    planned = kept[1:] if breaks == "missing in plan" else [*kept, rejected] if breaks == "rejected in plan" else kept
    shards = [planned[start : start + 12] for start in range(0, len(planned), 12)]
    plan = [(id, shard, slot) for shard, ids in enumerate(shards) for slot, id in enumerate(ids)]
    run.write_table(
        f"cuts/{CUT}/plan.parquet", pa.table(dict(zip(("id", "shard", "slot"), zip(*plan, strict=True), strict=True)))
    )
    listed = [] if breaks == "no identity unlisted" else sorted(gone)
    run.write_json(f"cuts/{CUT}/no_identity.json", listed)
    for shard, ids in enumerate(shards):
        ids, last = list(ids), shard == len(shards) - 1
        if last and breaks == "missing in shard":
            ids.pop()
        if last and breaks == "double packed":
            ids[-1] = ids[0]
        if last and breaks == "rejected packed":
            ids[-1] = rejected
        index = [{"id": id, "members": {"jpg": [512, 4000], "json": [5120, 900]}} for id in ids]
        run.write_bytes(f"shards/{CUT}/{shard:05}.tar", b"x" * 6000 * len(ids))
        samples = len(ids) + (last and breaks == "sidecar count")
        run.write_json(f"shards/{CUT}/{shard:05}.json", {
            "shard": shard, "samples": samples, "bytes": 6000 * len(ids), "sha256": "0" * 64, "revision": 0,
            "index": index,
        })  # fmt: skip
