"""What ``kubectl describe pod`` tells: the node's events."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from typing import TYPE_CHECKING

import aiohttp

from fleet_cli.local.node.api import Api, ApiError

if TYPE_CHECKING:
    from fleet_cli.local.node.api import Json

logger = logging.getLogger(__name__)


def now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def now_micro() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def record(api: Api, pod: Json, kind: str, reason: str, message: str) -> None:
    """Best effort: a pod does not fail because nobody could be told about it."""
    metadata = pod["metadata"]
    event = {
        "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}"},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": kind,
        "reason": reason,
        "message": message[:1000],
        "source": {"component": "fleetloop-node", "host": "local"},
        "firstTimestamp": now(),
        "lastTimestamp": now(),
        "count": 1,
    }
    try:
        await api.create(f"/api/v1/namespaces/{metadata['namespace']}/events", event)
    except (ApiError, aiohttp.ClientError, TimeoutError) as error:
        logger.debug("event %s not recorded: %s", reason, error)
