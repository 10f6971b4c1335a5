"""What a job leaves behind, and how it is cleared: no finalizers, so by looking.

A stream is an orphan when no job of its UID exists. Streams are listed before jobs, so that the
streams of a job made meanwhile are never taken for orphans.
"""

import logging

from fleet_contract.errors import Fenced, Retry
from fleet_contract.messages import Assignment, AssignmentState
from fleet_contract.names import Kind, Label, StreamMeta
from fleet_operator import metrics
from fleet_operator.decide.assignment import LIFETIME
from fleet_operator.inbox import publish_assignment
from fleet_operator.office import Office
from fleet_operator.streams import Found
from fleet_operator.subscription import Subscription
from fleet_operator.work import Key

DRAIN = 5.0  # seconds between `closed` and the end of the streams: robots hear it first
SWEEP = Key("sweep", "")

logger = logging.getLogger(__name__)


async def job_gone(office: Office, name: str) -> None:
    """The job was deleted: send its robots home, then let its streams be swept."""
    line = office.inbox.get(name)
    if line is not None:
        try:
            await _say_closed(office, line)
        except (Fenced, Retry) as fault:
            logger.warning("%s: its robots were not told that it ended: %s", name, fault)
        await office.inbox.close(name)
        office.wake_in(SWEEP, DRAIN)
    metrics.forget(office.settings.namespace, name)
    await _end_children(office, name)
    for robot in await office.cluster.list(Kind.ROBOT_ACTOR, fieldSelector=f"spec.job={name}"):
        office.wake(Key(Kind.ROBOT_ACTOR, robot["metadata"]["name"]))


async def _end_children(office: Office, name: str) -> None:
    """What the job owned goes now.

    The garbage collector would do it too, but takes half a minute to learn of kinds that were
    installed just now, while the learner works on. Only we make children, one key at a time: none
    of a namesake made meanwhile can be among these.
    """
    for kind in ("Job", Kind.ROBOT_ACTOR, Kind.POLICY_VERSION):
        for child in await office.cluster.list(kind, labelSelector=f"{Label.JOB}={name}"):
            at = child["metadata"]
            owners = {(one["kind"], one["name"]) for one in at.get("ownerReferences", [])}
            if (Kind.TRAINING_JOB.value, name) in owners and "deletionTimestamp" not in at:
                await office.cluster.delete(kind, at["name"], at["uid"], foreground=kind == "Job")


async def _say_closed(office: Office, line: Subscription) -> None:
    last = line.feed.assignment
    if last is None or last.state is AssignmentState.CLOSED:
        return
    now_ms = int(office.clock() * 1000)
    closed = Assignment(
        job_uid=last.job_uid,
        term=last.term,
        generation=last.generation,
        epoch=last.epoch + 1,
        issued_at_ms=now_ms,
        expires_at_ms=now_ms + int(LIFETIME * 1000),
        state=AssignmentState.CLOSED,
    )
    await publish_assignment(office.inbox, line, closed)


async def clear_namesakes(office: Office, name: str, uid: str, url: str) -> None:
    """Before a job's first streams: those of a deleted job of its name hold its subjects."""
    line = office.inbox.get(name)
    if line is not None and line.feed.job_uid == uid and line.streams:
        return
    bus = office.inbox.bus(url)
    found = await bus.find(office.settings.namespace, await office.cluster.installation())
    stale = [
        one.name
        for one in found
        if one.metadata.get(StreamMeta.JOB) == name and one.metadata.get(StreamMeta.JOB_UID) != uid
    ]
    if stale:
        logger.info("%s: removing the streams of a deleted job of this name", name)
        await bus.remove(stale)


async def sweep(office: Office) -> None:
    """Remove orphaned streams at every broker we know."""
    office.inbox.bus(office.settings.nats_url)  # also where no job that is here uses it
    for bus in office.inbox.buses():
        try:
            installation = await office.cluster.installation()
            found = await bus.find(office.settings.namespace, installation)
            jobs = await office.cluster.list(Kind.TRAINING_JOB)
            alive = {one["metadata"]["uid"] for one in jobs}
            orphans = [
                one.name
                for one in found
                if one.metadata.get(StreamMeta.JOB_UID) not in alive
                and not await _has_job(office, one)
            ]
            if orphans:
                logger.info("removing orphaned streams: %s", ", ".join(orphans))
                await bus.remove(orphans)
        except Retry as fault:
            logger.warning("sweep: %s", fault)


async def _has_job(office: Office, stream: Found) -> bool:
    """Asked by name: what a stream holds is lost with it, and a list may be an old one."""
    job = await office.cluster.get(Kind.TRAINING_JOB, stream.metadata[StreamMeta.JOB])
    return job is not None and job["metadata"]["uid"] == stream.metadata[StreamMeta.JOB_UID]
