"""What an API server was asked for, by its own audit log, and what a Role grants."""

import asyncio
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

import yaml

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.control_plane import Component, ControlPlane
from fleet_cli.local.node.api import Json

POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  userGroups: ["system:serviceaccounts:kube-system"]
- level: Metadata
  userGroups: ["system:serviceaccounts"]
- level: None
"""
POLL = 0.2  # seconds; a file tells nobody that it grew


class Cell(NamedTuple):
    """One square of a matrix of permissions; ``name`` where a rule is of certain objects only."""

    verb: str
    group: str
    resource: str
    name: str = ""


class Asked(NamedTuple):
    """One request of a service account, and the HTTP code of its answer."""

    cell: Cell
    namespace: str
    code: int


class AuditedPlane(ControlPlane):
    """Its API server writes down what service accounts ask for."""

    @property
    def audit(self) -> Path:
        return self.folder / "audit.jsonl"

    def apiserver(self) -> Component:
        usual = super().apiserver()
        policy = self.folder / "audit-policy.yaml"
        policy.write_text(POLICY)
        flags = {"audit-policy-file": policy, "audit-log-path": self.audit}
        command = usual.command + [f"--{flag}={value}" for flag, value in flags.items()]
        return Component(usual.name, command, usual.ready)


class AuditedCluster(LocalCluster):
    """LocalCluster on that plane."""

    plane_type: ClassVar[type[ControlPlane]] = AuditedPlane

    def asked(self, namespace: str, account: str) -> list[Asked]:
        """What this account has asked for until now."""
        assert isinstance(self.plane, AuditedPlane)
        user = f"system:serviceaccount:{namespace}:{account}"
        lines = self.plane.audit.read_text().splitlines(keepends=True)
        entries = (json.loads(line) for line in lines if line.endswith("\n"))
        return [_asked(one) for one in entries if one["user"]["username"] == user]

    async def until_asked(
        self, namespace: str, account: str, granted: frozenset[Cell], within: float = 60.0
    ) -> list[Asked]:
        """All it asked for, once every grant was of use; fails with those that were not."""
        try:
            async with asyncio.timeout(within):
                while unused(granted, found := self.asked(namespace, account)):  # noqa: ASYNC110 - a file
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise AssertionError(f"granted in vain: {unused(granted, found)}") from None
        return found


def _asked(entry: Json) -> Asked:
    at = entry.get("objectRef", {})
    resource = at.get("resource", "")
    parts = [resource, at["subresource"]] if "subresource" in at else [resource]
    cell = Cell(entry["verb"], at.get("apiGroup", ""), "/".join(parts), at.get("name", ""))
    return Asked(cell, at.get("namespace", ""), entry["responseStatus"]["code"])


def granted(manifests: Iterable[Json]) -> frozenset[Cell]:
    """Every cell that the Roles among the manifests fill."""
    return frozenset(
        Cell(verb, group, resource, name)
        for role in manifests
        if role["kind"] == "Role"
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
    )


def unused(granted: frozenset[Cell], asked: Iterable[Asked]) -> frozenset[Cell]:
    """Cells that no request needed."""
    found = {one.cell for one in asked}
    return granted - found - {cell._replace(name="") for cell in found}


def documents(path: Path) -> Iterator[Json]:
    """The objects of a YAML file."""
    return (one for one in yaml.safe_load_all(path.read_text()) if one)
