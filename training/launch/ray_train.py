"""Training through Ray Train: the driver, which starts ranks, hears signals and says what went wrong; and a rank."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.progress import say
from common.ray_runtime import connected
from training.launch.process import Ask, Hopeless, ask_to_stop, check_layout_of, forget_stop
from training.launch.view import recogniser, watched
from training.recipe import RecipeError, TrainRecipe


def train_on_ray(recipe: TrainRecipe, out: str, ranks: int | None, failures: int) -> int:
    """Train to the end or until SIGTERM or SIGINT; the finished steps.

    Args:
        ranks: worker processes; None: one a GPU of the cluster, 1 without.
        failures: how often ranks are started again after one has died.

    Raises:
        RecipeError, ShardError: not begun, and why.
        Hopeless: it failed, in one sentence.
    """
    import ray

    check_layout_of(recipe, ranks or 1)
    joining = ray.is_initialized() or any(name in os.environ for name in ("RAY_ADDRESS", "RAY_JOB_ID"))
    # ranks of a Ray of our own may be more than the cores: they share
    with connected(None if joining else max(ranks or 1, os.cpu_count() or 1)):
        have = ray.cluster_resources()
        ranks, kind = _crew(recipe, ranks, have, joining)
        check_layout_of(recipe, ranks)
        room = int(have.get(kind, 0))
        if ranks > room:
            if not joining:
                raise RecipeError(f"--ranks {ranks}: this machine has {room} {kind}s")
            say("train", f"{ranks} ranks want {ranks} {kind}s, the cluster has {room}: waiting until it has grown")
        forget_stop(out)
        with watched(out, recipe.steps), _signals() as heard:
            return _fitted(_trainer(recipe, out, ranks, failures, kind == "GPU"), out, failures, heard)


def _crew(recipe: TrainRecipe, ranks: int | None, have: dict[str, float], joining: bool) -> tuple[int, str]:
    """How many ranks, and of what each wants one: GPU or CPU. A cluster's GPUs may only come when they are asked for.

    Raises:
        RecipeError: GPUs are wanted, there is none yet, and nobody says how many there will be.
    """
    device, gpus = recipe.engine.device, int(have.get("GPU", 0))
    if device == "cuda" and joining and not gpus and ranks is None:
        raise RecipeError("engine.device is cuda and the cluster has no GPU yet: say with --ranks how many to wait for")
    on_gpu = device != "cpu" and (gpus > 0 or (device == "cuda" and joining))
    if not on_gpu and device == "auto" and joining:
        say("train", "this cluster has no GPU: training on CPUs. If GPU nodes come when asked for: engine.device=cuda")
    return ranks or max(1, gpus if on_gpu else 0), "GPU" if on_gpu else "CPU"


def _trainer(recipe: TrainRecipe, out: str, ranks: int, failures: int, on_gpu: bool) -> Any:
    import fsspec
    import pyarrow.fs
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    fs, root = fsspec.core.url_to_fs(out)
    return TorchTrainer(
        ray_rank,
        train_loop_config={"recipe": _for_anywhere(recipe), "out": out},
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=ranks, use_gpu=on_gpu, resources_per_worker={"GPU": 1, "CPU": 1} if on_gpu else {"CPU": 1}
        ),
        run_config=RunConfig(
            name=Path(root).name,
            storage_path=f"{root.rstrip('/')}/ray",
            # the same client as everything else: Arrow's own takes other variables
            storage_filesystem=pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs)),
            failure_config=FailureConfig(max_failures=failures),
            callbacks=[_no_second_try()],
        ),
    )


def _for_anywhere(recipe: TrainRecipe) -> dict[str, Any]:
    """The recipe for workers, whose working folder is another."""
    tree = recipe.model_dump(mode="json")
    for section, name in ((tree["data"], "shards"), (tree, "base"), (tree, "start_from")):
        if section[name] and Path(section[name]).exists():
            section[name] = str(Path(section[name]).resolve())
    return tree


def _no_second_try() -> Any:
    """Ray counts failures, whatever they are: this stops at the first one that no restart cures."""
    from ray.train import UserCallback

    class NoSecondTry(UserCallback):
        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            for error in worker_exceptions.values():
                if isinstance(error, Hopeless):
                    raise error  # an error of a callback ends the run

    return NoSecondTry()


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """SIGTERM and SIGINT, as they come."""
    heard: list[int] = []
    before = {
        number: signal.signal(number, lambda received, _: heard.append(received))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fitted(trainer: Any, out: str, failures: int, heard: list[int]) -> int:
    """`trainer.fit()` in a thread: in this one signals are heard, and Ray's handler would end the run without saving."""
    told: list[Any] = []

    def fit() -> None:
        try:
            told.append(trainer.fit())
        except Exception as error:  # noqa: BLE001  raised below, in words
            told.append(error)

    thread = threading.Thread(target=fit, name="fit", daemon=True)
    thread.start()
    asked = False
    while thread.is_alive():
        thread.join(0.2)
        if heard and not asked:
            asked = True
            ask_to_stop(out)
            say("train", "asked to stop: the step that runs is finished and saved first; a second signal ends it now")
        if len(heard) > 1:
            raise Hopeless(f"{out}: ended before it was saved; started again it goes on from the last checkpoint", 1)
    if isinstance(told[0], Exception):
        raise _in_words(told[0], out, failures) from told[0]
    return told[0].return_value


