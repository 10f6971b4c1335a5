"""``fleet demo``: the whole ring on this machine, to watch."""
