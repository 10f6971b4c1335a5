"""Who applies an object from Git, as its labels, annotations and managed fields tell. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet_cli.kube import Object

FLUX = {
    "kustomize.toolkit.fluxcd.io": "Flux (Kustomization {namespace}/{name})",
    "helm.toolkit.fluxcd.io": "Flux (HelmRelease {namespace}/{name})",
}
"""Labels of Flux's two appliers, by their prefix."""
ARGO_TRACKING = "argocd.argoproj.io/tracking-id"
ARGO_INSTANCE = "argocd.argoproj.io/instance"
APPLIERS = {
    "kustomize-controller": "Flux",
    "helm-controller": "Flux",
    "argocd-controller": "Argo CD",
    "argocd-application-controller": "Argo CD",
}
"""Field managers of the appliers, for where labels were taken off or are told otherwise."""


def owner(found: Object) -> str | None:
    """In words; None where nobody does, as far as can be seen."""
    metadata = found["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    for prefix, words in FLUX.items():
        if name := labels.get(f"{prefix}/name"):
            namespace = labels.get(f"{prefix}/namespace", "?")
            return words.format(namespace=namespace, name=name)
    tracked = annotations.get(ARGO_TRACKING, "").partition(":")[0]
    if application := tracked or labels.get(ARGO_INSTANCE) or annotations.get(ARGO_INSTANCE):
        return f"Argo CD (Application {application})"
    for entry in metadata.get("managedFields") or []:
        if who := APPLIERS.get(entry.get("manager", "")):
            return who
    return None
