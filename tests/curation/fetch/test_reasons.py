"""A fetch that takes nothing says why and how to mend it, and a corrected recipe takes the same run up again."""

from __future__ import annotations

import pyarrow as pa
import pytest

from common.command_line import exit_code_of
from curation.fetch.part import LOCAL_CAUSES, RETRYABLE
from curation.fetch.reasons import (
    DECIDED_BY,
    REMEDIES,
    NothingFetched,
    changed_failures,
    deciding_settings,
    require_something,
)
from curation.fetch.rounds import fetch
from curation.recipe.recipe import Fetch
from curation.run_directory.run import Run
from curation.run_directory.schemas import ATTEMPT
from tests.curation.fetch.fetch_site import ident, photos, recipe_for, rounds_of, select


def attempts(run: Run, errors: list[str | None], detail: str | None = None) -> None:
    rows = [
        dict.fromkeys(ATTEMPT.names) | {"id": ident(i), "url": f"http://a.test/{i}", "round": 0, "part": 0}
        | {"error": error, "detail": detail if error else None}
        for i, error in enumerate(errors)
    ]  # fmt: skip
    run.write_table("fetched/00/00000.parquet", pa.Table.from_pylist(rows, schema=ATTEMPT))


@pytest.mark.parametrize("reason", sorted(REMEDIES))
def test_the_commonest_reason_comes_with_its_remedy(tmp_path, reason):
    run = Run(tmp_path)
    attempts(run, [reason, reason, "another"], "127.0.0.1 is loopback")
    with pytest.raises(NothingFetched) as caught:
        require_something(run)
    said = str(caught.value)
    assert f"none of 3 images was fetched: {reason} 2, another 1" in said
    assert f"http://a.test/0: {reason} (127.0.0.1 is loopback)" in said and REMEDIES[reason] in said


def test_a_reason_without_a_remedy_of_its_own_says_where_to_look(tmp_path, capsys):
    attempts(Run(tmp_path), ["http_418"])
    assert exit_code_of(lambda: require_something(Run(tmp_path))) == 2
    assert "curl -I URL" in capsys.readouterr().err


def test_one_image_is_something(tmp_path):
    require_something(Run(tmp_path))
    attempts(Run(tmp_path), ["http_404", None])
    require_something(Run(tmp_path))


@pytest.mark.parametrize(
    ("changed", "failures"),
    [
        ({"allow_networks": ["127.0.0.0/8"]}, ["refused_address"]),
        ({"max_bytes": 7}, ["too_many_bytes"]),
        ({"robots_txt": False}, ["opted_out_robots_txt"]),
        ({"optout": []}, ["opted_out_header"]),
        ({"tdm_reservation": False}, ["opted_out_tdm"]),
        ({"user_agent_token": "other"}, ["opted_out_header", "opted_out_robots_txt"]),
        ({"threads": 1, "part_size": 3}, []),
    ],
)
def test_what_a_setting_decides_is_tried_again_when_it_changes(changed, failures):
    before = deciding_settings(Fetch())
    assert changed_failures(before, Fetch(**changed)) == failures
    assert changed_failures(None, Fetch(**changed)) == [], "a round of before this was written down"


def test_every_field_that_decides_is_one_of_the_recipe():
    assert {field for fields in DECIDED_BY.values() for field in fields} <= set(Fetch.model_fields)
    assert set(LOCAL_CAUSES) <= set(REMEDIES) and "refused_address" not in RETRYABLE


def test_a_corrected_recipe_takes_the_same_run_up_again(ray_cluster, site, run):
    select(run, photos(5))
    with pytest.raises(NothingFetched, match="too_many_bytes 5\\n(.*\\n)*.*fetch.max_bytes: raise it"):
        fetch(run, recipe_for(site, max_bytes=10, rounds=1))
    requests = len(site.seen)
    with pytest.raises(NothingFetched):  # the same again asks nobody
        fetch(run, recipe_for(site, max_bytes=10, rounds=1))
    assert len(site.seen) == requests
    assert fetch(run, recipe_for(site, rounds=1))["taken"] == 5
    assert rounds_of(run) == {ident(i): [(0, "too_many_bytes"), (1, "success")] for i in range(5)}
