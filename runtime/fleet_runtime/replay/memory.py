"""How much memory there is for decoded steps."""

from __future__ import annotations

import os
from pathlib import Path

SHARE = 4
"""One part in so many is the replay's; the rest is for weights, batches and what comes in."""
LIMIT = Path("/sys/fs/cgroup/memory.max")


def share(limit: Path = LIMIT) -> int:
    """Bytes the replay may take, of the container's limit or of the machine's memory."""
    granted = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    told = limit.read_text().strip() if limit.exists() else "max"
    return (min(granted, int(told)) if told.isdigit() else granted) // SHARE
