"""Training through Ray Train: the driver, which starts ranks, passes on signals and reports failures; and a rank."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cluster.runtime import connected
from common.paths import open_place
from common.progress import say
from training.launch.log_view import following_log
from training.launch.preflight import check_ranks
from training.launch.rank import NonRetryableError
from training.launch.stop_checks import clear_stop_request, request_stop
from training.recipe import RecipeError, TrainRecipe, for_workers
from training.stop_request import StopCheck, StopRequest

if TYPE_CHECKING:
    from ray.train import UserCallback
    from ray.train.torch import TorchTrainer

    from training.monitoring.held_out_panel import Evaluate
    from training.trainer import Progress


def train_on_ray(
    recipe: TrainRecipe, out: str, ranks: int | None, failures: int, evaluate: Evaluate | None = None
) -> int:
    """Train to the end or until SIGTERM or SIGINT; the finished steps.

    Args:
        ranks: worker processes; None: one a GPU of the cluster, 1 without.
        failures: how often ranks are started again after one has died.
        evaluate: travels to the workers.

    Raises:
        RecipeError, ShardError: not begun, and why.
        NonRetryableError: it failed, in one sentence.
    """
    import ray

    joining = ray.is_initialized() or any(name in os.environ for name in ("RAY_ADDRESS", "RAY_JOB_ID"))
    # ranks of a Ray of our own may be more than the cores: they share
    with connected(None if joining else max(ranks or 1, os.cpu_count() or 1)):
        available = ray.cluster_resources()
        ranks, kind = ranks_and_resource(recipe, ranks, available, joining)
        check_ranks(recipe, ranks)
        room = int(available.get(kind, 0))
        if ranks > room:
            if not joining:
                raise RecipeError(f"--ranks {ranks}: this machine has {room} {kind}s")
            say("train", f"{ranks} ranks want {ranks} {kind}s, the cluster has {room}: waiting until it has grown")
        clear_stop_request(out)
        with following_log(out, recipe.steps), _received_signals() as signals:
            return _fit(_trainer(recipe, out, ranks, failures, kind == "GPU", evaluate), out, failures, signals)


def ranks_and_resource(
    recipe: TrainRecipe, ranks: int | None, available: dict[str, float], joining: bool
) -> tuple[int, str]:
    """How many ranks, and the resource that each takes one of: GPU or CPU.

    Args:
        available: the cluster's resources now. Its GPUs may only come when they are asked for.
        joining: a cluster of others, not a Ray of our own on this machine.

    Raises:
        RecipeError: GPUs are wanted, there is none yet, and nobody says how many there will be.
    """
    device, gpus = recipe.engine.device, int(available.get("GPU", 0))
    if device == "cuda" and joining and not gpus and ranks is None:
        raise RecipeError("engine.device is cuda and the cluster has no GPU yet: say with --ranks how many to wait for")
    on_gpu = device != "cpu" and (gpus > 0 or (device == "cuda" and joining))
    if not on_gpu and device == "auto" and joining:
        say("train", "this cluster has no GPU: training on CPUs. If GPU nodes come when asked for: engine.device=cuda")
    return ranks or max(1, gpus if on_gpu else 0), "GPU" if on_gpu else "CPU"


def _trainer(
    recipe: TrainRecipe, out: str, ranks: int, failures: int, on_gpu: bool, evaluate: Evaluate | None
) -> TorchTrainer:
    import pyarrow.fs
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    fs, root = open_place(out)
    return TorchTrainer(
        ray_rank,
        train_loop_config={"recipe": for_workers(recipe), "out": out, "evaluate": evaluate},
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
            callbacks=[_end_on_non_retryable()],
        ),
    )


def _end_on_non_retryable() -> UserCallback:
    """Ray restarts after every failure, whatever it is: this ends the run at the first one that no restart cures."""
    from ray.train import UserCallback

    class EndOnNonRetryable(UserCallback):
        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            for error in worker_exceptions.values():
                if isinstance(error, NonRetryableError):
                    raise error  # an error of a callback ends the run

    return EndOnNonRetryable()


@contextlib.contextmanager
def _received_signals() -> Iterator[list[int]]:
    """SIGTERM and SIGINT in the order in which they come; the handlers from before come back at the end."""
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fit(trainer: TorchTrainer, out: str, failures: int, signals: list[int]) -> int:
    """`trainer.fit()` in a thread, since only this one gets signals, and Ray's handler would end the run without saving.

    The finished steps.
    """
    outcome: list[Any] = []

    def fit() -> None:
        try:
            outcome.append(trainer.fit())
        except Exception as error:  # noqa: BLE001  raised below, with a plain message
            outcome.append(error)

    thread = threading.Thread(target=fit, name="fit", daemon=True)
    thread.start()
    stopping = False
    while thread.is_alive():
        thread.join(0.2)
        if signals and not stopping:
            stopping = True
            request_stop(out)
            say("train", "asked to stop: the step that runs is finished and saved first; a second signal ends it now")
        if len(signals) > 1:
            raise NonRetryableError(
                f"{out}: ended before it was saved; started again it goes on from the last checkpoint", 1
            )
    (result,) = outcome
    if isinstance(result, Exception):
        raise _plain_error(result, out, failures) from result
    return result.return_value


def _plain_error(error: Exception, out: str, failures: int) -> Exception:
    """What a rank said, instead of all that Ray says."""
    from ray.train import ControllerError, WorkerGroupError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    if isinstance(error, ControllerError) and isinstance(error.controller_failure, NonRetryableError):
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
    return NonRetryableError(f"{out}: given up {tried}: {what}\nStarted again it goes on from the last checkpoint", 1)


def ray_rank(config: dict[str, Any]) -> int:
    """What each worker of Ray Train runs, in a thread that gets no signals: a file asks it to stop. The finished steps."""
    import ray.train

    from training.launch.process_group import init_distributed
    from training.launch.rank import run_rank
    from training.launch.stop_checks import any_of, stop_on_file
    from training.recipe import checked

    recipe, out = checked(config["recipe"], "the recipe"), config["out"]
    context = ray.train.get_context()
    rank, world, local_rank = context.get_world_rank(), context.get_world_size(), context.get_local_rank()
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(local_rank)}
    os.environ |= {"LOCAL_WORLD_SIZE": str(context.get_local_world_size())}
    init_distributed(recipe)
    every = recipe.monitoring.log_every

    def report(progress: Progress) -> None:
        # a rank waits in it until Ray's controller has asked for it, which is every two seconds
        if progress.step % recipe.saving.every == 0 or progress.step == progress.steps:
            ray.train.report({"step": progress.step, "loss": progress.loss})

    return run_rank(
        recipe, out, rank, world, local_rank, any_of(stop_on_file(out, rank), save_on_preemption(every)), report,
        config["evaluate"],
    )  # fmt: skip


def save_on_preemption(every: int) -> StopCheck:
    """SAVE once when Ray says that a node of this run is about to go; asked every few steps, since Ray asks all ranks.

    The run goes on: when the node has gone, Ray starts the ranks again elsewhere, and counts that apart from failures.
    """
    import ray.train

    saved: list[Any] = []

    def check(step: int) -> StopRequest:
        if step % every:
            return StopRequest.NONE
        preemption = ray.train.get_preemption_info()
        if preemption is None or preemption in saved:
            return StopRequest.NONE
        saved.append(preemption)
        return StopRequest.SAVE

    return check
