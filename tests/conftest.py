"""What all tests share: one Ray, the sample, and one small finished run that many of them read."""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from common.cluster.runtime import LOCAL_RAY_SETTINGS  # noqa: E402

for name, value in {
    **LOCAL_RAY_SETTINGS,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_worker_niceness": "0",  # at Ray's 15 its workers starve beside the tests of another process
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "WANDB_MODE": "disabled",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
}.items():
    os.environ.setdefault(name, value)

# what is started in the background is deaf to these, and so would be all that a test starts
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# what it guards against is a power cut, which no test makes; it costs up to 20 ms a file (a kill is survived without)
os.fsync = lambda descriptor: None

RAY_CPUS = 3  # one more than the gate's machine has: a driver that was killed holds one for a moment
JOB_AGENT_PORT = 52365  # fixed by Ray for a head that `ray.init` starts: a second head on a machine takes no jobs

# a Ray job is started as `python`: it must be this one
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


# what takes minutes begins first, or one process would wait for the others at the end
LONG = ("test_conditions_learnt.py", "test_trainer.py", "test_engine.py", "test_validation.py")


@lru_cache
def lane(file: str) -> str:
    """Tests on the one Ray stay in one process with those that start a local one: Ray sends a job to the youngest Ray in
    /tmp/ray. Rays in folders of their own are another lane, and any other file is a lane of its own."""
    text = (ROOT / file).read_text()
    if re.search(r"\b(ray_cluster|finished|whole_sample|jobs[./]curate|CurateOptions)\b", text):
        return "ray"
    return "own rays" if re.search(r"\b(ray_nodes|local_ray)\b", text) else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        file = item.nodeid.partition("::")[0]
        first = ["ray", "own rays", *LONG]
        return next((at for at, name in enumerate(first) if lane(file).endswith(name)), len(first))

    items.sort(key=place)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`make test` runs lanes side by side in processes."""
    from xdist.scheduler import LoadScopeScheduling

    class ByLane(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return lane(nodeid.partition("::")[0])

    return ByLane(config, log)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[dict[str, str]]:
    """The one Ray of the test session: `address` for drivers that join it, `dashboard` for jobs."""
    from common.cluster.runtime import local_ray

    with socket.socket() as probe:
        takes_jobs = "yes" if probe.connect_ex(("127.0.0.1", JOB_AGENT_PORT)) else ""
        try:
            probe.bind(("", JOB_AGENT_PORT))
        except OSError:
            takes_jobs = ""
    with local_ray(RAY_CPUS, include_dashboard=True, dashboard_host="127.0.0.1") as context:
        address = context.address_info["gcs_address"]
        yield {"address": address, "dashboard": f"http://{context.dashboard_url}", "takes_jobs": takes_jobs}


@pytest.fixture(autouse=True)
def nothing_left_at_work(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test gives back the CPUs of the one Ray: with what it left at work the tests after it would have too few."""
    if "ray_cluster" not in request.fixturenames:
        yield
        return
    import ray

    request.getfixturevalue("ray_cluster")
    free = ray.available_resources().get("CPU", 0.0)  # fewer than all where a test failed, whose frames pytest keeps
    yield
    gc.collect()  # the frames of a caught exception are a circle that holds the data set, and it its actors
    until = time.monotonic() + 60  # a driver that was killed goes a little later
    while ray.available_resources().get("CPU", 0.0) < free:
        assert time.monotonic() < until, f"something is left at work: {ray.available_resources()}"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def sample() -> Path:
    """The sample's folder, made if it is not there."""
    from common.pinned_files.packages import cache_dir
    from curation.sample.folder import make_sample

    folder = cache_dir() / "sample"
    make_sample(folder)
    return folder


@pytest.fixture(scope="session")
def small_world(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Metadata of some sixty of the sample's images, every made and every misbehaving one among them."""
    from tests.world import write_small_world

    folder = tmp_path_factory.mktemp("world")
    write_small_world(sample, folder)
    return folder


@pytest.fixture(scope="session")
def finished(small_world: Path, ray_cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over the small world: nothing audited, the paper's order. Only to be read."""
    from tests.world import curate

    root = tmp_path_factory.mktemp("finished") / "run"
    curate(root, small_world)
    return root


@pytest.fixture(scope="session")
def whole_sample(sample: Path, ray_cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The run of the whole sample, as `make curate` makes it: every image through every filter. Only to be read."""
    from curation.run_directory.run import Run
    from tests.world import start_driver

    root = tmp_path_factory.mktemp("whole") / "run"
    driver = start_driver(root, ROOT / "curation" / "recipe" / "sample.yaml", ray_cluster["address"])
    said, _ = driver.communicate(timeout=580)
    assert driver.returncode == 0, said
    assert "reconciles ✓" in said and f"the report: {root}/report.html" in said
    assert f"the shards: {root}/shards/sample; next: make train SET=data.shards={root}/shards/sample" in said
    return Run(root)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A real one, without a window."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not path:
        pytest.skip("no chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        yield browser
        browser.close()
