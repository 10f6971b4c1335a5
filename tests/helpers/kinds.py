"""The three kinds, installed in a cluster."""

from pathlib import Path

import yaml

from fleet_cli.local.node.api import Api, ApiError, Json

CRDS = Path(__file__).parents[2] / "crds"
ROOT = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


async def install(api: Api) -> None:
    """Returns when they can be used; those that are there already stay."""
    for path in sorted(CRDS.glob("*.yaml")):
        crd = yaml.safe_load(path.read_text())
        try:
            await api.create(ROOT, crd)
        except ApiError as error:
            if error.status != 409:
                raise
        name = crd["metadata"]["name"]
        async for _, seen in api.watch(ROOT, fieldSelector=f"metadata.name={name}"):
            if any("Established" in _true(one) for one in seen.get("items", [seen])):
                break
        # An API server that has just learned of a kind may still say that it begins.
        version, plural = crd["spec"]["versions"][0]["name"], crd["spec"]["names"]["plural"]
        async for _ in api.watch(f"/apis/{crd['spec']['group']}/{version}/{plural}"):
            break


def _true(document: Json) -> set[str]:
    conditions = document.get("status", {}).get("conditions") or []  # null while it is fresh
    return {one["type"] for one in conditions if one["status"] == "True"}
