"""What README and docs say to type at a cluster, typed: all of it here, or where the list says."""

import asyncio
import itertools
import os
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.test_pages import PAGES, ROOT, shown
from fleet_cli.local.cluster import LocalCluster
from fleet_cli.main import app
from fleet_contract import names
from helpers.control import JOBS, Fleet, Operator, candidate, edit, stable, training_job, trial
from helpers.fleet import FLEET
from helpers.kube import Kube

JOB = "staged"
WITHIN = 180.0  # seconds
RECIPES = "gitops/test_recipes.py::test_each_recipe_waits_until_it_is_so"
WHOLE = {
    "gitops.md": (RECIPES, "flux/test_flux.py::test_the_samples_apply_as_they_stand"),
    "datasets.md": ("cli/test_dataset.py::test_every_command_of_the_page_does_what_it_says",),
}
"""Pages of which these type every line."""
KIND = "manifests/overlays/kind"
INSTALL = "e2e/test_install.py"
APPLIED = "e2e/conftest.py::installed"
DEMONSTRATED = f"{INSTALL}::test_experts"
UPGRADED = "charts/test_upgrade.py::test_what_an_earlier"
LIFE = "local/test_lifecycle.py::test_a_cluster_outlives_its_shell_survives_its_own_death"
RING = "ring/test_ring.py::test_experience_becomes_a_version"
SWEPT = "fleet/test_sweep.py::test_it_tells_before_it_removes"
RELEASE = (
    "helm install fleetloop manifests/chart --namespace fleetloop --create-namespace"
    " --set nats.url=tls://nats.data:4222 --set storage.url=s3://fleet --set storage.secret=store"
)
ELSEWHERE = {
    "fleet up": LIFE,
    "fleet down": LIFE,
    "fleet record push reach": "cli/test_commands.py::test_demonstrations_go_into",
    "kubectl apply -f manifests/samples/staged.yaml": "gitops/test_sync.py::test_a_sample",
    f"kubectl wait --for=condition=Ready ftj/{JOB}": RECIPES,
    f"fleet lineage {JOB}-v7 --storage URL": RING,
    f"fleet robots enroll arm --job {JOB} --output json": RING,
    "fleet robot run arm.json": RING,
    f"fleet logs {JOB} -f": "cluster/test_oncall.py::test_logs_are_those_of_the_learner",
    "fleet keys rotate learner": "cluster/test_keys.py::test_a_key_is_followed",
    "kubectl apply --server-side -k manifests/overlays/kind": APPLIED,
    "kubectl -n fleetloop rollout status deployment/fleetloop-operator": APPLIED,
    "kubectl apply -f manifests/samples/demonstrations.yaml": DEMONSTRATED,
    "kubectl wait --for=condition=Complete job/demonstrations --timeout=5m": DEMONSTRATED,
    "kubectl apply -f manifests/samples/broadcast.yaml": f"{INSTALL}::test_a_job_turns",
    "kubectl wait --for=condition=Ready ftj/broadcast --timeout=10m": f"{INSTALL}::test_a_job",
    "kubectl logs -f job/broadcast-learner-1": f"{INSTALL}::test_a_job_turns",
    "kubectl delete -k manifests/overlays/kind": f"{INSTALL}::test_uninstalling",
    f"kubectl apply --server-side --force-conflicts -k {KIND}": UPGRADED,
    RELEASE: "charts/test_chart.py::test_a_release_is_installed_upgraded_and_taken_away",
    "python -m fleet_runtime.sweep": SWEPT,
    "python -m fleet_runtime.sweep UID": SWEPT,
    "python -m fleet_runtime.sweep UID --yes": SWEPT,
}
"""What is typed by another test, as it stands or in its parts."""
UNTYPED = {
    "docker": "no such engine here; tests/e2e/images.py builds the same targets with buildah",
    "kind": "not here; tests/e2e/runtime.py takes the images into containerd",
    "sudo": "k3s: as kind",
    "make": "what runs all this; that there is such a target, tests/cli/test_pages.py says",
    "python": "benchmarks: minutes to hours; that there is such a module, the same test says",
    "jq": "reads what a line before it says",
    "test": "the shell's, around a kubectl of gitops.md",
    "source": "the shell's, as `for` and `done`",
}
"""What nothing types, by its first word, and why."""


