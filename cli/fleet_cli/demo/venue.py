"""Where the play is given: what it needs of a cluster, and the cluster on loopback."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fleet_cli.demo.agents import Store
from fleet_cli.demo.chaos import chaos
from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Api
from fleet_cli.setup import install, run_operator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAMESPACE = "fleet-demo"


class Venue(Protocol):
    """A running cluster. Its addresses are those of this process; pods may be told others."""

    @property
    def kubectl(self) -> Path: ...
    @property
    def kubeconfig(self) -> Path: ...
    @property
    def namespace(self) -> str: ...
    @property
    def nats_url(self) -> str: ...
    @property
    def accounts(self) -> bool:
        """Whether that NATS takes only whom the operator minted."""

    @property
    def authorities(self) -> str:
        """Who may sign its certificate (PEM); empty: whom this machine knows."""

    @property
    def store(self) -> Store: ...
    @property
    def first_policy_within(self) -> float:
        """Seconds from the job to the first version: images may have to come before."""

    def api(self) -> Api:
        """The API server, to be entered."""

    def install(self) -> None:
        """Kinds and operator, as far as they are missing; returns when it is ready.

        Raises ``RuntimeError`` with kubectl's own words.
        """

    async def harm(self, api: Api, say: Callable[[str], None]) -> None:
        """What the fleet has to live with while it learns; until cancelled, or for no time."""


@dataclass(frozen=True)
class Loopback:
    """A local cluster; pods and this process share its addresses."""

    cluster: LocalCluster
    chaos: bool = False
    namespace: str = NAMESPACE
    authorities: str = ""  # on loopback NATS has no certificate
    first_policy_within: float = 300.0

    @property
    def kubectl(self) -> Path:
        return self.cluster.kubectl

    @property
    def kubeconfig(self) -> Path:
        return self.cluster.kubeconfig

    @property
    def nats_url(self) -> str:
        return self.cluster.nats_url

    @property
    def accounts(self) -> bool:
        return self.cluster.accounts

    @property
    def store(self) -> Store:
        return Store(self.cluster.storage_url)

    def api(self) -> Api:
        return Api(self.kubeconfig)

    def install(self) -> None:
        install(self.kubectl, self.kubeconfig)
        run_operator(self.cluster, self.namespace)

    async def harm(self, api: Api, say: Callable[[str], None]) -> None:
        if self.chaos:
            await chaos(self.cluster, api, self.namespace, say)


@contextmanager
def loopback(folder: Path, say: Callable[[str], None], *, chaos: bool) -> Iterator[Venue]:
    """A local cluster for as long as the block lasts; its data stay in the folder."""
    say("starting a control plane, NATS and a node on loopback …")
    with LocalCluster(folder, accounts=True) as cluster:
        say(f"export KUBECONFIG={cluster.kubeconfig}")
        say(f"  then, in another shell: kubectl get fleet -n {NAMESPACE}")
        yield Loopback(cluster, chaos)
