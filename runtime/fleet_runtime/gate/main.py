"""``python -m fleet_runtime.gate``: one run of the simulation gate from its environment.

What it found are its last words: they stand in the status of its own pod, where nobody else can
write and an operator that was away finds them. A broker is needed for nothing but to watch it.

Exit codes: 0 when every episode was run or the version turned out not to be runnable at all; 1 for
a fault that another try may cure, 78 for a configuration that it will not, 143 after SIGTERM.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

from fleet_contract import logs, names
from fleet_contract.agents import EXIT_REFUSED
from fleet_contract.errors import Retry
from fleet_contract.names import Identity
from fleet_runtime import last_words

if TYPE_CHECKING:
    from fleet_runtime.gate.simulate import Simulation
    from fleet_runtime.settings import GateSettings

TELL_EVERY = 1.0  # seconds

log = logging.getLogger(__name__)


def main() -> None:
    """Run to the end."""
    # Policies are small, and what costs time here is the simulator, which has one thread too.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logs.begin("gate")
    # A container's first process is not ended by SIGTERM unless it says so. Nothing is to be saved.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    from fleet_runtime.settings import gate_settings

    settings = gate_settings()
    logs.bind(
        namespace=settings.namespace,
        job=settings.job,
        version=settings.spec.policy.sequence,
    )
    from fleet_runtime.gate.simulate import RefusedError, Simulation

    try:
        found = asyncio.run(run(settings, Simulation(settings)))
    except RefusedError as fault:
        log.error("configuration: %s", fault)  # noqa: TRY400
        last_words.say(str(fault))
        sys.exit(EXIT_REFUSED)
    log.info("%s", found)
    last_words.say(found)


async def run(settings: GateSettings, simulation: Simulation) -> str:
    """What was found, as JSON. Raises ``RefusedError`` where only another spec can help."""
    telling = asyncio.create_task(tell(settings, simulation))
    try:
        await asyncio.to_thread(simulation.run)
    finally:
        telling.cancel()
        await asyncio.wait([telling])
    return simulation.report.encode().decode()


async def tell(settings: GateSettings, simulation: Simulation) -> None:
    """How far it is, to whoever listens, until cancelled."""
    from fleet_runtime.wire import Wire

    subject = names.gate_heartbeat_subject(settings.namespace, settings.job)
    wire = await Wire.connect(
        settings.nats_url,
        f"gate-{settings.job}",
        inbox=names.inbox(Identity.GATE, settings.job),
        credentials=settings.nats_credentials,
        authorities=settings.nats_ca,
    )
    try:
        while True:
            try:
                await wire.publish(subject, simulation.report.encode())
            except Retry as fault:
                log.debug("not told: %s", fault)
            await asyncio.sleep(TELL_EVERY)
    finally:
        await wire.close()
