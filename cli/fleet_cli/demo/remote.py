"""The play on a cluster that is there already, and the ways into it."""

from __future__ import annotations

import shutil
import socket
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fleet_cli import setup
from fleet_cli.demo.agents import Store
from fleet_cli.demo.context import pinned
from fleet_cli.demo.site import Site
from fleet_cli.demo.tunnel import ProxiedApi, forwarded, proxied
from fleet_cli.local import binaries
from fleet_cli.local.ports import LOOPBACK
from fleet_contract.names import Env

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fleet_cli.demo.site import Wishes
    from fleet_cli.demo.venue import Venue
    from fleet_cli.local.node.api import Api

ENDPOINT = "AWS_ENDPOINT_URL"


@dataclass(frozen=True)
class Remote:
    """The cluster of a context, with NATS and a store that this process reaches."""

    kubectl: Path
    kubeconfig: Path
    namespace: str
    nats_url: str
    accounts: bool
    authorities: str
    store: Store
    door: Path
    first_policy_within: float = 900.0

    def api(self) -> Api:
        return ProxiedApi(self.door)

    def install(self) -> None:
        """They came with NATS and the store."""

    async def harm(self, api: Api, say: Callable[[str], None]) -> None:
        """None: a cluster of others is not ours to break."""


@contextmanager
def remote(wishes: Wishes, folder: Path, say: Callable[[str], None]) -> Iterator[Venue]:
    """All the play needs, for as long as the block lasts; credentials lie in the folder.

    Raises ``RuntimeError`` in a sentence, or with kubectl's own words.
    """
    # Ours where it was built before, then the user's: only the last resort takes minutes.
    at_hand = binaries.find("kubectl") or shutil.which("kubectl")
    kubectl = Path(at_hand or binaries.resolve("kubectl")["kubectl"])
    kubeconfig = pinned(kubectl, wishes.context, folder)
    target = [str(kubectl), "--kubeconfig", str(kubeconfig), "--namespace", wishes.namespace]
    site = Site(kubectl, kubeconfig, wishes, say)
    environment = site.secret(wishes.storage_secret) if wishes.storage_secret else {}
    nats_url, endpoint = wishes.nats_here or wishes.nats, wishes.s3_here
    if nats_url:
        answers(nats_url)
    servers = [] if wishes.nats else [setup.NETWORK, setup.DEV]
    items = setup.manifests(kubectl, wishes.namespace, servers)
    setup.tell(items, wishes.told, wishes.operator_image)
    with ExitStack() as stack:
        door = stack.enter_context(proxied(target, folder))
        stack.enter_context(site.installed(items))
        if not wishes.nats:
            environment = site.secret(setup.is_told(items, Env.STORAGE_SECRET))
            nats = service(setup.is_told(items, Env.NATS_URL))
            port = stack.enter_context(forwarded(target, *nats, folder / "nats.log"))
            scheme = urlsplit(setup.is_told(items, Env.NATS_URL)).scheme
            nats_url = f"{scheme}://{LOOPBACK}:{port}"
            s3 = service(environment[ENDPOINT])
            port = stack.enter_context(forwarded(target, *s3, folder / "s3.log"))
            endpoint = f"http://{LOOPBACK}:{port}"
        store = Store(
            setup.is_told(items, Env.STORAGE_URL),
            environment | ({ENDPOINT: endpoint} if endpoint else {}),
        )
        say(f"in another shell: kubectl --context {wishes.context} get fleet -n {wishes.namespace}")
        space, authorities, ours = wishes.namespace, site.authorities(), not wishes.nats
        yield Remote(kubectl, kubeconfig, space, nats_url, ours, authorities, store, door)


def answers(nats_url: str) -> None:
    """Raises ``RuntimeError`` where nobody does: the play would wait for ever."""
    at = urlsplit(nats_url)
    try:
        socket.create_connection((at.hostname, at.port or 4222), timeout=5).close()
    except OSError as fault:
        raise RuntimeError(
            f"no NATS answers this machine at {nats_url} ({fault}): where pods reach it at another "
            "address than this machine does, name that one by --nats-here"
        ) from fault


def service(url: str) -> tuple[str, int]:
    """The Service and its port that a URL names, as pods write it. Raises ``ValueError``."""
    parts = urlsplit(url)
    if not parts.hostname or not parts.port:
        raise ValueError(f"{url!r} names no Service and port: write it like tls://nats:4222")
    return parts.hostname.split(".")[0], parts.port
