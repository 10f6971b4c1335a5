"""A published version read back from the object store, every file checked against its digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet_contract import names
from fleet_contract.messages import Manifest
from fleet_runtime.policies.bundle import from_files

if TYPE_CHECKING:
    from fleet_runtime.artifacts import Store
    from fleet_runtime.policies.base import Policy


def bundle(store: Store, manifest: Manifest) -> dict[str, bytes]:
    """File name → bytes. Raises ``Missing``, ``Reject`` or ``Retry`` as ``Store.get`` does."""
    return {
        file.name: store.get(
            names.blob_key(manifest.job_uid, file.digest), file.digest, max_bytes=file.size
        )
        for file in manifest.files
    }


def load(store: Store, key: str) -> tuple[Manifest, Policy]:
    """The manifest at ``key`` and its policy. Raises ``Untrusted`` too, for what does not parse."""
    manifest = Manifest.open(store.get(key))
    return manifest, from_files(bundle(store, manifest))
