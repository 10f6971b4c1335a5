"""Which old keys are still known, and what still needs them. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from fleet_cli.exits import Fault
from fleet_cli.oncall import views
from fleet_cli.oncall.tables import age
from fleet_contract import names
from fleet_contract.names import Label, Signatory
from fleet_contract.trust import key_id, read_public
from fleet_operator.decide.assignment import LIFETIME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fleet_cli.kube import Object
    from fleet_contract.resources import FleetTrainingJob, PolicyVersion, RobotActor

SHOWN = 5  # versions named in one line


class Keys(NamedTuple):
    """What the namespace knows of keys; a ``Fault`` says why something could not be looked at."""

    trust: Object | Fault | None
    secrets: Mapping[Signatory, Object | None] | Fault  # metadata only
    versions: list[PolicyVersion] | Fault


def check(
    keys: Keys, jobs: Sequence[FleetTrainingJob], robots: Sequence[RobotActor], now: float
) -> Iterator[views.Check]:
    """A line for each role that has more than one key; none where all is as it was made."""
    for fault in keys:
        if isinstance(fault, Fault):
            yield views.Check.unseen("keys", fault)
            return
    assert not isinstance(keys.trust, Fault)  # noqa: S101 - said above
    assert not isinstance(keys.secrets, Fault)  # noqa: S101
    assert not isinstance(keys.versions, Fault)  # noqa: S101
    files = (keys.trust or {}).get("data") or {}
    for role in Signatory:
        secret = keys.secrets.get(role)
        name = f"keys of the {role}"
        try:
            known = read_public(files.get(role.value, ""))
        except ValueError as fault:
            found = f"ConfigMap {names.TRUST}, {role}: {fault}"
            yield views.Check(name=name, ok=False, found=found, remedy="correct that line")
            continue
        told = (secret or {}).get("metadata", {}).get("annotations") or {}
        signs = told.get(Label.PUBLIC_KEY.value, "")
        old = {one: public for one, public in known.items() if public != signs}
        if not old or not signs:
            continue
        waits = (
            _versions(jobs, robots, keys.versions, old)
            if role is Signatory.LEARNER
            else _documents(told.get(Label.SIGNS_SINCE.value, ""), now)
        )
        listed = ", ".join(sorted(old))
        head = f"{key_id(signs)} signs; old keys still believed: {listed}"
        if waits:
            yield views.Check(name=name, ok=True, found=f"{head}; still needed: {waits}")
        else:
            lines = ", ".join(public for _, public in sorted(old.items()))
            yield views.Check(
                name=name,
                ok=True,
                found=f"{head}; no longer needed",
                remedy=f"take {lines} out of the entry {role} of ConfigMap {names.TRUST}, and out "
                f"of the file {role} of robots outside",
            )


def _versions(
    jobs: Sequence[FleetTrainingJob],
    robots: Sequence[RobotActor],
    versions: Sequence[PolicyVersion],
    old: Mapping[str, str],
) -> str:
    """Those in use that an old key signed, or that nobody knows who signed."""
    used: set[tuple[str, int]] = set()
    for job in jobs:
        fleet, pinned = job.status, job.spec.rollout.pinned_version
        refs = [fleet.stable, fleet.rollout.candidate, *fleet.last_known_good]
        used |= {(job.metadata.name, one.sequence) for one in refs if one is not None}
        used |= {(job.metadata.name, pinned)} if pinned else set()
    for robot in robots:
        own = (robot.status.active, robot.status.pending, robot.status.last_known_good)
        used |= {(robot.spec.job, one.sequence) for one in own if one is not None}
        used |= {(robot.spec.job, robot.spec.pin)} if robot.spec.pin else set()
    signed = {(one.spec.job, one.spec.sequence): one.spec.signed_by for one in versions}
    need = sorted(one for one in used if (key := signed.get(one, "")) in old or not key)
    shown = ", ".join(f"version {sequence} of {job}" for job, sequence in need[:SHOWN])
    more = f" and {len(need) - SHOWN} more" if len(need) > SHOWN else ""
    return f"{shown}{more}: at work, on trial, pinned or to go back to" if need else ""


def _documents(since: str, now: float) -> str:
    """An assignment that the old key signed may still be the newest."""
    try:
        left = LIFETIME - (now - datetime.fromisoformat(since).timestamp())
    except ValueError:
        return "nobody wrote down since when the new one signs; a day later the old one may go"
    return f"assignments it signed are valid for {age(left)} more" if left > 0 else ""
