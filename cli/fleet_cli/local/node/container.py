"""One container: its process, run again as the pod's restart policy says."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp

from fleet_cli.local.node import probes
from fleet_cli.local.node.environment import ConfigError
from fleet_cli.local.node.events import now
from fleet_cli.local.node.launch import last_words, prepare, signal_group
from fleet_cli.local.node.status import ContainerState, terminated, waiting

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from pathlib import Path

    from fleet_cli.local.node.api import Json
    from fleet_cli.local.node.launch import Surroundings

BACKOFF_FIRST, BACKOFF_MOST = 1.0, 60.0  # seconds; a local loop is short, so are its pauses
FORGIVEN_AFTER = 600.0  # seconds of running after which earlier crashes no longer count
# Seconds until a missing Secret is looked for again, from the first time on. Short at first: a new
# namespace gets its root certificates a moment after its first pod.
CONFIG_RETRY_FIRST, CONFIG_RETRY_MOST = 0.2, 5.0
PULL_SHOWN = 0.5  # seconds from the failed "pull" to the back-off, for watchers to see both
START_FAILED = 128  # exit code where there was no process


@dataclass
class Container:
    """Runs until it ends for good, or until the pod stops."""

    name: str
    around: Surroundings
    policy: str  # Always, OnFailure, Never
    initial: bool
    state: ContainerState = field(init=False)
    process: Process | None = field(default=None, init=False)
    _crashes: int = field(default=0, init=False)
    _target: probes.Target | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.state = ContainerState(self.name, self.spec["image"])

    @property
    def spec(self) -> Json:
        kind = "initContainers" if self.initial else "containers"
        found: Json = next(one for one in self.around.pod["spec"][kind] if one["name"] == self.name)
        return found

    def log(self, run: int) -> Path:
        return self.around.folder / "logs" / self.name / f"{run}.log"

    def resume(self, former: Json) -> None:
        """Take over from a node that ended: its processes ended with it."""
        self.state.restarts = former.get("restartCount", 0)
        self.state.last = former.get("lastState", {})
        self.state.container_id = former.get("containerID", "")
        old = former.get("state", {})
        if running := old.get("running"):
            message = "the node ended, and the process with it"
            begun = running.get("startedAt") or now()
            old = terminated(137, "ContainerStatusUnknown", begun, now(), message)
        if "terminated" not in old:
            return
        self.state.state = old
        if self._again(old["terminated"]["exitCode"]):
            self.state.last = old
            self.state.restarts += 1
        else:
            self.state.final = True

    async def run(self) -> None:
        """Run the process until its end is final; the state tells how it went."""
        while not self.state.final and not self.around.stopping.is_set():
            await self._image()
            began = time.monotonic()
            code = await self._once()
            self.state.ready = self.state.started = False
            if self.around.stopping.is_set() or not self._again(code):
                self.state.final = True
                # An init container that has done its work counts as ready.
                self.state.ready = self.initial and code == 0
                self.around.changed()
                return
            self.around.changed()
            self._crashes = 1 if time.monotonic() - began > FORGIVEN_AFTER else self._crashes + 1
            if self._crashes > 1:  # the first time at once
                await self._back_off()
            self.state.last = self.state.state if not self._waits() else self.state.last
            self.state.restarts += 1

    async def end(self, grace: float) -> None:
        """The pod's grace: preStop, SIGTERM, and SIGKILL when it is over (seconds)."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        deadline = time.monotonic() + grace
        await self._pre_stop(grace)
        signal_group(process.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await process.wait()
        except TimeoutError:
            signal_group(process.pid, signal.SIGKILL)
            await process.wait()

    def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            signal_group(self.process.pid, signal.SIGKILL)

    def _again(self, code: int) -> bool:
        return self.policy == "Always" or (self.policy == "OnFailure" and code != 0)

    def _waits(self) -> bool:
        return "waiting" in self.state.state

    async def _image(self) -> None:
        """Images mean nothing here, but a wrong one has to look as it looks elsewhere."""
        while (image := self.spec["image"]).endswith(":missing"):
            message = f"failed to pull image {image!r}: tags named 'missing' do not exist"
            self._wait_with("ErrImagePull", message)
            self.around.tell("Warning", "Failed", message)
            await asyncio.sleep(PULL_SHOWN)
            self._wait_with("ImagePullBackOff", f"Back-off pulling image {image!r}")
            while self.spec["image"] == image:  # our own status changes are new versions, too
                await self.around.replaced.wait()
        self.state.image = image

    def _wait_with(self, reason: str, message: str) -> None:
        self.state.state = waiting(reason, message)
        self.around.changed()

    async def _back_off(self) -> None:
        delay = min(BACKOFF_FIRST * 2 ** (self._crashes - 2), BACKOFF_MOST)
        message = f"back-off {delay:.0f}s restarting failed container={self.name}"
        self.state.last = self.state.state
        self._wait_with("CrashLoopBackOff", message)
        self.around.tell("Warning", "BackOff", message)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self.around.stopping.wait()

    async def _once(self) -> int:
        """One run of the process: its exit code."""
        started = now()
        try:
            process = await self._start()
        except OSError as error:
            message = (
                f"cannot start {error.filename or self.spec['command'][0]!r}: {error.strerror}"
            )
            self.around.tell("Warning", "Failed", message)
            self.state.state = terminated(START_FAILED, "StartError", started, now(), message)
            return START_FAILED
        if process is None:
            return START_FAILED
        self.process = process
        if self.around.stopping.is_set():  # it was too late to be ended with the others
            signal_group(process.pid, signal.SIGKILL)
        started = now()
        self.state.state = {"running": {"startedAt": started}}
        uid = self.around.pod["metadata"]["uid"]
        self.state.container_id = f"local://{uid}/{self.name}/{self.state.restarts}"
        self.around.changed()
        watcher = asyncio.create_task(self._probe())
        try:
            returned = await process.wait()
        finally:
            watcher.cancel()
            # What the process left behind goes with it, as with a container's first process.
            signal_group(process.pid, signal.SIGKILL)
        code = returned if returned >= 0 else 128 - returned
        reason = "Completed" if code == 0 else "Error"
        message = last_words(self.spec, self._words, self.log(self.state.restarts), code)
        self.state.state = terminated(code, reason, started, now(), message)
        self.state.state["terminated"]["containerID"] = self.state.container_id
        return code

    @property
    def _words(self) -> Path:
        return self.around.volumes.last_words(self.name)

    async def _start(self) -> Process | None:
        """The started process; None where the pod was stopped before all it needs was there."""
        around = self.around
        told, delay = "", CONFIG_RETRY_FIRST
        while True:
            try:
                launch = await prepare(self.spec, around)
            except (ConfigError, aiohttp.ClientError, TimeoutError) as error:
                words = str(error) or repr(error)
                self._wait_with("CreateContainerConfigError", words)
                if told != (told := words):  # one event, not one for each look
                    around.tell("Warning", "Failed", told)
            else:
                self._target = launch.target
                self._words.parent.mkdir(parents=True, exist_ok=True)
                self._words.write_bytes(b"")  # what an earlier process said is told already
                return await launch.start(self.log(self.state.restarts))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await around.stopping.wait()
                    return None
            delay = min(2 * delay, CONFIG_RETRY_MOST)

    async def _probe(self) -> None:
        target = self._target
        if target is None or self.initial:
            return
        if startup := self.spec.get("startupProbe"):
            async for healthy, message in probes.verdicts(startup, target):
                if healthy:
                    break
                await self._unhealthy("Startup", message)
                return
        self.state.started = True
        self.state.ready = "readinessProbe" not in self.spec
        self.around.changed()
        async with asyncio.TaskGroup() as looks:
            if readiness := self.spec.get("readinessProbe"):
                looks.create_task(self._readiness(readiness, target))
            if liveness := self.spec.get("livenessProbe"):
                looks.create_task(self._liveness(liveness, target))

    async def _readiness(self, probe: Json, target: probes.Target) -> None:
        async for healthy, message in probes.verdicts(probe, target):
            if healthy == self.state.ready:
                continue
            self.state.ready = healthy
            if not healthy:
                self.around.tell("Warning", "Unhealthy", f"Readiness probe failed: {message}")
            self.around.changed()

    async def _liveness(self, probe: Json, target: probes.Target) -> None:
        async for healthy, message in probes.verdicts(probe, target):
            if not healthy:
                await self._unhealthy("Liveness", message)
                return

    async def _unhealthy(self, kind: str, message: str) -> None:
        text = f"{kind} probe failed: {message}; container {self.name} will be restarted"
        self.around.tell("Warning", "Unhealthy", text)
        await self.end(self.around.grace())

    async def _pre_stop(self, grace: float) -> None:
        hook = self.spec.get("lifecycle", {}).get("preStop", {})
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(grace):
                if "sleep" in hook:
                    await asyncio.sleep(hook["sleep"]["seconds"])
                elif "exec" in hook and self._target is not None:
                    await probes.run(hook["exec"]["command"], self._target)
