"""Fills the ledger's tables from a run's files, file by file, so that ten million rows need little memory."""

from __future__ import annotations

import re

import pyarrow as pa

from curation.ledger.layout import annotation_tables, decode_facts, image_tables, rows_of_snapshot, verdict_folder
from curation.ledger.model import Ledger, Shard
from curation.ledger.tables import LedgerError
from curation.run_directory.run import Run
from curation.run_directory.snapshot import snapshots

VERDICTS = ("kept", "rejected", "undecided", "undecodable")


def load_tables(ledger: Ledger, snapshot_hash: str | None, encoder: str) -> None:
    """Read everything that the run holds. `snapshot_hash`, `encoder`: those that the cut was made with, if known.

    Raises:
        curation.ledger.tables.LedgerError: a table that does not follow the layout.
    """
    _load(ledger, "candidates", "candidates/*.parquet", ["id", "in_hq"], "id, in_hq")
    _load(ledger, "selected", "selected/*.parquet", ["id"], "id")
    _load_attempts(ledger)
    _load_snapshot(ledger, snapshot_hash)
    if ledger.snapshot is not None:
        _load_images(ledger)
    _load_verdicts(ledger)
    if ledger.has("verdicts"):
        _load_annotations(ledger, encoder)
    _load_large(ledger, "planned", f"cuts/{ledger.cut}/plan.parquet", ["id", "shard"], "id, shard")
    _load_shards(ledger)


def _load(ledger: Ledger, table: str, files: str, columns: list[str], values: str) -> None:
    """Append `columns` of all matching files to a table; `values`: what is kept of a row, in SQL."""
    paths = ledger.run.glob(files)
    ledger.tables.insert(table, values, zip(paths, ledger.run.read_each(paths, columns), strict=True))


def _load_large(ledger: Ledger, table: str, path: str, columns: list[str], values: str) -> None:
    """As `_load`, of one file, which may have a row for every image: a row group at a time."""
    if ledger.run.exists(path):
        ledger.tables.insert(table, values, ((path, group) for group in ledger.run.read_groups(path, columns)))


def _load_attempts(ledger: Ledger) -> None:
    columns = ["id", "url", "round", "status", "error"]
    success = "coalesce(status = 'success', false)"
    error = f"CASE WHEN NOT {success} THEN coalesce(error, 'other') END"
    values = f"id, round, {success}, {error}, authority_of(url)"
    _load(ledger, "attempts", "fetched/[0-9]*/[0-9]*.parquet", columns, values)
    # most images have one attempt: only the others are grouped, which takes a third less memory
    once = ledger.tables.distinct("attempts") == ledger.tables.size("attempts")
    ledger.tables.execute(f"""
        INSERT INTO rounds SELECT round, count(*), count(*) FILTER (success) FROM attempts GROUP BY round;
        CREATE TEMP TABLE retried AS SELECT id FROM attempts WHERE NOT {once} GROUP BY id HAVING count(*) > 1;
        INSERT INTO outcomes
            SELECT id, CASE WHEN success THEN round END, error, error, authority FROM attempts ANTI JOIN retried USING (id);
        INSERT INTO outcomes
            SELECT id, min(round) FILTER (success),
                CASE WHEN NOT bool_or(success) THEN max_by(error, round) END,
                nullif(min_by(coalesce(error, ''), round), ''), any_value(authority)
            FROM attempts SEMI JOIN retried USING (id) GROUP BY id;
        INSERT INTO hosts SELECT host_of(authority), sum(images), sum(fetched)
            FROM (SELECT authority, count(*) AS images, count(came_in) AS fetched FROM outcomes GROUP BY 1) GROUP BY 1;
        DROP TABLE retried;
        TRUNCATE attempts;
    """)


def _load_snapshot(ledger: Ledger, wanted_hash: str | None) -> None:
    """The snapshot whose hash a cut names, else the newest that is complete (its counts are there)."""
    whole = snapshots(ledger.run)
    if not whole:
        return
    newest_first = [*whole][::-1]
    of_the_cut = (name for name in newest_first if wanted_hash and whole[name].get("hash") == wanted_hash)
    name = next(of_the_cut, newest_first[0])
    ledger.snapshot = whole[name]
    columns = ["id", "unit", "tar", "offset", "size"]
    _load_large(
        ledger, "taken", rows_of_snapshot(ledger.run, name, whole[name]), columns, 'id, unit, tar, "offset", size'
    )


