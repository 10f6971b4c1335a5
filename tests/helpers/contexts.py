"""A kubeconfig as people have it: several contexts, one of them current."""

from pathlib import Path

import yaml

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.ports import LOOPBACK, free_ports


def with_contexts(cluster: LocalCluster, path: Path) -> Path:
    """The cluster as `there`, its `guest` who may do nothing, and one that is `down`: current."""
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    (fleetloop,), (admin,) = document["clusters"], document["users"]
    silent = {
        **fleetloop["cluster"],
        "server": f"https://{LOOPBACK}:{free_ports(['none'])['none']}",
    }
    document["clusters"].append({"name": "silent", "cluster": silent})
    document["users"].append({"name": "guest", "user": {"token": admin["user"]["token"]}})
    document["users"][-1]["user"]["as"] = "guest"
    document["contexts"] = [
        {"name": name, "context": {"cluster": of, "user": user}}
        for name, of, user in (
            ("down", "silent", "admin"),
            ("guest", "fleetloop", "guest"),
            ("there", "fleetloop", "admin"),
        )
    ]
    document["current-context"] = "down"
    path.write_text(yaml.safe_dump(document))
    return path
