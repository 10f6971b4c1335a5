"""The four streams of one job and the learner's consumer, as plain data.

Field names are JetStream's; times are in seconds, sizes in bytes. The random stream id is not
here: it names one creation and is put in by ``bus.ensure``.
"""

from typing import Any

from fleet_contract import names
from fleet_contract.names import Channel, Stream, StreamMeta

MIB = 1024 * 1024
EXPERIENCE_BYTES = 1024 * MIB
EVENT_BYTES = 256 * MIB
EVENT_AGE = 7 * 24 * 3600.0
RECEIPT_BYTES = 64 * MIB
CONTROL_BYTES = 16 * MIB
ACK_WAIT = 30.0  # a learner's commit interval is one second; thirty of them missed is a dead one
MAX_ACK_PENDING = 1024
NO_DEDUP = 0.1  # the least the server takes: a resend must never be refused as a duplicate


def streams(
    namespace: str, job: str, job_uid: str, installation: str
) -> tuple[dict[str, Any], ...]:
    """Configurations of the job's streams, in the order of ``names.Stream``.

    Their subjects carry the job's name, not its UID: while the streams of a deleted job of the
    same name exist, the server refuses these as overlapping, and the orphans must go first.
    """

    def channel(kind: Channel) -> str:
        return names.robot_subject(namespace, "*", job, kind)

    common: dict[str, Any] = {
        "storage": "file",
        "num_replicas": 1,
        "max_consumers": -1,
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "max_age": 0.0,
        "duplicate_window": NO_DEDUP,
        "allow_direct": True,
        "metadata": {
            StreamMeta.JOB_UID.value: job_uid,
            StreamMeta.NAMESPACE.value: namespace,
            StreamMeta.INSTALLATION.value: installation,
            StreamMeta.JOB.value: job,
        },
    }
    last_per_subject = {"retention": "limits", "discard": "old", "max_msgs_per_subject": 1}
    return (
        common
        | {
            # A work queue, since limits with retention keep acked messages and so deadlock when
            # full; new ones are refused, since the old ones were promised to the robots.
            "name": names.stream(job_uid, Stream.EXPERIENCE),
            "subjects": [channel(Channel.EXPERIENCE)],
            "retention": "workqueue",
            "discard": "new",
            "max_bytes": EXPERIENCE_BYTES,
        },
        common
        | {
            "name": names.stream(job_uid, Stream.EVENTS),
            "subjects": [channel(Channel.EVENT)],
            "retention": "limits",
            "discard": "old",
            "max_bytes": EVENT_BYTES,
            "max_age": EVENT_AGE,
        },
        common
        | last_per_subject
        | {
            "name": names.stream(job_uid, Stream.RECEIPTS),
            "subjects": [channel(Channel.RECEIPT)],
            "max_bytes": RECEIPT_BYTES,
        },
        common
        | last_per_subject
        | {
            "name": names.stream(job_uid, Stream.CONTROL),
            "subjects": [
                names.assign_subject(namespace, job),
                names.announce_subject(namespace, job),
                names.kept_subject(namespace, job),
            ],
            "max_bytes": CONTROL_BYTES,
        },
    )


def learner_consumer() -> dict[str, Any]:
    """The one durable on the experience stream; explicit acks, redelivered without end."""
    return {
        "durable_name": names.LEARNER_CONSUMER,
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "ack_wait": ACK_WAIT,
        "max_ack_pending": MAX_ACK_PENDING,
        "max_deliver": -1,
    }
