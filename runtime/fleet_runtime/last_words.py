"""Why a program ends, where the status of its pod will show it: the container's termination log."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from fleet_contract.names import Env

MOST = 4096
"""Bytes that are kept, as many as a kubelet reads."""


def say(words: str) -> None:
    """Leave a sentence; where nobody named a place, or it takes nothing, the log has it anyway."""
    if place := os.environ.get(Env.LAST_WORDS):
        with contextlib.suppress(OSError):
            Path(place).write_bytes(words.encode()[:MOST])
