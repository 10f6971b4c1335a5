"""Seeded bugs of the operator: patches of a copied tree, and the cases that must catch each."""

import shutil
from pathlib import Path
from typing import NamedTuple

import fleet_contract
import fleet_operator
from faults.cases import Case

PACKAGES = (Path(fleet_operator.__path__[0]), Path(fleet_contract.__path__[0]))


def copied(root: Path) -> Path:
    """The operator as it is now, to be run from there."""
    for package in PACKAGES:
        shutil.copytree(package, root / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


class Mutant(NamedTuple):
    """One bug: in this file this text, once, becomes that."""

    name: str
    file: str
    text: str
    bug: str
    fault: str = ""  # what shows it; empty: the scenario alone
    resource: str = ""  # … at the first write of this resource by this verb
    verb: str = ""

    def plant(self, folder: Path) -> Path:
        """A copy of the operator with the bug in it. Raises where its place is not found."""
        root = folder / self.name.replace(" ", "-")
        shutil.copytree(
            OPERATOR, root / OPERATOR.name, ignore=shutil.ignore_patterns("__pycache__")
        )
        path = root / OPERATOR.name / self.file
        source = path.read_text()
        if source.count(self.text) != 1:
            raise LookupError(f"{self.name}: {self.file} has {source.count(self.text)} such places")
        path.write_text(source.replace(self.text, self.bug))
        return root

    def case(self, number: int) -> Case:
        return Case(24, self.fault, number)


MUTANTS = (
    Mutant(
        "one robot too many",
        "decide/cohort.py",
        "count = size(step, len(there))",
        "count = size(step, len(there)) + 1",
    ),
    Mutant(
        "promoted an episode early",
        "decide/analysis.py",
        "evidence.episodes < step.min_episodes",
        "evidence.episodes < step.min_episodes - 1",
    ),
    Mutant(
        "the clock in a status",
        "decide/conditions.py",
        "if old and old.status == status",
        "if old and old.status == status and status != 'True'",
    ),
    Mutant(
        "the epoch of the status alone",
        "decide/assignment.py",
        "known = [status.epoch, last.epoch] if last else [status.epoch]",
        "known = [status.epoch]",
        *("kill before", "fleettrainingjobs/status", "assigned"),
    ),
    Mutant(
        "what exists is a fault",
        "cluster.py",
        "path, query=query, body=manifest, absent={409})\n\n    async def installation",
        "path, query=query, body=manifest)\n\n    async def installation",
        *("kill after", "jobs", "create"),
    ),
    Mutant(
        "a run numbered by the status alone",
        "decide/learner.py",
        "number = max([last_number, *(run.number for run in runs if run.ours)])",
        "number = last_number",
        *("kill after", "jobs", "create"),
    ),
    Mutant(
        "people told after the status",
        "handlers/training_job.py",
        "",
        "",
        *("kill after", "fleettrainingjobs/status", "assigned"),
    ),
    Mutant(
        "orphans by a list alone",
        "handlers/endings.py",
        "",
        "",
        *("first lists", "fleettrainingjobs/status", "apply"),
    ),
)
