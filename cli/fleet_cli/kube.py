"""The command line's one way to the Kubernetes API: apply, get, delete, watch, as plain dicts."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from kubernetes.aio import client, config, dynamic
from kubernetes.aio.client.exceptions import ApiException

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

FIELD_MANAGER = "fleet"
WATCH_SECONDS = 300  # the apiserver ends a watch after this; we begin the next one
GONE = 410
NOT_FOUND = 404

Object = dict[str, Any]


class Kube:
    """A connection made from one kubeconfig."""

    def __init__(self, api: Any) -> None:
        self._api = api
        self._dynamic: Any = None

    @classmethod
    @asynccontextmanager
    async def connect(cls, kubeconfig: Path) -> AsyncIterator[Kube]:
        api = await config.new_client_from_config(str(kubeconfig))  # type: ignore[no-untyped-call]
        kube = cls(api)
        try:
            kube._dynamic = await dynamic.DynamicClient(api)  # type: ignore[no-untyped-call]
            yield kube
        finally:
            await api.close()

    async def _resource(self, api_version: str, kind: str) -> Any:
        return await self._dynamic.resources.get(api_version=api_version, kind=kind)

    async def apply(self, item: Object) -> Object:
        """Server-side apply; takes fields over from whoever held them."""
        resource = await self._resource(item["apiVersion"], item["kind"])
        metadata = item["metadata"]
        applied = await self._dynamic.server_side_apply(
            resource,
            body=item,
            name=metadata["name"],
            namespace=metadata.get("namespace"),
            field_manager=FIELD_MANAGER,
            force_conflicts=True,
        )
        return dict(applied.to_dict())

    async def get(
        self, api_version: str, kind: str, name: str, namespace: str | None = None
    ) -> Object | None:
        """The object, or None where there is none of that name."""
        resource = await self._resource(api_version, kind)
        try:
            found = await self._dynamic.get(resource, name=name, namespace=namespace)
        except ApiException as error:
            if error.status == NOT_FOUND:
                return None
            raise
        return dict(found.to_dict())

    async def watch(
        self, api_version: str, kind: str, namespace: str | None = None
    ) -> AsyncIterator[tuple[str, Object]]:
        """(ADDED | MODIFIED | DELETED, object) for ever, beginning with what exists."""
        resource = await self._resource(api_version, kind)
        while True:
            try:
                async for event in self._dynamic.watch(
                    resource, namespace=namespace, timeout=WATCH_SECONDS
                ):
                    yield event["type"], event["raw_object"]
            except ApiException as error:
                if error.status != GONE:
                    raise

    async def service_account_token(self, name: str, namespace: str, seconds: int) -> str:
        """A token for a service account, good for so many seconds."""
        answer = await client.CoreV1Api(self._api).create_namespaced_service_account_token(
            name,
            namespace,
            client.AuthenticationV1TokenRequest(
                spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=seconds)
            ),
        )
        assert answer.status is not None  # noqa: S101 - the API always fills it
        return str(answer.status.token)
