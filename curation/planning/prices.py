"""What an hour, a GB and a month cost: a YAML file of the user's; prices.yaml beside this file has its fields."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from common.settings import Section, read_yaml, validated

EXAMPLE = Path(__file__).with_name("prices.yaml")


class Prices(Section):
    currency: str = "$"
    core_hour: float = Field(ge=0, description="of a core, busy or not")
    gpu_hour: float = Field(ge=0)
    download_gb: float = Field(ge=0)
    egress_gb: float = Field(ge=0, description="of the shards, once")
    storage_gb_month: float = Field(ge=0)
    months: float = Field(ge=0)


def load_prices(path: str | None) -> Prices:
    """A file's prices; without one the examples'.

    Raises:
        RecipeError: it cannot be read, or lacks a price.
    """
    file = path or str(EXAMPLE)
    return validated(Prices, read_yaml(file), file)
