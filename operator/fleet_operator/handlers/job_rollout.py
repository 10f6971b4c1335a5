"""What a rollout's decision does to the world: versions, the document, then their statuses.

Last the learner is told which versions are left: it removes the objects of all others.
"""

from collections.abc import Collection, Iterable

from fleet_contract.errors import Retry
from fleet_contract.names import Kind
from fleet_contract.resources import PolicyPhase, PolicyVersion, PolicyVersionSpec, VersionRef
from fleet_contract.resources.job_status import AssignmentStatus
from fleet_operator.cluster import RefusedError
from fleet_operator.decide import assignment, history, policy_versions
from fleet_operator.decide.analysis import Evidence
from fleet_operator.decide.rollout import Decision, State
from fleet_operator.desired import policy_versions as desired_versions
from fleet_operator.handlers.job_world import World, robots_of
from fleet_operator.inbox import publish_assignment, publish_kept
from fleet_operator.office import Office
from fleet_operator.subscription import Subscription


async def apply_rollout(
    office: Office,
    world: World,
    line: Subscription,
    decision: Decision,
    evidence: Evidence,
    *,
    counts: bool,
) -> AssignmentStatus:
    """Versions first, for an assignment must not name what does not exist; then the document.

    ``counts``: whether a version's status is written where it only counts on.
    """
    job, spec = world.job, world.job.spec.rollout
    versions = {one.spec.sequence: one for one in world.versions}
    pinned = frozenset(
        pin for pin in (spec.pinned_version, *(one.spec.pin for one in world.robots)) if pin
    )
    state = decision.state
    noted = history.noted(line.feed.kept, _at_work(state))
    published = noted | line.published | {number: one.spec for number, one in versions.items()}
    if announced := line.feed.announcement:
        published[announced.policy.sequence] = desired_versions.published(job, announced)
    new = {move.version.sequence for move in decision.moves if move.phase is PolicyPhase.CANDIDATE}
    at_work = {one.sequence for one in _at_work(state)}
    needed = (new | pinned | at_work) & published.keys()
    # Kept, so that what is at work comes back when somebody deletes it.
    line.published = {sequence: published[sequence] for sequence in needed}
    for sequence in needed - versions.keys():
        versions[sequence] = await _make(office, world, published[sequence])
    refs = {sequence: desired_versions.ref(one) for sequence, one in versions.items()}
    wanted = assignment.content(spec, state, robots_of(world), refs)
    known, feed = job.status.assignment, line.feed
    document = assignment.next_document(wanted, feed.assignment, known, job.metadata.uid, world.now)
    if document is not None:
        await publish_assignment(office.inbox, line, document)
    changed = policy_versions.statuses(versions.values(), decision, evidence, pinned, world.now)
    for sequence, status in changed.items():
        if not counts and policy_versions.only_counts(versions[sequence].status, status):
            continue
        at = versions[sequence].metadata
        await office.cluster.write_status(Kind.POLICY_VERSION, at, status.dump())
    if not world.unheard:  # they may run what seems to be of no use
        await _prune(office, world, line, versions.values(), state, pinned)
    if (said := feed.assignment) is None:
        return known
    return AssignmentStatus(
        term=said.term,
        generation=said.generation,
        epoch=max(said.epoch, known.epoch),
        content_hash=wanted.hash,
    )


def _at_work(state: State) -> list[VersionRef]:
    """What the fleet runs, tries, or is given by a rollback; older ones stay as history allows."""
    held = (state.stable, state.candidate, *state.known_good[-1:])
    return [one for one in held if one]


async def _make(office: Office, world: World, spec: PolicyVersionSpec) -> PolicyVersion:
    manifest = desired_versions.policy_version(world.job, spec)
    made = await office.cluster.create(manifest)
    if made is None:
        made = await office.cluster.get(Kind.POLICY_VERSION, manifest["metadata"]["name"])
    if made is None or made["spec"]["jobUid"] != spec.job_uid:
        name = manifest["metadata"]["name"]
        if made is not None and "ownerReferences" not in made["metadata"]:
            raise RefusedError(
                f"PolicyVersion {name} of an earlier job of this name was retained: delete it, "
                "or give this job another name"
            )
        raise Retry(f"PolicyVersion {name} of an earlier job still exists")
    return PolicyVersion.model_validate(made)


async def _prune(
    office: Office,
    world: World,
    line: Subscription,
    versions: Iterable[PolicyVersion],
    state: State,
    pinned: Collection[int],
) -> None:
    """Only now the learner may remove what belongs to those that went."""
    at_work = {one.sequence for one in _at_work(state)}
    used = set(pinned) | at_work
    for robot in world.robots:
        used |= {one.sequence for one in (robot.status.active, robot.status.pending) if one}
    beats = [heard.beat for heard in line.feed.heard.values()]  # statuses may be behind
    used |= {one.sequence for beat in beats for one in (beat.active, beat.pending) if one}
    by_sequence = {one.spec.sequence: one for one in versions}
    keep = world.job.spec.history.versions
    gone = history.surplus(by_sequence, keep=keep, used=used)
    for sequence in gone:
        at = by_sequence[sequence].metadata
        await office.cluster.delete(Kind.POLICY_VERSION, at.name, at.uid)
    good = {beat.good.sequence for beat in beats if beat.good}
    specs = {one: line.published[one] for one in at_work if one in line.published}
    uid = world.job.metadata.uid
    kept = history.kept(uid, by_sequence, gone=gone, used=used | good, specs=specs)
    if kept is not None and kept != line.feed.kept:
        await publish_kept(office.inbox, line, kept)