def documented() -> dict[str, list[str]]:
    """The commands of all other pages, and their words; a job is called as in the samples."""
    lines = [words for page in PAGES if page.name not in WHOLE for words in shown(page)]
    typed = [[re.sub(r"\bJOB\b", JOB, word) for word in words] for words in lines if ours(words)]
    return {" ".join(words): words for words in typed if words[:2] != ["fleet", "completion"]}


def ours(words: list[str]) -> bool:
    """Whether a line runs a program of ours, or has a cluster do something."""
    programs = (["fleet"], ["kubectl"], ["helm"], ["python", "-m", "fleet_runtime.sweep"])
    return any(words[: len(program)] == program for program in programs)


class Shell:
    """A person who types what a page says."""

    def __init__(self, cluster: LocalCluster, namespace: str, folder: Path) -> None:
        self._config = str(shutil.copy(cluster.kubeconfig, folder))  # a page changes it
        self._target = ["--kubeconfig", self._config, "--namespace", namespace]
        self._programs = {"kubectl": str(cluster.kubectl), "fleet": str(FLEET)}
        self._namespace = namespace
        self.typed: set[str] = set()

    async def __call__(self, line: str) -> str:
        """What it says once it has ended well."""
        program, words = self._words(line)
        if program == "fleet":  # in this process: it takes a second to load
            said = await asyncio.to_thread(CliRunner().invoke, app, words)
            code: int | None = said.exit_code
            out = said.output
        else:
            process = await self._begin(program, words)
            out = (await asyncio.wait_for(process.communicate(), WITHIN))[0].decode()
            code = process.returncode
        assert code == 0, f"{line}: {out}"
        return out

    async def watches(self, line: str) -> str:
        """The first that it says; it would go on."""
        process = await self._begin(*self._words(line))
        assert process.stdout is not None
        try:
            return (await asyncio.wait_for(process.stdout.readline(), WITHIN)).decode()
        finally:
            process.kill()
            await process.communicate()

    def _words(self, line: str) -> tuple[str, list[str]]:
        program, *words = documented()[line]
        self.typed.add(line)
        words = [word.replace("$NAMESPACE", self._namespace) for word in words]
        nowhere = words[0] in {"lint", "explain", "config"}
        return program, words if nowhere else [*words, *self._target]

    async def _begin(self, program: str, words: list[str]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            self._programs[program],
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=os.environ | {"KUBECONFIG": self._config},
        )


def test_the_tests_that_type_the_rest_are_there() -> None:
    for test in {*itertools.chain(*WHOLE.values()), *ELSEWHERE.values()}:
        file, _, name = test.partition("::")
        assert f"def {name}" in (Path(__file__).parents[1] / file).read_text(), test


def test_what_nothing_types_is_listed_with_its_reason() -> None:
    lines = [words for page in PAGES for words in shown(page) if words and not ours(words)]
    files = {"arm-1.env", "arm.json"}  # what a line is written to
    assert {words[0] for words in lines} - files - {"for", "done"} == UNTYPED.keys()


