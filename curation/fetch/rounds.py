"""The fetch step: download the selected candidates' images with img2dataset on Ray, and retry what may succeed later.

    RUN/fetched/plan-ROUND.parquet        which id is in which part, fixed when a round starts
    RUN/fetched/settings-ROUND.json       the settings that decided its failures
    RUN/fetched/ROUND/PART-HASH.tar, PART.parquet   one Ray task each; the parquet is the commit
    RUN/fetched/stopped-ROUND.json        left by a fetch that stopped itself
    RUN/fetched/snapshot*                 what the rounds amount to

A run that was killed goes on where it was: a part that is committed is not fetched again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from common.cluster.nodes import are_elsewhere, code_hash, of_code, other_nodes
from common.http.addresses import AddressBook
from common.pinned_files.packages import cache_dir
from common.progress import ProgressBar, say
from common.settings import RecipeError
from common.storage import parquet_bytes
from curation.fetch.breaker import CircuitBreaker, FetchStopped
from curation.fetch.part import LOCAL_CAUSES, RETRYABLE, WORK, fetch_part, lost_part
from curation.fetch.reasons import changed_failures, deciding_settings, require_something
from curation.fetch.shared_hosts import SharedHosts
from curation.recipe.recipe import Fetch, Recipe
from curation.run_directory.attempts import latest_attempts
from curation.run_directory.candidates import id_numbers, id_texts, read_selected, selected_counts, selected_ids
from curation.run_directory.driver import token_of
from curation.run_directory.run import Run
from curation.run_directory.schemas import ROUND, SnapshotCounts
from curation.run_directory.snapshot import latest_counts, write_snapshot

MANY = 20_000  # images; from here on a second process a core pays for its start, about ten CPU-seconds of imports
TASK_RETRIES = 2
LOOPBACK = "127.0.0.1"


def fetch(run: Run, recipe: Recipe, again: bool = False) -> SnapshotCounts:
    """selected/ -> fetched/. Needs a running Ray. Returns the counts of the snapshot (docs/run-directory.md).

    Args:
        again: one more round over what may succeed by now, and a new snapshot if something did.

    Raises:
        RecipeError: nothing selected yet, or a resolve map that cannot work. Before any request.
        DamagedFile: what was selected is not whole. Before any request.
        FetchStopped: too many failures with a local cause; the same command goes on from there.
        NothingFetched: every attempt failed; the same command tries again what another setting decides.
    """
    done = latest_counts(run)
    if done and not again:
        say("fetch", f"done before: {done['taken']:,} images; 0 requests")
        return done
    selected = selected_ids(run)
    requests = 0
    with ExitStack() as stack:
        settings = _settings(run, recipe, stack)
        stack.enter_context(run.emptied(WORK))
        hosts = SharedHosts.start(settings)
        stack.callback(hosts.stop)
        for number in _rounds(run, recipe, again and bool(done)):
            parts = _parts_of_round(run, number, selected, recipe.fetch)
            if parts is None:
                break
            requests += _fetch_round(run, number, *parts, settings, hosts)
    require_something(run)
    counts, new = write_snapshot(run, recipe)
    _say_result(recipe, counts, new, requests, run)
    return counts


def _settings(run: Run, recipe: Recipe, stack: ExitStack) -> Fetch:
    """The recipe's fetch section with the whole resolve map, the local web's too, which runs until `stack` ends."""
    settings = recipe.fetch
    if settings.local_web:
        from curation.sample.web import LocalWeb

        # tasks on another machine reach it only at the address of this one
        address = ray.util.get_node_ip_address() if are_elsewhere(other_nodes()) else LOOPBACK
        web = stack.enter_context(LocalWeb(settings.local_web.folder, web_journal(run), address=address))
        allowed = [*settings.allow_networks, *([] if address == LOOPBACK else [address])]
        settings = settings.model_copy(
            update={"resolve": {**settings.resolve, **web.resolve}, "allow_networks": allowed}
        )
    try:
        refused = AddressBook(settings.resolve, settings.allow_networks).refused_targets()
    except ValueError as error:
        raise RecipeError(f"fetch: {error}") from error
    if refused:
        raise RecipeError(f"fetch.resolve leads to addresses that are refused: {'; '.join(refused)}")
    return settings


def web_journal(run: Run) -> Path:
    """Where the sample's web counts the requests, so that a URL that heals at the n-th goes on counting after a kill. Of a
    run in a bucket on this machine, by the mark of its first driver; a driver on another one begins to count anew."""
    if run.is_local:
        return Path(run.path("work/web-journal"))
    return cache_dir() / "web-journals" / token_of(run, 1)


# -- rounds -----------------------------------------------------------------------------------------------------------


def _rounds(run: Run, recipe: Recipe, again: bool) -> list[int]:
    """The rounds to go through; those that are complete cost nothing."""
    if not again:
        number = recipe.fetch.rounds
        while number - 1 in _stopped(run):  # what a stopped round lost to this side is tried again, also of the last
            number += 1
        last = _last_planned(run)
        if last is not None and changed_failures(_settings_of_round(run, last), recipe.fetch):
            number = max(number, last + 2)
        return list(range(number))
    last = _last_planned(run)
    parts = pc.unique(run.read_table(f"fetched/plan-{last:02d}.parquet", ["part"])["part"])
    return [last] if set(parts.to_pylist()) - _committed(run, last) else [last + 1]


def _committed(run: Run, number: int) -> set[int]:
    return {int(Path(path).stem) for path in run.glob(f"fetched/{number:02d}/[0-9]*.parquet")}


def _last_planned(run: Run) -> int | None:
    """The number of the last round that was begun; None before the first."""
    return max((int(path.removesuffix(".parquet")[-2:]) for path in run.glob("fetched/plan-*.parquet")), default=None)


def _settings_of_round(run: Run, number: int) -> dict[str, Any] | None:
    path = f"fetched/settings-{number:02d}.json"
    return run.read_json(path) if run.exists(path) else None


def _parts_of_round(
    run: Run, number: int, selected: np.ndarray, settings: Fetch
) -> tuple[np.ndarray, np.ndarray] | None:
    """The ids of a round, as numbers that ascend, and the part of each, fixed when the round starts; None where nothing is
    left to try."""
    path = f"fetched/plan-{number:02d}.parquet"
    if not run.exists(path):
        changed = changed_failures(_settings_of_round(run, number - 1), settings)
        ids = selected if number == 0 else _retryable_ids(run, changed)
        if len(ids) == 0:
            return None
        columns = {"id": id_texts(ids), "part": np.arange(len(ids), dtype=np.int32) // settings.part_size}
        run.write_json(f"fetched/settings-{number:02d}.json", deciding_settings(settings))
        run.write_new(path, parquet_bytes(pa.table(columns, schema=ROUND)))  # of two drivers one decides
    rows = run.read_table(path, ROUND.names)
    ids = id_numbers(rows["id"])
    if not (selected[np.searchsorted(selected, ids).clip(max=len(selected) - 1)] == ids).all():
        raise run.damaged(path, "has images that are not selected")
    return ids, rows["part"].to_numpy()


def _stopped(run: Run) -> set[int]:
    """The rounds in which a fetch stopped itself."""
    return {int(Path(path).stem[-2:]) for path in run.glob("fetched/stopped-*.json")}


def _retryable_ids(run: Run, changed: list[str]) -> np.ndarray:
    """Ids to try again. TLS errors are the server's own, but not in a round that stopped for local causes. `changed`: the
    failures that the settings of now may turn into successes."""
    names, stopped = RETRYABLE.union(changed), _stopped(run)
    return _ids_where(run, lambda error, number: error in names or (error in LOCAL_CAUSES and number in stopped))


def _failed_with_local_cause(run: Run) -> frozenset[int]:
    """Numbers of the ids whose latest failure was a local cause in a round that was not stopped: their hosts are gone, and the next
    failure says nothing about this side's network."""
    stopped = _stopped(run)
    return frozenset(_ids_where(run, lambda error, number: error in LOCAL_CAUSES and number not in stopped).tolist())


