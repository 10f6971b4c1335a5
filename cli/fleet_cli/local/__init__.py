"""A real Kubernetes, NATS and a node on this machine: what `fleet up` brings up."""

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.lifecycle import Connection, connection, down, up

__all__ = ["Connection", "LocalCluster", "connection", "down", "up"]
