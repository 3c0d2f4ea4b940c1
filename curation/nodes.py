"""What a curation needs of every node of a cluster, looked at before the first step: the run directory and the models."""

from __future__ import annotations

from functools import partial

from common.cluster.nodes import NodeError, other_nodes, require_alike
from common.cluster.shipped import ShippedWeights
from common.failures.mendable import first_line
from common.pinned_files.weights import Resolved
from common.progress import say
from curation.recipe.recipe import Recipe
from curation.run_directory.driver import token_of
from curation.run_directory.run import Run


def require_nodes(
    run: Run, recipe: Recipe, epoch: int, fingerprints: dict[str, str], weights: list[Resolved]
) -> ShippedWeights:
    """Model files for nodes that lack them, after every other node was found able to take part. Needs a running Ray.

    Args:
        epoch: the driver's number, whose mark in the run directory every node has to see.
        fingerprints: of the driver's filters, and of its identity encoder as "identity".

    Raises:
        NodeError: those that cannot, and why.
    """
    if not other_nodes():
        return ShippedWeights()
    shipped = ShippedWeights.of(weights)
    number = require_alike(partial(_look, run, recipe, epoch, token_of(run, epoch), fingerprints, shipped))
    say("start", f"{number} other nodes see {run.root} and have the same code and models")
    return shipped


def _look(
    run: Run, recipe: Recipe, epoch: int, token: str, fingerprints: dict[str, str], shipped: ShippedWeights
) -> None:
    """On a node.

    Raises:
        NodeError, WeightError: what it lacks.
    """
    try:
        seen = token_of(run, epoch)
    except Exception as error:  # noqa: BLE001  whatever its store or its disk says is what is wrong
        raise NodeError(
            f"cannot read the run directory {run.root} ({type(error).__name__}: {first_line(error)})"
        ) from None
    if seen != token:
        raise NodeError(
            f"{run.root} is another folder there than on the driver's node: take storage that all nodes share"
        )
    shipped.place(recipe.weights)
    mine = fingerprints_of(recipe)
    if wrong := sorted(name for name in fingerprints if mine.get(name) != fingerprints[name]):
        raise NodeError(f"the model files or the libraries of {', '.join(wrong)} differ from the driver's")


def fingerprints_of(recipe: Recipe) -> dict[str, str]:
    """Of the filters and the identity encoder that this process would use."""
    encoder = recipe.open_encoder()
    found = {name: item.fingerprint for name, item in recipe.open_filters().items()}
    return {**found, "identity": encoder.fingerprint if encoder else "none"}
