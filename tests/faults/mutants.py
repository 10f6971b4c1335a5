"""Seeded bugs: patches of a copied tree, and what plays the case that must catch each.

One of the operator's is played by its scenario; any other by a case without a cluster, in a process
of its own that takes the programs from the copy. That case is played with an unpatched copy, too: a
bug is noticed only where the oracle has nothing against the program as it is.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import fleet_contract
import fleet_operator
import fleet_runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from faults.bench import Bench
    from helpers.proxy import Fault

    Case = Callable[[Path], Awaitable[dict[str, Any]] | dict[str, Any]]
    """A folder of its own → what is told; `wrong` is empty where it passed."""

PACKAGES = [Path(one.__path__[0]) for one in (fleet_contract, fleet_operator, fleet_runtime)]
TESTS = Path(__file__).parents[1]
BROKE = "the bench broke"
MOST = 900.0
"""Seconds for one case."""


class Law(enum.StrEnum):
    """What must hold whatever fails; each has bugs that break it."""

    ONCE = "what was receipted is kept, once, with the bytes it had"
    TRUE = "a robot runs what both signed, was assigned to it and is not older; a version is whole"
    SWAP = "versions change between two episodes, and a good one can always be gone back to"
    STAGE = "no more robots get a version than its stage allows"
    QUIET = "the end is as if nothing had failed, and then nothing is written"
    REFUSED = "what is bad is refused with its reason and kept apart, and its neighbours go on"
    MOTOR = "a motor hears what is finite, within bounds and in time, or the last safe action"
    BOUND = "memory and disk have bounds, and so has the time to be back"


class Mutant(NamedTuple):
    """One bug: in this file this text, once, becomes that."""

    name: str
    law: Law
    file: str
    text: str
    bug: str
    case: Case | None = None  # None: the operator's scenario
    shown_by: Callable[[Bench], Fault] | None = None  # a fault in that; None: it alone
    wants_root: bool = False

    def plant(self, folder: Path) -> Path:
        """A copy of the programs with the bug in it. Raises where its place is not found."""
        root = copied(folder)
        path = root / self.file
        path.write_text(self.patched(path.read_text()))
        return root

    def patched(self, source: str) -> str:
        """Its file with the bug in it; raises as `plant`."""
        if source.count(self.text) != 1:
            raise LookupError(f"{self.name}: {self.file} has {source.count(self.text)} such places")
        return source.replace(self.text, self.bug)


def copied(root: Path) -> Path:
    """The programs as they are now, to be run from there."""
    for package in PACKAGES:
        shutil.copytree(package, root / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def noticed(one: Mutant, folder: Path) -> dict[str, Any]:
    """Passed where the case has something against the bug, and nothing against the program."""
    sound = played(one, copied(folder / "program"), folder / "sound")
    if sound["wrong"]:
        return {"wrong": [f"without the bug, too: {said}" for said in sound["wrong"]]}
    found = played(one, one.plant(folder / "bug"), folder / "played")
    told = [said for said in found["wrong"] if not said.startswith(BROKE)]
    return {"wrong": [] if told else ["nobody noticed", *found["wrong"]], "caught": told[:3]}


def played(one: Mutant, program: Path, folder: Path) -> dict[str, Any]:
    """What the case says of the programs in that folder."""
    folder.mkdir()
    told, log = folder / "told.json", folder / "log"
    with log.open("wb") as said:
        child = subprocess.Popen(
            [sys.executable, "-m", "faults.seeded", one.name, *map(str, (folder, told, program))],
            env=os.environ | {"PYTHONPATH": f"{program}:{TESTS}"},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            child.wait(MOST)
        except subprocess.TimeoutExpired:
            said.write(b"it took too long")
        finally:
            _end(child)
    if not told.exists():
        return {"wrong": [f"{BROKE}: {log.read_text()[-500:]}"]}
    found: dict[str, Any] = json.loads(told.read_text())
    return found


def _end(child: subprocess.Popen[bytes]) -> None:
    """It, and whatever it started; asked first, for it may have disks to unmount."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(60)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
