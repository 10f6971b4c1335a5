"""Edits of a spec: made here, or, where Git owns the object, told for Git. Never without asking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleet_cli.exits import Exit, Fault
from fleet_cli.oncall import git, views
from fleet_cli.oncall.options import Format, show
from fleet_contract.names import Kind
from fleet_contract.resources import RolloutMode

if TYPE_CHECKING:
    from fleet_cli.kube import Kube, Object


def pinned(version: int) -> Object:
    """The whole fleet on one version."""
    return {"spec": {"rollout": {"mode": RolloutMode.PINNED.value, "pinnedVersion": version}}}


def unpinned(mode: RolloutMode) -> Object:
    """Newer versions are let through again."""
    return {"spec": {"rollout": {"mode": mode.value, "pinnedVersion": None}}}


def in_git(patch: Object) -> str:
    """The edit as YAML, to be written into Git; a field that goes is a comment."""
    return "\n".join(_lines(patch, 0))


def _lines(part: dict[str, Any], depth: int) -> list[str]:
    lines = []
    for key, value in part.items():
        at = "  " * depth
        if isinstance(value, dict):
            lines += [f"{at}{key}:", *_lines(value, depth + 1)]
        elif value is None:
            lines.append(f"{at}# remove {key}")
        else:
            shown = str(value).lower() if isinstance(value, bool) else value
            lines.append(f"{at}{key}: {shown}")
    return lines


async def edit(
    kube: Kube, kind: Kind, name: str, patch: Object, *, does: str, force: bool
) -> views.Edit:
    """Merge the patch into a spec, unless Git owns the object and nobody forces it."""
    owner = git.owner(await kube.get(kind, name))
    common: dict[str, Any] = {"name": name, "patch": patch}
    if owner is not None and not force:
        return views.Edit(
            **common,
            applied=False,
            managed_by=owner,
            message=f"{name} comes from Git by {owner}, which would undo an edit made here. "
            "Change it there, or use --force until the next sync.",
        )
    await kube.merge(kind, name, patch)
    undone = "" if owner is None else f" {owner} undoes it at its next sync."
    return views.Edit(
        **common,
        applied=True,
        managed_by=owner or "",
        message=f"{does}{undone}",
    )


async def pin(kube: Kube, job: str, version: int, *, robot: str, force: bool) -> views.Edit:
    """Hold the fleet, or one robot, on a version that is kept.

    Raises ``Fault`` where it is not: robots would be given something else.
    """
    uid = (await kube.get(Kind.TRAINING_JOB, job))["metadata"]["uid"]
    found = await kube.list(Kind.POLICY_VERSION, fieldSelector=f"spec.job={job}")
    kept = sorted(one["spec"]["sequence"] for one in found if one["spec"]["jobUid"] == uid)
    if version not in kept:
        there = f"there are {', '.join(map(str, kept))}" if kept else "there is none yet"
        raise Fault(f"version {version} of {job} is not kept: {there}")
    if robot:
        await _works_for(kube, robot, job)
        does = f"Robot {robot} takes version {version} up at its next episode."
        patch = {"spec": {"pin": version}}
        return await edit(kube, Kind.ROBOT_ACTOR, robot, patch, does=does, force=force)
    does = f"The fleet of {job} holds version {version}; `fleet unpin {job}` ends that."
    return await edit(kube, Kind.TRAINING_JOB, job, pinned(version), does=does, force=force)


async def unpin(kube: Kube, job: str, mode: RolloutMode, *, robot: str, force: bool) -> views.Edit:
    """The fleet, or one robot, follows its rollout again.

    Raises ``Fault`` for a fleet that is not pinned: that would only change who decides.
    """
    if robot:
        await _works_for(kube, robot, job)
        does, patch = f"Robot {robot} follows its job's rollout.", {"spec": {"pin": None}}
        return await edit(kube, Kind.ROBOT_ACTOR, robot, patch, does=does, force=force)
    rollout = (await kube.get(Kind.TRAINING_JOB, job))["spec"].get("rollout", {})
    if (now := rollout.get("mode")) != RolloutMode.PINNED:
        raise Fault(f"the fleet of {job} is not pinned: it stays in mode {now}")
    does = f"Newer versions of {job} are let through again, in mode {mode}."
    return await edit(kube, Kind.TRAINING_JOB, job, unpinned(mode), does=does, force=force)


async def _works_for(kube: Kube, robot: str, job: str) -> None:
    """Raises ``Fault`` where it does not: its versions are those of another job."""
    its = (await kube.get(Kind.ROBOT_ACTOR, robot))["spec"]["job"]
    if its != job:
        raise Fault(f"robot {robot} works for {its}, not for {job}: name that job")


def told(view: views.Edit, output: Format) -> int:
    """Print what became of it; the exit code."""
    lines = [view.message] if view.applied else [view.message, "", *in_git(view.patch).splitlines()]
    show(view, lines, output)
    return Exit.DONE if view.applied else Exit.NOT_DONE
