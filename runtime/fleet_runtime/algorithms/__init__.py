"""Algorithms by name: whatever is installed under the entry point `fleetloop.algorithms`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet_runtime import plugins

if TYPE_CHECKING:
    from fleet_runtime.algorithms.base import Algorithm

GROUP = "fleetloop.algorithms"


def available() -> dict[str, str]:
    """Name → where it lives, `module:class`."""
    return {name: found.value for name, found in plugins.available(GROUP).items()}


def find(name: str) -> type[Algorithm]:
    """The algorithm of that name; ValueError names those there are."""
    kind: type[Algorithm] = plugins.find(GROUP, name)
    return kind