def _load_images(ledger: Ledger) -> None:
    """Rows of ids that are not taken (of an older snapshot) are left out; the doubles of a retried unit collapse."""
    tables, numbers = ledger.tables, "coalesce(width, 0), coalesce(height, 0), sha256, phash"
    tables.insert("images", f"id, status, {numbers}", image_tables(ledger.run), decode_facts)
    images = tables.size("images")
    if not tables.distinct("images") == images == tables.shared("images", "taken"):
        tables.execute(
            "CREATE OR REPLACE TABLE images AS SELECT DISTINCT ON (id) * FROM images SEMI JOIN taken USING (id)"
        )


def _load_verdicts(ledger: Ledger) -> None:
    run, tables, folder = ledger.run, ledger.tables, verdict_folder(ledger.run, ledger.cut)
    files = run.glob(f"{folder}/*.parquet")
    if not files:
        return
    ledger.cut_is_whole = run.exists(f"{folder}/funnel.json") or run.exists(f"cuts/{ledger.cut}/funnel.json")
    ledger.cut_checks = checks_in(run, files[0])
    checks = [f'"{check}"' for check in ledger.cut_checks]
    for check in checks:
        tables.execute(f"ALTER TABLE verdicts ADD COLUMN {check} TINYINT")
    columns = ["verdict", "reason", "audited", "caption_face"]
    values = ", ".join(["id", *columns, *checks])
    _load(ledger, "verdicts", f"{folder}/*.parquet", ["id", *columns, *ledger.cut_checks], values)
    for (verdict,) in tables.rows("SELECT DISTINCT verdict FROM verdicts ORDER BY 1"):
        if verdict not in VERDICTS:
            raise LedgerError(f"{folder}: unknown verdict {verdict!r}")
    tables.execute("INSERT INTO kept SELECT DISTINCT id FROM verdicts WHERE verdict = 'kept'")


def checks_in(run: Run, verdicts: str) -> tuple[str, ...]:
    """The checks that a file of verdicts has a column of, in the paper's order."""
    return tuple(field.name for field in run.read_table(verdicts).schema if field.type == pa.int8())


def _load_annotations(ledger: Ledger, encoder: str) -> None:
    """Also takes those out of `kept` whose face has no identity."""
    run, tables = ledger.run, ledger.tables
    folders = sorted({path.rsplit("/", 1)[0] for path in run.glob("annotations/*/*.parquet")})
    folder = next((folder for folder in folders if encoder and folder.endswith(encoder)), None)
    folder = folder or (folders[0] if len(folders) == 1 else None)
    if folder is None:
        return
    # an image that other cuts keep for another face has several rows, one a face
    parts = annotation_tables(run, folder, ledger.manifest.get("format", 1))
    tables.insert("annotations", "id, NOT has_identity", parts)
    without = without_identity(ledger, ledger.cut, encoder, "listed")
    tables.execute(f"""
        INSERT INTO no_identity SELECT id FROM kept SEMI JOIN {without} AS without USING (id);
        DELETE FROM kept WHERE id IN (FROM no_identity);
    """)


def without_identity(ledger: Ledger, cut: str, encoder: str, table: str) -> str:
    """SQL after FROM: the ids of the annotated images whose face, as `cut` chose it, could not be embedded.

    `table`: into which those are put that the cut wrote down.
    """
    if "none" in ((ledger.manifest.get("identity") or {}).get("name", "none"), encoder):
        return "(SELECT id FROM listed WHERE false)"  # without an encoder nobody is rejected for having no identity
    listed = f"cuts/{cut}/no_identity.json"
    if not ledger.run.exists(listed):  # written when all are annotated: knows which face this cut chose
        return "(SELECT id FROM annotations GROUP BY id HAVING bool_and(without_identity))"
    written = ledger.run.read_json(listed)
    if not isinstance(written, list):  # a list before format 5
        written = ledger.run.read_json(listed, ("ids",))["ids"]
    ledger.tables.insert_ids(table, written, listed)
    return table


def _load_shards(ledger: Ledger) -> None:
    found = []
    for path in ledger.run.glob(f"shards/{ledger.cut}/*.json"):
        if not re.fullmatch(r"\d+\.json", path.rsplit("/", 1)[1]):
            continue  # sizes.json and such are beside them
        sidecar = ledger.run.read_json(path, ("shard", "samples", "index"))
        index = [row["id"] for row in sidecar["index"]]
        ledger.tables.insert_ids("packed", index, path)
        found.append((path.rsplit("/", 1)[1].replace(".json", ".tar"), sidecar, len(index)))
    # looked at afterwards: while a run packs, a tar is there before its sidecar
    tars = ledger.run.sizes(f"shards/{ledger.cut}")
    for tar, sidecar, indexed in found:
        there = tars.get(tar, 0)
        numbers = sidecar["shard"], sidecar["samples"], sidecar.get("bytes", there), there, sidecar.get("revision", 0)
        ledger.shards.append(Shard(*numbers, indexed))
