"""The `fleet` command in a test, against a cluster."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from typer.testing import CliRunner

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.main import app

FLEET = Path(sys.executable).with_name("fleet")


class Said(NamedTuple):
    """How it ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    """A person with a kubeconfig, in one namespace."""

    def __init__(
        self, cluster: LocalCluster, namespace: str, kubeconfig: Path | None = None
    ) -> None:
        path = kubeconfig or cluster.kubeconfig
        self.target = ["--kubeconfig", str(path), "--namespace", namespace]

    async def __call__(self, *words: str) -> Said:
        """Whatever comes of it; it runs a loop of its own, in a thread."""
        result = await asyncio.to_thread(CliRunner().invoke, app, [*words, *self.target])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)
