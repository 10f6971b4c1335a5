"""What is installed under an entry point: the one look-up of plug-ins by name."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from fleet_contract.parameters import unknown


def available(group: str) -> dict[str, EntryPoint]:
    """Name → entry point."""
    return {found.name: found for found in entry_points(group=group)}


def find(group: str, name: str) -> Any:
    """What is installed under that name; ValueError names what there is."""
    known = available(group)
    if name not in known:
        raise ValueError(unknown(name, known))
    return known[name].load()
