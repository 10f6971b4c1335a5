"""Where a version comes from, as its PolicyVersion knows, and its episodes, as the store does.

The store is read by the runtime's program: this one has no driver for it. All else is pure.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from asyncio.subprocess import PIPE
from typing import TYPE_CHECKING, Any

from fleet_cli.exits import Exit, Fault
from fleet_cli.oncall import views
from fleet_contract import names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet_contract.resources import PolicyVersion, PolicyVersionSpec

_VERSION = re.compile(r"(?P<job>[a-z0-9]([-a-z0-9]*[a-z0-9])?)-v(?P<version>[0-9]+)")
_EPISODE = re.compile(r"[0-9a-f]{32}")


def job_of(name: str) -> str:
    """The job of a version's name. Raises ``Fault`` for what is none, an episode's id included."""
    if found := _VERSION.fullmatch(name):
        return found["job"]
    if _EPISODE.fullmatch(name):
        raise Fault(
            f"the cluster keeps no episodes, so nothing here knows {name}: its record is in the "
            f"job's journal ({names.job_root('UID')}/journal/ in the job's store); give --job and "
            "--storage to have it looked for",
            Exit.NOT_FOUND,
        )
    raise Fault(
        f"{name!r} is no version: write JOB-vN, as `fleet history JOB` does", Exit.NOT_FOUND
    )


def is_episode(name: str) -> bool:
    """Whether it reads like an episode's id."""
    return _EPISODE.fullmatch(name) is not None


async def stored(storage: str, job_uid: str, **what: object) -> dict[str, Any]:
    """What the runtime reads in the store. Raises ``Fault`` with its words."""
    chosen = [part for name, value in what.items() for part in (f"--{name}", str(value))]
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "fleet_runtime.lineage", "--storage", storage, "--job-uid", job_uid, *chosen),
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        out, said = await program.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            program.kill()  # whoever stops waiting leaves nobody who reads on
        await program.wait()
    if program.returncode:
        words = said.decode().strip().splitlines() or ["the store could not be read"]
        if words[-1].startswith("ModuleNotFoundError"):
            raise Fault(f"what reads a store is not here: install fleetloop[learner] ({words[-1]})")
        raise Fault(words[-1].removeprefix("error: "), Exit.NOT_FOUND)
    answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    return answer


def episode(job: str, found: dict[str, Any]) -> views.EpisodeOrigin:
    """As the store told."""
    return views.EpisodeOrigin.model_validate(found | {"job": job})


def with_episodes(view: views.Lineage, found: dict[str, Any]) -> views.Lineage:
    """The same with what the store told. Raises ``Fault`` where that is of another version."""
    if found["manifest"]["digest"] != view.digest:
        raise Fault(
            f"{found['manifest']['uri']} in that store is not {view.name}: another digest",
            Exit.NOT_FOUND,
        )
    return view.model_copy(
        update={
            "trained": [views.Lived.model_validate(one) for one in found["episodes"]],
            "forgotten": found["forgotten"],
            "unknown": view.unknown[1:],
        }
    )


def lineage(version: PolicyVersion, versions: Iterable[PolicyVersion]) -> views.Lineage:
    """One version and those it was trained from, as far back as they are kept."""
    spec = version.spec
    kept = {one.spec.sequence: one for one in versions if one.spec.job_uid == spec.job_uid}
    ancestors, at = [], spec.parent
    while at is not None:
        found = kept.get(at)
        if found is None:
            ancestors.append(views.Ancestor(version=at, kept=False))
            break
        ancestors.append(
            views.Ancestor(
                version=at,
                kept=True,
                phase=found.status.phase.value,
                step=found.spec.learner_step,
                episodes=found.spec.lineage.episodes,
            )
        )
        at = found.spec.parent
    parent = kept.get(spec.parent) if spec.parent is not None else None
    data = spec.lineage
    return views.Lineage(
        name=version.metadata.name,
        version=spec.sequence,
        job=spec.job,
        digest=spec.digest,
        uri=spec.uri,
        size=spec.size,
        learner_epoch=spec.learner_epoch,
        step=spec.learner_step,
        first_segment=data.first,
        last_segment=data.through,
        episodes=data.episodes,
        fresh_episodes=max(0, data.episodes - parent.spec.lineage.episodes) if parent else None,
        ancestors=ancestors,
        training_metrics=spec.training_metrics,
        unknown=_unknown(spec, past=bool(ancestors) and not ancestors[-1].kept),
    )


def _unknown(spec: PolicyVersionSpec, *, past: bool) -> list[str]:
    data, root = spec.lineage, names.job_root(spec.job_uid)
    which = (
        f"which episodes: they are the records of {root}/journal/, segments {data.first} to "
        f"{data.through}, in the job's store: --storage reads them"
    )
    drawn = "how often each was drawn: the learner does not write that down"
    told = (
        "demonstrations and parameters: spec.offline and spec.algorithm of the job are as they "
        "stand now, not as they stood then"
    )
    before = "what came before the last ancestor: it is past spec.history.versions"
    return [which, drawn, told, *([before] if past else [])]
