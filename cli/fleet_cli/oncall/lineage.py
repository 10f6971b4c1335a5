"""Where a version comes from, as its PolicyVersion knows. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

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
            f"the cluster keeps no episodes, so nothing here knows {name}: its record, with robot, "
            "task and the digest of its version, is in the job's journal "
            f"({names.job_root('UID')}/journal/ in the job's store, UID as in `kubectl get ftj JOB "
            "-o jsonpath={.metadata.uid}`)",
            Exit.NOT_FOUND,
        )
    raise Fault(
        f"{name!r} is no version: write JOB-vN, as `fleet history JOB` does", Exit.NOT_FOUND
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
        f"{data.through}, in the job's store"
    )
    drawn = "how often each was drawn: the learner does not write that down"
    told = (
        "demonstrations and parameters: spec.offline and spec.algorithm of the job are as they "
        "stand now, not as they stood then"
    )
    before = "what came before the last ancestor: it is past spec.history.versions"
    return [which, drawn, told, *([before] if past else [])]
