"""``fleet policies``: what a job's ``spec.policy.architecture`` may name."""

from __future__ import annotations

from fleet_cli import algorithms
from fleet_cli.plugins import POLICIES

INTRODUCTION = """\
<!-- Made by `make generate` from runtime/fleet_runtime/policies; edit those. -->
# Policies

`spec.policy.architecture` names one of these, `spec.policy.parameters` sets what its table lists,
in camelCase. A package of your own adds an architecture by an entry point in the group
`fleetloop.policies`; what it must offer is `Trainable` in `fleet_runtime/policies/base.py`, and it
must be installed where the learner runs and on the robots.

What of a policy learns is the algorithm's to say: `trainable`, `loraRank` and `loraAlpha` in
[algorithms.md](algorithms.md).
"""


def render() -> str:
    """The page of all installed architectures, as Markdown."""
    return algorithms.render(POLICIES, INTRODUCTION)


def section(name: str) -> str:
    """One architecture. ValueError for an unknown name."""
    return algorithms.section(name, POLICIES)
