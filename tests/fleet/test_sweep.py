"""What deleted jobs left in the store goes when a person says so, never of one that exists."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_contract import identity, names
from fleet_contract.identity import User
from fleet_contract.names import Identity, Stream
from fleet_runtime import sweep
from fleet_runtime.artifacts import Described, Store
from fleet_runtime.sweep import Held, main, refusal
from helpers.identity import ROOT, account, closed_broker, connected, made, tell
from helpers.nats import Broker, lose_streams, make_streams, running_broker

NOW = 1e9
HOUR = 3600.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Two jobs' objects, and where the program finds them."""
    monkeypatch.setenv("FLEET_STORAGE_URL", f"file://{tmp_path}")
    monkeypatch.setenv("FLEET_NATS_URL", broker.url)
    made = Store(f"file://{tmp_path}")
    for uid in ("gone", "other"):
        made.create(names.version_key(uid, 1), b"{}")
        made.create(names.journal_key(uid, 0), b"0123456789")
    made.create("datasets/push.episode", b"of no job")
    return made


@pytest.mark.parametrize(
    ("hours", "streams", "why"),
    [
        pytest.param(25.0, True, "the job exists", id="its streams are there"),
        pytest.param(23.0, False, "at another broker", id="something was stored lately"),
        pytest.param(-5.0, False, "at another broker", id="stored by a clock that is ahead"),
        pytest.param(25.0, False, "", id="nothing speaks against it"),
        pytest.param(None, False, "holds nothing", id="nothing there"),
    ],
)
def test_what_speaks_against_it(hours: float | None, streams: bool, why: str) -> None:
    objects = {} if hours is None else {"a": Described(1, NOW - hours * HOUR)}
    found = refusal("uid", Held(objects, streams), NOW, 24.0)
    assert (why in found) if why else found == ""


def test_it_tells_before_it_removes_and_removes_nothing_else(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    before = store.list("jobs")
    assert main(["gone", "--idle", "0"]) == 0
    assert "2 objects, 0.0 MB would go" in capsys.readouterr().out
    assert store.list("jobs") == before
    assert main([]) == 0
    assert "gone: 2 objects, 0.0 MB, no streams" in capsys.readouterr().out
    assert main(["gone", "--idle", "0", "--yes"]) == 0
    assert store.list("jobs") == [key for key in before if "/other/" in key]
    assert store.exists("datasets/push.episode")
    assert main(["gone", "--yes"]) == 1
    assert "holds nothing" in capsys.readouterr().err


def test_a_job_that_exists_is_refused_until_it_is_deleted(
    store: Store, broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(make_streams(broker.url, job_uid="other"))
    before = store.list("jobs")
    assert main(["other", "--idle", "0", "--yes"]) == 1
    assert "the job exists" in capsys.readouterr().err
    assert main([]) == 0
    assert "other: 2 objects, 0.0 MB, exists" in capsys.readouterr().out
    assert store.list("jobs") == before
    asyncio.run(lose_streams(broker.url, "other"))
    assert main(["other", "--yes"]) == 1
    assert "at another broker" in capsys.readouterr().err
    assert store.list("jobs") == before
    assert main(["other", "--idle", "0", "--yes"]) == 0
    assert not any("/other/" in key for key in store.list("jobs"))


def test_without_the_broker_nothing_goes(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep, "PATIENCE", 0.5)
    before = store.list("jobs")
    assert main(["gone", "--idle", "0", "--yes", "--nats", "nats://127.0.0.1:1"]) == 1
    assert "does not answer" in capsys.readouterr().err
    assert store.list("jobs") == before


def test_a_broker_with_accounts_is_asked_as_its_reader(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with closed_broker(tmp_path / "closed") as broker:
        of, file, now = account(), tmp_path / "reader.creds", int(time.time())
        known = identity.account_jwt(of, "fleet-a", ROOT, now, {})
        assert '"code":200' in asyncio.run(tell(broker.url, known)).replace(" ", "")
        file.write_text(made(User(Identity.READER, names.READER), of))
        asked = ["gone", "--idle", "0", "--yes", "--nats", broker.url]
        monkeypatch.setattr(sweep, "PATIENCE", 0.5)
        assert main(asked) == 1
        assert "takes nobody without an identity" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            main([*asked, "--credentials", str(tmp_path / "nowhere")])
        assert "there is no file" in capsys.readouterr().err
        monkeypatch.setattr(sweep, "PATIENCE", 30.0)
        asyncio.run(a_stream(broker.url, made(User(Identity.OPERATOR, names.FIELD_MANAGER), of)))
        assert main([*asked, "--credentials", str(file)]) == 1
        assert "the job exists" in capsys.readouterr().err
        assert main(["other", *asked[1:], "--credentials", str(file)]) == 0


async def a_stream(url: str, operator: str) -> None:
    """One of the job ``gone``."""
    inbox = names.inbox(Identity.OPERATOR, names.FIELD_MANAGER)
    async with connected(url, operator, inbox) as client:
        await client.jetstream().add_stream(
            name=names.stream("gone", Stream.EVENTS), subjects=["fleet.fleet-a.*.job.evt"]
        )


@pytest.mark.parametrize("uid", ["..", "gone/versions", "*", "", "a b"])
def test_what_is_no_uid_is_none(uid: str, store: Store) -> None:
    with pytest.raises(SystemExit):
        main([uid, "--yes"])
