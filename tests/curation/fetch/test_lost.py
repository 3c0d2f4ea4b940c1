"""What img2dataset or a whole task loses ends as a row, and is tried again."""

from __future__ import annotations

import pyarrow as pa
import ray

import curation.fetch.rounds as rounds_module
from curation.fetch.part import fetch_part
from curation.fetch.rounds import fetch
from curation.fetch.shared_hosts import SharedHosts
from tests.curation.fetch.fetch_site import ident, photos, recipe_for, select


def test_a_sample_that_img2dataset_drops_is_a_row(ray_cluster, site, run):
    def with_a_bad_writer(*arguments):
        import img2dataset.writer as writer

        class Dropping(writer.WebDatasetSampleWriter):
            def write(self, img_str, key, caption, meta):
                if meta["id"].endswith("2"):
                    raise RuntimeError("this sample is dropped")
                super().write(img_str, key, caption, meta)

        original, writer.WebDatasetSampleWriter = writer.WebDatasetSampleWriter, Dropping
        try:
            return fetch_part(*arguments)
        finally:
            writer.WebDatasetSampleWriter = original

    select(run, photos(4))
    items = [(ident(i), url) for i, url in enumerate(photos(4))]
    settings = recipe_for(site).fetch
    hosts = SharedHosts.start(settings)
    result = ray.get(ray.remote(with_a_bad_writer).remote(run, 0, 0, items, settings, hosts))
    hosts.stop()
    assert result.failures == {ident(2): "lost_by_downloader"} and result.counts["success"] == 3
    row = run.read_table("fetched/00/00000.parquet").to_pylist()[2]
    assert row["status"] == "failed" and "this sample is dropped" in row["detail"]
    # it heals: the round that the driver makes of it has this id alone
    run.write_table("fetched/plan-00.parquet", pa.table({"id": [i for i, _ in items], "part": [0] * 4}))
    site.seen.clear()
    assert fetch(run, recipe_for(site))["taken"] == 4
    assert site.seen == ["/2.jpg"]


def test_a_task_that_fails_for_good_costs_its_part_a_round(ray_cluster, site, run, monkeypatch):
    def broken(run, number, part, *others):
        if (number, part) == (0, 1):
            raise OSError(28, "No space left on device")
        return fetch_part(run, number, part, *others)

    monkeypatch.setattr(rounds_module, "fetch_part", broken)
    select(run, photos(10))
    assert fetch(run, recipe_for(site, rounds=1))["lost"] == 4
    lost = run.read_table("fetched/00/00001.parquet").to_pylist()
    assert {row["error"] for row in lost} == {"lost_by_downloader"} and "No space left" in lost[0]["detail"]
    info = fetch(run, recipe_for(site), again=True)
    assert info["taken"] == 10 and info["lost"] == 0
