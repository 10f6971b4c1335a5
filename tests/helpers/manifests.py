"""Our manifests as kustomize renders them, and the pods that they lead to."""

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from fleet_cli.local.node.api import Json

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
RENDERINGS = tuple(sorted(path.name for path in (MANIFESTS / "overlays").iterdir()))
NAMESPACE = "fleetloop"  # the overlays'


def rendered(kubectl: Path, folder: Path) -> list[Json]:
    """Every object of a folder with a kustomization."""
    text = subprocess.check_output([str(kubectl), "kustomize", str(folder)], text=True)
    return list(yaml.safe_load_all(text))


def moved(items: Iterable[Json], namespace: str) -> list[Json]:
    """The same for another namespace than the overlays'."""

    def at(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: at(one) for key, one in value.items()}
        if isinstance(value, list):
            return [at(one) for one in value]
        return namespace if value == NAMESPACE else value

    return [at(item) for item in items]


def pods(items: Iterable[Json]) -> Iterator[Json]:
    """A pod of each workload, under the workload's name."""
    for item in items:
        if template := item.get("spec", {}).get("template"):
            labels = template.get("metadata", {}).get("labels", {})
            metadata = {"name": f"{item['kind'].lower()}-{item['metadata']['name']}"}
            spec = template["spec"]
            for claim in item["spec"].get("volumeClaimTemplates", []):
                name = claim["metadata"]["name"]  # as the controller of StatefulSets binds it
                volume = {"name": name, "persistentVolumeClaim": {"claimName": name}}
                spec = spec | {"volumes": [*spec.get("volumes", []), volume]}
            yield {"metadata": metadata | {"labels": labels}, "spec": spec}
        elif item["kind"] == "Pod":
            at = item["metadata"]
            yield {"metadata": {"name": at["name"], "labels": at["labels"]}, "spec": item["spec"]}