def _in_words(error: Exception, out: str, failures: int) -> Exception:
    """What a rank said, instead of all that Ray says."""
    from ray.train import ControllerError, WorkerGroupError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    if isinstance(error, ControllerError) and isinstance(error.controller_failure, Hopeless):
        return error.controller_failure
    if not isinstance(error, WorkerGroupError):
        return error
    dead = [rank for rank, why in error.worker_failures.items() if isinstance(why, WorkerHealthCheckFailedError)]
    if dead:
        # the others' errors are of the connection that broke
        what = f"the process of rank {min(dead)} died (killed, or out of memory: see the system's log of its host)"
    else:
        what = str(error).strip()
    tried = f"after {failures} restarts (--failures)" if failures else "no restarts were allowed (--failures)"
    return Hopeless(f"{out}: given up {tried}: {what}\nStarted again it goes on from the last checkpoint", 1)


def ray_rank(config: dict[str, Any]) -> int:
    """In a worker's thread: it can take no signals, so a file asks it to stop. The finished steps."""
    import ray.train

    from training.launch.process import any_of, init_distributed, stop_on_file, train_or_say
    from training.recipe import checked

    recipe, out = checked(config["recipe"], "the recipe"), config["out"]
    context = ray.train.get_context()
    rank, world, local = context.get_world_rank(), context.get_world_size(), context.get_local_rank()
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(local)}
    os.environ |= {"LOCAL_WORLD_SIZE": str(context.get_local_world_size())}
    init_distributed(recipe)
    every = recipe.seeing.log_every

    def seen(progress: Any) -> None:
        if progress.step % every == 0 or progress.step == progress.steps:
            ray.train.report({"step": progress.step, "loss": progress.loss})

    stop = any_of(stop_on_file(out, rank), save_on_preemption(every))
    return train_or_say(recipe, out, rank, world, local, stop, seen, recogniser(recipe, rank))


def save_on_preemption(every: int) -> Any:
    """SAVE once when Ray says that a node of this run is about to go; asked every few steps, since Ray asks all ranks.

    The run goes on: when the node has gone, Ray starts the ranks again elsewhere, and counts that apart from failures.
    """
    import ray.train

    saved: list[Any] = []

    def ear(step: int) -> Ask:
        if step % every:
            return Ask.NOTHING
        told = ray.train.get_preemption_info()
        if told is None or told in saved:
            return Ask.NOTHING
        saved.append(told)
        return Ask.SAVE

    return ear
