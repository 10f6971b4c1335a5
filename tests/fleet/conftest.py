"""What every test of the fleet's data plane may ask for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.nats import Broker, running_broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path / "nats") as running:
        yield running
