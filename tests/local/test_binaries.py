"""Where a program is looked for, and which one is refused."""

from pathlib import Path

import pytest

from fleet_cli.local import binaries
from fleet_cli.local.ports import free_ports


def script(folder: Path, name: str, says: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho {says}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def nothing_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "bin_folder", lambda *_: tmp_path / "cache")
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)


def test_the_pins_are_read_from_the_go_modules() -> None:
    assert binaries.PROGRAMS["kube-apiserver"].version == "v1.36.3"
    assert binaries.PROGRAMS["nats-server"].version == "v2.15.2"
    assert binaries.PROGRAMS["etcd"].version.startswith("v3.")
    kubelet, server = binaries.PROGRAMS["kubelet"], binaries.PROGRAMS["kube-apiserver"]
    assert kubelet.version == server.version, "two go.mod files pin them: tools/kubernetes, node"


@pytest.mark.parametrize(
    ("says", "taken"),
    [
        ("nats-server: v2.15.2", True),
        ("nats-server: v2.15.20", False),
        ("nats-server: v2.15.2-beta", False),
        ("nats-server: v2.14.0", False),
    ],
)
def test_a_program_on_path_is_taken_in_the_pinned_version_only(
    tmp_path: Path, says: str, taken: bool
) -> None:
    path = script(tmp_path / "path", "nats-server", says)
    assert binaries.find("nats-server") == (path if taken else None)


def test_assets_named_by_the_user_come_first_then_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "path", "nats-server", "nats-server: v2.15.2")
    cached = script(tmp_path / "cache", "nats-server", "cached")
    assert binaries.find("nats-server") == cached
    assets = script(tmp_path / "assets", "nats-server", "whatever")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    assert binaries.find("nats-server") == assets


def test_a_cluster_needs_no_program_that_only_tests_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    for name in binaries.PROGRAMS:
        script(tmp_path / "assets", name, "whatever")
    assert binaries.resolve().keys() == binaries.PROGRAMS.keys() - {
        *("versitygw", "gitops-judge", "kustomize-controller", "helm"),
        *("kubelet", "kube-proxy", "coredns", "kube-network-policies"),
    }
    assert binaries.resolve("versitygw").keys() == {"versitygw"}
    with pytest.raises(RuntimeError, match="no program named etcdd: choose from"):
        binaries.resolve("etcdd")


def test_ports_are_distinct_and_the_preferred_ones_where_free() -> None:
    first = free_ports(["a", "b", "c"])
    assert len(set(first.values())) == 3
    assert free_ports(["a", "b", "c"], first) == first
