"""Who the operator is to an API server, by a kubeconfig or as a pod."""

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet_contract.errors import FleetError
from fleet_operator import access
from fleet_operator.access import Access

PEM = b"-----BEGIN CERTIFICATE-----\n"


def write(path: Path, *, user: dict[str, Any], current: str = "here", **cluster: Any) -> Path:
    document = {
        "current-context": current,
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://a:6443/", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


def test_certificates_stand_in_the_file_or_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.crt").write_bytes(PEM)
    inline = base64.b64encode(b"mine").decode()
    user = {"client-certificate-data": inline, "client-key-data": inline}
    path = write(tmp_path / "config", user=user, **{"certificate-authority": "ca.crt"})
    monkeypatch.setenv("KUBECONFIG", str(path))
    assert Access.find() == Access("https://a:6443", PEM, certificate=b"mine", key=b"mine")


def test_of_several_files_the_first_that_speaks_of_a_thing_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write(tmp_path / "first", user={"token": "first"}, current="")
    second = write(tmp_path / "second", user={"token": "second"})
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'absent'}:{first}:{second}")
    assert Access.find().bearer() == "first"


def test_a_pod_is_its_service_account_and_follows_its_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(access, "ACCOUNT", tmp_path)
    (tmp_path / "ca.crt").write_bytes(PEM)
    (tmp_path / "token").write_text("one\n")
    found = Access.find()
    assert (found.server, found.ca, found.bearer()) == ("https://[fd00::1]:443", PEM, "one")
    (tmp_path / "token").write_text("two\n")
    assert found.bearer() == "one"
    monkeypatch.setattr(access, "REREAD", 0.0)
    assert found.bearer() == "two"


@pytest.mark.parametrize(
    ("user", "current", "words"),
    [
        ({"exec": {"command": "login"}}, "here", "needs a program: `kubectl create token` one"),
        ({}, "there", "no context 'there'"),
        ({"tokenFile": "absent"}, "here", ""),
    ],
)
def test_what_it_cannot_use_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: dict[str, Any], current: str, words: str
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(write(tmp_path / "config", user=user, current=current)))
    if words:
        with pytest.raises(FleetError, match=words):
            Access.find()
    else:
        with pytest.raises(OSError, match="absent"):
            Access.find().bearer()


def test_without_a_kubeconfig_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    with pytest.raises(FleetError, match="set KUBECONFIG, or run as a pod"):
        Access.find()
