"""Seeded bugs of the operator: patches of a copied tree, and the cases that must catch each."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import fleet_contract
import fleet_operator
from faults.bench import Bench
from faults.injections import KillWhere, StaleWhere
from helpers.proxy import Fault

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
    shown_by: Callable[[Bench], Fault] | None = None  # None: the scenario alone

    def plant(self, folder: Path) -> Path:
        """A copy of the operator with the bug in it. Raises where its place is not found."""
        root = copied(folder)
        path = root / PACKAGES[0].name / self.file
        source = path.read_text()
        if source.count(self.text) != 1:
            raise LookupError(f"{self.name}: {self.file} has {source.count(self.text)} such places")
        path.write_text(source.replace(self.text, self.bug))
        return root


_RUN = partial(KillWhere, resource="jobs", said="learner")
_STABLE = partial(KillWhere, resource="fleettrainingjobs/status", said='"stable"')
_NOTHING = partial(StaleWhere, resource="fleettrainingjobs/status", said='"stable"')
_TELL = "    await _tell(office, world, decision, after)\n"
_WRITE = """    if wait:
        office.wake_in(Key(Kind.TRAINING_JOB, name), wait)
    elif wait is not None:
        await office.cluster.write_status(Kind.TRAINING_JOB, world.job.metadata, after.dump())
        office.written_at[uid] = office.inbox.now
"""
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
        'if old and old.status == status and status != "True"',
    ),
    Mutant(
        "what exists is a fault",
        "cluster.py",
        'self._call("POST", path, query=query, body=manifest, absent={409})',
        'self._call("POST", path, query=query, body=manifest)',
        partial(KillWhere, resource="events", said="FirstVersion"),
    ),
    Mutant(
        "a run numbered by the status alone",
        "decide/learner.py",
        "number = max([last_number, *(run.number for run in runs if run.ours)])",
        "number = last_number",
        _RUN,
    ),
    Mutant(
        "people told after the status",
        "handlers/training_job.py",
        _TELL + _WRITE,
        _WRITE + _TELL,
        _STABLE,
    ),
    Mutant(
        "streams that a list calls orphans",
        "handlers/endings.py",
        "                and not await _has_job(office, one)\n",
        "",
        _NOTHING,
    ),
    Mutant(
        "a learner that a list does not show",
        "handlers/training_job.py",
        " and not await _lives(office, world, run.number - 1)",
        "",
        _NOTHING,
    ),
)
