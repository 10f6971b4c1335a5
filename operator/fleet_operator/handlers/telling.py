"""Events for people: told before the status that makes their moment pass, and of one moment once.

An operator that dies in between tells them again under the same name, and the API server keeps
the first. Nothing waits for an Event: one that cannot be written now is kept for the next turn.
"""

import hashlib
import json
import logging
from collections.abc import Iterable
from datetime import UTC, datetime

from fleet_contract.errors import Retry
from fleet_operator.cluster import Object, RefusedError
from fleet_operator.decide.conditions import Told
from fleet_operator.office import Office

logger = logging.getLogger(__name__)


async def tell(office: Office, about: Object, said: Iterable[Told]) -> None:
    """About the object as it was read."""
    now = datetime.fromtimestamp(office.clock(), UTC)
    office.untold.extend(event(about, one, now) for one in said)
    await catch_up(office)


async def catch_up(office: Office) -> None:
    """What could not be told before; the oldest are forgotten where that lasts."""
    while office.untold:
        oldest = office.untold.popleft()
        try:
            await office.cluster.create(oldest)
        except Retry as fault:
            office.untold.appendleft(oldest)
            logger.warning("%d Events are told later: %s", len(office.untold), fault)
            return
        except RefusedError as fault:
            logger.warning("an Event was refused: %s", fault)


def event(about: Object, told: Told, now: datetime) -> Object:
    """Its name is its moment: this object, of this status, for this reason.

    Not of this version: where somebody edits the object before its new status is written, all of it
    is decided once more.
    """
    metadata, at = about["metadata"], now.strftime("%Y-%m-%dT%H:%M:%SZ")
    status = json.dumps(about.get("status", {}), sort_keys=True)
    moment = (metadata["uid"], status, told.reason, told.message)
    digest = hashlib.sha256("\n".join(moment).encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{digest}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "reason": told.reason,
        "message": told.message[:1024],
        "type": "Warning" if told.warning else "Normal",
        "source": {"component": "fleetloop-operator"},
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }
