"""Which cluster, namespace and user are meant, as kubectl would read it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.kube_config import KubeConfigLoader, KubeConfigMerger
from yaml import YAMLError

from fleet_cli.exits import Exit, Fault

HOME = "~/.kube/config"
POD = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class Target(NamedTuple):
    """Which cluster and namespace, as kubectl's options name them; empty: as kubectl would."""

    namespace: str = ""
    context: str = ""
    kubeconfig: str = ""


class Login(NamedTuple):
    """How to speak to it."""

    configuration: Configuration
    namespace: str
    headers: dict[str, str]


async def log_in(target: Target) -> Login:
    """By a kubeconfig, or as the pod this runs in. Raises ``Fault`` where neither will do."""
    configuration = Configuration()
    chosen = target.kubeconfig or os.environ.get("KUBECONFIG") or HOME
    try:
        if _there(chosen):
            return await _by_file(chosen, target, configuration)
        if target.kubeconfig or not _in_pod():
            raise Fault(
                f"no kubeconfig at {chosen}: name one by --kubeconfig or KUBECONFIG; "
                "`fleet up` starts a cluster of your own and prints its",
                Exit.NO_ACCESS,
            )
        config.load_incluster_config(  # type: ignore[no-untyped-call]
            client_configuration=configuration
        )
    except (ConfigException, YAMLError, TypeError, AttributeError, ValueError, OSError) as fault:
        why = " ".join(str(fault).split())  # one line, where YAML's words are several
        raise Fault(f"your kubeconfig will not do ({chosen}): {why}", Exit.NO_ACCESS) from fault
    return Login(configuration, target.namespace or _own_namespace(), {})


async def _by_file(chosen: str, target: Target, configuration: Configuration) -> Login:
    merged = KubeConfigMerger(chosen).config  # type: ignore[no-untyped-call]
    loader = KubeConfigLoader(  # type: ignore[no-untyped-call]
        merged, active_context=target.context or None, config_base_path=None
    )
    await loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
    context = loader.current_context["context"]
    namespace = target.namespace or context.get("namespace") or "default"
    return Login(configuration, namespace, _impersonation(merged, context.get("user")))


def _impersonation(merged: Any, user: str | None) -> dict[str, str]:
    """``as`` of the user, which the library overlooks: it would act with the caller's own rights.

    Raises ``Fault`` for groups: several headers of one name are more than it can send.
    """
    users = [one.value for one in merged.value["users"]]
    who: dict[str, Any] = next((one.get("user") or {} for one in users if one["name"] == user), {})
    if who.get("as-groups") or who.get("as-user-extra"):
        raise Fault(f"user {user!r} of your kubeconfig has as-groups or as-user-extra: use another")
    return {"Impersonate-User": who["as"]} if who.get("as") else {}


def _there(files: str) -> bool:
    return any(Path(one).expanduser().is_file() for one in files.split(os.pathsep) if one)


def _in_pod() -> bool:
    return (POD / "token").exists()


def _own_namespace() -> str:
    return (POD / "namespace").read_text().strip()
