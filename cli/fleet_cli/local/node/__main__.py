"""``python -m fleet_cli.local.node``: the node as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import uuid
from pathlib import Path

from fleet_cli.local.node import guard
from fleet_cli.local.node.agent import Agent
from fleet_cli.local.node.api import Api
from fleet_cli.local.node.logs import serve
from fleet_cli.local.node.pod import Machine
from fleet_cli.local.node.registration import heartbeat, register

MARK = "FLEETLOOP_NODE"


async def main(kubeconfig: Path, folder: Path, pki: Path, port: int) -> None:
    """Serve until SIGTERM or SIGINT, then end every pod's processes."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, ended.set)
    mark = uuid.uuid4().hex
    guardian = guard.start(f"{MARK}={mark}")
    async with Api(kubeconfig) as api:
        agent = Agent(Machine(api, folder, {MARK: mark}))
        server = await serve(agent, pki, port)
        await register(api, port)
        tasks = {asyncio.create_task(agent.run()), asyncio.create_task(heartbeat(api, port))}
        stop = asyncio.create_task(ended.wait())
        await asyncio.wait({stop, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        failed = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await agent.stop()
        await server.cleanup()
        stop.cancel()
        for task in failed:
            task.result()  # an end that nobody asked for is an error, told with its trace
    if guardian.stdin is not None:
        guardian.stdin.close()
    with contextlib.suppress(TimeoutError):
        guardian.wait(5)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="pods' files and logs")
    parser.add_argument("--pki", type=Path, required=True, help="the cluster's keys")
    parser.add_argument("--port", type=int, required=True, help="where logs are served")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    given.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    asyncio.run(main(given.kubeconfig, given.folder, given.pki, given.port))