def _ids_where(run: Run, wanted: Callable[[str | None, int], bool]) -> np.ndarray:
    """Numbers, ascending, of the ids whose latest attempt has such an error and round."""
    found = [np.zeros(0, np.uint64)]
    for rows in latest_attempts(run, ["error", "round"]):
        pairs = zip(rows["error"].to_pylist(), rows["round"].to_pylist(), strict=True)
        found.append(id_numbers(rows["id"])[[wanted(*pair) for pair in pairs]])
    return np.concatenate(found)


def _with_urls(run: Run, ids: np.ndarray, part_of: np.ndarray) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """(part, its ids with their URLs) of each part. Ten million URLs are more than a gigabyte: one file of selected/ is
    held at a time."""

    def rows() -> Iterator[tuple[int, str, str]]:
        for selected in read_selected(run, ["id", "url"]):
            known = id_numbers(selected["id"])
            if not len(known):
                continue
            mine = slice(np.searchsorted(ids, known[0]), np.searchsorted(ids, known[-1], side="right"))
            found = selected.take(pa.array(np.searchsorted(known, ids[mine])))
            yield from zip(part_of[mine].tolist(), found["id"].to_pylist(), found["url"].to_pylist(), strict=True)

    for part, group in groupby(rows(), itemgetter(0)):
        yield part, [(text, url) for _, text, url in group]


