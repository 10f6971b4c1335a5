"""The walls that import-linter cannot see: what is really loaded when a program starts."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("program", "barred"),
    [
        ("fleet_operator.main", {"torch", "numpy", "fsspec", "fleet_runtime"}),
        ("fleet_cli.main", {"torch", "kubernetes", "matplotlib", "fleet_operator"}),
        ("fleet_runtime.robot.main", {"kubernetes", "kopf", "fleet_runtime.replay"}),
        ("fleet_runtime.learner.main", {"kubernetes", "kopf", "metaworld", "gymnasium"}),
        ("fleet_runtime.clerk.main", {"kubernetes", "kopf", "torch", "fleet_runtime.robot"}),
    ],
)
def test_a_program_loads_nothing_from_rooms_it_has_no_business_in(
    program: str, barred: set[str]
) -> None:
    code = f"import sys, {program}; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert not loaded & barred
