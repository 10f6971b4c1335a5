"""What each role may say and hear at the broker. Whatever is not here is refused.

A table of templates: the server puts a user's name and tags into the gaps. A new call in `wire`,
`bus` or `streams` needs its subject here; docs/identity.md shows the table in words.

What no role but the operator has: making, changing, purging or deleting a stream or a consumer,
reading a stream at will. A robot has no consumer: what it pulls (its assignment, its receipt) it
asks for by the one subject it lies on, which is part of what the permission names. What it may
fetch or put at the object store it asks the clerk, and is told on a subject that it alone hears.
"""

from typing import NamedTuple

from fleet_contract import names
from fleet_contract.names import LEARNER_CONSUMER, Channel, Identity, Stream

NAME, JOB, UID = "{{name()}}", "{{tag(job)}}", "{{tag(uid)}}"


class Table(NamedTuple):
    """Subjects; wildcards as NATS reads them."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def _info(stream: Stream) -> str:
    return f"$JS.API.STREAM.INFO.{names.stream(UID, stream)}"


def _last(stream: Stream, subject: str) -> str:
    """The newest message of one subject, and of no other."""
    return f"$JS.API.DIRECT.GET.{names.stream(UID, stream)}.{subject}"


def table(namespace: str) -> dict[Identity, Table]:
    """Of the account of a namespace."""

    def robots(robot: str, job: str, *channels: Channel) -> tuple[str, ...]:
        return tuple(names.robot_subject(namespace, robot, job, one) for one in channels)

    assign, announce = names.assign_subject, names.announce_subject
    beat, gate = names.learner_heartbeat_subject, names.gate_heartbeat_subject
    receipt, grant = robots(NAME, JOB, Channel.RECEIPT, Channel.GRANT)
    queue = f"{names.stream(UID, Stream.EXPERIENCE)}.{LEARNER_CONSUMER}"
    sent = (Channel.EXPERIENCE, Channel.EVENT, Channel.HEARTBEAT, Channel.ASK)

    return {
        Identity.ROBOT: Table(
            (
                *robots(NAME, JOB, *sent),
                _info(Stream.EXPERIENCE),
                _last(Stream.RECEIPTS, receipt),
                _last(Stream.CONTROL, assign(namespace, JOB)),
            ),
            (receipt, grant, assign(namespace, JOB), _inbox(Identity.ROBOT)),
        ),
        Identity.LEARNER: Table(
            (
                announce(namespace, JOB),
                beat(namespace, JOB),
                *robots("*", JOB, Channel.RECEIPT),
                _info(Stream.EXPERIENCE),
                f"$JS.API.CONSUMER.MSG.NEXT.{queue}",
                f"$JS.ACK.{queue}.>",
                _last(Stream.CONTROL, assign(namespace, JOB)),
                _last(Stream.CONTROL, announce(namespace, JOB)),
                _last(Stream.CONTROL, names.kept_subject(namespace, JOB)),
            ),
            (_inbox(Identity.LEARNER),),
        ),
        Identity.GATE: Table((gate(namespace, JOB),), (_inbox(Identity.GATE),)),
        Identity.CLERK: Table(
            robots("*", JOB, Channel.GRANT),
            (*robots("*", JOB, Channel.ASK), _inbox(Identity.CLERK)),
        ),
        Identity.OPERATOR: Table(
            (
                assign(namespace, "*"),
                names.kept_subject(namespace, "*"),
                "$JS.API.STREAM.LIST",
                *(f"$JS.API.STREAM.{verb}.*" for verb in ("CREATE", "UPDATE", "INFO", "DELETE")),
                "$JS.API.STREAM.MSG.GET.*",
                "$JS.API.CONSUMER.CREATE.>",
                "$JS.API.CONSUMER.DURABLE.CREATE.*.*",
                "$JS.API.CONSUMER.INFO.*.*",
                "$JS.API.CONSUMER.DELETE.*.*",
            ),
            (
                *robots("*", "*", Channel.HEARTBEAT),
                announce(namespace, "*"),
                beat(namespace, "*"),
                gate(namespace, "*"),
                "$JS.EVENT.ADVISORY.STREAM.DELETED.*",
                f"$JS.EVENT.ADVISORY.CONSUMER.DELETED.*.{LEARNER_CONSUMER}",
                _inbox(Identity.OPERATOR),
            ),
        ),
        Identity.READER: Table(
            ("$JS.API.STREAM.LIST",),
            (
                *robots("*", "*", Channel.HEARTBEAT, Channel.EVENT, Channel.RECEIPT),
                announce(namespace, "*"),
                assign(namespace, "*"),
                names.kept_subject(namespace, "*"),
                beat(namespace, "*"),
                gate(namespace, "*"),
                _inbox(Identity.READER),
            ),
        ),
    }


def _inbox(role: Identity) -> str:
    """Answers come to a place of the user's own: else whoever listens reads those of others."""
    return f"{names.inbox(role, NAME)}.>"