def _fetch_round(
    run: Run, number: int, ids: np.ndarray, part_of: np.ndarray, settings: Fetch, hosts: SharedHosts
) -> int:
    """Fetch the parts of a round that are not committed. Returns the number of attempts made."""
    committed = _committed(run, number)
    todo = ~np.isin(part_of, list(committed))
    total = int(todo.sum())
    if not total:
        return 0
    hosts.start_round()
    skipped = f"; {len(committed):,} parts were done before" if committed else ""
    say("fetch", f"round {number}: {total:,} images in {len(np.unique(part_of[todo])):,} parts{skipped}")
    breaker = CircuitBreaker(settings, _failed_with_local_cause(run) if number else frozenset())
    cpus = 0.5 if total >= MANY else 1.0
    task = ray.remote(of_code(code_hash(), fetch_part)).options(
        num_cpus=cpus, max_retries=TASK_RETRIES, retry_exceptions=True, scheduling_strategy="SPREAD"
    )
    waiting, running = _with_urls(run, ids[todo], part_of[todo]), {}
    try:
        with ProgressBar("fetch", total) as progress:
            while True:
                room = int(ray.cluster_resources().get("CPU", 1) / cpus) + 2
                for part, items in islice(waiting, max(0, room - len(running))):
                    running[task.remote(run, number, part, items, settings, hosts)] = part, items
                if not running:
                    break
                ready, _ = ray.wait(list(running), num_returns=1, timeout=5.0)
                for reference in ready:
                    part, items = running.pop(reference)
                    try:
                        result = ray.get(reference)
                    except ray.exceptions.RayError as error:
                        result = lost_part(run, number, part, items, _last_line(error))
                    breaker.add(result)
                    progress.advance(len(items), breaker.progress_note())
                    breaker.check()
    except FetchStopped as stop:
        run.write_json(f"fetched/stopped-{number:02d}.json", stop.counts)
        raise
    finally:
        for reference in running:
            ray.cancel(reference, force=True)  # gently would wait for ever: img2dataset's pool cannot be interrupted
    return total


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"the task failed {TASK_RETRIES + 1} times: {lines[-1].strip() if lines else type(error).__name__}"


def _say_result(recipe: Recipe, counts: SnapshotCounts, new: bool, requests: int, run: Run) -> None:
    if not new:
        say("fetch", f"{requests:,} requests; nothing healed, the snapshot stays as it is")
        return
    worst_first = sorted(counts["failed"].items(), key=lambda item: (-item[1], item[0]))
    failed = f"; failed: {', '.join(f'{name} {count:,}' for name, count in worst_first)}" if worst_first else ""
    lost = f", {counts['lost']:,} lost by the downloader" if counts["lost"] else ""
    say("fetch", f"{requests:,} requests: {counts['fetched']:,} of {counts['selected']:,} fetched{lost}{failed}")
    wanted = selected_counts(run)["wanted"]
    short = counts["taken"] < wanted and recipe.select.rank_over == "available"
    remedy = f" of {wanted:,} wanted: raise select.overprovision" if short else ""
    say("fetch", f"snapshot {counts['hash']}: {counts['taken']:,} taken{remedy}, {counts['surplus']:,} surplus")
