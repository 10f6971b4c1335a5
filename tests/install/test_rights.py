"""The whole matrix of permissions: each account, each verb, each resource that the API serves."""

import asyncio
import subprocess
from collections.abc import Iterable
from itertools import product

import pytest

from fleet_cli import setup
from fleet_cli.crds import render
from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Api, Json
from fleet_contract import names
from helpers.audit import Cell, documents, granted
from helpers.kube import Kube, condition
from helpers.manifests import MANIFESTS

USUAL = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
SPECIAL = [  # verbs that no resource tells of, and which make the others worthless
    *(Cell("impersonate", "", who) for who in ("users", "groups", "serviceaccounts")),
    *product(("bind", "escalate"), ("rbac.authorization.k8s.io",), ("roles", "clusterroles")),
]
ANYBODY = {  # who am I, and may I?
    Cell("create", "authorization.k8s.io", "selfsubjectaccessreviews"),
    Cell("create", "authorization.k8s.io", "selfsubjectrulesreviews"),
    Cell("create", "authentication.k8s.io", "selfsubjectreviews"),
}
ROLE = granted(documents(setup.BASE / "permissions.yaml"))
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
AT_A_TIME = 20


async def served(api: Api) -> list[Cell]:
    """Every verb on everything that the server knows, in every group's preferred version."""
    groups = (await api.get("/apis"))["groups"]
    roots = ["/api/v1", *(f"/apis/{one['preferredVersion']['groupVersion']}" for one in groups)]
    cells: list[Cell] = [Cell(*one) for one in SPECIAL]
    for root in roots:
        group = root.split("/")[2] if root != "/api/v1" else ""
        for one in (await api.get(root))["resources"]:
            cells += [Cell(verb, group, one["name"]) for verb in USUAL]
    return list(dict.fromkeys(cells))


async def allowed(api: Api, user: str, namespace: str, cells: Iterable[Cell]) -> set[Cell]:
    """Those that the real authorizer lets this user have."""
    turn = asyncio.Semaphore(AT_A_TIME)
    groups = ["system:authenticated"]
    if user.startswith("system:serviceaccount:"):
        groups += ["system:serviceaccounts", "system:serviceaccounts:" + user.split(":")[2]]

    async def review(cell: Cell) -> bool:
        resource, _, part = cell.resource.partition("/")
        asked = {"verb": cell.verb, "group": cell.group, "resource": resource, "name": cell.name}
        asked |= {"subresource": part, "namespace": namespace}
        spec = {"user": user, "groups": groups, "resourceAttributes": asked}
        async with turn:
            told = await api.create(REVIEWS, {"spec": spec})
        return bool(told["status"]["allowed"])

    cells = list(cells)
    answers = await asyncio.gather(*map(review, cells))
    return {cell for cell, yes in zip(cells, answers, strict=True) if yes}


async def test_the_operator_may_what_its_role_says_and_its_pods_nothing(
    kinds: None, cluster: LocalCluster, kube: Kube
) -> None:
    await asyncio.to_thread(setup.install, cluster.kubectl, cluster.kubeconfig, kube.namespace)
    cells = await served(kube.api)
    assert len(cells) > 800
    objects = [names.OPERATOR_KEY, names.LEARNER_KEY, names.TRUST, names.NATS_KEYS]
    objects += [
        names.NATS_USERS,
        *names.NATS_ROBOTS,
        names.NATS_AUTHORITY,
        names.NATS_TLS,
        names.NATS_CA,
        "another",
    ]
    for resource, name, verb in product(("secrets", "configmaps"), objects, USUAL):
        cells.append(Cell(verb, "", resource, name))
    unnamed = {cell for cell in ROLE if not cell.name}
    expected = {one for one in cells if one in ROLE or one._replace(name="") in unnamed}
    assert expected >= ROLE
    account = f"system:serviceaccount:{kube.namespace}:"
    operator, default = f"{account}fleetloop-operator", f"{account}default"
    assert await allowed(kube.api, operator, kube.namespace, cells) == expected | ANYBODY
    assert await allowed(kube.api, default, kube.namespace, cells) == ANYBODY
    for elsewhere in ("default", ""):  # another namespace, and all of them
        assert await allowed(kube.api, operator, elsewhere, ROLE) == set()


READ = {"get", "list", "watch"}
WRITE = {"create", "update", "patch", "delete", "deletecollection"}
JOBS, ROBOTS, VERSIONS = names.PLURALS.values()
PARTS = [f"{kind}/status" for kind in (JOBS, ROBOTS, VERSIONS)]
PEOPLE: dict[str, dict[str, set[str]]] = {
    "view": {JOBS: READ, ROBOTS: READ, VERSIONS: READ},
    "edit": {
        JOBS: READ | WRITE,
        ROBOTS: READ | WRITE,
        VERSIONS: READ | {"patch", "delete", "deletecollection"},
        f"{JOBS}/scale": {"get", "update", "patch"},
    },
}
PEOPLE["admin"] = PEOPLE["edit"] | {part: {"patch"} for part in PARTS}
PEOPLE["admin"] |= {VERSIONS: PEOPLE["edit"][VERSIONS] | {"create"}}


def kubectl(cluster: LocalCluster, *words: str, stdin: str = "") -> str:
    command = [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig), *words]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
async def people(kinds: None, cluster: LocalCluster, api: Api) -> None:
    """Their rights, in force: the cluster's own roles have taken them up."""
    kubectl(cluster, "apply", "--server-side", "-k", str(MANIFESTS / "components" / "people"))
    async with asyncio.timeout(60):
        roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
        async for kind, seen in api.watch(roles, fieldSelector="metadata.name=admin"):
            for one in seen["items"] if kind == "LISTED" else [seen]:
                if any(PARTS[0] in rule.get("resources", []) for rule in one["rules"]):
                    return


async def test_people_may_with_our_kinds_what_their_role_in_the_namespace_says(
    people: None, cluster: LocalCluster, kube: Kube
) -> None:
    cells = [one for one in await served(kube.api) if one.group == names.GROUP]
    assert len(cells) == 7 * len(USUAL)
    for role, expected in PEOPLE.items():
        bind(cluster, kube, role)
        found = await allowed(kube.api, role, kube.namespace, cells)
        wanted = {Cell(verb, names.GROUP, kind) for kind in expected for verb in expected[kind]}
        assert found == wanted, role


def bind(cluster: LocalCluster, kube: Kube, role: str) -> None:
    words = ("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}")
    kubectl(cluster, *words, "--namespace", kube.namespace)


async def test_an_administrator_of_a_namespace_installs_the_operator_there(
    people: None, cluster: LocalCluster, kube: Kube
) -> None:
    """All that is the cluster's are the kinds and people's rights."""
    bind(cluster, kube, "admin")
    network = MANIFESTS / "components" / "network"
    items = setup.manifests(cluster.kubectl, kube.namespace, [network])
    setup.tell(items, {names.Env.NATS_URL: cluster.nats_url})
    text = "---\n".join(map(render, items))
    kubectl(cluster, "--as=admin", "apply", "--server-side", "-f", "-", stdin=text)
    await kube.until("apps/v1/deployments", "fleetloop-operator", available, 60)


def available(deployment: Json) -> bool:
    return condition(deployment, "Available") == "True"
