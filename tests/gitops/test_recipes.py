"""The commands of docs/gitops.md that wait, as they stand there, on the real kubectl."""

import asyncio
import contextlib
import os
import re
import signal
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from contract.conftest import Kubectl
from fleet_cli.local.cluster import LocalCluster
from helpers.control import JOBS, Fleet, Operator, enroll, press, training_job
from helpers.kube import Kube

PAGE = (Path(__file__).parents[2] / "docs" / "gitops.md").read_text()
SECTION = PAGE.partition("## Waiting")[2]
RECIPES: dict[str, str] = dict(
    re.findall(r"^(Until .*)\n\n```sh\n([^`]*)```", SECTION, re.MULTILINE)
)
"""What is waited for → commands."""
WITHIN = 60.0


class Shell:
    """Runs recipes with kubectl on PATH and the test's namespace as its default."""

    def __init__(self, folder: Path, cluster: LocalCluster, namespace: str) -> None:
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        for context in config["contexts"]:
            context["context"]["namespace"] = namespace
        (folder / "kubeconfig").write_text(yaml.dump(config))
        self._env = os.environ | {
            "KUBECONFIG": str(folder / "kubeconfig"),
            "PATH": f"{cluster.kubectl.parent}:{os.environ['PATH']}",
        }

    @contextlib.asynccontextmanager
    async def waits(self, recipe: str, *, code: int = 0) -> AsyncIterator[Process]:
        """It still waits when the block ends what it waits for, and ends soon after."""
        process = await asyncio.create_subprocess_exec(
            *("bash", "-ec", recipe),
            env=self._env,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
        )
        try:
            yield process
            output, _ = await asyncio.wait_for(process.communicate(), WITHIN)
            assert process.returncode == code, output.decode()
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()


@pytest.fixture
def shell(kinds: None, cluster: LocalCluster, namespace: str, tmp_path: Path) -> Shell:
    return Shell(tmp_path, cluster, namespace)


async def test_each_recipe_waits_until_it_is_so(
    operator: Operator, cluster: LocalCluster, kube: Kube, kubectl: Kubectl, shell: Shell
) -> None:
    tried = set()

    def recipe(words: str) -> str:
        (title,) = [one for one in RECIPES if words in one]
        tried.add(title)
        return RECIPES[title]

    goal = {"successRate": 0.9, "minEpisodes": 20}
    rollout = {"steps": [{"robots": 1, "minEpisodes": 2}]}
    await kube.create(JOBS, training_job("staged", rollout=rollout, goal=goal))
    await enroll(kube, "staged", "r1", "r2")
    async with contextlib.AsyncExitStack() as stack:
        async with shell.waits(recipe("at work")) as process:
            assert process.returncode is None
            fleet = await stack.enter_async_context(
                Fleet.of(kube, cluster.nats_url, "staged", ["r1", "r2"])
            )
        await fleet.announce(1)
        await fleet.until(lambda job: job["status"]["robots"]["synced"] == 2)
        async with (
            shell.waits(recipe("version 7 was tried")) as process,
            shell.waits(recipe("and nothing else")),
        ):
            await fleet.announce(7)
            job = await fleet.until(lambda job: job["status"]["rollout"].get("robots"))
            (canary,) = job["status"]["rollout"]["robots"]
            await fleet.until_runs(canary, 7)
            assert process.returncode is None
            for _ in range(2):
                await fleet.end_episode(canary, success=True)
        async with shell.waits(recipe("version 7 was tried").replace("v7", "v8"), code=1):
            await fleet.announce(8)
            await fleet.until(lambda job: job["status"]["rollout"].get("robots"))
            await press(kube, "staged", "abort@8#1")
        async with shell.waits(recipe("a button was acted upon")):
            pass
        async with shell.waits(recipe("the goal is reached")) as process:
            for _ in range(20):
                await fleet.end_episode("r1", success=True)
        async with shell.waits(recipe("all of it is gone")):
            pass

    assert tried == RECIPES.keys()
    assert len(tried) == SECTION.count("```sh")
