"""What all tests share: one Ray, the sample, and one small finished run that many of them read."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from curation.cluster import PRIVATE  # noqa: E402

for name, value in {
    **PRIVATE,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "WANDB_MODE": "disabled",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
}.items():
    os.environ.setdefault(name, value)


JOB_AGENT_PORT = 52365  # fixed by Ray for a head that `ray.init` starts: a second head on a machine takes no jobs

# a Ray job is started as `python`: it must be this one
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side in processes (`make test`), a file stays together, and so does all that shares the one Ray."""
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            on_ray = "ray_cluster" in item.fixturenames
            item.add_marker(pytest.mark.xdist_group("ray" if on_ray else item.path.stem))


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[dict[str, str]]:
    """The one Ray of the test session: `address` for drivers that join it, `dashboard` for jobs."""
    import logging

    import ray

    from curation.cluster import _settle

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with socket.socket() as probe:
        takes_jobs = "yes" if probe.connect_ex(("127.0.0.1", JOB_AGENT_PORT)) else ""
        try:
            probe.bind(("", JOB_AGENT_PORT))
        except OSError:
            takes_jobs = ""
    context = ray.init(
        address="local",
        num_cpus=3,  # one more than the gate's machine has: a driver that was killed holds one for a moment
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        dashboard_port=port,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    _settle()
    address = context.address_info["gcs_address"]
    yield {"address": address, "dashboard": f"http://{context.dashboard_url}", "takes_jobs": takes_jobs}
    ray.shutdown()


@pytest.fixture(scope="session")
def sample() -> Path:
    """The sample's folder, made if it is not there."""
    from curation.packages import cache_dir
    from curation.sample.make import make

    folder = cache_dir() / "sample"
    make(folder)
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