async def test_what_the_pages_say_to_type_does_what_they_say(
    operator: Operator,
    cluster: LocalCluster,
    kube: Kube,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    shell = Shell(cluster, kube.namespace, tmp_path)
    steps = {"mode": "Manual", "steps": [{"robots": 1, "minEpisodes": 4}]}
    await kube.create(JOBS, training_job(JOB, rollout=steps))
    await shell(f"fleet robots enroll arm-1 --job {JOB} --site lab-2 --group left-bench")
    async with Fleet.of(kube, cluster.nats_url, JOB, ["arm-1"]) as fleet:
        await fleet.announce(6)
        await fleet.until(lambda job: job["status"]["robots"]["synced"] == 1)
        await edit(kube, JOBS, JOB, lambda job: job["spec"]["rollout"].update(approval="Always"))
        await fleet.announce(7)
        await fleet.until(lambda job: candidate(job) == 7)
        await looks(shell)
        await presses(shell, fleet)
        await changes(shell, kube)
    await operator.stop()
    await shell("kubectl delete secret fleetloop-learner-key fleetloop-operator-key")
    await shell("kubectl delete configmap fleetloop-trust")
    assert shell.typed | ELSEWHERE.keys() == documented().keys()


async def looks(shell: Shell) -> None:
    assert JOB in await shell("fleet get")
    assert '"stable": 6' in await shell(f"fleet get {JOB} -o json")
    assert "approve" in await shell.watches(f"fleet status {JOB} -w -o json")
    for line in (f"fleet status {JOB} -w", f"fleet status {JOB} --watch"):
        assert JOB in await shell.watches(line)
    await shell("kubectl config set-context --current --namespace=fleetloop")
    assert "NAME" in await shell.watches("kubectl get ftj --watch")
    assert "steps" in await shell("kubectl explain ftj.spec.rollout")
    await shell("fleet doctor")
    await shell("fleet lint manifests/samples/robot.yaml manifests/samples/staged.yaml")


async def presses(shell: Shell, fleet: Fleet) -> None:
    await shell(f"fleet approve {JOB}")
    await shell(f"fleet promote {JOB}")
    await fleet.until(lambda job: trial(job) == ["arm-1"])
    await shell(f"fleet skip {JOB}")
    await fleet.until(lambda job: stable(job) == 7)
    await shell(f"fleet rollback {JOB}")
    await fleet.until(lambda job: stable(job) == 6)
    assert "RolledBack" in await shell(f"fleet history {JOB}")
    await shell(f"fleet retry {JOB} 7")
    await fleet.until(lambda job: candidate(job) == 7)
    await shell(f"fleet abort {JOB}")
    await fleet.until(lambda job: candidate(job) == 0)
    await shell(f"fleet pause {JOB}")
    await shell(f"kubectl annotate ftj/{JOB} fleetloop.dev/request=skip@7#1 --overwrite")
    await fleet.until(lambda job: "skip@7#1" in job["status"]["lastHandledRequest"])
    await shell(f"fleet pin {JOB} 7")
    await shell(f"fleet unpin {JOB}")
    await shell(f"fleet pin {JOB} 7 --robot arm-1")


async def changes(shell: Shell, kube: Kube) -> None:
    freeze = "kubectl annotate namespace $NAMESPACE fleetloop.dev/freeze"
    for end in ("=fair week, ask Ana", "-"):
        await shell(freeze + end)
    assert "arm-1" in await shell(f"fleet robots list --job {JOB}")
    await shell("fleet robots drain arm-1")
    await shell("fleet robots undrain arm-1")
    gates = '--patch={"spec":{"rollout":{"gates":null}}}'
    await shell(f"kubectl patch ftj {JOB} --type=merge {gates}")
    await shell(f"kubectl scale ftj/{JOB} --replicas=6")
    keys = {"metadata": {"name": names.NATS_AUTHORITY}, "stringData": {"present": "x"}}
    await kube.create("secrets", {"apiVersion": "v1", "kind": "Secret", **keys})
    (patch,) = (line for line in documented() if names.NATS_AUTHORITY in line)
    await shell(patch)
    assert "present" not in ((await kube.get("secrets", names.NATS_AUTHORITY)).get("data") or {})
    await shell(f"kubectl delete ftj/{JOB}")
    await kube.until_gone(JOBS, JOB)
    await shell("kubectl delete ftj --all")
