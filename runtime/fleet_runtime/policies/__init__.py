"""Policies by architecture: whatever is installed under the entry point `fleetloop.policies`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet_runtime import plugins

if TYPE_CHECKING:
    from fleet_runtime.policies.base import Trainable

GROUP = "fleetloop.policies"


def available() -> list[str]:
    """The names there are."""
    return sorted(plugins.available(GROUP))


def find(name: str) -> type[Trainable]:
    """The policy of that architecture; ValueError names those there are."""
    kind: type[Trainable] = plugins.find(GROUP, name)
    return kind
