"""How a learner's process ended, for whoever started it. `main` says what the codes mean."""

from __future__ import annotations

import logging
import signal

from fleet_contract.agents import EXIT_REFUSED
from fleet_contract.errors import Fenced, FleetError, Misconfigured
from fleet_runtime import last_words
from fleet_runtime.learner.crew import Deserted

log = logging.getLogger(__name__)

EXIT_FAULT = 1
EXIT_FENCED = 3
EXIT_STOPPED = 128 + signal.SIGTERM
_CODES: dict[type[Exception], int] = {
    Fenced: EXIT_FENCED,
    Misconfigured: EXIT_REFUSED,
    Deserted: EXIT_STOPPED,  # nothing is wrong with this one
}


def ended(fault: Exception) -> int:
    """Say why, in the log and in the pod's status; the exit code."""
    code = next((code for kind, code in _CODES.items() if isinstance(fault, kind)), EXIT_FAULT)
    ours = isinstance(fault, FleetError | ValueError)
    said = str(fault) if ours else f"a fault of the learner's own: {fault!r}"
    log.error("%s%s", "fenced: " if code == EXIT_FENCED else "", said, exc_info=not ours and fault)
    last_words.say(said)
    return code
