"""`python -m curation plan`, which `make plan` calls: a pilot, and what follows from it, as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from common.settings import RecipeError
from common.storage import Storage
from curation.planning.prices import EXAMPLE
from curation.progress.outlook import FORECAST, cores

ABOUT = f"""What to expect of a recipe: a pilot of about a minute with the real steps over a random part of its candidates.

For every step images, GB, core-hours, GPU-hours, hours and dollars, each with a 90 % interval; which step is the neck; whether the
sort by resolution will select anything away. Nothing is kept but, with --run, RUN/{FORECAST}, by which that run then
tells how long it still takes.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pilot", type=int, default=300, metavar="N", help="images of the pilot (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed is another pilot (%(default)s)")
    parser.add_argument("--cores", type=float, help="of each node of the run; default: this machine's")
    parser.add_argument("--nodes", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--gpus", type=float, help="of each node; default: as many as the pilot has")
    parser.add_argument(
        "--price", metavar="FILE", help=f"your prices, in the fields of {EXAMPLE.name}; default: its examples"
    )
    parser.add_argument("--json", action="store_true", help="for machines, on stdout")


def plan_command(options: argparse.Namespace) -> None:
    """Plan, and show it.

    Raises:
        RecipeError, WeightError, FetchStopped: as a run of the recipe would.
    """
    if options.pilot < 20:
        raise RecipeError(f"PILOT={options.pilot}: of fewer than 20 images nothing follows")
    for name in ("cores", "nodes"):
        if (value := getattr(options, name)) is not None and value <= 0:
            raise RecipeError(f"{name.upper()}={value:g}: it must be more than 0")
    if options.gpus is not None and options.gpus < 0:
        raise RecipeError(f"GPUS={options.gpus:g}: it must not be negative")
    from curation.planning.costs import Target
    from curation.planning.forecast import forecast
    from curation.planning.pilot import run_pilot
    from curation.planning.prices import load_prices
    from curation.planning.show import show
    from curation.recipe.recipe import load

    recipe, prices = load(options.recipe, options.set), load_prices(options.price)
    pilot = run_pilot(recipe, options.pilot, options.seed)
    gpus = pilot.gpus if options.gpus is None else options.gpus
    target = Target(options.cores or cores(), options.nodes, gpus)
    told = forecast(recipe, pilot, target, prices, options.seed)
    facts: dict[str, Any] = {**asdict(told), "prices": prices.model_dump()}
    if options.run:
        Storage(options.run).write_json(FORECAST, facts)
    if options.json:
        json.dump(facts, sys.stdout, indent=1)
        print()
    else:
        show(told, priced_by=options.price)
        if options.run:
            print(f"Kept: {Storage(options.run).url(FORECAST)}, by which that run will tell how long it still takes.")
