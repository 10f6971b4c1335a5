"""Algorithms by name: whatever is installed under the entry point `fleetloop.algorithms`."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from fleet_contract.parameters import unknown

if TYPE_CHECKING:
    from fleet_runtime.algorithms.base import Algorithm

GROUP = "fleetloop.algorithms"


def available() -> dict[str, str]:
    """Name → where it lives, `module:class`."""
    return {found.name: found.value for found in entry_points(group=GROUP)}


def find(name: str) -> type[Algorithm]:
    """The algorithm of that name; ValueError names those there are."""
    places = available()
    if name not in places:
        raise ValueError(unknown(name, places))
    module, _, attribute = places[name].partition(":")
    kind: type[Algorithm] = getattr(importlib.import_module(module), attribute)
    return kind
