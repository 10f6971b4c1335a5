"""Buttons: one-shot requests to the operator, and its answer.

A request is an annotation that names verb and version, so that it means the same whenever it is
read; its nonce makes a second press a new one. Git owns no such annotation, so nothing fights it.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, NamedTuple

from fleet_cli.exits import Exit, Fault
from fleet_cli.oncall import views
from fleet_cli.oncall.world import read
from fleet_contract.names import ConditionType, Kind, Label, Reason, Verb
from fleet_contract.resources import FleetTrainingJob

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_cli.kube import Kube, Object


class Button(NamedTuple):
    """One verb: which version it means where none is named, and what to say where none is there."""

    version: Callable[[FleetTrainingJob], int | None]
    none: str = ""


def _candidate(job: FleetTrainingJob) -> int | None:
    found = job.status.rollout.candidate
    return found.sequence if found else None


def _stable(job: FleetTrainingJob) -> int | None:
    return job.status.stable.sequence if job.status.stable else None


def _any(job: FleetTrainingJob) -> int:
    """Of what concerns the whole fleet."""
    return _candidate(job) or _stable(job) or 0


def _again(job: FleetTrainingJob) -> int | None:
    """What stands at a gate that could not be run, or what was taken back last."""
    blocked = job.status.rollout.reason == Reason.GATE_BLOCKED
    return _candidate(job) if blocked else max(job.status.rolled_back, default=None)


TRIAL = Button(_candidate, "no version is under trial")
FLEET = Button(_any)
BUTTONS = {
    Verb.PROMOTE: TRIAL,
    Verb.ABORT: TRIAL,
    Verb.SKIP: TRIAL,
    Verb.APPROVE: TRIAL,
    Verb.PAUSE: FLEET,
    Verb.RESUME: FLEET,
    Verb.RETRY: Button(_again, "no version was taken back"),
    Verb.ROLLBACK: Button(_stable, "the fleet runs no version yet"),
}


def request(verb: Verb, job: FleetTrainingJob, version: int | None, nonce: str) -> str:
    """The annotation's text. Raises ``Fault`` where no version is meant."""
    button, name = BUTTONS[verb], job.metadata.name
    meant = button.version(job) if version is None else version
    if meant is None:
        raise Fault(
            f"{button.none} of {name}: name one (`fleet {verb} {name} VERSION`), or look at "
            f"`fleet status {name}`"
        )
    return f"{verb}@{meant}#{nonce}"


def answer(text: str, raw: Object) -> views.Answer | None:
    """What the operator says to a request; None before it has looked at it."""
    status = raw.get("status", {})
    if status.get("lastHandledRequest") != text:
        return None
    said = str(status.get("rollout", {}).get("answer", ""))
    refused = said.startswith(f"{text} was not done")
    return views.Answer(job=raw["metadata"]["name"], request=text, done=not refused, message=said)


def silence(text: str, raw: Object, within: float) -> Fault:
    """Why nobody answered, as far as the object tells."""
    name = raw["metadata"]["name"]
    stands = f"request {text} stands and is done as soon as the operator looks at it"
    now = raw["metadata"].get("annotations", {}).get(Label.REQUEST.value)
    if now != text:
        return Fault(
            f"somebody pressed another button meanwhile ({now}): see `fleet status {name}`"
        )
    for one in raw.get("status", {}).get("conditions", []):
        if one["type"] == ConditionType.STALLED.value and one["status"] == "True":
            why = f"{name} is Stalled: {one['message']}"
            return Fault(f"no answer within {within:g} s: {why} {stands}", Exit.NO_ANSWER)
    return Fault(
        f"no answer within {within:g} s: `fleet doctor` tells whether the operator runs; {stands}",
        Exit.NO_ANSWER,
    )


async def press(
    kube: Kube, verb: Verb, name: str, version: int | None, within: float
) -> views.Answer:
    """Press it and await the operator's answer, for at most ``within`` seconds; 0: do not wait.

    Raises ``Fault`` where there is no such job or version, or no answer.
    """
    job = read(FleetTrainingJob, await kube.get(Kind.TRAINING_JOB, name))
    text = request(verb, job, version, secrets.token_hex(4))
    patch = {"metadata": {"annotations": {Label.REQUEST.value: text}}}
    seen = await kube.merge(Kind.TRAINING_JOB, name, patch)
    if not within:
        return views.Answer(job=name, request=text, done=False, message="Asked; not waited for.")
    try:
        async with asyncio.timeout(within):
            async for known in kube.follow(
                Kind.TRAINING_JOB, fieldSelector=f"metadata.name={name}"
            ):
                if name not in known:
                    raise Fault(f"{name} was deleted meanwhile", Exit.NOT_FOUND)
                seen = known[name]
                if found := answer(text, seen):
                    return found
    except TimeoutError:
        pass
    raise silence(text, seen, within)
