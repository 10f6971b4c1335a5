"""A cluster that is there already: what we put into it, and how it is taken away again."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from fleet_cli import setup
from fleet_cli.crds import render
from fleet_cli.demo.feed import swept
from fleet_contract import names
from fleet_contract.names import Env

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fleet_cli.setup import Object

FORBIDDEN = "(Forbidden)"  # so kubectl marks what the apiserver does not permit
JOB = "demo"
GONE_WITHIN = "180s"
SWEPT_WITHIN = 60.0  # seconds
IMAGES_WITHIN = "600s"


class Wishes(NamedTuple):
    """What the command line says of the cluster. Addresses are those that pods use.

    With ``nats`` and ``storage`` empty both are installed; ``nats_here`` and ``s3_here`` are the
    same ones as this machine reaches them, where that differs.
    """

    context: str
    namespace: str
    nats: str = ""
    storage: str = ""
    storage_secret: str = ""
    nats_here: str = ""
    s3_here: str = ""
    operator_image: str = ""
    learner_image: str = ""
    robot_image: str = ""
    keep: bool = False

    @property
    def told(self) -> dict[Env, str]:
        """What the operator is told beyond its manifests."""
        told = {
            Env.NATS_URL: self.nats,
            Env.STORAGE_URL: self.storage,
            Env.STORAGE_SECRET: self.storage_secret,
            Env.LEARNER_IMAGE: self.learner_image,
            Env.ROBOT_IMAGE: self.robot_image,
        }
        return {name: value for name, value in told.items() if value}


class Site(NamedTuple):
    """The cluster while things are put into it and taken away again."""

    kubectl: Path
    kubeconfig: Path
    wishes: Wishes
    say: Callable[[str], None]

    def ask(self, *words: str, stdin: str = "") -> str:
        target = ("--namespace", self.wishes.namespace)
        return setup.ask(self.kubectl, self.kubeconfig, *target, *words, stdin=stdin)

    def secret(self, name: str) -> dict[str, str]:
        """What a Secret holds, as variables."""
        found = self.ask("get", "secret", name, "--ignore-not-found", "--output=json")
        if not found:
            space = self.wishes.namespace
            raise RuntimeError(
                f"no Secret {name} in namespace {space}: make both before "
                "(manifests/samples/s3.yaml shows its keys)"
            )
        data = json.loads(found).get("data", {})
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def authorities(self) -> str:
        """Who may sign the certificate of the namespace's NATS (PEM); empty where nobody says."""
        found = self.ask("get", "configmap", names.NATS_CA, "--ignore-not-found", "--output=json")
        return str(json.loads(found).get("data", {}).get(names.CA, "")) if found else ""

    @contextmanager
    def installed(self, items: list[Object]) -> Iterator[None]:
        """Kinds, operator and what comes with it; gone at the end, but for the kinds."""
        space = self.wishes.namespace
        self.kinds()
        home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}}
        stream = "---\n".join(map(render, items if self.has_namespace() else [home, *items]))
        self.say(f"installing into namespace {space} of context {self.wishes.context} …")
        try:
            setup.apply(self.kubectl, self.kubeconfig, stream)
            setup.rolled_out(self.kubectl, self.kubeconfig, items, IMAGES_WITHIN)
            yield
        finally:
            try:
                self.leave(stream)
            except RuntimeError as fault:  # what brought us here says more
                self.say(f"not all of namespace {space} is gone: {fault}")

    def has_namespace(self) -> bool:
        """Whether it is there, and so not ours to delete."""
        try:
            space = self.wishes.namespace
            return bool(self.ask("get", "namespace", space, "--ignore-not-found", "--output=name"))
        except RuntimeError as fault:
            if FORBIDDEN not in str(fault):
                raise
            return True  # who may not even look was given one

    def kinds(self) -> None:
        """Apply them; where that is not allowed, those that are there have to do."""
        try:
            setup.install_kinds(self.kubectl, self.kubeconfig)
        except RuntimeError as fault:
            if FORBIDDEN not in str(fault):
                raise
            if setup.unknown_kinds(self.kubectl, self.kubeconfig):
                raise RuntimeError(
                    f"context {self.wishes.context!r} may not install the kinds: let an "
                    "administrator `fleet crds | kubectl apply --server-side -f -`, then try again"
                ) from fault

    def leave(self, stream: str) -> None:
        """The job goes first, while its operator is there to sweep the streams of their NATS."""
        if self.wishes.keep:
            self.say(f"kept: namespace {self.wishes.namespace} of context {self.wishes.context}")
            return
        self.say("clearing up; the kinds stay, for others may use them")
        job, space = names.PLURALS[names.Kind.TRAINING_JOB], self.wishes.namespace
        self.ask("delete", job, JOB, "--ignore-not-found")
        url = self.wishes.nats_here or self.wishes.nats
        gone = url and swept(url, space, JOB, SWEPT_WITHIN, self.authorities())
        if gone and not asyncio.run(gone):
            self.say(f"streams of job {JOB} are left at {url}: its operator did not sweep them")
        words = ("delete", "--ignore-not-found", f"--timeout={GONE_WITHIN}", "-f", "-")
        self.ask(*words, stdin=stream)
